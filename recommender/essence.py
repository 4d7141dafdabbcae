"""What policies say, apart from how it is written: equal values for equal meaning."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace

from recommender.model import DIRECTIONS, AllOf, AnyOf, NotPeer, Peer, Policy, Rule


def essence(policies: Iterable[Policy]) -> Hashable:
    """The meaning of one object's policies, which defaults written out and order leave as it is.

    Names and places are no part of it. In a union the order of rules means nothing, nor does it
    whether rules of one subject stand in one spec or in several.
    """
    found: dict[Hashable, tuple[set[Hashable], set[Hashable]]] = {}
    for number, policy in enumerate(policies):
        ordered = policy.tier.how == "first match"
        # The place of a rule in its list is no part of what it says, but where the first one acts.
        alone = number if ordered else None
        key = policy.tier, policy.subject, policy.order, policy.staged, alone
        isolates, rules = found.setdefault(key, (set(), set()))
        isolates |= policy.isolates
        for direction in DIRECTIONS:
            for at, rule in enumerate(policy.rules(direction)):
                rules.add((direction, at if ordered else None, _rule(rule)))
    return frozenset(
        (key, frozenset(isolates), frozenset(rules)) for key, (isolates, rules) in found.items()
    )


def _rule(rule: Rule) -> Hashable:
    rest = replace(rule, peer=AnyOf(()), local=None, index=0, evidence=None)
    return rest, _peer(rule.peer), None if rule.local is None else _peer(rule.local)


def _peer(peer: Peer) -> Hashable:
    match peer:
        case AllOf(peers=peers) | AnyOf(peers=peers):
            each = frozenset(map(_peer, peers))
            return next(iter(each)) if len(each) == 1 else (type(peer).__name__, each)
        case NotPeer(peer=inner):
            return "NotPeer", _peer(inner)
    return peer
