"""Who made a pod: owner references followed to their end, or told from names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from recommender.inventory import WorkloadKey
from recommender.manifests import Manifest


def fields(body: Any, *path: str) -> dict[str, Any]:
    """The mapping at a path of an object; empty where there is none."""
    for key in path:
        body = body.get(key) if isinstance(body, dict) else None
    return body if isinstance(body, dict) else {}


def rows(body: Any, *path: str) -> list[dict[str, Any]]:
    """The mappings of the list at a path of an object; empty where there is none."""
    found = fields(body, *path[:-1]).get(path[-1])
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def values(body: Any, *path: str) -> list[Any]:
    """The list at a path of an object; empty where there is none."""
    found = fields(body, *path[:-1]).get(path[-1])
    return found if isinstance(found, list) else []


def string_map(body: Any, *path: str) -> dict[str, str]:
    """String labels; a number or boolean, which the API refuses, is read as its YAML text."""
    return {
        str(key): str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in sorted(fields(body, *path).items(), key=lambda item: str(item[0]))
        if value is not None
    }


def name_of(body: Mapping[str, Any]) -> str:
    """The name of an object."""
    return str(fields(body, "metadata")["name"])


def namespace_of(body: Mapping[str, Any]) -> str:
    """The namespace of an object; `default` where it says none."""
    return str(fields(body, "metadata").get("namespace") or "default")


Owner = tuple[str, str, str]  # kind, namespace, name


def owners_of(by_kind: Mapping[str, list[Manifest]]) -> dict[Owner, Owner]:
    """From each ReplicaSet and Job to its own owner."""
    found = {}
    for kind in ("ReplicaSet", "Job"):
        for manifest in by_kind.get(kind, ()):
            body = manifest.body
            owner = _controller(body)
            if owner:
                found[kind, namespace_of(body), name_of(body)] = owner
    for kind in ("Deployment", "CronJob"):  # known by themselves: ends of the chain
        for manifest in by_kind.get(kind, ()):
            body = manifest.body
            found[kind, namespace_of(body), name_of(body)] = (
                kind,
                namespace_of(body),
                name_of(body),
            )
    return found


def _controller(body: Mapping[str, Any]) -> Owner | None:
    references = rows(body, "metadata", "ownerReferences")
    chosen = next((r for r in references if r.get("controller")), None)
    if chosen is None or not chosen.get("kind") or not chosen.get("name"):
        return None
    return str(chosen["kind"]), namespace_of(body), str(chosen["name"])


def owner_by_name(kind: str, name: str, hash_: str | None = None) -> tuple[str, str] | None:
    """The (kind, name) that made a ReplicaSet or Job, told from its name alone.

    A Deployment appends the `pod-template-hash` to its ReplicaSet's name, a CronJob the scheduled
    minute (8 digits or more) to its Job's (kubernetes pkg/controller/deployment/sync.go,
    pkg/controller/cronjob/utils.go).
    """
    if kind == "ReplicaSet":
        if hash_ and name.endswith(f"-{hash_}"):
            return "Deployment", name.removesuffix(f"-{hash_}")
        return None
    match = re.fullmatch(r"(.+)-\d{8,11}", name) if kind == "Job" else None
    return ("CronJob", match[1]) if match else None


def workload_of(body: Mapping[str, Any], owners: Mapping[Owner, Owner]) -> WorkloadKey:
    """The end of the pod's owner references; the pod itself where it has none."""
    owner = _controller(body)
    if owner is None or owner[0] == "Node":  # a static pod is owned by its node
        return WorkloadKey(namespace_of(body), "Pod", name_of(body))
    if owner in owners:
        owner = owners[owner]
    else:
        hash_ = string_map(body, "metadata", "labels").get("pod-template-hash")
        told = owner_by_name(owner[0], owner[2], hash_)
        if told and (owner[0] == "ReplicaSet" or (told[0], owner[1], told[1]) in owners):
            owner = (told[0], owner[1], told[1])
    return WorkloadKey(owner[1], owner[0], owner[2])
