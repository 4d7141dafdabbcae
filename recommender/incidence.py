"""How many edges were never seen: estimators on incidence, the number of bins that hold an edge.

Never on counts of log lines: a burst of forty packets hides that it happened once. Notation of
methods.md section 3: T bins, y_i the bins that hold edge i, S edges, U = sum of y_i, Q_j the edges
with y_i = j.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln
from scipy.stats import beta

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_RARE = 10  # ICE: an edge in so many bins or fewer is rare (Lee & Chao 1994)
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Chao2:
    """A lower bound on the edges that exist: never the number of edges. `se` is its error."""

    edges: float
    se: float
    low: float
    high: float


def unseen(y: Ints, bins: int) -> float:
    """Edges that exist and were not seen, at least (Chao 1987, incidence form)."""
    q1, q2 = int((y == 1).sum()), int((y == 2).sum())
    share = (bins - 1) / bins if bins else 0.0
    return share * (q1 * q1 / (2 * q2) if q2 else q1 * (q1 - 1) / 2)


def chao2(y: Ints, bins: int) -> Chao2:
    """Edges that exist, at least, with a log-normal 95 % interval.

    Source: Chao 1987; Colwell's EstimateS appendix B for the variances.
    """
    seen, more = len(y), unseen(y, bins)
    if more <= 0:
        return Chao2(float(seen), 0.0, float(seen), float(seen))
    q1, q2 = int((y == 1).sum()), int((y == 2).sum())
    a = (bins - 1) / bins
    if q2:
        r = q1 / q2
        variance = q2 * (a / 2 * r**2 + a**2 * r**3 + a**2 / 4 * r**4)
    else:
        variance = a * q1 * (q1 - 1) / 2 + a**2 * q1 * (2 * q1 - 1) ** 2 / 4
        variance = max(variance - a**2 * q1**4 / (4 * (seen + more)), 0.0)
    spread = math.exp(_Z * math.sqrt(math.log(1 + variance / more**2)))
    return Chao2(seen + more, math.sqrt(variance), seen + more / spread, seen + more * spread)


def coverage(y: Ints, bins: int) -> float:
    """Share of future edge-bins that the seen edges make up (Chao & Jost 2012, equation 4a).

    1 means that no edge was unique, not that none is missing.
    """
    return coverage_of(int((y == 1).sum()), int((y == 2).sum()), int(y.sum()), bins)


def coverage_of(q1: float, q2: float, total: float, bins: int) -> float:
    """`coverage` from Q1, Q2, U and T."""
    if q1 == 0 or total == 0:
        return 1.0
    if q2 > 0:
        kept = (bins - 1) * q1 / ((bins - 1) * q1 + 2 * q2)
    else:
        less = (bins - 1) * (q1 - 1)
        kept = less / (less + 2)
    return 1 - q1 / total * kept


def rarefied(y: Ints, bins: int, taken: int) -> float:
    """Edges that `taken` of the bins would have shown, on average: exact."""
    return float(len(y) - _missed(y, bins, bins, taken).sum())


def rarefied_error(y: Ints, bins: int, taken: int, exist: float) -> float:
    """Standard error of `rarefied` as the mean of any `taken` bins where `exist` edges do.

    Not of those of the window alone, so it does not fall to 0 at its end; what one such stretch
    shows scatters more.
    Source: Colwell, Mao & Chang 2004, equation 6.
    """
    shown = 1 - _missed(y, bins, bins, taken)
    return math.sqrt(max(float((shown**2).sum() - shown.sum() ** 2 / exist), 0.0))


def rarefied_coverage(y: Ints, bins: int, taken: int) -> float:
    """Coverage that `taken` bins, fewer than all, would have had, on average."""
    return float(1 - (y / y.sum() * _missed(y, bins, bins - 1, taken)).sum())


def _missed(y: Ints, bins: int, of: int, taken: int) -> Floats:
    """C(bins - y, taken) / C(of, taken), 0 where an edge cannot be missed."""
    free = bins - y
    possible = free >= taken
    left = np.where(possible, free, taken).astype(float)
    logs = gammaln(left + 1) - gammaln(left - taken + 1) - gammaln(of + 1) + gammaln(of - taken + 1)
    return np.where(possible, np.exp(logs), 0.0)


def extrapolated(y: Ints, bins: int, more: float) -> float:
    """Edges that `more` further bins would bring the number seen to; trust it up to `bins` more.

    Source: Chao et al. 2009, equation 12.
    """
    q1, hidden = int((y == 1).sum()), unseen(y, bins)
    if hidden <= 0:
        return float(len(y))
    return float(len(y) + hidden * (1 - (1 - q1 / (bins * hidden + q1)) ** more))


def bins_needed(y: Ints, bins: int, share: float = 0.99) -> float:
    """Further bins until `share` of the Chao2 bound is seen; 0 where it is seen already.

    Source: Chao et al. 2009, equation 15.
    """
    q1, hidden = int((y == 1).sum()), unseen(y, bins)
    left = share * (len(y) + hidden) - len(y)
    if hidden <= 0 or left <= 0:
        return 0.0
    return math.log(1 - left / hidden) / math.log(1 - q1 / (bins * hidden + q1))


def ice(y: Ints, rare_bins: int) -> float:
    """Edges that exist by incidence coverage (classic form, not SpadeR's); Chao2 where undefined.

    Args:
        y: bins that hold each edge.
        rare_bins: bins that hold at least one edge seen in ten bins or fewer.

    Raises:
        ValueError: all rare edges are unique, so it is not defined.
    """
    rare = y[y <= _RARE]
    total, q1 = int(rare.sum()), int((rare == 1).sum())
    if not len(rare):
        return float(len(y))
    if q1 == total:
        raise ValueError("all rare edges are unique")
    covered = 1 - q1 / total
    spread = 0.0
    if rare_bins > 1:
        pairs = float((rare * (rare - 1)).sum())
        factor = len(rare) / covered * rare_bins / (rare_bins - 1)
        spread = max(factor * pairs / total**2 - 1, 0.0)
    return len(y) - len(rare) + len(rare) / covered + q1 / covered * spread


@dataclass(frozen=True, slots=True)
class Novelty:
    """The chance that the next bin holds an edge never seen, with a 95 % interval."""

    chance: float
    low: float
    high: float


def novelty(bins_with_unique: int, bins: int) -> Novelty:
    """Leave-one-bin-out: the share of bins that held an edge which no other bin holds.

    The interval is Clopper-Pearson's, an approximation, for bins are not quite independent.
    """
    k, n = bins_with_unique, bins
    if n == 0:
        return Novelty(1.0, 0.0, 1.0)
    low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
    high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    return Novelty(k / n, low, high)
