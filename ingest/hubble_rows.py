"""One line of Hubble -> a row of numbers; the careful reader, which takes every spelling.

Reading a line means finding which of its parts were seen before: ends, services and the
categories of an event (`hubble_signs`) repeat, and are decoded once for each distinct value. Only
addresses, ports and times are read line by line.
"""

from __future__ import annotations

import re
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from ingest import hubble_ends, hubble_wire
from ingest.batch import Gap
from ingest.columns import Pool
from ingest.hubble_signs import Key, Sign, established, reply_by_ports, reporter, sign
from ingest.hubble_wire import NONE, Shape, shape_of, word
from ingest.values import address, check_keys, instant, lines, port, text

DEFAULT_CLUSTER = "default"

Flow = dict[str, msgspec.Raw]
_RARE = ("src_names", "dst_names", "service_namespace", "service", "policies", "dns_query",
         "dns_ips")  # fmt: skip
_POLICIES = ("egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by")

_string = msgspec.json.Decoder(str | None).decode
_names = msgspec.json.Decoder(list[str] | None).decode
_service = msgspec.json.Decoder(hubble_wire.Service | None).decode
_policies = msgspec.json.Decoder(list[hubble_wire.Policy] | None, strict=False).decode
_facts = msgspec.json.Decoder(hubble_wire.Facts, strict=False).decode
_l4 = msgspec.json.Decoder(hubble_wire.L4 | None, strict=False).decode
_l7 = msgspec.json.Decoder(hubble_wire.L7 | None, strict=False).decode
_ip = msgspec.json.Decoder(hubble_wire.Ip | None).decode
_aggregate = msgspec.json.Decoder(hubble_wire.Aggregate | None, strict=False).decode

# How protojson writes the two objects that differ on nearly every line; any other spelling of
# them takes the decoders above, and gives the same.
_NUMBER = rb"(0|[1-9][0-9]{0,4})"
PORTS = re.compile(
    rb'\{"(TCP|UDP|SCTP)":\{"source_port":%s, ?"destination_port":%s' % (_NUMBER, _NUMBER)
    + rb'(?:, ?"flags":(\{[^{}]*\}))?\}\}'
)
ADDRESSES = re.compile(
    rb'\{"source":"([0-9a-f.:]{2,45})", ?"destination":"([0-9a-f.:]{2,45})"'
    rb'(?:, ?"ipVersion":"IPv[46]")?(?:, ?"encrypted":(?:true|false))?\}'
)


class _Transport(NamedTuple):
    """What `l4` says, beside the ports."""

    protocol: str | None = None
    icmp_type: int | None = None
    flags: hubble_wire.Flags | None = None


class _L7(NamedTuple):
    """Of an L7 record what makes part of its categories, and DNS."""

    kind: tuple[hubble_wire.Enum, bool, bool]
    dns: hubble_wire.Dns | None


T = TypeVar("T")


class Row(NamedTuple, Generic[T]):
    """A flow: numbers of groups of values in the pools of a Reader, ports, and -1 for null."""

    time: T
    fact: T
    place: T
    src: T
    dst: T
    src_ip: T
    dst_ip: T
    src_port: T
    dst_port: T
    rare: T
    connections: T


class Reader:
    """The caches of one block, which make it quick."""

    def __init__(self, cluster: str | None) -> None:
        self._cluster = cluster
        self.gaps: list[Gap] = []
        self.facts = Pool("format", "reporter", "verdict", "drop_reason", "event", "observation",
                          "is_reply", "established", "protocol", "icmp_type")  # fmt: skip
        self.places = Pool("cluster", "node")
        self.ends = Pool(*hubble_ends.COLUMNS)
        self.ips = Pool("ip")
        self.rare = Pool(*_RARE)
        # What was met: signs and ends are known by their place in these lists.
        self.signs: list[tuple[Key, Sign]] = []
        self.seen_ends: list[tuple[int, hubble_ends.End]] = []
        self._sign_numbers: dict[tuple[Any, ...], int] = {}
        self._end_numbers: dict[bytes, int] = {}
        self._ip_numbers: dict[bytes, int] = {}
        self._transports: dict[tuple[bytes, bytes | None], _Transport] = {}
        self._facts: dict[tuple[int, bool | None, bool, bool], int] = {}
        self._places: dict[tuple[bytes, str | None], int] = {}
        self.nothing_rare = self.rare.number(*[None] * len(_RARE))

    def row(self, line: bytes) -> Row[int] | str:
        """The line's flow, or why it is none.

        Raises:
            UnreadableError, msgspec.DecodeError: the line cannot be understood.
        """
        found = hubble_wire.decode(line)
        flow = found.flow
        if flow is None:
            return self._other(found)
        shape = shape_of(flow)
        source_port, target_port, *transport = _ports(flow.get("l4", NONE))
        l7 = _l7_of(flow) if shape.is_rare else None
        key = (shape, b",".join(shape.values(flow)), *transport)
        number = self.sign(key, l7)
        seen = self.signs[number][1]
        if seen.skip is not None:
            return seen.skip
        reply = seen.reply
        if reply is None:
            reply = reply_by_ports(source_port, target_port)
        src_ip, dst_ip = self._addresses(flow.get("IP", NONE))
        src_number, src = self._end(bytes(flow.get("source", NONE)))
        dst_number, dst = self._end(bytes(flow.get("destination", NONE)))
        if reply:
            src_number, dst_number, src, dst = dst_number, src_number, dst, src
            src_ip, dst_ip = dst_ip, src_ip
            source_port, target_port = target_port, source_port
        node = bytes(found.node_name or flow.get("node_name", NONE))
        return Row(
            _time(flow, found),
            self.fact(number, reply, src_local=src.local, dst_local=dst.local),
            self.place(node, cluster_of(src, dst)),
            src_number,
            dst_number,
            src_ip,
            dst_ip,
            source_port or -1,
            target_port or -1,
            self._rare(flow, l7, reply) if shape.is_rare else self.nothing_rare,
            _count(flow) if shape.is_rare else 1,
        )

    def _other(self, found: hubble_wire.Line) -> str:
        """Why the line is no flow; what it says was missed is kept."""
        cluster, slash, node = (_string(found.node_name or b"null") or "").rpartition("/")
        cluster = self._cluster or (cluster if slash else "") or DEFAULT_CLUSTER
        said = _string(found.time or b"null")
        time = None if said is None else instant(said)
        if (lost := found.lost_events) is not None:
            first = time if lost.first is None else instant(lost.first)
            last = None if lost.last is None else instant(lost.last)
            source = text(word(lost.source, hubble_wire.LOST_SOURCES))
            self.gaps.append(
                Gap(text(cluster), text(node), first, last, "lost_events", source,
                    lost.num_events_lost)
            )  # fmt: skip
            return "lost_events"
        if (status := found.node_status) is not None:
            state = text(word(status.state_change, hubble_wire.NODE_STATES))
            names = [name.rpartition("/") for name in status.node_names or [node]]
            self.gaps += [
                Gap(text(self._cluster or told or cluster), text(node), time, None, "node_status",
                    state, detail=text(status.message))
                for told, _, node in names
            ]  # fmt: skip
            return "node_status"
        return "agent_event" if found.agent_event else "debug_event"

    def sign(self, key: tuple[Any, ...], l7: _L7 | None = None) -> int:
        """The number of what the categories of an event say: shape, values, transport, L7."""
        whole = key if l7 is None else (*key, l7.kind)
        known = self._sign_numbers.get(whole)
        if known is not None:
            return known
        shape, values, kind, rest = key
        transport = self._transport(kind, rest) if isinstance(kind, bytes) else kind
        facts = _facts(_object(shape, values))
        event = facts.event_type or hubble_wire.EventType()
        flags = transport.flags
        said = Key(
            facts.verdict, facts.drop_reason_desc, facts.drop_reason, event.type, event.sub_type,
            facts.Type, facts.traffic_direction, facts.trace_observation_point,
            facts.trace_reason, facts.is_reply, facts.reply, transport.protocol,
            transport.icmp_type,
            *((None, None, None) if flags is None else (flags.SYN, flags.ACK, flags.RST)),
            *((None, False, False) if l7 is None else l7.kind),
        )  # type: ignore[call-arg]  # fmt: skip
        seen = sign(said)
        number = self._sign_numbers[whole] = len(self.signs)
        self.signs.append((said, seen))
        return number

    def _transport(self, kind: bytes, flags: bytes | None) -> _Transport:
        """What `l4` says beside ports, where it is written as PORTS has it."""
        known = self._transports.get((kind, flags))
        if known is None:
            known = _transport(b'{"%s":{"flags":%s}}' % (kind, flags or b"null"))[2]
            self._transports[kind, flags] = known
        return known

    def _end(self, raw: bytes) -> tuple[int, hubble_ends.End]:
        """An end by its JSON, and its number among `ends`."""
        return self.seen_ends[self.end_number(raw)]

    def end_number(self, raw: bytes) -> int:
        """The place of an end among `seen_ends`, by its JSON."""
        number = self._end_numbers.get(raw)
        if number is None:
            end = hubble_ends.end(raw)
            number = self._end_numbers[raw] = len(self.seen_ends)
            self.seen_ends.append((self.ends.number(*end.values), end))
        return number

    def _addresses(self, raw: msgspec.Raw) -> tuple[int, int]:
        usual = ADDRESSES.fullmatch(raw)
        if usual is not None:
            source, target = usual.groups()
        else:
            if raw:
                check_keys(bytes(raw))
            said = (_ip(raw) if raw else None) or hubble_wire.Ip()
            source, target = (said.source or "").encode(), (said.destination or "").encode()
        return self.ip_number(source), self.ip_number(target)

    def ip_number(self, said: bytes) -> int:
        """The number of an address among `ips`, by its text."""
        known = self._ip_numbers.get(said)
        if known is None:
            known = self._ip_numbers[said] = self.ips.number(address(said.decode()))
        return known

    def fact(self, number: int, reply: bool | None, *, src_local: bool, dst_local: bool) -> int:
        """The number of what the event says, with both ends known, among `facts`."""
        key = (number, reply, src_local, dst_local)
        known = self._facts.get(key)
        if known is None:
            seen = self.signs[number][1]
            known = self._facts[key] = self.facts.number(
                "hubble", reporter(seen, reply, src_local=src_local, dst_local=dst_local),
                seen.verdict, seen.drop_reason, seen.event, seen.observation, reply,
                established(seen, reply), seen.protocol, seen.icmp_type,
            )  # fmt: skip
        return known

    def place(self, node_name: bytes, said: str | None) -> int:
        """The number of cluster and node: the option's, else the node name's, else `said`."""
        known = self._places.get((node_name, said))
        if known is None:
            cluster, slash, node = (_string(node_name or b"null") or "").rpartition("/")
            cluster = self._cluster or (cluster if slash else "") or said or DEFAULT_CLUSTER
            known = self.places.number(text(cluster), text(node))
            self._places[node_name, said] = known
        return known

    def _rare(self, flow: Flow, l7: _L7 | None, reply: bool | None) -> int:
        """Names, service, policies and DNS of a flow that has any of them."""
        ends = ("destination", "source") if reply else ("source", "destination")
        src_names, dst_names = (_dns_names(flow.get(f"{end}_names", NONE)) for end in ends)
        raw = flow.get(f"{ends[1]}_service", NONE)
        to = (_service(_checked(raw)) if raw else None) or hubble_wire.Service()
        policies = [
            _policy(policy)
            for raw in map(flow.get, _POLICIES)
            if raw is not None
            for policy in _policies(_checked(raw)) or ()
        ]
        dns = (l7 and l7.dns) or hubble_wire.Dns()
        return self.rare.number(
            src_names, dst_names, text(to.namespace), text(to.name), lines(policies),
            text((dns.query or "").rstrip(".")), lines(filter(None, map(address, dns.ips or ()))),
        )  # fmt: skip


def cluster_of(src: hubble_ends.End, dst: hubble_ends.End) -> str | None:
    """The cluster that the ends say the record is of: that of the local one."""
    return dst.cluster if dst.local and not src.local else src.cluster or dst.cluster


def _object(shape: Shape, values: bytes) -> bytes:
    """The categories of a flow as JSON again, from their values with commas between them."""
    raws = msgspec.json.decode(b"[%s]" % values, type=list[msgspec.Raw])
    check_keys(b"[%s]" % values)
    pairs = zip(shape.facts, raws, strict=True)
    return b"{%s}" % b",".join(b'"%s":%s' % (key.encode(), bytes(raw)) for key, raw in pairs)


def _ports(raw: msgspec.Raw) -> tuple[int | None, int | None, Any, Any]:
    """Source and destination port; protocol and flags as logged, or else a _Transport."""
    usual = PORTS.fullmatch(raw)
    if usual is None:
        return *_transport(bytes(raw)), None
    kind, source, target, flags = usual.groups()
    return port(int(source)), port(int(target)), kind, flags


def _l7_of(flow: Flow) -> _L7 | None:
    raw = flow.get("l7")
    if raw is None:
        return None
    l7 = _l7(_checked(raw)) or hubble_wire.L7()
    return _L7((l7.type, l7.dns is not None, bool(l7.dns and l7.dns.ips)), l7.dns)


def _transport(raw: bytes) -> tuple[int | None, int | None, _Transport]:
    """Source and destination port, and what else `l4` says, however it is written."""
    if raw:
        check_keys(raw)
    l4 = (_l4(raw) if raw else None) or hubble_wire.L4()
    ports = l4.TCP or l4.UDP or l4.SCTP
    if ports is not None:
        protocol = "TCP" if l4.TCP else "UDP" if l4.UDP else "SCTP"
        source, target = port(ports.source_port), port(ports.destination_port)
        return source, target, _Transport(protocol, None, ports.flags)
    if (icmp := l4.ICMPv4 or l4.ICMPv6) is not None:
        return None, None, _Transport("ICMP" if l4.ICMPv4 else "ICMPv6", icmp.type)
    if l4.VRRP or l4.IGMP:
        return None, None, _Transport("VRRP" if l4.VRRP else "IGMP")
    return None, None, _Transport()


def _checked(raw: msgspec.Raw) -> msgspec.Raw:
    check_keys(bytes(raw))
    return raw


def _dns_names(raw: msgspec.Raw) -> str | None:
    return lines(name.rstrip(".") for name in (_names(raw) if raw else None) or ())


def _time(flow: Flow, found: hubble_wire.Line) -> int:
    said = _string(flow.get("time") or b"null") or _string(found.time or b"null")
    return instant(said)


def _policy(policy: hubble_wire.Policy) -> str:
    name = f"{policy.namespace}/{policy.name}" if policy.namespace else policy.name or ""
    return f"{policy.kind} {name}" if policy.kind else name


def _count(flow: Flow) -> int:
    """How many flows the line stands for; one, unless the exporter counted."""
    raw = flow.get("aggregate")
    aggregate = _aggregate(_checked(raw)) if raw is not None else None
    if aggregate is None:
        return 1
    counted: int = (aggregate.ingress_flow_count + aggregate.egress_flow_count
               + aggregate.unknown_direction_flow_count)  # fmt: skip
    return max(counted, 1)
