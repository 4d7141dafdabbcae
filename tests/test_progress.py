"""A bar on a terminal, plain lines elsewhere."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from records import HUBBLE

from ingest.load import Progress
from recommender.commands import progress
from recommender.tracked import tracked

ROOT = Path(__file__).parents[1]


def command(tmp_path: Path) -> list[str]:
    (tmp_path / "a.log").write_bytes((HUBBLE + b"\n") * 3 + b"{torn\n")
    arguments = ["ingest", str(tmp_path / "a.log"), "--store", str(tmp_path / "s")]
    return [sys.executable, "-c", "from recommender.cli import main; main()", *arguments]


def on_terminal(*words: str) -> tuple[bytes, bytes]:
    """What a Python program, given as its arguments, writes to standard output and the terminal."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-c", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 65_536)
        except OSError:  # what Linux says when the other side is closed
            break
        if not data:
            break
        seen += data
    os.close(ours)
    out, _ = run.communicate()
    assert run.returncode == 0, seen
    return out, seen


def test_a_terminal_shows_a_bar_with_bytes_lines_rejects_and_time(tmp_path: Path) -> None:
    out, seen = on_terminal(*command(tmp_path)[2:])
    assert b"3 flows" in out
    for word in (rb"\d bytes", rb"lines/s", rb"1 rejects", rb"\d:\d\d:\d\d"):
        assert re.search(word, seen), seen


def test_elsewhere_nothing_but_plain_lines_is_written(tmp_path: Path) -> None:
    run = subprocess.run(command(tmp_path), cwd=ROOT, capture_output=True, check=True)
    assert b"\x1b" not in run.stdout + run.stderr
    assert b"lines/s" not in run.stderr  # it was over before a line was due


def test_a_long_run_says_a_plain_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 10.0, 12.0, 21.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.shown() as show:
        for size in (1, 2, 3, 4):
            show(Progress(size << 20, 8 << 20 if size < 4 else None, size * 100, size))
    assert capsys.readouterr().err.splitlines() == [
        "read 2 of 8 MiB, 200 lines, 20 lines/s, 2 rejects",
        "read 4 MiB, 400 lines, 19 lines/s, 4 rejects",
    ]


def test_a_long_computation_says_its_step_and_the_time_left_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 2.0, 12.0, 13.0, 14.0, 26.0, 27.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.waiting("proposing"):
        taken = [list(tracked(f"step {name}", range(size))) for name, size in (("a", 3), ("b", 1))]
    assert [len(each) for each in taken] == [3, 1]
    assert capsys.readouterr().err.splitlines() == [
        "step a: 1 of 3, about 20 s left",
        "step b: 0 of 1",
    ]


def test_nobody_listens_where_no_command_waits() -> None:
    items = [1, 2]
    assert tracked("nothing", items) is items


def test_what_is_waited_for_is_a_bar_on_a_terminal() -> None:
    _, shown = on_terminal(
        "import time\n"
        "from recommender.commands.progress import waiting\n"
        "from recommender.tracked import tracked\n"
        "with waiting('proposing [b]names[/b]'):\n"
        "    for _ in tracked('replaying edges', range(640)):\n"
        "        time.sleep(0.001)\n"
    )
    assert b"replaying edges" in shown
    assert re.search(rb"\d:\d\d:\d\d.*\d:\d\d:\d\d", shown), shown


def test_what_is_written_to_standard_output_under_a_bar_goes_there() -> None:
    for bar in ("waiting('comparing')", "shown()"):
        out, shown = on_terminal(
            "from recommender.commands.progress import shown, waiting\n"
            f"with {bar}:\n"
            "    print('the answer')\n"
        )
        assert out == b"the answer\n"
        assert b"the answer" not in shown
