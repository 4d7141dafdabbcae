"""Who can be an end of a connection, and which of them a selector or a peer matches.

The ends are numbered: every pod, then every atom of the address space (a node is the atoms of its
addresses). A set of ends is a mask, one bit for each, held in one Python integer, so that a
selector over ten thousand pods is a few operations on a few words.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import NamedTuple, assert_never

import numpy as np
import numpy.typing as npt

from recommender.addresses import Address, Atoms, address, span
from recommender.inventory import Inventory, Node, Pod
from recommender.known import Known
from recommender.model import (
    AddressPeer,
    AllOf,
    And,
    AnyOf,
    AnyPeer,
    EntityPeer,
    Has,
    HostNetwork,
    In,
    LabelPeer,
    NamePeer,
    NodePeer,
    Not,
    NotPeer,
    Or,
    Peer,
    Policy,
    Selector,
    Text,
    UnknownPeer,
)

Mask = int
_GLOB = re.compile(r"[?[]")  # what has a meaning to fnmatch, and none in a DNS name


class Truth(NamedTuple):
    """A set that may be known in part: who is surely in it, and who may be."""

    sure: Mask
    may: Mask

    def __and__(self, other: Truth) -> Truth:
        return Truth(self.sure & other.sure, self.may & other.may)

    def __or__(self, other: Truth) -> Truth:
        return Truth(self.sure | other.sure, self.may | other.may)


def mask(positions: Iterable[int]) -> Mask:
    """The mask of some ends."""
    given = np.fromiter(positions, np.int64)
    if not given.size:
        return 0
    bits = np.zeros(int(given.max()) + 1, np.bool_)
    bits[given] = True
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


def bits(given: Mask, size: int) -> npt.NDArray[np.bool_]:
    """A mask as an array of `size` booleans."""
    packed = np.frombuffer(given.to_bytes((size + 7) // 8, "little"), np.uint8)
    return np.unpackbits(packed, count=size, bitorder="little").astype(np.bool_)


@dataclass(frozen=True)
class Universe:
    """The numbered ends of one inventory, the address space cut by the blocks in question.

    `told` is what flows tell beside it. `nodes` are those of the inventory and those that pods
    name; `node_ends` are a node's atoms and host-network pods; `points` are the addresses of pods,
    sorted, with their ends. `plain` are the pods with an address of their own, `hosts` those on
    their node's; `lost` have none.
    """

    inventory: Inventory
    told: Known
    atoms: Atoms
    pods: tuple[Pod, ...]
    nodes: dict[str, Node]
    node_ends: dict[str, Mask]
    known: frozenset[str]
    points: tuple[tuple[Address, int], ...]
    full: Mask
    plain: Mask
    hosts: Mask
    outside: Mask
    lost: Mask
    _labels: dict[str, dict[str, Mask]] = field(default_factory=dict, repr=False)
    _selected: dict[Selector, Truth] = field(default_factory=dict, repr=False)
    _matched: dict[tuple[Peer, str | None], Truth] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        """How many ends there are."""
        return len(self.pods) + len(self.atoms)

    def labels(self, key: str) -> dict[str, Mask]:
        """The pods that carry a key, by its value; host-network pods carry none."""
        if key not in self._labels:
            found: dict[str, list[int]] = {}
            for i, pod in enumerate(self.pods):
                value = None if pod.host_network else _label(self.inventory, pod, key)
                if value is not None:
                    found.setdefault(value, []).append(i)
            self._labels[key] = {value: mask(at) for value, at in found.items()}
        return self._labels[key]

    def selected(self, selector: Selector) -> Truth:
        """The pods that a selector matches."""
        if selector not in self._selected:
            self._selected[selector] = self._select(selector)
        return self._selected[selector]

    def _select(self, selector: Selector) -> Truth:
        match selector:
            case And(terms=terms):
                out = Truth(self.plain, self.plain)
                for term in terms:
                    out &= self.selected(term)
                return out
            case Or(terms=terms):
                out = Truth(0, 0)
                for term in terms:
                    out |= self.selected(term)
                return out
            case Not(term=term):
                inner = self.selected(term)
                return Truth(self.plain & ~inner.may, self.plain & ~inner.sure)
            case Has(key=key) | In(key=key) | Text(key=key):
                if key == "meta:cluster":  # No inventory says its cluster's name.
                    own = self.told.cluster
                    sure = self.plain if own and selector.matches({key: own}) else 0
                    return Truth(sure, sure if own else self.plain)
                found, bearing = 0, self.labels(key)
                # The values of a selector are few; those that pods bear may be many.
                for value in selector.values if isinstance(selector, In) else bearing:
                    if selector.matches({key: value}):
                        found |= bearing.get(value, 0)
                return Truth(0 if key.startswith("hidden:") else found, found)
        assert_never(selector)

    def matched(self, peer: Peer, node: str | None = None) -> Truth:
        """The ends that a peer matches, seen from an end on `node`."""
        key = peer, node
        if key not in self._matched:
            self._matched[key] = self._match(peer, node)
        return self._matched[key]

    def _match(self, peer: Peer, node: str | None) -> Truth:
        match peer:
            case AnyPeer():
                return Truth(self.full, self.full)
            case LabelPeer(selector=selector):
                return self.selected(selector)
            case NodePeer(selector=selector):
                return self._nodes(selector)
            case AddressPeer():
                return self._addressed(peer)
            case EntityPeer(entity=entity):
                return self._entity(entity, node)
            case NamePeer(names=names):
                return self._named(names)
            case NotPeer(peer=inner):
                sure, may = self.matched(inner, node)
                return Truth(self.full & ~may, self.full & ~sure)
            case AllOf(peers=peers):
                out = Truth(self.full, self.full)
                for each in peers:
                    out &= self.matched(each, node)
                return out
            case AnyOf(peers=peers):
                out = Truth(0, 0)
                for each in peers:
                    out |= self.matched(each, node)
                # The two are every node, whichever the looker's own is.
                if EntityPeer("host") in peers and EntityPeer("remote-node") in peers:
                    nodes = self.full & ~self.plain & ~self.outside
                    out |= Truth(nodes, nodes)
                return out
            case UnknownPeer():
                return Truth(0, self.full)
        assert_never(peer)

    def _nodes(self, selector: Selector) -> Truth:
        sure = may = 0
        for name, node in self.nodes.items():
            labels = {f"node:{key}": value for key, value in node.labels.items()}
            if name not in self.known:  # Only pods tell of this node; its labels are unknown.
                may |= self.node_ends[name]
            elif selector.matches(labels):
                sure |= self.node_ends[name]
        return Truth(sure, sure | may)

    def _addressed(self, peer: AddressPeer) -> Truth:
        reach = {
            "outside": self.outside,
            "nodes": self.full & ~self.plain,
            "all": self.full,
        }[peer.reach]
        inside = self.inside(peer.blocks, peer.excepts)
        # An end whose addresses are not known is surely in no block but that of all addresses.
        if not peer.excepts and {"0.0.0.0/0", "::/0"} & set(peer.blocks):
            inside |= self.lost
        return Truth(inside & reach, (inside | self.lost) & reach)

    def inside(self, blocks: Sequence[str], excepts: Sequence[str] = ()) -> Mask:
        """The ends with an address that is inside some block and in none of the exceptions."""
        points = self._points(blocks) - self._points(excepts)
        atoms = {at for block in blocks for at in self.atoms.run(block)}
        atoms.difference_update(at for block in excepts for at in self.atoms.run(block))
        ends = (self.points[at][1] for at in points)
        return mask([*ends, *(len(self.pods) + atom for atom in atoms)])

    def _points(self, blocks: Sequence[str]) -> set[int]:
        found: set[int] = set()
        for first, last in map(span, blocks):
            low = bisect_left(self.points, (first, -1))
            found.update(range(low, bisect_right(self.points, (last, self.size))))
        return found

    def _entity(self, entity: str, node: str | None) -> Truth:
        nodes = self.full & ~self.plain & ~self.outside
        known = {
            "all": self.full,
            "world": self.outside,
            "world-ipv4": self.outside & self.inside(["0.0.0.0/0"]),
            "world-ipv6": self.outside & self.inside(["::/0"]),
            "cluster": self.plain | nodes,
            "ingress": self.inside(sorted(self.told.entities.get("ingress", ()))),
            # No end of these kinds is in an inventory.
            **dict.fromkeys(("none", "init", "health", "unmanaged"), 0),
        }
        if entity in known:
            return Truth(known[entity], known[entity])
        if entity in ("host", "remote-node"):
            here = self.node_ends.get(node or "")
            if here is None:
                return Truth(0, nodes)
            found = here if entity == "host" else nodes & ~here
            return Truth(found, found)
        if entity == "kube-apiserver":
            found = self._apiserver()
            return Truth(found, found or nodes | self.outside)
        return Truth(0, self.full)

    def _apiserver(self) -> Mask:
        # kubeadm and its likes run the API server as a host-network pod with this label.
        found = self.inside(sorted(self.told.entities.get("kube-apiserver", ()))) & ~self.plain
        for pod in self.pods:
            if pod.host_network and pod.labels.get("component") == "kube-apiserver":
                found |= self.node_ends.get(node_of(pod) or "", 0)
        return found

    def _named(self, names: Sequence[str]) -> Truth:
        found: set[str] = set()
        lost = False
        for name in names:
            known = [each for each in self.told.names if _name_matches(name, each)]
            found.update(at for each in known for at in self.told.names[each])
            lost = lost or not known
        sure = self.inside(sorted(found)) & self.outside
        return Truth(sure, self.outside if lost else sure)

    def node_at(self, end: int) -> Iterator[str]:
        """The nodes that an address belongs to."""
        return (name for name, ends in self.node_ends.items() if ends >> end & 1)


def universe(
    inventory: Inventory,
    policies: Iterable[Policy],
    told: Known,
    host_network: HostNetwork = "as nodes",
) -> Universe:
    """The ends of an inventory, cut by the blocks of these policies and by what flows tell."""
    pods = tuple(inventory.pods[key] for key in sorted(inventory.pods))
    if host_network == "as pods":
        pods = tuple(replace(pod, host_network=False) for pod in pods)
    nodes = dict(inventory.nodes)
    for pod in pods:
        if (name := node_of(pod)) and name not in nodes:
            nodes[name] = Node(name, {}, pod.node_addresses)
    seen = {at for node in nodes.values() for at in node.addresses}
    nodes |= {at: Node(at, {}, (at,)) for at in sorted(told.nodes - seen)}
    blocks = {block for policy in policies for block in _blocks(policy)}
    blocks |= {at for each in (told.names, told.entities) for some in each.values() for at in some}
    own = {name: {a for a in node.addresses if address(a)} for name, node in nodes.items()}
    atoms = Atoms.cut([*blocks, *(a for addresses in own.values() for a in addresses)])
    count, size = len(pods), len(pods) + len(atoms)
    hosts = mask(i for i, pod in enumerate(pods) if pod.host_network)
    node_ends = {
        name: mask(
            [count + atom for at in addresses for atom in atoms.run(at)]
            + [i for i, pod in enumerate(pods) if pod.host_network and node_of(pod) == name]
        )
        for name, addresses in own.items()
    }
    occupied = hosts
    for ends in node_ends.values():
        occupied |= ends
    full = (1 << size) - 1
    return Universe(
        inventory=inventory,
        told=told,
        atoms=atoms,
        pods=pods,
        nodes=nodes,
        node_ends=node_ends,
        known=frozenset(inventory.nodes),
        points=tuple(sorted((at, i) for i, pod in enumerate(pods) for at in _addresses(pod))),
        full=full,
        plain=((1 << count) - 1) & ~hosts,
        hosts=hosts,
        outside=full & ~((1 << count) - 1) & ~occupied,
        lost=mask(i for i, pod in enumerate(pods) if not _addresses(pod)),
    )


def node_of(pod: Pod) -> str | None:
    """The node that a pod runs on: its name, or where only addresses are known, these."""
    return pod.node or ", ".join(pod.node_addresses) or None


def _addresses(pod: Pod) -> list[Address]:
    given = (pod.node_addresses or pod.addresses) if pod.host_network else pod.addresses
    return [at for at in map(address, given) if at]


def _label(inventory: Inventory, pod: Pod, key: str) -> str | None:
    kind, _, name = key.partition(":")
    match kind, name:
        case "pod" | "hidden", _:
            return pod.labels.get(name)
        case "ns", _:
            namespace = inventory.namespaces.get(pod.namespace)
            if namespace is None:
                return pod.namespace if name == "kubernetes.io/metadata.name" else None
            return namespace.labels.get(name)
        case "sa", _:
            account = pod.namespace, pod.service_account
            return inventory.service_accounts.get(account, {}).get(name)
        case "meta", "namespace":
            return pod.namespace
        case "meta", "service-account":
            return pod.service_account
    return None


def _blocks(policy: Policy) -> Iterator[str]:
    waiting = [p for rule in (*policy.ingress, *policy.egress) for p in (rule.peer, rule.local)]
    waiting.append(policy.hosts)
    while waiting:
        match waiting.pop():
            case AddressPeer(blocks=blocks, excepts=excepts):
                yield from (*blocks, *excepts)
            case NotPeer(peer=inner):
                waiting.append(inner)
            case AllOf(peers=peers) | AnyOf(peers=peers):
                waiting.extend(peers)


def _name_matches(pattern: str, name: str) -> bool:
    if pattern == "*":
        return True
    wanted, labels = pattern.lower().rstrip(".").split("."), name.lower().rstrip(".").split(".")
    if wanted[0] == "**" and len(labels) > len(wanted) > 1:
        labels = labels[1 - len(wanted) :]
        wanted = wanted[1:]
    # fnmatch looks for each text between stars once: no pattern takes more than linear time.
    return len(wanted) == len(labels) and all(
        fnmatchcase(label, _GLOB.sub(r"[\g<0>]", part))
        for part, label in zip(wanted, labels, strict=True)
    )


def is_local(peer: Peer) -> bool:
    """Whether the meaning of a peer depends on the node of the end that looks at it."""
    match peer:
        case EntityPeer(entity=entity):
            return entity in ("host", "remote-node")
        case NotPeer(peer=inner):
            return is_local(inner)
        case AllOf(peers=peers) | AnyOf(peers=peers):
            return any(is_local(each) for each in peers)
    return False
