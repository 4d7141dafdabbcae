"""Logs into the store: nothing lost or doubled, whatever happens to the source or the run."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

import ingest.sources
from ingest.errors import SourceError, StoreError
from ingest.load import Summary, load
from ingest.schema import FLOWS
from ingest.store import open_store

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
    for _ in range(6):
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
