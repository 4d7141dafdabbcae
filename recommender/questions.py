"""What a question about a connection means: its protocol and port, and a Service's ports."""

from __future__ import annotations

from functools import lru_cache

from recommender.errors import QuestionError
from recommender.inventory import Service
from recommender.ports import NO_PORTS, PORT_PROTOCOLS, Ports, PortSet

# www.iana.org/assignments/protocol-numbers: those that policies and flow logs name.
_NUMBERS = {
    "ICMP": 1,
    "IGMP": 2,
    "IPIP": 4,
    "TCP": 6,
    "UDP": 17,
    "IPv6": 41,
    "RSVP": 46,
    "GRE": 47,
    "ESP": 50,
    "AH": 51,
    "ICMPv6": 58,
    "OSPF": 89,
    "PIM": 103,
    "VRRP": 112,
    "L2TP": 115,
    "SCTP": 132,
    "UDPLite": 136,
}
_BY_NAME = {name.upper(): number for name, number in _NUMBERS.items()}
_NO_NUMBER = "OTHER"  # any protocol that no policy names


@lru_cache(maxsize=4096)  # edges ask for the same few ports again and again
def asked_ports(protocol: str, port: int | None, everything: PortSet) -> PortSet:
    """The ports of `everything` that a question means; a null port asks for all of a protocol.

    Raises:
        QuestionError: there is no such protocol.
    """
    number = protocol_number(protocol)
    known = [name for name, _ in everything.by_protocol]
    names = [name for name in known if name != _NO_NUMBER and protocol_number(name) == number]
    asked = NO_PORTS
    for name in names or [_NO_NUMBER]:
        if port is None or name not in (*PORT_PROTOCOLS, "ICMP", "ICMPv6"):
            asked |= PortSet.of({name: everything.intervals(name)})
        elif name in ("ICMP", "ICMPv6") and port < 256:
            asked |= PortSet.one(name, port * 256, port * 256 + 255)
        else:
            asked |= PortSet.one(name, port)
    return asked


def protocol_number(text: str) -> int | None:
    """The number of a protocol that goes by its name or number; null for OTHER.

    Raises:
        QuestionError: there is no such protocol.
    """
    number = int(text) if text.isascii() and text.isdecimal() else _BY_NAME.get(text.upper())
    if text.upper() == _NO_NUMBER:
        return None
    if number is None or number > 255:
        names = ", ".join(_NUMBERS)
        raise QuestionError(f"no protocol {text[:80]!r}; write its number, or one of {names}")
    return number


def targets(service: Service, protocol: str, port: int | None) -> list[Ports]:
    """The ports on its pods that a Service's port means."""
    number = protocol_number(protocol)
    return [
        target_ports(given, target)
        for given, listening, target, _ in service.ports
        if protocol_number(given) == number and listening == port
    ]


def target_ports(protocol: str, target: int | str) -> Ports:
    """The ports that a Service's target port means."""
    if isinstance(target, str):
        return Ports(NO_PORTS, ((protocol.upper(), target),))
    return Ports(PortSet.one(protocol.upper(), target))


def unserved(service: Service, protocol: str, port: int | None, *, has_pods: bool) -> str:
    """Why a Service takes a connection nowhere."""
    wanted = targets(service, protocol, port)
    lack = f"has no port {protocol} {port}"
    if wanted and has_pods:
        names = " or ".join(sorted({name for ports in wanted for _, name in ports.named}))
        lack = f"has no pod with a port {names}"
    elif wanted:
        lack = "has no pods"
    return f"Service {service.namespace}/{service.name} {lack} here"
