"""Which of our policies deny nothing yet, and what they say once they enforce."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from recommender.dialects.writers import OURS

ENFORCING = {
    "StagedNetworkPolicy": "NetworkPolicy",
    "StagedGlobalNetworkPolicy": "GlobalNetworkPolicy",
}
_CILIUM = frozenset({"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"})
_POLICY, SOFT = "NetworkPolicy", "enableDefaultDeny"
Identity = tuple[str, str, str, str]


def judged(body: dict[str, Any]) -> tuple[str, str]:
    """What becomes of an object: `changed`, `already`, `left`, or it is no policy; and why."""
    kind = str(body.get("kind"))
    if not kind.endswith(_POLICY):
        return "no policy", ""
    labels = body["metadata"].get("labels")
    if not isinstance(labels, dict) or any(labels.get(key) != OURS[key] for key in OURS):
        return "left", "not written by flowpolicy, so left alone"
    spec = body.get("spec")
    if kind in ENFORCING:
        action = spec.get("stagedAction", "Set") if isinstance(spec, dict) else "Set"
        if action != "Set":
            return "left", f"its stagedAction is {action!r:.40}, so there is nothing to enforce"
        return "changed", f"now a {ENFORCING[kind]}"
    if kind.startswith("Staged"):
        return "left", "a kind that flowpolicy does not write, so left alone"
    if kind in _CILIUM and any(_off(one) for one in _specs(body)):
        return "changed", "now denies what it does not allow"
    return "already", "enforces already"


def audited(body: dict[str, Any]) -> dict[str, Any]:
    """The object as it enforces, where it is of ours in the audit form; else the very object.

    Staged kinds stay: `tiers.enacted` knows whose place they take.
    """
    if body["kind"] in ENFORCING or judged(body)[0] != "changed":
        return body
    found = copy.deepcopy(body)
    enforce(found)
    return found


def _specs(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    more = body.get("specs")
    for spec in (body.get("spec"), *(more if isinstance(more, list) else ())):
        if isinstance(spec, dict):
            yield spec


def _off(spec: dict[str, Any]) -> list[str]:
    """The directions in which a Cilium rule turns no default deny on."""
    flags = spec.get(SOFT)
    return [key for key, on in flags.items() if on is False] if isinstance(flags, dict) else []


def enforce(body: dict[str, Any]) -> None:
    """The change that is wanted, in the values."""
    if body["kind"] in ENFORCING:
        body["kind"] = ENFORCING[body["kind"]]
        if isinstance(body.get("spec"), dict):
            body["spec"].pop("stagedAction", None)
        return
    for spec in _specs(body):
        for key in _off(spec):
            del spec[SOFT][key]
        if not spec.get(SOFT, True):
            del spec[SOFT]


def enforcing(kind: str) -> str:
    """The kind that a policy has once it enforces."""
    return ENFORCING.get(kind, kind)


def identity(body: dict[str, Any]) -> Identity:
    """API group, kind, namespace and name of an object."""
    meta, group = body["metadata"], str(body.get("apiVersion")).partition("/")[0]
    where = str(meta.get("namespace") or "default")
    return group.removeprefix("crd."), str(body.get("kind")), where, str(meta.get("name"))


def shown(body: dict[str, Any]) -> str:
    """An object, for people."""
    _, kind, namespace, name = identity(body)
    return f"{kind} {namespace}/{name}"
