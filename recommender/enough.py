"""Was it watched long enough, in one word: `ready`, `wait` (until when) or `can't tell` (why)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd

from recommender.cron import schedule
from recommender.gaps import Gaps
from recommender.incidence import Chao2, Ints, Novelty
from recommender.inventory import Inventory, WorkloadKey
from recommender.roles import named_ends

_SILENCE_H = 6  # nothing logged for so long is named


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a window is long enough: choices, not facts (methods.md section 3, stop rule).

    Two days say little of a share as small as `denied`, so seven are held out, each against all
    days before it.

    `coverage` and its lower limit `lower`, `days` with traffic, `denied` share of edge-days on
    the last `split_days`, and how many times the edges seen in one bin only may `differ` between
    widths before the hourly figure is withheld (independent bins stay below 1.3 in simulation);
    `missed` the share of the traffic that gaps in the log may have hidden.
    """

    coverage: float = 0.99
    lower: float = 0.98
    days: int = 14
    denied: float = 0.001
    split_days: int = 7
    differ: float = 2.0
    missed: float = 0.01


@dataclass(frozen=True, slots=True)
class Estimate:
    """What bins of `width_h` hours say: `edges` seen in `bins` bins that hold any traffic.

    `uniques` and `duplicates` were seen in one and two bins; `coverage` is the share of future
    edge-bins that the seen edges make up, `low` its lower limit when days are drawn anew; `ice` is
    null where undefined; `days_needed` is how long until 99 % of the Chao2 bound is seen.
    """

    width_h: int
    bins: int
    edges: int
    uniques: int
    duplicates: int
    chao2: Chao2
    ice: float | None
    coverage: float
    low: float
    novelty: Novelty
    days_needed: float


@dataclass(frozen=True, slots=True)
class Word:
    """`ready`, `wait` (until when) or `can't tell`, and why: one sentence a reason."""

    word: str
    why: tuple[str, ...]
    until: datetime | None = None


def hour_start(hour: int) -> datetime:
    """The instant at which an hour since the epoch begins."""
    return datetime.fromtimestamp(int(hour) * 3600, UTC)


def silent(hours: Ints) -> Iterator[str]:
    """A sentence for each stretch of hours in which nothing was logged."""
    for before, after in pairwise(hours):
        if after - before > _SILENCE_H:
            yield (
                f"nothing was logged from {hour_start(before + 1):%Y-%m-%dT%H:%MZ} to "
                f"{hour_start(after):%Y-%m-%dT%H:%MZ}"
            )


def quiet_nodes(reports: pd.DataFrame, inventory: Inventory) -> Iterator[str]:
    """A sentence for each stretch in which a node reported nothing, up to the end of the window.

    Nodes that the inventory no longer has may have gone for good, so they are passed over.

    Args:
        reports: what `edges.reports` returns.
        inventory: of the same cluster.
    """
    hours = pd.to_datetime(reports["hour"], utc=True).to_numpy("datetime64[h]").astype(np.int64)
    names = reports["node"].to_numpy(object)
    end = int(hours.max(initial=0)) + 1
    for node in sorted(set(names)):
        # A log may put the cluster's name before the node's.
        if inventory.nodes and str(node).rpartition("/")[2] not in inventory.nodes:
            continue
        mine = np.unique(hours[names == node])
        for before, after in pairwise([*mine, end]):
            if after - before > _SILENCE_H:
                yield (
                    f"node {node} reported nothing from {hour_start(before + 1):%Y-%m-%dT%H:%MZ} "
                    f"to {hour_start(after):%Y-%m-%dT%H:%MZ}"
                )


Unrun = tuple[WorkloadKey, str, datetime | None]


def not_run(inventory: Inventory, first: datetime | None, last: datetime | None) -> Iterator[Unrun]:
    """CronJobs that no run of the window shows, each with a sentence and its next run."""
    if first is None or last is None:
        return
    for key, workload in inventory.workloads.items():
        if workload.schedule is None:
            continue
        try:
            times = schedule(workload.schedule)
        except ValueError as error:
            yield key, f"CronJob {key}: its schedule cannot be read ({error})", None
            continue
        run = times.next_after(first - timedelta(minutes=1))
        if run is None or run >= last:
            when = "never" if run is None else f"on {run:%Y-%m-%d at %H:%M} UTC"
            yield key, f"CronJob {key} did not run in the window; it runs next {when}", run


def not_called(inventory: Inventory, edges: pd.DataFrame) -> Iterator[str]:
    """Service ports whose backends nobody was seen to call."""
    called = set(zip(named_ends(edges, "server"), edges["protocol"], edges["port"], strict=True))
    for service in inventory.services.values():
        for protocol, port, target, _ in service.ports:
            found = False
            backends = inventory.backends(service)
            for pod in backends:
                key = pod.workload
                numbers = [n for p, n, name in pod.ports if p == protocol and name == target]
                number = target if isinstance(target, int) else next(iter(numbers), None)
                found |= (f"{key.namespace}/{key.kind}/{key.name}", protocol, number) in called
            if backends and not found:
                yield f"Service {service.namespace}/{service.name} {protocol} {port}"


def cluster_word(
    estimates: Sequence[Estimate],
    days: int,
    split: float | None,
    silences: Sequence[str],
    unrun: Sequence[Unrun],
    last: datetime | None,
    limits: Thresholds,
    told: Gaps,
) -> Word:
    """`can't tell` for what waiting does not mend, else `wait` for the longest wait, else ready."""
    if not estimates or last is None:
        return Word("can't tell", ("no wanted edge was seen",))
    worst = min(estimates, key=lambda e: (e.coverage, -e.width_h))
    unsure, waits = list(silences), []
    if told.missed > limits.missed:
        asked = f"at most {limits.missed:.1%} is asked for"
        unsure += [f"gaps in the log may hide {told.missed:.1%} of the traffic, {asked}"]
        unsure += told.lines
    unsure += [why for _, why, run in unrun if run is None]
    waits += [(run + timedelta(hours=1), why) for _, why, run in unrun if run is not None]
    if days < limits.days:
        until = last + timedelta(days=limits.days - days)
        waits.append((until, f"{days} days were watched, {limits.days} are asked for"))
    for value, limit, what in (
        (worst.coverage, limits.coverage, "coverage"),
        (worst.low, limits.lower, "the lower limit of coverage"),
    ):
        if value < limit:
            more = max(worst.days_needed, 1.0)
            why = f"{what} is {value:.4f} at {worst.width_h} h, {limit} is asked for"
            if more <= days:
                waits.append((last + timedelta(days=float(np.ceil(more))), why))
            else:
                unsure.append(f"{why}, and the window is too short to say when it will be reached")
    if split is not None and split > limits.denied:
        until = last + timedelta(days=limits.split_days)
        asked = f"at most {limits.denied:.1%} is asked for"
        waits.append((until, f"{split:.2%} of the last days' edges were new, {asked}"))
    if unsure:
        return Word("can't tell", (*unsure, *(why for _, why in waits)))
    if waits:
        return Word("wait", tuple(why for _, why in waits), max(until for until, _ in waits))
    return Word("ready", (f"coverage {worst.coverage:.4f} over {days} days",))


def workload_word(
    row: Mapping[str, int],
    covered: float,
    days: int,
    late: tuple[str, datetime | None] | None,
    last: datetime | None,
    limits: Thresholds,
) -> Word:
    """The word on one workload, from its row of `Window.workloads`."""
    if late is not None:
        why, run = late
        return Word("can't tell" if run is None else "wait", (why,), run)
    if not row["edges"] or last is None:
        return Word("can't tell", ("it was never seen",))
    if days < limits.days:
        until = last + timedelta(days=limits.days - days)
        return Word("wait", (f"{days} days were watched, {limits.days} are asked for",), until)
    if covered < limits.coverage:
        why = f"{row['uniques']} of {row['edges']} edges were seen on one day only"
        return Word("can't tell", (why,))
    return Word("ready", (f"coverage {covered:.4f} over {days} days",))
