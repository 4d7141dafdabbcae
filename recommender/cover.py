"""The shortest peers that stand for a set of units and for no unit outside an allowed set.

Greedy: label sets by what a unit costs, several values of one key as one set of values, the same
labels in several namespaces as one peer. Costs are in tenths, one for each term or further value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from recommender.extents import (
    Extents,
    Mask,
    Terms,
    bits,
    pod_terms,
    price,
    spelled,
    spelled_terms,
    term,
)
from recommender.model import And, In, LabelPeer, Selector

_MOST_PAIRED = 24  # of the peers of one rule; with more, only equal ones are joined


@dataclass(frozen=True, slots=True)
class Choice:
    """A peer: the units that it stands for, where, and what it asks of their pods.

    `cost` is in tenths; one that asks nothing of pods is as dear as one with a label.
    """

    mask: Mask
    place: In
    terms: Terms
    cost: int
    cluster: Terms = ()

    @property
    def peer(self) -> LabelPeer:
        """The peer in the model's words."""
        return LabelPeer(And((*self.cluster, self.place, *self.terms)))

    def sort_key(self) -> tuple[str, str]:
        """By text, own namespace first."""
        return spelled_terms((self.place,)), spelled_terms(self.terms)


@dataclass(frozen=True, slots=True)
class _Option:
    """Terms that may be picked, whom they take in, what they cost in tenths, their text.

    `only` is the term where it stands alone.
    """

    mask: Mask
    terms: Terms
    cost: int
    text: str
    only: In | None


@dataclass(slots=True)
class _Values:
    """The values of one key: by the unit that alone bears each, and those that several bear.

    `differs` are the units whose own selector is not just their value.
    """

    single: dict[int, _Option] = field(default_factory=dict)
    shared: list[_Option] = field(default_factory=list)
    differs: Mask = 0


Picks = dict[Terms, Mask]
_Pair = tuple[int, Choice, Choice, Choice]  # what one peer saves for two, negative; it; the two


@dataclass(frozen=True)
class Cover:
    """Finds peers for policies of one namespace, `home`; remembers what it found."""

    extents: Extents
    home: str
    _inside: dict[tuple[str, Mask, Mask], Picks] = field(default_factory=dict, repr=False)
    _found: dict[tuple[Mask, Mask], tuple[Choice, ...]] = field(default_factory=dict, repr=False)
    _options: dict[str, list[_Option]] = field(default_factory=dict, repr=False)
    _usable: dict[tuple[str, Mask], list[_Option]] = field(default_factory=dict, repr=False)
    _singles: dict[int, _Option] = field(default_factory=dict, repr=False)
    _of_keys: dict[str, list[_Values]] = field(default_factory=dict, repr=False)

    def peers(self, required: Mask, allowed: Mask) -> tuple[Choice, ...]:
        """Peers that take in all that is required and nothing that is not allowed, by text."""
        key = required, allowed
        if key not in self._found:
            self._found[key] = tuple(sorted(self._peers(*key), key=Choice.sort_key))
        return self._found[key]

    def _peers(self, required: Mask, allowed: Mask) -> list[Choice]:
        alike: dict[Terms, dict[str, Mask]] = defaultdict(dict)
        left = required
        while left:
            number = (left & -left).bit_length() - 1
            namespace = self.extents.units[number].namespace
            space = self.extents.spaces[namespace]
            for terms, mask in self._picks(namespace, left & space, allowed & space).items():
                alike[terms][namespace] = mask
            left &= ~space
        found = [
            self._placed(terms, some, allowed)
            for terms, masks in alike.items()
            for some in ([masks] if self._across else [{n: m} for n, m in masks.items()])
        ]
        return self._joined(found, allowed) if 1 < len(found) <= _MOST_PAIRED else found

    def _placed(self, terms: Terms, masks: dict[str, Mask], allowed: Mask) -> Choice:
        """One peer for the same terms in some namespaces."""
        if len(masks) > 1:
            for item, names in self.extents.space_labels.items():
                if masks.keys() <= names:
                    mask = self._taken(names, terms)
                    if mask is not None and not mask & ~allowed:
                        return self._choice(mask, In(f"ns:{item[0]}", frozenset({item[1]})), terms)
        return self._choice(_union(masks.values()), self._place(frozenset(masks)), terms)

    @property
    def _across(self) -> bool:
        """Whether one peer may stand for pods of several namespaces."""
        return self.extents.namespace_key.startswith("ns:")

    def _place(self, names: frozenset[str]) -> In:
        return In("meta:namespace" if names == {self.home} else self.extents.namespace_key, names)

    def _choice(self, mask: Mask, place: In, terms: Terms) -> Choice:
        cluster = self.extents.cluster
        where = (In("meta:cluster", frozenset({cluster})),) if cluster else ()
        return Choice(mask, place, terms, price((place,)) + max(price(terms), 1), where)

    def _taken(self, namespaces: Iterable[str], terms: Terms) -> Mask | None:
        found = 0
        for namespace in namespaces:
            inside = self.extents.within(namespace, terms)
            if inside is None:
                return None
            found |= inside
        return found

    def _joined(self, found: list[Choice], allowed: Mask) -> list[Choice]:
        """Pairs of peers made one where that is cheaper and takes in nothing more."""
        left = sorted(found, key=Choice.sort_key)
        pairs = [pair for a, b in combinations(left, 2) for pair in self._join(a, b, allowed)]
        while pairs:
            _, joined, a, b = min(pairs, key=lambda pair: (pair[0], pair[1].sort_key()))
            left = [c for c in left if c is not a and c is not b]
            pairs = [p for p in pairs if not {id(a), id(b)} & {id(p[2]), id(p[3])}]
            pairs += [pair for c in left for pair in self._join(c, joined, allowed)]
            left.append(joined)
        return left

    def _join(self, a: Choice, b: Choice, allowed: Mask) -> Iterator[_Pair]:
        """One peer for what two take in, where it is cheaper than these."""
        terms = a.terms if a.terms == b.terms else widened(a.terms, b.terms)
        if terms is None:
            return
        ours, theirs = self._names(a), self._names(b)
        names = ours | theirs
        if len(names) > 1 and not self._across:
            return
        mask: Mask | None = a.mask | b.mask
        if ours != theirs and a.terms != b.terms:
            mask = self._taken(names, terms)
        if mask is not None and not mask & ~allowed and not (a.mask | b.mask) & ~mask:
            joined = self._choice(mask, self._place(names), terms)
            if joined.cost < a.cost + b.cost:
                yield joined.cost - a.cost - b.cost, joined, a, b

    def _names(self, choice: Choice) -> frozenset[str]:
        if choice.place.key in ("meta:namespace", self.extents.namespace_key):
            return choice.place.values
        return frozenset(self.extents.units[at].namespace for at in bits(choice.mask))

    def _picks(self, namespace: str, required: Mask, allowed: Mask) -> Picks:
        key = namespace, required, allowed
        if key not in self._inside:
            shared = [o for o in self._sets(namespace, allowed) if o.mask & required]
            own = {at: self._single(at) for at in bits(required)}
            options = [_greedy(required, own, shared)]
            for values in self._values(namespace) if required & (required - 1) else ():
                if shared or required & values.differs:
                    more = [o for o in values.shared if o.mask & required and not o.mask & ~allowed]
                    single = {at: o for at in own if (o := values.single.get(at))}
                    if more or single:
                        options.append(_greedy(required, own | single, shared + more))
            self._inside[key] = _shortest(options)
        return self._inside[key]

    def _sets(self, namespace: str, allowed: Mask) -> list[_Option]:
        """The label sets that take in none but the allowed."""
        key = namespace, allowed
        if key not in self._usable:
            if namespace not in self._options:
                sets = self.extents.label_sets(namespace)
                self._options[namespace] = [_option(each.mask, each.terms) for each in sets]
            found = [o for o in self._options[namespace] if not o.mask & ~allowed]
            self._usable[key] = found
        return self._usable[key]

    def _single(self, number: int) -> _Option:
        """A unit by its own selector."""
        if number not in self._singles:
            terms = pod_terms(self.extents.units[number].selector)
            self._singles[number] = _option(1 << number, terms)
        return self._singles[number]

    def _values(self, namespace: str) -> list[_Values]:
        """The values of each key."""
        if namespace not in self._of_keys:
            of_key: dict[str, _Values] = defaultdict(_Values)
            for item, mask in self.extents.labels(namespace).items():
                option = replace(_option(mask, (term(item),)), cost=1)
                if mask & (mask - 1):
                    of_key[item[0]].shared.append(option)
                else:
                    number = mask.bit_length() - 1
                    of_key[item[0]].single[number] = option
                    if option.terms != self._single(number).terms:
                        of_key[item[0]].differs |= mask
            self._of_keys[namespace] = [of_key[key] for key in sorted(of_key)]
        return self._of_keys[namespace]


def _option(mask: Mask, terms: Terms) -> _Option:
    cost = 1 + max(price(terms), 1)
    one = terms[0] if len(terms) == 1 else None
    return _Option(mask, terms, cost, spelled_terms(terms), one if isinstance(one, In) else None)


def _greedy(required: Mask, single: Mapping[int, _Option], shared: list[_Option]) -> Picks:
    """Label sets, and the required units' own terms, by cost a unit.

    A value of one key whose values share a peer costs one.
    """
    if not shared:
        return _widest(single.values())
    chosen: list[_Option] = []
    left = required
    while left:
        shared = [option for option in shared if option.mask & left]
        best = min(
            ((o.cost / (o.mask & left).bit_count(), o.text, at) for at, o in enumerate(shared)),
            default=None,
        )
        own = (single[at] for at in bits(left))
        picked = [o for o in own if best is None or (o.cost, o.text) < best[:2]]
        if best is not None and not picked:
            picked = [shared[best[2]]]
        chosen += picked
        left &= ~_union(option.mask for option in picked)
    return _widest(_needed(chosen, required))


def _needed(chosen: Sequence[_Option], required: Mask) -> list[_Option]:
    """Without those that the others make superfluous, the dearest first."""
    if not _twice(chosen):
        return list(chosen)
    left = sorted(chosen, key=lambda o: (-o.cost, o.text))
    at = 0
    twice = _twice(left)
    while at < len(left):
        if left[at].mask & required & ~twice:
            at += 1
        else:
            del left[at]
            twice = _twice(left)
    return left


def _twice(options: Iterable[_Option]) -> Mask:
    """What two options or more cover."""
    once = twice = 0
    for option in options:
        twice |= once & option.mask
        once |= option.mask
    return twice


def _union(masks: Iterable[Mask]) -> Mask:
    found = 0
    for mask in masks:
        found |= mask
    return found


def _shortest(options: Sequence[Picks]) -> Picks:
    """The cheapest, of few picks, by text."""
    sizes = [(sum(1 + max(price(terms), 1) for terms in o), len(o)) for o in options]
    best = [o for o, size in zip(options, sizes, strict=True) if size == min(sizes)]
    return min(best, key=lambda o: sorted(map(spelled_terms, o))) if len(best) > 1 else best[0]


def _widest(chosen: Iterable[_Option]) -> Picks:
    """Picks that differ in the values of one key only, made one: key by key."""
    picks: Picks = {}
    alone: dict[str, list[_Option]] = defaultdict(list)
    for option in chosen:
        if option.only is None:
            picks[option.terms] = option.mask
        else:
            alone[option.only.key].append(option)
    if len(picks) > 1:
        _widen(picks)
    for key, several in alone.items():
        values = frozenset[str]().union(*(o.only.values for o in several if o.only))
        picks[(In(key, values),)] = _union(o.mask for o in several)
    return picks


def _widen(picks: Picks) -> None:
    """Make those one that differ in one term's values; with one term each, they come later."""
    for key in sorted({each.key for terms in picks for each in terms if isinstance(each, In)}):
        alike: dict[Terms, list[tuple[Terms, In]]] = defaultdict(list)
        for terms in picks:
            of_key = [each for each in terms if isinstance(each, In) and each.key == key]
            if len(of_key) == 1:
                rest = tuple(each for each in terms if each is not of_key[0])
                alike[rest].append((terms, of_key[0]))
        for rest, several in alike.items():
            if len(several) > 1:
                both = In(key, frozenset[str]().union(*(asked.values for _, asked in several)))
                picks[_by_text((*rest, both))] = _union([picks.pop(t) for t, _ in several])


def _by_text(terms: Iterable[Selector]) -> Terms:
    return tuple(sorted(terms, key=spelled))


def widened(a: Terms, b: Terms) -> Terms | None:
    """Terms true of just whom either is true of, where they differ in one key's values only."""
    if len(a) == len(b) == 1:
        one, other = a[0], b[0]
    else:
        ours, theirs = set(a) - set(b), set(b) - set(a)
        if len(ours) != 1 or len(theirs) != 1:
            return None
        one, other = ours.pop(), theirs.pop()
    if not isinstance(one, In) or not isinstance(other, In) or one.key != other.key:
        return None
    both = In(one.key, one.values | other.values)
    return _by_text((*(set(a) & set(b)), both)) if len(a) > 1 else (both,)
