"""Who: one end of an edge, as far as anything names it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Who:
    """A workload, or another type of end with what names it (see `endpoints.resolve`).

    `cluster` is null for all but another cluster's pods.
    """

    type: str
    namespace: str | None = None
    kind: str | None = None
    name: str | None = None
    address: str | None = None
    cluster: str | None = None
