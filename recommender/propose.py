"""Wanted edges -> policies: one a unit of workloads, each rule with the edges behind it.

Peers with the same ports share a rule, so a rule permits just the pairs that were seen. Nothing
here knows a dialect: `words.Words` says what there is a word for, and what there is none for comes
back as a loss.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from recommender.blocks import blocks
from recommender.frames import Row
from recommender.inventory import WorkloadKey
from recommender.model import (
    DIRECTIONS,
    AddressPeer,
    And,
    AnyOf,
    Direction,
    Evidence,
    In,
    LabelPeer,
    NamePeer,
    Peer,
    Policy,
    Ports,
    PortSet,
    Ref,
    Rule,
    Selector,
)
from recommender.names import joined
from recommender.needs import Basis, Loss, Need, needs
from recommender.selectors import Unit
from recommender.tracked import tracked
from recommender.words import Words

NAME_PREFIX = "flowpolicy-"
_PATTERN = "{} stands for every such name, not only those that were asked for"


@dataclass(frozen=True, slots=True)
class Proposal:
    """The policy for some units, what the dialect cannot say of them, and which were never seen."""

    units: tuple[Unit, ...]
    policy: Policy
    losses: tuple[str, ...]
    unseen: tuple[Unit, ...]

    @property
    def namespace(self) -> str:
        """The namespace of its units."""
        return self.units[0].namespace

    @property
    def workloads(self) -> tuple[WorkloadKey, ...]:
        """The workloads that the policy selects."""
        return tuple(key for unit in self.units for key in unit.workloads)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which policies are asked for: namespaces (all where empty), exclusions, directions.

    So many `open_addresses` that were not seen may be opened in one rule, to join its blocks.
    """

    namespaces: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    directions: tuple[Direction, ...] = DIRECTIONS
    open_addresses: int = 0

    def takes(self, namespace: str) -> bool:
        """Whether policies for the namespace are asked for."""
        chosen = not self.namespaces or namespace in self.namespaces
        return chosen and namespace not in self.excluded


def propose(
    rows: Iterable[Row], scope: Scope, basis: Basis, *, apart: bool = False
) -> tuple[list[Proposal], list[Loss]]:
    """The least policies that keep the wanted edges working.

    Args:
        rows: wanted edges, rows of what `classify.classified` returns.
        scope: which namespaces and directions; every workload in scope gets a policy, seen or not.
        basis: what they are told from, and in which words.
        apart: whether every workload gets a rule of its own, so that `minimise.minimised` knows
            what each piece of evidence is of.

    Returns:
        Proposals by namespace and name; and the wanted edges that the dialect cannot say.
    """
    units, words = basis.units, basis.words
    found = needs(rows, basis)
    by_side: dict[tuple[Unit, Direction], list[Need]] = defaultdict(list)
    for need in found.needs:
        by_side[need.unit, need.direction].append(need)
    losses: dict[Unit, set[str]] = defaultdict(set)
    for loss in found.losses:
        losses[loss.unit].add(loss.why)
    kinds = Counter((key.namespace, key.name) for key in units)
    proposals = []
    for unit in tracked("proposing for workloads", dict.fromkeys(units.values())):
        if scope.takes(unit.namespace):
            rules = {
                d: _rules(by_side[unit, d], basis, scope.open_addresses, apart)
                for d in scope.directions
            }
            policy = _policy(unit, rules, words, _policy_name(unit, kinds))
            said = (*_unit_loss(unit), *sorted(losses[unit]), *_opened(policy))
            unseen = () if unit in found.seen else (unit,)
            proposals.append(Proposal((unit,), policy, said, unseen))
    return sorted(proposals, key=lambda p: (p.namespace, p.policy.ref.name)), found.losses


def _policy_name(unit: Unit, kinds: Mapping[tuple[str, str], int]) -> str:
    """With the kind where others than its own workloads bear the name; `kinds` counts by name."""
    key = unit.workloads[0]
    own = sum((k.namespace, k.name) == (key.namespace, key.name) for k in unit.workloads)
    kind = f"-{key.kind.lower()}" if kinds[key.namespace, key.name] > own else ""
    return f"{NAME_PREFIX}{unit.name}{kind}"


def _unit_loss(unit: Unit) -> tuple[str, ...]:
    if len(unit.workloads) == 1:
        return ()
    names = ", ".join(str(key) for key in unit.workloads)
    loss = f"no label tells {names} apart, so they share one policy and each may do what the "
    return (loss + "others do; give their pods a label of their own",)


def _opened(policy: Policy) -> Iterator[str]:
    """A sentence on all that opens more than was seen: ranges, blocks, patterns of names."""
    for direction in DIRECTIONS:
        for rule in policy.rules(direction):
            yield from rule.evidence.opened if rule.evidence else ()
    for rule in policy.egress:
        for peer in rule.peer.peers if isinstance(rule.peer, AnyOf) else ():
            for name in peer.names if isinstance(peer, NamePeer) else ():
                if "*" in name:
                    yield f"{name} stands for every such name, not only those that were asked for"


def _policy(
    unit: Unit, rules: Mapping[Direction, tuple[Rule, ...]], words: Words, name: str
) -> Policy:
    return Policy(
        ref=Ref(words.api, words.kind, unit.namespace, name),
        tier=words.tier,
        subject=_inside(unit.namespace, unit.selector),
        isolates=frozenset(rules),
        ingress=rules.get("ingress", ()),
        egress=rules.get("egress", ()),
        order=words.order,
    )


def _inside(namespace: str, selector: Selector) -> Selector:
    terms = selector.terms if isinstance(selector, And) else (selector,)
    return And((In("meta:namespace", frozenset({namespace})), *terms))


# --- rules --------------------------------------------------------------------------------------


def _rules(side: Sequence[Need], basis: Basis, budget: int, apart: bool) -> tuple[Rule, ...]:
    """One rule for each distinct set of ports, with all the peers that use just this set."""
    words = basis.words
    by_name = any(isinstance(need.peer, NamePeer) for need in side)
    ports: dict[tuple[Hashable, Peer], PortSet] = defaultdict(PortSet)
    members: dict[tuple[Hashable, Peer], dict[int, Need]] = defaultdict(dict)
    for i, need in enumerate(side):
        for protocol, intervals in need.ports.by_protocol:
            # The DNS by which the network learns the addresses of names is a rule of its own.
            kind = words.apart(need.peer, protocol), by_name and need.asks
            ports[kind, need.peer] |= PortSet.of({protocol: intervals})
            members[kind, need.peer][i] = need
    alike: dict[tuple[Hashable, PortSet, Peer | None], list[Need]] = defaultdict(list)
    for key, some in members.items():
        pods = key[1] if apart and isinstance(key[1], LabelPeer) else None
        alike[key[0], ports[key], pods] += some.values()
    rules = [
        (
            min(need.place for need in some),
            set_.by_protocol,
            _rule(some, set_, basis, budget, by_name),
        )
        for (_, set_, _), some in alike.items()
    ]
    return numbered(rule for *_, rule in sorted(rules, key=lambda each: each[:2]))


def numbered(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules, each with its place as its index."""
    return tuple(replace(rule, index=index) for index, rule in enumerate(rules))


def _rule(some: Sequence[Need], ports: PortSet, basis: Basis, budget: int, by_name: bool) -> Rule:
    """The rule of needs that agree in their ports; names and addresses last, each joined."""
    peers: dict[Peer, None] = {}
    addresses: list[str] = []
    names: set[str] = set()
    for need in sorted(some, key=lambda need: need.place):
        match need.peer:
            case AddressPeer(blocks=single):
                addresses += single
            case NamePeer(names=asked):
                names |= set(asked)
            case _:
                peers[need.peer] = None
    patterns = joined(names, basis.words.sibling_names)
    if patterns:
        peers[NamePeer(tuple(patterns))] = None
    found = blocks(addresses, budget, basis.closed)
    within = [AddressPeer((block.cidr,), reach=basis.words.reach) for block in found]
    rows = [need.row for need in some]
    pairs = tuple(sorted({_pair(row) for row in rows if row.get("opened")}))
    opened = (
        *(f"{pair} was opened for shorter policies, nobody was seen to use it" for pair in pairs),
        *sorted({_run(row) for row in rows} - {""}),
        *(_PATTERN.format(name) for name in patterns if "*" in name),
        *(str(block) for block in found if block.opened),
    )
    return Rule(
        peer=AnyOf((*peers, *within)),
        ports=Ports(numbers=ports),
        evidence=replace(_evidence(rows), opened=opened, pairs=pairs),
        learns=by_name and all(need.asks for need in some),
    )


def _pair(row: Row) -> str:
    ends = f"{named(row, 'client')} -> {named(row, 'server')}"
    return f"{ends} {row['protocol']} {row['port']}"


def _run(row: Row) -> str:
    """A sentence on the range of ports that an edge belongs to; empty where it has none."""
    if not row["run"]:
        return ""
    low, high, seen = row["run"]
    return (
        f"{row['protocol']} {low}-{high} of {named(row, 'server')}: {seen} of {high - low + 1} "
        "ports were seen, given out anew for each connection; pin the port if you can"
    )


def _evidence(given: Sequence[Row]) -> Evidence:
    seen = [row for row in given if not row.get("opened")]
    rows = seen or given
    reporters = set()
    for row in rows:
        if row["allowed_client"]:
            reporters.add("client")
        if row["allowed_server"]:
            reporters.add("server")
    return Evidence(
        connections=sum(int(row["connections"]) for row in rows),
        days=max(int(row["days"]) for row in rows),
        hours=max(int(row["hours"]) for row in rows),
        first_seen=min(instant(row["first_seen"]) for row in rows),
        last_seen=max(instant(row["last_seen"]) for row in rows),
        reporters=tuple(sorted(reporters)),
        clients=tuple(sorted({named(row, "client") for row in seen})),
        servers=tuple(sorted({named(row, "server") for row in seen})),
    )


def instant(value: Any) -> str:
    """An instant as ISO 8601 text in UTC, to the second."""
    return pd.Timestamp(value).strftime("%Y-%m-%dT%H:%M:%SZ")


def named(row: Row, role: str) -> str:
    """One end of an edge, for people: `namespace/name`, or an address."""
    if row[f"{role}_cluster"] is not None:
        return f"{row[f'{role}_cluster']}:{row[f'{role}_namespace']}/{row[f'{role}_name']}"
    if row[f"{role}_namespace"] is not None:
        return f"{row[f'{role}_namespace']}/{row[f'{role}_name']}"
    return str(row[f"{role}_address"] or row[f"{role}_name"] or row[f"{role}_type"])


def exact_name(row: Row, role: str) -> str:
    """One end of an edge as the evaluator knows it: `namespace/kind/name`, or an address."""
    if row[f"{role}_type"] == "workload":
        return "/".join(str(row[f"{role}_{name}"]) for name in ("namespace", "kind", "name"))
    return str(row[f"{role}_address"])
