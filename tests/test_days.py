"""What is kept of each day changes no answer, and only days that changed are read again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import big_cluster
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ingest.sources
import recommender.days
import recommender.engines
from ingest.compact import compact
from ingest.load import load
from ingest.store import create_store, open_store
from recommender.days import PARTS, parts
from recommender.engines import DUCKDB, MemoryShort, connected, fetch
from recommender.watch import Watched, names_seen, watch

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "data" / "samples"
HUBBLE, CALICO = SAMPLES / "hubble" / "node-1.jsonl.gz", SAMPLES / "calico" / "flows.log.gz"


@pytest.fixture(autouse=True)
def _all_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommender.days, "LEAST", 1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.sources, "BLOCK", 60_000)


def uncached(store: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    with monkeypatch.context() as patch:
        patch.setattr(recommender.days, "LEAST", 1 << 60)
        return watch(store)


def kept(store: Path) -> set[str]:
    found = (store / "edges").rglob("*.parquet")
    return {str(file.relative_to(store / "edges")) for file in found}


def same(one: Watched, other: Watched) -> None:
    for name in ("hourly", "reports", "edges"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))
    for name in ("inventory", "names", "asked", "mesh", "gaps", "known"):
        assert getattr(one, name) == getattr(other, name)


@pytest.mark.parametrize("log", [HUBBLE, CALICO], ids=["hubble", "calico"])
def test_every_answer_is_the_same_with_and_without_what_is_kept(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    load([str(log)], store, workers=1)
    bare = uncached(store, monkeypatch)
    assert not kept(store)
    same(watch(store), bare)
    made = kept(store)
    assert len(made) == len(PARTS) * len(open_store(store).days)
    same(watch(store), bare)
    assert kept(store) == made
    assert names_seen(store) == bare.names


def test_only_the_day_that_changed_is_read_again(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _ = big_cluster.write(tmp_path, workloads=40, namespaces=2, calls=60)
    lines = log.read_text().splitlines(keepends=True)
    first = [line for line in lines if "2026-03-02" in line or "2026-03-03" in line]
    (tmp_path / "first.jsonl").write_text("".join(first))
    store = tmp_path / "store"
    load([str(tmp_path / "first.jsonl")], store, workers=1)
    watch(store)
    before = kept(store)
    late = [line for line in lines if "2026-03-05" in line]
    again = [first[0].replace("41000", "41001").replace("00:00:00", "00:00:01")]
    (tmp_path / "late.jsonl").write_text("".join([*late, *again]))
    load([str(tmp_path / "late.jsonl")], store, workers=1)
    same(watch(store), uncached(store, monkeypatch))
    after = kept(store)
    assert set(before - after) == {n for n in before if "2026-03-02" in n}
    days = {name.split("/")[1] for name in after - before}
    assert days == {"day=2026-03-02", "day=2026-03-05"}


def test_joined_files_are_read_anew_and_give_the_same(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    load([str(HUBBLE)], store, workers=1)
    before = watch(store)
    compact(create_store(store), today=date(2026, 3, 20))
    same(watch(store), before)
    same(uncached(store, monkeypatch), before)


def test_days_that_were_removed_are_forgotten(tmp_path: Path) -> None:
    log, _ = big_cluster.write(tmp_path, workloads=20, namespaces=1, calls=10)
    store = tmp_path / "store"
    load([str(log)], store, workers=1)
    watch(store)
    compact(create_store(store), keep_days=1, today=date(2026, 3, 5))
    assert {name.split("/")[1] for name in kept(store)} == {"day=2026-03-05"}
    assert len(watch(store).reports) == 10
    assert {name.split("/")[1] for name in kept(store)} == {"day=2026-03-05"}


def test_a_store_that_cannot_be_written_to_is_read_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    load([str(CALICO)], store, workers=1)
    bare = uncached(store, monkeypatch)
    (store / "tmp").rmdir()
    (store / "tmp").write_text("no folder")
    same(watch(store), bare)
    assert not kept(store)


def test_what_another_user_kept_for_itself_keeps_nobody_from_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    load([str(CALICO)], store, workers=1)
    bare = watch(store)
    stat = Path.stat

    def refused(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if (store / "edges") in self.parents:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", refused)
    same(watch(store), bare)


def test_a_kept_file_that_is_damaged_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    load([str(CALICO)], store, workers=1)
    bare = watch(store)
    for name in kept(store):
        (store / "edges" / name).write_bytes(b"PAR1 cut off")
    same(watch(store), bare)
    same(watch(store), bare)
    same(uncached(store, monkeypatch), bare)


def test_a_kept_file_of_other_columns_is_made_anew(tmp_path: Path) -> None:
    store = tmp_path / "store"
    load([str(CALICO)], store, workers=1)
    bare = watch(store)
    for name in kept(store):
        pq.write_table(pa.table({"other": [1]}), store / "edges" / name)
    same(watch(store), bare)


def test_a_day_of_which_a_file_is_just_gone_does_not_pass_for_what_it_was_before_it_came(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    load([str(CALICO)], store, workers=1)
    watch(store)
    opened = open_store(store)
    day, files = next(iter(opened.files_by_day(opened.clusters[0]).items()))
    with connected(DUCKDB) as backend:
        kept_of = partial(
            recommender.days._kept, opened, opened.clusters[0], backend, "counts", day
        )
        assert kept_of(files)
        assert kept_of([*files, files[0].with_name("gone.parquet")]) is None


def test_too_little_memory_is_said_and_neither_the_store_nor_what_is_kept_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    load([str(CALICO)], store, workers=1)
    watch(store)
    before = kept(store)
    monkeypatch.setattr(recommender.engines, "MEMORY", "1MB")
    with pytest.raises(MemoryShort, match=r"Out of Memory.*TMPDIR") as found:
        uncached(store, monkeypatch)
    assert "remove" not in str(found.value)
    assert kept(store) == before


def test_a_changed_expression_is_not_answered_by_what_an_older_one_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    load([str(CALICO)], store, workers=1)
    watch(store)
    part = PARTS["servers"]
    changed = replace(part, of=lambda flows: part.of(flows.limit(0)))
    monkeypatch.setattr(recommender.days, "PARTS", {**PARTS, "servers": changed})
    with connected(DUCKDB) as backend:
        found = parts(open_store(store), "default", backend)
        assert fetch(found("servers"), backend).empty


RUN = """
import sys
import recommender.days
recommender.days.LEAST = 1
from recommender.watch import watch
print(len(watch(sys.argv[1]).hourly))
"""


def test_readers_at_once_and_readers_killed_leave_only_whole_files(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    load([str(HUBBLE)], store, workers=1)
    bare = uncached(store, monkeypatch)
    command = [sys.executable, "-c", RUN, str(store)]
    for wait in (1.5, 2.0, 2.5):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as run:
            time.sleep(wait)
            run.send_signal(signal.SIGKILL)
        same(watch(store), bare)
        shutil.rmtree(store / "edges")
    runs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    assert {run.communicate()[0] for run in runs} == {f"{len(bare.hourly)}\n".encode()}
    same(watch(store), bare)
    assert len(kept(store)) == len(PARTS) * len(open_store(store).days)
