"""What of a Kubernetes object an inventory needs; all else, secrets above all, is left out.

A pod's environment, arguments and annotations often hold passwords. So what is kept is named, field
by field; what a later Kubernetes adds stays out until somebody names it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# True keeps a value as it is; a mapping keeps those fields; [x] keeps x of each item.
_META: Any = {
    "name": True,
    "namespace": True,
    "labels": True,
    "ownerReferences": [{"apiVersion": True, "kind": True, "name": True, "controller": True}],
}
_HOW = {"httpGet": {"port": True}, "tcpSocket": {"port": True}, "grpc": {"port": True}}
_CONTAINER = {
    "name": True,
    "ports": [{"name": True, "containerPort": True, "protocol": True}],
    "livenessProbe": _HOW,
    "readinessProbe": _HOW,
    "startupProbe": _HOW,
}
_POD_SPEC = {
    "nodeName": True,
    "hostNetwork": True,
    "serviceAccountName": True,
    "containers": [_CONTAINER],
    "initContainers": [{"name": True, "ports": _CONTAINER["ports"]}],
}
_TEMPLATE = {"metadata": {"labels": True}, "spec": _POD_SPEC}
_OWNER = {"metadata": _META, "spec": {"selector": True, "template": _TEMPLATE}}
_KEPT: Mapping[str, Any] = {
    "Namespace": {"metadata": _META},
    "ServiceAccount": {"metadata": _META},
    "Node": {
        "metadata": {**_META, "annotations": True},
        "spec": {"podCIDR": True, "podCIDRs": True},
        "status": {"addresses": True},
    },
    "Pod": {
        "metadata": _META,
        "spec": _POD_SPEC,
        "status": {
            "phase": True,
            "podIP": True,
            "podIPs": True,
            "hostIP": True,
            "hostIPs": True,
        },
    },
    "Service": {
        "metadata": _META,
        "spec": {
            "selector": True,
            "clusterIP": True,
            "clusterIPs": True,
            "externalIPs": True,
            "type": True,
            "ports": [{"name": True, "protocol": True, "port": True, "targetPort": True}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": True}]}},
    },
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"),
        _OWNER,
    ),
    "CronJob": {
        "metadata": _META,
        "spec": {"schedule": True, "jobTemplate": {"spec": {"template": _TEMPLATE}}},
    },
}
# A policy is kept whole, without what the API server and kubectl write beside it.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_WRITTEN_BESIDE = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp")


def kept(body: Mapping[str, Any], *, is_policy: bool) -> dict[str, Any]:
    """The fields of an object that an inventory reads; a policy without what servers add."""
    head = {"apiVersion": body["apiVersion"], "kind": body["kind"]}
    if not is_policy:
        return {**head, **_of(body, _KEPT[str(body["kind"])])}
    meta = {k: v for k, v in body["metadata"].items() if k not in _WRITTEN_BESIDE}
    notes = {k: v for k, v in (meta.pop("annotations", None) or {}).items() if k != _LAST_APPLIED}
    if notes:
        meta["annotations"] = notes
    rest = {k: v for k, v in body.items() if k not in ("apiVersion", "kind", "metadata", "status")}
    return {**head, "metadata": meta, **rest}


def _of(value: Any, wanted: Any) -> Any:
    if wanted is True:
        return value
    if isinstance(wanted, list):
        return [_of(item, wanted[0]) for item in value] if isinstance(value, list) else []
    if not isinstance(value, dict):
        return {}
    found = {key: _of(value[key], inner) for key, inner in wanted.items() if key in value}
    return {key: one for key, one in found.items() if one not in ({}, [], None)}
