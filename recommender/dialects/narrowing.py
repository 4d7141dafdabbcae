"""Objects in force with less in them: what they say once some of their rules have gone.

The object stays, so that pods which the proposals do not know keep their default deny.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from recommender.model import DIRECTIONS, Direction, Policy

LABEL, NARROWED = "flowpolicy/change", "narrowed"
# What the API server writes into an object, and would refuse or ignore in one that is applied.
_OF_THE_SERVER = (
    *("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"),
)
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_TYPES = {"networking.k8s.io": "policyTypes", "projectcalico.org": "types"}


def spec_field(body: Mapping[str, Any], number: int) -> str:
    """The field of an object's rule or rules with a number, as its policies are read in turn."""
    if body.get("spec") and number == 0:
        return "spec"
    return f"specs[{number - bool(body.get('spec'))}]" if body.get("specs") else "spec"


def labelled(body: dict[str, Any]) -> dict[str, Any]:
    """A copy of an object as it can be applied, with the label that says that it was narrowed."""
    found = copy.deepcopy({key: value for key, value in body.items() if key != "status"})
    meta = {key: value for key, value in found["metadata"].items() if key not in _OF_THE_SERVER}
    notes = {k: v for k, v in (meta.pop("annotations", None) or {}).items() if k != _APPLIED}
    meta["labels"] = {**(meta.get("labels") or {}), LABEL: NARROWED}
    found["metadata"] = meta | ({"annotations": notes} if notes else {})
    return found


def without(
    body: dict[str, Any], number: int, policy: Policy, gone: Mapping[Direction, frozenset[int]]
) -> None:
    """Take rules out of an object; it goes on isolating whom it isolates."""
    group, spec = _group(body), _spec(body, number)
    if group in _TYPES and not spec.get(_TYPES[group]):
        spec[_TYPES[group]] = [d.capitalize() for d in DIRECTIONS if d in policy.isolates]
    for direction, rules in gone.items():
        kept = [rule for at, rule in enumerate(spec[direction]) if at not in rules]
        # To Cilium an empty list is none, and `{}` allows nobody.
        spec[direction] = kept or ([{}] if group == "cilium.io" else [])


def passing(body: dict[str, Any], number: int, gone: Mapping[Direction, frozenset[int]]) -> None:
    """Let rules of a tier leave to later tiers what they allowed (Calico, ClusterNetworkPolicy)."""
    spec = _spec(body, number)
    for direction, rules in gone.items():
        for at in rules:
            spec[direction][at]["action"] = "Pass"


def elsewhere(body: dict[str, Any], number: int, namespaces: Iterable[str]) -> None:
    """Let an object of the whole cluster select nobody of these namespaces any more."""
    spec, names = _spec(body, number), sorted(namespaces)
    match _group(body):
        case "cilium.io":
            _except(spec["endpointSelector"], "k8s:io.kubernetes.pod.namespace", names)
        case "projectcalico.org":
            listed = ", ".join(f"'{name}'" for name in names)
            rest = f"projectcalico.org/namespace not in {{{listed}}}"
            old = str(spec.get("selector") or "").strip()
            spec["selector"] = f"({old}) && {rest}" if old else rest
        case _:
            subject = spec["subject"]
            place = subject["pods"]["namespaceSelector"] if "pods" in subject else None
            key = "kubernetes.io/metadata.name"
            _except(subject["namespaces"] if place is None else place, key, names)


def _except(selector: dict[str, Any], key: str, values: list[str]) -> None:
    term = {"key": key, "operator": "NotIn", "values": values}
    selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), term]


def _group(body: Mapping[str, Any]) -> str:
    return str(body["apiVersion"]).partition("/")[0].removeprefix("crd.")


def _spec(body: dict[str, Any], number: int) -> dict[str, Any]:
    first = [body["spec"]] if body.get("spec") else []
    found: dict[str, Any] = [*first, *(body.get("specs") or ())][number]
    return found
