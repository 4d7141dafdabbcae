"""What one event of Cilium means: kind, verdict, reply or request, answered or not, who reported.

A Sign is all that the categories of an event (verdict, point of observation, flags, ...) say by
themselves. A log has a few dozen combinations of them, so the reader asks once for each. Most of
what is decided here stands in the table of traps of the field notes; each has a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ingest import hubble_wire as wire
from ingest.hubble_wire import Enum, word
from ingest.values import text

EPHEMERAL = 32_768  # where Linux begins to choose client ports (ip_local_port_range)

_EVENTS = {1: "drop", 4: "trace", 5: "verdict", 129: "l7"}
_NO_TRAFFIC = {
    2: "debug event",
    3: "capture event",
    6: "capture event",
    7: "socket event",
    130: "agent event",
}
_DENIALS = frozenset(wire.POLICY_DROPS.values())
# Echo request and reply: RFC 792 has 8 and 0, RFC 4443 has 128 and 129.
_ECHO = {("ICMP", 8): False, ("ICMP", 0): True, ("ICMPv6", 128): False, ("ICMPv6", 129): True}


class Key(NamedTuple):
    """The categories of an event, as logged."""

    verdict: Enum
    drop_reason_desc: Enum
    drop_reason: int | None
    event_type: int
    sub_type: int
    Type: Enum
    direction: Enum
    observation: Enum
    trace_reason: Enum
    is_reply: bool | None
    reply: bool | None
    protocol: str | None
    icmp_type: int | None
    syn: bool | None
    ack: bool | None
    rst: bool | None
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
    syn: bool | None = None
    ack: bool | None = None
    rst: bool | None = None


def sign(key: Key) -> Sign:
    """What the categories say, before ports and ends are looked at."""
    verdict = word(key.verdict, wire.VERDICTS)
    observation = word(key.observation, wire.OBSERVATION_POINTS)
    flow_type = word(key.Type, wire.FLOW_TYPES)
    l7_type = word(key.l7_type, wire.L7_TYPES)
    if key.event_type == 4 and observation is None:
        # The monitor's own number for TO_ENDPOINT is 0, which flow.proto needs for "unknown".
        observation = wire.OBSERVATION_POINTS.get(key.sub_type or 101)
    drop_reason = _drop_reason(key)
    event = _EVENTS.get(key.event_type)
    if event is None:
        event = _masked_event(flow_type, verdict, drop_reason, key)
    skip = _skip(flow_type, verdict, event, l7_type, key)
    if skip is not None:
        return Sign(skip=skip)
    return Sign(
        event=event,
        verdict=_verdict(verdict, event, observation, drop_reason),
        drop_reason=drop_reason if verdict in ("DROPPED", "ERROR") else None,
        observation=text(observation),
        direction=word(key.direction, wire.DIRECTIONS),
        trace_reason=word(key.trace_reason, wire.TRACE_REASONS),
        reply=_reply(key, l7_type),
        protocol=key.protocol,
        icmp_type=key.icmp_type,
        syn=key.syn,
        ack=key.ack,
        rst=key.rst,
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
    flow_type: str | None,
    verdict: str | None,
    event: str,
    l7_type: str | None,
    key: Key,
) -> str | None:
    if key.event_type in _NO_TRAFFIC:
        return _NO_TRAFFIC[key.event_type]
    # Before service translation, and no decision of policy: the address is the Service's.
    if flow_type == "SOCK" or verdict in ("TRACED", "TRANSLATED"):
        return "socket event"
    if key.event_type not in _EVENTS and key.event_type != 0:
        return "other event"
    if verdict not in (None, *wire.VERDICTS.values()):
        return "other verdict"
    if event == "l7" and l7_type == "SAMPLE":
        return "L7 sample"
    if event == "l7" and l7_type == "RESPONSE" and not (key.dns and key.answered):
        return "L7 response"
    return None


def _drop_reason(key: Key) -> str | None:
    """The drop reason in the log's word, else by number; null where nothing was dropped."""
    number = key.drop_reason or (key.sub_type if key.event_type == 1 else 0)
    said = word(key.drop_reason_desc, wire.POLICY_DROPS)
    return text(said or word(number, wire.POLICY_DROPS))


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


def _reply(key: Key, l7_type: str | None) -> bool | None:
    """Whether the packet answers; null where only the ports can tell. Most reliable first."""
    if key.is_reply is not None:
        return key.is_reply
    if key.reply or l7_type is not None:
        return bool(key.reply) or l7_type == "RESPONSE"
    match word(key.trace_reason, wire.TRACE_REASONS):
        case "REPLY":
            return True
        case "NEW" | "ESTABLISHED":
            return False
    if key.protocol == "TCP" and key.syn:
        return key.ack
    return _ECHO.get((key.protocol or "", -1 if key.icmp_type is None else key.icmp_type))


def reply_by_ports(source: int | None, destination: int | None) -> bool | None:
    """Whether the packet answers, by its ports; null where both are high or both low."""
    if source is None or destination is None or (source < EPHEMERAL) == (destination < EPHEMERAL):
        return None
    return source < EPHEMERAL


def established(seen: Sign, reply: bool | None) -> bool | None:
    """Whether the event shows an answered connection; null where it can't tell."""
    if seen.event == "l7":
        return True
    if seen.protocol == "TCP" and seen.syn is not None:
        if reply:
            return not seen.rst
        if seen.syn and not seen.ack:
            return False
        if seen.ack and not seen.rst:
            return True
    if seen.trace_reason in ("ESTABLISHED", "REPLY"):
        return True
    return True if reply and seen.protocol != "TCP" else None


def reporter(seen: Sign, reply: bool | None, *, src_local: bool, dst_local: bool) -> str | None:
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
