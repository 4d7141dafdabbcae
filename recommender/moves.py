"""Roles bettered: ends moved to the role they fit best, roles joined and parted to save bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from recommender.bits import block_bits, choices, naming
from recommender.roles import Calls, Floats, Ints, incident, relabelled, sorted_set, tokens

Flags = npt.NDArray[np.bool_]

_NEAREST = 4  # roles that each role is tried with
_LIKE = 0.1  # roles with less in common are not tried
_LEAST = 1e-6  # bits; less is what sums of floats differ by
# Bits of the labels that parts must save beside: among so many ways to part a large role some seem
# to save a few bits by chance, where calls are missing.
_PARTED = 0.25
_WAYS = 3  # to part a role, of all that one token shows, are looked at closely
_SWEEPS = 4
# Members times calls; where there are more, members go where their tokens fit, not one by one.
_MOST_EXCHANGED = 200_000
_AT_ONCE = 256  # roles whose shares are held in memory together


def moved(found: Calls, labels: Ints) -> Ints:
    """Every end in the role whose members do most nearly what it does, or in one of its own.

    What counts is whether an end has a token, not how often. A role's share of a token is that of
    its other members with the share among all ends as one member more (Beta-Bernoulli): so in a
    role of one nearly nothing is sure, and what everybody does tells nothing.
    """
    ends, best, fits = _fits(found, labels)
    chosen = int(labels.max()) + 1 + np.arange(ends)
    for first, fit in fits:
        nearest = fit.argmax(axis=1)
        height = fit[np.arange(ends), nearest]
        better = height > best
        best[better], chosen[better] = height[better], nearest[better] + first
    return relabelled(chosen)


def _fits(found: Calls, labels: Ints) -> tuple[int, Floats, Iterator[tuple[int, Floats]]]:
    """How many ends there are, how well each fits a role of its own, and the roles that there are.

    The latter a few roles at a time: the first of them, and ends x roles in nats.
    """
    done = tokens(found, labels).counts
    done.data = np.ones_like(done.data)
    ends, roles = len(labels), int(labels.max()) + 1
    size = np.bincount(labels, minlength=roles).astype(np.float64)
    belongs = csr_array((np.ones(ends), (labels, np.arange(ends))), shape=(roles, ends))
    members = csr_array(belongs @ done)
    everywhere = (np.asarray(done.sum(axis=0)).ravel() + 0.5) / (ends + 1)

    def of_roles() -> Iterator[tuple[int, Floats]]:
        for first in range(0, roles, _AT_ONCE):
            span = slice(first, min(first + _AT_ONCE, roles))
            share = (members[span].toarray() + everywhere) / (size[span, None] + 1)
            fit = done @ _odds(share).T + np.log1p(-share).sum(axis=1)
            inside = np.flatnonzero((labels >= span.start) & (labels < span.stop))
            fit[inside, labels[inside] - first] = _own(
                done[inside], labels[inside], members[span].toarray(), size, everywhere, first
            )
            yield first, fit

    return ends, done @ _odds(everywhere) + np.log1p(-everywhere).sum(), of_roles()


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


def placed(found: Calls, labels: Ints) -> Ints:
    """Ends put one by one into that of the roles they fit nearly as well that saves most bits.

    That is where the pairs tell what the tokens don't: if a client has one server of each role,
    the server that is left must play the role that is left.
    """
    labels = labels.copy()
    sizes = np.bincount(labels).astype(np.float64)
    names = naming(found)
    rows = incident(found, labels)
    for end, others in _nearly(found, labels):
        old = int(labels[end])
        costs = []
        for role in others:
            touched = sorted_set(np.concatenate([rows[old], rows[role]]))
            mine = found.where(touched)
            before = block_bits(mine, labels, sizes, names[touched])
            _change(labels, sizes, end, role)
            costs.append((block_bits(mine, labels, sizes, names[touched]) - before, role))
            _change(labels, sizes, end, old)
        cost, role = min(costs)
        if cost < -_LEAST:
            _change(labels, sizes, end, role)
            both = sorted_set(np.concatenate([rows[old], rows[role]]))
            for one in (old, role):
                kept = (labels[found.client[both]] == one) | (labels[found.server[both]] == one)
                rows[one] = both[kept]
    return relabelled(labels)


def _change(labels: Ints, sizes: Floats, end: int, role: int) -> None:
    sizes[labels[end]] -= 1
    sizes[role] += 1
    labels[end] = role


def _nearly(found: Calls, labels: Ints) -> Iterator[tuple[int, list[int]]]:
    """Ends with the few other roles that fit, at odds to their own above one to all ends."""
    ends, _, fits = _fits(found, labels)
    own = np.empty(ends)
    found_end, found_role, found_fit = [], [], []
    for first, fit in fits:
        inside = np.flatnonzero((labels >= first) & (labels < first + fit.shape[1]))
        own[inside] = fit[inside, labels[inside] - first]
        fit[inside, labels[inside] - first] = -np.inf
        nearest = np.argsort(-fit, axis=1, kind="stable")[:, :_NEAREST]
        end = np.repeat(np.arange(ends), nearest.shape[1])
        found_end.append(end)
        found_role.append(nearest.ravel() + first)
        found_fit.append(fit[end, nearest.ravel()])
    end, role = np.concatenate(found_end), np.concatenate(found_role)
    height = np.concatenate(found_fit)
    near = np.flatnonzero(np.isfinite(height) & (height > own[end] - np.log(ends)))
    near = near[np.lexsort((role[near], -height[near], end[near]))]
    starts = np.searchsorted(end[near], np.arange(ends + 1))
    for one in range(ends):
        others = role[near[starts[one] : starts[one + 1]]][:_NEAREST].tolist()
        if others:
            yield one, others


def joined(found: Calls, labels: Ints) -> Ints:
    """Roles joined, the most alike first, wherever that saves bits."""
    labels, roles = labels.copy(), int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=roles).astype(np.float64)
    names = naming(found)
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


def parted(found: Calls, labels: Ints) -> Ints:
    """Roles parted by what some members do and others don't, wherever that saves enough bits."""
    names = naming(found)
    waiting = list(range(int(labels.max()) + 1))
    while waiting:
        role = waiting.pop(0)
        parts = _in_two(found, labels, role, names)
        if parts is not None:
            labels = parts
            waiting += [role, int(labels.max())]
    return relabelled(labels)


def _in_two(found: Calls, labels: Ints, role: int, names: Floats) -> Ints | None:
    """The labels when a role's best part is a new role; None where no part saves enough."""
    touched = np.flatnonzero((labels[found.client] == role) | (labels[found.server] == role))
    mine, names = found.where(touched), names[touched]
    members = np.flatnonzero(labels == role)
    done = csr_array(tokens(mine, labels).counts[members])
    done.data = np.ones_like(done.data)
    often = np.asarray(done.sum(axis=0)).ravel()
    some = np.flatnonzero((often > 1) & (often < len(members) - 1))

    def cost(apart: Flags) -> tuple[float, Ints]:
        after = labels.copy()
        after[members[apart]] = labels.max() + 1
        bits = block_bits(mine, after, np.bincount(after).astype(np.float64), names)
        return bits + _PARTED * float(choices(np.array(len(apart)), np.array(apart.sum()))), after

    shown, whole = done[:, some].toarray() > 0, cost(np.zeros(len(members), bool))[0]
    ways = sorted((cost(part)[0], way) for way, part in enumerate(shown.T))[:_WAYS]
    few = len(members) * len(mine) <= _MOST_EXCHANGED
    parts = (
        _exchanged(shown[:, way], lambda apart: cost(apart)[0])
        if few
        else _nearer(done, shown[:, way])
        for least, way in ways
        if least < whole + len(members)  # to move a member gains a bit or so
    )
    least, best = min(map(cost, parts), key=lambda one: one[0], default=(np.inf, labels))
    return best if least < whole - _LEAST else None


def _exchanged(apart: Flags, cost: Callable[[Flags], float]) -> Flags:
    """Members put one by one into the other of two parts where that costs less."""
    apart, least = apart.copy(), cost(apart)
    for _ in range(_SWEEPS):
        before = least
        for member in range(len(apart)):
            apart[member] = not apart[member]
            now = cost(apart)
            if now < least - _LEAST:
                least = now
            else:
                apart[member] = not apart[member]
        if least == before:
            break
    return apart


def _nearer(done: csr_array, apart: Flags) -> Flags:
    """Members in that of two parts whose members do most nearly what they do.

    Args:
        done: members x tokens, 1 where the member has the token.
        apart: who is in the second part at first.
    """
    everywhere = (np.asarray(done.sum(axis=0)).ravel() + 0.5) / (done.shape[0] + 1)
    for _ in range(_SWEEPS):
        fits = []
        for part in (~apart, apart):
            share = (np.asarray(done[part].sum(axis=0)).ravel() + everywhere) / (part.sum() + 1)
            fits.append(done @ _odds(share) + np.log1p(-share).sum())
        nearer = fits[1] > fits[0]
        if nearer.all() or not nearer.any() or (nearer == apart).all():
            break
        apart = nearer
    return apart
