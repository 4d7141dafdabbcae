"""The JSON of Hubble flows as it is met: which keys, which enums, which wrappers.

Keys are those of Cilium's api/v1/flow/flow.proto; all are optional, for an exporter can mask any
field. Parts that repeat from line to line stay raw bytes (`msgspec.Raw`): the reader decodes each
distinct one once. Four other shapes become the usual one: lowerCamelCase keys, the flat form of
Hubble CLI 0.10, a line that a log shipper put as text under `log` or `message`, and a line behind
the prefix that container runtimes write.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from ingest.values import UnreadableError

NONE = msgspec.Raw()

Uint32 = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Enum = str | int | None


class Flags(msgspec.Struct, gc=False):
    """flow.TCPFlags, of which these tell something."""

    SYN: bool = False
    ACK: bool = False
    RST: bool = False


class Ports(msgspec.Struct, gc=False):
    """flow.TCP, flow.UDP and flow.SCTP."""

    source_port: int | None = None
    destination_port: int | None = None
    flags: Flags | None = None


class Icmp(msgspec.Struct, gc=False):
    """flow.ICMPv4 and flow.ICMPv6; type 0 is left out by protojson."""

    type: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0


class L4(msgspec.Struct, gc=False):
    """flow.Layer4, of which one is set."""

    TCP: Ports | None = None
    UDP: Ports | None = None
    SCTP: Ports | None = None
    ICMPv4: Icmp | None = None
    ICMPv6: Icmp | None = None
    VRRP: msgspec.Raw = NONE
    IGMP: msgspec.Raw = NONE


class Ip(msgspec.Struct, gc=False):
    """flow.IP; `source` is the address before any SNAT."""

    source: str | None = None
    destination: str | None = None


class Dns(msgspec.Struct, gc=False):
    """flow.DNS."""

    query: str | None = None
    ips: list[str] | None = None


class L7(msgspec.Struct, gc=False):
    """flow.Layer7. HTTP and Kafka are never decoded: URLs and headers can hold secrets."""

    type: Enum = None
    dns: Dns | None = None


class Aggregate(msgspec.Struct, gc=False):
    """flow.Aggregate: how many flows the line stands for."""

    ingress_flow_count: Uint32 = 0
    egress_flow_count: Uint32 = 0
    unknown_direction_flow_count: Uint32 = 0


class EventType(msgspec.Struct, gc=False):
    """flow.CiliumEventType; numbers of pkg/monitor/api."""

    type: Uint32 = 0
    sub_type: Uint32 = 0


class Flow(msgspec.Struct, gc=False):
    """flow.Flow. The last four are lowerCamelCase spellings, there to be noticed."""

    time: str | None = None
    verdict: Enum = None
    drop_reason: Uint32 | None = None
    drop_reason_desc: Enum = None
    IP: Ip | None = None
    l4: L4 | None = None
    source: msgspec.Raw = NONE
    destination: msgspec.Raw = NONE
    Type: Enum = None
    node_name: str | None = None
    source_names: msgspec.Raw = NONE
    destination_names: msgspec.Raw = NONE
    l7: L7 | None = None
    reply: bool | None = None
    is_reply: bool | None = None
    event_type: EventType | None = None
    source_service: msgspec.Raw = NONE
    destination_service: msgspec.Raw = NONE
    traffic_direction: Enum = None
    trace_observation_point: Enum = None
    trace_reason: Enum = None
    egress_allowed_by: msgspec.Raw = NONE
    ingress_allowed_by: msgspec.Raw = NONE
    egress_denied_by: msgspec.Raw = NONE
    ingress_denied_by: msgspec.Raw = NONE
    aggregate: Aggregate | None = None
    camel_node_name: msgspec.Raw = msgspec.field(default=NONE, name="nodeName")
    camel_event_type: msgspec.Raw = msgspec.field(default=NONE, name="eventType")
    camel_is_reply: msgspec.Raw = msgspec.field(default=NONE, name="isReply")
    camel_direction: msgspec.Raw = msgspec.field(default=NONE, name="trafficDirection")


class LostEvents(msgspec.Struct, gc=False):
    """flow.LostEvent."""

    num_events_lost: int = 1


class Line(msgspec.Struct, gc=False):
    """observer.GetFlowsResponse or ExportEvent, of which one key beside node and time is set."""

    flow: Flow | None = None
    lost_events: LostEvents | None = None
    node_status: msgspec.Raw = NONE
    agent_event: msgspec.Raw = NONE
    debug_event: msgspec.Raw = NONE
    node_name: str | None = None
    time: str | None = None
    camel_node_name: msgspec.Raw = msgspec.field(default=NONE, name="nodeName")


class Workload(msgspec.Struct, gc=False):
    """flow.Workload."""

    name: str | None = None
    kind: str | None = None


class Endpoint(msgspec.Struct, gc=False):
    """flow.Endpoint; `ID` is set where the endpoint lives on the reporting node."""

    ID: int | None = None
    identity: int | None = None
    cluster_name: str | None = None
    namespace: str | None = None
    labels: list[str] | None = None
    pod_name: str | None = None
    workloads: list[Workload] | None = None


class Service(msgspec.Struct, gc=False):
    """flow.Service."""

    name: str | None = None
    namespace: str | None = None


class Policy(msgspec.Struct, gc=False):
    """flow.Policy."""

    name: str | None = None
    namespace: str | None = None
    kind: str | None = None


VERDICTS = {
    1: "FORWARDED",
    2: "DROPPED",
    3: "ERROR",
    4: "AUDIT",
    5: "REDIRECTED",
    6: "TRACED",
    7: "TRANSLATED",
}
DIRECTIONS = {1: "INGRESS", 2: "EGRESS"}
FLOW_TYPES = {1: "L3_L4", 2: "L7", 3: "SOCK"}
L7_TYPES = {1: "REQUEST", 2: "RESPONSE", 3: "SAMPLE"}
TRACE_REASONS = {
    1: "NEW",
    2: "ESTABLISHED",
    3: "REPLY",
    4: "RELATED",
    5: "REOPENED",
    6: "SRV6_ENCAP",
    7: "SRV6_DECAP",
    8: "ENCRYPT_OVERLAY",
}
OBSERVATION_POINTS = {
    1: "TO_PROXY",
    2: "TO_HOST",
    3: "TO_STACK",
    4: "TO_OVERLAY",
    5: "FROM_ENDPOINT",
    6: "FROM_PROXY",
    7: "FROM_HOST",
    8: "FROM_STACK",
    9: "FROM_OVERLAY",
    10: "FROM_NETWORK",
    11: "TO_NETWORK",
    12: "FROM_CRYPTO",
    13: "TO_CRYPTO",
    101: "TO_ENDPOINT",
}
POLICY_DROPS = {133: "POLICY_DENIED", 181: "POLICY_DENY", 189: "AUTH_REQUIRED"}

# A newer Cilium writes values that this list lacks as numbers, older pipelines write numbers as
# text: lax decoding takes both.
_LINE = msgspec.json.Decoder(Line, strict=False)
_KINDS = {"flow", "lost_events", "node_status", "agent_event", "debug_event"}
_FLAT = {"verdict", "source", "destination", "IP", "l4"}
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_RUNTIME_PREFIX = re.compile(rb"^\S+ (?:stdout|stderr) [FP] (?=\{)")


def decode(line: bytes) -> Line:
    """The line in the usual shape.

    Raises:
        UnreadableError: it is JSON, but no line of Hubble.
        msgspec.DecodeError: it is no JSON, or a value has the wrong type.
    """
    if line[:1] != b"{":
        line = _RUNTIME_PREFIX.sub(b"", line.lstrip(b"\xef\xbb\xbf \t"))
    found = _LINE.decode(line)
    flow = found.flow
    if flow is None:
        return found if _is_other_kind(found) else _usual(line)
    if (
        found.camel_node_name is NONE
        and flow.camel_event_type is NONE
        and flow.camel_node_name is NONE
        and flow.camel_is_reply is NONE
        and flow.camel_direction is NONE
    ):
        return found
    return _usual(line)


def _is_other_kind(line: Line) -> bool:
    raw = (line.node_status, line.agent_event, line.debug_event)
    return line.lost_events is not None or any(part is not NONE for part in raw)


def _usual(line: bytes) -> Line:
    """A line of one of the unusual shapes, by way of plain dicts: right, and not fast."""
    plain = msgspec.json.decode(line)
    for wrapper in ("log", "message"):
        inner = plain.get(wrapper)
        if isinstance(inner, str) and inner.lstrip()[:1] == "{":
            plain = msgspec.json.decode(inner.strip().encode())
            break
    plain = _snake(plain)
    if not isinstance(plain, dict):
        raise UnreadableError("not a flow record", "no object of Hubble")
    if not _KINDS & plain.keys() and "time" in plain and _FLAT & plain.keys():
        plain = {"flow": plain}
    found = _LINE.decode(msgspec.json.encode(plain))
    if found.flow is None and not _is_other_kind(found):
        raise UnreadableError(
            "not a flow record", "no key of Hubble: flow, lost_events, verdict, ..."
        )
    return found


def _snake(value: Any) -> Any:
    """The value with lowerCamelCase keys as in the proto file; `IP` and `ICMPv4` stay."""
    if isinstance(value, dict):
        return {_HUMP.sub("_", k).lower() if k[:1].islower() else k: _snake(v)
                for k, v in value.items()}  # fmt: skip
    return [_snake(item) for item in value] if isinstance(value, list) else value


def word(value: Enum, names: dict[int, str]) -> str | None:
    """An enum as its word, whichever way it was written; an unknown number as its digits."""
    if value is None or value == 0:
        return None
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return names.get(value, str(value)) if isinstance(value, int) else value
