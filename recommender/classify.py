"""Which edges are wanted, and why the others are not: one class and one sentence an edge.

wanted   delivered, by every report of it; becomes a rule
review   waits for a person: nothing is learned from it until somebody decides
denied   policy stopped it; never evidence
ignored  no policy matter: the CNI's own probes, a pod's own node, losses on the way
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from recommender.edges import WHO
from recommender.frames import Row, plain, records
from recommender.inventory import Inventory, WorkloadKey
from recommender.ports import PORT_PROTOCOLS

CLIENT = [f"client_{name}" for name in WHO]
SERVER = [f"server_{name}" for name in WHO]
EDGE = ["cluster", *CLIENT, *SERVER, "protocol", "port"]

# One client that fails at so many (server, port) targets in an hour is looking for open doors.
SCAN_TARGETS = 10
# A scan that finds a door open says little through it.
PROBE_RECORDS = 10
# Instance credentials are had there: AWS, Azure, GCP, OpenStack (169.254.169.254), AWS over IPv6,
# Alibaba (100.100.100.200).
METADATA = frozenset({"169.254.169.254", "fd00:ec2::254", "100.100.100.200"})

_UNNAMED = {
    "set": "the log gives no address, only a set that a NetworkPolicy cannot name",
    "remote": "the peer is a pod of another cluster, which a NetworkPolicy cannot tell from ours",
    "gone": "no workload of the inventory owns this pod; it may be gone",
    "unresolved": "the log does not say who one end is",
    "service": "a Service address for which the inventory shows no backend on this port",
    "some-node": "a node without an address",
}


def classified(
    hourly: pd.DataFrame, inventory: Inventory, *, audited: bool = False
) -> pd.DataFrame:
    """Give every edge its class.

    Args:
        hourly: EDGES by hour, as `resolved` returns them.
        inventory: of the same cluster.
        audited: take traffic that policy would have denied (audit mode) as wanted.

    Returns:
        One row per edge, sorted by its columns (EDGE): counts summed over hours, `hours` and
        `days` in which it was seen, `first_seen`, `last_seen`, `class` and `reason`.
    """
    hourly = hourly.assign(scanning=_scanning(hourly))
    table = _over_hours(hourly)
    rows = records(table)
    context = _Context(_listening(rows, inventory), _answers_visible(rows), audited)
    verdicts = [_verdict(row, context) for row in rows]
    table["class"] = [class_ for class_, _ in verdicts]
    table["reason"] = [reason for _, reason in verdicts]
    return table


def resolved(hourly: pd.DataFrame, inventory: Inventory) -> pd.DataFrame:
    """EDGES by hour, Service addresses replaced by their backends, nodes told from the pods' own.

    An edge to a Service becomes one to each backend, so an edge may have several rows an hour.
    """
    rows: list[Row] = []
    for row in records(hourly):
        if row["client_type"] == "some-node" and row["client_address"] is not None:
            row["client_type"] = "host" if _beside(row, inventory) else "node"
        if row["server_type"] in ("some-node", "host") and row["server_address"] is not None:
            row["server_type"] = "node"  # a pod needs a rule to call its own node as well
        if row["server_type"] == "service":
            rows.extend(_behind_service(row, inventory))
        else:
            rows.append(row)
    return pd.DataFrame(rows, columns=hourly.columns, dtype=object)


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


def _scanning(hourly: pd.DataFrame) -> pd.Series[Any]:
    """Whether the row's client failed at SCAN_TARGETS targets or more in the row's hour."""
    if hourly.empty:
        return pd.Series([], dtype=bool)
    failed = (hourly["answered"] == 0) & (
        (hourly["refused"] > 0) | (hourly["denied_client"] + hourly["denied_server"] > 0)
    )
    by = [hourly[column] for column in (*CLIENT, "hour")]
    targets = failed.astype(int).groupby(by, dropna=False).transform("sum")
    return targets >= SCAN_TARGETS


_SUMS = [
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


def _over_hours(hourly: pd.DataFrame) -> pd.DataFrame:
    hourly["day"] = [hour.date() for hour in hourly["hour"]]
    grouped = hourly.groupby(EDGE, dropna=False, sort=False)
    table = grouped.agg(
        **{name: (name, "sum") for name in _SUMS},
        bytes_to_server=("bytes_to_server", _sum_or_null),
        bytes_to_client=("bytes_to_client", _sum_or_null),
        hours=("hour", "nunique"),
        days=("day", "nunique"),
        quiet_hours=("scanning", lambda flags: int((~flags.astype(bool)).sum())),
        first_seen=("first_seen", "min"),
        last_seen=("last_seen", "max"),
    ).reset_index()
    table = plain(table)
    # Grouping by a column that holds nulls turns its whole numbers into floats.
    ports = [None if port is None else int(port) for port in table["port"]]
    table["port"] = pd.Series(ports, dtype=object)
    rows = sorted(records(table), key=_sort_key)
    return pd.DataFrame(rows, columns=table.columns, dtype=object)


def _sum_or_null(values: pd.Series[Any]) -> int | None:
    known = [int(value) for value in values if value is not None]
    return sum(known) if known else None


def _sort_key(row: Row) -> tuple[object, ...]:
    """By the columns of EDGE, null first, ports by number."""
    return tuple((row[c] is not None, row[c] if row[c] is not None else "") for c in EDGE)


def _listening(rows: Iterable[Row], inventory: Inventory) -> frozenset[tuple[object, ...]]:
    """(server, protocol, port) that a clear record or a declared container port shows."""
    found: set[tuple[object, ...]] = set()
    for row in rows:
        if row["allowed_client"] + row["allowed_server"] + row["allowed_neither"] > 0:
            found.add((*(row[c] for c in SERVER), row["protocol"], row["port"]))
    for key, workload in inventory.workloads.items():
        for protocol, port, _ in workload.ports:
            found.add(("workload", key.namespace, key.kind, key.name, None, protocol, port))
    return frozenset(found)


def _answers_visible(rows: Iterable[Row]) -> bool:
    """Whether this log shows answers at all, so that the want of one says something."""
    answered = [
        _int(row, "answered") > 0
        for row in rows
        if row["protocol"] == "TCP" and _int(row, "answered", "refused")
    ]
    return bool(answered) and sum(answered) >= len(answered) / 2


@dataclass(frozen=True, slots=True)
class _Context:
    """What the class of one edge depends on beside the edge itself."""

    listening: frozenset[tuple[object, ...]]
    answers_visible: bool
    audited: bool


Found = tuple[str, str] | None


def _verdict(row: Row, context: _Context) -> tuple[str, str]:
    """Class and reason of one edge: what is no policy matter, what was not let through, gates."""
    for step in (_not_policy, _not_delivered, _not_sayable, _suspicious):
        found = step(row, context)
        if found is not None:
            return found
    return "wanted", "delivered"


def _int(row: Row, *names: str) -> int:
    return sum(int(row[name] or 0) for name in names)


def _not_policy(row: Row, _context: _Context) -> Found:
    types = {row["client_type"], row["server_type"]}
    if "health" in types:
        return "ignored", "the CNI's own health probe"
    if row["client_type"] == "host":
        return "ignored", "from the pod's own node (kubelet probes), which policy always lets in"
    if not types & {"workload", "gone", "remote"}:
        return "ignored", "no pod at either end"
    for role in ("client", "server"):
        if _is_group_address(row[f"{role}_address"]):
            return "ignored", "multicast or broadcast"
    return None


def _is_group_address(address: object) -> bool:
    if address is None:
        return False
    parsed = ipaddress.ip_address(str(address))
    return parsed.is_multicast or str(address) == "255.255.255.255" or parsed.is_unspecified


def _not_delivered(row: Row, context: _Context) -> Found:
    allowed = _int(row, "allowed_client", "allowed_server", "allowed_neither")
    if _int(row, "denied_server") and not _int(row, "allowed_server"):
        return "denied", "policy denied it at the server"
    if not allowed and _int(row, "denied_client"):
        return "denied", "policy denied it at the client"
    if _int(row, "audited"):
        if context.audited:
            return None
        return "review", "policy would deny it (audit mode): a gap in the policy, or an attack"
    if allowed:
        return None
    if _int(row, "unclear"):
        server = (*(row[c] for c in SERVER), row["protocol"], row["port"])
        if server in context.listening:
            return None
        return "review", "which end began cannot be told"
    if _int(row, "pending"):
        return "review", "seen before any decision only, never delivered"
    if _int(row, "dropped"):
        return "ignored", "dropped for another reason than policy"
    return "ignored", "no record says that it was let through"


def _not_sayable(row: Row, _context: _Context) -> Found:
    for role in ("client", "server"):
        reason = _UNNAMED.get(str(row[f"{role}_type"]))
        if reason is not None:
            return "review", f"{role}: {reason}"
        if row[f"{role}_type"] != "workload" and row[f"{role}_address"] is None:
            return "review", f"{role}: the log gives no address"
    if row["protocol"] is None:
        return "review", "the log does not say the protocol"
    if row["protocol"] in PORT_PROTOCOLS and row["port"] is None:
        return "review", "the log does not say the port (aggregated away)"
    return None


def _suspicious(row: Row, context: _Context) -> Found:
    if row["server_address"] in METADATA and row["port"] != 53:
        return "review", "the cloud's metadata service gives out credentials"
    failed = _int(row, "refused") > 0 and not _int(row, "answered")
    if not _int(row, "quiet_hours"):
        if failed:
            return "review", "part of a scan: its client failed at many targets in the same hour"
        if _int(row, "connections") <= PROBE_RECORDS:
            return "review", "seen only while its client scanned"
    if context.answers_visible and failed and row["protocol"] == "TCP" and _int(row, "hours") == 1:
        return "review", "an attempt in one hour only that was never answered"
    return None
