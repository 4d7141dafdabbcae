"""Stores of made flows, of any number, without a log: what the fold reads.

A cluster of workloads with three pods each over a hundred nodes; who calls whom is drawn once, some
are called far more often than others, and flows are spread evenly over hours and days. Both ends
report, replies among them, as Hubble's exporters do.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from ingest.schema import FLOWS
from ingest.store import create_store

FIRST = date(2026, 3, 2)
DAYS = 10
PODS = 3
_NODES = 100
_AT_ONCE = 500_000
_DAY_US = 24 * 3600 * 1_000_000


def fill(path: Path, flows: int, workloads: int = 1000, *, days: int = DAYS, first: int = 0) -> int:
    """Add flows to a store, evenly over `days` from the day `first` on; bytes of it on disk."""
    store = create_store(path)
    rng = np.random.default_rng(7)
    pairs = _pairs(rng, workloads)
    for day in range(first, first + days):
        left = flows // days
        for block in range(-(-left // _AT_ONCE)):
            rows = min(_AT_ONCE, left - block * _AT_ONCE)
            store.write_flows(f"made-{day:03}-{block:05}", _flows(rng, pairs, workloads, day, rows))
    return sum(file.stat().st_size for file in store.files)


def _pairs(rng: np.random.Generator, workloads: int) -> np.ndarray:
    """Client, server and port of every call: about 20 a workload."""
    fame = rng.pareto(1.5, workloads) + 0.2
    servers = rng.choice(workloads, 20 * workloads, p=fame / fame.sum())
    clients = np.repeat(np.arange(workloads), 20)
    return rng.permutation(np.stack([clients, servers, 8000 + servers % 7]), axis=1)


def _flows(
    rng: np.random.Generator, pairs: np.ndarray, workloads: int, day: int, rows: int
) -> pa.Table:
    # A few calls make most of the traffic; the others are seen in some hours only.
    busy = 1 / np.arange(1, pairs.shape[1] + 1)
    call = rng.choice(pairs.shape[1], rows, p=busy / busy.sum())
    ends = [pairs[0, call], pairs[1, call]]
    pods = [end * PODS + rng.integers(0, PODS, rows) for end in ends]
    at_client = rng.random(rows) < 0.5
    micros = np.sort(rng.integers(0, _DAY_US, rows))
    when = FIRST + timedelta(days=day)
    start = np.datetime64(when, "us").astype(np.int64)
    texts: dict[str, tuple[list[str], np.ndarray]] = {
        "format": (["hubble"], np.zeros(rows, int)),
        "cluster": (["big"], np.zeros(rows, int)),
        "node": ([f"big/node-{n}" for n in range(_NODES)], np.where(at_client, *pods) % _NODES),
        "reporter": (["dst", "src"], at_client.astype(int)),
        "verdict": (["allowed"], np.zeros(rows, int)),
        "event": (["trace"], np.zeros(rows, int)),
        "observation": (["TO_ENDPOINT", "TO_OVERLAY"], at_client.astype(int)),
        "protocol": (["TCP"], np.zeros(rows, int)),
    }
    names = [f"svc-{n:05}" for n in range(workloads)]
    spaces = [f"team-{n // 20:03}" for n in range(workloads)]
    labels = [f"app={n}\npart-of={s}\ntier=backend" for n, s in zip(names, spaces, strict=True)]
    made = [f"{names[n // PODS]}-6b746f74dc-{n:05x}" for n in range(workloads * PODS)]
    addresses = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(workloads * PODS)]
    for end, of, pod in zip(("src", "dst"), ends, pods, strict=True):
        texts |= {
            f"{end}_type": (["pod"], np.zeros(rows, int)),
            f"{end}_cluster": (["big"], np.zeros(rows, int)),
            f"{end}_namespace": (spaces, of),
            f"{end}_workload_kind": (["Deployment"], np.zeros(rows, int)),
            f"{end}_workload": (names, of),
            f"{end}_labels": (labels, of),
            f"{end}_pod": (made, pod),
            f"{end}_ip": (addresses, pod),
        }
    columns = {name: pa.array(values).take(pa.array(at)) for name, (values, at) in texts.items()}
    columns |= {
        "day": pa.array([when]).take(pa.array(np.zeros(rows, int))),
        "time": pa.array(start + micros, pa.int64()).cast(pa.timestamp("us")).cast(_time()),
        "is_reply": pa.array(rng.random(rows) < 0.45),
        "established": pa.array(np.ones(rows, bool)),
        "src_port": pa.array(rng.integers(32_768, 61_000, rows), pa.uint16()),
        "dst_port": pa.array(pairs[2, call], pa.uint16()),
        "connections": pa.array(np.ones(rows, np.int64)),
    }
    nothing = pa.scalar(None)
    return pa.table(
        [
            columns[f.name] if f.name in columns else pa.repeat(nothing, rows).cast(f.type)
            for f in FLOWS
        ],
        schema=FLOWS,
    )


def _time() -> pa.DataType:
    return FLOWS.field("time").type
