"""What the cheapest policies there are cost, by integer programming: an oracle for small cases.

It shares the costs with the project and nothing else. Selectors are enumerated (every conjunction
of up to three labels, every set of values of one key, every unit's own; in the own namespace, any
set of namespaces, any namespace label), their extents are read off label maps one by one, and
HiGHS chooses policies, rules and peers. Costs are in tenths: a policy or a rule 10, a term or a
further value 1.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, combinations
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from recommender.inventory import Inventory
from recommender.model import DIRECTIONS, AddressPeer, And, AnyOf, In, LabelPeer, Not
from recommender.propose import Proposal
from recommender.selectors import Unit, units

Set = frozenset[Any]
Extent = tuple[tuple[str, Set | None], ...]  # by namespace; None where it parts a unit
Costs = dict[Set, int]  # the least cost of each extent
Needs = dict[tuple[Unit, str, Any], Set]  # ends by unit, direction and port


def subsets(items: Iterable[Any], most: int) -> Iterator[tuple[Any, ...]]:
    rows = sorted(set(items))
    return chain.from_iterable(combinations(rows, n) for n in range(1, min(most, len(rows)) + 1))


def _maps(world: Inventory, unit: Unit) -> list[Mapping[str, str]]:
    maps: list[Mapping[str, str]] = []
    for key in unit.workloads:
        pods = [p.labels for p in world.pods_of[key] if not p.host_network]
        template = world.workloads[key].template_labels
        maps += [*pods, template] if template or not pods else pods
    return [{k: v for k, v in m.items() if k in ("app", "role", "zone")} for m in maps]


def _own_cost(unit: Unit) -> int:
    assert isinstance(unit.selector, And)
    inner = [t.term if isinstance(t, Not) else t for t in unit.selector.terms]
    return max(sum(len(t.values) if isinstance(t, In) else 1 for t in inner), 1)


def _selectors(world: Inventory) -> dict[Extent, int]:
    """The least cost of every extent that some selector of pods has."""
    everyone = set(units(world).values())
    spaces = sorted({unit.namespace for unit in everyone})
    maps = {unit: _maps(world, unit) for unit in everyone}
    values: dict[str, set[str]] = defaultdict(set)
    for key, value in (item for rows in maps.values() for row in rows for item in row.items()):
        values[key].add(value)
    asked: list[tuple[dict[str, set[str]], int]] = [({}, 1)]
    for keys in subsets(values, 3):
        rows: list[dict[str, set[str]]] = [{}]
        for key in keys:
            rows = [{**row, key: {value}} for row in rows for value in values[key]]
        asked += [(row, len(keys)) for row in rows]
    asked += [({k: set(c)}, len(c)) for k, vs in values.items() for c in subsets(vs, 8)]
    found: dict[Extent, int] = {}
    for terms, cost in asked:
        says = {
            unit: {all(m.get(k) in vs for k, vs in terms.items()) for m in maps[unit]}
            for unit in everyone
        }
        extent: Extent = tuple(
            (space, None)
            if any(len(says[u]) > 1 for u in everyone if u.namespace == space)
            else (space, frozenset(u for u in everyone if u.namespace == space and True in says[u]))
            for space in spaces
        )
        found[extent] = min(found.get(extent, cost), cost)
    for unit in everyone:
        extent = tuple((s, frozenset({unit} if s == unit.namespace else ())) for s in spaces)
        found[extent] = min(found.get(extent, 99), _own_cost(unit))
    return found


def _least(rows: Iterable[tuple[Set | None, int]]) -> Costs:
    least: Costs = {}
    for extent, cost in rows:
        if extent:
            least[extent] = min(least.get(extent, cost), cost)
    return least


def _peers(world: Inventory, home: str, selectors: Mapping[Extent, int], ends: Set) -> Costs:
    """The least cost of every peer of a policy in `home` that takes in nobody but `ends`."""
    names = sorted({space for extent in selectors for space, _ in extent})
    places = [({home}, 1), *((set(chosen), len(chosen)) for chosen in subsets(names, 9))]
    for name in names:
        for item in world.namespaces[name].labels.items():
            bearing = {n for n in names if item in world.namespaces[n].labels.items()}
            places.append((bearing, 1))
    rows: list[tuple[Set | None, int]] = []
    for extent, cost in selectors.items():
        by_space = dict(extent)
        for place, more in places:
            parts = [by_space[name] for name in place if name in by_space]
            if None not in parts:
                rows.append((frozenset().union(*(p for p in parts if p)), cost + more))
    for address in (ipaddress.ip_address(end) for end in ends if isinstance(end, str)):
        for wide in range(3):
            bits = address.max_prefixlen - wide
            block = ipaddress.ip_network(f"{address}/{bits}", strict=False)
            rows.append((frozenset(map(str, block)), 1))
    least = _least((takes, cost) for takes, cost in rows if takes and takes <= ends)
    # Who is allowed may be taken in, so a peer that takes in more for no more is never worse.
    return {
        takes: cost
        for takes, cost in least.items()
        if not any(takes < more and at <= cost for more, at in least.items())
    }


def _needs(proposals: Iterable[Proposal], world: Inventory) -> Needs:
    """Read off proposals of one unit each, whose peers are units' own selectors and addresses."""
    of = {}
    for unit in set(units(world).values()):
        assert isinstance(unit.selector, And)
        of[unit.namespace, frozenset(unit.selector.terms)] = unit
    needs: dict[tuple[Unit, str, Any], set[Any]] = defaultdict(set)
    for proposal in proposals:
        for direction in DIRECTIONS:
            for rule in proposal.policy.rules(direction):
                assert isinstance(rule.peer, AnyOf)
                for peer in rule.peer.peers:
                    if isinstance(peer, LabelPeer):
                        assert isinstance(peer.selector, And)
                        place, *terms = peer.selector.terms
                        assert isinstance(place, In)
                        ends = {of[next(iter(place.values)), frozenset(terms)]}
                    else:
                        assert isinstance(peer, AddressPeer)
                        ends = {str(a) for a in ipaddress.ip_network(peer.blocks[0])}
                    for protocol, intervals in rule.ports.numbers.by_protocol:
                        for low, _ in intervals:
                            needs[proposal.units[0], direction, (protocol, low)] |= ends
    return {key: frozenset(ends) for key, ends in needs.items()}


def least_cost(proposals: Iterable[Proposal], world: Inventory, by: str) -> int:
    """What the cheapest policies cost that permit just what the proposals permit."""
    given = list(proposals)
    selectors = _selectors(world)
    return sum(
        _one([p for p in given if p.namespace == space], world, space, selectors, by)
        for space in sorted({p.namespace for p in given})
    )


def _one(
    group: list[Proposal], world: Inventory, home: str, selectors: Mapping[Extent, int], by: str
) -> int:
    members = {unit for p in group for unit in p.units}
    needs = _needs(group, world)
    subjects = _least(
        (found, cost)
        for extent, cost in selectors.items()
        if (found := dict(extent)[home]) is not None and found <= members
    )
    if by == "workload":
        subjects = {frozenset({unit}): _own_cost(unit) for unit in members}
    return _solved(members, needs, subjects, world, home, selectors)


def _solved(
    members: set[Unit],
    needs: Needs,
    subjects: Costs,
    world: Inventory,
    home: str,
    selectors: Mapping[Extent, int],
) -> int:
    costs: list[int] = []
    below: list[tuple[int, int]] = []  # the first only where the second is
    covers: dict[Any, list[int]] = {key: [] for key in members}
    for (unit, direction, port), ends in needs.items():
        covers |= {(unit, direction, port, end): [] for end in ends}
    ports = {d: {port for _, each, port in needs if each == d} for d in DIRECTIONS}

    def variable(cost: int) -> int:
        costs.append(cost)
        return len(costs) - 1

    for subject, cost in subjects.items():
        policy = variable(11 + cost)
        for unit in subject:
            covers[unit].append(policy)
        for direction in DIRECTIONS:
            for chosen in subsets(ports[direction], 5):
                common = frozenset.intersection(
                    *(needs.get((u, direction, t), frozenset()) for u in subject for t in chosen)
                )
                peers = _peers(world, home, selectors, common) if common else {}
                if peers:
                    rule = variable(10)
                    below.append((rule, policy))
                for takes, price in peers.items():
                    peer = variable(price)
                    below.append((peer, rule))
                    for unit in subject:
                        for port in chosen:
                            for end in takes:
                                covers[unit, direction, port, end].append(peer)
    return _minimum(costs, below, list(covers.values()))


def _minimum(costs: list[int], below: list[tuple[int, int]], covers: list[list[int]]) -> int:
    rows, columns, values, least = [], [], [], []
    for low, high in below:
        rows += [len(least)] * 2
        columns += [low, high]
        values += [-1, 1]
        least.append(0)
    for cover in covers:
        rows += [len(least)] * len(cover)
        columns += cover
        values += [1] * len(cover)
        least.append(1)
    matrix = coo_array((values, (rows, columns)), shape=(len(least), len(costs)))
    found = milp(
        np.array(costs, float),
        integrality=np.ones(len(costs)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(matrix.tocsr(), lb=np.array(least)),
        options={"mip_rel_gap": 0},
    )
    assert found.success, found.message
    return round(float(found.fun))
