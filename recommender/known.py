"""What flows tell of a cluster that no inventory does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Addresses = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Known:
    """The addresses of DNS names and of Cilium's entities, and the cluster's own name.

    `entities` are `kube-apiserver` and `ingress`; `nodes` are addresses that are some node's;
    `cluster` is null where no other is connected.
    """

    names: Addresses = field(default_factory=dict)
    entities: Addresses = field(default_factory=dict)
    nodes: frozenset[str] = frozenset()
    cluster: str | None = None
