"""What the logs say that they missed: named by node and time, and as a share of the window."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd

from recommender.frames import Row, plain

# observer.proto NodeState: what begins and what ends a gap.
_BACK = "NODE_CONNECTED"
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Gaps:
    """One sentence for each gap, and the share of the window's traffic that they may have hidden.

    `missed` is the larger of two shares: node-hours inside gaps, and events lost of all events.
    """

    lines: tuple[str, ...] = ()
    missed: float = 0.0


def gaps_of(rows: Iterable[Row], cluster: str, reports: pd.DataFrame, events: int) -> Gaps:
    """Fold the gaps of one cluster.

    Args:
        rows: GAPS (`ingest/schema.py`), by time.
        cluster: those of it, and those that name no cluster.
        reports: what `edges.reports` returns.
        events: records that the log does have.
    """
    chosen = [row for row in rows if row["cluster"] in (cluster, None)]
    seen = _seen(reports)
    if not chosen:
        return Gaps()
    downs = [row for row in chosen if row["kind"] == "node_status"]
    others = [row for row in chosen if row["kind"] != "node_status"]
    lines: list[str] = []
    spans: dict[str | None, list[Span]] = defaultdict(list)
    for name, why, span in _down(downs, seen):
        spans[name].append(span)
        lines.append(f"node {name} could not be heard ({why}) from {_text(*span)}")
    for (node, kind, reason), some in _alike(others):
        spans[node] += [(row["time"], row["end_time"]) for row in some if row["end_time"]]
        lines.append(_line(node, kind, reason, some))
    lost = sum(row["lost"] or 0 for row in others)
    return Gaps(tuple(lines), max(_share(spans, seen), lost / max(lost + events, 1)))


def _seen(reports: pd.DataFrame) -> dict[str, list[datetime]]:
    """The hours in which each node reported, sorted; a cluster's name before its own left out."""
    found: dict[str, set[datetime]] = defaultdict(set)
    for node, hour in plain(reports[["node", "hour"]]).itertuples(index=False):
        found[str(node).rpartition("/")[2]].add(hour)
    return {node: sorted(hours) for node, hours in found.items()}


def _down(
    rows: Sequence[Row], seen: Mapping[str, list[datetime]]
) -> Iterator[tuple[str, str, Span]]:
    """When nodes could not be heard: until they were back, or reported again, or to the end."""
    by_node: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["node"] is not None and row["time"] is not None:
            by_node[row["node"]].append(row)
    last = max((hours[-1] for hours in seen.values()), default=None)
    for node, changes in sorted(by_node.items()):
        for i, row in enumerate(changes):
            begin, reason = row["time"], row["reason"]
            if reason == _BACK or last is None:
                continue
            again = [hour for hour in seen.get(node, ()) if hour > begin]
            after = [later["time"] for later in changes[i + 1 : i + 2]]
            ends = [*again[:1], *after, last + timedelta(hours=1)]
            if begin < min(ends):
                yield node, str(reason), (begin, min(ends))


def _alike(rows: Iterable[Row]) -> list[tuple[tuple[str | None, str, str | None], list[Row]]]:
    """Gaps of one node, kind and reason together: a full buffer is told of again and again."""
    found: dict[tuple[str | None, str, str | None], list[Row]] = defaultdict(list)
    for row in rows:
        found[row["node"], row["kind"], row["reason"]].append(row)
    return sorted(found.items(), key=lambda one: tuple(map(str, one[0])))


def _line(node: str | None, kind: str, reason: str | None, rows: Sequence[Row]) -> str:
    where = "the log" if node is None else f"node {node}"
    times = [time for row in rows for time in (row["time"], row["end_time"]) if time is not None]
    when = f" from {_text(min(times), max(times))}" if times else ""
    if kind == "lost_events":
        lost = sum(row["lost"] or 0 for row in rows)
        what = f"lost {lost:,} events ({reason or 'no reason given'})"
    else:
        what = f"broke off with an error ({rows[0]['detail'] or reason or 'no reason given'})"
    often = f", {len(rows)} times" if len(rows) > 1 else ""
    return f"{where} {what}{when}{often}"


def _text(first: datetime, last: datetime) -> str:
    return " to ".join(f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for time in (first, last))


def _share(spans: Mapping[str | None, list[Span]], seen: Mapping[str, list[datetime]]) -> float:
    """The share of node-time that gaps cover; a gap of no node is one of all."""
    hours = [hour for some in seen.values() for hour in some]
    if not hours:
        return 0.0
    first, last = min(hours), max(hours) + timedelta(hours=1)
    nodes = seen.keys() | {node for node in spans if node is not None}
    covered = timedelta()
    for node in nodes:
        at = first
        for begin, end in sorted([*spans.get(node, ()), *spans.get(None, ())]):
            begin, end = max(begin, at), min(end, last)
            if begin < end:
                covered, at = covered + (end - begin), end
    return covered / ((last - first) * len(nodes))
