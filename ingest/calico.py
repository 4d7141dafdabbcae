"""Calico Enterprise and Cloud flow logs -> FLOWS: one JSON object a line, as in flows.log.

A record stands for an interval, not a packet: its ends are initiator and responder already, its
counters are those of the end that reports. `-`, "", null, 0 and absent all mean "not set".
"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from ingest.batch import Batch, Lines
from ingest.columns import Pool, flows_table
from ingest.values import MICROSECONDS, UnreadableError, address, lines, port, text

DEFAULT_CLUSTER = "default"

Number = int | float | None
_TYPES = {"wep": "pod", "hep": "hostendpoint", "ns": "set", "net": "outside"}
_ADDRESS_SPACES = {"pub": "public", "pvt": "private"}
_VERDICTS = {"allow": "allowed", "deny": "denied"}
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
_LATEST = 1 << 36  # seconds; a start_time in milliseconds lies above


class Labels(msgspec.Struct, gc=False):
    """`source_labels` and `dest_labels`."""

    labels: list[str] | None = None


class Policies(msgspec.Struct, gc=False):
    """Policy hits, `index|tier|name|action|rule`; pending and transit ones decide nothing here."""

    all_policies: list[str] | None = None
    enforced_policies: list[str] | None = None


class Record(msgspec.Struct, gc=False):
    """One flow log record; field names are Felix's."""

    start_time: Number = None
    end_time: Number = None
    action: str | None = None
    reporter: str | None = None
    host: str | None = None
    cluster: str | None = None
    source_type: str | None = None
    source_namespace: str | None = None
    source_name: str | None = None
    source_name_aggr: str | None = None
    source_labels: Labels | list[str] | None = None
    source_ip: str | None = None
    source_port: int | str | None = None
    dest_type: str | None = None
    dest_namespace: str | None = None
    dest_name: str | None = None
    dest_name_aggr: str | None = None
    dest_labels: Labels | list[str] | None = None
    dest_ip: str | None = None
    dest_port: int | str | None = None
    dest_domains: list[str] | str | None = None
    dest_service_namespace: str | None = None
    dest_service_name: str | None = None
    proto: str | int | None = None
    policies: Policies | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    packets_in: int | None = None
    packets_out: int | None = None
    num_flows: int | None = None
    num_flows_started: int | None = None
    num_flows_completed: int | None = None


_RECORD = msgspec.json.Decoder(Record, strict=False)


def decode(line: bytes) -> Record:
    """The line's record.

    Raises:
        UnreadableError: it is JSON, but no record of Calico Enterprise.
        msgspec.DecodeError: it is no JSON, or a value has the wrong type.
    """
    record = _RECORD.decode(line)
    if record.source_name_aggr is None and record.dest_name_aggr is None:
        raise UnreadableError("not a flow record", "neither source_name_aggr nor dest_name_aggr")
    return record


def _set(value: str | None) -> str | None:
    return None if value == "-" else text(value)


def _verdict(record: Record) -> str:
    verdict = _VERDICTS.get((record.action or "").lower())
    if verdict is None:
        # `pass` hands over to the next tier: it is never the outcome of a connection.
        raise UnreadableError("unknown action", repr(record.action)[:200])
    return verdict


def _reporter(record: Record) -> str | None:
    """The reporting end, `src` or `dst`; null for a host that only forwarded."""
    said = {part.strip() for part in (record.reporter or "").lower().split(",")}
    for end in ("src", "dst"):
        if end in said:
            return end
    if "fwd" in said:
        return None
    raise UnreadableError("unknown reporter", repr(record.reporter)[:200])


def _skip(record: Record, reporter: str | None) -> str | None:
    if reporter is None:
        return "host transit (fwd)"
    counted = (record.packets_in, record.packets_out, record.num_flows_started,
               record.num_flows_completed)  # fmt: skip
    if record.action == "deny" and counted == (0, 0, 0, 0):
        # Felix before projectcalico/calico #13185 exports an ended denial again at each flush.
        return "stale deny"
    return None


def _time(value: Number, name: str) -> int:
    if value is None or not 0 < value < _LATEST:
        raise UnreadableError("unreadable time", f"{name} is {value!r}"[:200])
    return int(value * MICROSECONDS)


def _port(value: int | str | None) -> int | None:
    if isinstance(value, str):
        if not value or value == "-":
            return None
        if not (value.isascii() and value.isdecimal() and len(value) < 10):
            raise UnreadableError("bad port", repr(value)[:200])
    return port(int(value or 0))


def _protocol(value: str | int | None) -> str | None:
    said = _set(str(value)) if value else None
    return _PROTOCOLS.get(said.lower(), said.upper()) if said else None


def _labels(value: Labels | list[str] | None) -> str | None:
    """`key=value` lines without Calico's own; a value may be empty or hold a `=`."""
    items = value.labels if isinstance(value, Labels) else value
    return lines(item for item in items or () if not item.startswith(_OWN_LABELS))


def _end(
    kind: str | None,
    namespace: str | None,
    name: str | None,
    aggregate: str | None,
    labels: Labels | list[str] | None,
) -> tuple[str | None, ...]:
    """The values of _END."""
    type_ = _TYPES.get(kind or "")
    namespace, name, aggregate = _set(namespace), _set(name), _set(aggregate)
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
    return type_, namespace, pod, prefix, kind, host, _labels(labels), set_


def _policies(policies: Policies | None) -> str | None:
    """The hits that were enforced; where the log mixes them with staged ones, without those."""
    if policies is None:
        return None
    if policies.enforced_policies is not None:
        return lines(policies.enforced_policies)
    return lines(hit for hit in policies.all_policies or () if not _is_staged(hit))


def _is_staged(hit: str) -> bool:
    name = [*hit.split("|", 3), "", ""][2]
    return "staged:" in name or name.startswith(("snp:", "sgnp:", "sknp:"))


def _is_odd(source: int | None, destination: int | None) -> bool:
    """A service port that speaks to a client port: a late answer whose connection was forgotten."""
    return source is not None and source < 1024 and (destination or 0) >= 32_768


def _domains(value: list[str] | str | None) -> str | None:
    items = [value] if isinstance(value, str) else value or ()
    return lines(item.rstrip(".") for item in items if item != "-")


def _counter(value: int | None) -> int | None:
    if value is None or 0 <= value < 1 << 63:
        return value
    raise UnreadableError("wrong type", f"a counter is {value}"[:200])


def _counts(record: Record, reporter: str) -> tuple[int, int | None, int | None, bool | None]:
    """Connections, bytes to the responder and to the initiator, and whether it answered."""
    connections = _counter(record.num_flows_started) or _counter(record.num_flows) or 1
    into, out = _counter(record.bytes_in), _counter(record.bytes_out)
    # `in` is towards the end that reports; an answer goes towards the initiator.
    answers = record.packets_in if reporter == "src" else record.packets_out
    established = None if answers is None else answers > 0
    if reporter == "src":
        return connections, out, into, established
    return connections, into, out, established


class _Reader:
    """Rows of one block."""

    def __init__(self, cluster: str | None) -> None:
        self._cluster = cluster
        self.rows: list[tuple[Any, ...]] = []
        self.ends = Pool(*_END)
        self.places = Pool("cluster", "node")
        self.ips = Pool("ip")
        self.facts = Pool("format", "event", "reporter", "verdict", "is_reply", "established",
                          "protocol", "service_namespace", "service", "policies",
                          "dst_names")  # fmt: skip

    def add(self, _: int, line: bytes) -> str | None:
        """Keep the line's flow, or return why it is none."""
        record = decode(line)
        if record.reporter is None and record.action is None:
            return "record without a verdict"  # cut down by whoever passed it on
        reporter = _reporter(record)
        reason = _skip(record, reporter)
        if reporter is None or reason is not None:
            return reason
        source, destination = _port(record.source_port), _port(record.dest_port)
        connections, to_dst, to_src, established = _counts(record, reporter)
        src = _end(record.source_type, record.source_namespace, record.source_name,
                   record.source_name_aggr, record.source_labels)  # fmt: skip
        dst = _end(record.dest_type, record.dest_namespace, record.dest_name,
                   record.dest_name_aggr, record.dest_labels)  # fmt: skip
        cluster = self._cluster or _set(record.cluster) or DEFAULT_CLUSTER
        if record.start_time is None and record.end_time is None:
            return "record without a time"  # it can be placed in no window
        began = record.end_time if record.start_time is None else record.start_time
        start = _time(began, "start_time")
        facts = self.facts.number(
            "calico",
            "record",
            reporter,
            _verdict(record),
            None if _is_odd(source, destination) else False,
            established,
            _protocol(record.proto),
            _set(record.dest_service_namespace),
            _set(record.dest_service_name),
            _policies(record.policies),
            _domains(record.dest_domains),
        )
        self.rows.append(
            (
                start,
                None if record.end_time is None else _time(record.end_time, "end_time"),
                facts,
                self.places.number(text(cluster), _set(record.host)),
                self.ends.number(*src),
                self.ends.number(*dst),
                self.ips.number(address(_set(record.source_ip))),
                self.ips.number(address(_set(record.dest_ip))),
                source,
                destination,
                connections,
                to_dst,
                to_src,
            )
        )
        return None


def parse(block: bytes, *, cluster: str | None = None) -> Batch:
    """Read whole lines of Calico Enterprise's flows.log.

    Args:
        block: bytes of whole lines; the last may lack its line break.
        cluster: name of the Kubernetes cluster, in place of what the lines say.

    Returns:
        Batch; one row of FLOWS for each record of a source or destination. Records that differ in
        their policies only (a policy changed inside the interval) hold the full counters each and
        stay apart: a sum over them counts twice, a maximum does not.
    """
    reader, read = _Reader(cluster), Lines(block)
    read.read(reader.add)
    return Batch(_table(reader), dict(read.skipped), read.rejects, read.count)


def _table(reader: _Reader) -> pa.Table:
    columns = list(zip(*reader.rows, strict=True)) or [()] * 13
    (time, end_time, facts, places, src, dst, src_ip, dst_ip, src_port, dst_port, connections,
     bytes_to_dst, bytes_to_src) = columns  # fmt: skip
    return flows_table(
        {
            "time": time,
            "end_time": end_time,
            **reader.facts.columns(facts),
            **reader.places.columns(places),
            **reader.ends.columns(src, "src_"),
            **reader.ends.columns(dst, "dst_"),
            **reader.ips.columns(src_ip, "src_"),
            **reader.ips.columns(dst_ip, "dst_"),
            "src_port": src_port,
            "dst_port": dst_port,
            "connections": connections,
            "bytes_to_dst": bytes_to_dst,
            "bytes_to_src": bytes_to_src,
        },
        len(reader.rows),
    )
