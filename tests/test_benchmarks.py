"""The benchmarks run on tables as they are: what they make has the columns that the steps read."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.attacks import hourly, watched
from benchmarks.patterns import write
from benchmarks.shuffles import LOGS, changed, lines_of
from benchmarks.worlds import world
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
