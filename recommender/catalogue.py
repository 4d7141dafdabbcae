"""The catalogue of roles: what explains each, who is odd in it, and what grouping it saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from recommender.bits import block_bits, naming
from recommender.roles import Calls, Ints, incident, tokens

# A member is odd where so few others of a role of this size do what it does.
_ODD_ROLE, _ODD_SHARE = 8, 0.05
_MOST_TOKENS = 6


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
    names = naming(found)
    saved = []
    for role, rows in enumerate(incident(found, labels)):
        mine, members = found.where(rows), np.flatnonzero(labels == role)
        apart = labels.copy()
        apart[members] = len(sizes) + np.arange(len(members))
        alone = np.concatenate([sizes, np.ones(len(members))])
        together = block_bits(mine, labels, sizes, names[rows])
        saved.append(block_bits(mine, apart, alone, names[rows]) - together)
    return saved
