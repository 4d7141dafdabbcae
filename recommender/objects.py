"""Kubernetes objects -> Inventory, from what `kubectl get -o yaml` prints or a folder of manifests.

A pod belongs to the workload at the end of its owner references. A workload without pods (a folder
of manifests, a CronJob between runs) is stood for by one pod made from its template.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recommender.errors import InventoryError
from recommender.inventory import (
    Inventory,
    Namespace,
    Node,
    Pod,
    Service,
    Workload,
    WorkloadKey,
)
from recommender.manifests import Manifest
from recommender.model import Labels
from recommender.origins import read_objects
from recommender.owners import (
    Owner,
    fields,
    name_of,
    namespace_of,
    owners_of,
    rows,
    string_map,
    values,
    workload_of,
)

POLICY_GROUPS = frozenset(
    {
        "networking.k8s.io",
        "policy.networking.k8s.io",
        "cilium.io",
        "projectcalico.org",
        "crd.projectcalico.org",
    }
)
_TEMPLATED = frozenset(
    {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"}
)
# Addresses that a CNI gives a node besides its own: tunnels and the host end of pod networking.
# projectcalico/calico libcalico-go/lib/backend/k8s/resources/node.go; cilium/cilium
# pkg/annotation/k8s.go.
_NODE_ADDRESS_NOTES = re.compile(
    r"(projectcalico\.org/IPv[46]\w*Addr(ess)?|(io\.cilium\.network|network\.cilium\.io)[./]"
    r"ipv[46]-(cilium|health|Ingress)-?(host|ip)?)$"
)


def read_inventory(paths: Sequence[str | Path]) -> Inventory:
    """The cluster's objects from files and folders of YAML or JSON, Lists included.

    Takes what `kubectl get ... -A -o yaml` prints, a folder of manifests without pods, `live:` or
    `snapshots:STORE` (see `origins`).

    Raises:
        InventoryError: a path cannot be read, or holds no object that can be used.
    """
    manifests, problems = read_objects(paths)
    inventory = inventory_of(manifests, tuple(str(problem) for problem in problems))
    if not inventory.workloads and not inventory.namespaces:
        where = ", ".join(str(path) for path in paths)
        raise InventoryError(
            f"{where}: no workload, pod or namespace found; give what `kubectl get "
            "ns,no,deploy,sts,ds,rs,job,cj,po,svc,netpol -A -o yaml` prints"
        )
    return inventory


def inventory_of(manifests: Sequence[Manifest], problems: tuple[str, ...] = ()) -> Inventory:
    """The inventory that the given objects make; objects of other kinds are counted."""
    by_kind: dict[str, list[Manifest]] = {}
    kept: list[Manifest] = []
    unknown: dict[str, int] = {}
    for manifest in manifests:
        kind = core_kind(manifest.body)
        if kind:
            by_kind.setdefault(kind, []).append(manifest)
        elif _group(manifest.body) in POLICY_GROUPS:
            kept.append(manifest)
        else:
            name = str(manifest.body["kind"])
            unknown[name] = unknown.get(name, 0) + 1
    owners = owners_of(by_kind)
    nodes = _nodes(by_kind)
    workloads = _workloads(by_kind, owners)
    pods = _pods(by_kind, owners, nodes)
    probes = {
        (namespace_of(m.body), name_of(m.body)): _probes(fields(m.body, "spec"))
        for m in by_kind.get("Pod", ())
    }
    _complete(workloads, pods, probes)
    return Inventory(
        namespaces=_namespaces(by_kind, (*workloads, *(p.workload for p in pods.values()))),
        nodes=dict(sorted(nodes.items())),
        workloads=dict(sorted(workloads.items())),
        pods=dict(sorted(pods.items())),
        services=_services(by_kind),
        service_accounts=_service_accounts(by_kind),
        manifests=tuple(kept),
        unknown_kinds=dict(sorted(unknown.items())),
        problems=(*problems, *_shared_addresses(pods)),
    )


_KINDS = {
    "v1": {"Namespace", "Node", "Pod", "Service", "ServiceAccount", "ReplicationController"},
    "apps": {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"},
    "batch": {"Job", "CronJob"},
}


def _group(body: Mapping[str, Any]) -> str:
    api = body.get("apiVersion")
    return api.partition("/")[0] if isinstance(api, str) else ""


def core_kind(body: Mapping[str, Any]) -> str | None:
    """The kind of an object that an inventory is made of; None for any other object."""
    # Old manifests say extensions/v1beta1 for Deployments; some say nothing at all.
    kind, group = str(body["kind"]), _group(body)
    for known, kinds in _KINDS.items():
        if kind in kinds and group in {known, "extensions", ""}:
            return kind
    return None


def _ports(spec: Mapping[str, Any]) -> tuple[tuple[str, int, str | None], ...]:
    found = {
        (str(port.get("protocol") or "TCP"), port["containerPort"], port.get("name"))
        for container in (*rows(spec, "containers"), *rows(spec, "initContainers"))
        for port in rows(container, "ports")
        if isinstance(port.get("containerPort"), int)
    }
    return tuple(sorted(found, key=lambda row: (row[0], row[1], str(row[2]))))


def _probes(spec: Mapping[str, Any]) -> frozenset[int]:
    """The ports of liveness, readiness and startup probes, by number."""
    found: set[int] = set()
    for container in rows(spec, "containers"):
        names = {row.get("name"): row.get("containerPort") for row in rows(container, "ports")}
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            for how in ("httpGet", "tcpSocket", "grpc"):
                port = fields(container, probe, how).get("port")
                number = port if isinstance(port, int) else names.get(port)
                if isinstance(number, int):
                    found.add(number)
    return frozenset(found)


def _addresses(values: Iterable[Any]) -> tuple[str, ...]:
    """Canonical texts of those values that are addresses, without doubles, in order."""
    found: dict[str, None] = {}
    for value in values:
        try:
            found[str(ipaddress.ip_address(str(value).partition("/")[0]))] = None
        except ValueError:
            continue
    return tuple(found)


def _workloads(
    by_kind: Mapping[str, list[Manifest]], owners: Mapping[Owner, Owner]
) -> dict[WorkloadKey, Workload]:
    found = {}
    for kind in sorted(_TEMPLATED):
        for manifest in by_kind.get(kind, ()):
            body = manifest.body
            if (kind, namespace_of(body), name_of(body)) in owners and kind != "Deployment":
                continue  # a ReplicaSet of a Deployment, a Job of a CronJob
            workload = _workload(kind, body, fields(body, "spec", "template"))
            found[workload.key] = workload
    for manifest in by_kind.get("CronJob", ()):
        template = fields(manifest.body, "spec", "jobTemplate", "spec", "template")
        workload = _workload("CronJob", manifest.body, template)
        found[workload.key] = workload
    return found


def _workload(kind: str, body: Mapping[str, Any], template: Mapping[str, Any]) -> Workload:
    spec = fields(template, "spec")
    selector = fields(body, "spec", "selector")
    # A ReplicationController's selector is the label map itself.
    match = string_map(selector, "matchLabels") or (
        string_map(body, "spec", "selector") if kind == "ReplicationController" else {}
    )
    if kind in {"Job", "CronJob"}:
        match = {}  # written by the controller, another one each run
    schedule = fields(body, "spec").get("schedule")
    return Workload(
        key=WorkloadKey(namespace_of(body), kind, name_of(body)),
        match_labels=match,
        template_labels=string_map(template, "metadata", "labels"),
        ports=_ports(spec),
        service_account=str(
            spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        ),
        host_network=bool(spec.get("hostNetwork")),
        probes=_probes(spec),
        schedule=str(schedule) if schedule else None,
    )


def _pods(
    by_kind: Mapping[str, list[Manifest]],
    owners: Mapping[Owner, Owner],
    nodes: dict[str, Node],
) -> dict[tuple[str, str], Pod]:
    found = {}
    for manifest in by_kind.get("Pod", ()):
        body = manifest.body
        spec, status = fields(body, "spec"), fields(body, "status")
        ended = status.get("phase") in ("Succeeded", "Failed")  # its address may be another's now
        own = [status.get("podIP"), *(row.get("ip") for row in rows(status, "podIPs"))]
        node = str(spec["nodeName"]) if spec.get("nodeName") else None
        hosts = _addresses(
            [status.get("hostIP"), *(row.get("ip") for row in rows(status, "hostIPs"))]
        )
        if node and node not in nodes:
            nodes[node] = Node(node, {}, hosts)
        pod = Pod(
            namespace=namespace_of(body),
            name=name_of(body),
            labels=string_map(body, "metadata", "labels"),
            workload=workload_of(body, owners),
            addresses=() if ended else _addresses(own),
            ports=_ports(spec),
            service_account=str(spec.get("serviceAccountName") or "default"),
            host_network=bool(spec.get("hostNetwork")),
            node=node,
            node_addresses=nodes[node].addresses if node else hosts,
        )
        found[pod.namespace, pod.name] = pod
    return found


def _complete(
    workloads: dict[WorkloadKey, Workload],
    pods: dict[tuple[str, str], Pod],
    probes: Mapping[tuple[str, str], frozenset[int]],
) -> None:
    """Give every pod a workload and every workload a pod."""
    with_pods = set()
    for pod in pods.values():
        with_pods.add(pod.workload)
        if pod.workload not in workloads:
            workloads[pod.workload] = Workload(
                key=pod.workload,
                match_labels={},
                template_labels=pod.labels,
                ports=pod.ports,
                service_account=pod.service_account,
                host_network=pod.host_network,
                probes=probes[pod.namespace, pod.name],
            )
    named = Counter(map(str, workloads))
    for key, workload in workloads.items():
        if key not in with_pods:
            name = key.name
            while (key.namespace, name) in pods or (name == key.name and named[str(key)] > 1):
                name += f"-{key.kind.lower()}"  # there is a namesake of another kind
            pods[key.namespace, name] = Pod(
                namespace=key.namespace,
                name=name,
                labels=workload.template_labels,
                workload=key,
                addresses=(),
                ports=workload.ports,
                service_account=workload.service_account,
                host_network=workload.host_network,
                made=True,
            )


def _shared_addresses(pods: Mapping[tuple[str, str], Pod]) -> Iterator[str]:
    """A sentence where several pods that still run have one address, which then means the first."""
    owners: dict[str, list[str]] = {}
    for key, pod in sorted(pods.items()):
        for at in () if pod.host_network else pod.addresses:
            owners.setdefault(at, []).append("/".join(key))
    shared = {at: names for at, names in owners.items() if len(names) > 1}
    for at, names in list(shared.items())[:1]:
        yield (
            f"inventory: {len(shared)} addresses belong to several pods each, {at} to "
            f"{' and '.join(names[:3])}; each is taken for the first one's: list the pods anew"
        )


def _namespaces(
    by_kind: Mapping[str, list[Manifest]], keys: Iterable[WorkloadKey]
) -> dict[str, Namespace]:
    found = {key.namespace: Namespace(key.namespace, _named(key.namespace, {})) for key in keys}
    for manifest in by_kind.get("Namespace", ()):
        name = name_of(manifest.body)
        found[name] = Namespace(name, _named(name, string_map(manifest.body, "metadata", "labels")))
    return dict(sorted(found.items()))


def _named(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    # Set by the API server since Kubernetes 1.21 (KEP-2161); manifests rarely write it.
    return {**labels, "kubernetes.io/metadata.name": name}


def _nodes(by_kind: Mapping[str, list[Manifest]]) -> dict[str, Node]:
    found = {}
    for manifest in by_kind.get("Node", ()):
        body = manifest.body
        notes = string_map(body, "metadata", "annotations")
        addresses = _addresses(
            [
                *(row.get("address") for row in rows(body, "status", "addresses")),
                *(value for key, value in notes.items() if _NODE_ADDRESS_NOTES.match(key)),
            ]
        )
        spec = fields(body, "spec")
        cidrs = values(spec, "podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
        found[name_of(body)] = Node(
            name_of(body), string_map(body, "metadata", "labels"), addresses, tuple(map(str, cidrs))
        )
    return found


def _services(by_kind: Mapping[str, list[Manifest]]) -> dict[tuple[str, str], Service]:
    found = {}
    for manifest in by_kind.get("Service", ()):
        body = manifest.body
        spec = fields(body, "spec")
        ips = [spec.get("clusterIP"), *values(spec, "clusterIPs"), *_outside_addresses(body)]
        service = Service(
            namespace=namespace_of(body),
            name=name_of(body),
            selector=string_map(spec, "selector"),
            addresses=_addresses(ips),
            ports=tuple(_service_ports(spec)),
            type=str(spec.get("type") or "ClusterIP"),
            labels=string_map(body, "metadata", "labels"),
        )
        found[service.namespace, service.name] = service
    return dict(sorted(found.items()))


def _outside_addresses(body: Mapping[str, Any]) -> Iterator[Any]:
    yield from values(body, "spec", "externalIPs")
    for row in rows(body, "status", "loadBalancer", "ingress"):
        yield row.get("ip")


def _service_ports(
    spec: Mapping[str, Any],
) -> Iterator[tuple[str, int, int | str, str | None]]:
    for port in rows(spec, "ports"):
        if isinstance(port.get("port"), int):
            target = port.get("targetPort")
            yield (
                str(port.get("protocol") or "TCP"),
                port["port"],
                target if isinstance(target, int | str) else port["port"],
                port.get("name"),
            )


def _service_accounts(by_kind: Mapping[str, list[Manifest]]) -> dict[tuple[str, str], Labels]:
    return {
        (namespace_of(m.body), name_of(m.body)): string_map(m.body, "metadata", "labels")
        for m in by_kind.get("ServiceAccount", ())
    }
