"""Roles as numbers: edges coded, and what each end does under a grouping.

A role is a set of ends that communicate alike. `bits.py` says how well a grouping explains the
edges, `patterns.py` searches for the best, `moves.py` betters it, `catalogue.py` describes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array, csr_array

from recommender.edges import WHO
from recommender.frames import numbered, plain

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CALLS, CALLED = 0, 1


@dataclass(frozen=True)
class Calls:
    """Edges as numbers: row i says that `ends[client[i]]` calls `ends[server[i]]` on a port.

    `ends` and `ports` (`TCP 8080`) are sorted and without doubles.
    """

    ends: tuple[str, ...]
    ports: tuple[str, ...]
    client: Ints
    server: Ints
    port: Ints

    def __len__(self) -> int:
        return len(self.client)

    def where(self, chosen: npt.NDArray[np.bool_] | Ints) -> Calls:
        """The chosen rows; ends and ports stay as they are."""
        parts = (self.client[chosen], self.server[chosen], self.port[chosen])
        return Calls(self.ends, self.ports, *parts)


def named_ends(edges: pd.DataFrame, role: str) -> npt.NDArray[np.object_]:
    """One end of every edge as text: `namespace/kind/name`, else its address, name or type.

    Another cluster's pods are `cluster:namespace/kind/name`, for both clusters may use one name.
    """
    columns = [f"{role}_{name}" for name in WHO]
    _, first, number = np.unique(numbered(edges, columns), return_index=True, return_inverse=True)
    named = [
        _named(*row) for row in plain(edges[columns].iloc[first]).itertuples(index=False, name=None)
    ]
    return np.array(named, object)[number]


def _named(
    what: str,
    namespace: str | None,
    kind: str | None,
    name: str | None,
    address: str | None,
    cluster: str | None,
) -> str:
    if namespace is None:
        return address or name or what
    here = f"{namespace}/{kind}/{name}"
    return here if cluster is None else f"{cluster}:{here}"


def calls(edges: pd.DataFrame) -> Calls:
    """Code edges as numbers, row by row.

    Args:
        edges: EDGE columns at least (see `classify.classified`), in any order.
    """
    clients, servers = named_ends(edges, "client"), named_ends(edges, "server")
    said = plain(edges[["protocol", "port"]]).itertuples(index=False, name=None)
    texts: dict[tuple[object, object], str] = {}
    ports = [
        texts.setdefault(one, str(one[0]) if one[1] is None else f"{one[0]} {one[1]}")
        for one in said
    ]
    # A run of ports is one thing to call.
    for i in np.flatnonzero(edges["run"].notna().to_numpy()):
        low, high, _ = edges["run"].iloc[i]
        ports[i] = f"{edges['protocol'].iloc[i]} {low}-{high}"
    return coded(clients, servers, np.array(ports, object))


def coded(
    clients: npt.NDArray[np.object_], servers: npt.NDArray[np.object_], ports: npt.ArrayLike
) -> Calls:
    """Calls from the names of clients, servers and ports."""
    ends, both = _codes(np.concatenate([clients, servers]))
    names, port = _codes(np.asarray(ports, dtype=object))
    return Calls(ends, names, both[: len(clients)], both[len(clients) :], port)


def _codes(values: npt.NDArray[np.object_]) -> tuple[tuple[str, ...], Ints]:
    found, unique = pd.factorize(values, sort=True)
    return tuple(str(value) for value in unique), np.asarray(found, np.int64)


def distinct(found: Calls) -> Calls:
    """Each call once, sorted by client, server, port."""
    key = (found.client * len(found.ends) + found.server) * len(found.ports) + found.port
    return found.where(np.unique(key, return_index=True)[1])


@dataclass(frozen=True)
class Tokens:
    """What each end does: a row an end, a column a token, the number of distinct peers inside.

    Column j is (`direction[j]`, `peer[j]`, `port[j]`): calls or is called by that role, there.
    """

    counts: csr_array
    direction: Ints
    peer: Ints
    port: Ints


def tokens(found: Calls, labels: Ints) -> Tokens:
    """The tokens of distinct calls under a grouping; columns in the order of their keys."""
    ports, roles = max(len(found.ports), 1), int(labels.max(initial=0)) + 1
    out = (CALLS * roles + labels[found.server]) * ports + found.port
    back = (CALLED * roles + labels[found.client]) * ports + found.port
    keys, column = np.unique(np.concatenate([out, back]), return_inverse=True)
    row = np.concatenate([found.client, found.server])
    shape = (len(found.ends), len(keys))
    counts = csr_array(coo_array((np.ones(len(row)), (row, column)), shape=shape))
    counts.sum_duplicates()
    return Tokens(counts, keys // (roles * ports), keys // ports % roles, keys % ports)


def sorted_set(values: Ints) -> Ints:
    """As np.unique gives it, several times faster on short arrays."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    kept: Ints = ordered[first]
    return kept


def incident(found: Calls, labels: Ints) -> list[Ints]:
    """For each role, the rows in which it has a part, sorted."""
    roles = int(labels.max(initial=-1)) + 1
    parts = []
    for end in (found.client, found.server):
        role = labels[end]
        order = np.argsort(role, kind="stable")
        parts.append(np.split(order, np.searchsorted(role[order], np.arange(1, roles))))
    return [sorted_set(np.concatenate(both)) for both in zip(*parts, strict=True)]


def relabelled(labels: Ints) -> Ints:
    """The same grouping, roles numbered by size, largest first, then by first member."""
    _, first, inverse, size = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -size))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    renamed: Ints = rank[inverse]
    return renamed
