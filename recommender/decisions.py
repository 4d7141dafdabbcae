"""What people decided of edges: `decisions.yaml`, kept beside the policies.

A decision accepts or rejects the edges that its two ends, protocol and port describe, says who
decided and why, and may end. An end is written as

    shop/cart, shop/Deployment/cart    a workload
    shop/app=cart,tier=web             the workloads of a namespace (`*`: of any) with these labels
    203.0.113.10, 203.0.113.0/24       addresses
    *                                  anything
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ingest.errors import FlowpolicyError
from recommender.errors import InventoryError
from recommender.frames import Row, records
from recommender.inventory import Inventory, WorkloadKey
from recommender.manifests import document_text, read_document

SCHEMA = "flowpolicy/decisions/1"
_FIELDS = ("decision", "client", "server", "protocol", "port", "who", "why", "until")
_NEEDED = ("decision", "client", "server", "who", "why")
_PROTOCOLS = ("TCP", "UDP", "SCTP", "ICMP", "ICMPv6")
# Ends that a policy can name; what is accepted must be sayable.
_SAYABLE = ("workload", "node", "host", "apiserver", "ingress", "address")


class DecisionError(FlowpolicyError):
    """A decisions file cannot be read or written, or a decision says nothing that can be used."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decided: `protocol` and `port` null mean any, `until` null for good.

    `until` is the last day on which it holds; `what` is accept or reject.
    """

    what: Literal["accept", "reject"]
    client: str
    server: str
    who: str
    why: str
    protocol: str | None = None
    port: int | None = None
    until: date | None = None

    @property
    def subject(self) -> tuple[str, str, str | None, int | None]:
        """The edges that it is of: a later decision on the same ones takes its place."""
        return self.client, self.server, self.protocol, self.port

    def __str__(self) -> str:
        port = "" if self.port is None else f" {self.port}"
        protocol = "" if self.protocol is None else f" {self.protocol}"
        return f"{self.what} {self.client} -> {self.server}{protocol}{port}"


def read_decisions(path: str | Path) -> tuple[Decision, ...]:
    """The decisions of a file, in its order.

    Raises:
        DecisionError: it cannot be read, is no decisions file, or a decision is incomplete.
    """
    if not Path(path).is_file():
        raise DecisionError(f"{path}: no such file; check the path, or write it with `decide`")
    try:
        body = read_document(path)
    except InventoryError as error:
        raise DecisionError(str(error)) from error
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise DecisionError(f"{path}: no decisions file; its first line is `schema: {SCHEMA}`")
    items = body.get("decisions") or []
    if not isinstance(items, list):
        raise DecisionError(f"{path}: `decisions` is no list; mend it")
    return tuple(_decision(item, f"{path}: decision {i + 1}") for i, item in enumerate(items))


def write_decisions(path: str | Path, decisions: Iterable[Decision]) -> None:
    """Write the file anew, as a whole or not at all.

    Raises:
        DecisionError: it cannot be written.
    """
    items = [_fields(decision) for decision in decisions]
    text = f"schema: {SCHEMA}\n" + document_text({"decisions": items})
    target = Path(path)
    fresh = target.with_name(f".{target.name}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(target)
    except OSError as error:
        raise DecisionError(f"{path}: {error.strerror}; choose another file") from error


def with_decision(decisions: Sequence[Decision], one: Decision) -> tuple[Decision, ...]:
    """The decisions with one more, which takes the place of an earlier one on the same edges.

    Raises:
        DecisionError: an end cannot be read, or it accepts anything from anywhere.
    """
    checked = _decision(_fields(one), str(one))
    return (*(d for d in decisions if d.subject != checked.subject), checked)


def decided(
    edges: pd.DataFrame, decisions: Sequence[Decision], inventory: Inventory, today: date
) -> tuple[pd.DataFrame, list[str]]:
    """Edges with the decisions followed, the last one on an edge first.

    Accepted edges become `wanted`, where a policy can name them; rejected ones `rejected`; where
    the decision has ended, edges return to `review`. What is no policy matter stays so.

    Args:
        edges: what `classify.classified` or `outliers.judged` returns.
        decisions: in the order of their file.
        inventory: labels of workloads.
        today: the day to hold them against; of the log, not of the clock, for equal bytes.

    Returns:
        The edges with `class` and `reason` changed, and a sentence for each decision that touches
        no edge or could not be followed.
    """
    rows = records(edges)
    outcomes = [(row["class"], row["reason"]) for row in rows]
    left = np.array([class_ != "ignored" for class_, _ in outcomes], bool)
    notes = []
    for decision in reversed(decisions):
        found = np.flatnonzero(left & _matched(rows, decision, inventory))
        if not len(found):
            notes.append(f"no edge to decide: {decision}")
        for i in found:
            left[i] = False
            if decision.what == "accept" and not is_sayable(rows[i]):
                notes.append(f"cannot be accepted, for no policy can name its ends: {decision}")
                continue
            outcomes[i] = _outcome(decision, today)
    classes, reasons = [class_ for class_, _ in outcomes], [reason for _, reason in outcomes]
    return edges.assign(**{"class": classes, "reason": reasons}), notes[::-1]


def none_rejected(rows: Sequence[Row], decisions: Iterable[Decision], inventory: Inventory) -> bool:
    """Whether no decision rejects any of the rows, be it for good or for a time that has ended."""
    rejections = (decision for decision in decisions if decision.what == "reject")
    return not any(_matched(rows, decision, inventory).any() for decision in rejections)


def _outcome(decision: Decision, today: date) -> tuple[str, str]:
    by = f"by {decision.who}: {decision.why}"
    if decision.until is not None and decision.until < today:
        return "review", f"{decision.what}ed until {decision.until} {by}; decide again"
    return ("wanted" if decision.what == "accept" else "rejected"), f"{decision.what}ed {by}"


def is_sayable(row: Row) -> bool:
    """Whether a policy can name both ends of an edge, its protocol and its port."""
    ends = all(
        row[f"{role}_type"] in _SAYABLE
        and (row[f"{role}_type"] == "workload" or row[f"{role}_address"] is not None)
        for role in ("client", "server")
    )
    portless = row["protocol"] in ("ICMP", "ICMPv6")
    return ends and row["protocol"] is not None and (portless or row["port"] is not None)


def _matched(
    rows: Sequence[Row], decision: Decision, inventory: Inventory
) -> npt.NDArray[np.bool_]:
    client = _matcher(decision.client, inventory)
    server = _matcher(decision.server, inventory)
    return np.array(
        [
            decision.protocol in (None, row["protocol"])
            and decision.port in (None, row["port"])
            and client(row, "client")
            and server(row, "server")
            for row in rows
        ],
        bool,
    )


def _matcher(end: str, inventory: Inventory) -> Any:
    """A function of (row, role): whether that end of the row is meant."""
    if end == "*":
        return lambda _row, _role: True
    if (block := _block(end)) is not None:
        return lambda row, role: (
            row[f"{role}_type"] != "workload"
            and row[f"{role}_address"] is not None
            and ipaddress.ip_address(row[f"{role}_address"]) in block
        )
    namespace, _, rest = end.partition("/")
    if "=" in rest:
        wanted = dict(term.split("=", 1) for term in rest.split(","))
        keys = {
            key
            for key, workload in inventory.workloads.items()
            if namespace in ("*", key.namespace)
            and wanted.items() <= workload.template_labels.items()
        }
        return lambda row, role: _key(row, role) in keys
    parts = rest.split("/")
    return lambda row, role: (
        row[f"{role}_namespace"] == namespace
        and [row[f"{role}_kind"], row[f"{role}_name"]][-len(parts) :] == parts
    )


def _key(row: Row, role: str) -> WorkloadKey:
    names = (row[f"{role}_namespace"], row[f"{role}_kind"], row[f"{role}_name"])
    return WorkloadKey(*map(str, names))


def _block(end: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(end)
    except ValueError:
        return None


def _fields(decision: Decision) -> dict[str, Any]:
    values = (
        decision.what,
        *decision.subject,
        decision.who,
        decision.why,
        decision.until,
    )
    return {k: v for k, v in zip(_FIELDS, values, strict=True) if v is not None}


def _decision(item: Any, place: str) -> Decision:
    if not isinstance(item, dict):
        raise DecisionError(f"{place} is no mapping; mend it")
    if unknown := sorted(set(map(str, item)) - set(_FIELDS)):
        raise DecisionError(f"{place}: unknown field {unknown[0]!r}; use {', '.join(_FIELDS)}")
    for name in _NEEDED:
        if not isinstance(item.get(name), str) or not item[name].strip():
            raise DecisionError(f"{place}: `{name}` is missing; say it")
    what, protocol, port, until = (item.get(k) for k in ("decision", "protocol", "port", "until"))
    if what not in ("accept", "reject"):
        raise DecisionError(f"{place}: {what!r} is neither accept nor reject; choose one")
    if protocol is not None and protocol not in _PROTOCOLS:
        raise DecisionError(f"{place}: protocol {protocol!r} is none of {', '.join(_PROTOCOLS)}")
    if port is not None and (type(port) is not int or not 0 <= port <= 65535):
        raise DecisionError(f"{place}: port {port!r} is no number from 0 to 65535; mend it")
    if until is not None and type(until) is not date:
        raise DecisionError(f"{place}: `until` {until!r} is no date; write it as 2026-12-31")
    for name in ("client", "server"):
        _check_end(item[name], f"{place}: {name}")
    if what == "accept" and "*" in (item["client"], item["server"]):
        raise DecisionError(f"{place} accepts anything at one end (*); name both ends")
    ends = (item["client"], item["server"])
    return Decision(what, *ends, item["who"], item["why"], protocol, port, until)


def _check_end(end: str, place: str) -> None:
    namespace, slash, rest = end.partition("/")
    terms = rest.split(",")
    selector = "=" in rest and all(term.find("=") > 0 for term in terms)
    name = "=" not in rest and slash and all(rest.split("/")) and rest.count("/") < 2
    if end != "*" and _block(end) is None and not (namespace and (selector or name)):
        raise DecisionError(
            f"{place} {end!r} is no end; write namespace/name, namespace/label=value, an address, "
            "a block of addresses, or *"
        )
