"""The JSON of Hubble flows as it is met: which keys, which enums, which shapes of a line.

Keys are those of Cilium's api/v1/flow/flow.proto; all are optional, for an exporter can mask any
field. The parts of a flow stay raw bytes (`msgspec.Raw`), which a reader decodes once for each
distinct value. Two other shapes become the usual one: lowerCamelCase keys, and the flat form of
Hubble CLI 0.10; a line inside what a log shipper put around it is unwrapped first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated, Any

import msgspec

from ingest.values import UnreadableError, check_keys
from ingest.wrappers import unwrapped

NONE = msgspec.Raw()

Uint32 = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Uint64 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Enum = str | int | None


class Flags(msgspec.Struct, gc=False, frozen=True):
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


class Facts(msgspec.Struct, gc=False):
    """The parts of flow.Flow that say what kind of event it is."""

    verdict: Enum = None
    drop_reason: Uint32 | None = None
    drop_reason_desc: Enum = None
    Type: Enum = None
    reply: bool | None = None
    is_reply: bool | None = None
    event_type: EventType | None = None
    traffic_direction: Enum = None
    trace_observation_point: Enum = None
    trace_reason: Enum = None


class LostEvents(msgspec.Struct, gc=False):
    """flow.LostEvent."""

    source: Enum = None
    num_events_lost: Uint64 = 1
    first: str | None = None
    last: str | None = None


class NodeStatus(msgspec.Struct, gc=False):
    """relay.NodeStatusEvent."""

    state_change: Enum = None
    node_names: list[str] | None = None
    message: str | None = None


class Line(msgspec.Struct, gc=False):
    """observer.GetFlowsResponse or ExportEvent, of which one key beside node and time is set."""

    flow: dict[str, msgspec.Raw] | None = None
    lost_events: LostEvents | None = None
    node_status: NodeStatus | None = None
    agent_event: msgspec.Raw = NONE
    debug_event: msgspec.Raw = NONE
    node_name: msgspec.Raw = NONE
    time: msgspec.Raw = NONE
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

LOST_SOURCES = {
    1: "PERF_EVENT_RING_BUFFER",
    2: "OBSERVER_EVENTS_QUEUE",
    3: "HUBBLE_RING_BUFFER",
}
NODE_STATES = {
    1: "NODE_CONNECTED",
    2: "NODE_UNAVAILABLE",
    3: "NODE_GONE",
    4: "NODE_ERROR",
}

# A newer Cilium writes values that these lists lack as numbers, older pipelines write numbers as
# text: lax decoding takes both.
LINE = msgspec.json.Decoder(Line, strict=False)
_KINDS = {"flow", "lost_events", "node_status", "agent_event", "debug_event"}
_FLAT = {"verdict", "source", "destination", "IP", "l4"}
_RARE = {"l7", "source_names", "destination_names", "source_service", "destination_service",
         "egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by",
         "aggregate"}  # fmt: skip
FIXED = ("time", "IP", "l4", "source", "destination")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, eq=False)
class Shape:
    """What lines whose flows have the same keys in the same order have in common.

    Args:
        facts: keys of Facts that are among them.
        values: their values in a flow.
        columns: FIXED and `facts` of a flow; None where it lacks one of FIXED, or is rare or camel.
        is_rare: it has keys that few lines have: names, services, policies, L7, counts.
        is_camel: it has keys in lowerCamelCase.
        marks: bytes of the flow that are no value, where there is no space between values.
        commas: how often a comma stands between two keys of the flow.
    """

    facts: tuple[str, ...]
    values: Callable[[dict[str, msgspec.Raw]], tuple[msgspec.Raw, ...]]
    columns: Callable[[dict[str, msgspec.Raw]], tuple[msgspec.Raw, ...]] | None
    is_rare: bool
    is_camel: bool
    marks: int
    commas: int


SHAPES: dict[tuple[str, ...], Shape] = {}
_SHAPES_KEPT = 10_000


def shape_of(flow: dict[str, msgspec.Raw]) -> Shape:
    """The shape of a flow; a log has a few dozen."""
    keys = tuple(flow)
    known = SHAPES.get(keys)
    if known is None:
        facts = tuple(key for key in Facts.__struct_fields__ if key in flow)
        if len(SHAPES) >= _SHAPES_KEPT:
            SHAPES.clear()
        is_rare = not _RARE.isdisjoint(keys)
        is_camel = any(key[:1].islower() and _HUMP.search(key) for key in keys)
        is_usual = not is_rare and not is_camel and facts and all(key in flow for key in FIXED)
        known = SHAPES[keys] = Shape(
            facts,
            itemgetter(*facts) if len(facts) > 1 else lambda flow: tuple(flow[k] for k in facts),
            itemgetter(*FIXED, *facts) if is_usual else None,
            is_rare,
            is_camel,
            sum(map(len, keys)) + 4 * len(keys) + 1,
            max(len(keys) - 1, 0),
        )
    return known


def decode(line: bytes) -> Line:
    """The line in the usual shape.

    Raises:
        UnreadableError: it is JSON, but no line of Hubble, or has a key twice.
        msgspec.DecodeError: it is no JSON, or a value has the wrong type.
    """
    if line[:1] != b"{":
        line = unwrapped(line)
    found = LINE.decode(line)
    flow = found.flow
    if flow is None or found.camel_node_name:
        return _other(line, found)
    shape = shape_of(flow)
    if shape.is_camel:
        return _usual(line)
    # A key that stands twice is seen once in `flow`, so its bytes are missing in this sum.
    marks, commas = BESIDE[bool(found.node_name), bool(found.time)]
    size = sum(map(len, flow.values())) + len(found.node_name) + len(found.time)
    surplus = len(line) - size - shape.marks - marks - (line[-1:] == b"\n")
    # protojson puts a space after every comma, in about half of all builds.
    if surplus and (surplus != shape.commas + commas or b', "' not in line[:200]):
        check_keys(line)
    return found


def _beside(*keys: str) -> tuple[int, int]:
    """Bytes that are no value, and commas, of a line with these keys."""
    return sum(map(len, keys)) + 4 * len(keys) + 1, len(keys) - 1


BESIDE = {
    (True, True): _beside("flow", "node_name", "time"),
    (True, False): _beside("flow", "node_name"),
    (False, True): _beside("flow", "time"),
    (False, False): _beside("flow"),
}


def _is_other_kind(line: Line) -> bool:
    return bool(
        line.lost_events is not None
        or line.node_status is not None
        or line.agent_event
        or line.debug_event
    )


def _other(line: bytes, found: Line) -> Line:
    """A line without a flow in its usual place."""
    if found.flow is None and _is_other_kind(found) and not found.camel_node_name:
        check_keys(line)
        return found
    inner = unwrapped(line)
    return _usual(line) if len(inner) == len(line.strip()) else decode(inner)


def _usual(line: bytes) -> Line:
    """A line of one of the unusual shapes, by way of plain dicts: right, and not fast."""
    check_keys(line)
    plain = _snake(msgspec.json.decode(line))
    if not isinstance(plain, dict):
        raise UnreadableError("not a flow record", "no object of Hubble")
    if not _KINDS & plain.keys() and "time" in plain and _FLAT & plain.keys():
        plain = {"flow": plain}
    found = LINE.decode(msgspec.json.encode(plain))
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
    if isinstance(value, str) and len(value) < 10 and value.isdecimal():
        value = int(value)
    return names.get(value, str(value)) if isinstance(value, int) else value
