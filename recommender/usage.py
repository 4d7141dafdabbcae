"""What of each allow rule the observed flows made use of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial, reduce
from operator import or_

import numpy as np

from recommender.dns import dns_ports, is_dns
from recommender.evaluate import Evaluator
from recommender.frames import Row, workload_of
from recommender.inventory import WorkloadKey
from recommender.model import (
    DIRECTIONS,
    NO_PORTS,
    PORT_PROTOCOLS,
    Direction,
    Policy,
    PortSet,
    Ref,
    Remark,
    Rule,
)
from recommender.needs import ports_of, run_of
from recommender.propose import exact_name
from recommender.replay import asked, judged
from recommender.universe import Mask, Universe, bits, is_local

_MOST_SHOWN = 4  # port ranges of one protocol
_COUNTABLE = 1 << 32  # addresses; IPv6 has more than help anybody
RuleKey = tuple[Ref, Direction, int]


@dataclass
class _Use:
    """What came through one rule: pairs of (subject, peer) workloads, outside peers, ports."""

    pairs: set[tuple[WorkloadKey | None, WorkloadKey]] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    ports: PortSet = NO_PORTS


ActingRules = Callable[[str, str, str, int], set[RuleKey]]


def usage(
    judge: Evaluator, rows: Sequence[Row], acting_rules: ActingRules | None = None
) -> Iterator[Remark]:
    """The allow rules that no observed edge came through, and those that allow more than was seen.

    Args:
        judge: of the policies.
        rows: observed edges, of every class that policies can decide; see `classify.classified`.
        acting_rules: what answers as the evaluator's own does, where the answers are known already.
    """
    used = _used(judge, rows, acting_rules or judge.acting_rules)
    named = cache(partial(_workloads, judge.world))
    for policy in judge.policies:
        for direction in DIRECTIONS:
            for rule in policy.rules(direction):
                if rule.action != "allow":
                    continue
                extent = _extent(judge, policy, direction, rule, named)
                if extent is None:
                    continue
                use = used.get((policy.ref, direction, rule.index))
                if use is None:
                    message = "no flow came through it in the window"
                    yield Remark(policy.ref, "never used", message, direction, rule.index)
                elif wide := "; ".join(_wider(extent, use)):
                    yield Remark(policy.ref, "wider than its use", wide, direction, rule.index)


def _used(judge: Evaluator, rows: Iterable[Row], acting_rules: ActingRules) -> dict[RuleKey, _Use]:
    found: dict[RuleKey, _Use] = defaultdict(_Use)
    dns = dns_ports(judge.world.inventory)
    for row in rows:
        if not judged(row):
            continue
        protocol, port = asked(row)
        ports = ports_of(row) | run_of(row)
        if is_dns(row, dns):  # asked again over TCP where the answer is long (RFC 7766)
            ports |= PortSet.one("TCP", port) | PortSet.one("UDP", port)
        ends = exact_name(row, "client"), exact_name(row, "server")
        for key in acting_rules(*ends, protocol, port):
            own, other = ("client", "server") if key[1] == "egress" else ("server", "client")
            use, peer = found[key], workload_of(row, other)
            use.ports |= ports
            if peer is None:
                use.addresses.add(str(row[f"{other}_address"]))
            else:
                use.pairs.add((workload_of(row, own), peer))
    return found


@dataclass(frozen=True)
class _Extent:
    """What a rule lets through: workloads on both sides, addresses, ports."""

    subjects: frozenset[WorkloadKey]
    peers: frozenset[WorkloadKey]
    addresses: int
    ports: PortSet


def _extent(
    judge: Evaluator,
    policy: Policy,
    direction: Direction,
    rule: Rule,
    named: Callable[[Mask], frozenset[WorkloadKey]],
) -> _Extent | None:
    """The extent of a rule; None where it matches nobody, or nobody knows whom.

    `named` tells the workloads of a set of ends.
    """
    world = judge.world
    if is_local(rule.peer) or (rule.local and is_local(rule.local)):
        return None
    subjects, peers = world.selected(policy.subject), world.matched(rule.peer)
    if rule.local:
        subjects &= world.matched(rule.local)
    if peers.sure != peers.may or not subjects.sure or not peers.sure:
        return None
    served = subjects.sure if direction == "ingress" else peers.sure
    ports = [ports for ports, ends in judge.acting.served(rule.ports) if ends & served]
    every = reduce(or_, ports, NO_PORTS)
    return _Extent(
        named(subjects.sure),
        named(peers.sure),
        sum(world.atoms.size(at - len(world.pods)) for at in _ends(world, peers.sure, pods=False)),
        PortSet.of({protocol: every.intervals(protocol) for protocol in PORT_PROTOCOLS}),
    )


def _ends(world: Universe, chosen: Mask, *, pods: bool) -> list[int]:
    found = np.flatnonzero(bits(chosen, world.size)).tolist()
    return [end for end in found if (end < len(world.pods)) is pods]


def _workloads(world: Universe, chosen: Mask) -> frozenset[WorkloadKey]:
    # Host-network pods are there by their nodes' addresses.
    plain = _ends(world, chosen & world.plain, pods=True)
    return frozenset(world.pods[end].workload for end in plain)


def _wider(extent: _Extent, use: _Use) -> Iterator[str]:
    # Whether a workload of one pod talks to itself is no matter of policy.
    selves = {(key, key) for key in extent.subjects & extent.peers} - use.pairs
    pairs = len(extent.subjects) * len(extent.peers) - len(selves)
    if pairs > len(use.pairs):
        yield f"{len(use.pairs):,} of {pairs:,} pairs of workloads were seen"
    if extent.addresses > len(use.addresses):
        count = f"{extent.addresses:,}" if extent.addresses < _COUNTABLE else "all"
        yield f"{len(use.addresses):,} of {count} addresses were seen"
    if unseen := extent.ports - use.ports:
        yield f"never seen: {', '.join(_ports(unseen))}"


def _ports(ports: PortSet) -> Iterator[str]:
    for protocol, intervals in ports.by_protocol:
        shown = [f"{low}" if low == high else f"{low}-{high}" for low, high in intervals]
        more = [f"{len(shown) - _MOST_SHOWN} more"] if len(shown) > _MOST_SHOWN else []
        yield f"{protocol} {','.join([*shown[:_MOST_SHOWN], *more])}"
