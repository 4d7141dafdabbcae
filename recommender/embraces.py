"""Which selectors would take in a workload that nobody has seen yet.

Each selector that stands for several units is asked of each of them: had this one not been there,
would the selector, spelled without what only this one bears, have taken it in all the same? A set
of names would not; a shared label would, so tomorrow's workload with that label falls under the
rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from recommender.extents import Extents, bits
from recommender.model import (
    DIRECTIONS,
    And,
    AnyOf,
    Direction,
    Has,
    In,
    LabelPeer,
    Not,
    Or,
    Ref,
    Selector,
    Text,
)
from recommender.propose import Proposal


@dataclass(frozen=True, slots=True)
class Embrace:
    """A selector that takes in workloads by what others bear.

    `direction` and `rule` are null for the subject of a policy. `workloads` are those that it
    would have taken in unseen.
    """

    policy: Ref
    direction: Direction | None
    rule: int | None
    selector: Selector
    workloads: tuple[str, ...]

    def __str__(self) -> str:
        place = f"{self.direction} rule {self.rule}" if self.direction else "its subject"
        return f"{self.policy}, {place}: a new workload with {_told(self.selector)} falls under it"


_NAMESPACE = ("meta:namespace", "ns:kubernetes.io/metadata.name")
_OWNERS = {"ns": "its namespace's ", "sa": "its service account's "}


def _told(selector: Selector) -> str:
    """A selector in words, as `namespace shop and app=cart or web`."""
    match selector:
        case In(key=key, values=values):
            some = " or ".join(sorted(values))
            return f"namespace {some}" if key in _NAMESPACE else f"{_label(key)}={some}"
        case Has(key=key):
            return f"a label {_label(key)}"
        case Text(key=key, how=how, text=text):
            return f"{_label(key)} that {how} {text}"
        case Not(term=term):
            return f"not ({_told(term)})"
        case And(terms=terms):
            return " and ".join(map(_told, terms)) or "any label or none"
        case Or(terms=terms):
            return " or ".join(f"({_told(term)})" for term in terms)


def _label(key: str) -> str:
    kind, _, name = key.partition(":")
    return f"{_OWNERS.get(kind, '')}{name}"


def embraces(proposals: Iterable[Proposal], extents: Extents) -> Iterator[Embrace]:
    """The selectors of some proposals that would take in an unseen workload, in their order."""
    for proposal in proposals:
        policy = proposal.policy
        places: list[tuple[Direction | None, int | None, Selector]] = [(None, None, policy.subject)]
        for direction in DIRECTIONS:
            for rule in policy.rules(direction):
                peers = rule.peer.peers if isinstance(rule.peer, AnyOf) else (rule.peer,)
                places += [
                    (direction, rule.index, peer.selector)
                    for peer in peers
                    if isinstance(peer, LabelPeer)
                ]
        for where, index, selector in places:
            if units := list(_unseen(selector, extents)):
                names = tuple(str(key) for at in units for key in extents.units[at].workloads)
                yield Embrace(policy.ref, where, index, selector, names)


def _unseen(selector: Selector, extents: Extents) -> Iterator[int]:
    """The units that a selector would take in without knowing them."""
    found = extents.matched(selector)
    if found is None or not found & (found - 1):
        return
    terms = selector.terms if isinstance(selector, And) else (selector,)
    listed = [term for term in terms if isinstance(term, In) and len(term.values) > 1]
    borne = [{unit: _values(term.key, unit, extents) for unit in bits(found)} for term in listed]
    # By how many units each value is borne, so that one by itself bears none twice.
    counts = [Counter(value for some in each.values() for value in some) for each in borne]
    for unit in bits(found):
        if all(
            count[value] > 1
            for each, count in zip(borne, counts, strict=True)
            for value in each[unit]
        ):
            yield unit


def _values(key: str, unit: int, extents: Extents) -> set[str | None]:
    space = extents.units[unit].namespace
    if not key.startswith("pod:"):
        return {extents.space_maps[space].get(key)}
    return {labels.get(key.removeprefix("pod:")) for labels in extents.maps[unit]}
