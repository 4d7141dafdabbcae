"""Short ways to write the Kubernetes objects that tests need."""

from typing import Any

from recommender.inventory import Inventory
from recommender.manifests import Manifest
from recommender.objects import inventory_of


def manifest(body: dict[str, Any]) -> Manifest:
    return Manifest("test.yaml:1", body)


def workload(
    name: str,
    labels: dict[str, str],
    *,
    namespace: str = "shop",
    kind: str = "Deployment",
    match: dict[str, str] | None = None,
    ports: tuple[tuple[str, int], ...] = (),
    **spec: Any,
) -> Manifest:
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "containers": [{"ports": [{"name": n or None, "containerPort": p} for n, p in ports]}],
            **spec,
        },
    }
    body: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels if match is None else match},
            "template": template,
        },
    }
    if kind == "CronJob":
        body["apiVersion"] = "batch/v1"
        body["spec"] = {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template}}}
    return manifest(body)


def pod(
    name: str,
    labels: dict[str, str],
    *,
    namespace: str = "shop",
    owner: tuple[str, str] | None = None,
    ip: str | None = None,
    node: str | None = None,
    phase: str = "Running",
    ports: tuple[tuple[str, int], ...] = (),
    **spec: Any,
) -> Manifest:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": labels}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": True}]
    containers = [{"ports": [{"name": n or None, "containerPort": p} for n, p in ports]}]
    return manifest(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"nodeName": node, "containers": containers, **spec},
            "status": {"podIP": ip, "phase": phase},
        }
    )


def node(name: str, *addresses: str) -> Manifest:
    return manifest(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "status": {"addresses": [{"type": "InternalIP", "address": a} for a in addresses]},
        }
    )


def service(
    name: str,
    selector: dict[str, str],
    ip: str,
    ports: list[dict[str, Any]],
    namespace: str = "shop",
) -> Manifest:
    return manifest(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": selector, "clusterIP": ip, "ports": ports},
        }
    )


def inventory(*manifests: Manifest) -> Inventory:
    return inventory_of(list(manifests))


def edge_row(client: str, server: str, protocol: str, port: int) -> dict[str, Any]:
    """A wanted edge between bare pods (`namespace/name`) and addresses, as `classified` has it."""
    ends = {**_end("client", client), **_end("server", server)}
    counts = {"connections": 1, "last_seen": "2026-01-01T00:00:00Z", "class": "wanted", "run": None}
    return {**ends, "protocol": protocol, "port": port, **counts}


def _end(role: str, name: str) -> dict[str, Any]:
    namespace, slash, pod = name.partition("/")
    if not slash:
        return {f"{role}_type": "address", f"{role}_address": name, f"{role}_namespace": None}
    known = {"type": "workload", "namespace": namespace, "kind": "Pod", "name": pod}
    return {f"{role}_{key}": value for key, value in {**known, "address": None}.items()}
