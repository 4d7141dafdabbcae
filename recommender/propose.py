"""Wanted edges -> policies: one a unit of workloads, each rule with the edges behind it.

Peers with the same ports share a rule, so a rule permits just the pairs that were seen. Nothing
here knows a dialect: what the chosen dialect cannot say comes back as a loss.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from recommender.dns import dns_ports, is_dns
from recommender.frames import Row, of_class, workload_of
from recommender.inventory import Inventory, WorkloadKey
from recommender.model import (
    DIRECTIONS,
    AddressPeer,
    And,
    AnyOf,
    Direction,
    Evidence,
    In,
    LabelPeer,
    Peer,
    Policy,
    Ports,
    PortSet,
    Ref,
    Rule,
    Selector,
)
from recommender.selectors import Unit
from recommender.tiers import NETWORK_POLICIES

NAME_PREFIX = "flowpolicy-"


@dataclass(frozen=True, slots=True)
class End:
    """One end of a wanted edge: a unit of workloads, or an address."""

    unit: Unit | None
    address: str | None

    def sort_key(self) -> tuple[str, str, str]:
        """Addresses first, then units by namespace and name."""
        if self.unit is None:
            return ("", "", str(self.address))
        return (self.unit.namespace, self.unit.name, "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A wanted edge between two ends, with what it was seen of."""

    client: End
    server: End
    ports: PortSet
    row: Row


@dataclass(frozen=True, slots=True)
class Proposal:
    """The policy for one unit, what the dialect cannot say of it, and whether it was ever seen."""

    unit: Unit
    policy: Policy
    losses: tuple[str, ...]
    seen: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """Which policies are asked for: namespaces (all where empty), exclusions, directions."""

    namespaces: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    directions: tuple[Direction, ...] = DIRECTIONS

    def takes(self, namespace: str) -> bool:
        """Whether policies for the namespace are asked for."""
        chosen = not self.namespaces or namespace in self.namespaces
        return chosen and namespace not in self.excluded


@dataclass
class _Side:
    """What one unit needs in one direction: peers with their ports and evidence."""

    needs: list[tuple[End, PortSet, Row]] = field(default_factory=list)


def propose(
    edges: pd.DataFrame, inventory: Inventory, units: Mapping[WorkloadKey, Unit], scope: Scope
) -> list[Proposal]:
    """The least policies that keep the wanted edges working.

    Args:
        edges: what `classify.classified` returns; rows of other classes than `wanted` are not
            looked at.
        inventory: of the same cluster; every workload in scope gets a policy, seen or not.
        units: what `selectors.units` returns for it.
        scope: which namespaces and directions.

    Returns:
        Proposals by namespace and name.
    """
    sides: dict[tuple[Unit, Direction], _Side] = defaultdict(_Side)
    losses: dict[Unit, set[str]] = defaultdict(set)
    seen: set[Unit] = set()
    dns = dns_ports(inventory)
    for row in of_class(edges, "wanted"):
        client, server = _end(row, "client", units), _end(row, "server", units)
        seen |= {end.unit for end in (client, server) if end.unit is not None}
        ports, loss = _sayable(row, dns)
        if loss is not None:
            for end in (client, server):
                if end.unit is not None:
                    losses[end.unit].add(loss)
            continue
        if server.unit is not None:
            sides[server.unit, "ingress"].needs.append((client, ports, row))
        if client.unit is not None:
            sides[client.unit, "egress"].needs.append((server, ports, row))
    proposals = []
    for unit in dict.fromkeys(units.values()):
        if scope.takes(unit.namespace):
            policy = _policy(unit, sides, scope, _policy_name(unit, units))
            said = (*_unit_loss(unit), *sorted(losses[unit]))
            proposals.append(Proposal(unit, policy, said, unit in seen))
    return sorted(proposals, key=lambda p: (p.unit.namespace, p.policy.ref.name))


def _end(row: Row, role: str, units: Mapping[WorkloadKey, Unit]) -> End:
    if key := workload_of(row, role):
        return End(units[key], None)
    return End(None, str(row[f"{role}_address"]))


def _sayable(row: Row, dns: frozenset[tuple[str | None, int]]) -> tuple[PortSet, str | None]:
    """The ports of an edge, or the loss where a NetworkPolicy has no word for its protocol."""
    protocol = str(row["protocol"])
    if protocol not in ("TCP", "UDP", "SCTP"):
        return PortSet(), (
            f"{protocol} was seen, which a NetworkPolicy cannot name; most CNIs stop it once the "
            "pod is isolated"
        )
    port = int(row["port"])
    if is_dns(row, dns):
        # A truncated answer is asked for again over TCP (RFC 7766), which few windows show.
        return PortSet.one("TCP", port) | PortSet.one("UDP", port), None
    return PortSet.one(protocol, port), None


def _policy_name(unit: Unit, units: Mapping[WorkloadKey, Unit]) -> str:
    key = unit.workloads[0]
    alike = {k for k in units if (k.namespace, k.name) == (key.namespace, key.name)}
    kind = f"-{key.kind.lower()}" if alike - set(unit.workloads) else ""
    return f"{NAME_PREFIX}{unit.name}{kind}"


def _unit_loss(unit: Unit) -> tuple[str, ...]:
    if len(unit.workloads) == 1:
        return ()
    names = ", ".join(str(key) for key in unit.workloads)
    loss = f"no label tells {names} apart, so they share one policy and each may do what the "
    return (loss + "others do; give their pods a label of their own",)


def _policy(
    unit: Unit, sides: Mapping[tuple[Unit, Direction], _Side], scope: Scope, name: str
) -> Policy:
    rules = {
        direction: _rules(unit, sides[unit, direction]) if (unit, direction) in sides else ()
        for direction in scope.directions
    }
    return Policy(
        ref=Ref("networking.k8s.io/v1", "NetworkPolicy", unit.namespace, name),
        tier=NETWORK_POLICIES,
        subject=_inside(unit.namespace, unit.selector),
        isolates=frozenset(scope.directions),
        ingress=rules.get("ingress", ()),
        egress=rules.get("egress", ()),
    )


def _inside(namespace: str, selector: Selector) -> Selector:
    terms = selector.terms if isinstance(selector, And) else (selector,)
    return And((In("meta:namespace", frozenset({namespace})), *terms))


def _rules(unit: Unit, side: _Side) -> tuple[Rule, ...]:
    """One rule for each distinct set of ports, with all the peers that use just this set."""
    ports: dict[End, PortSet] = defaultdict(PortSet)
    for end, more, _ in side.needs:
        ports[end] |= more
    ends: dict[PortSet, list[End]] = defaultdict(list)
    for end, set_ in ports.items():
        ends[set_].append(end)
    rules = []
    for index, (set_, peers) in enumerate(
        sorted(ends.items(), key=lambda item: _rule_order(item[0], item[1]))
    ):
        chosen = set(peers)
        rows = [row for end, _, row in side.needs if end in chosen]
        rules.append(
            Rule(
                peer=AnyOf(tuple(_peers(unit, peers))),
                ports=Ports(numbers=set_),
                index=index,
                evidence=_evidence(rows),
            )
        )
    return tuple(rules)


def _rule_order(ports: PortSet, ends: Sequence[End]) -> tuple[object, ...]:
    return (min(end.sort_key() for end in ends), ports.by_protocol)


def _peers(unit: Unit, ends: Iterable[End]) -> Iterable[Peer]:
    """Label peers by name, then addresses, joined only where every address of a block was seen."""
    addresses = []
    for end in sorted(ends, key=End.sort_key):
        if end.unit is None:
            addresses.append(str(end.address))
            continue
        terms = end.unit.selector.terms if isinstance(end.unit.selector, And) else ()
        if end.unit.namespace == unit.namespace:
            scope = In("meta:namespace", frozenset({unit.namespace}))
        else:
            scope = In("ns:kubernetes.io/metadata.name", frozenset({end.unit.namespace}))
        yield LabelPeer(And((scope, *terms)))
    for block in blocks(addresses):
        yield AddressPeer((block,), reach="nodes")


def blocks(addresses: Iterable[str]) -> list[str]:
    """The fewest CIDR blocks that hold these addresses and no other one, IPv4 first."""
    parsed = [ipaddress.ip_address(address) for address in set(addresses)]
    v4 = [ipaddress.IPv4Network(a) for a in parsed if isinstance(a, ipaddress.IPv4Address)]
    v6 = [ipaddress.IPv6Network(a) for a in parsed if isinstance(a, ipaddress.IPv6Address)]
    return [
        *(str(net) for net in ipaddress.collapse_addresses(v4)),
        *(str(net) for net in ipaddress.collapse_addresses(v6)),
    ]


def _evidence(rows: Sequence[Row]) -> Evidence:
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
        clients=tuple(sorted({named(row, "client") for row in rows})),
        servers=tuple(sorted({named(row, "server") for row in rows})),
    )


def instant(value: Any) -> str:
    """An instant as ISO 8601 text in UTC, to the second."""
    return pd.Timestamp(value).strftime("%Y-%m-%dT%H:%M:%SZ")


def named(row: Row, role: str) -> str:
    """One end of an edge, for people: `namespace/name`, or an address."""
    if row[f"{role}_namespace"] is not None:
        return f"{row[f'{role}_namespace']}/{row[f'{role}_name']}"
    return str(row[f"{role}_address"] or row[f"{role}_name"] or row[f"{role}_type"])


def exact_name(row: Row, role: str) -> str:
    """One end of an edge as the evaluator knows it: `namespace/kind/name`, or an address."""
    if row[f"{role}_type"] == "workload":
        return "/".join(str(row[f"{role}_{name}"]) for name in ("namespace", "kind", "name"))
    return str(row[f"{role}_address"])
