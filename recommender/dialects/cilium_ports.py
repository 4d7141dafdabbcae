"""What a Cilium rule says of ports, ICMP and layer 7, read into `model.Ports` and a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from recommender.dialects.cilium_peers import dns_name
from recommender.dialects.fields import Field, Refused, shown
from recommender.model import NO_PORTS, PORT_PROTOCOLS, Direction, Ports, PortSet

_PROTOCOLS = (*PORT_PROTOCOLS, "VRRP", "IGMP")
_MOST_PORTS = _MOST_ICMP_FIELDS = 40
_NUMBER = re.compile(r"[0-9]{1,5}")
# pkg/iana/svcname.go
_SERVICE_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-zA-Z])[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*")
# cilium/cilium pkg/policy/api/icmp.go
_ICMP_TYPES = {
    "EchoReply": 0,
    "DestinationUnreachable": 3,
    "Redirect": 5,
    "Echo": 8,
    "EchoRequest": 8,
    "RouterAdvertisement": 9,
    "RouterSelection": 10,
    "TimeExceeded": 11,
    "ParameterProblem": 12,
    "Timestamp": 13,
    "TimestampReply": 14,
    "Photuris": 40,
    "ExtendedEchoRequest": 42,
    "ExtendedEchoReply": 43,
}
_ICMPV6_TYPES = {
    "DestinationUnreachable": 1,
    "PacketTooBig": 2,
    "TimeExceeded": 3,
    "ParameterProblem": 4,
    "EchoRequest": 128,
    "EchoReply": 129,
    "MulticastListenerQuery": 130,
    "MulticastListenerReport": 131,
    "MulticastListenerDone": 132,
    "RouterSolicitation": 133,
    "RouterAdvertisement": 134,
    "NeighborSolicitation": 135,
    "NeighborAdvertisement": 136,
    "RedirectMessage": 137,
    "RouterRenumbering": 138,
    "ICMPNodeInformationQuery": 139,
    "ICMPNodeInformationResponse": 140,
    "InverseNeighborDiscoverySolicitation": 141,
    "InverseNeighborDiscoveryAdvertisement": 142,
    "HomeAgentAddressDiscoveryRequest": 144,
    "HomeAgentAddressDiscoveryReply": 145,
    "MobilePrefixSolicitation": 146,
    "MobilePrefixAdvertisement": 147,
    "DuplicateAddressRequestCodeSuffix": 157,
    "DuplicateAddressConfirmationCodeSuffix": 158,
    "ExtendedEchoRequest": 160,
    "ExtendedEchoReply": 161,
}
_FAMILIES = {"IPv4": ("ICMP", _ICMP_TYPES), "IPv6": ("ICMPv6", _ICMPV6_TYPES)}


def traffic_in(element: Field, direction: Direction) -> list[tuple[Ports, str | None]]:
    """The ports of one element of a rule list, each with what restricts it on layer 7.

    Ports of one restriction come together; an element that names no ports means all, and every
    protocol. One that names some does not cover ICMP (Documentation/security/policy/layer4.rst).
    """
    ports, icmps = element["toPorts"], element["icmps"]
    if ports.value and icmps.value:
        raise Refused(icmps, "may not stand beside toPorts")
    if icmps.value:
        numbers = NO_PORTS
        for icmp in icmps.items():
            numbers |= _icmp(icmp)
        return [(Ports(numbers), None)]
    if not ports.value:
        return [(Ports(), None)]
    found: dict[str | None, list[Ports]] = {}
    for entry in ports.items():
        listed = _ports(entry["ports"])
        found.setdefault(_restriction(entry, direction), []).extend(listed)
    return [(_union(listed), restricted) for restricted, listed in found.items() if listed]


def _union(ports: Sequence[Ports]) -> Ports:
    named = {name for each in ports for name in each.named}
    return Ports(PortSet.union(each.numbers for each in ports), tuple(sorted(named)))


def _ports(ports: Field) -> Iterator[Ports]:
    fields = list(ports.items())
    if len(fields) > _MOST_PORTS:
        ports.say(f"has {len(fields)} ports; {_MOST_PORTS} are the most in one entry of toPorts")
    return (_port(field) for field in fields)


def _port(port: Field) -> Ports:
    """One port, range or name of each protocol; port 0 is all of them."""
    port.known("port", "endPort", "protocol")
    text, end = port["port"].text(), port["endPort"].whole()
    protocols = _protocols(port["protocol"])
    if _NUMBER.fullmatch(text):
        low = int(text)
        high = (end or low) if low else 65535
        if not low <= high <= 65535:
            bad = port["endPort"] if end else port["port"]
            raise Refused(bad, f"{low}-{high} is not a range of ports")
        spans = {p: [(max(low, 1), high) if p in PORT_PROTOCOLS else (0, 0)] for p in protocols}
        return Ports(PortSet.of(spans))
    if not _SERVICE_NAME.fullmatch(text):
        raise Refused(port["port"], f"{shown(text)} is neither a port number nor a port's name")
    if end:
        port["endPort"].say("has no effect beside a port's name")
    return Ports(NO_PORTS, tuple((protocol, text.lower()) for protocol in protocols))


def _protocols(field: Field) -> tuple[str, ...]:
    """The protocols that a field means; ANY, or nothing said, means those that have ports."""
    text = field.text()
    name = text.upper()
    if name in ("", "ANY"):
        return PORT_PROTOCOLS
    if name not in _PROTOCOLS:
        raise Refused(field, f"{shown(text)} is none of ANY, {', '.join(_PROTOCOLS)}")
    if text != name:
        field.say(f"must be written {name}")
    return (name,)


def _icmp(icmp: Field) -> PortSet:
    """The points `type * 256 + code` of every code of the types in an `icmps` entry.

    Type 0 is port 0 of the agent's policy map, which stands for every port, so for every type
    (cilium/cilium pkg/policy/api/icmp.go and pkg/policy/types/types.go, WithPort).
    """
    icmp.known("fields")
    fields = list(icmp["fields"].items())
    if len(fields) > _MOST_ICMP_FIELDS:
        icmp["fields"].say(f"has {len(fields)} fields; {_MOST_ICMP_FIELDS} are the most")
    numbers = NO_PORTS
    for field in fields:
        field.known("family", "type")
        family = field["family"].text() or "IPv4"
        if family not in _FAMILIES:
            raise Refused(field["family"], "must be IPv4 or IPv6")
        protocol, names = _FAMILIES[family]
        value = field["type"].value
        kind = names.get(value, value) if isinstance(value, str) else value
        if isinstance(kind, str) and _NUMBER.fullmatch(kind):
            kind = int(kind)
        if isinstance(kind, bool) or not isinstance(kind, int) or not 0 <= kind <= 255:
            raise Refused(field["type"], f"{shown(value)} is not a type of {protocol}")
        if kind == 0:
            field["type"].say("0 means every type to the agent")
        numbers |= PortSet.one(protocol, kind * 256, kind * 256 + 255 if kind else 65535)
    return numbers


# --- layer 7 -----------------------------------------------------------------------------------


def _restriction(entry: Field, direction: Direction) -> str | None:
    """What narrows an entry of `toPorts` beyond its ports; null where nothing does."""
    entry.known("ports", "rules", "serverNames", "listener", "terminatingTLS", "originatingTLS")
    said = [_layer7(entry, direction)]
    if entry["serverNames"].value:
        said.append("tls server name " + " or ".join(entry["serverNames"].texts()))
    if entry["listener"].given:
        if direction == "ingress":
            entry["listener"].say("may stand in an egress rule only")
        said.append(f"listener {entry['listener']['name'].text()}")
    return "; ".join(text for text in said if text) or None


def _layer7(entry: Field, direction: Direction) -> str | None:
    """The layer 7 rules as a text; null where there are none or where one of them allows all."""
    rules = entry["rules"]
    rules.known("http", "kafka", "dns", "l7proto", "l7")
    kinds = [kind for kind in ("http", "kafka", "dns", "l7proto") if rules[kind].value]
    if len(kinds) > 1:
        raise Refused(rules[kinds[1]], f"may not stand beside {kinds[0]}")
    if not kinds:
        return None
    kind = kinds[0]
    _check_layer7(entry, kind, direction)
    if kind == "l7proto":
        return f"l7 {rules[kind].text()}"
    texts = [_one(rule, kind) for rule in rules[kind].items()]
    return f"{kind} {' or '.join(texts)}" if all(texts) else None


def _one(rule: Field, kind: str) -> str:
    """One layer 7 rule as a text; empty where it allows everything."""
    if kind == "dns":
        name = dns_name(rule)
        return "" if name == "*" else name
    first = ("method", "path", "host") if kind == "http" else ("role", "apiKey", "topic")
    rest = sorted(key for key in rule.mapping() if key not in first)
    return " ".join(
        [*(rule[key].text() for key in first if rule[key].given), *(f"with {k}" for k in rest)]
    )


def _check_layer7(entry: Field, kind: str, direction: Direction) -> None:
    """Say what pkg/policy/api/rule_validation.go refuses in an entry with layer 7 rules."""
    rules = entry["rules"][kind]
    if kind == "dns" and direction == "ingress":
        raise Refused(rules, "may stand in an egress rule only")
    if kind == "dns" and not entry["ports"].value:
        raise Refused(rules, "needs ports")
    if entry["listener"].given:
        entry["listener"].say("may not stand beside layer 7 rules")
    if entry["serverNames"].value and not entry["terminatingTLS"].given:
        entry["serverNames"].say("may not stand beside layer 7 rules without terminatingTLS")
    for port in entry["ports"].items():
        if port["port"].text() == "0":
            port["port"].say("0 may not stand beside layer 7 rules")
        if kind == "dns" and port["endPort"].whole():
            port["endPort"].say("may not stand beside DNS rules")
        if kind != "dns" and port["protocol"].text() != "TCP":
            port["protocol"].say("must be TCP beside layer 7 rules")
