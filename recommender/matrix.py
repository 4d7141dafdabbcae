"""Which ports every class of ends may reach at every other.

Ends that no selector, peer or port name of the policies tells apart are one class. For a subject's
policies and a direction there is one row: the fate of all ports at each class of peers, found by
walking the rules once, each acting on whole sets of classes. Port sets are held by number.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from recommender.acting import Acting, at
from recommender.model import Action, Direction, Policy, PortSet, Rule
from recommender.tiers import Default, Fate, Turn
from recommender.universe import Mask, bits, is_local, mask

_DECIDING: tuple[Action, Action] = ("allow", "deny")
Ids = npt.NDArray[np.int64]
T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Numbers(Generic[T]):
    """Distinct values, numbered as they come."""

    values: list[T] = field(default_factory=list)
    _of: dict[T, int] = field(default_factory=dict, repr=False)

    def of(self, value: T) -> int:
        """The number of a value."""
        if value not in self._of:
            self._of[value] = len(self.values)
            self.values.append(value)
        return self._of[value]


def mapped(ids: Ids, change: Callable[[int], int]) -> Ids:
    """`change` of every number, called once for each distinct one."""
    top = int(ids.max(initial=0)) + 1
    if top > 64 * ids.size:
        distinct, inverse = np.unique(ids, return_inverse=True)
        return np.array([change(each) for each in distinct.tolist()], np.int64)[inverse]
    # Small numbers need no sorting, which is four fifths of the time otherwise.
    seen = np.zeros(top, np.bool_)
    seen[ids] = True
    table = np.zeros(top, np.int64)
    distinct = np.flatnonzero(seen)
    table[distinct] = [change(each) for each in distinct.tolist()]
    return table[ids]


@dataclass(frozen=True, slots=True)
class Change:
    """One rule of one policy taken away, or another in its place."""

    policy: Policy
    rule: Rule
    instead: Rule | None

    def of(self, policy: Policy, rule: Rule) -> Rule | None:
        """What stands in the place of a rule; None where nothing does."""
        changed = rule is self.rule and policy is self.policy
        return self.instead if changed else rule


@dataclass(frozen=True, slots=True)
class Side:
    """The fates at every class, by number: `usual`, but for the classes `at`, sorted.

    A policy lets few in, so a row of a large cluster is nearly all one fate.
    """

    usual: int
    at: npt.NDArray[np.int32]
    fates: npt.NDArray[np.int32]
    classes: int

    @staticmethod
    def of(fates: Ids) -> Side:
        """A whole row, kept short."""
        usual = int(np.bincount(fates).argmax())
        at = np.flatnonzero(fates != usual)
        return Side(usual, at.astype(np.int32), fates[at].astype(np.int32), len(fates))

    def whole(self) -> Ids:
        """The fate at each class."""
        row = np.full(self.classes, self.usual, np.int64)
        row[self.at] = self.fates
        return row

    def fate(self, kind: int) -> int:
        """The fate at one class."""
        place = int(np.searchsorted(self.at, kind))
        found = place < len(self.at) and self.at[place] == kind
        return int(self.fates[place]) if found else self.usual


@dataclass(frozen=True)
class Sides:
    """The distinct rows of a direction, to be read by class; `of` is the place of each class's own.

    `usual` is that of each row; where a class has another, `rows` and `fates` say so, from
    `starts[class]` on.
    """

    of: Ids
    usual: Ids
    starts: Ids
    rows: Ids
    fates: Ids

    def toward(self, kind: int) -> Ids:
        """The fates at one class, by the class whose row it is."""
        column = self.usual.copy()
        span = slice(self.starts[kind], self.starts[kind + 1])
        column[self.rows[span]] = self.fates[span]
        return column[self.of]


def sides(rows: Sequence[Side], of: Ids) -> Sides:
    """Rows, turned to be read by class."""
    at = np.concatenate([row.at for row in rows])
    order = np.argsort(at, kind="stable")
    starts = np.searchsorted(at[order], np.arange(rows[0].classes + 1))
    places = np.repeat(np.arange(len(rows)), [len(row.at) for row in rows])[order]
    fates = np.concatenate([row.fates for row in rows])[order]
    return Sides(of, np.array([row.usual for row in rows], np.int64), starts, places, fates)


@dataclass(frozen=True)
class Matrix:
    """Classes of ends, and the ports permitted between them.

    `classes` holds the class of each end, `members` one end of each class. `results` are the
    distinct (allowed, unknown) ports that `row` gives by number.
    """

    acting: Acting
    classes: Ids
    members: Ids
    results: Numbers[tuple[PortSet, PortSet]]
    _fates: Numbers[Fate] = field(default_factory=Numbers, repr=False)
    _steps: dict[Hashable, int] = field(default_factory=dict, repr=False)
    _rows: dict[Hashable, Side] = field(default_factory=dict, repr=False)
    _rows_of: dict[tuple[int, Direction], Side] = field(default_factory=dict, repr=False)
    _outcomes: dict[int, tuple[PortSet, PortSet]] = field(default_factory=dict, repr=False)
    _where: dict[Mask, Ids] = field(default_factory=dict, repr=False)
    _pairs: dict[tuple[int, int], int] = field(default_factory=dict, repr=False)

    def row(self, src: int) -> Ids:
        """The results from one class to every class, by number."""
        sent = self._side(int(self.members[src]), "egress").whole()
        taken = self._ingress.toward(src)
        width = len(self._fates.values)
        return mapped(sent * width + taken, lambda code: self._both(*divmod(code, width)))

    def allowed(self, result: int) -> PortSet:
        """The surely allowed ports of a result."""
        return self.results.values[result][0]

    def outcome(self, subject: int, peer: int, direction: Direction) -> tuple[PortSet, PortSet]:
        """The ports allowed, and those unknown, between two ends by the policies of one alone."""
        fate = self._side(subject, direction).fate(int(self.classes[peer]))
        if fate not in self._outcomes:
            self._outcomes[fate] = self._fates.values[fate].outcome()
        return self._outcomes[fate]

    def outcomes(self, subject: int, direction: Direction) -> set[tuple[PortSet, PortSet]]:
        """The distinct outcomes between a subject and everybody."""
        fates = np.unique(self._side(subject, direction).whole()).tolist()
        return {self._fates.values[fate].outcome() for fate in fates}

    def let_through(self, subject: int, direction: Direction, ports: Numbers[PortSet]) -> Ids:
        """The ports that the policies of a subject surely allow to every class, by number."""
        side = self._side(subject, direction).whole()
        return mapped(side, lambda fate: ports.of(self._fates.values[fate].outcome()[0]))

    def subjects(self, direction: Direction) -> Iterator[tuple[int, tuple[Turn, ...]]]:
        """One subject for each distinct row of one direction, with the turns of its policies."""
        seen: set[int] = set()
        for member in self.members.tolist():
            row = id(self._side(member, direction))
            if row not in seen:
                seen.add(row)
                yield member, self.acting.turns(self.acting.applying(member), direction)

    def is_needed(self, subject: int, direction: Direction, policy: Policy, rule: Rule) -> bool:
        """Whether some outcome of a subject would be another one without a rule."""
        values, within = self._fates.values, self.acting.peers(rule, subject).may
        row = self._side(subject, direction).whole()[self._at(within)]
        rest = self._walk(subject, direction, Change(policy, rule, None), within)
        other = rest != row
        pairs = set(zip(row[other].tolist(), rest[other].tolist(), strict=True))
        return any(values[a].outcome() != values[b].outcome() for a, b in pairs)

    def acts(self, subject: int, direction: Direction, policy: Policy, rule: Rule) -> bool:
        """Whether a rule acts on any port of a subject: then to allow or to deny differs."""
        within = self.acting.peers(rule, subject).may
        decided = [
            self._walk(subject, direction, Change(policy, rule, instead), within)
            for instead in (replace(rule, action=action) for action in _DECIDING)
        ]
        return bool((decided[0] != decided[1]).any())

    def _both(self, sent: int, taken: int) -> int:
        """Egress at the source and ingress at the destination must both let a port through."""
        if (sent, taken) not in self._pairs:
            allowed, unknown = self._fates.values[sent].outcome()
            let, perhaps = self._fates.values[taken].outcome()
            sure = allowed & let
            doubt = ((allowed | unknown) & (let | perhaps)) - sure
            self._pairs[sent, taken] = self.results.of((sure, doubt))
        return self._pairs[sent, taken]

    @cached_property
    def _ingress(self) -> Sides:
        """The ingress rows of all classes."""
        distinct: dict[int, int] = {}
        rows: list[Side] = []
        places = []
        for member in self.members.tolist():
            row = self._side(member, "ingress")
            if id(row) not in distinct:
                distinct[id(row)] = len(rows)
                rows.append(row)
            places.append(distinct[id(row)])
        return sides(rows, np.array(places, np.int64))

    def _side(self, subject: int, direction: Direction) -> Side:
        """The fates of all ports between a subject and every class, in one direction."""
        if (subject, direction) not in self._rows_of:
            self._rows_of[subject, direction] = self._side_of(subject, direction)
        return self._rows_of[subject, direction]

    def _side_of(self, subject: int, direction: Direction) -> Side:
        applying = self.acting.applying(subject)
        rules = [r for turn in self.acting.turns(applying, direction) for _, r in turn.rules]
        # Subjects with the same policies differ only by what rules ask of the subject itself.
        own = tuple(self._own(rule, subject, direction) for rule in rules)
        key = direction, applying, own
        if key not in self._rows:
            self._rows[key] = Side.of(self._walk(subject, direction))
        return self._rows[key]

    def _own(self, rule: Rule, subject: int, direction: Direction) -> Hashable:
        named = direction == "ingress" and bool(rule.ports.named or rule.ports.not_named)
        node = self.acting.node(subject) if self._node_matters else None
        local = rule.local and at(self.acting.world.matched(rule.local, node), subject)
        return node, local, self.acting.ports_at(rule.ports, subject) if named else None

    @cached_property
    def _node_matters(self) -> bool:
        return any(is_local(rule.peer) for rule in self.acting.rules())

    def _walk(
        self,
        subject: int,
        direction: Direction,
        change: Change | None = None,
        within: Mask | None = None,
    ) -> Ids:
        """The fates at every class, or at those of the ends `within`, where a change must act."""
        world = self.acting.world
        ends = world.full if within is None else within
        classes = None if within is None else self._at(within)
        start = self._fates.of(Fate(self.acting.everything))
        fates = np.full(len(self.members if classes is None else classes), start, np.int64)
        for turn in self.acting.turns(self.acting.applying(subject), direction):
            for policy, given in turn.rules:
                rule = change.of(policy, given) if change else given
                if rule is None:
                    continue
                sure, may = self.acting.peers(rule, subject)
                if not may & ends:
                    continue
                served = self.acting.served(rule.ports)
                if direction == "ingress":
                    served = ((self.acting.ports_at(rule.ports, subject), world.full),)
                for ports, servers in served:
                    for peers, is_sure in ((sure & servers, True), (may & ~sure & servers, False)):
                        where = self._at(peers) if classes is None else self._of(classes, peers)
                        self._meet(fates, where, (rule.action, ports, is_sure))
            fates = self._ended(fates, turn.default)
        return fates

    def _meet(self, fates: Ids, where: Ids, key: tuple[Action, PortSet, bool]) -> None:
        if where.size:
            fates[where] = mapped(fates[where], lambda fate: self._met(fate, key))

    def _met(self, fate: int, key: tuple[Action, PortSet, bool]) -> int:
        if (fate, key) not in self._steps:
            action, ports, sure = key
            met = self._fates.values[fate].meet(action, ports, sure=sure)
            self._steps[fate, key] = self._fates.of(met)
        return self._steps[fate, key]

    def _ended(self, fates: Ids, default: Default) -> Ids:
        return mapped(fates, lambda fate: self._end(fate, default))

    def _end(self, fate: int, default: Default) -> int:
        if (fate, default) not in self._steps:
            self._steps[fate, default] = self._fates.of(self._fates.values[fate].end(default))
        return self._steps[fate, default]

    def _at(self, peers: Mask) -> Ids:
        """The classes whose ends are in a mask."""
        if peers not in self._where:
            chosen = bits(peers, self.acting.world.size)[self.members]
            self._where[peers] = np.flatnonzero(chosen)
        return self._where[peers]

    def _of(self, classes: Ids, peers: Mask) -> Ids:
        """The places of those of some classes whose ends are in a mask."""
        if not peers:
            return np.flatnonzero(())
        return np.flatnonzero(bits(peers, self.acting.world.size)[self.members[classes]])


def matrix(acting: Acting) -> Matrix:
    """The classes of the ends, as the policies tell them apart."""
    classes = np.zeros(acting.world.size, np.int64)
    masks = list(dict.fromkeys(_distinctions(acting)))
    for start in range(0, len(masks), 31):
        chunk = np.stack([bits(each, acting.world.size) for each in masks[start : start + 31]])
        word = (chunk.astype(np.int64) << np.arange(len(chunk))[:, None]).sum(axis=0)
        classes = np.unique(classes << 31 | word, return_inverse=True)[1]
    members = np.unique(classes, return_index=True)[1]
    return Matrix(acting, classes, members, Numbers())


def _distinctions(acting: Acting) -> Iterator[Mask]:
    """Every set of ends that can make a difference."""
    world = acting.world
    yield from acting.subjects
    nodes: list[str | None] = [None]
    if any(is_local(rule.peer) for rule in acting.rules()):
        nodes += sorted(world.nodes)
        for name in sorted(world.nodes):
            yield mask(i for i in range(len(world.pods)) if acting.node(i) == name)
    for rule in acting.rules():
        for peer in (rule.peer, rule.local):
            if peer is not None:
                for node in nodes if is_local(peer) else [None]:
                    yield from world.matched(peer, node)
        for _, servers in acting.served(rule.ports):
            yield servers
