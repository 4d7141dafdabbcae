"""Proposals beside policies in force that others wrote: what stays open, and what would close it.

Nothing of theirs is ever part of a proposal. The proposals hold all that was wanted, whether theirs
allow it or not, so a rule of theirs that keeps something else open can go; that is a change of its
own, which a person applies or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from recommender.dialects import narrowing
from recommender.evaluate import Evaluator, evaluator
from recommender.frames import Row, of_class
from recommender.holes import Opened, RuleAt, opened
from recommender.listing import Connection
from recommender.manifests import Manifest
from recommender.model import DIRECTIONS, Direction, Policy, Reason, Ref
from recommender.policies import PolicySet, identity, policy_set
from recommender.propose import exact_name
from recommender.replay import Replayed, asked, judged, replay
from recommender.rollout import enforcing
from recommender.tiers import place
from recommender.universe import Mask
from recommender.voided import voided
from recommender.watch import Watched

Rules = Mapping[Direction, frozenset[int]]


@dataclass(frozen=True)
class Hole:
    """A rule in force that keeps connections open which no evidence asks for.

    Attributes:
        ref: the object, `place` where it was read.
        at: the field of the rule, as `spec.ingress[0]`.
        pairs: of workloads, or of a workload and a range of addresses, that stay open.
        shown: the first of them.
        edges: wanted edges that came through it, of so many `connections`; the proposals hold them.
        waiting: edges that came through it, wait for a decision, and would be denied without it.
        left: why no change closes it; empty where one does.
    """

    ref: Ref
    at: str
    pairs: int
    shown: tuple[Connection, ...]
    edges: int
    connections: int
    waiting: tuple[Row, ...]
    left: str = ""


@dataclass(frozen=True)
class Change:
    """An object of theirs with less in it: `says` what became of its fields, `closes` what."""

    ref: Ref
    body: dict[str, Any]
    says: tuple[str, ...]
    closes: tuple[Hole, ...]


@dataclass(frozen=True)
class Beside:
    """What policies in force do beside the proposals.

    Attributes:
        theirs: those in force that no proposal takes the place of; `replaced` counts the others.
        holes: their rules that keep connections open.
        changes: what would close these; no part of the proposals.
        denied: wanted edges that they deny, whatever is proposed, with the rules that do it.
        voided: their rules narrowed by HTTP and the like that the proposals make void.
        doubts: their rules of which it cannot be told whom they match.
    """

    theirs: PolicySet
    replaced: int
    holes: tuple[Hole, ...]
    changes: tuple[Change, ...]
    denied: tuple[Replayed, ...]
    voided: tuple[str, ...]
    doubts: tuple[Reason, ...]


def beside(
    own: Sequence[Policy],
    bodies: Iterable[dict[str, Any]],
    given: PolicySet,
    watched: Watched,
    wanted: Sequence[Row],
    lost: Sequence[Row],
) -> Beside:
    """What the given policies do beside the proposed ones.

    Args:
        own: the proposals, as they will enforce.
        bodies: their manifests; an object of the same kind and name is replaced, so left out.
        given: the policies in force.
        watched: the cluster.
        wanted: the wanted edges.
        lost: those of them, the very same rows, for which the proposals have no words.
    """
    theirs, replaced = _standing(given, bodies)
    looked = _Looked(tuple(own), theirs, watched, wanted, lost)
    plans = looked.plans
    changes = looked.proven([one for one in plans.changes if one.closes])
    closed = {id(hole) for change in changes for hole in change.closes}
    unproven = "what is left without it would deny wanted edges, or open others"
    holes = (h if h.left or id(h) in closed else replace(h, left=unproven) for h in plans.holes)
    known = {policy.ref for policy in theirs.policies}
    return Beside(
        theirs=theirs,
        replaced=replaced,
        holes=tuple(holes),
        changes=tuple(changes),
        denied=tuple(r for r in looked.replayed if r.verdict.allow is False),
        voided=tuple(voided(looked.judge, looked.alone, looked.first, looked.concerned)),
        doubts=tuple(why for why in looked.judge.doubts() if why.policy in known),
    )


def _standing(given: PolicySet, bodies: Iterable[dict[str, Any]]) -> tuple[PolicySet, int]:
    """The policies in force that stay, staged ones aside, and how many the proposals replace."""
    new = {_enforced(Manifest("", body)) for body in bodies}
    kept = [manifest for manifest in given.manifests if _enforced(manifest) not in new]
    names = {identity(manifest) for manifest in kept}
    policies = [p for p in given.policies if not p.staged and _identity(p.ref) in names]
    return replace(given, manifests=kept, policies=policies), len(given.manifests) - len(kept)


def _enforced(manifest: Manifest) -> tuple[str, ...]:
    group, kind, *rest = identity(manifest)
    return group, enforcing(kind), *rest


def _identity(ref: Ref) -> tuple[str, str, str, str]:
    return ref.api.partition("/")[0], ref.kind, ref.namespace or "default", ref.name


@dataclass
class _Plans:
    """The holes, and the objects as they would be without."""

    holes: list[Hole] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


@dataclass(frozen=True)
class _Looked:
    """Proposals (`own`) and theirs, as one network judges them together."""

    own: tuple[Policy, ...]
    theirs: PolicySet
    watched: Watched
    wanted: Sequence[Row]
    lost: Sequence[Row]

    @property
    def first(self) -> int:
        """The place of the first policy of theirs among all."""
        return len(self.own)

    @cached_property
    def both(self) -> tuple[Policy, ...]:
        """All policies, proposals first, where the network puts them."""
        return place([*self.own, *self.theirs.policies])

    def _evaluator(self, policies: Sequence[Policy]) -> Evaluator:
        inventory, told = self.watched.inventory, self.watched.known
        return evaluator(policies, inventory, told=told, staged=True, beside=self.both)

    @cached_property
    def judge(self) -> Evaluator:
        """Of all policies."""
        return self._evaluator(self.both)

    @cached_property
    def alone(self) -> Evaluator:
        """Of the proposals."""
        return self._evaluator(self.both[: self.first])

    @cached_property
    def before(self) -> Evaluator:
        """Of theirs."""
        return self._evaluator(self.both[self.first :])

    @cached_property
    def concerned(self) -> dict[Direction, Mask]:
        """The pods that the proposals isolate."""
        found: dict[Direction, Mask] = dict.fromkeys(DIRECTIONS, 0)
        for policy in self.both[: self.first]:
            for direction in policy.isolates:
                found[direction] |= self.judge.world.selected(policy.subject).sure
        return found

    @cached_property
    def replayed(self) -> list[Replayed]:
        """Every wanted edge, those that the proposals have no words for left out."""
        unsaid = set(map(id, self.lost))
        return list(replay(self.judge, [row for row in self.wanted if id(row) not in unsaid]))

    @cached_property
    def uses(self) -> dict[tuple[Ref, Direction, int], list[Row]]:
        """The edges, wanted or waiting, that came through each rule of theirs."""
        found: dict[tuple[Ref, Direction, int], list[Row]] = defaultdict(list)
        for row in [*self.wanted, *of_class(self.watched.edges, "review")]:
            if judged(row):
                ends = exact_name(row, "client"), exact_name(row, "server")
                for key in self.before.acting_rules(*ends, *asked(row)):
                    found[key].append(row)
        return found

    def only_theirs(self, row: Row) -> bool:
        """Whether the proposals alone do not let an edge through."""
        ends = exact_name(row, "client"), exact_name(row, "server")
        return not self.alone.permits(*ends, *asked(row))

    @cached_property
    def plans(self) -> _Plans:
        """What keeps connections open, and the objects that would not."""
        found = opened(self.judge, self.alone)
        by_object: dict[Ref, dict[int, dict[RuleAt, Opened]]] = {}
        numbers: dict[Ref, int] = defaultdict(int)
        number_of = {}
        for at, policy in enumerate(self.both[self.first :], self.first):
            number_of[at] = numbers[policy.ref]
            numbers[policy.ref] += 1
        for key, each in found.items():
            if key.policy >= self.first:
                ref = self.both[key.policy].ref
                by_object.setdefault(ref, {}).setdefault(key.policy, {})[key] = each
        bodies = {identity(manifest): manifest.body for manifest in self.theirs.manifests}
        plans = _Plans()
        for ref, policies in by_object.items():
            old = bodies[_identity(ref)]
            new = narrowing.labelled(old)
            says: list[str] = []
            closes: list[Hole] = []
            for at, rules in policies.items():
                holes = self._holes(at, rules, narrowing.spec_field(old, number_of[at]))
                plans.holes += holes.values()
                keys = [key for key, hole in holes.items() if not hole.left]
                if keys:
                    says += self._narrow(new, at, number_of[at], keys, holes)
                    closes += [holes[key] for key in keys]
            plans.changes.append(Change(ref, new, tuple(says), tuple(closes)))
        return plans

    def _holes(self, at: int, found: Mapping[RuleAt, Opened], spec: str) -> dict[RuleAt, Hole]:
        """The holes that the rules of one policy are."""
        policy = self.both[at]
        whole = self._left_of_all(policy, found)
        holes = {}
        for key, each in found.items():
            rows = self.uses.get((policy.ref, key.direction, key.rule), [])
            wanted = [row for row in rows if row["class"] == "wanted"]
            waiting = [row for row in rows if row["class"] == "review" and self.only_theirs(row)]
            holes[key] = Hole(
                ref=policy.ref,
                at=f"{spec}.{key.direction}[{key.rule}]",
                pairs=each.pairs,
                shown=tuple(each.shown),
                edges=len(wanted),
                connections=sum(int(row["connections"]) for row in wanted),
                waiting=tuple(waiting),
                left=whole or self._left(policy, key.direction, key.rule),
            )
        return holes

    def _left(self, policy: Policy, direction: Direction, index: int) -> str:
        """Why a rule has to stay; empty where it can go."""
        rules = [rule for rule in policy.rules(direction) if rule.index == index]
        for rule in rules:
            if rule.restricted:
                return f"it allows only {rule.restricted}, which flows do not tell"
        lost = {id(row) for row in self.lost}
        needing = [
            row
            for row in self.uses.get((policy.ref, direction, index), [])
            if id(row) in lost and self.only_theirs(row)
        ]
        if needing:
            many = f"{len(needing)} wanted edges" if len(needing) > 1 else "a wanted edge"
            return f"{many} came through it for which the proposals have no words"
        return ""

    def _left_of_all(self, policy: Policy, found: Iterable[RuleAt]) -> str:
        """Why a policy that serves others too has to stay as it is; empty where it can be narrowed.

        Then it is to select none of the concerned any more, which takes all of its rules from them.
        """
        if not any(self._others(policy, key.direction) for key in found):
            return ""
        rules = [(d, rule) for d in DIRECTIONS for rule in policy.rules(d)]
        ways = policy.isolates | {direction for direction, _ in rules}
        inside = self._within(policy)
        if policy.ref.namespace is not None or any(
            inside & ~self.concerned[direction] for direction in ways
        ):
            return "it serves pods too that the proposals do not concern"
        if any(rule.action != "allow" for _, rule in rules):
            return "it serves pods too that the proposals do not concern, and does not only allow"
        whys = (self._left(policy, direction, rule.index) for direction, rule in rules)
        return next(filter(None, whys), "")

    def _others(self, policy: Policy, direction: Direction) -> Mask:
        """Whom a policy selects that the proposals do not isolate."""
        return self.judge.world.selected(policy.subject).may & ~self.concerned[direction]

    def _namespaces(self, policy: Policy) -> set[str]:
        """The namespaces of the concerned that a policy selects."""
        world = self.judge.world
        either = self.concerned["ingress"] | self.concerned["egress"]
        chosen = world.selected(policy.subject).sure & either
        return {pod.namespace for end, pod in enumerate(world.pods) if chosen >> end & 1}

    def _within(self, policy: Policy) -> Mask:
        """All whom a policy selects in the namespaces of the concerned."""
        world, names = self.judge.world, self._namespaces(policy)
        there = sum(1 << end for end, pod in enumerate(world.pods) if pod.namespace in names)
        return world.selected(policy.subject).may & there

    def _narrow(
        self,
        body: dict[str, Any],
        at: int,
        number: int,
        keys: Sequence[RuleAt],
        holes: Mapping[RuleAt, Hole],
    ) -> Iterator[str]:
        """Narrow an object in place, and say how."""
        policy = self.both[at]
        if any(self._others(policy, key.direction) for key in keys):
            names = sorted(self._namespaces(policy))
            narrowing.elsewhere(body, number, names)
            yield f"it selects nobody of {', '.join(names)} any more"
            return
        gone: Rules = {
            d: frozenset(key.rule for key in keys if key.direction == d)
            for d in sorted({key.direction for key in keys})
        }
        passes = policy.tier != self.both[0].tier
        if passes:
            narrowing.passing(body, number, gone)
        else:
            narrowing.without(body, number, policy, gone)
        for key in keys:
            yield f"{holes[key].at} {'passes to the next tier' if passes else 'is removed'}"

    def proven(self, changes: Sequence[Change]) -> list[Change]:
        """The changes that deny nothing wanted and open nothing: all, or those that do so alone."""
        if not changes or self._holds(changes):
            return list(changes)
        apart = [change for change in changes if self._holds([change])]
        return apart if self._holds(apart) else []

    def _holds(self, changes: Sequence[Change]) -> bool:
        new = {_identity(change.ref): change.body for change in changes}
        manifests = [
            replace(manifest, body=new.get(identity(manifest), manifest.body))
            for manifest in self.theirs.manifests
        ]
        found = policy_set(manifests, self.watched.inventory)
        policies = [policy for policy in found.policies if not policy.staged]
        if [p.ref for p in policies] != [p.ref for p in self.theirs.policies]:
            return False  # one would be refused
        after = self._evaluator(place([*self.own, *policies]))
        if after.connectivity(beyond_those_of=self.judge):
            return False
        rows = [r.row for r in self.replayed if r.verdict.allow is True]
        rows += [r.row for r in replay(self.judge, self.lost) if r.verdict.allow is True]
        return all(r.verdict.allow is True for r in replay(after, rows))
