"""Roles as numbers: edges coded, what each end does, and the bits a block model needs to say it.

A role is a set of ends that communicate alike. Given any grouping into roles, the edges can be
told block by block (client role, server role, port); the grouping that needs the fewest bits is
the best one. A full block is one rule that opens nothing, so the bits are nearly the policy's own
cost. `patterns.py` searches for that grouping, `moves.py` betters it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array, csr_array
from scipy.special import gammaln

from recommender.edges import WHO
from recommender.frames import numbered, plain

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


def description_length(found: Calls, labels: Ints) -> float:
    """Bits to tell distinct calls, given roles: the least is best (see `block_bits`)."""
    sizes = np.bincount(labels, minlength=1).astype(np.float64)
    return block_bits(found, labels, sizes, naming(found, len(sizes)))


def naming(found: Calls, roles: int) -> Floats:
    """Bits to name the block of each call: whose it is, and what it is, the usual briefly.

    That is log2 R for one role, and -log2 of the share of all calls that go to that server there,
    or that that client makes there, whichever is more.
    """
    ports = max(len(found.ports), 1)
    most = np.zeros(len(found))
    for end in (found.client, found.server):
        _, same, often = np.unique(
            end * ports + found.port, return_inverse=True, return_counts=True
        )
        most = np.maximum(most, often[same])
    bits: Floats = (
        np.log2(max(roles, 1)) + np.log2(max(len(found), 1)) - np.log2(np.maximum(most, 1))
    )
    return bits


def block_bits(found: Calls, labels: Ints, sizes: Floats, names: Floats) -> float:
    """Bits of the blocks (client role, server role, port) that calls make up.

    A block says which clients of its role take part, which servers of the other, and which pairs
    of these call (see `_pair_bits`): log2 n + log2 C(n, r) + log2 m + log2 C(m, c) + those, and
    its name. So an end that was never seen to do what its role does costs little, which is what a
    short window makes of it. Who is in which role costs nothing, for names and labels tell it.

    Calls that make no block worth its bits are told one by one, client, server and port: log2 N +
    log2 N + log2 P each. Else ends would be grouped by what chance calls have in common.

    Args:
        found: distinct calls.
        labels: the role of each end.
        sizes: members of each role.
        names: see `naming`; a block is named by its most usual call.
    """
    if not len(found):
        return 0.0
    _, as_block, apart = _told(found, labels, sizes, names)
    return float(np.minimum(as_block, apart).sum())


def explained(found: Calls, labels: Ints) -> npt.NDArray[np.bool_]:
    """Which ends have a part in a block that is worth its bits.

    All that the others do is told one by one: no role explains any of it.
    """
    sizes = np.bincount(labels, minlength=1).astype(np.float64)
    block, as_block, apart = _told(found, labels, sizes, naming(found, len(sizes)))
    worth = (as_block < apart)[block]
    out = np.zeros(len(labels), bool)
    out[found.client[worth]] = out[found.server[worth]] = True
    return out


def _told(found: Calls, labels: Ints, sizes: Floats, names: Floats) -> tuple[Ints, Floats, Floats]:
    """The block of each call; the bits of each block as one, and with its calls one by one."""
    roles, ports, ends = len(sizes), max(len(found.ports), 1), len(labels)
    key = (labels[found.client] * roles + labels[found.server]) * ports + found.port
    blocks, block, seen = np.unique(key, return_inverse=True, return_counts=True)
    clients, servers = (
        _taking_part(block * ends + end, ends, len(blocks)) for end in (found.client, found.server)
    )
    bits = _pair_bits(seen.astype(np.float64), clients, servers)
    for role, (here, _) in (
        (blocks // ports // roles, clients),
        (blocks // ports % roles, servers),
    ):
        bits += np.log2(sizes[role]) + _choices(sizes[role], here)
    named = np.full(len(blocks), np.inf)
    np.minimum.at(named, block, names)
    return block, bits + named, seen * (2 * np.log2(ends) + np.log2(ports))


def _pair_bits(
    seen: Floats, clients: tuple[Floats, Floats], servers: tuple[Floats, Floats]
) -> Floats:
    """Bits to say which pairs call: any k of them, or as many as each end has, what is less.

    log2 rc + 1 + min(log2 C(rc, k), log2 k! / (prod d! prod e!) + log2 C(k-1, r-1) +
    log2 C(k-1, c-1)), d and e the calls of each client and server. The latter is the block model
    with degree correction (Karrer and Newman 2011; Peixoto, Phys. Rev. X 2014, has the code): it
    knows a block in which each client has a server of its own, and one whose ends differ in vigour.
    """
    (here, client_orders), (there, server_orders) = clients, servers
    pairs = here * there
    by_end = _factorial(seen) - client_orders - server_orders
    by_end += _choices(seen - 1, here - 1) + _choices(seen - 1, there - 1)
    bits: Floats = np.log2(pairs) + 1 + np.minimum(_choices(pairs, seen), by_end)
    return bits


def _taking_part(place: Ints, ends: int, blocks: int) -> tuple[Floats, Floats]:
    """How many ends take part in each block at one side, and the sum of log2 d! over their calls.

    Args:
        place: block * ends + end, of each call.
        ends: how many there are.
        blocks: how many there are.
    """
    ordered = np.sort(place)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    block, often = ordered[starts] // ends, np.diff(np.append(starts, len(ordered)))
    orders = np.bincount(block, weights=_factorial(often.astype(np.float64)), minlength=blocks)
    return np.bincount(block, minlength=blocks).astype(np.float64), np.asarray(orders, np.float64)


def sorted_set(values: Ints) -> Ints:
    """As np.unique gives it, several times faster on short arrays."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    kept: Ints = ordered[first]
    return kept


def _choices(of: Floats, taken: Floats) -> Floats:
    """log2 of the binomial coefficient."""
    return _factorial(of) - _factorial(taken) - _factorial(of - taken)


def _factorial(of: Floats) -> Floats:
    """log2 of the factorial."""
    bits: Floats = gammaln(of + 1) / np.log(2)
    return bits


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
    """Bits that each role saves in the blocks that it has a part in, against members apart."""
    sizes = np.bincount(labels, minlength=1).astype(np.float64)
    names = naming(found, len(sizes))
    saved = []
    for role, rows in enumerate(incident(found, labels)):
        mine, members = found.where(rows), np.flatnonzero(labels == role)
        apart = labels.copy()
        apart[members] = len(sizes) + np.arange(len(members))
        alone = np.concatenate([sizes, np.ones(len(members))])
        together = block_bits(mine, labels, sizes, names[rows])
        saved.append(block_bits(mine, apart, alone, names[rows]) - together)
    return saved
