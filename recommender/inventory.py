"""What is known of a cluster: namespaces, nodes, workloads, pods, services, policies."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from recommender.manifests import Manifest
from recommender.model import Labels

__all__ = ["Inventory", "Manifest", "Namespace", "Node", "Pod", "Service", "Workload"]


@dataclass(frozen=True, slots=True, order=True)
class WorkloadKey:
    """What owns pods: (cluster, namespace, kind, name); cluster is null for an inventory's own."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace and its labels, `kubernetes.io/metadata.name` always among them."""

    name: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class Node:
    """A node, its labels and every address that it is known by."""

    name: str
    labels: Labels
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """An owner of pods: its selector's `matchLabels`, its template's labels and ports.

    `ports` holds (protocol, container port, name or null), `probes` the TCP ports that the kubelet
    asks whether the pods are well.
    """

    key: WorkloadKey
    match_labels: Labels
    template_labels: Labels
    ports: tuple[tuple[str, int, str | None], ...]
    service_account: str
    host_network: bool
    probes: frozenset[int] = frozenset()
    schedule: str | None = None


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod: `addresses` are its own, `node_addresses` its node's; `made` from a template."""

    namespace: str
    name: str
    labels: Labels
    workload: WorkloadKey
    addresses: tuple[str, ...]
    ports: tuple[tuple[str, int, str | None], ...]
    service_account: str
    host_network: bool
    node: str | None = None
    node_addresses: tuple[str, ...] = ()
    made: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A Service: its selector, cluster addresses, (protocol, port, target, name) rows and labels.

    `target` is a number, or the name of a container port.
    """

    namespace: str
    name: str
    selector: Labels
    addresses: tuple[str, ...]
    ports: tuple[tuple[str, int, int | str, str | None], ...]
    type: str = "ClusterIP"
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True)
class Inventory:
    """All that is known of a cluster; every mapping is keyed by name and sorted."""

    namespaces: dict[str, Namespace] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    workloads: dict[WorkloadKey, Workload] = field(default_factory=dict)
    pods: dict[tuple[str, str], Pod] = field(default_factory=dict)
    services: dict[tuple[str, str], Service] = field(default_factory=dict)
    service_accounts: dict[tuple[str, str], Labels] = field(default_factory=dict)
    manifests: tuple[Manifest, ...] = ()
    unknown_kinds: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @cached_property
    def pod_of_address(self) -> dict[str, Pod]:
        """The running pod behind each pod address; host-network pods have their node's."""
        return {
            address: pod
            for pod in self.pods.values()
            if not pod.host_network
            for address in pod.addresses
        }

    @cached_property
    def node_of_address(self) -> dict[str, str]:
        """The node's name behind each node address."""
        return {address: node.name for node in self.nodes.values() for address in node.addresses}

    @cached_property
    def service_of_address(self) -> dict[str, Service]:
        """The Service behind each cluster address."""
        return {address: s for s in self.services.values() for address in s.addresses}

    @cached_property
    def pods_of(self) -> dict[WorkloadKey, tuple[Pod, ...]]:
        """The pods of each workload, by name."""
        found: dict[WorkloadKey, list[Pod]] = {key: [] for key in self.workloads}
        for pod in self.pods.values():
            found.setdefault(pod.workload, []).append(pod)
        return {key: tuple(pods) for key, pods in found.items()}

    def backends(self, service: Service) -> list[Pod]:
        """The pods that a Service's selector selects; none where it has no selector."""
        if not service.selector:
            return []
        return [
            pod
            for pod in self.pods.values()
            if pod.namespace == service.namespace
            and all(pod.labels.get(k) == v for k, v in service.selector.items())
        ]
