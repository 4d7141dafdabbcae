"""The store read as edges: who talked to whom in one cluster, with each edge's class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pandas as pd

from ingest.errors import StoreError
from ingest.store import Store, open_store
from recommender import edges as folding
from recommender.classify import classified
from recommender.endpoints import inventory_of_flows, resolve
from recommender.inventory import Inventory
from recommender.objects import read_inventory


@dataclass(frozen=True)
class Watched:
    """What a store shows of one cluster.

    `hourly` is EDGES by hour, `edges` the same over all hours with `class` and `reason` (see
    `classify.classified`); `inventory` is the given one, or made of the flows where `from_flows`.
    """

    cluster: str
    inventory: Inventory
    from_flows: bool
    hourly: pd.DataFrame
    edges: pd.DataFrame


def watch(
    store: str | Path,
    inventory: Sequence[str | Path] = (),
    *,
    cluster: str | None = None,
    audited: bool = False,
) -> Watched:
    """Read the store's flows of one cluster as edges.

    Raises:
        StoreError: no store, one with a damaged file, or several clusters and none named.
        InventoryError: an inventory path cannot be read.
    """
    opened = open_store(store)
    chosen = _cluster(opened, cluster)
    known = read_inventory(inventory) if inventory else None
    backend = ibis.duckdb.connect()
    try:
        return _watched(opened, chosen, known, backend, audited=audited)
    except duckdb.Error as error:
        raise StoreError(
            f"{store}: cannot be read ({str(error).splitlines()[0]}); remove the file that is "
            "named, or the store, and ingest its logs again"
        ) from error


def _watched(
    opened: Store,
    chosen: str,
    known: Inventory | None,
    backend: ibis.BaseBackend,
    *,
    audited: bool,
) -> Watched:
    flows = _flows(opened, backend, chosen)
    sighted = folding.fetch(folding.sighted_ends(flows), backend)
    objects = known or inventory_of_flows(sighted)
    calls = folding.fetch(folding.outside_calls(flows), backend)
    ends = ibis.memtable(resolve(sighted, calls, objects))
    hourly = folding.fetch(folding.edges(flows, ends), backend)
    return Watched(
        chosen, objects, known is None, hourly, classified(hourly, objects, audited=audited)
    )


def _cluster(store: Store, cluster: str | None) -> str:
    names = list(store.clusters)
    if cluster is not None:
        if cluster not in names:
            raise StoreError(
                f"{store.path}: no flows of cluster {cluster!r}; it holds {', '.join(names)}"
            )
        return cluster
    if len(names) > 1:
        raise StoreError(
            f"{store.path} holds the clusters {', '.join(names)}; choose one with --cluster"
        )
    return names[0] if names else "default"


def _flows(store: Store, backend: ibis.BaseBackend, cluster: str) -> ir.Table:
    # Partition values stay text: a cluster may be named 2026.
    flows = backend.read_parquet(
        store.glob, hive_partitioning=True, hive_types_autocast=False, union_by_name=True
    )
    return flows.filter(flows.cluster == cluster)
