"""The cheapest policies found for what the units of one namespace need: weighted set cover.

A policy for several units takes what they all need; what is left over stays with each unit's own.
The policy that saves most comes first, until none saves anything; then those go that no longer
save anything themselves (reverse delete). Where there are few to choose from, each is then put in
though it does not pay, or left out though it does, for several may pay together only. Costs are in
tenths: a rule or a policy 10, a selector's term or further value 1.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal

from recommender.cover import Cover
from recommender.extents import Mask, Terms, bits, pod_terms, price, spelled_terms
from recommender.granted import Need, Problem
from recommender.rulecover import Drawn, Part, Row, RuleCover, cost_of

By = Literal["role", "workload"]
POLICY = 10  # tenths
_MOST_ROUNDS = 4
_MOST_TRIED = 32  # candidates; with more, none is tried that does not pay by itself


@dataclass(frozen=True)
class Draft:
    """A policy in the making: the units that it governs, its subject's terms, its rules."""

    units: Mask
    terms: Terms
    rules: tuple[Drawn, ...]

    @property
    def cost(self) -> int:
        """In tenths, with the scope of its subject."""
        return _shell(self.terms) + cost_of(self.rules)

    def sort_key(self) -> tuple[int, str]:
        """Those of many units first, then by text."""
        return -self.units.bit_count(), spelled_terms(self.terms)


def _shell(terms: Terms) -> int:
    """What a policy costs without its rules."""
    return POLICY + 1 + max(price(terms), 1)


@dataclass
class _State:
    """The policies for several units so far, and what they cover of each unit's needs."""

    problem: Problem
    rules: RuleCover
    shared: dict[Mask, Draft] = field(default_factory=dict)
    covered: dict[int, dict[int, Mask]] = field(default_factory=lambda: defaultdict(dict))
    governed: Mask = 0
    _rows: dict[int, tuple[Row, ...]] = field(default_factory=dict)
    _now: dict[int, int] = field(default_factory=dict)

    def own(self, unit: int, covered: Mapping[int, Mask], *, governed: bool) -> int:
        """What the unit's own policy costs, if so much is covered by others."""
        if unit not in self._rows:
            self._rows[unit] = self.rules.by_form(self.problem.needs[unit])
        total, empty = 0, True
        for row in self._rows[unit]:
            left = tuple((c, m) for c, mask in row if (m := mask & ~covered.get(c, 0)))
            if left:
                total, empty = total + self.rules.cost(left, row), False
        if empty and governed:
            return 0
        return total + _shell(pod_terms(self.rules.cover.extents.units[unit].selector))

    def now(self, unit: int) -> int:
        """What the unit's own policy costs as it is."""
        if unit not in self._now:
            governed = bool(self.governed >> unit & 1)
            self._now[unit] = self.own(unit, self.covered[unit], governed=governed)
        return self._now[unit]

    @property
    def cost(self) -> int:
        """What all policies cost, shared ones and own ones."""
        return sum(d.cost for d in self.shared.values()) + sum(map(self.now, self.problem.needs))

    def copy(self) -> _State:
        """Another that goes on from here; what was found out about rules is found out for both."""
        covered = defaultdict(dict, self.covered)
        return replace(self, shared=dict(self.shared), covered=covered, _now=dict(self._now))

    def saved(self, draft: Draft) -> int:
        """How much cheaper the whole is with one more policy."""
        saving = -draft.cost
        for unit in bits(draft.units):
            after = _plus(self.covered[unit], draft.rules)
            saving += self.now(unit) - self.own(unit, after, governed=True)
        return saving

    def add(self, draft: Draft) -> None:
        """Take a policy in."""
        self.shared[draft.units] = draft
        self.governed |= draft.units
        for unit in bits(draft.units):
            self.covered[unit] = _plus(self.covered[unit], draft.rules)
            self._now.pop(unit, None)

    def remove(self, units: Mask) -> Draft:
        """Take the policy of these units out again."""
        draft = self.shared.pop(units)
        for unit in bits(units):
            others = [d for d in self.shared.values() if d.units >> unit & 1]
            covered: dict[int, Mask] = {}
            for other in others:
                covered = _plus(covered, other.rules)
            self.covered[unit] = covered
            self._now.pop(unit, None)
            if not others:
                self.governed &= ~(1 << unit)
        return draft


def _plus(covered: Mapping[int, Mask], rules: tuple[Drawn, ...]) -> dict[int, Mask]:
    found = dict(covered)
    for rule in rules:
        mask = rule.mask
        for column in rule.columns:
            found[column] = found.get(column, 0) | mask
    return found


def _minus(need: Need, covered: Mapping[int, Mask]) -> dict[int, Mask]:
    return {c: left for c, mask in need.items() if (left := mask & ~covered.get(c, 0))}


def fewest(problem: Problem, cover: Cover, by: By) -> list[Draft]:
    """The cheapest policies found that permit just what is needed, by units and text.

    Args:
        problem: units of one namespace, and what each needs.
        cover: over the same extents, at home in the problem's namespace.
        by: `role` allows policies for several units; `workload` keeps each unit's own.
    """
    state = _State(problem, RuleCover(problem, cover))
    if by == "role":
        state = _cheapest(state, dict(_candidates(problem, cover)))
    return _trimmed([*state.shared.values(), *_own(state)])


def _candidates(problem: Problem, cover: Cover) -> Iterator[tuple[Mask, Terms]]:
    """Sets of units with a need or a label in common that one selector takes in."""
    sets: set[Mask] = set()
    alike: dict[tuple[tuple[int, Mask], ...], Mask] = defaultdict(int)
    wanting: dict[int, list[tuple[int, Mask]]] = defaultdict(list)
    everyone = 0
    for unit, need in problem.needs.items():
        everyone |= 1 << unit
        alike[tuple(sorted(need.items()))] |= 1 << unit
        for column, mask in need.items():
            wanting[column].append((unit, mask))
    sets |= set(alike.values())
    for rows in wanting.values():
        sets |= set(_split(rows))
    sets |= _met(sets)
    sets |= {each.mask for each in cover.extents.label_sets(problem.namespace)}
    for mask in list(sets):
        sets |= {found for _, found in cover.extents.value_sets(problem.namespace, mask)}
    for mask in sorted(sets):
        if mask & (mask - 1) and not mask & ~everyone:
            terms = cover.extents.exact(problem.namespace, mask)
            if terms is not None:
                yield mask, terms


def _met(sets: set[Mask]) -> set[Mask]:
    """What sets have in common, and these with each other: whoever needs the same several things.

    Nothing, where that becomes too many.
    """
    found = set(sets)
    while len(found) <= _MOST_TRIED:
        more = {both for a, b in combinations(found, 2) if (both := a & b) & (both - 1)} - found
        if not more:
            return found
        found |= more
    return set()


def _split(rows: list[tuple[int, Mask]]) -> Iterator[Mask]:
    """For every peer, the units that need it; `rows` are the peers of each unit."""
    needing: dict[int, Mask] = defaultdict(int)
    for unit, mask in rows:
        for peer in bits(mask):
            needing[peer] |= 1 << unit
    yield from needing.values()


def _cheapest(state: _State, candidates: Mapping[Mask, Terms]) -> _State:
    """With what pays; and then, where few are to choose from, with one more or one less.

    Such a step is taken as long as something cheaper follows: several may pay together only.
    """
    state = _settled(state, candidates)
    while len(candidates) <= _MOST_TRIED:
        others = _beside(state, candidates)
        cheaper = next((each for each in others if each.cost < state.cost), None)
        if cheaper is None:
            break
        state = cheaper
    return state


def _beside(state: _State, candidates: Mapping[Mask, Terms]) -> Iterator[_State]:
    """What follows from a state with one policy more, whether it pays or not, and with one less."""
    for units, terms in sorted(candidates.items(), key=lambda c: (-c[0].bit_count(), c[0])):
        other, rest = state.copy(), dict(candidates)
        if units in state.shared:
            other.remove(units)
            del rest[units]
            yield _settled(other, rest)
        elif (draft := _common(state, units, terms)) is not None:
            other.add(draft)
            yield _settled(other, rest)


def _settled(state: _State, candidates: Mapping[Mask, Terms]) -> _State:
    """The same, with all that pays taken in and what does not any more taken out."""
    for _ in range(_MOST_ROUNDS):
        # What saves nothing at first may save once its units' own policies are shorter.
        if not _add(state, candidates):
            break
        _reverse_delete(state)
    return state


def _add(state: _State, candidates: Mapping[Mask, Terms]) -> bool:
    """Take in what saves most, as long as something does; a lazy heap asks again at the top."""
    heap = []
    for units, terms in candidates.items():
        if units not in state.shared and (found := _draft(state, units, terms)):
            heap.append((-found[0], found[1].sort_key(), units))
    heapq.heapify(heap)
    added = False
    while heap:
        _, key, units = heapq.heappop(heap)
        found = _draft(state, units, candidates[units])
        if found is None:
            continue
        again = (-found[0], key, units)
        if heap and again > heap[0]:
            heapq.heappush(heap, again)
        else:
            state.add(found[1])
            added = True
    return added


def _common(state: _State, units: Mask, terms: Terms) -> Draft | None:
    """The policy for what all the units need and nothing covers yet; null where that is nothing."""
    members = [state.problem.needs[unit] for unit in bits(units)]
    common = dict(members[0])
    for need in members[1:]:
        common = {c: both for c, mask in common.items() if (both := mask & need.get(c, 0))}
    if not common and any(members):
        return None
    required: dict[int, Mask] = defaultdict(int)
    for unit in bits(units):
        for column, left in _minus(common, state.covered[unit]).items():
            required[column] |= left
    return Draft(units, terms, state.rules.rules(required, common))


def _draft(state: _State, units: Mask, terms: Terms) -> tuple[int, Draft] | None:
    """The policy for what all the units need, with the rules that pay; null where none would."""
    draft = _common(state, units, terms)
    if draft is None:
        return None
    saving = state.saved(draft)
    for rule in sorted(draft.rules, key=lambda r: (-r.cost, r.columns)):
        less = replace(draft, rules=tuple(r for r in draft.rules if r is not rule))
        if len(draft.rules) > 1 and (without := state.saved(less)) > saving:
            draft, saving = less, without
    return (saving, draft) if saving > 0 else None


def _reverse_delete(state: _State) -> None:
    """Take out the shared policies that do not pay now that the later ones are there."""
    for units in sorted(state.shared, key=lambda u: state.shared[u].sort_key()):
        draft = state.remove(units)
        if state.saved(draft) > 0:
            state.add(draft)


def _own(state: _State) -> Iterator[Draft]:
    """Each unit's own policy for what is left."""
    for unit, need in state.problem.needs.items():
        left = _minus(need, state.covered[unit])
        if left or not state.governed >> unit & 1:
            terms = pod_terms(state.rules.cover.extents.units[unit].selector)
            yield Draft(1 << unit, terms, state.rules.rules(left, need))


def _trimmed(drafts: list[Draft]) -> list[Draft]:
    """The same without any peer or policy that the others make superfluous."""
    times: dict[tuple[int, int, int], int] = defaultdict(int)
    for draft in drafts:
        for rule in draft.rules:
            for part in _parts(rule):
                for point in _points(draft.units, rule, part.mask):
                    times[point] += 1
    out = []
    for draft in sorted(drafts, key=Draft.sort_key, reverse=True):
        rules = []
        for rule in draft.rules:
            keep = rule
            for part in _parts(rule):
                points = list(_points(draft.units, rule, part.mask))
                if all(times[point] > 1 for point in points):
                    for point in points:
                        times[point] -= 1
                    keep = keep.without(part)
            if keep.mask:
                rules.append(keep)
        out.append(replace(draft, rules=tuple(rules)))
    for draft in list(out):
        if not draft.rules and all(_governs(out, draft, unit) for unit in bits(draft.units)):
            out.remove(draft)
    return sorted(out, key=Draft.sort_key)


def _governs(drafts: list[Draft], but: Draft, unit: int) -> bool:
    return any(draft.units >> unit & 1 for draft in drafts if draft is not but)


def _parts(rule: Drawn) -> list[Part]:
    return sorted(rule.parts, key=lambda part: (-part.cost, part.mask))


def _points(units: Mask, rule: Drawn, mask: Mask) -> Iterator[tuple[int, int, int]]:
    for unit in bits(units):
        for column in rule.columns:
            for peer in bits(mask):
                yield unit, column, peer
