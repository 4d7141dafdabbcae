"""The benchmarks run on tables as they are: what they make has the columns that the steps read."""

import importlib
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from benchmarks.attacks import hourly, watched
from benchmarks.made_flows import fill
from benchmarks.patterns import write
from benchmarks.scale import Run, growth, knee, ratio, table, written
from benchmarks.shuffles import LOGS, changed, lines_of
from benchmarks.worlds import world
from ingest.store import open_store
from recommender.hours import EDGE, SUMS, folded
from recommender.outliers import judged
from recommender.patterns import roles

MODULES = sorted(p.stem for p in (Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", [name for name in MODULES if name != "nca_timed"])
def test_every_benchmark_can_be_imported(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


def test_made_hours_have_every_column_of_an_edge_and_fold() -> None:
    calls = world("block", 1, ends=40, roles=6).calls
    frame = hourly(calls, np.random.default_rng(1).integers(0, 48, (len(calls), 3)))
    assert {*EDGE, *SUMS, "client_port", "first_seen", "last_seen"} <= set(frame.columns)
    assert len(folded(frame).edges) == len(calls)


def test_made_attacks_are_judged() -> None:
    seen = watched("block", 1, ends=60)
    found = judged(seen.edges, seen.sightings, roles(seen.edges[seen.edges["hours"] > 1]).of)
    assert {"wanted", "review"} == set(found["class"])


@pytest.mark.parametrize("log", sorted(LOGS))
def test_three_shuffles_of_a_log_change_no_byte_of_patterns_and_proposals(log: str) -> None:
    compared, differ = changed(lines_of(LOGS[log][:1]), range(3))
    assert compared > 10
    assert differ == set()


def test_growth_is_fitted_and_its_knee_named() -> None:
    runs = [Run(n, n**1.5 / 100, n**1.5 / 100, 100.0) for n in (100, 1000, 10_000)]
    assert growth(runs, lambda run: run.cpu) == pytest.approx(1.5)
    assert growth(runs, lambda run: run.mib) == pytest.approx(0)
    assert growth(runs[:1], lambda run: run.cpu) is None
    assert knee(runs, lambda run: run.cpu) == 1000
    assert knee(runs, lambda run: run.mib) is None
    steps = {"edges, DuckDB": runs, "sql, DuckDB": runs}
    page = written([chain(table("Flows", "flows", steps), ratio(steps))])
    assert "| edges, DuckDB | n^1.50 | 1,000 flows | n^-0.00 |" in page.replace("n^0.00", "n^-0.00")
    assert "- 100 flows: 1.00 by the clock, 1.00 of processor time" in page


def test_a_part_that_is_not_run_stays_on_the_page() -> None:
    steps = {"fold": [Run(100, 1.0, 1.0, 1.0)]}
    both = written([table("Lines", "lines", steps), table("Flows", "flows", steps)])
    slower = {"fold": [Run(100, 2.0, 1.0, 1.0)]}
    again = written([table("Lines", "lines", {}), table("Flows", "flows", slower)], both)
    assert again == both[: both.index("## Flows")] + both[both.index("## Flows") :].replace(
        "| 1.0 | 1.0 | 1 |", "| 2.0 | 1.0 | 1 |"
    )


def test_made_flows_are_spread_over_days(tmp_path: Path) -> None:
    assert fill(tmp_path / "store", 200, workloads=40, days=2) > 0
    assert fill(tmp_path / "store", 100, workloads=40, days=1, first=2) > 0
    store = open_store(tmp_path / "store")
    assert [day.day for day in store.days] == [2, 3, 4]
    assert store.flows().count_rows() == 300


def test_a_table_is_written_between_its_marks_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    mark = "<!-- roles: written by benchmarks/patterns.py -->\n"
    page.write_text(f"before\n{mark}| old |\n<!-- end -->\nafter\n")
    write("roles", ["| new |", "| --- |"], page)
    assert page.read_text() == f"before\n{mark}| new |\n| --- |\n<!-- end -->\nafter\n"


def test_what_a_second_role_does_is_wanted() -> None:
    made = world("overlapping", 9)
    assert (made.truth[58], made.second[395]) == (30, 54)
    assert made.wanted(58, 395, 18)
    assert not made.wanted(58, 58, 18)
