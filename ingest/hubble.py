"""Hubble lines -> FLOWS.

Reading a line means finding which of its parts were seen before: ends, services and the
categories of an event (`hubble_signs`) repeat, and are decoded once for each block.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from ingest import hubble_ends, hubble_wire
from ingest.batch import Batch, Lines
from ingest.columns import Pool, flows_table
from ingest.hubble_signs import Key, Sign, established, reply_by_ports, reporter, sign
from ingest.hubble_wire import NONE, Flow
from ingest.values import address, instant, lines, port, text

DEFAULT_CLUSTER = "default"

_NO_IP = hubble_wire.Ip()

_names = msgspec.json.Decoder(list[str] | None).decode
_service = msgspec.json.Decoder(hubble_wire.Service | None).decode
_policies = msgspec.json.Decoder(list[hubble_wire.Policy] | None, strict=False).decode


class _Reader:
    """Rows of one block, and the caches that make it quick; nothing lives longer."""

    def __init__(self, cluster: str | None) -> None:
        self._cluster = cluster
        self.rows: list[tuple[Any, ...]] = []
        self.lost = 0
        self.facts = Pool("format", "reporter", "verdict", "drop_reason", "event", "observation",
                          "is_reply", "established", "protocol", "icmp_type")  # fmt: skip
        self.places = Pool("cluster", "node")
        self.ends = Pool(*hubble_ends.COLUMNS)
        self.ips = Pool("ip")
        self.names = Pool("names")
        self.extras = Pool("service_namespace", "service", "policies")
        self.dns = Pool("dns_query", "dns_ips")
        self.signs: dict[tuple[Any, ...], Sign] = {}
        self.end_cache: dict[bytes, tuple[int, hubble_ends.End]] = {}
        self._fact_cache: dict[tuple[Any, ...], int] = {}
        self._place_cache: dict[tuple[str | None, str | None], int] = {}
        self._ip_cache: dict[str | None, int] = {}
        self._no_names = self.names.number(None)
        self._no_extras = self.extras.number(None, None, None)
        self._no_dns = self.dns.number(None, None)

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
        ip = flow.IP or _NO_IP
        src = (self._end(flow.source), self._ip(ip.source), source_port,
               flow.source_names, flow.source_service)  # fmt: skip
        dst = (self._end(flow.destination), self._ip(ip.destination), target_port,
               flow.destination_names, flow.destination_service)  # fmt: skip
        if reply:
            src, dst = dst, src
        (src_number, src_end), src_ip, src_port, src_names, _ = src
        (dst_number, dst_end), dst_ip, dst_port, dst_names, service = dst
        self.rows.append(
            (
                instant(flow.time or found.time),
                self._fact(seen, reply, src_end.local, dst_end.local),
                self._place(found.node_name or flow.node_name, src_end, dst_end),
                src_number,
                dst_number,
                src_ip,
                dst_ip,
                src_port,
                dst_port,
                self._no_names if src_names is NONE else self._name(src_names),
                self._no_names if dst_names is NONE else self._name(dst_names),
                self._extra(flow, service),
                self._no_dns if flow.l7 is None else self._answer(flow.l7.dns),
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
        known = self.end_cache.get(key)
        if known is None:
            end = hubble_ends.end(key)
            known = self.end_cache[key] = (self.ends.number(*end.values), end)
        return known

    def _ip(self, said: str | None) -> int:
        known = self._ip_cache.get(said)
        if known is None:
            known = self._ip_cache[said] = self.ips.number(address(said))
        return known

    def _name(self, raw: msgspec.Raw) -> int:
        return self.names.number(lines(name.rstrip(".") for name in _names(raw) or ()))

    def _answer(self, dns: hubble_wire.Dns | None) -> int:
        if dns is None:
            return self._no_dns
        ips = lines(filter(None, map(address, dns.ips or ())))
        return self.dns.number(text((dns.query or "").rstrip(".")), ips)

    def _fact(self, seen: Sign, reply: bool | None, src_local: bool, dst_local: bool) -> int:
        key = (id(seen), reply, src_local, dst_local)
        known = self._fact_cache.get(key)
        if known is None:
            known = self._fact_cache[key] = self.facts.number(
                "hubble", reporter(seen, reply, src_local=src_local, dst_local=dst_local),
                seen.verdict, seen.drop_reason, seen.event, seen.observation, reply,
                established(seen, reply), seen.protocol, seen.icmp_type,
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
        to = (None if service is NONE else _service(service)) or hubble_wire.Service()
        named = (policy for raw in policies if raw is not NONE for policy in _policies(raw) or ())
        return self.extras.number(text(to.namespace), text(to.name), lines(map(_policy, named)))


def _key(flow: Flow) -> tuple[int | None, int | None, tuple[Any, ...]]:
    """Source and destination port, and the values of a Key."""
    source, destination, protocol, icmp_type, flags = None, None, None, None, None
    l4, l7, event = flow.l4, flow.l7, flow.event_type
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
    number, sub_number = (0, 0) if event is None else (event.type, event.sub_type)
    syn, ack, rst = (None, None, None) if flags is None else (flags.SYN, flags.ACK, flags.RST)
    l7_type, dns = (None, None) if l7 is None else (l7.type, l7.dns)
    return source, destination, (
        flow.verdict, flow.drop_reason_desc, flow.drop_reason, number, sub_number, flow.Type,
        flow.traffic_direction, flow.trace_observation_point, flow.trace_reason, flow.is_reply,
        flow.reply, protocol, icmp_type, syn, ack, rst, l7_type, dns is not None,
        dns is not None and bool(dns.ips),
    )  # fmt: skip


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
        "labels": any(end.labelled for _, end in reader.end_cache.values()),
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


def _table(reader: _Reader) -> pa.Table:
    columns = list(zip(*reader.rows, strict=True)) or [()] * 14
    (time, facts, places, src, dst, src_ip, dst_ip, src_port, dst_port, src_names, dst_names,
     extras, dns, connections) = columns  # fmt: skip
    return flows_table(
        {
            "time": time,
            **reader.facts.columns(facts),
            **reader.places.columns(places),
            **reader.ends.columns(src, "src_"),
            **reader.ends.columns(dst, "dst_"),
            **reader.ips.columns(src_ip, "src_"),
            **reader.ips.columns(dst_ip, "dst_"),
            "src_port": src_port,
            "dst_port": dst_port,
            **reader.names.columns(src_names, "src_"),
            **reader.names.columns(dst_names, "dst_"),
            **reader.extras.columns(extras),
            **reader.dns.columns(dns),
            "connections": connections,
        },
        len(reader.rows),
    )
