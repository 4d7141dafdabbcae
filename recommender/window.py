"""Was the window long enough: for the cluster and for each workload, one word and the reasons.

Activity comes in runs, so hourly bins flatter: an edge that was active for six hours of one day
looks well supported. Everything is computed at 1 h, 6 h and 1 d; the worst figure counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from recommender import incidence
from recommender.enough import (
    Estimate,
    Thresholds,
    Unrun,
    Word,
    cluster_word,
    hour_start,
    not_called,
    not_run,
    silent,
    workload_word,
)
from recommender.frames import records
from recommender.gaps import Gaps
from recommender.hours import pairs
from recommender.incidence import Ints
from recommender.inventory import Inventory
from recommender.roles import named_ends, sorted_set

WIDTHS_H = (1, 6, 24)
_DRAWS = 200


@dataclass(frozen=True)
class Window:
    """What the window can and cannot say.

    `split` is the share of edge-days on the last days that rules mined from the days before each
    would have denied, null where there are too few days; `origins` the share of every day but the
    first.
    `longest_period_days` is the longest period of a Poisson source that the window excludes with
    95 % confidence. `workloads` has one row a workload: `workload`, `edges`, `days`, `uniques`,
    `coverage` (daily), `word`, `why`.
    """

    first: datetime | None
    last: datetime | None
    estimates: tuple[Estimate, ...]
    correlated: bool
    split: float | None
    origins: tuple[float, ...]
    longest_period_days: float
    unrun: tuple[str, ...]
    unseen: tuple[str, ...]
    silences: tuple[str, ...]
    gaps: Gaps
    word: Word
    workloads: pd.DataFrame

    @property
    def foretold(self) -> float:
        """Share of the next day's edges that the policies would deny: the worst that is known."""
        return max([1 - e.coverage for e in self.estimates] + [self.split or 0.0])

    @property
    def worst(self) -> Estimate | None:
        """The estimate with the least coverage."""
        return min(self.estimates, key=lambda e: (e.coverage, -e.width_h), default=None)


def window(
    edges: pd.DataFrame,
    sightings: pd.DataFrame,
    inventory: Inventory,
    thresholds: Thresholds | None = None,
    *,
    gaps: Sequence[str] = (),
    told: Gaps | None = None,
) -> Window:
    """Judge the window.

    Args:
        edges: what `classify.classified` returns; those of class `wanted` are judged.
        sightings: one row per (`edge`: position in `edges`, `hour`: hours since the epoch).
        inventory: its CronJobs and Services are what may not have been seen.
        thresholds: the defaults unless given.
        gaps: one sentence for each hole in the log that is known otherwise.
        told: the gaps that the log itself tells of; none unless given.
    """
    limits, told = thresholds or Thresholds(), told or Gaps()
    hours = np.unique(sightings["hour"].to_numpy(np.int64))
    wanted = np.flatnonzero((edges["class"] == "wanted").to_numpy())
    chosen = sightings[sightings["edge"].isin(wanted)]
    written, number = _as_written(edges.iloc[wanted])
    edge = number[np.searchsorted(wanted, chosen["edge"].to_numpy(np.int64))]
    hour = chosen["hour"].to_numpy(np.int64)
    estimates = tuple(estimate(edge, hour, hours, width) for width in WIDTHS_H) if len(hour) else ()
    split = denied_share(edge, hour, limits.split_days)
    new, every = rolling_origin(edge, hour)
    silences = (*silent(hours), *gaps)
    first, last = (hour_start(hours[0]), hour_start(hours[-1] + 1)) if len(hours) else (None, None)
    unrun = tuple(not_run(inventory, first, last))
    days = (int(hours[-1] - hours[0]) + 1) // 24 if len(hours) else 0
    word = cluster_word(estimates, days, split, silences, unrun, last, limits, told)
    table = _workloads(written, edge, hour, inventory, unrun, last, days, limits)
    return Window(
        first=first,
        last=last,
        estimates=estimates,
        correlated=correlated([e.uniques for e in estimates], limits.differ),
        split=split,
        origins=tuple(np.round(new / every, 6).tolist()),
        longest_period_days=round(days / 3, 2),  # rule of three: rate <= 3 / W at 95 %
        unrun=tuple(why for _, why, _ in unrun),
        unseen=tuple(not_called(inventory, edges)),
        silences=silences,
        gaps=told,
        word=word,
        workloads=table,
    )


def _as_written(wanted: pd.DataFrame) -> tuple[pd.DataFrame, Ints]:
    """Edges at the level at which policies are written, and the number there of each wanted one.

    The ports of a client's run at a server are one edge.
    """
    within = np.flatnonzero(wanted["run"].notna().to_numpy())
    first = np.arange(len(wanted))
    found: dict[tuple[object, ...], int] = {}
    ends = (named_ends(wanted.iloc[within], role) for role in ("client", "server"))
    said = (wanted[name].iloc[within] for name in ("protocol", "run"))
    for i, key in zip(within, zip(*ends, *said, strict=True), strict=True):
        first[i] = found.setdefault(key, int(i))
    kept, number = np.unique(first, return_inverse=True)
    return wanted.iloc[kept], number.astype(np.int64)


def estimate(edge: Ints, hour: Ints, watched: Ints, width_h: int) -> Estimate:
    """All estimators at one bin width.

    Args:
        edge: edge of each sighting, numbered from 0 without gaps.
        hour: hour of each sighting.
        watched: all hours in which anything was logged; only they make bins.
        width_h: hours a bin.
    """
    edge, held = pairs(edge, hour // width_h)
    y = np.bincount(edge).astype(np.int64)
    bins = len(sorted_set(watched // width_h))
    unique_bins = len(sorted_set(held[y[edge] == 1]))
    rare_bins = len(sorted_set(held[y[edge] <= 10]))
    try:
        ice: float | None = incidence.ice(y, rare_bins)
    except ValueError:
        ice = None
    covered = incidence.coverage(y, bins)
    return Estimate(
        width_h=width_h,
        bins=bins,
        edges=len(y),
        uniques=int((y == 1).sum()),
        duplicates=int((y == 2).sum()),
        chao2=incidence.chao2(y, bins),
        ice=ice,
        coverage=covered,
        low=_lower(edge, held * width_h // 24, covered, watched, width_h),
        novelty=incidence.novelty(unique_bins, bins),
        days_needed=incidence.bins_needed(y, bins) * width_h / 24,
    )


def _lower(edge: Ints, day: Ints, covered: float, watched: Ints, width_h: int) -> float:
    """Lower 95 % limit of coverage when whole days are drawn anew.

    A day drawn twice doubles its unique edges, which hides them; so the draws are centred on the
    estimate. The generator is fixed: the same input gives the same limit.
    """
    days, bins_of = np.unique(np.unique(watched // width_h) * width_h // 24, return_counts=True)
    if len(days) < 2:
        return 0.0
    place = np.searchsorted(days, day)
    table = csr_array((np.ones(len(edge)), (edge, place)), shape=(int(edge.max()) + 1, len(days)))
    weights = np.random.default_rng(0).multinomial(
        len(days), np.full(len(days), 1 / len(days)), _DRAWS
    )
    drawn = []
    for weight in weights:
        y = (table @ weight).astype(np.int64)
        drawn.append(incidence.coverage(y[y > 0], int(bins_of @ weight)))
    low = covered + float(np.quantile(drawn, 0.025) - np.mean(drawn))
    return min(max(low, 0.0), covered)


def correlated(uniques: Sequence[int], differ: float) -> bool:
    """Whether activity comes in runs, so that narrow bins flatter.

    Were bins independent, an edge seen on one day only would nearly always be one seen in one hour
    only. (The coverages themselves differ between widths even then.)

    Args:
        uniques: edges seen in one bin only, at each width.
        differ: by how many times these may differ.
    """
    return bool(uniques) and max(uniques) + 1 > differ * (min(uniques) + 1)


def rolling_origin(edge: Ints, hour: Ints) -> tuple[Ints, Ints]:
    """For each day but the first: its edges that no earlier day showed, and all its edges."""
    days, day = np.unique(hour // 24, return_inverse=True)
    edge, day = pairs(edge, day.astype(np.int64))
    _, starts = np.unique(edge, return_index=True)
    new = np.bincount(day[starts], minlength=len(days))
    return new[1:], np.bincount(day, minlength=len(days))[1:]


def denied_share(edge: Ints, hour: Ints, held_days: int) -> float | None:
    """Share of edge-days on the last days that rules mined from all days before would deny."""
    new, every = rolling_origin(edge, hour)
    if len(every) < held_days:
        return None
    return float(new[-held_days:].sum() / every[-held_days:].sum())


def _workloads(
    wanted: pd.DataFrame,
    edge: Ints,
    hour: Ints,
    inventory: Inventory,
    unrun: Sequence[Unrun],
    last: datetime | None,
    watched_days: int,
    limits: Thresholds,
) -> pd.DataFrame:
    """One row a workload, seen or not, by name; daily bins, the days on which it was seen."""
    on, day = pairs(edge, hour // 24)
    y = np.bincount(on, minlength=len(wanted))
    parts = []
    for role in ("client", "server"):
        inside = (wanted[f"{role}_type"] == "workload").to_numpy()
        named = named_ends(wanted, role)[inside]
        parts.append(pd.DataFrame({"workload": named, "edge": np.flatnonzero(inside)}))
    ends = pd.concat(parts).drop_duplicates()
    ends["y"] = y[ends["edge"]]
    found = ends.groupby("workload").agg(
        edges=("y", "size"),
        uniques=("y", lambda v: int((v == 1).sum())),
        duplicates=("y", lambda v: int((v == 2).sum())),
        total=("y", "sum"),
    )
    days = ends.merge(pd.DataFrame({"edge": on, "day": day}), on="edge")
    found["days"] = days.groupby("workload")["day"].nunique()
    # The log shows pods on the host network as their node.
    own = (k for k, workload in inventory.workloads.items() if not workload.host_network)
    names = sorted({f"{k.namespace}/{k.kind}/{k.name}" for k in own} | {*found.index})
    found = found.reindex(names, fill_value=0)
    bins = len(np.unique(hour // 24))
    late = {f"{k.namespace}/{k.kind}/{k.name}": (why, run) for k, why, run in unrun}
    rows = []
    for name, row in zip(found.index, records(found), strict=True):
        covered = incidence.coverage_of(row["uniques"], row["duplicates"], row["total"], bins)
        word = workload_word(row, covered, watched_days, late.get(str(name)), last, limits)
        until = None if word.until is None else f"{word.until:%Y-%m-%dT%H:%MZ}"
        kept = (name, row["edges"], row["days"], row["uniques"], round(covered, 6))
        rows.append((*kept, word.word, "; ".join(word.why), until))
    columns = ["workload", "edges", "days", "uniques", "coverage", "word", "why", "until"]
    return pd.DataFrame(rows, columns=columns)
