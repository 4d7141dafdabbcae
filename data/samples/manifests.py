"""The objects of the cluster as `kubectl get ... -A -o yaml` prints them, trimmed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from cluster import (
    END,
    FOUNDED,
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    WORKLOADS,
    Labels,
    Node,
    Pod,
    Service,
    Workload,
    rfc3339,
    uid,
)

Manifest = dict[str, Any]

API = {
    "CronJob": "batch/v1",
    "DaemonSet": "apps/v1",
    "Deployment": "apps/v1",
    "Job": "batch/v1",
    "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Node": "v1",
    "Pod": "v1",
    "ReplicaSet": "apps/v1",
    "Service": "v1",
    "StatefulSet": "apps/v1",
}


class _Dumper(yaml.SafeDumper):
    """YAML without anchors, which kubectl never writes."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def inventory(policies: list[Manifest]) -> str:
    """The whole cluster at the end of the window, as one List."""
    items = [
        _object("Namespace", "", ns, FOUNDED, _named(ns) | NAMESPACES[ns]) for ns in NAMESPACES
    ]
    items += [_node(node) for node in NODES]
    for kind in ("Deployment", "StatefulSet", "DaemonSet"):
        items += [_controller(workload) for workload in WORKLOADS if workload.kind == kind]
    items += _replica_sets()
    finished = [pod for pod in PODS if pod.workload.kind == "CronJob"][-3:]
    items += [_job(pod) for pod in finished]
    items += [_cron_job(workload) for workload in WORKLOADS if workload.kind == "CronJob"]
    items += [_pod(pod) for pod in PODS if pod in finished or pod.alive(END)]
    items += [_service(service) for service in SERVICES]
    for policy in policies:
        meta = policy["metadata"]
        head = _object("NetworkPolicy", meta["namespace"], meta["name"], FOUNDED)
        items.append(head | {"spec": policy["spec"]})
    whole = {
        "apiVersion": "v1",
        "items": items,
        "kind": "List",
        "metadata": {"resourceVersion": ""},
    }
    return yaml.dump(whole, Dumper=_Dumper)


def policies(folder: Path) -> list[Manifest]:
    """The hand-written NetworkPolicies, in the order of their files."""
    return [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]


def _named(namespace: str) -> Labels:
    return {"kubernetes.io/metadata.name": namespace}


def _object(
    kind: str, namespace: str, name: str, born: int, labels: Labels | None = None
) -> Manifest:
    """The head that all objects share."""
    meta: Manifest = {"creationTimestamp": rfc3339(born), "name": name}
    meta["uid"] = uid(f"{kind} {namespace}/{name}".replace(" /", " "))
    if namespace:
        meta["namespace"] = namespace
    if labels:
        meta["labels"] = labels
    return {"apiVersion": API[kind], "kind": kind, "metadata": meta}


def _owned(manifest: Manifest, kind: str, name: str) -> Manifest:
    """The same object with its controller named."""
    owner = uid(f"{kind} {manifest['metadata']['namespace']}/{name}")
    reference: Manifest = {"apiVersion": API[kind], "kind": kind, "name": name, "uid": owner}
    reference |= {"blockOwnerDeletion": True, "controller": True}
    manifest["metadata"]["ownerReferences"] = [reference]
    return manifest


def _node(node: Node) -> Manifest:
    labels = {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}
    manifest = _object(
        "Node", "", node.name, FOUNDED, labels | {"kubernetes.io/hostname": node.name}
    )
    net = f"{node.pod_net}.0/24"
    addresses = [{"address": node.ip, "type": "InternalIP"}]
    addresses.append({"address": node.name, "type": "Hostname"})
    return manifest | {
        "spec": {"podCIDR": net, "podCIDRs": [net]},
        "status": {"addresses": addresses},
    }


def _pod_spec(workload: Workload) -> Manifest:
    container: Manifest = {"image": f"registry.shop.example/{workload.name}:1", "name": "main"}
    if workload.ports:
        container["ports"] = [
            {"containerPort": port.number, "protocol": port.protocol}
            | ({"name": port.name} if port.name else {})
            | ({"hostPort": port.number} if workload.host_network else {})
            for port in workload.ports
        ]
    spec: Manifest = {"containers": [container], "serviceAccountName": workload.service_account}
    if workload.host_network:
        spec["hostNetwork"] = True
    if workload.kind == "CronJob":
        spec["restartPolicy"] = "OnFailure"
    return spec


def _template(workload: Workload, extra: Labels | None = None) -> Manifest:
    version = {"version": workload.versions[-1]} if workload.versions[-1] else {}
    labels = workload.labels | version | (extra or {})
    return {"metadata": {"labels": labels}, "spec": _pod_spec(workload)}


def _controller(workload: Workload) -> Manifest:
    """A Deployment, StatefulSet or DaemonSet."""
    manifest = _object(
        workload.kind, workload.namespace, workload.name, FOUNDED, dict(workload.labels)
    )
    spec: Manifest = {"selector": {"matchLabels": workload.labels}, "template": _template(workload)}
    if workload.kind != "DaemonSet":
        spec["replicas"] = len(workload.on)
    if workload.kind == "StatefulSet":
        spec["serviceName"] = workload.name
    return manifest | {"spec": spec}


def _replica_sets() -> Iterator[Manifest]:
    """Every revision of every Deployment; one that was rolled over has no replicas left."""
    for pod in {pod.owner: pod for pod in PODS if pod.workload.kind == "Deployment"}.values():
        workload = pod.workload
        manifest = _object("ReplicaSet", workload.namespace, pod.owner, pod.born, pod.labels)
        template = {"metadata": {"labels": pod.labels}, "spec": _pod_spec(workload)}
        manifest["spec"] = {
            "replicas": len(workload.on) if pod.alive(END) else 0,
            "selector": {
                "matchLabels": workload.labels
                | {"pod-template-hash": pod.labels["pod-template-hash"]}
            },
            "template": template,
        }
        yield _owned(manifest, "Deployment", workload.name)


def _job(pod: Pod) -> Manifest:
    workload = pod.workload
    manifest = _object("Job", workload.namespace, pod.owner, pod.born, pod.labels)
    selector = {"batch.kubernetes.io/controller-uid": pod.labels["controller-uid"]}
    manifest["spec"] = {
        "completions": 1,
        "parallelism": 1,
        "selector": {"matchLabels": selector},
        "template": _template(workload, pod.labels),
    }
    manifest["status"] = {"completionTime": rfc3339(pod.died), "succeeded": 1}
    return _owned(manifest, "CronJob", workload.name)


def _cron_job(workload: Workload) -> Manifest:
    return _object("CronJob", workload.namespace, workload.name, FOUNDED) | {
        "spec": {
            "concurrencyPolicy": "Forbid",
            "jobTemplate": {"spec": {"template": _template(workload)}},
            "schedule": "0 2 * * *",
            "successfulJobsHistoryLimit": 3,
        }
    }


def _pod(pod: Pod) -> Manifest:
    workload = pod.workload
    manifest = _object("Pod", workload.namespace, pod.name, pod.born, pod.labels)
    if workload.kind != "StatefulSet":
        manifest["metadata"]["generateName"] = pod.prefix
    manifest["spec"] = _pod_spec(workload) | {"nodeName": pod.node.name}
    manifest["status"] = {
        "hostIP": pod.node.ip,
        "phase": "Running" if pod.alive(END) else "Succeeded",
        "podIP": pod.ip,
        "podIPs": [{"ip": pod.ip}],
        "startTime": rfc3339(pod.born),
    }
    kind = {"Deployment": "ReplicaSet", "CronJob": "Job"}.get(workload.kind, workload.kind)
    return _owned(manifest, kind, pod.owner)


def _service(service: Service) -> Manifest:
    spec: Manifest = {"clusterIP": service.ip or "None", "type": service.type}
    spec["clusterIPs"] = [spec["clusterIP"]]
    spec["ports"] = [
        {"port": port, "protocol": protocol, "targetPort": target}
        | ({"name": name} if name else {})
        for name, port, target, protocol in service.ports
    ]
    if service.selector:
        spec["selector"] = service.selector
    manifest = _object("Service", service.namespace, service.name, FOUNDED)
    if service.type == "LoadBalancer":
        spec["externalTrafficPolicy"] = "Local"
        spec["ports"][0]["nodePort"] = 30080
        manifest["status"] = {"loadBalancer": {"ingress": [{"ip": "203.0.113.80"}]}}
    return manifest | {"spec": spec}
