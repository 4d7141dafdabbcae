"""The fewest policies and rules that permit just what the proposals permit.

Nothing is opened: a selector's extent is taken over the whole inventory, and every end of every
connection keeps just the permissions that it had. What is found depends on these permissions only,
not on how the proposals spell them, nor on their order; so doing it twice changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from recommender.cover import Cover
from recommender.embraces import Embrace, embraces
from recommender.extents import Extents, Terms, bits, extents, price, spelled_terms
from recommender.fewest import By, Draft, fewest
from recommender.granted import Form, Problem, collapsed, peer_text, problems
from recommender.model import (
    DIRECTIONS,
    AddressPeer,
    And,
    AnyOf,
    Evidence,
    In,
    LabelPeer,
    NamePeer,
    Peer,
    PortSet,
    Ref,
    Rule,
)
from recommender.needs import Basis
from recommender.propose import NAME_PREFIX, Proposal
from recommender.rulecover import Drawn
from recommender.selectors import Unit
from recommender.tracked import tracked


@dataclass(frozen=True, slots=True)
class Size:
    """How long policies are: counts of policies, rules, peers, and terms with further values."""

    policies: int
    rules: int
    peers: int
    terms: int

    @property
    def cost(self) -> int:
        """In tenths: a policy or a rule 10, a term 1."""
        return 10 * (self.policies + self.rules) + self.terms


@dataclass(frozen=True, slots=True)
class Minimised:
    """The proposals in their shortest form found, by namespace and name; how long before, after.

    `embraces` are the selectors under which a workload falls that nobody has seen yet.
    """

    proposals: tuple[Proposal, ...]
    before: Size
    after: Size
    embraces: tuple[Embrace, ...]


def minimised(
    proposals: Sequence[Proposal],
    basis: Basis,
    *,
    by: By = "role",
) -> Minimised:
    """Fewer and shorter policies that permit just what these permit, at each end by itself.

    Args:
        proposals: what `propose.propose` returns.
        basis: what they were told from; all workloads of its inventory count, seen or not.
        by: `role` lets workloads of a namespace share policies; `workload` keeps one each.
    """
    known = extents(basis)
    found: list[Proposal] = []
    parts = list(problems(proposals, known, basis.words))
    for problem in tracked("shortening the policies of namespaces", parts):
        cover = Cover(known, problem.namespace)
        new = _proposals(problem, known, fewest(problem, cover, by))
        shorter = size(new).cost <= size(problem.proposals).cost
        found += new if shorter else problem.proposals
    ordered = sorted(found, key=lambda p: (str(p.policy.ref.namespace), p.policy.ref.name))
    taken = tuple(embraces(ordered, known))
    return Minimised(tuple(ordered), size(proposals), size(ordered), taken)


def size(proposals: Iterable[Proposal]) -> Size:
    """How long the policies of some proposals are."""
    policies = rules = peers = terms = 0
    for proposal in proposals:
        policies += 1
        terms += _terms(proposal.policy.subject)
        for direction in DIRECTIONS:
            for rule in proposal.policy.rules(direction):
                rules += 1
                for peer in _each(rule.peer):
                    peers += 1
                    terms += _peer_terms(peer)
    return Size(policies, rules, peers, terms)


def _each(peer: Peer) -> tuple[Peer, ...]:
    return peer.peers if isinstance(peer, AnyOf) else (peer,)


def _peer_terms(peer: Peer) -> int:
    match peer:
        case LabelPeer(selector=selector):
            return _terms(selector)
        case AddressPeer(blocks=blocks, excepts=excepts):
            return len(blocks) + len(excepts)
        case NamePeer(names=names):
            return len(names)
    return 1


def _terms(selector: object) -> int:
    """The terms of a selector; one that asks nothing of pods costs as much as one with a label."""
    terms = selector.terms if isinstance(selector, And) else ()
    place = [t for t in terms if isinstance(t, In) and t.key.startswith(("ns:", "meta:"))]
    return price(place) + max(price(t for t in terms if t not in place), 1)


def _proposals(problem: Problem, known: Extents, drafts: Sequence[Draft]) -> list[Proposal]:
    """The drafts written out, with the evidence and the losses of what they replace."""
    evidence = _evidence(problem, drafts)
    names = _names(problem, known, drafts)
    said = _said(problem, known, drafts)
    found = []
    for at, draft in enumerate(drafts):
        made: dict[str, list[Rule]] = {direction: [] for direction in DIRECTIONS}
        for index, rule in enumerate(draft.rules):
            form, ports, peer = _written(problem, known, rule)
            numbers = replace(form[1].ports, numbers=ports)
            seen = evidence.get((at, index))
            made[form[0]].append(replace(form[1], peer=peer, ports=numbers, evidence=seen))
        ordered = {
            direction: tuple(
                replace(rule, index=i) for i, rule in enumerate(sorted(rules, key=_rule_order))
            )
            for direction, rules in made.items()
        }
        place = In("meta:namespace", frozenset({problem.namespace}))
        policy = replace(
            problem.policy,
            ref=names[at],
            subject=And((place, *draft.terms)),
            ingress=ordered["ingress"],
            egress=ordered["egress"],
        )
        chosen = tuple(known.units[number] for number in bits(draft.units))
        found.append(Proposal(chosen, policy, *said[at]))
    return found


def _written(problem: Problem, known: Extents, rule: Drawn) -> tuple[Form, PortSet, Peer]:
    form = problem.columns[rule.columns[0]][0]
    ports = PortSet.union(problem.columns[column][1] for column in rule.columns)
    labelled = [part.choice.peer for part in rule.parts if part.choice]
    others = [
        peer
        for part in rule.parts
        if not part.choice
        for peer in problem.tokens[part.mask.bit_length() - 1 - len(known.units)]
    ]
    return form, ports, AnyOf((*labelled, *collapsed(others)))


def _rule_order(rule: Rule) -> tuple[object, ...]:
    return ([peer_text(peer) for peer in _each(rule.peer)], rule.ports.numbers.by_protocol)


def _names(problem: Problem, known: Extents, drafts: Sequence[Draft]) -> list[Ref]:
    """The names that units' own policies had; a shared one is named by what it selects."""
    of_unit = {p.workloads: p.policy.ref for p in problem.proposals}
    found = []
    for draft in drafts:
        unit = known.units[draft.units.bit_length() - 1]
        ref = of_unit.get(unit.workloads) if draft.units.bit_count() == 1 else None
        if ref is None:
            ref = replace(problem.policy.ref, name=shared_name(draft.terms))
        found.append(ref)
    return found


def shared_name(terms: Terms) -> str:
    """A name for the policy of what these terms select: readable, valid, and nobody else's."""
    said = spelled_terms(terms)
    digest = hashlib.sha256(said.encode()).hexdigest()[:8]
    first = terms[0] if terms else None
    words = "all"
    if isinstance(first, In):
        key = first.key.rsplit("/", 1)[-1].removeprefix("pod:")
        words = f"{key}-{min(first.values)}" if len(first.values) == 1 else f"{key}-several"
    plain = re.sub(r"[^a-z0-9]+", "-", words.lower())[:40].strip("-")
    return f"{NAME_PREFIX}{plain}-{digest}" if plain else f"{NAME_PREFIX}{digest}"


def _said(
    problem: Problem, known: Extents, drafts: Sequence[Draft]
) -> list[tuple[tuple[str, ...], tuple[Unit, ...]]]:
    """Losses, and units never seen, of each draft.

    Those of a proposal go to the draft for the fewest units that governs all of its own.
    """
    losses: list[dict[str, None]] = [{} for _ in drafts]
    unseen: list[set[int]] = [set() for _ in drafts]
    for proposal in problem.proposals:
        mask = 0
        for key in proposal.workloads:
            mask |= 1 << known.numbers[key]
        whole = [at for at, draft in enumerate(drafts) if not mask & ~draft.units]
        some = [at for at, draft in enumerate(drafts) if mask & draft.units]
        smallest = min(whole or some, key=lambda at: (drafts[at].units.bit_count(), at))
        losses[smallest] |= dict.fromkeys(proposal.losses)
        unseen[smallest] |= {known.numbers[unit.workloads[0]] for unit in proposal.unseen}
    return [
        (tuple(lost), tuple(known.units[number] for number in sorted(numbers)))
        for lost, numbers in zip(losses, unseen, strict=True)
    ]


def _evidence(problem: Problem, drafts: Sequence[Draft]) -> dict[tuple[int, int], Evidence]:
    """By draft and rule, what was seen of the rules that it takes over.

    A proposed rule that no new one takes over as a whole counts for each that takes a part.
    """
    at_point: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for at, draft in enumerate(drafts):
        for index, rule in enumerate(draft.rules):
            for unit in bits(draft.units):
                for column in rule.columns:
                    at_point[unit, column].append((at, index))
    taken: dict[tuple[int, int], list[Evidence]] = defaultdict(list)
    masks = {(a, i): rule.mask for a, d in enumerate(drafts) for i, rule in enumerate(d.rules)}
    for granted in problem.granted:
        if granted.rule.evidence is None:
            continue
        points = {
            place
            for unit in bits(granted.units)
            for column in granted.columns
            for place in at_point[unit, column]
            if masks[place] & granted.peers
        }
        whole = [
            (at, index)
            for at, index in points
            if not granted.units & ~drafts[at].units
            and granted.columns <= set(drafts[at].rules[index].columns)
            and not granted.peers & ~masks[at, index]
        ]
        for place in whole or points:
            taken[place].append(granted.rule.evidence)
    return {place: merged_evidence(found) for place, found in taken.items()}


def merged_evidence(found: Sequence[Evidence]) -> Evidence:
    """One evidence of several: connections summed, days and hours of the one that has most."""
    seen = [each for each in found if each.connections] or found
    return Evidence(
        connections=sum(each.connections for each in found),
        days=max(each.days for each in found),
        hours=max(each.hours for each in found),
        first_seen=min(each.first_seen for each in seen),
        last_seen=max(each.last_seen for each in seen),
        reporters=_all(each.reporters for each in found),
        clients=_all(each.clients for each in found),
        servers=_all(each.servers for each in found),
        opened=_all(each.opened for each in found),
        pairs=_all(each.pairs for each in found),
    )


def _all(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({name for several in names for name in several}))
