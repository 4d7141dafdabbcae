"""Flow logs of Calico Open Source (3.30+) -> FLOWS, in the three ways in which they are met.

- Whisker: one record a line, or `data: {...}` lines of its event stream, which ends with an
  `error: ...` line on failure (whisker-backend/pkg/apis/v1/flows.go).
- Goldmane's gRPC as proto3 JSON, which grpcurl prints: `flow.Key` in lowerCamelCase, enums by name,
  64-bit numbers as text (goldmane/proto/api.proto).
- Goldmane's emitter: `Key` in snake_case, enums as numbers (goldmane/pkg/emitter/emitter.go).

No form has addresses or source ports. Zero values are left out; `-`, "" and null mean "not set".
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from ingest.batch import Batch, Gap, Lines
from ingest.calico_rows import (
    DEFAULT_CLUSTER,
    Row,
    Rows,
    counter,
    end,
    own_labels,
    port_number,
    protocol,
    reporter,
    unset,
    verdict,
)
from ingest.values import MICROSECONDS, UnreadableError, check_keys, instant, lines, text
from ingest.wrappers import unwrapped

Enum = str | int | None
Time = str | int | float | None
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LATEST = 1 << 36  # seconds; a time in milliseconds lies above
# Fields of server-sent events other than `data`; a line that begins with a colon is a comment.
_STREAM_FIELDS = (b":", b"event:", b"id:", b"retry:")

# goldmane/proto/api.proto
_ACTIONS = {1: "Allow", 2: "Deny", 3: "Pass"}
_REPORTERS = {1: "Src", 2: "Dst"}
_TYPES: dict[str | int, str] = {1: "pod", 2: "hostendpoint", 3: "set", 4: "outside",
          "WorkloadEndpoint": "pod", "HostEndpoint": "hostendpoint", "NetworkSet": "set",
          "Network": "outside", "wep": "pod", "hep": "hostendpoint", "ns": "set",
          "net": "outside"}  # fmt: skip
_KINDS = {1: "CalicoNetworkPolicy", 2: "GlobalNetworkPolicy", 3: "StagedNetworkPolicy",
          4: "StagedGlobalNetworkPolicy", 5: "StagedKubernetesNetworkPolicy", 6: "NetworkPolicy",
          7: "ClusterNetworkPolicyAdminTier", 8: "ClusterNetworkPolicyBaselineTier",
          9: "Profile", 10: "EndOfTier"}  # fmt: skip
# What Whisker writes in place of `pub` and `pvt`.
_NETWORKS = {"PUBLIC NETWORK": "pub", "PRIVATE NETWORK": "pvt"}


class Hit(msgspec.Struct, gc=False):
    """A policy that a connection met: goldmane.PolicyHit."""

    kind: Enum = None
    name: str | None = None
    namespace: str | None = None
    tier: str | None = None
    action: Enum = None
    policy_index: int = 0
    rule_index: int = 0
    trigger: Hit | None = None


class Policies(msgspec.Struct, gc=False):
    """goldmane.PolicyTrace under both of its names; pending hits decide nothing."""

    enforced: list[Hit] | None = None
    enforced_policies: list[Hit] | None = None


class Record(msgspec.Struct, gc=False):
    """A flow with its key beside its counters, keys as in api.proto."""

    start_time: Time = None
    end_time: Time = None
    action: Enum = None
    reporter: Enum = None
    proto: str | int | None = None
    protocol: str | int | None = None
    source_type: Enum = None
    source_namespace: str | None = None
    source_name: str | None = None
    source_labels: list[str] | str | None = None
    dest_type: Enum = None
    dest_namespace: str | None = None
    dest_name: str | None = None
    dest_labels: list[str] | str | None = None
    dest_port: int | str | None = None
    dest_service_namespace: str | None = None
    dest_service_name: str | None = None
    policies: Policies | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    packets_in: int | None = None
    packets_out: int | None = None
    num_connections_started: int | None = None


def decode(line: bytes) -> Record | str:
    """The line's record, or why the line holds none.

    Raises:
        UnreadableError: it is JSON, but no flow of Goldmane, or has a key twice.
        msgspec.DecodeError: it is no JSON, or a value has the wrong type.
    """
    inner = unwrapped(line.removeprefix(b"data:"))
    if inner.startswith(_STREAM_FIELDS):
        return "stream field"
    if inner.startswith(b"error:"):
        return "stream error"
    plain = msgspec.json.decode(inner)
    check_keys(inner)
    if isinstance(plain, dict):
        plain = plain.get("result", plain)  # grpc-gateway wraps each message of a stream
    plain = _snake(plain)
    if isinstance(plain, dict) and isinstance(plain.get("flow"), dict):
        plain = plain["flow"]
    if not isinstance(plain, dict):
        raise UnreadableError("not a flow record", "no object of Goldmane")
    key = plain.get("key")
    record = {**plain, **key} if isinstance(key, dict) else plain
    if "source_name" not in record and "dest_name" not in record:
        raise UnreadableError("not a flow record", "neither source_name nor dest_name")
    if "source_name_aggr" in record or "dest_name_aggr" in record:
        raise UnreadableError("not a flow record", "a record of Calico Enterprise")
    return msgspec.convert(record, Record, strict=False)


def _snake(value: Any) -> Any:
    """Keys as in api.proto: `sourceName` and `Key` become `source_name` and `key`."""
    if isinstance(value, dict):
        return {_HUMP.sub("_", key).lower(): _snake(item) for key, item in value.items()}
    return [_snake(item) for item in value] if isinstance(value, list) else value


def _word(value: Enum, words: dict[int, str]) -> str | None:
    value = _number(value)
    return words.get(value, str(value)) if isinstance(value, int) else value


def _time(value: Time, name: str) -> int | None:
    """Microseconds of unix seconds, as number or text, or of an RFC 3339 time; null where unset."""
    if value is None or value in ("", 0, "0"):
        return None
    if isinstance(value, str) and not value.isdecimal():
        return instant(value)
    seconds = float(value)
    if not 0 < seconds < _LATEST:
        raise UnreadableError("unreadable time", f"{name} is {value!r}"[:200])
    return int(seconds * MICROSECONDS)


def _labels(value: list[str] | str | None) -> str | None:
    """Labels as a list, or as Whisker joins them: `a=b | c=d`."""
    items = value.split(" | ") if isinstance(value, str) else value or ()
    return own_labels(item.strip() for item in items if item.strip() not in ("", "-"))


def _end(
    said: Enum, namespace: str | None, name: str | None, labels: str | None
) -> tuple[str | None, ...]:
    """The values of an end. Whisker leaves its type out: then names and labels must tell."""
    kind = _TYPES.get(_number(said) or 0)
    name = _NETWORKS.get(name or "", name)
    if kind is None and name in ("pub", "pvt") and not unset(namespace):
        kind = "outside"
    return end(kind, namespace, None, name, labels)


def _number(value: Enum) -> Enum:
    """An enum's number, also where it is written as text."""
    is_number = isinstance(value, str) and len(value) < 10 and value.isdecimal()
    return int(value or 0) if is_number else value


def _hit(hit: Hit) -> str:
    """A hit as Calico 3.32 writes it: `index|tier|kind:namespace/name|action|rule`.

    At the end of a tier the policy that selected the endpoint, one of several, is the trigger.
    """
    named = hit.trigger if _word(hit.kind, _KINDS) == "EndOfTier" and hit.trigger else hit
    kind = _PREFIXES.get(_word(named.kind, _KINDS) or "", "")
    name = f"{named.namespace}/{named.name}" if named.namespace else named.name or ""
    parts = (hit.policy_index, hit.tier or named.tier or "", f"{kind}{name}",
             (_word(hit.action, _ACTIONS) or "").lower(), hit.rule_index)  # fmt: skip
    return "|".join(map(str, parts))


_PREFIXES = {
    "CalicoNetworkPolicy": "np:",
    "GlobalNetworkPolicy": "gnp:",
    "NetworkPolicy": "knp:",
    "StagedNetworkPolicy": "snp:",
    "StagedGlobalNetworkPolicy": "sgnp:",
    "StagedKubernetesNetworkPolicy": "sknp:",
    "ClusterNetworkPolicy": "kcnp:",
    "ClusterNetworkPolicyAdminTier": "kcnp:",
    "ClusterNetworkPolicyBaselineTier": "kcnp:",
    "AdminNetworkPolicy": "kanp:",
    "BaselineAdminNetworkPolicy": "kbanp:",
    "Profile": "pro:",
}


def _row(record: Record, cluster: str | None) -> Row | str:
    """The record's row, or why it is none."""
    said = _word(record.reporter, _REPORTERS)
    action = _word(record.action, _ACTIONS)
    if said is None and action is None:
        return "record without a verdict"
    # Zero values are left out, and the emitter's example has no reporter: 0 is unspecified.
    reported = reporter(said)
    if reported is None:
        return "host transit (fwd)"
    began, ended = _time(record.start_time, "start_time"), _time(record.end_time, "end_time")
    if began is None and ended is None:
        return "record without a time"
    into, out = counter(record.bytes_in or 0), counter(record.bytes_out or 0)
    answers = counter(record.packets_in if reported == "src" else record.packets_out) or 0
    hits = record.policies and (record.policies.enforced or record.policies.enforced_policies)
    if verdict(action) == "denied" and not (record.packets_in or record.packets_out
                                            or record.num_connections_started):  # fmt: skip
        # Felix before projectcalico/calico #13185 exports an ended denial again at each flush.
        return "stale deny"
    return Row(
        format="goldmane",
        time=began if began is not None else ended or 0,
        end_time=ended,
        cluster=text(cluster or DEFAULT_CLUSTER),
        node=None,
        reporter=reported,
        verdict=verdict(action),
        is_reply=False,
        established=answers > 0,
        protocol=protocol(record.proto or record.protocol),
        src=_end(record.source_type, record.source_namespace, record.source_name,
                 _labels(record.source_labels)),
        dst=_end(record.dest_type, record.dest_namespace, record.dest_name,
                 _labels(record.dest_labels)),
        src_ip=None,
        dst_ip=None,
        src_port=None,
        dst_port=port_number(record.dest_port),
        dst_names=None,
        service_namespace=unset(record.dest_service_namespace),
        service=unset(record.dest_service_name),
        policies=lines(map(_hit, hits or ())),
        connections=counter(record.num_connections_started) or 1,
        bytes_to_dst=out if reported == "src" else into,
        bytes_to_src=into if reported == "src" else out,
    )  # fmt: skip


def parse(block: bytes, *, cluster: str | None = None) -> Batch:
    """Read whole lines of Whisker, of grpcurl with one record a line, or of Goldmane's emitter.

    Args:
        block: bytes of whole lines; the last may lack its line break.
        cluster: name of the Kubernetes cluster; no form says it.

    Returns:
        Batch; one row of FLOWS for each record. An `error:` line of an event stream is a gap.
    """
    rows, read, gaps = Rows(), Lines(block), list[Gap]()

    def add(_: int, line: bytes) -> str | None:
        found = decode(line)
        row = found if isinstance(found, str) else _row(found, cluster)
        if not isinstance(row, str):
            rows.add(row)
            return None
        if row == "stream error":
            said = json.dumps(line.partition(b"error:")[2].strip().decode(errors="replace"))[1:-1]
            place = text(cluster or DEFAULT_CLUSTER)
            gaps.append(Gap(place, None, None, None, "stream_error", detail=text(said[:2_000])))
        return row

    read.read(add)
    return Batch(rows.table(), dict(read.skipped), sorted(read.rejects), read.count, gaps=gaps)
