"""Who bears which labels: every unit of workloads a bit, every label set the mask of whom it takes.

Extents are taken over the whole inventory, so over units without traffic too. A label of which only
some pods of a unit have the value (in the midst of a rollout, say) has no extent here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations

from recommender.inventory import Inventory, WorkloadKey
from recommender.model import And, Has, In, Labels, Not, Or, Selector, Text
from recommender.needs import Basis
from recommender.selectors import Unit, is_lasting, is_volatile

Mask = int
Item = tuple[str, str]  # a label: key, value
Terms = tuple[Selector, ...]  # what a selector asks of a pod's labels; none takes in every pod

NAME = "kubernetes.io/metadata.name"
_PLACES = ("ns:", "meta:namespace", "meta:cluster")
_MOST_KEYS = 3  # of a label set; more have not been seen to say anything new


def bits(mask: Mask) -> Iterator[int]:
    """The positions of a mask, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def price(terms: Iterable[Selector]) -> int:
    """The tenths that terms cost: one each, and one more for each further value."""
    total = 0
    for term in terms:
        inner = term.term if isinstance(term, Not) else term
        total += len(inner.values) if isinstance(inner, In) else 1
    return total


def spelled(selector: Selector) -> str:
    """A selector as text that sets of values do not reorder."""
    match selector:
        case Has(key=key):
            return f"has {key}"
        case In(key=key, values=values):
            return f"{key} in {sorted(values)}"
        case Text(key=key, how=how, text=text):
            return f"{key} {how} {text!r}"
        case Not(term=term):
            return f"not ({spelled(term)})"
        case And(terms=terms):
            return " and ".join(spelled(term) for term in terms)
        case Or(terms=terms):
            return " or ".join(f"({spelled(term)})" for term in terms)


@cache
def spelled_terms(terms: Terms) -> str:
    """Terms as text; the empty set of terms comes last."""
    return " and ".join(map(spelled, terms)) or "~"


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels that stand for two units or more of one namespace."""

    mask: Mask
    terms: Terms

    def sort_key(self) -> tuple[int, str]:
        """The shortest first, then by text."""
        return price(self.terms), spelled_terms(self.terms)


@dataclass(frozen=True)
class Extents:
    """The units of an inventory by number, with their label maps.

    Units are sorted, so that a namespace is a run of bits: `spaces`. `space_labels` are the
    namespaces that bear each label. A peer in another namespace names it by `namespace_key`, and
    its `cluster` where there is one.
    """

    units: tuple[Unit, ...]
    numbers: Mapping[WorkloadKey, int]
    maps: tuple[tuple[Labels, ...], ...]
    spaces: Mapping[str, Mask]
    space_maps: Mapping[str, Labels]
    space_labels: Mapping[Item, frozenset[str]]
    namespace_key: str
    cluster: str | None
    _borne: dict[str, dict[Item, Mask]] = field(default_factory=dict, repr=False)
    _labels: dict[str, dict[Item, Mask]] = field(default_factory=dict, repr=False)
    _label_sets: dict[str, tuple[LabelSet, ...]] = field(default_factory=dict, repr=False)
    _of_keys: dict[str, dict[str, dict[str, tuple[Mask, Mask]]]] = field(
        default_factory=dict, repr=False
    )
    _matched: dict[Selector, Mask | None] = field(default_factory=dict, repr=False)

    def borne(self, namespace: str) -> dict[Item, Mask]:
        """The units of a namespace of which some pod bears each label."""
        if namespace not in self._borne:
            found: dict[Item, Mask] = defaultdict(int)
            for number in bits(self.spaces.get(namespace, 0)):
                for labels in self.maps[number]:
                    for item in labels.items():
                        found[item] |= 1 << number
            self._borne[namespace] = dict(found)
        return self._borne[namespace]

    def labels(self, namespace: str) -> dict[Item, Mask]:
        """The lasting labels that take in whole units, sorted."""
        if namespace not in self._labels:
            self._labels[namespace] = {
                item: mask
                for item, mask in sorted(self.borne(namespace).items())
                if is_lasting(item[0])
                and all(
                    labels.get(item[0]) == item[1] for at in bits(mask) for labels in self.maps[at]
                )
            }
        return self._labels[namespace]

    def label_sets(self, namespace: str) -> tuple[LabelSet, ...]:
        """The label sets that stand for two units or more, the shortest for each extent.

        None takes in a whole namespace without a label where one label would take in the same
        units: a pod that nobody has seen yet may lack it.
        """
        if namespace not in self._label_sets:
            self._label_sets[namespace] = tuple(
                sorted(self._sets(namespace), key=LabelSet.sort_key)
            )
        return self._label_sets[namespace]

    def _sets(self, namespace: str) -> Iterator[LabelSet]:
        whole = self.spaces.get(namespace, 0)
        seen = {whole}
        if whole & (whole - 1) and whole not in self.labels(namespace).values():
            yield LabelSet(whole, ())
        first: dict[Mask, Item] = {}
        for item, mask in self.labels(namespace).items():
            if mask & (mask - 1):
                yield LabelSet(mask, (term(item),))
                first.setdefault(mask, item)
        seen |= first.keys()
        of_unit: dict[int, list[tuple[Item, Mask]]] = defaultdict(list)
        for mask, item in first.items():
            for number in bits(mask):
                of_unit[number].append((item, mask))
        for count in range(2, _MOST_KEYS + 1):
            new: dict[Mask, tuple[Item, ...]] = {}
            for several in {tuple(sorted(found)) for found in of_unit.values()}:
                for chosen in combinations(several, count):
                    mask = chosen[0][1]
                    for _, more in chosen[1:]:
                        mask &= more
                    if mask & (mask - 1) and mask not in seen:
                        items = tuple(item for item, _ in chosen)
                        new[mask] = min(new.get(mask, items), items)
            yield from (LabelSet(m, tuple(term(i) for i in items)) for m, items in new.items())
            seen |= new.keys()

    def matched(self, selector: Selector) -> Mask | None:
        """The units that a selector takes in; null where it parts a unit or asks another thing."""
        if selector not in self._matched:
            self._matched[selector] = self._match(selector)
        return self._matched[selector]

    def _match(self, selector: Selector) -> Mask | None:
        terms = selector.terms if isinstance(selector, And) else (selector,)
        place = And(tuple(t for t in terms if _key(t).startswith(_PLACES)))
        asked = And(tuple(t for t in terms if t not in place.terms))
        if any(not _key(t).startswith("pod:") or is_volatile(_key(t)[4:]) for t in asked.terms):
            return None
        found = 0
        for namespace in self.spaces:
            if place.matches(self.space_maps[namespace]):
                inside = self.within(namespace, asked.terms)
                if inside is None:
                    return None
                found |= inside
        return found

    def within(self, namespace: str, terms: Terms) -> Mask | None:
        """The units of a namespace that bear all the terms; null where a unit is parted."""
        near, by_key = self.spaces[namespace], self._values(namespace)
        whole = True  # no unit is parted as far as is known
        for one in terms:
            if isinstance(one, In):
                with_it = all_of_it = 0
                masks = by_key.get(one.key, {})
                for value in one.values & masks.keys():
                    with_it |= masks[value][0]
                    all_of_it |= masks[value][1]
                near &= with_it
                whole = whole and with_it == all_of_it
            else:
                whole = False
        if whole:
            return near
        found = 0
        asked = And(terms)
        for number in bits(near):
            says = {
                asked.matches({f"pod:{k}": v for k, v in labels.items()})
                for labels in self.maps[number]
            }
            if len(says) > 1:
                return None
            found |= (True in says) << number
        return found

    def _values(self, namespace: str) -> dict[str, dict[str, tuple[Mask, Mask]]]:
        """By key and value: the units of which some pod bears it; those of which every pod does."""
        if namespace not in self._of_keys:
            labels = self.labels(namespace)
            found: dict[str, dict[str, tuple[Mask, Mask]]] = defaultdict(dict)
            for (key, value), mask in self.borne(namespace).items():
                found[f"pod:{key}"][value] = mask, labels.get((key, value), 0)
            self._of_keys[namespace] = dict(found)
        return self._of_keys[namespace]

    def exact(self, namespace: str, mask: Mask) -> Terms | None:
        """The shortest terms that take in just these units of a namespace; null where none do."""
        if mask & (mask - 1) == 0:
            return pod_terms(self.units[mask.bit_length() - 1].selector)
        options = [s.terms for s in self.label_sets(namespace) if s.mask == mask]
        options += [terms for terms, found in self.value_sets(namespace, mask) if found == mask]
        return min(options, key=lambda t: (max(price(t), 1), spelled_terms(t)), default=None)

    def value_sets(self, namespace: str, allowed: Mask) -> Iterator[tuple[Terms, Mask]]:
        """For each key, its values that take in none but the allowed units, and whom they take."""
        values: dict[str, set[str]] = defaultdict(set)
        found: dict[str, Mask] = defaultdict(int)
        for (key, value), mask in self.labels(namespace).items():
            if not mask & ~allowed:
                values[key].add(value)
                found[key] |= mask
        for key, several in values.items():
            yield (In(f"pod:{key}", frozenset(several)),), found[key]


def term(item: Item) -> In:
    """The term that asks for one label of a pod."""
    return In(f"pod:{item[0]}", frozenset({item[1]}))


def pod_terms(selector: Selector) -> Terms:
    """What a selector asks of pods, taken apart."""
    return selector.terms if isinstance(selector, And) else (selector,)


def _key(selector: Selector) -> str:
    inner = selector.term if isinstance(selector, Not) else selector
    return inner.key if isinstance(inner, In | Has | Text) else ""


def extents(basis: Basis) -> Extents:
    """The extents of every label; pods and templates of every workload count, seen or not."""
    inventory, units, words = basis.inventory, basis.units, basis.words
    ordered = sorted(set(units.values()), key=lambda unit: (unit.namespace, unit.workloads))
    spaces: dict[str, Mask] = defaultdict(int)
    for number, unit in enumerate(ordered):
        spaces[unit.namespace] |= 1 << number
    cluster = str(basis.mesh.cluster)
    known = {name: dict(space.labels) for name, space in inventory.namespaces.items()}
    for name in spaces:
        known.setdefault(name, {})[NAME] = name
    space_labels: dict[Item, set[str]] = defaultdict(set)
    for name, labels in known.items():
        for item in labels.items():
            if item[0] != NAME and is_lasting(item[0]):
                space_labels[item].add(name)
    return Extents(
        units=tuple(ordered),
        numbers={key: n for n, unit in enumerate(ordered) for key in unit.workloads},
        maps=tuple(tuple(_maps(inventory, unit, words.hides)) for unit in ordered),
        spaces=dict(spaces),
        space_maps={
            name: {"meta:namespace": name, "meta:cluster": cluster}
            | {f"ns:{k}": v for k, v in labels.items()}
            for name, labels in known.items()
        },
        space_labels={item: frozenset(names) for item, names in sorted(space_labels.items())},
        namespace_key=words.namespace_key,
        cluster=basis.mesh.cluster if words.clusters else None,
    )


def _maps(inventory: Inventory, unit: Unit, hides: Callable[[str], bool]) -> list[Labels]:
    """The distinct label maps of the unit's pods and templates, without keys that never serve."""
    maps: set[tuple[Item, ...]] = set()
    for key in unit.workloads:
        pods = [pod for pod in inventory.pods_of.get(key, ()) if not pod.host_network]
        given = [pod.labels for pod in pods]
        template = inventory.workloads[key].template_labels
        if template or not given:
            given.append(template)
        maps |= {
            tuple(sorted((k, v) for k, v in labels.items() if not is_volatile(k) and not hides(k)))
            for labels in given
        }
    return [dict(items) for items in sorted(maps)]
