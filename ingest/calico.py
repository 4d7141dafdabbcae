"""Calico Enterprise and Cloud flow logs -> FLOWS: one JSON object a line, as in flows.log.

The same records come out of Elasticsearch, each inside `_source` of a hit. Aggregation levels 0 to
3 leave out more and more: source port, then addresses and pod names, then the destination port.
"""

from __future__ import annotations

import msgspec

from ingest.batch import Batch, Lines
from ingest.calico_rows import (
    DEFAULT_CLUSTER,
    Row,
    Rows,
    counter,
    end,
    is_odd,
    is_staged,
    own_labels,
    port_number,
    protocol,
    reporter,
    unset,
    verdict,
)
from ingest.values import MICROSECONDS, UnreadableError, check_keys, lines, text
from ingest.wrappers import unwrapped

Number = int | float | None
_TYPES = {"wep": "pod", "hep": "hostendpoint", "ns": "set", "net": "outside"}
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
        UnreadableError: it is JSON, but no record of Calico Enterprise, or has a key twice.
        msgspec.DecodeError: it is no JSON, or a value has the wrong type.
    """
    inner = unwrapped(line)
    record = _RECORD.decode(inner)
    if record.source_name_aggr is None and record.dest_name_aggr is None:
        raise UnreadableError("not a flow record", "neither source_name_aggr nor dest_name_aggr")
    check_keys(inner)
    return record


def _skip(record: Record, reporter: str | None) -> str | None:
    if reporter is None:
        return "host transit (fwd)"
    counted = (record.packets_in, record.packets_out, record.num_flows_started,
               record.num_flows_completed)  # fmt: skip
    if record.action == "deny" and counted == (0, 0, 0, 0):
        # Felix before projectcalico/calico #13185 exports an ended denial again at each flush.
        return "stale deny"
    if record.start_time is None and record.end_time is None:
        return "record without a time"  # it can be placed in no window
    return None


def _time(value: Number, name: str) -> int:
    if value is None or not 0 < value < _LATEST:
        raise UnreadableError("unreadable time", f"{name} is {value!r}"[:200])
    return int(value * MICROSECONDS)


def _labels(value: Labels | list[str] | None) -> str | None:
    return own_labels((value.labels if isinstance(value, Labels) else value) or ())


def _policies(policies: Policies | None) -> str | None:
    """The hits that were enforced; where the log mixes them with staged ones, without those."""
    if policies is None:
        return None
    if policies.enforced_policies is not None:
        return lines(policies.enforced_policies)
    return lines(hit for hit in policies.all_policies or () if not is_staged(hit))


def _domains(value: list[str] | str | None) -> str | None:
    items = [value] if isinstance(value, str) else value or ()
    return lines(item.rstrip(".") for item in items if item != "-")


def _counts(record: Record, reporter: str) -> tuple[int, int | None, int | None, bool | None]:
    """Connections, bytes to the responder and to the initiator, and whether it answered."""
    connections = counter(record.num_flows_started) or counter(record.num_flows) or 1
    into, out = counter(record.bytes_in), counter(record.bytes_out)
    # `in` is towards the end that reports; an answer goes towards the initiator.
    answers = record.packets_in if reporter == "src" else record.packets_out
    established = None if answers is None else answers > 0
    if reporter == "src":
        return connections, out, into, established
    return connections, into, out, established


def _row(record: Record, cluster: str | None) -> Row | str:
    """The record's row, or why it is none."""
    if record.reporter is None and record.action is None:
        return "record without a verdict"  # cut down by whoever passed it on
    reported = reporter(record.reporter)
    skip = _skip(record, reported)
    if skip is not None:
        return skip
    assert reported is not None
    began = record.end_time if record.start_time is None else record.start_time
    source, destination = port_number(record.source_port), port_number(record.dest_port)
    connections, to_dst, to_src, established = _counts(record, reported)
    return Row(
        format="calico",
        time=_time(began, "start_time"),
        end_time=None if record.end_time is None else _time(record.end_time, "end_time"),
        cluster=text(cluster or unset(record.cluster) or DEFAULT_CLUSTER),
        node=unset(record.host),
        reporter=reported,
        verdict=verdict(record.action),
        is_reply=None if is_odd(source, destination) else False,
        established=established,
        protocol=protocol(record.proto),
        src=end(_TYPES.get(record.source_type or ""), record.source_namespace, record.source_name,
                record.source_name_aggr, _labels(record.source_labels)),
        dst=end(_TYPES.get(record.dest_type or ""), record.dest_namespace, record.dest_name,
                record.dest_name_aggr, _labels(record.dest_labels)),
        src_ip=unset(record.source_ip),
        dst_ip=unset(record.dest_ip),
        src_port=source,
        dst_port=destination,
        dst_names=_domains(record.dest_domains),
        service_namespace=unset(record.dest_service_namespace),
        service=unset(record.dest_service_name),
        policies=_policies(record.policies),
        connections=connections,
        bytes_to_dst=to_dst,
        bytes_to_src=to_src,
    )  # fmt: skip


def parse(block: bytes, *, cluster: str | None = None) -> Batch:
    """Read whole lines of Calico Enterprise's flows.log, or of hits of Elasticsearch.

    Args:
        block: bytes of whole lines; the last may lack its line break.
        cluster: name of the Kubernetes cluster, in place of what the lines say.

    Returns:
        Batch; one row of FLOWS for each record of a source or destination. Records that differ in
        their policies only (a policy changed inside the interval) hold the full counters each and
        stay apart: a sum over them counts twice, a maximum does not.
    """
    rows, read = Rows(), Lines(block)

    def add(_: int, line: bytes) -> str | None:
        row = _row(decode(line), cluster)
        if isinstance(row, str):
            return row
        rows.add(row)
        return None

    read.read(add)
    return Batch(rows.table(), dict(read.skipped), sorted(read.rejects), read.count)
