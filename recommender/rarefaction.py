"""How many edges so many days would have shown: the curve flattens where a window is enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recommender.incidence import Chao2, Ints, chao2, extrapolated, rarefied, rarefied_error

_Z = 1.96
_MOST_POINTS = 60


@dataclass(frozen=True, slots=True)
class Point:
    """What `days` days show: `edges` on average, with a 95 % interval.

    `foretold` points lie beyond the window; their interval is null.
    """

    days: int
    edges: float
    low: float | None
    high: float | None
    foretold: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """Points by `days`, up to twice the window, and the least number of edges that exist."""

    points: tuple[Point, ...]
    bound: Chao2


def curve(edges: pd.DataFrame, sightings: pd.DataFrame) -> Curve | None:
    """The rarefaction curve of the wanted edges over days; null where fewer than two days have any.

    Args:
        edges: what `classify.classified` returns; those of class `wanted` count.
        sightings: one row per (`edge`: position in `edges`, `hour`: hours since the epoch).
    """
    wanted = np.flatnonzero((edges["class"] == "wanted").to_numpy())
    chosen = sightings[sightings["edge"].isin(wanted)]
    days = len(np.unique(sightings["hour"].to_numpy(np.int64) // 24))
    if days < 2 or not len(chosen):
        return None
    day = chosen["hour"].to_numpy(np.int64) // 24
    pairs = np.unique(np.stack([chosen["edge"].to_numpy(np.int64), day]), axis=1)
    y = np.unique(pairs[0], return_counts=True)[1].astype(np.int64)
    bound = chao2(y, days)
    steps = np.unique(np.linspace(1, days, min(days, _MOST_POINTS)).round().astype(int))
    points = [_seen(y, days, int(taken), bound) for taken in steps]
    beyond = np.unique(np.linspace(1, days, min(days, _MOST_POINTS // 2)).round().astype(int))
    points += [
        Point(days + int(more), extrapolated(y, days, int(more)), None, None, foretold=True)
        for more in beyond
    ]
    return Curve(tuple(points), bound)


def _seen(y: Ints, days: int, taken: int, bound: Chao2) -> Point:
    edges = rarefied(y, days, taken)
    spread = _Z * rarefied_error(y, days, taken, bound.edges)
    return Point(taken, edges, max(edges - spread, 0.0), edges + spread, foretold=False)
