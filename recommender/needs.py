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
from recommender.mesh import Mesh, remote_key
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
    Selector,
)
from recommender.selectors import Unit, is_lasting
from recommender.syntax import is_label_key, is_label_value
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
class Basis:
    """What needs are told from, beside the edges.

    `units` are what `selectors.units` returns for the inventory; `asked` the names by which
    workloads asked for addresses; `mesh` the clusters that this one is connected with; `closed`
    the addresses that no joined block may open.
    """

    inventory: Inventory
    units: Mapping[WorkloadKey, Unit]
    words: Words
    asked: Asked = field(default_factory=dict)
    mesh: Mesh = field(default_factory=Mesh)
    closed: frozenset[str] = frozenset()


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


def needs(rows: Iterable[Row], basis: Basis) -> Needs:
    """What the wanted edges (rows of what `classify.classified` returns) ask of each unit."""
    found = Needs()
    dns = dns_ports(basis.inventory)
    rows = list(rows)
    # The network learns a name's addresses from answers, so it must see the workload ask.
    asking = {workload_of(row, "client") for row in rows if is_dns(row, dns)}
    for row in rows:
        for direction in DIRECTIONS:
            own, other = ("server", "client") if direction == "ingress" else ("client", "server")
            key = workload_of(row, own)
            if key is None or key not in basis.units:
                continue
            unit = basis.units[key]
            found.seen.add(unit)
            ports, why = _ports(row, basis.words, dns)
            names = basis.asked.get(key, {}) if key in asking and other == "server" else {}
            peers, unnamed = _peers(row, other, unit, basis, names)
            if why or not peers:
                found.losses.append(Loss(unit, row, why or unnamed))
            asks = direction == "egress" and is_dns(row, dns)
            place = _place(row, other, basis.units)
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
    return ports_of(row) | run_of(row), ""


def ports_of(row: Row) -> PortSet:
    """The port of an edge; of ICMP all codes of its type."""
    protocol = str(row["protocol"])
    if protocol in ECHO:
        kind = ECHO[protocol] if row["port"] is None else int(row["port"])
        return PortSet.one(protocol, kind * 256, kind * 256 + 255)
    return PortSet.one(protocol, int(row["port"]))


def run_of(row: Row) -> PortSet:
    """The range that an edge belongs to (see `runs.runs`); empty where there is none."""
    return PortSet.one(str(row["protocol"]), *row["run"][:2]) if row["run"] else PortSet()


def _peers(
    row: Row, role: str, unit: Unit, basis: Basis, asked: Mapping[str, tuple[str, ...]]
) -> tuple[Sequence[Peer], str]:
    """One end of an edge as peers of `unit`, or why there is no word for it."""
    words = basis.words
    if key := workload_of(row, role):
        own = basis.mesh.cluster if words.clusters else None
        of = basis.units[key]
        if not is_label_value(of.namespace):
            return (), f"{key} is said to be of a namespace whose name Kubernetes does not take"
        return (_pods(of.selector, own, of.namespace, unit.namespace, words),), ""
    if row[f"{role}_type"] == "remote":
        return _remote(row, role, unit, basis)
    said = (peers for peers in _candidates(row, role, asked) if all(map(words.says, peers)))
    return next(said, ()), (
        f"{row[f'{role}_address']} is a node, and no ipBlock means a node on this network; a "
        "dialect of the network's own names nodes"
    )


def _remote(row: Row, role: str, unit: Unit, basis: Basis) -> tuple[Sequence[Peer], str]:
    """A pod of another cluster, by the labels that it was seen to bear."""
    cluster, namespace, _, name = key = remote_key(row, role)
    words, labels = basis.words, basis.mesh.remotes.get(key, {})
    lasting = {
        k: v
        for k, v in labels.items()
        if is_lasting(k) and not words.hides(k) and is_label_key(k) and is_label_value(v)
    }
    whose = f"{namespace}/{name} is a pod of cluster {cluster}"
    if not words.clusters:
        return (), f"{whose}, which a {words.title} cannot tell from ours"
    if not lasting or not all(map(is_label_value, (cluster, namespace))):
        return (), f"{whose}, and the log shows no label of it that can be used"
    terms = And(tuple(In(f"pod:{k}", frozenset({v})) for k, v in sorted(lasting.items())))
    return (_pods(terms, cluster, namespace, unit.namespace, words),), ""


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


def _pods(selector: Selector, cluster: str | None, namespace: str, own: str, words: Words) -> Peer:
    """Pods as a peer of policies in the namespace `own`."""
    terms = selector.terms if isinstance(selector, And) else (selector,)
    key = "meta:namespace" if namespace == own else words.namespace_key
    where = [In("meta:cluster", frozenset({cluster}))] if cluster else []
    return LabelPeer(And((*where, In(key, frozenset({namespace})), *terms)))
