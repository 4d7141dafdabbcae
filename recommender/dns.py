"""Where DNS is served, and whom policies cut off from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from recommender.evaluate import Evaluator
from recommender.frames import Row, workload_of
from recommender.inventory import Inventory, WorkloadKey
from recommender.model import Policy, PortSet, Remark
from recommender.questions import target_ports

DNS_PORT = 53
# Where a NodeLocal DNSCache listens, on the node: kubernetes.io/docs/tasks/administer-cluster/
# nodelocaldns; its pods bear the label below.
NODE_LOCAL = "169.254.20.10"
_NODE_LOCAL_LABEL = "k8s-app", "node-local-dns"
_MOST_NAMED = 3


def dns_ports(inventory: Inventory) -> frozenset[tuple[str | None, int]]:
    """(namespace, port) where DNS servers listen behind a Service's port 53; 53 is everywhere.

    OpenShift's listens on 5353.
    """
    found: set[tuple[str | None, int]] = {(None, DNS_PORT)}
    for service in inventory.services.values():
        for _, port, target, _ in service.ports:
            if port != DNS_PORT:
                continue
            for pod in inventory.backends(service):
                numbers = [n for _, n, name in pod.ports if name == target]
                found.update((pod.namespace, n) for n in numbers)
                if isinstance(target, int):
                    found.add((pod.namespace, target))
    return frozenset(found)


def is_dns(row: Row, dns: frozenset[tuple[str | None, int]]) -> bool:
    """Whether an edge asks a DNS server, by `dns_ports`."""
    places = {(None, row["port"]), (row["server_namespace"], row["port"])}
    return row["protocol"] in ("TCP", "UDP") and not places.isdisjoint(dns)


def cut_off(judge: Evaluator, rows: Sequence[Row] | None = None) -> Iterator[Remark]:
    """Policies that isolate pods in egress which may then reach no DNS server.

    Args:
        judge: of the policies.
        rows: observed edges; then only workloads that were seen to ask for names count.
    """
    asking = None if rows is None else _asking(rows, judge.world.inventory)
    servers = list(_servers(judge))
    serving = {end for end, _ in servers}
    lacking: dict[tuple[int, ...], set[str]] = defaultdict(set)
    answers: dict[int, bool] = {}
    for end, pod in enumerate(judge.world.pods):
        kind = int(judge.matrix.classes[end])
        if end in serving or (asking is not None and pod.workload not in asking):
            continue
        if kind not in answers:
            answers[kind] = _reaches(judge, end, servers)
        if not answers[kind]:
            lacking[_isolating(judge, end)].add(str(pod.workload))
    for places, workloads in sorted(lacking.items()):
        first, *others = (judge.acting.placed[i] for i in places)
        yield Remark(first.ref, "isolates without DNS", _message(workloads, others), "egress")


def _asking(rows: Sequence[Row], inventory: Inventory) -> set[WorkloadKey | None]:
    dns = dns_ports(inventory)
    return {workload_of(row, "client") for row in rows if is_dns(row, dns)}


def _servers(judge: Evaluator) -> Iterator[tuple[int, PortSet]]:
    """The ends that serve DNS to the cluster, with the ports that they serve it on."""
    for service in judge.world.inventory.services.values():
        for protocol, port, target, _ in service.ports:
            if (protocol, port) == ("UDP", DNS_PORT):
                for end in judge.ends.behind(service):
                    yield end, judge.acting.served_at(target_ports(protocol, target), end)
    on_node = PortSet.one("UDP", DNS_PORT)
    for end, pod in enumerate(judge.world.pods):
        if pod.labels.get(_NODE_LOCAL_LABEL[0]) == _NODE_LOCAL_LABEL[1]:
            yield end, on_node
            yield judge.ends.find(NODE_LOCAL)[0], on_node


def _reaches(judge: Evaluator, subject: int, servers: Sequence[tuple[int, PortSet]]) -> bool:
    """Whether a subject may reach some DNS server; where none is known, anybody on UDP 53."""
    if servers:
        found = [(judge.matrix.outcome(subject, end, "egress"), ports) for end, ports in servers]
    else:
        asked = PortSet.one("UDP", DNS_PORT)
        found = [(each, asked) for each in judge.matrix.outcomes(subject, "egress")]
    return any((allowed | unknown) & ports for (allowed, unknown), ports in found)


def _isolating(judge: Evaluator, end: int) -> tuple[int, ...]:
    """The places of the policies that isolate an end in egress, or else deny there."""
    applying = judge.acting.applying(end)
    return tuple(i for i in applying if "egress" in judge.acting.placed[i].isolates) or applying


def _message(workloads: set[str], others: Sequence[Policy]) -> str:
    names = sorted(workloads)
    who = ", ".join(names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    beside = f" (with {', '.join(str(other.ref) for other in others)})" if others else ""
    return f"it isolates egress{beside}, and {who}{more} may reach no DNS server"
