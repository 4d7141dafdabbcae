"""Which rules in force keep connections open that the proposals beside them do not permit.

Policies only add: what a rule in force lets through stays open whatever is proposed. A connection
is open where both its ends let it through, so a rule is named only for what is open at both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recommender.addresses import text
from recommender.connectivity import Beyond, beyond
from recommender.evaluate import Evaluator
from recommender.listing import Connection, Range, ranges
from recommender.matrix import Ids, Numbers, mapped
from recommender.model import (
    ALL_PORTS,
    DIRECTIONS,
    NO_PORTS,
    PORT_PROTOCOLS,
    Direction,
    Policy,
    PortSet,
    Rule,
)
from recommender.tiers import KUBERNETES, Turn
from recommender.universe import Mask, bits

MOST_SHOWN = 20
Hits = npt.NDArray[np.bool_]


class RuleAt(NamedTuple):
    """A rule by the place of its policy in `Evaluator.policies`, and its own in its list."""

    policy: int
    direction: Direction
    rule: int


@dataclass
class Opened:
    """What one rule keeps open: pairs of a workload and a peer, and the first of them."""

    pairs: int = 0
    shown: list[Connection] = field(default_factory=list)


def opened(judge: Evaluator, alone: Evaluator) -> dict[RuleAt, Opened]:
    """The rules that would have to go for nothing to be open beyond what `alone` permits.

    Args:
        judge: of the proposals and, after them, the policies in force.
        alone: of the proposals, with the same ends.
    """
    found: dict[RuleAt, Opened] = {}
    looking = _Looking(judge, alone, beyond(judge.matrix, alone.matrix))
    for direction in DIRECTIONS:
        for workload in looking.peers.names:
            for key, row in looking.by_rule(workload, direction).items():
                looking.add(found.setdefault(key, Opened()), workload, row, direction)

    def order(key: RuleAt) -> tuple[int, int, int]:
        return key.policy, DIRECTIONS.index(key.direction), key.rule

    return {key: found[key] for key in sorted(found, key=order) if found[key].pairs}


@dataclass(frozen=True)
class _Peers:
    """Everybody that a workload may reach: workloads by name, then ranges of addresses."""

    names: Mapping[str, tuple[int, ...]]
    spaces: tuple[Range, ...]
    flat: Ids
    starts: Ids

    def hit(self, hits: Hits) -> Hits:
        """The workloads with an end of a class that is hit."""
        return np.logical_or.reduceat(hits[self.flat], self.starts)

    def runs(self, row: Ids, nothing: int) -> list[tuple[str, int]]:
        """The ranges with their ports by number, neighbours with the same ports as one."""
        found: list[tuple[Range, Range, int]] = []
        last = None
        for space in self.spaces:
            ports = int(row[space.kind])
            joins = last is not None and last == (space.first[0], ports)
            last = space.first[0], ports
            if ports != nothing:
                first = found.pop()[0] if joins else space
                found.append((first, space, ports))
        return [(f"{text(a.first)}-{text(b.last)}", ports) for a, b, ports in found]


@dataclass(frozen=True)
class _Looking:
    """The two evaluators side by side; `ports` are numbered, 0 being none."""

    judge: Evaluator
    alone: Evaluator
    grid: Beyond
    ports: Numbers[PortSet] = field(default_factory=lambda: Numbers([NO_PORTS], {NO_PORTS: 0}))
    _by_class: dict[tuple[int, Direction], dict[RuleAt, Ids]] = field(default_factory=dict)
    _where: dict[Mask, Ids] = field(default_factory=dict)

    @cached_property
    def table(self) -> Ids:
        """The ports that are open beyond, from every class to every class."""
        # What NetworkPolicies alone do to ICMP and the like, their API leaves open.
        only = all(policy.ref.api == KUBERNETES for policy in self.judge.policies)
        plain = PortSet.of({name: ALL_PORTS.intervals(name) for name in PORT_PROTOCOLS})
        told = plain if only else self.judge.acting.everything

        def number(found: int) -> int:
            return self.ports.of(self.grid.allowed(found) & told)

        rows = (mapped(self.grid.row(c), number) for c in range(len(self.grid.members)))
        return np.stack([row.astype(np.int32) for row in rows])

    @cached_property
    def places(self) -> dict[int, int]:
        """The place of each policy."""
        return {id(policy): at for at, policy in enumerate(self.judge.policies)}

    @cached_property
    def peers(self) -> _Peers:
        """Everybody."""
        names = dict(sorted(self.judge.ends.workloads.items()))
        sizes = [len(ends) for ends in names.values()]
        flat = self.grid.classes[[end for ends in names.values() for end in ends]]
        starts = np.cumsum([0, *sizes[:-1]]) if sizes else np.zeros(0, np.int64)
        spaces = tuple(ranges(self.judge.ends, self.grid.classes))
        return _Peers(names, spaces, flat, starts)

    def by_rule(self, workload: str, direction: Direction) -> dict[RuleAt, Ids]:
        """For each rule, the ports that it keeps open between a workload and every class."""
        found: dict[RuleAt, Ids] = {}
        plain = self.judge.world.plain  # host-network pods are no subjects of policies
        ends = [end for end in self.peers.names[workload] if plain >> end & 1]
        for kind in sorted(set(self.grid.classes[ends].tolist())) if ends else ():
            if (kind, direction) not in self._by_class:
                self._by_class[kind, direction] = self._of_class(kind, direction)
            for key, row in self._by_class[kind, direction].items():
                found[key] = self._union(found[key], row) if key in found else row
        return found

    def add(self, to: Opened, workload: str, row: Ids, direction: Direction) -> None:
        """Count the pairs of a workload, and show some."""
        hits = self.peers.hit(row != 0)
        names = list(self.peers.names)
        ends = self.peers.names[workload]
        if len(ends) == 1 and not self.judge.world.pods[ends[0]].made:
            hits[names.index(workload)] = False  # a pod to itself
        spaces = self.peers.runs(row, 0)
        to.pairs += int(hits.sum()) + len(spaces)
        room = MOST_SHOWN - len(to.shown)
        for at in np.flatnonzero(hits)[: max(room, 0)].tolist():
            kinds = set(self.grid.classes[list(self.peers.names[names[at]])].tolist())
            ports = reduce(lambda a, b: a | b, (self.ports.values[row[kind]] for kind in kinds))
            to.shown += _connections(workload, names[at], ports, direction)
        for name, number in spaces[: max(MOST_SHOWN - len(to.shown), 0)]:
            to.shown += _connections(workload, name, self.ports.values[number], direction)

    def _of_class(self, kind: int, direction: Direction) -> dict[RuleAt, Ids]:
        subject = int(self.grid.members[kind])
        open_ = self.table[kind] if direction == "egress" else self.table[:, kind]
        proposed = self.alone.matrix.let_through(subject, direction, self.ports)
        own = proposed[self.alone.matrix.classes[self.grid.members]]
        live = self._less(open_.astype(np.int64), own)
        found: dict[RuleAt, Ids] = {}
        acting = self.judge.acting
        for turn in acting.turns(acting.applying(subject), direction):
            if not live.any():
                break
            live = self._after(turn, subject, direction, live, found)
        return found

    def _after(
        self, turn: Turn, subject: int, direction: Direction, live: Ids, found: dict[RuleAt, Ids]
    ) -> Ids:
        """What of `live` a tier leaves to the next; the rules that allow any of it are found.

        As in `Evaluator._against`: an allow that would have to go leaves its ports to the rules
        after it, and, where it is not in the proposals' tier and so can only pass, to later tiers.
        In their tier a pass would have to go too: it leads around them.
        """
        passed = np.zeros_like(live)
        proposed = self.judge.policies[0].tier
        for policy, rule in turn.rules:
            for where, ports in self._matched(rule, subject, direction):
                hit = np.zeros_like(live)
                hit[where] = self._common(live[where], ports)
                within = policy.tier == proposed
                if rule.action == "allow" or (within and rule.action == "pass"):
                    self._note(policy, rule, direction, hit, found)
                else:
                    live = self._less(live, hit)
                if not within and rule.action != "deny":
                    passed = self._union(passed, hit)
        return passed if turn.default == "deny" else self._union(live, passed)

    def _note(
        self, policy: Policy, rule: Rule, direction: Direction, hit: Ids, to: dict[RuleAt, Ids]
    ) -> None:
        place = self.places.get(id(policy))  # none where it is in doubt
        if place is not None and hit.any():
            key = RuleAt(place, direction, rule.index)
            to[key] = self._union(to[key], hit) if key in to else hit

    def _matched(
        self, rule: Rule, subject: int, direction: Direction
    ) -> Iterator[tuple[Ids, PortSet]]:
        """The classes that a rule surely matches, with the ports that it means there."""
        acting = self.judge.acting
        peers = acting.peers(rule, subject).sure
        served = acting.served(rule.ports)
        if direction == "ingress":
            served = ((acting.ports_at(rule.ports, subject), acting.world.full),)
        for ports, servers in served:
            both = peers & servers
            if both not in self._where:
                chosen = bits(both, acting.world.size)[self.grid.members]
                self._where[both] = np.flatnonzero(chosen)
            if self._where[both].size:
                yield self._where[both], ports

    def _common(self, left: Ids, ports: PortSet) -> Ids:
        return mapped(left, lambda number: self.ports.of(self.ports.values[number] & ports))

    def _union(self, left: Ids, right: Ids) -> Ids:
        width = len(self.ports.values)

        def joined(code: int) -> int:
            a, b = divmod(code, width)
            return self.ports.of(self.ports.values[a] | self.ports.values[b])

        return mapped(left * width + right, joined)

    def _less(self, left: Ids, right: Ids) -> Ids:
        width = len(self.ports.values)

        def rest(code: int) -> int:
            a, b = divmod(code, width)
            return self.ports.of(self.ports.values[a] - self.ports.values[b])

        return mapped(left * width + right, rest)


def _connections(
    workload: str, peer: str, ports: PortSet, direction: Direction
) -> Iterator[Connection]:
    ends = (workload, peer) if direction == "egress" else (peer, workload)
    for protocol, intervals in ports.by_protocol:
        if protocol != "OTHER" or len(ports.by_protocol) == 1:
            yield Connection(*ends, protocol, intervals)
