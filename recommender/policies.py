"""Policies from files: what was read, what the API server would refuse, what no dialect knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recommender.dialects import parse_policies
from recommender.errors import PolicyError
from recommender.inventory import Inventory
from recommender.manifests import Manifest, read_manifests
from recommender.model import Policy
from recommender.objects import core_kind

# Objects that policies refer to; those of the inventory serve every policy set.
SUPPORTING = frozenset(
    {"Tier", "NetworkSet", "GlobalNetworkSet", "HostEndpoint", "CiliumCIDRGroup"}
)


@dataclass(frozen=True)
class PolicySet:
    """The policies of some files: the manifests as written, what they mean, what was left out.

    `notes` are sentences; `refused` counts the documents and fields that the API server would
    refuse.
    """

    manifests: Sequence[Manifest]
    policies: Sequence[Policy]
    notes: tuple[str, ...] = ()
    refused: int = 0


def read_policies(paths: Sequence[str | Path], inventory: Inventory) -> PolicySet:
    """The policy objects in files and folders.

    Tiers, sets and groups that the inventory holds serve the policies too.

    Raises:
        InventoryError: a path cannot be read.
        PolicyError: nothing but broken documents.
    """
    manifests, problems = read_manifests(paths)
    if problems and not manifests:
        raise PolicyError(f"{problems[0].place}: {problems[0].message}; mend the document")
    own = [manifest for manifest in manifests if core_kind(manifest.body) is None]
    found = parse_policies([*_supporting(own, inventory), *own], inventory)
    notes = [str(problem) for problem in problems]
    notes += [str(finding) for finding in found.findings]
    notes += [
        f"{count} of kind {kind} not judged: no dialect knows it"
        for kind, count in found.unknown_kinds
    ]
    return PolicySet(own, found.policies, tuple(notes), len(problems) + len(found.findings))


def _supporting(own: Sequence[Manifest], inventory: Inventory) -> Iterator[Manifest]:
    def identity(manifest: Manifest) -> tuple[object, ...]:
        body, meta = manifest.body, manifest.body["metadata"]
        group = str(body.get("apiVersion") or "").partition("/")[0].removeprefix("crd.")
        return group, body["kind"], meta.get("namespace"), meta["name"]

    given = {identity(manifest) for manifest in own}
    for manifest in inventory.manifests:
        if manifest.body["kind"] in SUPPORTING and identity(manifest) not in given:
            yield manifest
