"""Shadow mode: what policies would have done to the flows since a moment, and whether to enforce.

One word a workload, and one for all:

    enforce      it was watched long enough, and nothing wanted would have been denied
    hold         wanted connections would have been denied
    can't tell   it was not watched long enough since, or some connection cannot be judged
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd

from recommender.directions import turned
from recommender.evaluate import Evaluator
from recommender.frames import Row, workload_of
from recommender.hours import folded, resolved
from recommender.inventory import WorkloadKey
from recommender.replay import Replayed
from recommender.report.lines import many
from recommender.watch import Watched
from recommender.window import Window

ENFORCE, HOLD, CANNOT_TELL = "enforce", "hold", "can't tell"
_AGAINST = ("deny", "default deny")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The word on one workload, why, and what would have been denied at it."""

    workload: str
    word: str
    why: tuple[str, ...]
    denied: tuple[Replayed, ...] = ()


def since(watched: Watched, moment: datetime) -> Watched:
    """What was watched from the first whole hour after a moment on.

    Counts, hours and days are those of the later flows; the class of an edge is the one that all
    flows give it.
    """
    start = -int(-moment.timestamp() // 3600)
    whole = watched.meaning
    # Who is behind a Service, and which end began, all flows tell together.
    hourly = turned(resolved(watched.hourly, watched.inventory), watched.inventory)
    later = hourly[_hours(hourly) >= start].reset_index(drop=True)
    told = folded(later)
    kept = np.unique(whole.seen.loc[whole.seen["hour"] >= start, "edge"].to_numpy(np.int64))
    assert len(told.edges) == len(kept), "both are sorted by the columns of an edge"
    judged = [name for name in whole.edges.columns if name not in told.edges.columns]
    return replace(
        watched,
        hourly=later,
        reports=watched.reports[_hours(watched.reports) >= start],
        gaps=[row for row in watched.gaps if _ends_after(row, moment)],
        meaning=replace(
            whole,
            edges=told.edges.assign(
                **{name: whole.edges[name].to_numpy()[kept] for name in judged}
            ),
            seen=told.seen,
        ),
    )


def _ends_after(gap: Row, moment: datetime) -> bool:
    end = gap["end_time"] or gap["time"]
    return end is None or end >= moment


def _hours(rows: pd.DataFrame) -> np.ndarray:
    return pd.to_datetime(rows["hour"], utc=True).to_numpy("datetime64[h]").astype(np.int64)


def judgements(
    judge: Evaluator, replayed: Sequence[Replayed], watched_since: Window
) -> list[Judgement]:
    """The word on each workload that the policies isolate, by name.

    Args:
        judge: of the policies, as if enforcing.
        replayed: wanted edges since.
        watched_since: the window of the same flows.
    """
    denied, unknown = _at(replayed, allow=False), _at(replayed, allow=None)
    words = {row["workload"]: row for row in watched_since.workloads.to_dict("records")}
    found = []
    for key in sorted(_isolated(judge), key=str):
        name = f"{key.namespace}/{key.kind}/{key.name}"
        row = words.get(name, {"word": CANNOT_TELL, "why": "it was never seen"})
        if denied[key]:
            why = f"{many(len(denied[key]), 'wanted edge')} would have been denied"
            found.append(Judgement(name, HOLD, (why,), tuple(denied[key])))
        elif unknown[key]:
            why = f"of {many(len(unknown[key]), 'wanted edge')} it cannot be told"
            found.append(Judgement(name, CANNOT_TELL, (why,)))
        else:
            word = ENFORCE if row["word"] == "ready" else CANNOT_TELL
            found.append(Judgement(name, word, (str(row["why"]),)))
    return found


def overall(judged: Sequence[Judgement], watched_since: Window, unplaced: int) -> Judgement:
    """The word on all of them together.

    Args:
        judged: what `judgements` returns.
        watched_since: the window of the same flows.
        unplaced: denied wanted edges, of which `judged` may not know the workload.
    """
    counts = [sum(one.word == word for one in judged) for word in (ENFORCE, HOLD, CANNOT_TELL)]
    some = many(counts[0], "workload")
    why = f"{some} may be enforced, {counts[1]} not, {counts[2]} cannot be told"
    if not judged:
        return Judgement("all", CANNOT_TELL, ("these policies isolate no workload",))
    if counts[1] or unplaced:
        return Judgement("all", HOLD, (why,))
    short = () if watched_since.word.word == "ready" else watched_since.word.why
    return Judgement("all", CANNOT_TELL if counts[2] or short else ENFORCE, (why, *short))


def _isolated(judge: Evaluator) -> set[WorkloadKey]:
    return {
        pod.workload
        for policy in judge.policies
        if policy.isolates
        for pod in judge.selects(policy)
        if not pod.host_network
    }


def _at(replayed: Sequence[Replayed], *, allow: bool | None) -> dict[WorkloadKey, list[Replayed]]:
    """The edges of one verdict, by the workload whose policies make it so."""
    found: dict[WorkloadKey, list[Replayed]] = defaultdict(list)
    for one in replayed:
        if one.verdict.allow is allow:
            for key in _deciding(one):
                found[key].append(one)
    return found


def _deciding(one: Replayed) -> Iterator[WorkloadKey]:
    wanted = _AGAINST if one.verdict.allow is False else ("unknown",)
    ways = {why.direction for why in one.verdict.because if why.action in wanted}
    for direction in sorted(ways):
        key = workload_of(one.row, "client" if direction == "egress" else "server")
        if key is not None:
            yield key
