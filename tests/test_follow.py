"""Files that grow, are rotated, truncated and compressed under the eyes of a follower."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from numbered_flows import line, lines, numbers

import ingest.growing
import ingest.sources
from ingest.errors import SourceError
from ingest.follow import follow
from ingest.growing import Growing
from ingest.load import load
from ingest.store import create_store
from recommender.cli import group

ROOT = Path(__file__).parents[1]


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.sources, "BLOCK", 2_000)
    monkeypatch.setattr(ingest.growing, "_SETTLED_SECONDS", 0)


class Rounds:
    """One look at the files at a time, each by a follower that may be a new one."""

    def __init__(self, store: Path, *names: str) -> None:
        self.path, self.names = store, names
        self.store = create_store(store)
        self.restart()

    def restart(self) -> None:
        self.growing = Growing(self.names, self.store, None)

    def look(self, *, kill: bool = False) -> int:
        """Read what has changed; killed before it is remembered where `kill`. Bytes read."""
        sources = self.growing.changed()
        if not sources:
            return 0
        ends, size = [0] * len(sources), 0

        def seen(number: int, offset: int, record: Any) -> None:
            nonlocal size
            ends[number] = offset
            size += record.length

        load(sources, self.store, seen=seen, workers=1)
        if kill:
            self.restart()
        else:
            self.growing.settle(ends)
        return size


@pytest.fixture
def rounds(tmp_path: Path) -> Rounds:
    return Rounds(tmp_path / "s", str(tmp_path / "events.log"))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_what_is_appended_is_read_and_only_the_last_block_with_it(rounds: Rounds) -> None:
    log = rounds.path.parent / "events.log"
    append(log, lines(*range(50)))
    rounds.look()
    assert numbers(rounds.path) == list(range(50))
    append(log, lines(50))
    assert rounds.look() < 3_000
    assert rounds.look() == 0
    assert numbers(rounds.path) == list(range(51))


def test_half_a_line_waits_for_its_other_half(rounds: Rounds) -> None:
    log = rounds.path.parent / "events.log"
    append(log, lines(0) + line(1)[:100])
    rounds.look()
    assert numbers(rounds.path) == [0]
    assert rounds.store.rejects().num_rows == 0
    append(log, line(1)[100:])
    rounds.look()
    assert numbers(rounds.path) == [0, 1]


def test_a_last_line_without_a_line_break_is_read_once_it_was_left_alone(rounds: Rounds) -> None:
    log = rounds.path.parent / "events.log"
    append(log, lines(0) + line(1)[:-1])
    os.utime(log, (time.time() - 100, time.time() - 100))
    rounds.look()
    assert numbers(rounds.path) == [0, 1]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_a_rotated_log_is_read_to_its_end_and_the_new_one_from_its_beginning(
    rounds: Rounds, restarted: bool, packed: bool
) -> None:
    log = rounds.path.parent / "events.log"
    append(log, lines(*range(20)))
    rounds.look()
    append(log, lines(20, 21))
    old = log.with_name("events-2026-03-02T10-00-00.000.log")
    log.rename(old)
    if packed:
        old.with_suffix(".log.gz").write_bytes(gzip.compress(old.read_bytes()))
        old.unlink()
    log.write_bytes(lines(22, 23))
    if restarted:
        rounds.restart()
    rounds.look()
    rounds.look()
    assert numbers(rounds.path) == list(range(24))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_log_that_was_copied_and_truncated_is_read_from_both(
    rounds: Rounds, restarted: bool
) -> None:
    log = rounds.path.parent / "events.log"
    append(log, lines(*range(20)))
    rounds.look()
    append(log, lines(20, 21))
    shutil.copy(log, log.with_name("events.log.1"))
    with log.open("r+b") as file:
        file.truncate(0)
    append(log, lines(*range(22, 60)))  # longer than before: only its beginning tells
    if restarted:
        rounds.restart()
    rounds.look()
    rounds.look()
    assert numbers(rounds.path) == list(range(60))


def test_a_file_that_takes_the_place_and_the_inode_of_another_is_another(rounds: Rounds) -> None:
    log = rounds.path.parent / "events.log"
    log.write_bytes(lines(*range(5)))
    rounds.look()
    log.write_bytes(lines(*range(5, 10)))
    rounds.look()
    assert numbers(rounds.path) == list(range(10))


def test_new_files_in_a_folder_are_found_and_other_files_are_said_once(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing of interest\n" * 500)
    found = Rounds(tmp_path / "s", str(folder))
    found.look()
    (folder / "a.log").write_bytes(lines(0))
    found.look()
    (folder / "b.log.gz").write_bytes(gzip.compress(lines(1)))
    found.look()
    found.look()
    assert numbers(tmp_path / "s") == [0, 1]
    assert found.growing.notes == [
        f"{folder / 'notes.txt'}: looks like no flow log and is left out."
    ]


def test_a_log_that_is_not_there_yet_is_waited_for(rounds: Rounds) -> None:
    log = rounds.path.parent / "events.log"
    rounds.look()
    assert rounds.growing.notes == [f"{log}: not there yet."]
    log.write_bytes(lines(0))
    rounds.look()
    assert numbers(rounds.path) == [0]


def test_a_file_that_may_not_be_read_stops_the_first_look_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.log").write_bytes(lines(0))
    rounds = Rounds(tmp_path / "s", str(folder))
    rounds.look()
    (folder / "b.log").write_bytes(lines(1))
    (folder / "c.log").write_bytes(lines(2))
    real = ingest.growing.open_source

    def opened(path: Path) -> Any:
        if path.name == "b.log":  # as if it were not ours; root, who may run this, reads all
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(ingest.growing, "open_source", opened)
    rounds.look()
    with pytest.raises(SourceError, match=r"b\.log: can't be read: Permission denied"):
        Rounds(tmp_path / "t", str(folder)).look()
    assert numbers(rounds.path) == [0, 2]
    assert "b.log: can't be read" in rounds.growing.notes[0]


def test_much_at_once_is_read_in_parts_and_a_line_without_end_is_a_reject(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.sources, "LONGEST_LINE", 1_000)
    monkeypatch.setattr(ingest.growing, "ROUND", 4_000)
    monkeypatch.setattr(ingest.growing, "_CHUNK", 700)
    log = rounds.path.parent / "events.log"
    append(log, lines(*range(45)) + b"x" * 50_000 + b"\n" + lines(*range(45, 80)))
    looks = 0
    while rounds.look():
        looks += 1
    assert looks > 4
    assert numbers(rounds.path) == list(range(80))
    assert rounds.store.rejects()["reason"].to_pylist() == ["line too long"]


def test_whatever_happens_to_a_log_nothing_is_lost_or_doubled(rounds: Rounds) -> None:
    chance = random.Random(11)
    log, written, rotated = rounds.path.parent / "events.log", 0, 0
    log.write_bytes(b"")
    for _ in range(120):
        action = chance.choice(
            ["write"] * 4 + ["rotate", "copy", "look", "look", "kill", "restart"]
        )
        if action == "write":
            more = chance.randrange(1, 12)
            append(log, lines(*range(written, written + more)))
            written += more
        elif action in ("rotate", "copy"):
            rotated += 1
            beside = log.with_name(f"events.log.{rotated}")
            if action == "rotate":
                log.rename(beside)
                log.write_bytes(b"")
            else:
                shutil.copy(log, beside)
                with log.open("r+b") as file:
                    file.truncate(0)
        elif action == "restart":
            rounds.restart()
        else:
            rounds.look(kill=action == "kill")
    rounds.look()
    rounds.look()
    assert numbers(rounds.path) == list(range(written))


RUN = """
import sys
import ingest.sources, ingest.growing
ingest.sources.BLOCK, ingest.growing._SETTLED_SECONDS = 2_000, 0
from ingest.errors import SourceError
from ingest.follow import follow
follow([sys.argv[1]], sys.argv[2], every_seconds=0.05, workers=1)
"""


def test_a_follower_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    log, store = tmp_path / "events.log", tmp_path / "s"
    log.write_bytes(lines(*range(20)))
    stop, written = threading.Event(), 20

    def write() -> None:
        nonlocal written
        rotated = 0
        while not stop.is_set():
            append(log, lines(*range(written, written + 20)))
            written += 20
            if written % 2_000 == 0:
                rotated += 1
                log.rename(log.with_name(f"events-{rotated}.log"))
                log.write_bytes(b"")
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for pause in (0.2, 0.55, 0.33, 0.9):
        run = subprocess.Popen([sys.executable, "-c", RUN, str(log), str(store)], env=environment)
        until((store / "flowpolicy.json").exists)
        until(lambda: any((store / "follow").glob("*.json")))
        if not writer.is_alive():
            writer.start()
        time.sleep(pause)
        run.send_signal(signal.SIGKILL)
        run.wait()
        seen = numbers(store)
        assert len(seen) == len(set(seen))
    stop.set()
    writer.join()
    rounds = Rounds(store, str(log))
    while rounds.look():
        pass
    assert numbers(store) == list(range(written))


def test_the_command_follows_until_it_is_told_to_stop(tmp_path: Path) -> None:
    log, store = tmp_path / "events.log", tmp_path / "s"
    log.write_bytes(lines(0, 1))
    run = subprocess.Popen(
        [sys.executable, "-m", "recommender.cli", "ingest", str(log), "--store", str(store),
         "--follow", "--every", "0.1", "-o", "json"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: (store / "flowpolicy.json").exists() and numbers(store) == [0, 1])
    append(log, lines(2))
    until(lambda: numbers(store) == [0, 1, 2])
    append(log, lines(3))
    run.send_signal(signal.SIGTERM)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert json.loads(out)["flows"] == 4
    assert numbers(store) == [0, 1, 2, 3]
    assert "2 flows of 2 lines, 0 rejects" in err


def test_files_are_read_once_beside_a_live_source_that_is_not_followed(tmp_path: Path) -> None:
    log = tmp_path / "events.log"
    log.write_bytes(lines(0, 1, 2))
    found = follow([str(log)], str(tmp_path / "s"), is_endless=False)
    assert (found.files, found.lines, found.flows) == (1, 3, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-", "--follow"], "leave --follow out"),
        (["hubble-relay://h:1", "--since", "yesterday"], "neither like 10m"),
        (["hubble-relay://h:1", "--since", "2026-03-02T08:00:00"], "neither like 10m"),
        (["goldmane://", "--plaintext"], "HOST:PORT"),
    ],
)
def test_wrong_options_are_said(tmp_path: Path, words: list[str], said: str) -> None:
    result = CliRunner().invoke(group, ["ingest", *words, "--store", str(tmp_path / "s")])
    assert result.exit_code in (1, 2)
    assert said in result.output
