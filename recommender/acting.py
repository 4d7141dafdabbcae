"""Policies over the ends of an inventory: which act on whom, and what their rules match."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recommender.inventory import Pod
from recommender.model import (
    ALL_PORTS,
    DIRECTIONS,
    AllOf,
    Direction,
    Peer,
    Policy,
    Ports,
    PortSet,
    Rule,
    UnknownPeer,
)
from recommender.tiers import Turn, turns
from recommender.universe import Mask, Truth, Universe, bits, is_local, mask, node_of

Kleene = bool | None


@dataclass(frozen=True)
class Acting:
    """Policies in their tiers; `subjects` holds, for each that is `placed`, whom it selects.

    A policy that may select somebody, but not surely, is placed once more, in doubt. `everything`
    is every port, those of the other protocols that the policies name included.
    """

    world: Universe
    policies: tuple[Policy, ...]
    placed: tuple[Policy, ...]
    subjects: tuple[Mask, ...]
    everything: PortSet
    _applying: dict[int, tuple[int, ...]] = field(default_factory=dict, repr=False)
    _turns: dict[tuple[tuple[int, ...], Direction], tuple[Turn, ...]] = field(
        default_factory=dict, repr=False
    )
    _served: dict[Ports, tuple[tuple[PortSet, Mask], ...]] = field(default_factory=dict, repr=False)
    _matched: dict[int, tuple[Peer, Truth | None]] = field(default_factory=dict, repr=False)

    def rules(self) -> Iterator[Rule]:
        """Every rule of every policy."""
        for policy in self.policies:
            yield from policy.ingress
            yield from policy.egress

    def applying(self, end: int) -> tuple[int, ...]:
        """The policies that select an end, or may do so, by their place in `placed`."""
        if end not in self._applying:
            chosen = np.unpackbits(self._selected[:, end], count=len(self.placed))
            self._applying[end] = tuple(np.flatnonzero(chosen).tolist())
        return self._applying[end]

    @cached_property
    def _selected(self) -> npt.NDArray[np.uint8]:
        """Which policies select which ends: eight policies a row, an end a column."""
        size = self.world.size
        eights = (self.subjects[i : i + 8] for i in range(0, len(self.subjects), 8))
        rows = [np.packbits([bits(each, size) for each in eight], axis=0)[0] for eight in eights]
        return np.array(rows, np.uint8).reshape(-1, size)

    def turns(self, applying: tuple[int, ...], direction: Direction) -> tuple[Turn, ...]:
        """The turns of the tiers for a subject that these policies select."""
        key = applying, direction
        if key not in self._turns:
            self._turns[key] = turns([self.placed[i] for i in applying], direction)
        return self._turns[key]

    def node(self, end: int) -> str | None:
        """The node of an end, where it is a pod and its node is known."""
        return node_of(self.world.pods[end]) if end < len(self.world.pods) else None

    def peers(self, rule: Rule, subject: int) -> Truth:
        """The peers that a rule matches for one subject."""
        found = self._peer(rule.peer, subject)
        match at(self._peer(rule.local, subject), subject) if rule.local else True:
            case True:
                return found
            case None:
                return Truth(0, found.may)
        return Truth(0, 0)

    def _peer(self, peer: Peer, subject: int) -> Truth:
        # To look a peer up by its value is to hash all its selectors, and rules are asked for again
        # and again. The peer stands beside the answer, so that no other one gets its identity.
        if id(peer) not in self._matched:
            self._matched[id(peer)] = peer, None if is_local(peer) else self.world.matched(peer)
        found = self._matched[id(peer)][1]
        return self.world.matched(peer, self.node(subject)) if found is None else found

    def ports_at(self, ports: Ports, server: int) -> PortSet:
        """The ports that a rule means at one server."""
        pod = self.world.pods[server] if self.world.plain >> server & 1 else None
        return self._ports(ports, pod)

    def served_at(self, ports: Ports, end: int) -> PortSet:
        """The ports that a Service's target means at one of its pods, host-network ones too."""
        return self._ports(ports, self.world.pods[end])

    def served(self, ports: Ports) -> tuple[tuple[PortSet, Mask], ...]:
        """The ports that a rule means, each with the servers at which it means them."""
        if ports not in self._served:
            by_ports: dict[PortSet, list[int]] = {}
            for end in sorted(
                {end for named in (*ports.named, *ports.not_named) for end in self._names[named]}
                if ports.named or ports.not_named
                else ()
            ):
                by_ports.setdefault(self.ports_at(ports, end), []).append(end)
            found = [(at_these, mask(ends)) for at_these, ends in by_ports.items()]
            rest = self.world.full
            for _, ends in found:
                rest &= ~ends
            self._served[ports] = ((self._ports(ports, None), rest), *found)
        return self._served[ports]

    @cached_property
    def _names(self) -> dict[tuple[str, str], list[int]]:
        """The pods that have a named container port, by (protocol, name)."""
        rules = list(self.rules())
        used = {named for rule in rules for named in (*rule.ports.named, *rule.ports.not_named)}
        out: dict[tuple[str, str], list[int]] = {named: [] for named in used}
        for i, pod in enumerate(self.world.pods):
            for protocol, _, name in pod.ports:
                if not pod.host_network and name is not None and (protocol, name) in out:
                    out[protocol, name].append(i)
        return out

    def _ports(self, ports: Ports, pod: Pod | None) -> PortSet:
        numbers = ports.numbers
        if numbers.intervals("OTHER"):
            numbers |= self.everything - ALL_PORTS
        for protocol, name in ports.named:
            numbers |= _named(pod, protocol, name)
        for protocol, name in ports.not_named:
            numbers -= _named(pod, protocol, name)
        return numbers - ports.not_numbers


def acting(world: Universe, policies: Sequence[Policy], beside: Sequence[Policy] = ()) -> Acting:
    """These policies over these ends; `beside` may name protocols that count too."""
    subjects = [(policy, world.selected(policy.subject).sure) for policy in policies]
    subjects += [each for policy in policies for each in _doubtful(world, policy)]
    both = (*policies, *beside)
    rules = [rule for policy in both for rule in (*policy.ingress, *policy.egress)]
    said = [given for r in rules for given in (r.ports.numbers, r.ports.not_numbers)]
    mentioned = {name for given in said for name, _ in given.by_protocol}
    extras = {name: [(0, 0)] for name in mentioned if not ALL_PORTS.intervals(name)}
    placed, masks = zip(*subjects, strict=True) if subjects else ((), ())
    return Acting(world, tuple(policies), placed, masks, ALL_PORTS | PortSet.of(extras))


def _doubtful(world: Universe, policy: Policy) -> Iterator[tuple[Policy, Mask]]:
    """The policy where it isn't known whether it acts, or how: none of its rules surely matches."""
    sure, may = world.selected(policy.subject)
    hosts = world.matched(policy.hosts).may if policy.hosts else 0
    for why, subjects in (
        ("the inventory does not tell whether the policy selects the pod", may & ~sure),
        ("policies for hosts are not judged", hosts & ~may),
    ):
        if subjects:
            ingress, egress = (
                tuple(_unsure(rule, why) for rule in policy.rules(direction))
                for direction in DIRECTIONS
            )
            yield replace(policy, doubt=why, ingress=ingress, egress=egress), subjects


def _unsure(rule: Rule, why: str) -> Rule:
    local: Peer = UnknownPeer(why)
    return replace(rule, local=AllOf((local, rule.local)) if rule.local else local)


def at(truth: Truth, end: int) -> Kleene:
    """Whether an end is in a set; null where it may be."""
    if truth.sure >> end & 1:
        return True
    return None if truth.may >> end & 1 else False


def _named(pod: Pod | None, protocol: str, name: str) -> PortSet:
    ports = pod.ports if pod else ()
    found = [(n, n) for given, n, called in ports if (given, called) == (protocol, name)]
    return PortSet.of({protocol: found})
