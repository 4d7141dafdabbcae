"""The store read as edges: who talked to whom in one cluster, with each edge's class."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import ibis
import pandas as pd

from ingest.errors import SparkError, StoreError
from ingest.locks import still
from ingest.store import Store, open_store
from recommender.addresses import address
from recommender.days import Parts, forget, parts
from recommender.decisions import Decision
from recommender.edges import (
    asked_names as asked_names_of,
)
from recommender.edges import (
    edges as folded,
)
from recommender.endpoints import inventory_of_flows, resolve
from recommender.engines import DUCKDB, EngineError, connected, fetch, table_of
from recommender.enough import Thresholds, quiet_nodes
from recommender.frames import Row
from recommender.gaps import gaps_of
from recommender.hours import SUMS
from recommender.inventory import Inventory, WorkloadKey
from recommender.known import Known
from recommender.meaning import Meaning, meaning
from recommender.mesh import Mesh, mesh_of
from recommender.needs import Asked
from recommender.objects import read_inventory
from recommender.warehouse import WarehouseError, read_edges
from recommender.window import Window, window

_LONGEST_NAME, _DNS_NAME = 253, re.compile(r"[a-z0-9_]([-a-z0-9_]*\.)+[a-z0-9][-a-z0-9]*")
_RECORDS = [name for name in SUMS if name not in ("connections", "answered", "refused")]
# Each attempt is made because files were replaced or joined during the one before; after some of
# them who writes has to wait (an object store has no lock for that).
_PATIENCE, _ATTEMPTS = 5, 50


@dataclass(frozen=True)
class Watched:
    """What a store shows of one cluster.

    `hourly` is EDGES by hour, `meaning` what they mean; `inventory` is the given one, or made of
    the flows where `from_flows`; `reports` when each node reported (see `edges.reports`), `gaps`
    what the logs say they missed (rows of GAPS); `names` are the outside addresses that DNS names
    were seen to have, `asked` who asked for which; `mesh` the clusters that it is connected with.
    """

    cluster: str
    inventory: Inventory
    from_flows: bool
    hourly: pd.DataFrame
    reports: pd.DataFrame
    gaps: Sequence[Row]
    names: Mapping[str, frozenset[str]]
    asked: Asked
    mesh: Mesh
    meaning: Meaning

    @property
    def edges(self) -> pd.DataFrame:
        """The edges over all hours, with `class` and `reason` (see `meaning.Meaning`)."""
        return self.meaning.edges

    @cached_property
    def known(self) -> Known:
        """What the flows tell beside the inventory."""
        entities = {
            "kube-apiserver": self._addresses_of("apiserver"),
            "ingress": self._addresses_of("ingress"),
        }
        nodes = self._addresses_of("node", "host")
        return Known(self.names, entities, nodes, self.mesh.cluster)

    def _addresses_of(self, *kinds: str) -> frozenset[str]:
        """The addresses of the ends of these types."""
        found: set[str] = set()
        for role in ("client", "server"):
            chosen = self.hourly[f"{role}_type"].isin(kinds)
            found |= set(self.hourly.loc[chosen, f"{role}_address"].dropna())
        return frozenset(found)


def watch(
    store: str | Path,
    inventory: Sequence[str | Path] = (),
    *,
    cluster: str | None = None,
    audited: bool = False,
    decisions: Sequence[Decision] = (),
    in_force: bool = False,
    engine: str = DUCKDB,
) -> Watched:
    """Read the store's flows of one cluster as edges.

    Args:
        store: what `ingest` wrote; or a Parquet file of edges (see `warehouse.read_edges`), which
            tells nothing of nodes, gaps and names.
        inventory: paths of Kubernetes objects; none for what the flows of a store tell.
        cluster: where the store holds several.
        audited: take traffic that policy would have denied (audit mode) as wanted.
        decisions: of people, which come before all else.
        in_force: let an edge wait for review where a policy of the inventory denies it.
        engine: what reads the flows (see `engines.connected`).

    Raises:
        SparkError: the engine is a cluster of Spark that can't do it.
        StoreError: no store, one with a damaged file, or several clusters and none named.
        MemoryShort: the engine has too little memory for the flows.
        InventoryError: an inventory path cannot be read.
        WarehouseError: the file is none of edges, or no inventory is given with it.
    """
    known = read_inventory(inventory) if inventory else None
    is_file = Path(store).is_file()

    def read(chosen: str, parts: Parts, backend: ibis.BaseBackend) -> _Folded:
        return _folded(chosen, known, parts, backend)

    folded = _given(store, cluster, known) if is_file else _reading(store, cluster, read, engine)
    found = meaning(
        folded.hourly, folded.inventory, audited=audited, decisions=decisions, in_force=in_force
    )
    return Watched(
        cluster=folded.cluster,
        inventory=folded.inventory,
        from_flows=known is None,
        hourly=folded.hourly,
        reports=folded.reports,
        gaps=() if is_file else open_store(store).gaps().to_pylist(),
        names=folded.names,
        asked=folded.asked,
        mesh=folded.mesh,
        meaning=found,
    )


def names_seen(store: str | Path, cluster: str | None = None) -> dict[str, frozenset[str]]:
    """The addresses that DNS names were seen to have in one cluster's flows.

    Raises:
        StoreError: as `watch`.
    """

    def read(_: str, parts: Parts, backend: ibis.BaseBackend) -> dict[str, frozenset[str]]:
        return _addresses_of_names(fetch(parts("names"), backend))

    return _reading(store, cluster, read)


T = TypeVar("T")
Reader = Callable[[str, Parts, ibis.BaseBackend], T]


def _reading(store: str | Path, cluster: str | None, read: Reader[T], engine: str = DUCKDB) -> T:
    """What `read` makes of the chosen cluster, its parts and the engine that reads them."""
    opened = open_store(store)
    chosen, damaged, attempt = _cluster(opened, cluster), False, 0
    while True:
        attempt += 1
        with still(opened) if attempt > _PATIENCE else nullcontext():
            state = _state(opened)
            try:
                with connected(engine) as backend:
                    return read(chosen, parts(opened, chosen, backend, keep=not damaged), backend)
            except (EngineError, SparkError) as error:
                if attempt < _ATTEMPTS and _state(opened) != state:
                    continue
                if isinstance(error, SparkError):
                    raise
                if damaged:
                    raise _unreadable(store, error) from error
                # It may be what was kept that can't be read.
                forget(opened)
                damaged = True


def _state(store: Store) -> list[tuple[str, int, float]]:
    """Name, bytes and time of each file of flows: another when any of them is."""
    found = []
    for file in store.files:
        with suppress(FileNotFoundError):  # it was replaced or joined just now
            stat = file.stat()
            found.append((file.name, stat.st_size, stat.st_mtime))
    return found


def _unreadable(store: str | Path, error: EngineError) -> StoreError:
    return StoreError(
        f"{store}: cannot be read ({error}); remove the file that is "
        "named, or the store, and ingest its logs again"
    )


class _Folded(NamedTuple):
    """What the engine makes of one cluster's flows; the inventory is made of them where none is."""

    cluster: str
    inventory: Inventory
    hourly: pd.DataFrame
    reports: pd.DataFrame
    names: dict[str, frozenset[str]]
    asked: dict[WorkloadKey, dict[str, tuple[str, ...]]]
    mesh: Mesh


def _folded(
    chosen: str, known: Inventory | None, parts: Parts, backend: ibis.BaseBackend
) -> _Folded:
    sighted = fetch(parts("sighted"), backend)
    objects = known or inventory_of_flows(sighted)
    calls = fetch(parts("calls"), backend)
    servers = fetch(parts("servers"), backend)["address"]
    who = resolve(sighted, calls, objects, frozenset(servers))
    ends = table_of(who, backend)
    hourly = fetch(folded(parts("counts"), ends), backend)
    reports = fetch(parts("reports"), backend)
    names = _addresses_of_names(fetch(parts("names"), backend))
    asked = _asked(fetch(asked_names_of(parts("asked"), ends), backend))
    return _Folded(chosen, objects, hourly, reports, names, asked, mesh_of(sighted, who))


def _given(path: str | Path, cluster: str | None, known: Inventory | None) -> _Folded:
    """A file of edges in the place of a store."""
    if known is None:
        raise WarehouseError(
            f"{path}: edges tell no labels; give the cluster's objects with --inventory"
        )
    hourly = read_edges(Path(path), cluster)
    reports = pd.DataFrame({"node": [], "hour": []}).astype(
        {"node": "string[pyarrow]", "hour": hourly["hour"].dtype}
    )
    return _Folded(str(hourly["cluster"].iloc[0]), known, hourly, reports, {}, {}, Mesh())


def window_of(watched: Watched, thresholds: Thresholds | None = None) -> Window:
    """Whether it was watched long enough, holes in the log that the nodes show included."""
    gaps = tuple(quiet_nodes(watched.reports, watched.inventory))
    found, hourly = watched.meaning, watched.hourly
    events = int(hourly[_RECORDS].to_numpy("int64").sum())
    told = gaps_of(watched.gaps, watched.cluster, watched.reports, events)
    return window(found.edges, found.seen, watched.inventory, thresholds, gaps=gaps, told=told)


def _addresses_of_names(rows: pd.DataFrame) -> dict[str, frozenset[str]]:
    """The addresses of each DNS name; what is no address is no answer."""
    found: dict[str, set[str]] = defaultdict(set)
    for names, addresses in zip(rows["names"], rows["addresses"], strict=True):
        known = {one for one in str(addresses).splitlines() if address(one)}
        for name in str(names).lower().splitlines():
            found[name.removesuffix(".")] |= known
    return {name: frozenset(known) for name, known in sorted(found.items()) if known}


def _asked(rows: pd.DataFrame) -> dict[WorkloadKey, dict[str, tuple[str, ...]]]:
    """The names by which each workload asked for each address."""
    found: dict[WorkloadKey, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows.itertuples(index=False):
        key = WorkloadKey(str(row.namespace), str(row.kind), str(row.name))
        for at in str(row.addresses).splitlines():
            if address(at):
                found[key][at] |= set(_dns_names(str(row.names)))
    return {
        key: {at: tuple(sorted(names)) for at, names in sorted(by_address.items()) if names}
        for key, by_address in sorted(found.items())
    }


def _dns_names(lines: str) -> Iterator[str]:
    """What can be a DNS name, in lower case, without the last dot; anybody may ask for anything."""
    for line in lines.lower().splitlines():
        name = line.removesuffix(".")
        if len(name) <= _LONGEST_NAME and _DNS_NAME.fullmatch(name):
            yield name


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
