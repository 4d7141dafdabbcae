"""Whatever happens to the run, the disk or the source: no line lost or doubled, no broken file."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from records import CALICO, HUBBLE, WHISKER

import ingest.blocks
import ingest.load
import ingest.packed
import ingest.sources
import ingest.workers
from ingest.errors import SourceError, StoreError
from ingest.formats import FORMATS
from ingest.load import load
from ingest.sources import Block
from ingest.store import open_store

ROOT = Path(__file__).parents[1]
GOOD = {"hubble": HUBBLE, "calico": CALICO, "goldmane": WHISKER}


def line(number: int) -> bytes:
    flow = {
        "time": f"2026-03-02T10:{number // 60 % 60:02}:{number % 60:02}.{number:09}Z",
        "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2"},
        "l4": {"TCP": {"source_port": 1 + number, "destination_port": 80, "flags": {"SYN": True}}},
        "event_type": {"type": 4},
        "is_reply": False,
    }
    return json.dumps({"flow": flow, "node_name": "c/n", "time": flow["time"]}).encode() + b"\n"


def numbers(store: Path) -> list[int]:
    """The numbers of the lines whose flows are in the store; every file of it is read."""
    open_store(store).rejects()
    open_store(store).gaps()
    return sorted(port - 1 for port in open_store(store).flows().to_table()["src_port"].to_pylist())


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.sources, "BLOCK", 8192)


RUN = """
import sys, ingest.sources as s
s.BLOCK = 8192
from ingest.load import load
load([sys.argv[1]], sys.argv[2], workers=1)
"""


# Forks a run for each line that it is given: so a run begins at once, and 50 take seconds.
RUNS = """
import os, sys, ingest.sources as s
s.BLOCK = 8192
from ingest.load import load
while sys.stdin.readline():
    run = os.fork()
    if not run:
        load([sys.argv[1]], sys.argv[2], workers=1)
        os._exit(0)
    print(run, flush=True)
    sys.stdin.readline()  # until then the number is nobody else's, even where the run is over
    print(os.waitpid(run, 0)[1], flush=True)
"""


def test_a_run_killed_at_50_random_moments_loses_and_doubles_nothing(
    tmp_path: Path, small_blocks: None
) -> None:
    log, store = tmp_path / "a.log", tmp_path / "s"
    log.write_bytes(b"".join(map(line, range(1_500))) + b"{torn\n")
    began = time.monotonic()
    load([str(log)], tmp_path / "whole", workers=1)
    longest = time.monotonic() - began
    chance, killed = random.Random(50), 0
    runs = subprocess.Popen(
        [sys.executable, "-c", RUNS, str(log), str(store)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert runs.stdin is not None
    assert runs.stdout is not None
    while killed < 50:
        runs.stdin.write("go\n")
        runs.stdin.flush()
        run = int(runs.stdout.readline())
        time.sleep(chance.random() * longest / 2)
        os.kill(run, signal.SIGKILL)
        runs.stdin.write("wait\n")
        runs.stdin.flush()
        if int(runs.stdout.readline()) == 0:
            shutil.rmtree(store)  # it was done before: begin anew
            continue
        killed += 1
        if (store / "flowpolicy.json").exists():
            seen = numbers(store)
            assert len(seen) == len(set(seen))
            assert set(seen) <= set(range(1_500))
    runs.stdin.close()
    assert runs.wait() == 0
    runs.stdout.close()
    load([str(log)], store, workers=1)
    assert numbers(store) == list(range(1_500))
    assert open_store(store).rejects().num_rows == 1


def _fails(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or _fails(mount):
        pytest.skip("no right to mount a small file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_sentence_and_the_next_run_completes(
    tmp_path: Path,
    small_disk: Path,
    small_blocks: None,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    monkeypatch.setattr(ingest.workers, "POOL_FROM", 1)
    log = tmp_path / "a.log"
    log.write_bytes(b"".join(map(line, range(3_000))) + b"{torn\n")
    with pytest.raises(StoreError, match="No space left on device; mend that and run"):
        load([str(log)], small_disk / "s", workers=workers)
    seen = numbers(small_disk / "s")
    assert len(seen) == len(set(seen)) < 3_000
    assert list((small_disk / "s" / "tmp").iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    load([str(log)], small_disk / "s", workers=workers)
    assert numbers(small_disk / "s") == list(range(3_000))


@pytest.mark.parametrize("change", ["truncated", "written anew", "grown"])
def test_a_source_that_changes_while_it_is_read(
    tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"".join(map(line, range(200))))
    really, reads = ingest.blocks.data_of, 0

    def data_of(name: str, block: Block) -> bytes:
        nonlocal reads
        reads += 1
        if reads == 2:
            match change:
                case "truncated":
                    log.write_bytes(line(200))
                case "written anew":
                    log.write_bytes(b"".join(map(line, range(1_000, 1_400))))
                case "grown":
                    log.write_bytes(b"".join(map(line, range(230))))
        return really(name, block)

    monkeypatch.setattr(ingest.blocks, "data_of", data_of)
    if change == "grown":
        load([str(log)], tmp_path / "s", workers=1)
    else:
        with pytest.raises(SourceError, match="while it was read; run the command again"):
            load([str(log)], tmp_path / "s", workers=1)
    kept = set(numbers(tmp_path / "s"))
    load([str(log)], tmp_path / "s", workers=1)
    now = {"truncated": {200}, "written anew": set(range(1_000, 1_400)), "grown": set(range(230))}
    assert numbers(tmp_path / "s") == sorted(kept | now[change])


def test_two_runs_into_one_store_at_once_of_logs_that_share_lines(
    tmp_path: Path, small_blocks: None
) -> None:
    whole = b"".join(map(line, range(2_000)))
    (tmp_path / "a.log").write_bytes(whole)
    (tmp_path / "b.log.gz").write_bytes(gzip.compress(whole))
    arguments = [[str(tmp_path / name), str(tmp_path / "s")] for name in ("a.log", "b.log.gz")]
    runs = [subprocess.Popen([sys.executable, "-c", RUN, *given], cwd=ROOT, stdout=subprocess.DEVNULL)
            for given in arguments]  # fmt: skip
    assert [run.wait() for run in runs] == [0, 0]
    assert numbers(tmp_path / "s") == list(range(2_000))


def test_runs_into_one_store_at_once_of_one_log_at_different_lengths(
    tmp_path: Path, small_blocks: None
) -> None:
    whole = b"".join(map(line, range(1_500)))
    runs = []
    for number, share in enumerate((1.0, 0.71, 0.94, 0.5)):
        log = tmp_path / f"{number}.log"
        log.write_bytes(whole[: whole.rindex(b"\n", 0, int(len(whole) * share)) + 1])
        command = [sys.executable, "-c", RUN, str(log), str(tmp_path / "s")]
        runs.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL))
    assert [run.wait() for run in runs] == [0] * 4
    assert numbers(tmp_path / "s") == list(range(1_500))


# --- hostile input -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_decompression_bomb_is_stopped_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(ingest.packed, "EXPANSION_FREE", 4 << 20)
    data = b"".join(map(line, range(100))) + (b" " * 1023 + b"\n") * 60_000
    packed = gzip.compress(data) if kind == "gz" else pa.Codec("zstd").compress(data, asbytes=True)
    (tmp_path / "bomb").write_bytes(packed)
    assert len(data) > 256 * len(packed)
    found = load([str(tmp_path / "bomb")], tmp_path / "s", workers=1)
    assert found.flows == 100
    assert found.lines < 60_000
    assert any("expands to more than 256 times its size" in note for note in found.notes)


def test_a_line_of_100_mb_is_one_reject_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    with (tmp_path / "a.log").open("wb") as file:
        file.write(line(0) + b'{"flow":{"x":"')
        for _ in range(100):
            file.write(b"y" * 1_000_000)
        file.write(b'"}}\n' + line(1))
    found = load([str(tmp_path / "a.log")], tmp_path / "s", workers=1)
    assert (found.lines, found.flows, found.rejects) == (3, 2, {"line too long": 1})
    assert numbers(tmp_path / "s") == [0, 1]


def hostile(good: bytes) -> dict[str, bytes]:
    """Lines that are wrong in one way each, made from a good one of any format."""
    record = json.loads(good)
    first = json.dumps(next(iter(record))).encode()
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    return {
        "deep nesting": good[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "unclosed nesting": good[:-1] + b',"x":' + b'{"a":' * 50_000,
        "invalid UTF-8": good[:-1] + b',"x":"\xff\xfe"}',
        "NUL bytes": b"\0" * 50 + good,
        "a NUL inside": good[: len(good) // 2] + b"\0" + good[len(good) // 2 :],
        "a key twice": good[:-1] + b"," + first + b":{}}",
        "half a line": good[: len(good) // 2],
        "two lines in one": good + good,
        "a number": b"17",
        "text": b'"flow"',
        "an array": b"[" + good + b"]",
        "nothing in it": b"{}",
        "a long number": good[:-1] + b',"time":' + b"9" * 10_000 + b"}",
    }


@pytest.mark.parametrize("name", sorted(GOOD))
def test_hostile_lines_are_rejects_with_a_reason_and_the_lines_around_are_kept(
    tmp_path: Path, name: str
) -> None:
    good = GOOD[name]
    for kind, bad in hostile(good).items():
        made = FORMATS[name].parse(good + b"\n" + bad + b"\n" + good + b"\n")
        if kind == "an array" or (kind == "a long number" and name == "calico"):
            assert made.lines == made.flows.num_rows + sum(made.skipped.values()) + len(
                made.rejects
            )
            continue
        assert made.flows.num_rows == 2, (kind, made.rejects)
        assert [reject.line for reject in made.rejects] == [2], kind
        assert made.rejects[0].reason, kind


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, item in value.items() if isinstance(value, dict) else []:
        yield (*path, key)
        yield from leaves(item, (*path, key))


@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.parametrize(
    "wrong", [None, True, 7, -1, 1e308, "7", "x", [], [[]], {}, {"a": {}}], ids=repr
)
def test_a_wrong_type_at_each_level_is_a_flow_a_skip_or_a_reject(name: str, wrong: Any) -> None:
    good = GOOD[name]
    for path in leaves(json.loads(good)):
        record = json.loads(good)
        place = record
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = wrong
        made = FORMATS[name].parse(
            good + b"\n" + json.dumps(record).encode() + b"\n" + good + b"\n"
        )
        assert (
            made.lines == 3 == made.flows.num_rows + sum(made.skipped.values()) + len(made.rejects)
        )
        assert made.flows.num_rows >= 2, path


def test_numbers_as_text_are_numbers() -> None:
    record = json.loads(line(7))
    record["flow"]["l4"]["TCP"] |= {"source_port": "8", "destination_port": "80"}
    record["flow"]["event_type"] = {"type": "4"}
    (made, plain) = (
        FORMATS["hubble"].parse(text) for text in (json.dumps(record).encode(), line(7))
    )
    assert made.flows.equals(plain.flows)


# --- redaction -----------------------------------------------------------------------------------

SECRET = "s3cr3t"
HTTP = {
    "code": 200, "method": "GET", "protocol": "HTTP/1.1",
    "url": f"http://user:{SECRET}@shop.example/a/b?token={SECRET}&x=1",
    "headers": [{"key": "Authorization", "value": f"Bearer ]{SECRET}"},
                {"key": "X", "value": SECRET}],
}  # fmt: skip


def everything(store: Path) -> str:
    """All text of a store: every value of its tables, every other file."""
    opened = open_store(store)
    tables = [opened.flows().to_table(), opened.rejects(), opened.gaps()]
    texts = [str(table.to_pydict()) for table in tables]
    return "".join(texts + [path.read_text() for path in store.rglob("*.json")])


@pytest.mark.parametrize("broken", ["", "}", "cut", "bad time", "wrapped", "escaped"])
def test_headers_queries_and_users_of_urls_never_reach_the_store(
    tmp_path: Path, broken: str
) -> None:
    record = json.loads(line(0))
    record["flow"] |= {
        "Type": "L7", "event_type": {"type": 129}, "l7": {"type": "REQUEST", "http": HTTP},
        "Summary": f"HTTP/1.1 GET {HTTP['url']}",
    }  # fmt: skip
    if broken == "bad time":
        record["flow"]["time"] = "soon"
    text = json.dumps(record)
    if broken == "cut":
        text = text[: text.rindex(SECRET) + len(SECRET)]
    elif broken in ("wrapped", "escaped"):
        text = json.dumps({"log": text + "}"})
        text = text.replace("?", "\\u003f") if broken == "escaped" else text
    else:
        text += broken if broken == "}" else ""
    (tmp_path / "a.log").write_bytes(line(1) + text.encode() + b"\n")
    found = load([str(tmp_path / "a.log")], tmp_path / "s")
    assert found.flows + sum(found.rejects.values()) == 2
    assert bool(found.rejects) is bool(broken)
    assert SECRET not in everything(tmp_path / "s")
    assert "/a/b" not in str(open_store(tmp_path / "s").flows().to_table().to_pydict())
