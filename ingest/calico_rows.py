"""What Calico's formats have in common: ends, labels, protocols, policy hits, and their rows.

`-`, "", null, 0 and absent all mean "not set". A record stands for an interval, not a packet: its
ends are initiator and responder already, its counters are those of the end that reports.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ingest.columns import Pool, flows_table
from ingest.values import UnreadableError, address, lines, port, text

DEFAULT_CLUSTER = "default"

_VERDICTS = {"allow": "allowed", "deny": "denied"}
_ADDRESS_SPACES = {"pub": "public", "pvt": "private"}
# IANA protocol numbers; Felix writes names for those it knows, else the number as text.
_PROTOCOLS = {
    "1": "ICMP",
    "6": "TCP",
    "17": "UDP",
    "58": "ICMPv6",
    "132": "SCTP",
    "icmp6": "ICMPv6",
    "icmpv6": "ICMPv6",
}
# Calico's own labels, on some records of a workload and not on others.
_OWN_LABELS = ("projectcalico.org/", "pcns.", "pcsa.")
_END = ("type", "namespace", "pod", "pod_prefix", "workload_kind", "workload", "labels", "set")


class Row(NamedTuple):
    """One record, as both formats give it; ends are values of `end`."""

    format: str
    time: int
    end_time: int | None
    cluster: str | None
    node: str | None
    reporter: str
    verdict: str
    is_reply: bool | None
    established: bool | None
    protocol: str | None
    src: tuple[str | None, ...]
    dst: tuple[str | None, ...]
    src_ip: str | None
    dst_ip: str | None
    src_port: int | None
    dst_port: int | None
    dst_names: str | None
    service_namespace: str | None
    service: str | None
    policies: str | None
    connections: int
    bytes_to_dst: int | None
    bytes_to_src: int | None


def unset(value: str | None) -> str | None:
    """The value, or null where it is one of Calico's marks for "not set".

    Raises:
        UnreadableError: it holds a control character.
    """
    return None if value == "-" else text(value)


def verdict(action: str | None) -> str:
    """`allowed` or `denied`.

    Raises:
        UnreadableError: it is neither. `pass` hands over to the next tier: it is never the outcome
            of a connection.
    """
    found = _VERDICTS.get((action or "").lower())
    if found is None:
        raise UnreadableError("unknown action", repr(action)[:200])
    return found


def reporter(said: str | None) -> str | None:
    """The reporting end, `src` or `dst`; null for a host that only forwarded.

    Raises:
        UnreadableError: it is none of these.
    """
    parts = {part.strip() for part in (said or "").lower().split(",")}
    for found in ("src", "dst"):
        if found in parts:
            return found
    if "fwd" in parts:
        return None
    raise UnreadableError("unknown reporter", repr(said)[:200])


def port_number(value: int | str | None) -> int | None:
    """The port; null where it is not set.

    Raises:
        UnreadableError: it is no port.
    """
    if isinstance(value, str):
        if not value or value == "-":
            return None
        if not (value.isascii() and value.isdecimal() and len(value) < 10):
            raise UnreadableError("bad port", repr(value)[:200])
    return port(int(value or 0))


def protocol(value: str | int | None) -> str | None:
    """The protocol in one word, however it was written."""
    said = unset(str(value)) if value else None
    return _PROTOCOLS.get(said.lower(), said.upper()) if said else None


def own_labels(items: Iterable[str]) -> str | None:
    """`key=value` lines without Calico's own; a value may be empty or hold a `=`."""
    return lines(item for item in items if not item.startswith(_OWN_LABELS))


def end(
    type_: str | None,
    namespace: str | None,
    name: str | None,
    aggregate: str | None,
    labels: str | None,
) -> tuple[str | None, ...]:
    """The values of an end: its type in the schema's word, else told from its names.

    Args:
        type_: pod, hostendpoint, set, outside, or null.
        namespace: as logged.
        name: of the pod, where it was not aggregated away.
        aggregate: generateName with a star, or the name of what is no pod.
        labels: as `own_labels` gives them.
    """
    namespace, name, aggregate = unset(namespace), unset(name), unset(aggregate)
    if type_ is None and namespace and (name or aggregate):
        type_ = "pod"
    pod, prefix, host, set_ = None, None, None, None
    if type_ == "pod":
        starred = aggregate is not None and aggregate.endswith("*")
        prefix = (aggregate or "")[:-1] or None if starred else None
        pod = name or (None if starred else aggregate)
    elif type_ == "hostendpoint":
        host = aggregate or name
    elif type_ == "set":
        set_ = aggregate or name
    else:
        set_ = _ADDRESS_SPACES.get(aggregate or "")
        type_ = type_ or ("outside" if set_ else None)
    kind = "HostEndpoint" if host else None
    return type_, namespace, pod, prefix, kind, host, labels, set_


def is_staged(hit: str) -> bool:
    """Whether a policy string names a staged policy, in any of its spellings."""
    name = [*hit.split("|", 3), "", ""][2]
    return "staged:" in name or name.startswith(("snp:", "sgnp:", "sknp:"))


def is_odd(source: int | None, destination: int | None) -> bool:
    """A service port that speaks to a client port: a late answer whose connection was forgotten."""
    return source is not None and source < 1024 and (destination or 0) >= 32_768


def counter(value: int | None) -> int | None:
    """The count.

    Raises:
        UnreadableError: it is negative or does not fit.
    """
    if value is None or 0 <= value < 1 << 63:
        return value
    raise UnreadableError("wrong type", f"a counter is {value}"[:200])


class Rows:
    """Rows of one block."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, ...]] = []
        self._ends = Pool(*_END)
        self._ips = Pool("ip")
        self._facts = Pool("format", "event", "cluster", "node", "reporter", "verdict", "is_reply",
                           "established", "protocol", "dst_names", "service_namespace", "service",
                           "policies")  # fmt: skip

    def add(self, row: Row) -> None:
        """Keep a row."""
        facts = self._facts.number(
            row.format, "record", row.cluster, row.node, row.reporter, row.verdict, row.is_reply,
            row.established, row.protocol, row.dst_names, row.service_namespace, row.service,
            row.policies,
        )  # fmt: skip
        numbers = (
            row.time, row.end_time, facts, self._ends.number(*row.src), self._ends.number(*row.dst),
            self._ips.number(address(row.src_ip)), self._ips.number(address(row.dst_ip)),
            row.src_port, row.dst_port, row.connections, row.bytes_to_dst, row.bytes_to_src,
        )  # fmt: skip
        self._rows.append(tuple(-1 if number is None else number for number in numbers))

    def table(self) -> pa.Table:
        """FLOWS."""
        (time, end_time, facts, src, dst, src_ip, dst_ip, src_port, dst_port, connections,
         bytes_to_dst, bytes_to_src) = np.array(self._rows, np.int64).reshape(-1, 12).T  # fmt: skip
        return flows_table(
            {
                "time": time,
                "end_time": end_time,
                **self._facts.columns(facts),
                **self._ends.columns(src, "src_"),
                **self._ends.columns(dst, "dst_"),
                **self._ips.columns(src_ip, "src_"),
                **self._ips.columns(dst_ip, "dst_"),
                "src_port": src_port,
                "dst_port": dst_port,
                "connections": connections,
                "bytes_to_dst": bytes_to_dst,
                "bytes_to_src": bytes_to_src,
            },
            len(self._rows),
        )
