"""Roles found: who communicates alike, by refinement that lets the description length decide.

Soft Weisfeiler-Lehman: every end starts in one role; in each round an end is described by what it
calls and is called by in terms of the roles so far, ends are joined by likeness, and the dendrogram
is cut where the block model needs the fewest bits. That and a few finer cuts are then bettered end
by end and role by role (`moves.py`), crossed with each other, and the fewest bits win. There is no
random state and no threshold to guess; sorted input gives the same roles in whatever order the
edges came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import linkage
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfTransformer

from recommender.bits import description_length, explained
from recommender.catalogue import Role, described
from recommender.moves import joined, moved, parted, placed
from recommender.roles import Calls, Floats, Ints, calls, distinct, relabelled, tokens

# Cosine distances at which the dendrogram may be cut; 0 joins only ends that do the very same.
_CUTS = (0.0, *(round(0.05 * i, 2) for i in range(2, 20)))
# Where calls are missing the fewest bits of an early round join too much: these start finer. Only
# so many distinct rows are worth the time.
_FINER, _FINER_ROWS = (0.2, 0.3, 0.4, 0.5), 3_000
_MOST_SETTLED = 300_000  # calls; where there are more the dendrogram's own roles stand
_MOST_PLACED = 50_000  # calls; where there are more ends are not placed one by one
_ROUNDS = 10
_GAIN = 0.001  # the last thousandth of the bits is not worth another round
# Distances between so many distinct rows take 1.2 GB; more rows are taken in blocks of this size.
_MOST_ROWS = 12_000
_AT_ONCE = 256  # rows whose likeness to all others is held in memory together


@dataclass(frozen=True)
class Roles:
    """A grouping of the ends of `calls`: end i plays role `labels[i]`.

    `bits` is its length, while ends that no role explains were still told with others.
    """

    calls: Calls
    labels: Ints
    bits: float

    @cached_property
    def catalogue(self) -> tuple[Role, ...]:
        """Every role, with what explains it."""
        return described(self.calls, self.labels)

    @cached_property
    def of(self) -> dict[str, int]:
        """The role of each end, by name (see `roles.named_ends`)."""
        return dict(zip(self.calls.ends, self.labels.tolist(), strict=True))


def roles(edges: pd.DataFrame) -> Roles:
    """Group the ends of edges by how they communicate.

    Args:
        edges: rows of `classify.classified` to learn from, in any order.

    Returns:
        Roles over every end that the edges name, addresses included: outside peers that play
        the same part are one role too.
    """
    return refined(distinct(calls(edges)))


def refined(found: Calls) -> Roles:
    """Search for the grouping that needs the fewest bits, from several starts."""
    if not len(found):
        return Roles(found, np.zeros(len(found.ends), np.int64), 0.0)
    tried = [settled(found, start) for start in (_by_length(found), *_by_height(found))]
    labels = finished(found, _crossed(found, tried))
    bits = round(description_length(found, labels), 3)
    # Where no role explains anything, none is claimed.
    alone = np.flatnonzero(~explained(found, labels))
    labels[alone] = len(labels) + alone
    return Roles(found, relabelled(labels), bits)


def _by_length(found: Calls) -> Ints:
    """Rounds in which each dendrogram is cut where the bits are fewest, while they fall."""
    labels = np.zeros(len(found.ends), np.int64)
    fewest = description_length(found, labels)
    while True:
        forest = _forest(found, labels)
        tried = [forest.cut(height) for height in _CUTS]
        bits, i = min((description_length(found, cut), i) for i, cut in enumerate(tried))
        if bits >= fewest:
            return labels
        labels, fewest = tried[i], bits


def _by_height(found: Calls) -> Iterator[Ints]:
    """Two rounds cut at one height, for a few heights; none where there are too many rows."""
    first = _forest(found, np.zeros(len(found.ends), np.int64))
    if first.rows > _FINER_ROWS:
        return
    for height in _FINER:
        second = _forest(found, first.cut(height))
        if second.rows <= _FINER_ROWS:
            yield second.cut(height)


def settled(found: Calls, labels: Ints) -> tuple[float, Ints]:
    """Ends moved and roles joined in turn, while the bits fall."""
    if len(found) > _MOST_SETTLED:
        return description_length(found, labels), labels
    return _bettered(found, labels, moved)


def finished(found: Calls, labels: Ints) -> Ints:
    """Ends placed one by one and roles joined in turn, then parted, and in turn again."""
    if len(found) > _MOST_PLACED:
        return labels
    _, labels = _bettered(found, labels, placed)
    return _bettered(found, parted(found, labels), placed)[1]


def _bettered(
    found: Calls, labels: Ints, step: Callable[[Calls, Ints], Ints]
) -> tuple[float, Ints]:
    best, fewest = labels, description_length(found, labels)
    for _ in range(_ROUNDS):
        labels = joined(found, step(found, labels))
        bits = description_length(found, labels)
        gained = fewest - bits
        if gained > 0:
            best, fewest = labels, bits
        if gained <= _GAIN * bits:
            break
    return fewest, best


def _crossed(found: Calls, tried: list[tuple[float, Ints]]) -> Ints:
    """The grouping of fewest bits, crossed with each other one in turn.

    Searches that got stuck are seldom wrong in the same place: roles become the pieces that both
    groupings keep together, and these are joined anew.
    """
    (fewest, best), *others = sorted(tried, key=lambda one: one[0])
    for _, other in others if len(found) <= _MOST_SETTLED else ():
        pieces = relabelled(best * (int(other.max()) + 1) + other)
        bits, labels = settled(found, joined(found, pieces))
        if bits < fewest:
            fewest, best = bits, labels
    return best


@dataclass(frozen=True)
class _Forest:
    """Dendrograms of distinct rows, one a block of rows, and the row of each end."""

    row_of: Ints
    trees: tuple[tuple[Ints, Ints, Floats], ...]  # rows, children, heights

    @property
    def rows(self) -> int:
        """Distinct rows."""
        return sum(len(rows) for rows, _, _ in self.trees)

    def cut(self, height: float) -> Ints:
        """The roles when merges above `height` are undone."""
        group = np.empty(self.rows, np.int64)
        used = 0
        for rows, children, heights in self.trees:
            group[rows] = _cut(len(rows), children, heights, height) + used
            used = int(group[rows].max()) + 1
        return relabelled(group[self.row_of])


def _forest(found: Calls, labels: Ints) -> _Forest:
    """Average linkage over what ends do, weighed by how rare it is (TF-IDF)."""
    counts = tokens(found, labels).counts
    counts.data = 1 + np.log(counts.data)
    rows, row_of = _distinct_rows(counts)
    weighed = csr_array(TfidfTransformer().fit(counts).transform(rows))
    trees = ((block, *_tree(weighed[block])) for block in _blocks(weighed.shape[0]))
    return _Forest(row_of, tuple(trees))


def _distinct_rows(counts: csr_array) -> tuple[csr_array, Ints]:
    """Rows without doubles (ends that do the very same), and the row of each end."""
    place: dict[tuple[bytes, bytes], int] = {}
    firsts: list[int] = []
    row_of = np.empty(counts.shape[0], np.int64)
    for i in range(counts.shape[0]):
        span = slice(counts.indptr[i], counts.indptr[i + 1])
        key = (counts.indices[span].tobytes(), counts.data[span].tobytes())
        if key not in place:
            place[key] = len(firsts)
            firsts.append(i)
        row_of[i] = place[key]
    return csr_array(counts[firsts]), row_of


def _blocks(rows: int) -> list[Ints]:
    """Runs of rows that fit in memory; rows follow the ends' names, so namespaces stay together."""
    pieces = max(1, -(-rows // _MOST_ROWS))
    return [np.asarray(piece, np.int64) for piece in np.array_split(np.arange(rows), pieces)]


def _tree(weighed: csr_array) -> tuple[Ints, Floats]:
    """Average linkage on cosine distance: (children, heights) in order of height."""
    rows = weighed.shape[0]
    if rows < 2:
        return np.empty((0, 2), np.int64), np.empty(0)
    # Each pair once: the square of them would take twice the memory, and its indices four times.
    apart, done, turned = np.empty(rows * (rows - 1) // 2), 0, csr_array(weighed.T)
    for first in range(0, rows, _AT_ONCE):
        for i, like in enumerate((weighed[first : first + _AT_ONCE] @ turned).toarray(), first + 1):
            apart[done : done + rows - i] = like[i:]
            done += rows - i
    np.subtract(1.0, apart, out=apart)
    # Equal in exact arithmetic must be equal here, whatever the BLAS does.
    np.round(apart, 12, out=apart)
    np.clip(apart, 0.0, None, out=apart)
    tree = linkage(apart, "average")
    return tree[:, :2].astype(np.int64), tree[:, 2]


def _cut(leaves: int, children: Ints, heights: Floats, cut: float) -> Ints:
    """Which group each leaf is in when merges above `cut` are undone."""
    top = np.arange(leaves + len(children))
    for i in range(len(children) - 1, -1, -1):
        if heights[i] <= cut:
            top[children[i]] = top[leaves + i]
    groups: Ints = np.unique(top[:leaves], return_inverse=True)[1].astype(np.int64)
    return groups
