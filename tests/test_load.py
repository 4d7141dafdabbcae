"""Logs into the store: nothing lost or doubled, whatever happens to the source or the run."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

import ingest.sources
import ingest.workers
from ingest.compact import compact
from ingest.errors import SourceError, StoreError
from ingest.load import Progress, Summary, load
from ingest.records import block_name
from ingest.schema import FLOWS
from ingest.sources import expand
from ingest.store import create_store, open_store

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "data" / "samples" / "hubble"
SHARED = ROOT.parent / "shared" / "samples"


def line(number: int, **more: Any) -> str:
    flow = {
        "time": f"2026-03-02T10:{number // 60 % 60:02}:{number % 60:02}.{number:09}Z",
        "uuid": str(number),
        "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 40000, "destination_port": 80, "flags": {"SYN": True}}},
        "node_name": "c/n",
        "is_reply": False,
        **more,
    }
    return json.dumps({"flow": flow, "node_name": "c/n", "time": flow["time"]})


def text(numbers: range) -> bytes:
    return "".join(line(n) + "\n" for n in numbers).encode()


def rows(store: Path) -> pd.DataFrame:
    frame = open_store(store).flows().to_table().to_pandas()
    return frame.sort_values(list(frame.columns)).reset_index(drop=True)


def times(store: Path) -> list[Any]:
    return sorted(rows(store)["time"].tolist())


def balanced(found: Summary) -> bool:
    return found.lines == found.flows + sum(found.skipped.values()) + sum(found.rejects.values())


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.sources, "BLOCK", 4096)


def files_of(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(store.rglob("*.parquet"))}


def test_the_same_log_read_twice_renamed_or_compressed_changes_nothing(tmp_path: Path) -> None:
    data = text(range(200))
    (tmp_path / "a.log").write_bytes(data)
    (tmp_path / "b.jsonl").write_bytes(data)
    with gzip.open(tmp_path / "c.gz", "wb") as file:
        file.write(data)
    with pa.CompressedOutputStream(str(tmp_path / "d.zst"), "zstd") as file:
        file.write(data)
    store = tmp_path / "store"
    assert load([str(tmp_path / "a.log")], store).flows == 200
    before = files_of(store)
    for name in ("a.log", "b.jsonl", "c.gz", "d.zst"):
        assert load([str(tmp_path / name)], store).flows == 200
        assert files_of(store) == before


def test_a_log_that_grew_adds_only_what_is_new(tmp_path: Path, small_blocks: None) -> None:
    log, store = tmp_path / "events.log", tmp_path / "store"
    for size in (3, 40, 41, 90):
        log.write_bytes(text(range(size)))
        load([str(log)], store, workers=1)
        assert len(rows(store)) == size


@pytest.mark.parametrize("is_joined", [False, True])
def test_an_old_copy_of_a_log_that_was_read_since_adds_nothing(
    tmp_path: Path, small_blocks: None, is_joined: bool
) -> None:
    log, copy, store = tmp_path / "events.log", tmp_path / "copy.log", tmp_path / "store"
    # The same flow twice: it must be there as often.
    whole = text(range(5)) + text(range(4, 40)) + b"{}\n" + text(range(40, 60))
    log.write_bytes(whole)
    assert load([str(log)], store, workers=1).flows == 61
    if is_joined:
        compact(create_store(store), today=date(2026, 3, 20))
    before = files_of(store)
    for size in (*range(900, len(whole), 1_997), len(whole) - 1):
        copy.write_bytes(whole[:size])
        found = load([str(copy)], store, workers=1)
        assert balanced(found)
        assert found.lines == whole[:size].count(b"\n") + (whole[size - 1 : size] != b"\n")
        assert files_of(store) == before
    assert [source["source"] for source in open_store(store).sources()] == [str(log)]


@pytest.mark.parametrize("late", ["longer", "shorter", "same", "other"])
def test_a_run_that_another_one_gets_ahead_of_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None, late: str
) -> None:
    """Both have read the last block before either has recorded it."""
    store, first, second = tmp_path / "store", tmp_path / "first.log", tmp_path / "second.log"
    first.write_bytes(text(range(40)))
    lines = {"longer": range(41), "shorter": range(38), "same": range(40)}
    second.write_bytes(text(lines.get(late, [*range(39), 50, 51, 52])))
    load([str(first)], tmp_path / "turns", workers=1)
    load([str(second)], tmp_path / "turns", workers=1)
    really = ingest.load.read_block
    *_, last = expand([str(second)])[0][0].blocks()

    def read_block(task: ingest.blocks.Task) -> ingest.blocks.Outcome:
        outcome = really(task)
        if task.block.offset == last.offset:
            monkeypatch.setattr(ingest.load, "read_block", really)
            load([str(first)], store, workers=1)
        return outcome

    monkeypatch.setattr(ingest.load, "read_block", read_block)
    load([str(second)], store, workers=1)
    assert times(store) == times(tmp_path / "turns")
    assert list((store / "tmp").iterdir()) == []
    before = files_of(store)
    load([str(first), str(second)], store, workers=1)
    assert files_of(store) == before


def test_a_store_of_an_earlier_version_knows_its_blocks(tmp_path: Path, small_blocks: None) -> None:
    log, store = tmp_path / "events.log", tmp_path / "store"
    log.write_bytes(text(range(30)))
    load([str(log)], store, workers=1)
    data = log.read_bytes()
    starts = {block.first: block for block in expand([str(log)])[0][0].blocks()}
    for block in starts.values():
        said = block_name(block.first, None, "hubble")
        file = store / "blocks" / f"{said}.json"
        own = data[block.offset : block.offset + block.length]
        record = json.loads(file.read_text())
        file.write_text(json.dumps(record | {"digest": hashlib.sha256(own).hexdigest()}))
    before = files_of(store)
    notes = load([str(log)], store, workers=1).notes
    assert "1 of 1 sources were in the store already." in notes
    assert files_of(store) == before
    log.write_bytes(text(range(90)))
    load([str(log)], store, workers=1)
    assert len(rows(store)) == 90


def test_another_log_that_begins_like_one_that_was_read_is_stored(
    tmp_path: Path, small_blocks: None
) -> None:
    log, other, store = tmp_path / "events.log", tmp_path / "other.log", tmp_path / "store"
    log.write_bytes(text(range(40)))
    load([str(log)], store, workers=1)
    other.write_bytes(text(range(1)) + text(range(50, 53)))
    load([str(other)], store, workers=1)
    assert len(rows(store)) == 44
    other.write_bytes(text(range(1)) * 3)  # the same flow more often than it was seen
    load([str(other)], store, workers=1)
    assert len(rows(store)) == 47


def test_blocks_and_workers_do_not_change_the_flows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load([str(SAMPLES)], tmp_path / "one", workers=1)
    monkeypatch.setattr(ingest.sources, "BLOCK", 1 << 20)
    load([str(SAMPLES)], tmp_path / "two", workers=2)
    pd.testing.assert_frame_equal(rows(tmp_path / "one"), rows(tmp_path / "two"))


def test_every_reader_of_parquet_sees_the_same_rows(tmp_path: Path) -> None:
    log, store = tmp_path / "a.log", tmp_path / "store"
    log.write_bytes(text(range(50)))
    load([str(log)], store, cluster="2026")
    opened = open_store(store)
    assert opened.flows().to_table().schema.names == FLOWS.names
    assert opened.clusters == ["2026"]
    assert len(pd.read_parquet(store / "flows")) == 50
    counted = duckdb.sql(f"select count(*) from read_parquet('{opened.glob}')").fetchall()
    assert counted == [(50,)]


RUN = "import sys; from ingest.load import load; load([sys.argv[1]], sys.argv[2], workers=1)"


def test_a_run_killed_at_any_moment_leaves_a_store_that_the_next_run_completes(
    tmp_path: Path,
) -> None:
    log, whole, store = tmp_path / "a.log", tmp_path / "whole", tmp_path / "store"
    log.write_bytes(text(range(20_000)))
    load([str(log)], whole, workers=1)
    expected = rows(whole)
    chance = random.Random(5)
    code = f"import ingest.sources as s; s.BLOCK = 262144; {RUN}"
    for _ in range(4):
        run = subprocess.Popen(
            [sys.executable, "-c", code, str(log), str(store)],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        time.sleep(0.3 + chance.random() * 1.5)
        run.send_signal(signal.SIGKILL)
        run.wait()
        if (store / "flowpolicy.json").exists():
            seen = times(store)
            assert len(seen) == len(set(seen)), "no flow twice"
    subprocess.run(
        [sys.executable, "-c", code, str(log), str(store)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    pd.testing.assert_frame_equal(rows(store), expected)


class PowerCut(BaseException):
    """Ends a run at once, as a kill does: nothing in `load` tidies up after it."""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_ends_at_any_file_leaves_no_flow_twice_and_the_next_run_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None, moment: str
) -> None:
    log, base, store = tmp_path / "a.log", tmp_path / "base", tmp_path / "store"
    log.write_bytes(text(range(30)))
    load([str(log)], base, workers=1)
    log.write_bytes(text(range(32))[:-40])
    load([str(log)], base, workers=1)
    log.write_bytes(text(range(55)) + b"{torn\n")
    really = Path.replace
    for last in range(200):
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(base, store)
        files = 0

        def replace(self: Path, target: Path, last: int = last) -> Path:
            nonlocal files
            files += 1
            if moment == "before" and files > last:
                raise PowerCut
            done = really(self, target)
            if files > last:
                raise PowerCut
            return done

        monkeypatch.setattr(Path, "replace", replace)
        try:
            load([str(log)], store, workers=1)
            finished = True
        except PowerCut:
            finished = False
        monkeypatch.setattr(Path, "replace", really)
        seen = times(store)
        assert len(seen) == len(set(seen)) >= 31
        load([str(log)], store, workers=1)
        assert len(rows(store)) == 55
        assert [row["line"] for row in open_store(store).rejects().to_pylist()] == [56]
        if finished:
            break
    assert 5 < last < 100


def test_workers_end_when_the_run_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(text(range(20_000)) * 4)
    code = (
        "import sys, ingest.sources as s, ingest.load as l, ingest.workers as w; s.BLOCK = 100_000; w.POOL_FROM = 1\n"
        "if __name__ == '__main__': l.load([sys.argv[1]], sys.argv[2], workers=2)"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    run = subprocess.Popen(
        [sys.executable, str(script), str(log), str(tmp_path / "s")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    blocks = tmp_path / "s" / "blocks"
    while run.poll() is None and not (blocks.is_dir() and any(blocks.iterdir())):
        time.sleep(0.02)
    workers = children(run.pid)
    assert len(workers) >= 2
    run.kill()
    run.wait()
    for _ in range(200):
        alive = [pid for pid in workers if Path(f"/proc/{pid}/cmdline").exists()]
        alive = [pid for pid in alive if Path(f"/proc/{pid}/cmdline").read_bytes()]
        if not alive:
            return
        time.sleep(0.05)
    pytest.fail(f"still alive: {alive}")


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def test_a_log_that_grew_between_runs_of_a_pool_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    monkeypatch.setattr(ingest.workers, "POOL_FROM", 1)
    for name, size in (("old.log", 37), ("mid.log", 41), ("new.log", 90)):
        (tmp_path / name).write_bytes(text(range(size)))
    progress: list[Progress] = []
    found = load(
        [str(tmp_path / "*.log")], tmp_path / "s", workers=2,
        progress=progress.append,
    )  # fmt: skip
    assert found.flows == 37 + 41 + 90
    assert len(rows(tmp_path / "s")) == 90
    size = sum(path.stat().st_size for path in tmp_path.glob("*.log"))
    assert progress[-1] == Progress(size, size, 37 + 41 + 90, 0)


def test_fields_that_a_mask_took_from_a_log_are_said_once(tmp_path: Path) -> None:
    for name in ("a.log", "b.log", "c.log"):
        (tmp_path / name).write_text(line(ord(name[0]), event_type={"type": 4}) + "\n")
    found = load([str(tmp_path)], tmp_path / "s")
    (note,) = [note for note in found.notes if "no line has" in note]
    assert "and 2 more" in note
    assert "labels, traffic_direction" in note


def test_a_line_that_is_too_long_is_a_reject_and_its_neighbours_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    monkeypatch.setattr(ingest.sources, "LONGEST_LINE", 8192)
    data = text(range(3)) + b"x" * 50_000 + b"\n" + text(range(3, 6))
    for name, content in (("a.log", data), ("b.gz", gzip.compress(data))):
        (tmp_path / name).write_bytes(content)
        found = load([str(tmp_path / name)], tmp_path / name.replace(".", ""), workers=1)
        assert (found.lines, found.flows, found.rejects) == (7, 6, {"line too long": 1})
        (reject,) = open_store(tmp_path / name.replace(".", "")).rejects().to_pylist()
        assert (reject["line"], len(reject["text"])) == (4, 2_000)


def test_standard_input_and_an_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text(range(4)))))
    assert load(["-"], tmp_path / "s").flows == 4
    (tmp_path / "empty.log").touch()
    found = load([str(tmp_path / "empty.log")], tmp_path / "s")
    assert (found.files, found.lines, found.flows) == (1, 0, 0)
    assert found.notes == (f"{tmp_path / 'empty.log'}: empty.",)


def test_a_file_of_no_known_format_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello\n")
    with pytest.raises(SourceError, match="name its format with --format"):
        load([str(tmp_path / "a.txt")], tmp_path / "s")
    assert not (tmp_path / "s").exists()
    assert load([str(tmp_path / "a.txt")], tmp_path / "s", format="hubble").rejects == {
        "invalid JSON": 1
    }
    with pytest.raises(SourceError, match="like no flow log"):
        load([str(tmp_path)], tmp_path / "t")


def test_every_line_ends_as_a_flow_a_skip_or_a_reject(tmp_path: Path) -> None:
    good = [line(n) for n in range(5)]
    lost = '{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"1"},"time":"2026-01-01T00:00:00Z"}'
    bad = ['{"flow":{', "not json", '{"flow":{"time":"yesterday"}}', "[]", '{"other":1}']
    log = tmp_path / "a.log"
    log.write_text("\n".join([good[0], *bad, lost, *good[1:]]) + "\n")
    found = load([str(log)], tmp_path / "s")
    assert balanced(found)
    assert found.flows == 5
    assert found.skipped == {"lost_events": 1}
    assert sum(found.rejects.values()) == len(bad)
    kept = open_store(tmp_path / "s").rejects().to_pylist()
    assert [reject["line"] for reject in kept] == [2, 3, 4, 5, 6]
    assert [reject["text"] for reject in kept] == bad


def test_hostile_lines_are_rejected_and_their_neighbours_kept(tmp_path: Path) -> None:
    bad = [
        b'{"flow":{"verdict":"\xff"}}',
        b'{"flow":\x00}',
        b"[" * 100_000,
        b'{"flow":' * 5_000 + b"}" * 5_000,
        json.dumps({"flow": {"time": 5}}).encode(),
        line(900, source={"namespace": "a\nb", "pod_name": "x", "labels": ["k8s:a=b"]}).encode(),
        line(901, IP={"source": "999.1.1.1", "destination": "10.0.0.2"}).encode(),
        line(902, l4={"TCP": {"source_port": 99999, "destination_port": -1}}).encode(),
    ]
    log = tmp_path / "a.log"
    lines = [part for n, one in enumerate(bad) for part in (line(n).encode(), one)]
    log.write_bytes(b"\n".join(lines) + b"\n")
    found = load([str(log)], tmp_path / "s")
    assert balanced(found)
    assert found.flows == len(bad)
    assert sum(found.rejects.values()) == len(bad)


def test_a_torn_last_line_is_one_reject(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(text(range(3)) + line(4).encode()[:100])
    found = load([str(log)], tmp_path / "s")
    assert (found.flows, found.rejects) == (3, {"torn last line": 1})


def test_a_truncated_archive_is_said_and_read_as_far_as_it_goes(tmp_path: Path) -> None:
    noise = random.Random(1)
    data = "".join(line(n, uuid=str(noise.random())) + "\n" for n in range(3000)).encode()
    cut = gzip.compress(data)[:-2000]
    (tmp_path / "a.gz").write_bytes(cut)
    found = load([str(tmp_path / "a.gz")], tmp_path / "s")
    assert balanced(found)
    assert 0 < found.flows < 3000
    assert any("a.gz" in note for note in found.notes)


def test_a_cluster_name_never_chooses_a_path(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(text(range(2)))
    for number, name in enumerate(("../../up", "a/b", "..", "x" * 400, "a=b&c", "NULL ' \"")):
        store = tmp_path / f"s{number}" / "store"
        load([str(log)], store, cluster=name)
        assert {p.name for p in (tmp_path / f"s{number}").iterdir()} == {"store"}
        assert len(rows(store)) == 2
        assert len(open_store(store).clusters) == 1


def test_a_folder_is_searched_and_what_is_no_log_is_noted(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "node-1"
    folder.mkdir(parents=True)
    (folder / "events.log").write_bytes(text(range(3)))
    (folder / "notes.txt").write_text("not a log\n")
    found = load([str(tmp_path / "logs")], tmp_path / "s")
    assert (found.files, found.flows) == (1, 3)
    assert load([str(tmp_path / "logs" / "*" / "*.log")], tmp_path / "s2").flows == 3


def test_missing_sources_and_stores_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        load([str(tmp_path / "nowhere.log")], tmp_path / "s")
    with pytest.raises(StoreError, match="no such store"):
        open_store(tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("mine")
    log = tmp_path / "a.log"
    log.write_bytes(text(range(1)))
    with pytest.raises(StoreError):
        load([str(log)], tmp_path / "other")
    assert (tmp_path / "other" / "a.txt").read_text() == "mine"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real samples are not part of the project")
@pytest.mark.parametrize("kind", ["hubble", "calico"])
def test_real_logs_are_read_with_no_line_lost(tmp_path: Path, kind: str) -> None:
    if kind == "hubble":
        paths = [p for p in (SHARED / "hubble").rglob("*.*json") if p.is_file()]
        assert len(paths) == 20
    else:
        calico = SHARED / "calico"
        paths = [
            calico / "tigera-cs__observability-clinic" / "flows.log",
            *sorted((calico / "tigera__docs").glob("enterprise-flows-*.jsonl")),
            calico / "projectcalico__calico" / "whisker-ui-mock-enterprise-flow.jsonl",
        ]
    for path in paths:
        lines = sum(1 for one in path.read_text().splitlines() if one.strip())
        found = load([str(path)], tmp_path / path.name)
        assert balanced(found), path
        assert found.lines == lines, path
        assert not found.rejects, (path, found.rejects)
        shutil.rmtree(tmp_path / path.name)
