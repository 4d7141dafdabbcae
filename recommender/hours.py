"""Edges by hour -> who is behind Service addresses, and the edges with when each was seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recommender.edges import WHO
from recommender.frames import Row, numbered, plain, records
from recommender.inventory import Inventory, WorkloadKey
from recommender.roles import Ints, sorted_set

CLIENT = [f"client_{name}" for name in WHO]
SERVER = [f"server_{name}" for name in WHO]
EDGE = ["cluster", *CLIENT, *SERVER, "protocol", "port"]

# One client that fails at so many (server, port) targets in an hour is looking for open doors.
SCAN_TARGETS = 10

SUMS = [
    "connections",
    "allowed_client",
    "allowed_server",
    "allowed_neither",
    "denied_client",
    "denied_server",
    "audited",
    "pending",
    "dropped",
    "unclear",
    "answered",
    "refused",
]


_CALL = [*CLIENT, "server_address", "protocol", "port"]


def resolved(hourly: pd.DataFrame, inventory: Inventory) -> pd.DataFrame:
    """EDGES by hour, Service addresses replaced by their backends, nodes told from the pods' own.

    An edge to a Service becomes one to each backend, so an edge may have several rows an hour.
    """
    nodes = (hourly["client_type"] == "some-node") & hourly["client_address"].notna()
    called = (hourly["server_type"] == "some-node") & hourly["server_address"].notna()
    services = hourly["server_type"] == "service"
    told = (nodes | called | services).to_numpy(bool)
    if not told.any():
        return _one_way_to_nodes(hourly)
    rows: list[Row] = []
    for row in records(hourly[told]):
        if row["client_type"] == "some-node" and row["client_address"] is not None:
            row["client_type"] = "host" if _beside(row, inventory) else "node"
        if row["server_type"] == "some-node" and row["server_address"] is not None:
            row["server_type"] = "node"
        rows.extend(_behind_service(row, inventory) if row["server_type"] == "service" else (row,))
    found = pd.DataFrame(rows, columns=hourly.columns, dtype=object).astype(hourly.dtypes.to_dict())
    return _one_way_to_nodes(pd.concat([hourly[~told], found], ignore_index=True))


def _one_way_to_nodes(hourly: pd.DataFrame) -> pd.DataFrame:
    """A node that a workload calls from other nodes too is a node; `host` is called from itself."""
    own = (hourly["server_type"] == "host").to_numpy(bool)
    if not own.any():
        return hourly
    others = plain(hourly.loc[(hourly["server_type"] == "node").to_numpy(bool), _CALL])
    far = set(others.itertuples(index=False, name=None))
    calls = plain(hourly.loc[own, _CALL]).itertuples(index=False, name=None)
    types = hourly["server_type"].to_numpy(object, copy=True)
    types[own] = ["node" if call in far else "host" for call in calls]
    return hourly.assign(server_type=pd.Series(types, hourly.index, hourly["server_type"].dtype))


def _beside(row: Row, inventory: Inventory) -> bool:
    """Whether a pod of the server runs on the client node: then its probes explain the edge."""
    pods = inventory.pods_of.get(_key(row, "server"), ())
    return row["client_name"] is not None and any(p.node == row["client_name"] for p in pods)


def _key(row: Row, role: str) -> WorkloadKey:
    return WorkloadKey(
        str(row[f"{role}_namespace"]), str(row[f"{role}_kind"]), str(row[f"{role}_name"])
    )


def _behind_service(row: Row, inventory: Inventory) -> Iterable[Row]:
    service = inventory.services[str(row["server_namespace"]), str(row["server_name"])]
    found = set()
    for protocol, port, target, _ in service.ports:
        if protocol != row["protocol"] or port != row["port"]:
            continue
        for pod in inventory.backends(service):
            numbers = [n for p, n, name in pod.ports if p == protocol and name == target]
            number = target if isinstance(target, int) else next(iter(numbers), None)
            if number is not None:
                found.add((pod.workload, number))
    if not found:
        yield row
    for key, number in sorted(found):
        yield row | {
            "server_type": "workload",
            "server_namespace": key.namespace,
            "server_kind": key.kind,
            "server_name": key.name,
            "server_address": None,
            "port": number,
        }


@dataclass(frozen=True)
class Folded:
    """Edges over all hours, and when each was seen.

    `edges` has one row per edge, sorted by its columns (EDGE), null first: counts summed over
    hours, `hours` and `days` in which it was seen, `quiet_hours` in which its client did not scan,
    `first_seen`, `last_seen`. `seen` has one row per (`edge`: position in `edges`, `hour`: hours
    since the epoch), sorted.
    """

    edges: pd.DataFrame
    seen: pd.DataFrame


def folded(hourly: pd.DataFrame) -> Folded:
    """Fold EDGES by hour, as `resolved` returns them, over the hours."""
    number = numbered(hourly, EDGE)
    edges, first = np.unique(number, return_index=True)
    count = len(edges)
    table = plain(hourly[EDGE].iloc[first].reset_index(drop=True))
    for name in SUMS:
        table[name] = _summed(hourly[name].to_numpy(np.int64), number, count).astype(object)
    for name in ("bytes_to_server", "bytes_to_client"):
        known = hourly[name].notna().to_numpy(bool)
        total = _summed(hourly[name].fillna(0).to_numpy(np.int64), number, count).astype(object)
        total[np.bincount(number[known], minlength=count) == 0] = None
        table[name] = total
    hour = _whole(hourly["hour"], "h")
    edge, hours = pairs(number, hour)
    table["hours"] = np.bincount(edge, minlength=count).astype(object)
    table["days"] = np.bincount(pairs(edge, hours // 24)[0], minlength=count).astype(object)
    quiet = (~_scanning(hourly, hour)).astype(np.int64)
    table["quiet_hours"] = _summed(quiet, number, count).astype(object)
    for name, extreme in (("first_seen", np.minimum), ("last_seen", np.maximum)):
        times = _whole(hourly[name], "us")
        kept = times[first]
        extreme.at(kept, number, times)
        table[name] = pd.to_datetime(kept, unit="us", utc=True)
    return Folded(table, pd.DataFrame({"edge": edge, "hour": hours}))


def pairs(number: Ints, time: Ints) -> tuple[Ints, Ints]:
    """Distinct (number, time), sorted; several times faster on one key than on two columns."""
    first = int(time.min(initial=0))
    span = int(time.max(initial=0)) - first + 1
    key = sorted_set(number * span + (time - first))
    return key // span, key % span + first


def _summed(values: Ints, number: Ints, count: int) -> Ints:
    total = np.zeros(count, np.int64)
    np.add.at(total, number, values)
    return total


def _whole(times: pd.Series, unit: str) -> Ints:
    """Instants as whole units since the epoch."""
    utc = pd.to_datetime(times, utc=True)
    found: Ints = utc.to_numpy(f"datetime64[{unit}]").astype(np.int64)
    return found


def _scanning(hourly: pd.DataFrame, hour: Ints) -> np.ndarray:
    """Whether the row's client failed at SCAN_TARGETS targets or more in the row's hour."""
    denied = hourly["denied_client"] + hourly["denied_server"] > 0
    failed = ((hourly["answered"] == 0) & ((hourly["refused"] > 0) | denied)).to_numpy(bool)
    if not failed.any():
        return failed
    client = numbered(hourly, CLIENT)
    span = int(hour.max()) - int(hour.min()) + 1
    _, group = np.unique(client * span + (hour - hour.min()), return_inverse=True)
    targets = np.bincount(group, weights=failed)
    return np.asarray(targets[group] >= SCAN_TARGETS)
