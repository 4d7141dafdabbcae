"""Gaps that the log itself tells of: named, measured, and in the window's word."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from recommender.gaps import Gaps, gaps_of

START = datetime(2026, 3, 2, tzinfo=UTC)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def reports(**silent: tuple[int, int]) -> pd.DataFrame:
    """Two nodes that reported for 100 hours, but for the hours named."""
    rows = [
        {"node": f"c/{node}", "hour": at(hour)}
        for node in ("one", "two")
        for hour in range(100)
        if not silent.get(node, (0, 0))[0] <= hour < silent.get(node, (0, 0))[1]
    ]
    return pd.DataFrame(rows)


def gap(kind: str, node: str | None, hour: float, **columns: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("cluster", "end_time", "reason", "lost", "detail"))
    return {**nothing, "kind": kind, "node": node, "time": at(hour), **columns}


def found(*rows: dict[str, Any], events: int = 1000, seen: pd.DataFrame | None = None) -> Gaps:
    return gaps_of(rows, "c", reports() if seen is None else seen, events)


def test_a_log_without_gaps_hides_nothing() -> None:
    assert found() == Gaps((), 0.0)


def test_a_node_that_was_gone_is_named_until_it_was_back() -> None:
    gone = gap("node_status", "one", 10, reason="NODE_GONE")
    back = gap("node_status", "one", 30, reason="NODE_CONNECTED")
    given = found(gone, back, seen=reports(one=(10, 30)))
    line = (
        "node one could not be heard (NODE_GONE) from 2026-03-02T10:00:00Z to 2026-03-03T06:00:00Z"
    )
    assert given == Gaps((line,), 0.1)


def test_a_node_that_reports_again_is_back_though_nobody_said_so() -> None:
    gone = gap("node_status", "one", 10, reason="NODE_UNAVAILABLE")
    assert found(gone, seen=reports(one=(11, 21))).missed == pytest.approx(11 / 200)


def test_a_node_that_never_came_back_is_missed_to_the_end() -> None:
    gone = gap("node_status", "one", 50, reason="NODE_GONE")
    assert found(gone, seen=reports(one=(50, 100))).missed == pytest.approx(0.25)


def test_lost_events_are_added_up_by_node_and_reason() -> None:
    buffer = "HUBBLE_RING_BUFFER"
    lost = [gap("lost_events", "two", hour, reason=buffer, lost=5) for hour in (1, 7)]
    given = found(*lost, events=990)
    line = (
        "node two lost 10 events (HUBBLE_RING_BUFFER) from 2026-03-02T01:00:00Z to "
        "2026-03-02T07:00:00Z, 2 times"
    )
    assert given == Gaps((line,), 0.01)


def test_a_stretch_of_lost_events_counts_as_time_and_overlaps_count_once() -> None:
    both = [gap("lost_events", "one", 10 + i, end_time=at(30 + i), lost=1) for i in (0, 10)]
    assert found(*both, events=10_000).missed == pytest.approx(30 / 200)


def test_gaps_of_another_cluster_are_not_this_ones() -> None:
    assert found(gap("lost_events", "one", 1, lost=500, cluster="other")) == Gaps()


def test_a_stream_that_broke_off_is_said() -> None:
    given = found(gap("stream_error", None, 5, detail="EOF"))
    assert given.lines[0].startswith("the log broke off with an error (EOF) from 2026-03-02T05")
