"""Roles bettered: ends moved to the role that they fit best, roles joined where that saves bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array

from recommender.roles import (
    Calls,
    Floats,
    Ints,
    block_bits,
    incident,
    naming,
    relabelled,
    sorted_set,
    tokens,
)

_NEAREST = 4  # roles that each role is tried with
_LIKE = 0.1  # roles with less in common are not tried
_AT_ONCE = 256  # roles whose shares are held in memory together


def moved(found: Calls, labels: Ints) -> Ints:
    """Every end in the role whose members do most nearly what it does, or in one of its own.

    What counts is whether an end has a token, not how often. A role's share of a token is that of
    its other members with the share among all ends as one member more (Beta-Bernoulli): so in a
    role of one nearly nothing is sure, and what everybody does tells nothing.
    """
    done = tokens(found, labels).counts
    done.data = np.ones_like(done.data)
    ends, roles = len(labels), int(labels.max()) + 1
    size = np.bincount(labels, minlength=roles).astype(np.float64)
    belongs = csr_array((np.ones(ends), (labels, np.arange(ends))), shape=(roles, ends))
    members = csr_array(belongs @ done)
    everywhere = (np.asarray(done.sum(axis=0)).ravel() + 0.5) / (ends + 1)
    best = done @ _odds(everywhere) + np.log1p(-everywhere).sum()
    chosen = roles + np.arange(ends)
    for first in range(0, roles, _AT_ONCE):
        span = slice(first, min(first + _AT_ONCE, roles))
        share = (members[span].toarray() + everywhere) / (size[span, None] + 1)
        fit = done @ _odds(share).T + np.log1p(-share).sum(axis=1)
        inside = np.flatnonzero((labels >= span.start) & (labels < span.stop))
        fit[inside, labels[inside] - first] = _own(
            done[inside], labels[inside], members[span].toarray(), size, everywhere, first
        )
        nearest = fit.argmax(axis=1)
        height = fit[np.arange(ends), nearest]
        better = height > best
        best[better], chosen[better] = height[better], nearest[better] + first
    return relabelled(chosen)


def _odds(share: Floats) -> Floats:
    odds: Floats = np.log(share) - np.log1p(-share)
    return odds


def _own(
    done: csr_array, labels: Ints, members: Floats, size: Floats, everywhere: Floats, first: int
) -> Floats:
    """How well ends fit the role that they are in, themselves left out of its shares."""
    place, others = labels - first, size[labels] - 1
    row = np.repeat(np.arange(len(labels)), np.diff(done.indptr))
    column, role = done.indices, place[row]
    rest = np.maximum(size[first : first + len(members)] - 1, 0)[:, None] + 1
    lacking = np.minimum((members + everywhere) / rest, 1 - 1e-9)
    having = (members[role, column] - 1 + everywhere[column]) / (others[row] + 1)
    gain = np.log(having) - np.log1p(-lacking[role, column])
    fit: Floats = np.log1p(-lacking).sum(axis=1)[place]
    fit = fit + np.bincount(row, weights=gain, minlength=len(labels))
    fit[others == 0] = -np.inf
    return fit


def joined(found: Calls, labels: Ints) -> Ints:
    """Roles joined, the most alike first, wherever that saves bits."""
    labels, roles = labels.copy(), int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=roles).astype(np.float64)
    names = naming(found, roles)
    rows = incident(found, labels)
    into = np.arange(roles)
    for pair in _alike(found, labels):
        one, other = sorted(_last(into, role) for role in pair)
        if one == other:
            continue
        touched = sorted_set(np.concatenate([rows[one], rows[other]]))
        mine, members = found.where(touched), np.flatnonzero(labels == other)
        apart = block_bits(mine, labels, sizes, names[touched])
        labels[members] = one
        sizes[[one, other]] = sizes[one] + sizes[other], 0
        if block_bits(mine, labels, sizes, names[touched]) < apart:
            into[other], rows[one] = one, touched
        else:
            labels[members] = other
            sizes[[one, other]] = sizes[one] - len(members), len(members)
    return relabelled(labels)


def _last(into: Ints, role: int) -> int:
    while into[role] != role:
        role = int(into[role])
    return role


def _alike(found: Calls, labels: Ints) -> Iterator[tuple[int, int]]:
    """Pairs of roles that do much the same: each with its nearest, the nearest pairs first.

    Likeness is the cosine of how many members do what, weighed by how rare it is.
    """
    done = tokens(found, labels).counts
    done.data = np.ones_like(done.data)
    ends, roles = done.shape[0], int(labels.max()) + 1
    belongs = csr_array((np.ones(ends), (labels, np.arange(ends))), shape=(roles, ends))
    rare = np.log((1 + ends) / (1 + np.asarray(done.sum(axis=0)).ravel())) + 1
    profile = (belongs @ done).multiply(rare).tocsr()
    length = np.sqrt(np.asarray(profile.multiply(profile).sum(axis=1)).ravel())
    profile = profile.multiply(1 / np.maximum(length, 1e-12)[:, None]).tocsr()
    pairs: set[tuple[float, int, int]] = set()
    turned = profile.T.tocsr()
    for first in range(0, roles, _AT_ONCE):
        # Equal in exact arithmetic must be equal here, whatever the BLAS does.
        likeness = np.round((profile[first : first + _AT_ONCE] @ turned).toarray(), 9)
        own = np.arange(len(likeness))
        likeness[own, first + own] = -1
        nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :_NEAREST]
        for a, some in enumerate(nearest, first):
            pairs |= {
                (-float(likeness[a - first, b]), min(a, int(b)), max(a, int(b)))
                for b in some
                if a != b and likeness[a - first, b] >= _LIKE
            }
    yield from ((a, b) for _, a, b in sorted(pairs))
