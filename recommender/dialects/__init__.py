"""The policy APIs: `DIALECTS` by name, and `parse_policies`, which sends each manifest to its own.

A dialect is a module with `KINDS`, the (apiVersion, kind) pairs that it reads, and
`parse(manifests, inventory) -> Parsed`; those that can also write have `render(policy) -> dict`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from recommender.dialects import calico, cilium, clusternetworkpolicy, kubernetes
from recommender.dialects.fields import shown
from recommender.inventory import Inventory
from recommender.manifests import Manifest
from recommender.model import Parsed


class Dialect(Protocol):
    """What every module of this package offers.

    `KINDS` are the (apiVersion, kind) pairs of its policies, and of what only they refer to.
    """

    KINDS: frozenset[tuple[str, str]]

    def parse(self, manifests: Sequence[Manifest], inventory: Inventory) -> Parsed:
        """The policies of these manifests, all of this dialect's kinds, in their order."""


DIALECTS: dict[str, Dialect] = {
    "kubernetes": kubernetes,
    "cilium": cilium,
    "calico": calico,
    "clusternetworkpolicy": clusternetworkpolicy,
}


def parse_policies(manifests: Sequence[Manifest], inventory: Inventory) -> Parsed:
    """Read the policies among `manifests`; kinds that no dialect knows are counted."""
    names = {kind: name for name, dialect in DIALECTS.items() for kind in dialect.KINDS}
    by_dialect: dict[str, list[Manifest]] = {name: [] for name in DIALECTS}
    unknown: Counter[str] = Counter()
    for manifest in manifests:
        api, kind = manifest.body.get("apiVersion"), manifest.body.get("kind")
        api = api if isinstance(api, str) else shown(api)
        if name := names.get((api, str(kind))):
            by_dialect[name].append(manifest)
        else:
            unknown[f"{api} {kind}"] += 1
    parsed = [DIALECTS[name].parse(found, inventory) for name, found in by_dialect.items()]
    return Parsed(
        policies=tuple(policy for p in parsed for policy in p.policies),
        findings=tuple(finding for p in parsed for finding in p.findings),
        unknown_kinds=tuple(sorted(unknown.items())),
    )
