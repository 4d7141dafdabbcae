"""The cheapest rules found for what one policy must permit, and may permit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

from recommender.cover import Choice, Cover
from recommender.extents import Mask, bits
from recommender.granted import Form, Need, Problem

RULE = 10  # tenths
_MOST_CROSSED = 12  # sets of ports of which every two are also tried for what they share


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a rule's peers that come and go together: those of one selector, or one token."""

    mask: Mask
    cost: int
    choice: Choice | None


@dataclass(frozen=True, slots=True)
class Drawn:
    """A rule in the making: its columns, and its peers."""

    columns: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def cost(self) -> int:
        """In tenths."""
        return RULE + sum(part.cost for part in self.parts)

    @property
    def mask(self) -> Mask:
        """All peers that it takes in."""
        found = 0
        for part in self.parts:
            found |= part.mask
        return found

    def without(self, part: Part) -> Drawn:
        """The same without some of its peers."""
        return Drawn(self.columns, tuple(each for each in self.parts if each is not part))


Row = tuple[tuple[int, Mask], ...]  # peers by column


@dataclass(frozen=True)
class RuleCover:
    """Finds rules for the units of one problem; remembers what it found."""

    problem: Problem
    cover: Cover
    _found: dict[tuple[Row, Row], tuple[Drawn, ...]] = field(default_factory=dict, repr=False)
    _peers: dict[tuple[Mask, Mask], tuple[Part, ...]] = field(default_factory=dict, repr=False)
    _costs: dict[tuple[Row, Row], int] = field(default_factory=dict, repr=False)

    @cached_property
    def _forms(self) -> tuple[int, ...]:
        """The number of each column's form."""
        numbers: dict[Form, int] = {}
        return tuple(numbers.setdefault(f, len(numbers)) for f, _ in self.problem.columns)

    def by_form(self, need: Need) -> tuple[Row, ...]:
        """A need taken apart: what no rule has in common."""
        found: dict[int, list[tuple[int, Mask]]] = defaultdict(list)
        for column in sorted(need):
            found[self._forms[column]].append((column, need[column]))
        return tuple(map(tuple, found.values()))

    def rules(self, required: Need, allowed: Need) -> tuple[Drawn, ...]:
        """Rules that permit all that is required and nothing that is not allowed."""
        found: list[Drawn] = []
        for may in self.by_form(allowed):
            if must := tuple((c, mask) for c, _ in may if (mask := required.get(c, 0))):
                key = must, may
                if key not in self._found:
                    self._found[key] = self._of_form(must, may)
                found += self._found[key]
        return tuple(found)

    def cost(self, required: Row, allowed: Row) -> int:
        """What the rules of one form cost."""
        key = required, allowed
        if key not in self._costs:
            self._costs[key] = cost_of(self._of_form(required, allowed)) if required else 0
        return self._costs[key]

    def drawn(self, columns: tuple[int, ...], required: Mask, allowed: Mask) -> Drawn:
        """One rule on these columns."""
        key = required, allowed
        if key not in self._peers:
            self._peers[key] = tuple(self._parts(required, allowed))
        return Drawn(columns, self._peers[key])

    def _parts(self, required: Mask, allowed: Mask) -> Iterator[Part]:
        count = len(self.cover.extents.units)
        labelled = (1 << count) - 1
        for choice in self.cover.peers(required & labelled, allowed & labelled):
            yield Part(choice.mask, choice.cost, choice)
        for at in bits(required & ~labelled):
            yield Part(1 << at, len(self.problem.tokens[at - count]), None)

    def _of_form(self, required: Row, allowed: Row) -> tuple[Drawn, ...]:
        may = dict(allowed)
        rows = _rows(required)
        plans = [[(columns, mask) for columns, mask in rows.items()]]
        # Peers that need one column each leave no choice.
        if len(rows) > 1 and any(len(columns) > 1 for columns in rows):
            plans += [_columns(required), _greedy(required, may, list(rows))]
        options = [
            tuple(self.drawn(columns, mask, _both(may, columns)) for columns, mask in plan)
            for plan in plans
        ]
        return min(options, key=lambda o: (cost_of(o), len(o)))


def cost_of(rules: Iterable[Drawn]) -> int:
    """What rules cost together, in tenths."""
    return sum(rule.cost for rule in rules)


def _both(allowed: Mapping[int, Mask], columns: Sequence[int]) -> Mask:
    """The peers that are allowed on all the columns."""
    found = allowed[columns[0]]
    for column in columns[1:]:
        found &= allowed[column]
    return found


Plan = list[tuple[tuple[int, ...], Mask]]


def _rows(required: Row) -> dict[tuple[int, ...], Mask]:
    """The peers by the set of columns that each needs: a rule for each set."""
    everyone = 0
    for _, mask in required:
        everyone |= mask
    groups: dict[tuple[int, ...], Mask] = {(): everyone}
    for column, mask in required:
        split: dict[tuple[int, ...], Mask] = {}
        for columns, group in groups.items():
            if group & mask:
                split[*columns, column] = group & mask
            if group & ~mask:
                split[columns] = group & ~mask
        groups = split
    return dict(sorted(groups.items()))


def _columns(required: Row) -> Plan:
    """A rule for each column, or for several that the same peers need."""
    alike: dict[Mask, tuple[int, ...]] = defaultdict(tuple)
    for column, mask in required:
        alike[mask] = (*alike[mask], column)
    return sorted((columns, mask) for mask, columns in alike.items())


def _greedy(required: Row, allowed: Mapping[int, Mask], rows: Sequence[tuple[int, ...]]) -> Plan:
    """Sets of columns by what they still cover for their cost, then none that is not needed."""
    options = {*rows, *((column,) for column, _ in required)}
    if len(rows) <= _MOST_CROSSED:
        options |= {
            shared
            for a, b in combinations(rows, 2)
            if (shared := tuple(column for column in a if column in b))
        }
    left, plan = dict(required), Plan()
    while any(left.values()):
        ranked = []
        for columns in options:
            both, peers, gain = _both(allowed, columns), 0, 0
            for column in columns:
                new = left.get(column, 0) & both
                peers |= new
                gain += new.bit_count()
            if gain:
                ranked.append(((RULE + peers.bit_count()) / gain, columns, peers))
        _, columns, peers = min(ranked)
        plan.append((columns, peers))
        for column in columns:
            left[column] = left.get(column, 0) & ~peers
    for one in sorted(plan, key=lambda each: (each[1].bit_count(), each)):
        others = [each for each in plan if each is not one]
        if all(not _uncovered(column, mask, others) for column, mask in required):
            plan = others
    return sorted(plan)


def _uncovered(column: int, mask: Mask, plan: Plan) -> Mask:
    for columns, peers in plan:
        if column in columns:
            mask &= ~peers
    return mask
