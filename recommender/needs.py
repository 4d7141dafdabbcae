"""Wanted edges -> what each unit of workloads needs: peers in a dialect's words, ports, evidence.

An end that a dialect has several words for gets the most exact: pods by their labels; nodes, the
API server and the CNI's proxy as entities; outside addresses by the names that the client asked
for; else by the address. What there is no word for comes back as a loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from recommender.dns import dns_ports, is_dns
from recommender.frames import Row, workload_of
from recommender.inventory import Inventory, WorkloadKey
from recommender.model import (
    DIRECTIONS,
    AddressPeer,
    And,
    Direction,
    EntityPeer,
    In,
    LabelPeer,
    NamePeer,
    Peer,
    PortSet,
)
from recommender.selectors import Unit
from recommender.words import Words

# The names by which each workload asked for an address: by workload, then by address.
Asked = Mapping[WorkloadKey, Mapping[str, tuple[str, ...]]]

# cilium/cilium pkg/policy/api/entity.go
_ENTITIES = {
    "host": ("host",),
    # A pod that is moved to the node which it calls calls its own node then.
    "node": ("remote-node", "host"),
    "apiserver": ("kube-apiserver",),
    "ingress": ("ingress",),
}
_NODES = ("host", "node")
# What is asked of others: an echo. The other messages of ICMP belong to connections, which carry
# them along (RFC 792, RFC 4443).
ECHO = {"ICMP": 8, "ICMPv6": 128}


@dataclass(frozen=True, slots=True)
class Need:
    """One unit's part in one wanted edge, as the rule that would let it pass.

    `place` orders peers: addresses first, then workloads by namespace and name. `asks` says that
    it is DNS, by whose answers a network may learn the addresses of names.
    """

    unit: Unit
    direction: Direction
    peer: Peer
    ports: PortSet
    row: Row
    place: tuple[str, str, str]
    asks: bool


@dataclass(frozen=True, slots=True)
class Loss:
    """A wanted edge that a dialect has no words for at one unit, and why."""

    unit: Unit
    row: Row
    why: str


@dataclass
class Needs:
    """All needs, the losses, and the units that were seen at all."""

    needs: list[Need] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    seen: set[Unit] = field(default_factory=set)


def needs(
    rows: Iterable[Row],
    inventory: Inventory,
    units: Mapping[WorkloadKey, Unit],
    words: Words,
    asked: Asked,
) -> Needs:
    """What the wanted edges ask of each unit.

    Args:
        rows: wanted edges, rows of what `classify.classified` returns.
        inventory: of the same cluster.
        units: what `selectors.units` returns for it.
        words: of the dialect.
        asked: the names by which workloads asked for addresses.
    """
    found = Needs()
    dns = dns_ports(inventory)
    rows = list(rows)
    # The network learns a name's addresses from answers, so it must see the workload ask.
    asking = {workload_of(row, "client") for row in rows if is_dns(row, dns)}
    for row in rows:
        for direction in DIRECTIONS:
            own, other = ("server", "client") if direction == "ingress" else ("client", "server")
            key = workload_of(row, own)
            if key is None or key not in units:
                continue
            unit = units[key]
            found.seen.add(unit)
            ports, why = _ports(row, words, dns)
            names = asked.get(key, {}) if key in asking and other == "server" else {}
            peers, unnamed = _peers(row, other, unit, units, words, names)
            if why or not peers:
                found.losses.append(Loss(unit, row, why or unnamed))
            asks = direction == "egress" and is_dns(row, dns)
            place = _place(row, other, units)
            found.needs += [
                Need(unit, direction, peer, ports, row, place, asks) for peer in peers if not why
            ]
    return found


def _ports(row: Row, words: Words, dns: frozenset[tuple[str | None, int]]) -> tuple[PortSet, str]:
    """The ports of an edge, or why there is no word for them."""
    protocol = str(row["protocol"])
    if protocol not in words.protocols:
        return PortSet(), (
            f"{protocol} was seen, which a {words.title} cannot name; most networks stop it once "
            "the pod is isolated"
        )
    if is_dns(row, dns):
        # A truncated answer is asked for again over TCP (RFC 7766), which few windows show.
        port = int(row["port"])
        return PortSet.one("TCP", port) | PortSet.one("UDP", port), ""
    return ports_of(row), ""


def ports_of(row: Row) -> PortSet:
    """The port of an edge; of ICMP all codes of its type."""
    protocol = str(row["protocol"])
    if protocol in ECHO:
        kind = ECHO[protocol] if row["port"] is None else int(row["port"])
        return PortSet.one(protocol, kind * 256, kind * 256 + 255)
    return PortSet.one(protocol, int(row["port"]))


def _peers(
    row: Row,
    role: str,
    unit: Unit,
    units: Mapping[WorkloadKey, Unit],
    words: Words,
    asked: Mapping[str, tuple[str, ...]],
) -> tuple[Sequence[Peer], str]:
    """One end of an edge as peers of `unit`, or why there is no word for it."""
    if key := workload_of(row, role):
        return (label_peer(units[key], unit.namespace, words),), ""
    said = (peers for peers in _candidates(row, role, asked) if all(map(words.says, peers)))
    return next(said, ()), (
        f"{row[f'{role}_address']} is a node, and no ipBlock means a node on this network; a "
        "dialect of the network's own names nodes"
    )


def _candidates(
    row: Row, role: str, asked: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[Peer, ...]]:
    """What an end that is no pod can be written as, the best first."""
    kind, address = str(row[f"{role}_type"]), str(row[f"{role}_address"])
    if kind in _ENTITIES:
        of_kind = _ENTITIES[kind] if role == "server" else _ENTITIES[kind][:1]
        yield tuple(map(EntityPeer, of_kind))
    elif names := asked.get(address):
        yield (NamePeer(names),)
    yield (AddressPeer((address,), reach="nodes" if kind in _NODES else "outside"),)


def _place(row: Row, role: str, units: Mapping[WorkloadKey, Unit]) -> tuple[str, str, str]:
    if key := workload_of(row, role):
        return units[key].namespace, units[key].name, ""
    return "", "", str(row[f"{role}_address"])


def label_peer(of: Unit, namespace: str, words: Words) -> Peer:
    """A unit as a peer of policies in `namespace`."""
    terms = of.selector.terms if isinstance(of.selector, And) else (of.selector,)
    key = "meta:namespace" if of.namespace == namespace else words.namespace_key
    return LabelPeer(And((In(key, frozenset({of.namespace})), *terms)))
