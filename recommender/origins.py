"""Where a cluster's objects come from: files and folders, the running cluster, or snapshots.

PATH                        files and folders of YAML or JSON, `-` for standard input
live:[CONTEXT]              the cluster of the kubeconfig, or the one that this runs in
snapshots:STORE[#CLUSTER]   what `flowpolicy snapshot` has kept in a store
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recommender.manifests import Manifest, Problem, read_manifests

LIVE, SNAPSHOTS = "live:", "snapshots:"


def read_objects(places: Sequence[str | Path]) -> tuple[list[Manifest], list[Problem]]:
    """Every object in the places, in their order, and the documents that could not be read.

    Raises:
        InventoryError: a place cannot be read, a cluster does not answer, a store has no snapshot.
        StoreError: no store.
    """
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    for place in places:
        text = str(place)
        if text.startswith(LIVE):
            from recommender.cluster import cluster_objects  # slow to import, and seldom asked

            manifests += cluster_objects(text.removeprefix(LIVE) or None).manifests
        elif text.startswith(SNAPSHOTS):
            from recommender.snapshots import snapshot_objects

            path, _, cluster = text.removeprefix(SNAPSHOTS).partition("#")
            manifests += snapshot_objects(path, cluster or None)
        else:
            found, broken = read_manifests([place])
            manifests += found
            problems += broken
    return manifests, problems
