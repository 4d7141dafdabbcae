"""Policies from files: what was read, what the API server would refuse, what no dialect knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recommender.dialects import parse_policies
from recommender.errors import PolicyError
from recommender.inventory import Inventory
from recommender.manifests import Manifest, Problem, Texts, read_manifests
from recommender.model import Policy
from recommender.objects import POLICY_GROUPS, core_kind
from recommender.rollout import audited

# Objects that policies refer to; those of the inventory serve every policy set.
SUPPORTING = frozenset(
    {"Tier", "NetworkSet", "GlobalNetworkSet", "HostEndpoint", "CiliumCIDRGroup"}
)
# What every kind of policy may be named: apimachinery/pkg/util/validation, IsDNS1123Subdomain.
_PART = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_NAME, _LONGEST = re.compile(rf"{_PART}(\.{_PART})*"), 253


@dataclass(frozen=True)
class PolicySet:
    """The policies of some files: the manifests as written, what they mean, what was left out.

    `notes` are sentences; `refused` counts the documents and fields that the API server would
    refuse, objects that do not stand, and network policies of kinds that are not read.
    """

    manifests: Sequence[Manifest]
    policies: Sequence[Policy]
    notes: tuple[str, ...] = ()
    refused: int = 0


def read_policies(
    paths: Sequence[str | Path],
    inventory: Inventory,
    *,
    may_be_empty: bool = False,
    staged: bool = False,
    read: Texts | None = None,
) -> PolicySet:
    """The policy objects in files and folders, which only if so said may be empty.

    Tiers, sets and groups that the inventory holds serve the policies too. With `staged`, our own
    in Cilium's audit form are read as they will enforce. `read` is as `read_manifests` takes it.

    Raises:
        InventoryError: a path cannot be read.
        PolicyError: nothing but broken documents.
    """
    manifests, problems = read_manifests(paths, may_be_empty=may_be_empty, read=read)
    if problems and not manifests:
        raise PolicyError(f"{problems[0].place}: {problems[0].message}; mend the document")
    given = [manifest for manifest in manifests if core_kind(manifest.body) is None]
    if staged:
        given = [Manifest(manifest.place, audited(manifest.body)) for manifest in given]
    return policy_set(given, inventory, problems)


def in_force(inventory: Inventory) -> PolicySet:
    """The policies among the inventory's own objects."""
    return policy_set(inventory.manifests, inventory)


def policy_set(
    given: Sequence[Manifest], inventory: Inventory, problems: Sequence[Problem] = ()
) -> PolicySet:
    """The policies of these objects; `problems` are what went wrong in reading them."""
    own, not_applied = _applied(given)
    problems = [*problems, *not_applied]
    found = parse_policies([*supporting(own, inventory), *own], inventory)
    notes = [str(problem) for problem in problems]
    notes += [str(finding) for finding in found.findings]
    unread = 0
    for kind, count in found.unknown_kinds:
        notes.append(f"{count} of kind {kind} not judged: no dialect knows it")
        if kind.endswith("NetworkPolicy"):
            unread += count
            notes[-1] += "; what such policies permit or deny is missing from every answer"
    groups = {policy.ref.api.partition("/")[0] for policy in found.policies}
    if {"cilium.io", "projectcalico.org"} <= groups:
        notes.append("both Cilium's policies and Calico's, which no one network enforces together")
    refused = len(problems) + len(found.findings) + unread
    return PolicySet(own, found.policies, tuple(notes), refused)


def _applied(manifests: Sequence[Manifest]) -> tuple[list[Manifest], list[Problem]]:
    """The objects that stand once all have been applied in turn, and why the others do not."""
    standing: dict[Identity, Manifest] = {}
    problems: list[Problem] = []
    for manifest in manifests:
        name = identity(manifest)
        group, kind, *named = name
        if group in POLICY_GROUPS and not all(map(is_name, named)):
            message = f"a {kind} that the API server refuses for its name, {'/'.join(named)!r}"
            problems.append(Problem(manifest.place, message))
            continue
        was = standing.pop(name, None)
        standing[name] = manifest
        if was is not None and was != manifest:
            message = f"{kind} {named[-1]} stands again at {manifest.place}, and the last counts"
            problems.append(Problem(was.place, message))
    return list(standing.values()), problems


Identity = tuple[str, str, str, str]


def identity(manifest: Manifest) -> Identity:
    """API group, kind, namespace and name; versions of one group are the same object."""
    body, meta = manifest.body, manifest.body["metadata"]
    group = str(body.get("apiVersion") or "").partition("/")[0].removeprefix("crd.")
    return group, str(body["kind"]), str(meta.get("namespace") or "default"), str(meta["name"])


def is_name(text: str) -> bool:
    """Whether the API server takes a name for a policy or namespace."""
    return len(text) <= _LONGEST and _NAME.fullmatch(text) is not None


def supporting(own: Sequence[Manifest], inventory: Inventory) -> Iterator[Manifest]:
    """The inventory's tiers, sets and groups, less those that `own` holds."""
    given = {identity(manifest) for manifest in own}
    for manifest in inventory.manifests:
        if manifest.body["kind"] in SUPPORTING and identity(manifest) not in given:
            yield manifest
