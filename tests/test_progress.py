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

ROOT = Path(__file__).parents[1]


def command(tmp_path: Path) -> list[str]:
    (tmp_path / "a.log").write_bytes((HUBBLE + b"\n") * 3 + b"{torn\n")
    arguments = ["ingest", str(tmp_path / "a.log"), "--store", str(tmp_path / "s")]
    return [sys.executable, "-c", "from recommender.cli import main; main()", *arguments]


def test_a_terminal_shows_a_bar_with_bytes_lines_rejects_and_time(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        command(tmp_path), cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs,
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
    assert run.returncode == 0
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
