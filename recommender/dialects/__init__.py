"""The policy APIs: `DIALECTS` by name, and `parse_policies`, which sends each manifest to its own.

A dialect is a module with `KINDS`, the (apiVersion, kind) pairs that it reads, and
`parse(manifests, inventory) -> Parsed`; those that can also write have `render(policy) -> dict`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

from recommender.inventory import Inventory
from recommender.manifests import Manifest
from recommender.model import Parsed


class Dialect(Protocol):
    """What every module of this package offers."""

    @property
    def KINDS(self) -> frozenset[tuple[str, str]]:
        """The (apiVersion, kind) pairs of the dialect's policies and of what they refer to."""

    def parse(self, manifests: Sequence[Manifest], inventory: Inventory) -> Parsed:
        """The policies of these manifests, all of this dialect's kinds, in their order."""


DIALECTS: dict[str, Dialect] = {
    name: cast(Dialect, import_module(f"{__name__}.{name}"))
    for name in ("kubernetes", "cilium", "calico", "clusternetworkpolicy")
    if find_spec(f"{__name__}.{name}")
}


def parse_policies(manifests: Sequence[Manifest], inventory: Inventory) -> Parsed:
    """Read the policies among `manifests`; kinds that no dialect knows are counted, not an error."""
    names = {kind: name for name, dialect in DIALECTS.items() for kind in dialect.KINDS}
    by_dialect: dict[str, list[Manifest]] = {name: [] for name in DIALECTS}
    unknown: Counter[str] = Counter()
    for manifest in manifests:
        api, kind = manifest.body.get("apiVersion"), manifest.body.get("kind")
        if name := names.get((str(api), str(kind))):
            by_dialect[name].append(manifest)
        else:
            unknown[f"{api} {kind}"] += 1
    parsed = [DIALECTS[name].parse(found, inventory) for name, found in by_dialect.items()]
    return Parsed(
        policies=tuple(policy for p in parsed for policy in p.policies),
        findings=tuple(finding for p in parsed for finding in p.findings),
        unknown_kinds=tuple(sorted(unknown.items())),
    )
