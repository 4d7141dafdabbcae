"""Roles as numbers: edges coded, what each end does, and the bits a block model needs to say it.

A role is a set of ends that communicate alike. Given any grouping into roles, the edges can be
told block by block (client role, server role, port); the grouping that needs the fewest bits is
the best one. A full block is one rule that opens nothing, so the bits are nearly the policy's own
cost. `patterns.py` searches for that grouping.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array, csr_array
from scipy.special import gammaln

from recommender.frames import plain

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CALLS, CALLED = 0, 1
# A member is odd where so few others of a role of this size do what it does.
_ODD_ROLE, _ODD_SHARE = 8, 0.05
_MOST_TOKENS = 6


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
    """One end of every edge as text: `namespace/kind/name`, else its address, name or type."""
    column = {
        name: edges[f"{role}_{name}"].astype(object).where(edges[f"{role}_{name}"].notna(), None)
        for name in ("type", "namespace", "kind", "name", "address")
    }
    whole = column["namespace"] + "/" + column["kind"] + "/" + column["name"]
    plain = column["address"].fillna(column["name"]).fillna(column["type"])
    named = (column["type"] == "workload").to_numpy(bool)
    return np.where(named, whole.to_numpy(object), plain.to_numpy(object))


def calls(edges: pd.DataFrame) -> Calls:
    """Code edges as numbers, row by row.

    Args:
        edges: EDGE columns at least (see `classify.classified`), in any order.
    """
    clients, servers = named_ends(edges, "client"), named_ends(edges, "server")
    ports = [
        str(protocol) if port is None else f"{protocol} {port}"
        for protocol, port in plain(edges[["protocol", "port"]]).itertuples(index=False)
    ]
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


def description_length(found: Calls, labels: Ints) -> float:
    """Bits to tell distinct calls, given roles: blocks, where they lie, and who is in which role.

    Source: two-part code of a block model, methods.md section 2a. A block of N pairs with k calls
    costs log2(N + 1) + log2 C(N, k), its place 2 log2 R + log2 K, each end log2 R.
    """
    roles, ports = int(labels.max(initial=0)) + 1, max(len(found.ports), 1)
    sizes = np.bincount(labels, minlength=roles).astype(float)
    key = (labels[found.client] * roles + labels[found.server]) * ports + found.port
    blocks, seen = np.unique(key, return_counts=True)
    pairs = sizes[blocks // ports // roles] * sizes[blocks // ports % roles]
    place = 2 * np.log2(roles) + np.log2(ports)
    inside = float(_block_bits(pairs, seen.astype(float)).sum())
    return inside + len(blocks) * float(place) + len(labels) * float(np.log2(roles))


def _block_bits(pairs: Floats, seen: Floats) -> Floats:
    choices = gammaln(pairs + 1) - gammaln(seen + 1) - gammaln(pairs - seen + 1)
    bits: Floats = np.log2(pairs + 1) + choices / np.log(2)
    return bits


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


@dataclass(frozen=True, slots=True)
class Token:
    """One thing that members of a role do: `calls` or `called by` a role on a port.

    `members` of the role do it; `weight` is their share times how rare it is among all ends.
    """

    direction: str
    peer: int
    port: str
    members: int
    weight: float

    def __str__(self) -> str:
        return f"{self.direction} role {self.peer} on {self.port}"


@dataclass(frozen=True, slots=True)
class Role:
    """Ends that communicate alike, by what they do; `saved` is in bits against ends apart.

    `odd` holds (member, token) where nearly no other member does that.
    """

    number: int
    members: tuple[str, ...]
    tokens: tuple[Token, ...]
    saved: float
    odd: tuple[tuple[str, Token], ...]


def described(found: Calls, labels: Ints) -> tuple[Role, ...]:
    """Every role with the tokens that explain it, its odd members, and what grouping it saved."""
    facts = tokens(found, labels)
    by_end = facts.counts
    ends, columns = len(found.ends), by_end.shape[1]
    done = csr_array((np.ones(by_end.nnz), by_end.indices, by_end.indptr), shape=by_end.shape)
    # Smoothed inverse document frequency, as scikit-learn's TfidfTransformer defines it.
    rare = np.log((1 + ends) / (1 + np.bincount(by_end.indices, minlength=columns))) + 1
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(int(labels.max(initial=-1)) + 2))
    saved = _saved(found, labels)
    roles = []
    for number in range(len(starts) - 1):
        members = order[starts[number] : starts[number + 1]]
        inside = done[members]
        doing = np.bincount(inside.indices, minlength=columns)
        weight = doing / len(members) * rare
        told = {
            int(j): Token(
                ("calls", "called by")[int(facts.direction[j])],
                int(facts.peer[j]),
                found.ports[int(facts.port[j])],
                int(doing[j]),
                round(float(weight[j]), 4),
            )
            for j in np.flatnonzero(doing)
        }
        chosen = sorted(told.values(), key=lambda t: (-t.weight, str(t)))[:_MOST_TOKENS]
        names = tuple(found.ends[i] for i in members)
        odd = tuple(_odd(names, inside, told))
        roles.append(Role(number, names, tuple(chosen), round(saved[number], 1), odd))
    return tuple(roles)


def _odd(
    names: tuple[str, ...], inside: csr_array, told: dict[int, Token]
) -> Iterator[tuple[str, Token]]:
    if len(names) < _ODD_ROLE:
        return
    for i, name in enumerate(names):
        for j in inside.indices[inside.indptr[i] : inside.indptr[i + 1]]:
            if told[int(j)].members <= max(1, _ODD_SHARE * len(names)):
                yield name, told[int(j)]


def _saved(found: Calls, labels: Ints) -> list[float]:
    """Bits that each role saves in the blocks it touches, against each member for itself."""
    roles, ports = int(labels.max(initial=-1)) + 1, max(len(found.ports), 1)
    sizes = np.bincount(labels, minlength=roles).astype(float)
    saved = np.zeros(roles)
    place = 2 * np.log2(max(roles, 1)) + np.log2(ports)
    for one, other in ((found.client, found.server), (found.server, found.client)):
        mine, theirs = labels[one], labels[other]
        together = (mine * roles + theirs) * ports + found.port
        blocks, seen = np.unique(together, return_counts=True)
        owner = blocks // ports // roles
        pairs = sizes[owner] * sizes[blocks // ports % roles]
        np.add.at(saved, owner, -_block_bits(pairs, seen.astype(float)) - place)
        apart = (one * roles + theirs) * ports + found.port
        blocks, seen = np.unique(apart, return_counts=True)
        owner = labels[blocks // ports // roles]
        pairs = sizes[blocks // ports % roles]
        np.add.at(saved, owner, _block_bits(pairs, seen.astype(float)) + place)
    return [float(bits) for bits in saved]
