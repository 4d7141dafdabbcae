"""Edges by hour folded over the hours: against a plain loop, and the quick class against the slow."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender import classify
from recommender.classify import classified
from recommender.frames import records
from recommender.hours import EDGE, folded, resolved
from recommender.inventory import Inventory

START = datetime(2026, 3, 2, tzinfo=UTC)
COUNTS = (
    "allowed_client", "allowed_server", "allowed_neither", "denied_client", "denied_server",
    "audited", "pending", "dropped", "unclear", "answered", "refused",
)  # fmt: skip


def end(role: str, kind: str, name: str | None) -> dict[str, Any]:
    inside = kind == "workload"
    values = (kind, *(("shop", "Deployment", name, None) if inside else (None, None, None, name)))
    columns = ("type", "namespace", "kind", "name", "address")
    return {f"{role}_{c}": value for c, value in zip(columns, values, strict=True)}


ends = st.one_of(
    st.tuples(st.just("workload"), st.sampled_from(["a", "b"])),
    st.tuples(st.sampled_from(["address", "node"]), st.sampled_from(["10.0.0.9", "9.9.9.9"])),
    st.tuples(st.sampled_from(["unresolved", "health"]), st.none()),
)
hourly_rows = st.lists(
    st.fixed_dictionaries(
        {
            "client": ends,
            "server": ends,
            "protocol": st.sampled_from(["TCP", "UDP", None]),
            "port": st.sampled_from([80, 443, None]),
            "hour": st.integers(0, 60),
            "bytes": st.sampled_from([None, 5, 7]),
            "counts": st.lists(st.sampled_from([0, 0, 1]), min_size=11, max_size=11),
        }
    ),
    max_size=30,
)


def frame(drawn: list[dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for one in drawn:
        hour = START + timedelta(hours=one["hour"])
        row = {"cluster": "c", **end("client", *one["client"]), **end("server", *one["server"])}
        row |= {"protocol": one["protocol"], "port": one["port"], "hour": hour, "connections": 2}
        row |= dict(zip(COUNTS, one["counts"], strict=True))
        row |= {"bytes_to_server": one["bytes"], "bytes_to_client": None, "client_port": None}
        rows.append(row | {"first_seen": hour, "last_seen": hour + timedelta(minutes=3)})
    instant, text = pa.timestamp("us", "UTC"), pa.string()
    types = dict.fromkeys(EDGE, text) | {"port": pa.int32()}
    types |= dict.fromkeys(("hour", "first_seen", "last_seen"), instant)
    whole = dict.fromkeys(
        ("connections", *COUNTS, "bytes_to_server", "bytes_to_client", "client_port"), pa.int64()
    )
    order = [*EDGE, "hour", "connections", *COUNTS, "bytes_to_server", "bytes_to_client"]
    order += ["client_port"]
    order += ["first_seen", "last_seen"]
    schema = pa.schema([(name, (types | whole)[name]) for name in order])
    return pa.Table.from_pylist(rows, schema).to_pandas(types_mapper=pd.ArrowDtype)


@settings(max_examples=60, deadline=None)
@given(hourly_rows)
def test_folding_is_what_a_plain_loop_gives(drawn: list[dict[str, Any]]) -> None:
    hourly = frame(drawn)
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in records(hourly):
        groups[tuple(row[c] for c in EDGE)].append(row)
    order = sorted(groups, key=lambda k: [(v is not None, v if v is not None else "") for v in k])
    found = folded(resolved(hourly, Inventory()))
    assert [tuple(row[c] for c in EDGE) for row in records(found.edges)] == order
    for row, key in zip(records(found.edges), order, strict=True):
        rows = groups[key]
        hours = {r["hour"] for r in rows}
        sent = [r["bytes_to_server"] for r in rows if r["bytes_to_server"] is not None]
        assert row["connections"] == 2 * len(rows)
        assert [row[c] for c in COUNTS] == [sum(r[c] for r in rows) for c in COUNTS]
        assert row["bytes_to_server"] == (sum(sent) if sent else None)
        assert row["bytes_to_client"] is None
        assert (row["hours"], row["days"]) == (len(hours), len({h.date() for h in hours}))
        assert row["first_seen"] == min(r["first_seen"] for r in rows)
        assert row["last_seen"] == max(r["last_seen"] for r in rows)
    seen = {(i, int(h.timestamp()) // 3600) for i, k in enumerate(order) for h in
            {r["hour"] for r in groups[k]}}  # fmt: skip
    assert set(found.seen.itertuples(index=False, name=None)) == seen


@settings(max_examples=60, deadline=None)
@given(hourly_rows, st.booleans())
def test_the_quick_class_is_what_the_slow_one_gives(
    drawn: list[dict[str, Any]], audited: bool
) -> None:
    edges = folded(resolved(frame(drawn), Inventory())).edges
    quick = classified(edges, Inventory(), audited=audited)
    context = classify._Context(
        classify._listening(edges, Inventory()), classify._answers_visible(edges), audited
    )
    slow = [classify._verdict(row, context) for row in records(edges)]
    assert list(zip(quick["class"], quick["reason"], strict=True)) == slow


def test_a_client_that_fails_at_ten_targets_in_an_hour_has_no_quiet_one() -> None:
    one = {"protocol": "TCP", "bytes": None, "counts": [0] * 10 + [1]}
    drawn = [
        {**one, "client": ("workload", "a"), "server": ("address", f"10.0.0.{i}"), "port": 80,
         "hour": i // 10}
        for i in range(19)
    ]  # fmt: skip
    found = folded(frame(drawn)).edges
    quiet = dict(zip(found["server_address"], found["quiet_hours"], strict=True))
    assert [quiet[f"10.0.0.{i}"] for i in range(19)] == [0] * 10 + [1] * 9
