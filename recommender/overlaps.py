"""Rules that others make needless: they never act, or allow what others allow as well.

A deny that nothing contradicts today is a guard rail, and no fault; so only allow rules are called
redundant, and not where nothing forbids what it allows. A policy goes on isolating without any of
its rules. What narrows a rule beyond ports (L7) is not judged, so a rule narrowed so makes no other
needless.
"""

from __future__ import annotations

from collections.abc import Iterator

from recommender.evaluate import Evaluator
from recommender.model import DIRECTIONS, Direction, Policy, PortSet, Reason, Remark, Rule
from recommender.tiers import Turn
from recommender.universe import bits

_MOST_NAMED = 3


def overlaps(judge: Evaluator) -> Iterator[Remark]:
    """The rules that are shadowed or redundant, in the order of their policies.

    Left out are rules that match nobody, or of which it isn't known whom they match.
    """
    found: dict[tuple[int, Direction, int], Remark] = {}
    places = {id(policy): i for i, policy in enumerate(judge.policies)}
    for direction in DIRECTIONS:
        for policy, rule, subjects in _rules(judge, direction):
            if remark := _needless(judge, direction, policy, rule, subjects):
                found[places[id(policy)], direction, rule.index] = remark
    return (found[key] for key in sorted(found))


Subjects = list[tuple[int, Turn]]


def _rules(judge: Evaluator, direction: Direction) -> Iterator[tuple[Policy, Rule, Subjects]]:
    """Each rule of one direction, with a subject for each distinct set of rules it stands in."""
    found: dict[tuple[int, int], tuple[Policy, Rule, Subjects]] = {}
    for subject, turns in judge.matrix.subjects(direction):
        for turn in turns:
            for policy, rule in turn.rules:
                key = id(policy), id(rule)
                found.setdefault(key, (policy, rule, []))[2].append((subject, turn))
    yield from found.values()


def _needless(
    judge: Evaluator, direction: Direction, policy: Policy, rule: Rule, subjects: Subjects
) -> Remark | None:
    grid = judge.matrix
    # Nearly every rule is needed by the first subject, which settles it.
    if any(grid.is_needed(subject, direction, policy, rule) for subject, _ in subjects):
        return None
    if _beside_narrower(judge, direction, rule, subjects):
        return None
    acts = any(grid.acts(subject, direction, policy, rule) for subject, _ in subjects)
    if acts and rule.action != "allow":
        return None
    shown = next(_matches(judge, direction, rule, subjects), None)
    if shown is None:
        return None
    subject, peer, ports, turn = shown
    src, dst = (subject, peer) if direction == "egress" else (peer, subject)
    _, because = judge.walk(direction, src, dst, ports, without=(policy, rule))
    if all(why.policy is None for why in because):
        return None
    siblings = {
        (p.ref, r.index) for p, r in turn.rules if turn.together and r.action == rule.action
    }
    beside = all(why.policy is None or (why.policy, why.rule) in siblings for why in because)
    if acts or beside:
        message = f"it allows what {_told(because)} allows as well"
        return Remark(policy.ref, "redundant", message, direction, rule.index)
    message = f"it never acts: {_told(because)} decides first"
    return Remark(policy.ref, "shadowed", message, direction, rule.index)


def _beside_narrower(
    judge: Evaluator, direction: Direction, rule: Rule, subjects: Subjects
) -> bool:
    """Whether a rule that L7 narrows in another way matches some of the same peers."""
    for subject, _ in subjects:
        for turn in judge.acting.turns(judge.acting.applying(subject), direction):
            for _, other in turn.rules:
                if other.restricted is not None and other.restricted != rule.restricted:
                    both = judge.acting.peers(other, subject) & judge.acting.peers(rule, subject)
                    if both.may:
                        return True
    return False


def _matches(
    judge: Evaluator, direction: Direction, rule: Rule, subjects: Subjects
) -> Iterator[tuple[int, int, PortSet, Turn]]:
    """Pairs of ends, with ports, that a rule surely matches."""
    for subject, turn in subjects:
        peers = bits(judge.acting.peers(rule, subject).sure, judge.world.size)
        for peer in judge.matrix.members[peers[judge.matrix.members]].tolist():
            if ports := judge.acting.ports_at(
                rule.ports, peer if direction == "egress" else subject
            ):
                yield subject, peer, ports, turn


def _told(because: list[Reason]) -> str:
    names = [
        f"{why.policy} rule {why.rule}" if why.rule is not None else str(why.policy)
        for why in because
        if why.policy is not None
    ]
    more = [f"{len(names) - _MOST_NAMED} others"] if len(names) > _MOST_NAMED else []
    return " and ".join([*names[:_MOST_NAMED], *more])
