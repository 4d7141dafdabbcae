"""Clusters that are connected: the own one's name, and the labels of the others' workloads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd
import pyarrow as pa

from recommender.edges import END
from recommender.endpoints import text_lines
from recommender.frames import Row, plain, records
from recommender.model import Labels

# Another cluster's workload: (cluster, namespace, kind, name).
RemoteKey = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Mesh:
    """The clusters that flows connect.

    `cluster` is the own name, by which selectors keep to it; null where no other cluster's pod was
    seen, or where the own pods go by several names. `remotes` are the labels that all pods of a
    remote workload were seen to bear.
    """

    cluster: str | None = None
    remotes: Mapping[RemoteKey, Labels] = field(default_factory=dict)


def mesh_of(sighted: pd.DataFrame, ends: pa.Table) -> Mesh:
    """The mesh that the flows show.

    Args:
        sighted: what `edges.sighted_ends` returns.
        ends: what `endpoints.resolve` makes of it.
    """
    far = [row for row in ends.to_pylist() if row["is_type"] == "remote"]
    if not far:
        return Mesh()
    # A log names the owners of pods at its own ends only.
    own = set(sighted.loc[sighted["workload"].notna(), "cluster"].dropna())
    remotes = {
        (row["record_cluster"], *(row[name] for name in END)): remote_key(row, "is") for row in far
    }
    return Mesh(own.pop() if len(own) == 1 else None, _labels(records(plain(sighted)), remotes))


def remote_key(row: Row, role: str) -> RemoteKey:
    """The remote workload at one end of an edge."""
    cluster, namespace, kind, name = (
        str(row[f"{role}_{part}"]) for part in ("cluster", "namespace", "kind", "name")
    )
    return cluster, namespace, kind, name


def _labels(
    rows: Iterable[Row], remotes: Mapping[tuple[object, ...], RemoteKey]
) -> dict[RemoteKey, Labels]:
    found: dict[RemoteKey, dict[str, str]] = {}
    for row in rows:
        key = remotes.get((row["record_cluster"], *(row[name] for name in END)))
        if key is not None and row["labels"] is not None:
            here = text_lines(row["labels"])
            seen = found.get(key)
            found[key] = here if seen is None else dict(seen.items() & here.items())
    return dict(sorted(found.items()))
