"""Hubble lines -> FLOWS: what each event of Cilium means for a policy.

`parse` works line by line, but thinks only once about what repeats: a Sign is all that the
categories of an event (verdict, point of observation, flags, ...) say, worked out once for each
distinct combination; ends, services and policies likewise. Most of what is decided here stands
in the table of traps of the field notes; each has a test named for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from ingest import hubble_ends, hubble_wire
from ingest.batch import Batch, Lines, Pool, flows_table
from ingest.hubble_wire import NONE, Enum, Flow, word
from ingest.values import address, instant, lines, port, text

DEFAULT_CLUSTER = "default"
EPHEMERAL = 32_768  # where Linux begins to choose client ports (ip_local_port_range)

_EVENTS = {1: "drop", 4: "trace", 5: "verdict", 129: "l7"}
_NO_TRAFFIC = {2: "debug event", 3: "capture event", 6: "capture event", 7: "socket event",
               130: "agent event"}  # fmt: skip
_DENIALS = frozenset(hubble_wire.POLICY_DROPS.values())

_event_type = msgspec.json.Decoder(hubble_wire.EventType | None, strict=False).decode
_flags = msgspec.json.Decoder(hubble_wire.Flags | None, strict=False).decode
_names = msgspec.json.Decoder(list[str] | None).decode
_service = msgspec.json.Decoder(hubble_wire.Service | None).decode
_policies = msgspec.json.Decoder(list[hubble_wire.Policy] | None, strict=False).decode


class Key(NamedTuple):
    """The categories of an event, as logged."""

    verdict: Enum
    drop_reason_desc: Enum
    drop_reason: int | None
    event_type: bytes
    Type: Enum
    direction: Enum
    observation: Enum
    trace_reason: Enum
    is_reply: bool | None
    reply: bool | None
    protocol: str | None
    icmp_type: int | None
    flags: bytes
    l7_type: Enum
    dns: bool
    answered: bool


@dataclass(frozen=True)
class Sign:
    """What the categories of an event say; `skip` is why it is no flow, and then all there is."""

    skip: str | None = None
    event: str = "trace"
    verdict: str = "pending"
    drop_reason: str | None = None
    observation: str | None = None
    direction: str | None = None
    trace_reason: str | None = None
    reply: bool | None = None
    protocol: str | None = None
    icmp_type: int | None = None
    flags: hubble_wire.Flags | None = None


def sign(key: Key) -> Sign:
    """What the categories say, before ports and ends are looked at.

    Raises:
        msgspec.DecodeError: a value has the wrong type.
    """
    event_type = (_event_type(key.event_type) if key.event_type else None) or _event_type(b"{}")
    assert event_type is not None
    flags = _flags(key.flags) if key.flags else None
    verdict = word(key.verdict, hubble_wire.VERDICTS)
    observation = word(key.observation, hubble_wire.OBSERVATION_POINTS)
    flow_type = word(key.Type, hubble_wire.FLOW_TYPES)
    l7_type = word(key.l7_type, hubble_wire.L7_TYPES)
    number = event_type.type
    if number == 4 and observation is None:
        # The monitor's own number for TO_ENDPOINT is 0, which flow.proto needs for "unknown".
        observation = hubble_wire.OBSERVATION_POINTS.get(event_type.sub_type or 101)
    drop_reason = _drop_reason(key, event_type)
    event = _EVENTS.get(number)
    if event is None:
        event = _masked_event(flow_type, verdict, drop_reason, key)
    skip = _skip(number, flow_type, verdict, event, l7_type, key)
    if skip is not None:
        return Sign(skip=skip)
    return Sign(
        event=event,
        verdict=_verdict(verdict, event, observation, drop_reason),
        drop_reason=drop_reason if verdict in ("DROPPED", "ERROR") else None,
        observation=text(observation),
        direction=word(key.direction, hubble_wire.DIRECTIONS),
        trace_reason=word(key.trace_reason, hubble_wire.TRACE_REASONS),
        reply=_reply(key, flags, l7_type),
        protocol=key.protocol,
        icmp_type=key.icmp_type,
        flags=flags,
    )


def _masked_event(
    flow_type: str | None, verdict: str | None, drop_reason: str | None, key: Key
) -> str:
    """The kind of event where a field mask took event_type away."""
    if flow_type == "L7" or key.l7_type is not None:
        return "l7"
    if drop_reason is not None:
        return "drop"
    return "verdict" if verdict == "AUDIT" else "trace"


def _skip(
    number: int,
    flow_type: str | None,
    verdict: str | None,
    event: str,
    l7_type: str | None,
    key: Key,
) -> str | None:
    if number in _NO_TRAFFIC:
        return _NO_TRAFFIC[number]
    # Before service translation, and no decision of policy: the address is the Service's.
    if flow_type == "SOCK" or verdict in ("TRACED", "TRANSLATED"):
        return "socket event"
    if number not in _EVENTS and number != 0:
        return "other event"
    if verdict not in (None, *hubble_wire.VERDICTS.values()):
        return "other verdict"
    if event == "l7" and l7_type == "SAMPLE":
        return "L7 sample"
    if event == "l7" and l7_type == "RESPONSE" and not (key.dns and key.answered):
        return "L7 response"
    return None


def _drop_reason(key: Key, event_type: hubble_wire.EventType) -> str | None:
    """The drop reason in the log's word, else by number; null where nothing was dropped."""
    number = key.drop_reason or (event_type.sub_type if event_type.type == 1 else 0)
    said = word(key.drop_reason_desc, hubble_wire.POLICY_DROPS)
    return text(said or word(number, hubble_wire.POLICY_DROPS))


def _verdict(
    verdict: str | None, event: str, observation: str | None, drop_reason: str | None
) -> str:
    match verdict:
        case "AUDIT":
            return "audited"
        case "DROPPED" if drop_reason in _DENIALS or event == "l7":
            return "denied"
        case "DROPPED" if drop_reason is None and event == "verdict":
            return "denied"
        case "DROPPED" | "ERROR":
            return "dropped"
        case "FORWARDED" | "REDIRECTED" if event == "trace":
            # FROM_* points lie before the policy of the end that the packet is on its way to.
            return "pending" if (observation or "").startswith("FROM_") else "allowed"
        case "FORWARDED" | "REDIRECTED":
            return "allowed"
        case _:
            return "pending"


def _reply(key: Key, flags: hubble_wire.Flags | None, l7_type: str | None) -> bool | None:
    """Whether the packet answers; null where only the ports can tell. Most reliable first."""
    if key.is_reply is not None:
        return key.is_reply
    if key.reply or l7_type is not None:
        return bool(key.reply) or l7_type == "RESPONSE"
    match word(key.trace_reason, hubble_wire.TRACE_REASONS):
        case "REPLY":
            return True
        case "NEW" | "ESTABLISHED":
            return False
    if key.protocol == "TCP" and flags is not None and flags.SYN:
        return flags.ACK
    # Echo request and reply: RFC 792 has 8 and 0, RFC 4443 has 128 and 129.
    echo = {"ICMP": {8: False, 0: True}, "ICMPv6": {128: False, 129: True}}
    return echo.get(key.protocol or "", {}).get(-1 if key.icmp_type is None else key.icmp_type)


def reply_by_ports(source: int | None, destination: int | None) -> bool | None:
    """Whether the packet answers, by its ports; null where both are high or both low."""
    if source is None or destination is None or (source < EPHEMERAL) == (destination < EPHEMERAL):
        return None
    return source < EPHEMERAL


def _established(seen: Sign, reply: bool | None) -> bool | None:
    if seen.event == "l7":
        return True
    flags = seen.flags
    if seen.protocol == "TCP" and flags is not None:
        if reply:
            return not flags.RST
        if flags.SYN and not flags.ACK:
            return False
        if flags.ACK and not flags.RST:
            return True
    if seen.trace_reason in ("ESTABLISHED", "REPLY"):
        return True
    return True if reply and seen.protocol != "TCP" else None


def _reporter(seen: Sign, reply: bool | None, *, src_local: bool, dst_local: bool) -> str | None:
    """The end that reported; ends are those of the connection, turned around already."""
    if seen.event != "trace" and seen.direction in ("EGRESS", "INGRESS"):
        # Cilium takes every drop for a request, so for a dropped answer its direction is wrong.
        flip = bool(reply) and seen.reply is None
        return "src" if (seen.direction == "EGRESS") != flip else "dst"
    if seen.event == "trace" and seen.observation == "TO_ENDPOINT":
        return "src" if reply else "dst"
    if src_local != dst_local:
        return "src" if src_local else "dst"
    if src_local and reply is not None:
        return "dst" if reply else "src"
    return None


class _Reader:
    """Rows of one block, and the caches that make it quick; nothing lives longer."""

    def __init__(self, cluster: str | None) -> None:
        self._cluster = cluster
        self.rows: list[tuple[Any, ...]] = []
        self.lost = 0
        self.ends = Pool(*hubble_ends.COLUMNS)
        self.facts = Pool("reporter", "verdict", "drop_reason", "event", "observation",
                          "is_reply", "established", "protocol", "icmp_type")  # fmt: skip
        self.places = Pool("cluster", "node")
        self.extras = Pool("service_namespace", "service", "policies")
        self._no_extras = self.extras.number(None, None, None)
        self.signs: dict[tuple[Any, ...], Sign] = {}
        self._end_cache: dict[bytes, tuple[int, hubble_ends.End]] = {}
        self._fact_cache: dict[tuple[Any, ...], int] = {}
        self._place_cache: dict[tuple[str | None, str | None], int] = {}
        self._extra_cache: dict[tuple[bytes, ...], int] = {}

    def add(self, line: bytes) -> str | None:
        """Keep the line's flow, or return why it is none."""
        found = hubble_wire.decode(line)
        flow = found.flow
        if flow is None:
            return self._other(found)
        source_port, target_port, key = _key(flow)
        seen = self.signs.get(key)
        if seen is None:
            seen = self.signs[key] = sign(Key._make(key))
        if seen.skip is not None:
            return seen.skip
        reply = seen.reply
        if reply is None:
            reply = reply_by_ports(source_port, target_port)
        ip = flow.IP
        src = (self._end(flow.source), address(ip.source) if ip else None, source_port,
               flow.source_names, flow.source_service)  # fmt: skip
        dst = (self._end(flow.destination), address(ip.destination) if ip else None, target_port,
               flow.destination_names, flow.destination_service)  # fmt: skip
        if reply:
            src, dst = dst, src
        (src_number, src_end), (dst_number, dst_end) = src[0], dst[0]
        dns = flow.l7.dns if flow.l7 is not None else None
        self.rows.append(
            (
                instant(flow.time or found.time),
                self._facts(seen, reply, src_end.local, dst_end.local),
                self._place(found.node_name or flow.node_name, src_end, dst_end),
                src_number,
                dst_number,
                src[1],
                dst[1],
                src[2],
                dst[2],
                None if src[3] is NONE else _lines(src[3]),
                None if dst[3] is NONE else _lines(dst[3]),
                self._extra(flow, dst[4]),
                text((dns.query or "").rstrip(".")) if dns else None,
                lines(filter(None, map(address, dns.ips))) if dns and dns.ips else None,
                1 if flow.aggregate is None else _count(flow.aggregate),
            )
        )
        return None

    def _other(self, found: hubble_wire.Line) -> str:
        if found.lost_events is not None:
            self.lost += found.lost_events.num_events_lost
            return "lost_events"
        if found.node_status is not NONE:
            return "node_status"
        return "agent_event" if found.agent_event is not NONE else "debug_event"

    def _end(self, raw: msgspec.Raw) -> tuple[int, hubble_ends.End]:
        key = bytes(raw)
        known = self._end_cache.get(key)
        if known is None:
            end = hubble_ends.end(key)
            known = self._end_cache[key] = (self.ends.number(*end.values), end)
        return known

    def _facts(self, seen: Sign, reply: bool | None, src_local: bool, dst_local: bool) -> int:
        key = (id(seen), reply, src_local, dst_local)
        known = self._fact_cache.get(key)
        if known is None:
            known = self._fact_cache[key] = self.facts.number(
                _reporter(seen, reply, src_local=src_local, dst_local=dst_local),
                seen.verdict, seen.drop_reason, seen.event, seen.observation, reply,
                _established(seen, reply), seen.protocol, seen.icmp_type,
            )  # fmt: skip
        return known

    def _place(self, node_name: str | None, src: hubble_ends.End, dst: hubble_ends.End) -> int:
        """Cluster and node: the option's, else the node name's, else the local end's cluster."""
        said = dst.cluster if dst.local and not src.local else src.cluster or dst.cluster
        known = self._place_cache.get((node_name, said))
        if known is None:
            cluster, slash, node = (node_name or "").rpartition("/")
            cluster = self._cluster or (cluster if slash else "") or said or DEFAULT_CLUSTER
            known = self.places.number(text(cluster), text(node))
            self._place_cache[node_name, said] = known
        return known

    def _extra(self, flow: Flow, service: msgspec.Raw) -> int:
        policies = (flow.egress_allowed_by, flow.ingress_allowed_by, flow.egress_denied_by,
                    flow.ingress_denied_by)  # fmt: skip
        if service is NONE and policies == (NONE, NONE, NONE, NONE):
            return self._no_extras
        key = (bytes(service), *map(bytes, policies))
        known = self._extra_cache.get(key)
        if known is None:
            to = (_service(key[0]) if key[0] else None) or hubble_wire.Service()
            named = [policy for raw in key[1:] if raw for policy in _policies(raw) or ()]
            known = self.extras.number(
                text(to.namespace), text(to.name), lines(_policy(policy) for policy in named)
            )
            self._extra_cache[key] = known
        return known


def _key(flow: Flow) -> tuple[int | None, int | None, tuple[Any, ...]]:
    """Source and destination port, and the values of a Key."""
    source, destination, protocol, icmp_type, flags = None, None, None, None, NONE
    l4, l7 = flow.l4, flow.l7
    if l4 is not None:
        ports = l4.TCP or l4.UDP or l4.SCTP
        if ports is not None:
            protocol = "TCP" if l4.TCP else "UDP" if l4.UDP else "SCTP"
            source, destination = port(ports.source_port), port(ports.destination_port)
            flags = ports.flags
        elif (icmp := l4.ICMPv4 or l4.ICMPv6) is not None:
            protocol, icmp_type = "ICMP" if l4.ICMPv4 else "ICMPv6", icmp.type
        elif l4.VRRP is not NONE or l4.IGMP is not NONE:
            protocol = "IGMP" if l4.VRRP is NONE else "VRRP"
    l7_type, dns = (None, None) if l7 is None else (l7.type, l7.dns)
    return source, destination, (
        flow.verdict, flow.drop_reason_desc, flow.drop_reason, bytes(flow.event_type), flow.Type,
        flow.traffic_direction, flow.trace_observation_point, flow.trace_reason, flow.is_reply,
        flow.reply, protocol, icmp_type, bytes(flags), l7_type, dns is not None,
        dns is not None and bool(dns.ips),
    )  # fmt: skip


def _lines(raw: msgspec.Raw) -> str | None:
    return lines(name.rstrip(".") for name in _names(raw) or ())


def _policy(policy: hubble_wire.Policy) -> str:
    name = f"{policy.namespace}/{policy.name}" if policy.namespace else policy.name or ""
    return f"{policy.kind} {name}" if policy.kind else name


def _count(aggregate: hubble_wire.Aggregate) -> int:
    counted = (aggregate.ingress_flow_count + aggregate.egress_flow_count
               + aggregate.unknown_direction_flow_count)  # fmt: skip
    return max(counted, 1)


def _absent(reader: _Reader) -> frozenset[str]:
    """Fields without which traffic can't be judged and that no flow of the block has."""
    keys = [Key._make(key) for key, seen in reader.signs.items() if seen.skip is None]
    traces = [key for key in keys if reader.signs[key].event == "trace"]
    has = {
        "verdict": any(key.verdict for key in keys),
        "event_type": any(key.event_type for key in keys),
        "traffic_direction": any(key.direction for key in keys),
        # Drops never carry it, and before Cilium 1.10 only `reply: true` was written.
        "is_reply": not traces
        or any(key.is_reply is not None or key.reply or key.trace_reason for key in traces),
        "labels": any(end.labelled for _, end in reader._end_cache.values()),
    }
    return frozenset(name for name, present in has.items() if not present)


def parse(block: bytes, *, cluster: str | None = None) -> Batch:
    """Read whole lines of Hubble's JSON, as `hubble observe -o json` or the exporter writes them.

    Args:
        block: bytes of whole lines; the last may lack its line break.
        cluster: name of the Kubernetes cluster, in place of what the lines say.

    Returns:
        Batch; one row of FLOWS for each trace, policy verdict, drop, L7 request and answered DNS
        response. Nothing of HTTP or Kafka is kept.
    """
    reader, read = _Reader(cluster), Lines()
    read.read(block, reader.add)
    flows = _table(reader)
    absent = _absent(reader) if reader.rows else frozenset[str]()
    return Batch(flows, dict(read.skipped), read.rejects, read.count, absent, reader.lost)


def _table(reader: _Reader) -> Any:
    columns = list(zip(*reader.rows, strict=True)) or [()] * 15
    (time, facts, places, src, dst, src_ip, dst_ip, src_port, dst_port, src_names, dst_names,
     extras, dns_query, dns_ips, connections) = columns  # fmt: skip
    rows = len(reader.rows)
    return flows_table(
        {
            "time": time,
            "format": ["hubble"] * rows,
            **reader.facts.arrays(facts),
            **reader.places.arrays(places),
            **reader.ends.arrays(src, "src_"),
            **reader.ends.arrays(dst, "dst_"),
            **reader.extras.arrays(extras),
            "src_ip": src_ip,
            "dst_ip": dst_ip,
            "src_port": src_port,
            "dst_port": dst_port,
            "src_names": src_names,
            "dst_names": dst_names,
            "dns_query": dns_query,
            "dns_ips": dns_ips,
            "connections": connections,
        },
        rows,
    )
