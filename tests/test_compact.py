"""Joining the files of a store changes no answer, wherever it is ended, and loses nothing."""

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
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from numbered_flows import line, lines, numbers

import ingest.compact
import ingest.sources
import recommender.watch
from ingest.compact import compact
from ingest.load import load
from ingest.store import create_store, open_store
from recommender.cli import group
from recommender.days import Parts
from recommender.watch import watch

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "data" / "samples"
TODAY = date(2026, 3, 20)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.sources, "BLOCK", 2_000)


def run(*words: str) -> Result:
    return CliRunner().invoke(group, list(words), catch_exceptions=False)


@pytest.mark.parametrize("kind", ["hubble", "calico"])
def test_every_answer_of_edges_is_the_same_before_and_after(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.sources, "BLOCK", 60_000)
    store, inventory = str(tmp_path / "s"), str(SAMPLES / "inventory.yaml")
    log = tmp_path / "day.log"
    packed = SAMPLES / {"hubble": "hubble/node-1.jsonl.gz", "calico": "calico/flows.log.gz"}[kind]
    with gzip.open(packed) as file:
        log.write_bytes(b"".join(islice(file, 1_500)))
    load([str(log)], store, workers=1)
    asked = [
        ["edges", "--store", store],
        ["edges", "--store", store, "--hourly", "-o", "json"],
        ["edges", "--store", store, "--inventory", inventory, "-o", "csv"],
        ["check", str(SAMPLES / "policies"), "--store", store, "--inventory", inventory],
    ]
    before = [run(*words).output for words in asked]
    found = compact(create_store(store), today=TODAY)
    assert found.files_after < found.files_before / 3, found
    assert found.bytes_after < found.bytes_before
    assert [run(*words).output for words in asked] == before
    again = compact(create_store(store), today=TODAY)
    assert again.files_after == again.files_before == found.files_after


@pytest.mark.usefixtures("small")
def test_logs_that_were_joined_are_known_and_go_on_growing(tmp_path: Path) -> None:
    log, store = tmp_path / "a.log", tmp_path / "s"
    expected = 0
    for size in (7, 30, 31, 32, 60, 61, 61, 100):
        log.write_bytes(lines(*range(size)))
        found = load([str(log)], store, workers=1)
        assert (found.lines, found.flows) == (size, size)
        expected = max(expected, size)
        assert numbers(store) == list(range(expected))
        compact(create_store(store), today=TODAY)
        assert numbers(store) == list(range(expected))
    log.write_bytes(lines(*range(60)))  # an older copy
    load([str(log)], store, workers=1)
    assert numbers(store) == list(range(100))
    (source,) = {s["source"] for s in open_store(store).sources()}
    assert source == str(log)


@pytest.mark.usefixtures("small")
def test_a_torn_line_that_is_completed_later_is_whole_after_all(tmp_path: Path) -> None:
    log, store = tmp_path / "a.log", tmp_path / "s"
    log.write_bytes(lines(0, 1) + line(2)[:90])
    load([str(log)], store)
    (tmp_path / "b.log").write_bytes(lines(10, 11))
    (tmp_path / "c.log").write_bytes(lines(20, 21))
    load([str(tmp_path / "b.log"), str(tmp_path / "c.log")], store)
    compact(create_store(store), today=TODAY)
    log.write_bytes(lines(0, 1, 2, 3))
    load([str(log)], store)
    assert numbers(store) == [0, 1, 2, 3, 10, 11, 20, 21]
    assert open_store(store).rejects().num_rows == 0


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("step", range(12))
@pytest.mark.parametrize("then", ["compact", "grow"])
def test_a_run_that_ends_after_any_write_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, then: str
) -> None:
    log, store = tmp_path / "a.log", tmp_path / "s"
    log.write_bytes(lines(*range(25)))
    load([str(log)], store, workers=1)
    opened, left = create_store(store), step
    kinds = type(opened)

    def counted(name: str) -> None:
        real = getattr(kinds, name)

        def write(*args: object, **more: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*args, **more)

        monkeypatch.setattr(kinds, name, write)

    for name in ("write", "mark", "remove"):
        counted(name)
    try:
        compact(opened, today=TODAY)
        ended = True
    except Killed:
        ended = False
    monkeypatch.undo()
    monkeypatch.setattr(ingest.sources, "BLOCK", 2_000)
    assert ended == (step >= 11)
    assert numbers(store) == list(range(25))
    assert len(watch(store).edges) == 1
    assert int(watch(store).edges["connections"].sum()) == 25
    if then == "grow":
        log.write_bytes(lines(*range(40)))
        load([str(log)], store, workers=1)
        assert numbers(store) == list(range(40))
    compact(create_store(store), today=TODAY)
    assert numbers(store) == list(range(40 if then == "grow" else 25))
    assert open_store(store).joins() == []


LOOP = """
import sys
from datetime import date
import ingest.sources
ingest.sources.BLOCK = 2_000
from ingest.compact import compact
from ingest.store import create_store
while True:
    compact(create_store(sys.argv[1]), today=date(2026, 3, 20))
"""


@pytest.mark.usefixtures("small")
def test_joining_beside_a_writer_and_a_reader_and_killed_again_and_again(tmp_path: Path) -> None:
    log, store = tmp_path / "a.log", tmp_path / "s"
    chance = random.Random(3)
    log.write_bytes(lines(*range(5)))
    load([str(log)], store, workers=1)
    stop, seen = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            seen.append(int(watch(store).edges["connections"].sum()))

    reader = threading.Thread(target=read)
    reader.start()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    size = 5
    for _ in range(4):
        other = subprocess.Popen([sys.executable, "-c", LOOP, str(store)], env=environment)
        end = time.monotonic() + 1.5 + chance.random()
        while time.monotonic() < end:
            size += chance.randrange(1, 9)
            log.write_bytes(lines(*range(size)))
            load([str(log)], store, workers=1)
        other.send_signal(signal.SIGKILL)
        other.wait()
    stop.set()
    reader.join()
    compact(create_store(store), today=TODAY)
    assert numbers(store) == list(range(size))
    assert seen == sorted(seen), "an answer never shrinks while a log grows"


@pytest.mark.usefixtures("small")
def test_a_reader_whose_files_are_joined_each_time_makes_the_others_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, store = tmp_path / "a.log", tmp_path / "s"
    log.write_bytes(lines(*range(5)))
    load([str(log)], store, workers=1)
    asked, others = 0, []
    real = recommender.watch.parts

    def grow() -> None:
        load([str(log)], store, workers=1)
        compact(create_store(store), today=TODAY)

    def parts(*args: Any, **options: Any) -> Parts:
        nonlocal asked
        asked += 1
        found = real(*args, **options)
        log.write_bytes(lines(*range(5 + 40 * asked)))
        others.append(threading.Thread(target=grow))
        others[-1].start()
        others[-1].join(timeout=2)
        return found

    monkeypatch.setattr(recommender.watch, "parts", parts)
    seen = int(watch(store).edges["connections"].sum())
    assert 1 < asked < 10
    assert seen == 5 + 40 * (asked - 1)
    for other in others:
        other.join()
    assert numbers(store) == list(range(5 + 40 * asked))


def test_old_days_are_removed_and_do_not_come_back(tmp_path: Path) -> None:
    log, store = tmp_path / "a.log", tmp_path / "s"
    log.write_bytes(b"".join(line(day, day) for day in range(1, 11)) + b"{bad\n")
    load([str(log)], store)
    found = compact(create_store(store), keep_days=3, today=date(2026, 3, 10))
    assert found.days_removed == 7
    assert numbers(store) == [8, 9, 10]
    assert open_store(store).days == [date(2026, 3, day) for day in (8, 9, 10)]
    assert open_store(store).rejects().num_rows == 1
    load([str(log)], store)
    assert numbers(store) == [8, 9, 10]
    compact(create_store(store), keep_days=1, today=date(2026, 4, 1))
    assert numbers(store) == []
    assert open_store(store).rejects().num_rows == 0, "rejects hold lines, and age with them"


def test_the_command_counts_from_today(tmp_path: Path) -> None:
    log, store = tmp_path / "a.log", tmp_path / "s"
    today = datetime.now(UTC).date()
    text = b"".join(
        line(n).replace(b"2026-03-02", (today - timedelta(days=n)).isoformat().encode())
        for n in range(4)
    )
    log.write_bytes(text)
    load([str(log)], store)
    found = json.loads(
        run("compact", "--store", str(store), "--keep-days", "2", "-o", "json").output
    )
    assert found["days_removed"] == 2
    assert numbers(store) == [0, 1]
    assert run("compact", "--store", str(store)).exit_code == 0
    nowhere = run("compact", "--store", str(tmp_path / "none"))
    assert nowhere.exit_code == 1
    assert "no such store" in nowhere.output
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("small")
def test_files_are_joined_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, store = tmp_path / "a.log", tmp_path / "s"
    log.write_bytes(lines(*range(200)))
    load([str(log)], store, workers=1)
    sizes = [file.stat().st_size for file in open_store(store).files]
    monkeypatch.setattr(ingest.compact, "JOINED", 4 * max(sizes))
    found = compact(create_store(store), today=TODAY)
    assert len(sizes) / 6 < found.files_after < len(sizes) / 2
    assert numbers(store) == list(range(200))
    shutil.rmtree(store)
