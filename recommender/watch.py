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
from recommender.decisions import Decision
from recommender.endpoints import inventory_of_flows, resolve
from recommender.enough import Thresholds, quiet_nodes
from recommender.inventory import Inventory
from recommender.meaning import Meaning, meaning
from recommender.objects import read_inventory
from recommender.window import Window, window


@dataclass(frozen=True)
class Watched:
    """What a store shows of one cluster.

    `hourly` is EDGES by hour, `meaning` what they mean; `inventory` is the given one, or made of
    the flows where `from_flows`; `reports` when each node reported (see `edges.reports`).
    """

    cluster: str
    inventory: Inventory
    from_flows: bool
    hourly: pd.DataFrame
    reports: pd.DataFrame
    meaning: Meaning

    @property
    def edges(self) -> pd.DataFrame:
        """The edges over all hours, with `class` and `reason` (see `meaning.Meaning`)."""
        return self.meaning.edges


def watch(
    store: str | Path,
    inventory: Sequence[str | Path] = (),
    *,
    cluster: str | None = None,
    audited: bool = False,
    decisions: Sequence[Decision] = (),
    in_force: bool = False,
) -> Watched:
    """Read the store's flows of one cluster as edges.

    Args:
        store: what `ingest` wrote.
        inventory: paths of Kubernetes objects; none for what the flows tell.
        cluster: where the store holds several.
        audited: take traffic that policy would have denied (audit mode) as wanted.
        decisions: of people, which come before all else.
        in_force: let an edge wait for review where a policy of the inventory denies it.

    Raises:
        StoreError: no store, one with a damaged file, or several clusters and none named.
        InventoryError: an inventory path cannot be read.
    """
    opened = open_store(store)
    chosen = _cluster(opened, cluster)
    known = read_inventory(inventory) if inventory else None
    backend = ibis.duckdb.connect()
    try:
        objects, hourly, reports = _folded(opened, chosen, known, backend)
    except duckdb.Error as error:
        raise StoreError(
            f"{store}: cannot be read ({str(error).splitlines()[0]}); remove the file that is "
            "named, or the store, and ingest its logs again"
        ) from error
    found = meaning(hourly, objects, audited=audited, decisions=decisions, in_force=in_force)
    return Watched(chosen, objects, known is None, hourly, reports, found)


def _folded(
    opened: Store, chosen: str, known: Inventory | None, backend: ibis.BaseBackend
) -> tuple[Inventory, pd.DataFrame, pd.DataFrame]:
    """The inventory, made of the flows where none is known; edges by hour; the nodes' reports."""
    flows = _flows(opened, backend, chosen)
    sighted = folding.fetch(folding.sighted_ends(flows), backend)
    objects = known or inventory_of_flows(sighted)
    calls = folding.fetch(folding.outside_calls(flows), backend)
    ends = ibis.memtable(resolve(sighted, calls, objects))
    hourly = folding.fetch(folding.edges(flows, ends), backend)
    return objects, hourly, folding.fetch(folding.reports(flows), backend)


def window_of(watched: Watched, thresholds: Thresholds | None = None) -> Window:
    """Whether it was watched long enough, holes in the log that the nodes show included."""
    gaps = tuple(quiet_nodes(watched.reports, watched.inventory))
    found = watched.meaning
    return window(found.edges, found.seen, watched.inventory, thresholds, gaps=gaps)


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
