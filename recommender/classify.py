"""Which edges are wanted, and why the others are not: one class and one sentence an edge.

wanted   delivered, by every report of it; becomes a rule
review   waits for a person: nothing is learned from it until somebody decides
denied   policy stopped it; never evidence
ignored  no policy matter: the CNI's own probes, a pod's own node, losses on the way
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from recommender.frames import Row, plain, records
from recommender.hours import SERVER
from recommender.inventory import Inventory
from recommender.ports import PORT_PROTOCOLS

# A scan that finds a door open says little through it.
PROBE_RECORDS = 10
# Instance credentials are had there: AWS, Azure, GCP, OpenStack (169.254.169.254), AWS over IPv6,
# Alibaba (100.100.100.200).
METADATA = frozenset({"169.254.169.254", "fd00:ec2::254", "100.100.100.200"})

# Unreachable, quench, redirect, exceeded, parameter; and of IPv6 neighbour discovery (RFC 792,
# RFC 4443, RFC 4861), which no policy decides.
_ICMP_ERRORS = {"ICMP": (3, 4, 5, 11, 12), "ICMPv6": (1, 2, 3, 4, *range(133, 138))}

_UNNAMED = {
    "set": "the log gives no address, only a set that a NetworkPolicy cannot name",
    "gone": "no workload of the inventory owns this pod; it may be gone",
    "unresolved": "the log does not say who one end is",
    "service": "a Service address for which the inventory shows no backend on this port",
    "some-node": "a node without an address",
}


def classified(edges: pd.DataFrame, inventory: Inventory, *, audited: bool = False) -> pd.DataFrame:
    """Give every edge its class.

    Args:
        edges: of all hours, as `hours.folded` returns them.
        inventory: of the same cluster.
        audited: take traffic that policy would have denied (audit mode) as wanted.

    Returns:
        The edges with `class` and `reason`.
    """
    plainly = _plainly_wanted(edges)
    odd = records(edges[~plainly])
    context = _Context(_listening(edges, inventory), _answers_visible(edges), audited)
    verdicts = [_verdict(row, context) for row in odd]
    out = edges.assign(**{"class": "wanted", "reason": "delivered"})
    for column, found in (("class", 0), ("reason", 1)):
        values = out[column].to_numpy(object, copy=True)
        values[~plainly] = [verdict[found] for verdict in verdicts]
        out[column] = pd.Series(values, out.index, dtype=object)
    return out


def _plainly_wanted(edges: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Edges of which `_verdict` has nothing to say, told at once: nearly all of a large log."""
    found = np.ones(len(edges), bool)
    for role in ("client", "server"):
        found &= (edges[f"{role}_type"] == "workload").to_numpy(bool)
    found &= edges[["protocol", "port"]].notna().all(axis=1).to_numpy(bool)
    found &= ~edges["protocol"].isin([*_ICMP_ERRORS]).to_numpy(bool)
    found &= _count(edges, "allowed_client", "allowed_server", "allowed_neither") > 0
    found &= _count(edges, "denied_client", "denied_server", "audited", "refused") == 0
    return found & (_count(edges, "quiet_hours") > 0)


def _count(edges: pd.DataFrame, *names: str) -> npt.NDArray[np.int64]:
    total = np.zeros(len(edges), np.int64)
    for name in names:
        total += edges[name].to_numpy(np.int64)
    return total


def _listening(edges: pd.DataFrame, inventory: Inventory) -> frozenset[tuple[object, ...]]:
    """(server, protocol, port) that a clear record or a declared container port shows.

    Only what edges with unclear records call is looked up, so only then are the rest looked at.
    """
    if not (_count(edges, "unclear") > 0).any():
        return frozenset()
    clear = _count(edges, "allowed_client", "allowed_server", "allowed_neither") > 0
    named = plain(edges.loc[clear, [*SERVER, "protocol", "port"]])
    found: set[tuple[object, ...]] = set(named.itertuples(index=False, name=None))
    for key, workload in inventory.workloads.items():
        for protocol, port, _ in workload.ports:
            found.add(("workload", key.namespace, key.kind, key.name, None, None, protocol, port))
    return frozenset(found)


def _answers_visible(edges: pd.DataFrame) -> bool:
    """Whether this log shows answers at all, so that the want of one says something."""
    told = (edges["protocol"] == "TCP").to_numpy(bool) & (_count(edges, "answered", "refused") > 0)
    answered = int((_count(edges, "answered")[told] > 0).sum())
    return bool(told.any()) and answered >= told.sum() / 2


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
    if row["port"] in _ICMP_ERRORS.get(str(row["protocol"]), ()):
        return "ignored", "an ICMP error, which belongs to the connection that it speaks of"
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
        named = row[f"{role}_type"] in ("workload", "remote")
        if not named and row[f"{role}_address"] is None:
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
