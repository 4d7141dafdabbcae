"""What a Calico rule says of protocols and ports, read into `model.Ports`."""

from __future__ import annotations

import re

from recommender.dialects.fields import Field, Refused, shown
from recommender.model import ALL_PORTS, NO_PORTS, PORT_PROTOCOLS, Ports, PortSet

# projectcalico/calico api/pkg/lib/numorstring/protocol.go; IANA protocol numbers
_PROTOCOLS = {p.lower(): p for p in ("TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite")}
_NUMBERED = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP", 136: "UDPLite"}
_PORT_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


def protocol_in(field: Field) -> str | None:
    """The protocol in a field; one that `model` has no name for goes by its number."""
    if not field.given:
        return None
    if isinstance(field.value, str) and not field.value.isdigit():
        found = _PROTOCOLS.get(field.value.lower())
        if found is None:
            known = ", ".join(sorted(_PROTOCOLS.values()))
            raise Refused(field, f"{shown(field.value)} is none of {known} or 1-255")
        if found != field.value:
            field.say(f"must be written {found}")
        return found
    number = field.whole() if not isinstance(field.value, str) else int(field.value)
    if number is None or not 1 <= number <= 255:
        raise Refused(field, f"{shown(field.value)} is not a protocol number, 1-255")
    return _NUMBERED.get(number, str(number))


def _all_of(protocol: str) -> PortSet:
    intervals = ALL_PORTS.intervals(protocol) or ((0, 0),)
    return PortSet.of({protocol: intervals})


def _icmp(field: Field, protocol: str | None) -> PortSet:
    """The points `type * 256 + code` that an `icmp` or `notICMP` field names."""
    field.known("type", "code")
    if protocol not in ("ICMP", "ICMPv6"):
        raise Refused(field, "needs protocol ICMP or ICMPv6")
    kind, code = field["type"].whole(), field["code"].whole()
    if kind is None:
        if code is not None:
            raise Refused(field["code"], "needs a type")
        return _all_of(protocol)
    for part, value in (("type", kind), ("code", code or 0)):
        if not 0 <= value <= 255:
            raise Refused(field[part], "must be 0-255")
    low = kind * 256 + (code or 0)
    return PortSet.one(protocol, low, low if code is not None else low + 255)


def port_list(field: Field, protocol: str | None) -> tuple[PortSet, tuple[tuple[str, str], ...]]:
    """The numbers, and the names, in a list of ports."""
    numbers, named = [], set()
    for port in field.items():
        if protocol not in PORT_PROTOCOLS:
            raise Refused(field, "needs protocol TCP, UDP or SCTP")
        text = port.value if isinstance(port.value, str) else shown(port.value)
        match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
        if match:
            low, high = int(match[1]), int(match[2] or match[1])
            if not 1 <= low <= high <= 65535:
                raise Refused(port, f"{shown(text)} is not a port or range from 1 to 65535")
            numbers.append(PortSet.one(protocol, low, high))
        elif isinstance(port.value, str) and _PORT_NAME.fullmatch(text):
            named.add((protocol, text))
        else:
            raise Refused(port, f"{shown(text)} is neither a port, a range a:b nor a port's name")
    return PortSet.union(numbers), tuple(sorted(named))


def ports_in(rule: Field) -> Ports:
    """What a rule says of protocol, ICMP and the server's ports."""
    protocol, refused = protocol_in(rule["protocol"]), protocol_in(rule["notProtocol"])
    numbers = ALL_PORTS if protocol is None else _all_of(protocol)
    if rule["icmp"].given:
        numbers &= _icmp(rule["icmp"], protocol)
    server = rule["destination"]
    named: tuple[tuple[str, str], ...] = ()
    if server["ports"].given and server["ports"].value:
        listed, named = port_list(server["ports"], protocol)
        numbers &= listed
    not_numbers, not_named = port_list(server["notPorts"], protocol)
    if rule["notICMP"].given:
        not_numbers |= _icmp(rule["notICMP"], protocol)
    if refused:
        not_numbers |= _all_of(refused)
    # Numbers of names, and protocols that `ALL_PORTS` counts as others, are known later only.
    late = named or (refused and not ALL_PORTS.intervals(refused))
    return Ports(numbers - not_numbers, named, not_named, not_numbers if late else NO_PORTS)


def narrowed(ports: Ports, to: Ports) -> Ports:
    """The ports of `to` (a Service's), of the protocols that the rule itself allows."""
    protocols = {protocol for protocol, _ in ports.numbers.by_protocol}
    named = tuple(row for row in to.named if row[0] in protocols)
    return Ports(ports.numbers & to.numbers, named)
