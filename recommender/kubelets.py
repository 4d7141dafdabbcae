"""Which unknown addresses are the pods' own nodes, told by what they call.

A log of Calico shows a kubelet's probes as calls from a private address. Where the inventory has no
nodes, the address still gives itself away: it calls nothing but ports that the pods' templates
declare as probes, it does so on one node, and every node has one like it. Whoever is taken for a
kubelet gets no rule, so all of this must hold.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping

from recommender.inventory import Inventory, WorkloadKey
from recommender.who import Who

Seen = tuple[str, str | None]  # address of the client, node that reported

# Of the nodes that report calls to probed ports, so many must show a kubelet.
_SHARE = 2 / 3


def kubelets(
    calls: Iterable[Mapping[str, object]],
    workloads: Mapping[tuple[object, object], Who],
    inventory: Inventory,
) -> frozenset[Seen]:
    """The (address, reporting node) pairs in which the address is the pods' own node.

    Args:
        calls: rows of `edges.outside_calls`.
        workloads: who the servers are, by (namespace, `who`) of END.
        inventory: its workloads' probes.
    """
    targets: dict[Seen, dict[WorkloadKey, int]] = defaultdict(dict)
    others: set[Seen] = set()
    for call in calls:
        address, node = str(call["ip"]), call["node"]
        seen = address, None if node is None else str(node)
        who = workloads.get((call["namespace"], call["who"]))
        key = WorkloadKey(str(who.namespace), str(who.kind), str(who.name)) if who else None
        workload = inventory.workloads.get(key) if key else None
        if workload is None or call["port"] not in workload.probes or not _may_be_node(address):
            others.add(seen)
        else:
            hours = targets[seen].get(workload.key, 0) + int(str(call["hours"]))
            targets[seen][workload.key] = hours
    only = {seen: found for seen, found in targets.items() if seen not in others}
    if None in {node for _, node in targets}:  # the log does not name the reporting nodes
        return frozenset(s for s, found in only.items() if len(found) > 1)
    return _one_a_node(only, {node for _, node in targets})


def _one_a_node(
    only: Mapping[Seen, Mapping[WorkloadKey, int]], nodes: set[str | None]
) -> frozenset[Seen]:
    """On each node the address that probes most; none at all where too few nodes have one."""
    chosen: dict[str | None, Seen] = {}
    taken: set[str] = set()

    def by_breadth(item: tuple[Seen, Mapping[WorkloadKey, int]]) -> tuple[int, int, str]:
        return -len(item[1]), -sum(item[1].values()), item[0][0]

    for seen, _ in sorted(only.items(), key=by_breadth):
        address, node = seen
        if node not in chosen and address not in taken:
            chosen[node] = seen
            taken.add(address)
    return frozenset(chosen.values()) if len(chosen) >= _SHARE * len(nodes) else frozenset()


def _may_be_node(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return parsed.is_private or parsed in ipaddress.ip_network("100.64.0.0/10")
