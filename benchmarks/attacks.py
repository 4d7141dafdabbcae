"""Two weeks of made traffic, hour by hour, with attacks among it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.random import Generator

from benchmarks.worlds import World, world
from recommender.hours import SUMS
from recommender.roles import Calls, Ints

HOURS = 24 * 14
ATTACKS = ("horizontal scan", "vertical scan", "one-off", "beacon")


@dataclass(frozen=True)
class Watched:
    """Edges as `classify.classified` would give them, sightings, and what each edge is in truth."""

    edges: pd.DataFrame
    sightings: pd.DataFrame
    truth: list[str]


def watched(kind: str, seed: int, *, ends: int = 1000) -> Watched:
    """Traffic of two weeks: steady, bursty, weekly, and one edge in thirty in one hour only.

    Attacks are put in before anything is learnt: scans that are answered, lateral one-offs on
    real service ports, beacons of 60 hours to an outside address.
    """
    made = world(kind, seed, ends=ends)
    calls = made.calls
    rng = np.random.default_rng(seed + 100)
    rows = list(zip(calls.client.tolist(), calls.server.tolist(), calls.port.tolist(), strict=True))
    hours = [_honest_hours(rng) for _ in rows]
    truth = ["honest"] * len(rows)
    for what, (client, server, port), seen in _attacks(rng, made):
        rows.append((client, server, port))
        hours.append(seen)
        truth.append(what)
    sightings = pd.DataFrame(
        {
            "edge": np.repeat(np.arange(len(rows)), [len(h) for h in hours]),
            "hour": np.concatenate(hours),
        }
    )
    return Watched(_framed(len(calls.ends), rows, hours, rng), sightings, truth)


def _honest_hours(rng: Generator) -> Ints:
    how = rng.random()
    if how < 0.033:
        return rng.integers(0, HOURS, 1)
    if how < 0.06:  # weekly
        start = rng.integers(0, 7 * 24)
        return np.array([start, start + 7 * 24])
    if how < 0.2:  # bursts of some hours
        starts = rng.integers(0, HOURS - 6, rng.integers(1, 4))
        return np.unique(np.concatenate([np.arange(s, s + 6) for s in starts]))
    return np.flatnonzero(rng.random(HOURS) < max(rng.beta(2, 2), 0.05))


def _attacks(rng: Generator, made: World) -> Iterator[tuple[str, tuple[int, int, int], Ints]]:
    calls = made.calls
    ends, outside = len(calls.ends), len(calls.ends)
    clients = rng.choice(ends - 2, 24, replace=False)
    for client in clients[:2]:
        for server in rng.choice(ends, 30, replace=False):
            yield "horizontal scan", (int(client), int(server), 22), np.array([50])
        for port in range(100, 130):
            yield "vertical scan", (int(client), int(clients[3]), port), np.array([51])
    for client in clients[2:20]:
        row = int(rng.integers(0, len(calls)))
        edge = (int(client), int(calls.server[row]), int(calls.port[row]))
        if not made.wanted(*edge):  # else it is what the role does
            yield "one-off", edge, rng.integers(0, HOURS, 1)
    for i, client in enumerate(clients[20:24]):
        start = int(rng.integers(0, HOURS - 60))
        yield "beacon", (int(client), outside + i, 443), np.arange(start, start + 60)


def _framed(
    ends: int, rows: list[tuple[int, int, int]], hours: list[Ints], rng: Generator
) -> pd.DataFrame:
    """Rows (client, server, port) as `classify.classified` gives them; from `ends` on outside."""
    columns: dict[str, object] = {"cluster": "c"}
    for role, place in (("client", 0), ("server", 1)):
        codes = [row[place] for row in rows]
        inside = [code < ends for code in codes]
        columns |= {
            f"{role}_type": ["workload" if i else "address" for i in inside],
            f"{role}_namespace": ["ns" if i else None for i in inside],
            f"{role}_kind": ["Deployment" if i else None for i in inside],
            f"{role}_name": [f"w{c:06}" if i else None for c, i in zip(codes, inside, strict=True)],
            f"{role}_address": [
                None if i else f"203.0.113.{c % 250}" for c, i in zip(codes, inside, strict=True)
            ],
            f"{role}_cluster": None,
        }
    columns |= {
        "protocol": "TCP",
        "port": [8000 + row[2] for row in rows],
        "connections": [int(c) for c in 1 + rng.poisson(1.0, len(rows))],
        "hours": [len(h) for h in hours],
        "quiet_hours": [len(h) for h in hours],
        "days": [len(np.unique(h // 24)) for h in hours],
        "bytes_to_server": None,
        "bytes_to_client": None,
        "run": None,
        "class": "wanted",
        "reason": "delivered",
    }
    return pd.DataFrame(columns, dtype=object)


def hourly(calls: Calls, hours: Ints) -> pd.DataFrame:
    """Calls seen in the hours of their row, as `edges.edges` gives them: every one delivered."""
    row = np.repeat(np.arange(len(calls)), hours.shape[1])
    whole = pa.array(np.ones(len(row), np.int64))
    nothing = pa.array(np.zeros(len(row), np.int64))
    start = np.datetime64("2026-03-02", "us")
    when = pa.array(start + hours.ravel().astype("timedelta64[h]")).cast(pa.timestamp("us", "UTC"))
    names = np.array([end.split("/")[-1] for end in calls.ends], object)
    columns: dict[str, object] = {"cluster": _same("c", row)}
    for role, ends in (("client", calls.client), ("server", calls.server)):
        columns |= {
            f"{role}_type": _same("workload", row),
            f"{role}_namespace": _same("ns", row),
            f"{role}_kind": _same("Deployment", row),
            f"{role}_name": pa.array(names[ends[row]], pa.string()),
            f"{role}_address": _same(None, row),
            f"{role}_cluster": _same(None, row),
        }
    columns |= {
        "protocol": _same("TCP", row),
        "port": pa.array(8000 + calls.port[row]),
        "hour": when,
    }
    columns |= {
        name: whole if name in ("connections", "allowed_client", "answered") else nothing
        for name in SUMS
    }
    columns |= {"bytes_to_server": whole, "bytes_to_client": whole}
    columns |= {"client_port": pa.nulls(len(row), pa.uint16())}
    columns |= {"first_seen": when, "last_seen": when}
    return pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)


def _same(text: str | None, rows: Ints) -> pa.Array:
    return pa.array([text], pa.string()).take(pa.array(np.zeros(len(rows), np.int64)))
