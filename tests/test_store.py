"""The store: what is written is read by every reader, and nothing is in it twice."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ingest.sources
from ingest.errors import StoreError
from ingest.hubble import parse
from ingest.load import load
from ingest.schema import FLOWS, GAPS, REJECTS, SCHEMA_VERSION
from ingest.store import HIVE_TYPES, create_store, open_store


def line(number: int, **changes: Any) -> str:
    moment = f"2026-03-{1 + number % 3:02}T10:00:00.{number:06}Z"
    flow = {
        "time": moment,
        "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2"},
        "l4": {"TCP": {"source_port": 40_000 + number, "destination_port": 80}},
        "is_reply": False,
        **changes,
    }
    return json.dumps({"flow": flow, "node_name": "prod/n", "time": moment}) + "\n"


def write(path: Path, *numbers: int) -> str:
    path.write_text("".join(map(line, numbers)))
    return str(path)


def ports(store: Path) -> list[int]:
    """The client ports of the store's flows, which tell the lines of `line` apart."""
    column = open_store(store).flows().to_table()["src_port"].to_pylist()
    return sorted(port - 40_000 for port in column)


# --- reading -------------------------------------------------------------------------------------


def test_a_store_without_flows_has_all_columns_for_every_reader(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s")
    assert store.flows().to_table().schema.equals(FLOWS)
    assert store.rejects().schema.equals(REJECTS)
    assert (store.clusters, store.days, store.sources()) == ([], [], [])
    names = pd.read_parquet(tmp_path / "s" / "flows").columns
    assert set(names) == set(FLOWS.names)
    types = ", ".join(f"'{key}': {value}" for key, value in HIVE_TYPES.items())
    query = f"read_parquet('{store.glob}', hive_partitioning=true, hive_types={{{types}}})"
    found = duckdb.sql(f"describe from {query}").fetchall()
    assert {row[0] for row in found} == set(FLOWS.names)
    assert {row[0]: row[1] for row in found}["cluster"] == "VARCHAR"


def test_written_flows_are_read_back_equal(tmp_path: Path) -> None:
    flows = parse("".join(line(n) for n in range(30)).encode()).flows
    store = create_store(tmp_path / "s")
    store.write_flows("a", flows)
    back = store.flows().to_table().sort_by("src_port")
    assert back.equals(flows.sort_by("src_port"))
    assert back.schema.equals(FLOWS, check_metadata=False)
    assert store.days == [date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3)]


def test_partitions_are_in_the_path_and_not_in_the_files(tmp_path: Path) -> None:
    load([write(tmp_path / "a.log", 0)], tmp_path / "s")
    (file,) = (tmp_path / "s" / "flows" / "cluster=prod" / "day=2026-03-01").iterdir()
    described = duckdb.sql(f"describe from read_parquet('{file}', hive_partitioning=false)")
    assert [row[0] for row in described.fetchall()] == FLOWS.names[2:]


@settings(max_examples=20, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=60))
def test_any_cluster_name_is_read_back_and_stays_inside_the_store(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.mktemp("c")
    load([write(folder / "a.log", 0)], folder / "s", cluster=name)
    store = open_store(folder / "s")
    assert {path.name for path in folder.iterdir()} == {"a.log", "s"}
    (seen,) = store.flows().to_table()["cluster"].unique().to_pylist()
    assert [seen] == store.clusters
    assert seen == name or "~" in seen


@pytest.mark.parametrize("name", ["..", "../../up", "a/b", "a=b", "day=1", "%2F", "2026", "é" * 40])
def test_hostile_cluster_names_choose_no_path(tmp_path: Path, name: str) -> None:
    load([write(tmp_path / "a.log", 0)], tmp_path / "s", cluster=name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.log", "s"]
    assert open_store(tmp_path / "s").flows().to_table()["cluster"].to_pylist()[0] in {
        name,
        open_store(tmp_path / "s").clusters[0],
    }


def test_names_in_lines_choose_no_path_either(tmp_path: Path) -> None:
    record = json.loads(line(0))
    record["node_name"] = record["flow"]["node_name"] = "../../../up/node"
    (tmp_path / "a.log").write_text(json.dumps(record) + "\n")
    load([str(tmp_path / "a.log")], tmp_path / "s")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.log", "s"]
    assert open_store(tmp_path / "s").clusters == ["../../../up"]


def test_what_the_log_says_it_missed_is_kept_with_place_and_time(tmp_path: Path) -> None:
    lost = {
        "source": "HUBBLE_RING_BUFFER", "num_events_lost": "9",
        "first": "2026-03-01T10:00:00Z", "last": "2026-03-01T10:00:05Z",
    }  # fmt: skip
    gone = {"state_change": 3, "node_names": ["prod/b", "prod/c"], "message": "connection reset"}
    log = tmp_path / "a.log"
    log.write_text(
        line(0)
        + json.dumps({"lost_events": lost, "node_name": "prod/a", "time": "2026-03-01T10:00:07Z"})
        + "\n"
        + json.dumps({"node_status": gone, "time": "2026-03-01T11:00:00Z"})
        + "\n"
    )
    for _ in range(2):
        load([str(log)], tmp_path / "s")
        gaps = open_store(tmp_path / "s").gaps()
        assert gaps.schema.equals(GAPS, check_metadata=False)
        found = [tuple(row.values())[1:] for row in gaps.to_pylist()]
        at = datetime(2026, 3, 1, 10, tzinfo=UTC)
        noon = datetime(2026, 3, 1, 11, tzinfo=UTC)
        assert found == [
            (
                "prod",
                "a",
                at,
                at + timedelta(seconds=5),
                "lost_events",
                "HUBBLE_RING_BUFFER",
                9,
                None,
            ),
            ("prod", "b", noon, None, "node_status", "NODE_GONE", None, "connection reset"),
            ("prod", "c", noon, None, "node_status", "NODE_GONE", None, "connection reset"),
        ]
    log.write_text(line(0) + line(1))
    load([str(log)], tmp_path / "t")
    assert open_store(tmp_path / "t").gaps().num_rows == 0


# --- refusing ------------------------------------------------------------------------------------


def test_a_store_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    create_store(tmp_path / "s")
    mark = tmp_path / "s" / "flowpolicy.json"
    mark.write_text(json.dumps({"store": "flowpolicy", "schema": SCHEMA_VERSION + 1}))
    for opened in (open_store, create_store):
        with pytest.raises(StoreError, match="install a newer one"):
            opened(tmp_path / "s")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema":"1"}', "7"])
def test_a_damaged_mark_is_said(tmp_path: Path, text: str) -> None:
    create_store(tmp_path / "s")
    (tmp_path / "s" / "flowpolicy.json").write_text(text)
    with pytest.raises(StoreError, match="unreadable"):
        open_store(tmp_path / "s")


def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="not a flow store"):
        open_store(tmp_path / "other")
    with pytest.raises(StoreError, match="holds other files"):
        create_store(tmp_path / "other")
    with pytest.raises(StoreError, match="not a folder"):
        create_store(tmp_path / "other" / "mine.txt")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["mine.txt"]


# --- once and only once --------------------------------------------------------------------------


def test_an_older_copy_in_the_same_folder_changes_nothing_however_often_it_is_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "logs").mkdir()
    write(tmp_path / "logs" / "old.log", *range(5))
    write(tmp_path / "logs" / "a.log", *range(12))
    for _ in range(3):
        found = load([str(tmp_path / "logs")], tmp_path / "s")
        assert (found.lines, found.flows) == (17, 17)
        assert ports(tmp_path / "s") == list(range(12))


def test_two_logs_that_begin_with_the_same_line_are_both_kept(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.log", 0, 1, 2),
        write(tmp_path / "b.log", 0, 3, 4, 5),
        write(tmp_path / "c.log", 0, 6, 7),
    ]
    for _ in range(2):
        for path in paths:
            load([path], tmp_path / "s")
        assert ports(tmp_path / "s") == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]
    write(tmp_path / "b.log", 0, 3, 4, 5, 8)
    load([str(tmp_path / "b.log")], tmp_path / "s")
    assert ports(tmp_path / "s") == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 200), st.booleans())
def test_a_log_may_grow_by_any_bytes_and_ends_as_if_read_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], torn: int, from_archive: bool
) -> None:
    folder = tmp_path_factory.mktemp("grow")
    log, total = folder / "a.log", sum(steps)
    whole = "".join(map(line, range(total)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest.sources, "BLOCK", 1_000)
        size = 0
        for step in steps:
            size += step
            text = "".join(map(line, range(size)))
            log.write_text(text + whole[len(text) : len(text) + torn])
            load([str(log)], folder / "s", workers=1)
        if from_archive:
            log.unlink()
            log = folder / "a.zst"
            log.write_bytes(pa.Codec("zstd").compress(whole.encode(), asbytes=True))
        else:
            log.write_text(whole)
        load([str(log)], folder / "s", workers=1)
    assert ports(folder / "s") == list(range(total))
    assert open_store(folder / "s").rejects().num_rows == 0


def test_another_cluster_name_makes_it_another_log(tmp_path: Path) -> None:
    log = write(tmp_path / "a.log", 0, 1)
    for name in ("one", "two", "two"):
        load([log], tmp_path / "s", cluster=name)
    assert open_store(tmp_path / "s").clusters == ["one", "two"]
    assert ports(tmp_path / "s") == [0, 0, 1, 1]


def test_what_was_read_from_each_source_is_kept(tmp_path: Path) -> None:
    lost = '{"lost_events":{"num_events_lost":"9"}}\n'
    (tmp_path / "a.log").write_text(line(0) + lost + "{torn\n" + line(1))
    load([str(tmp_path / "a.log")], tmp_path / "s")
    (kept,) = open_store(tmp_path / "s").sources()
    assert kept["source"] == str(tmp_path / "a.log")
    assert (kept["lines"], kept["flows"], kept["lost"]) == (4, 2, 9)
    assert (kept["skipped"], kept["rejects"]) == ({"lost_events": 1}, {"invalid JSON": 1})


def test_line_numbers_of_rejects_count_from_the_beginning_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.sources, "BLOCK", 500)
    good = [line(n) for n in range(40)]
    good[7] = good[20] = "bad\n"
    good[30] = "\n"
    good[35] = "worse\n"
    (tmp_path / "a.log").write_text("".join(good))
    load([str(tmp_path / "a.log")], tmp_path / "s")
    rejects = open_store(tmp_path / "s").rejects().to_pylist()
    assert [(row["line"], row["text"]) for row in rejects] == [
        (8, "bad"),
        (21, "bad"),
        (36, "worse"),
    ]


def test_two_runs_at_once_leave_what_one_run_leaves(tmp_path: Path) -> None:
    log = write(tmp_path / "a.log", *range(3_000))
    run = (
        "import sys, ingest.sources as s; s.BLOCK = 20_000; from ingest.load import load;"
        "load([sys.argv[1]], sys.argv[2], workers=1)"
    )
    arguments = [sys.executable, "-c", run, log, str(tmp_path / "s")]
    runs = [subprocess.Popen(arguments, cwd=Path(__file__).parents[1]) for _ in range(2)]
    assert [each.wait() for each in runs] == [0, 0]
    assert ports(tmp_path / "s") == list(range(3_000))
    assert list((tmp_path / "s" / "tmp").iterdir()) == []


def test_what_a_killed_run_left_aside_is_removed_after_a_day(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s")
    old, young = store.path / "tmp" / "old", store.path / "tmp" / "young"
    for file in (old, young):
        file.write_text("half a file")
    os.utime(old, (time.time() - 90_000,) * 2)
    create_store(tmp_path / "s")
    assert (old.exists(), young.exists()) == (False, True)
