"""What roles, outliers and the window are worth, on made traffic whose truth is known.

`worlds.py` and `attacks.py` make the traffic, `baselines.py` has the methods compared with.

    python -m benchmarks.patterns [--write] [roles|outliers|window|shuffles|scale] ...

`--write` puts the tables, all but that of shuffles, into `docs/statistics.md`.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from benchmarks.attacks import ATTACKS, HOURS, Watched, hourly, watched
from benchmarks.baselines import cloudcluster, hdbscan, isolation_forest, jaccard
from benchmarks.shuffles import shuffles_table
from benchmarks.worlds import KINDS, World, world
from recommender.classify import classified
from recommender.hours import CLIENT, SERVER, folded, resolved
from recommender.inventory import Inventory
from recommender.moves import moved
from recommender.outliers import judged
from recommender.patterns import refined, roles, settled
from recommender.roles import Ints
from recommender.runs import runs
from recommender.window import window

# Never looked at while the method was made: roles were made while looking at seeds 1 to 20, 101 to
# 105, 201 to 203, 501 to 503, 601 to 603, 701 to 703, 801 to 803 and 901 to 903, outliers at 1 to
# 25, 201 to 203, 301 to 305, 401 to 405 and 501 to 535, the window at 0 to 11.
ROLE_SEEDS = (911, 912, 913)
OUTLIER_SEEDS = (541, 542, 543, 544, 545)
PAGE = Path(__file__).parents[1] / "docs" / "statistics.md"
NOISE = ((1.0, 0.0), (0.9, 0.0), (0.8, 0.02))


def ours(made: World) -> Ints:
    return refined(made.calls).labels


def best_reachable(made: World) -> Ints:
    """The same search started from the truth: what the missing calls leave to be found."""
    return settled(made.calls, made.truth)[1]


def oracle(made: World) -> Ints:
    """Each end placed by what it does, told the true role of every other.

    Shares of the true roles stand in for their rates, and ends are placed one by one: a measure of
    what the calls tell of an end, not a bound that nothing can pass.
    """
    return moved(made.calls, made.truth)


METHODS = {
    "roles found": ours,
    "oracle": oracle,
    "from the truth": best_reachable,
    "Jaccard": lambda made: jaccard(made.calls),
    "CloudCluster-like": lambda made: cloudcluster(made.calls),
    "HDBSCAN": lambda made: hdbscan(made.calls),
}


def roles_table() -> Iterator[str]:
    """Adjusted Rand indices, means of all seeds, as `docs/statistics.md` has them."""
    yield f"| traffic | shown, added | {' | '.join(METHODS)} |"
    yield "| --- " * (2 + len(METHODS)) + "|"
    for kind in KINDS:
        for shown, added in NOISE:
            worlds = [world(kind, seed, shown=shown, added=added) for seed in ROLE_SEEDS]
            scores = [
                float(np.mean([adjusted_rand_score(made.truth, method(made)) for made in worlds]))
                for method in METHODS.values()
            ]
            yield f"| {kind} | {shown:.0%}, {added:.0%} | {' | '.join(_cells(scores))} |"


def _cells(scores: Sequence[float]) -> list[str]:
    """The figures of one row, the best method in bold; the two that know the truth are none."""
    best = max((scores[0], *scores[3:]))
    return [
        f"**{one:.3f}**" if one == best and i not in (1, 2) else f"{one:.3f}"
        for i, one in enumerate(scores)
    ]


def write(name: str, lines: Iterable[str], page: Path = PAGE) -> None:
    """Put a table where the page has its marks; all else on the page stays."""
    text = page.read_text()
    before, mark, rest = text.partition(f"<!-- {name}: written by benchmarks/patterns.py -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    if not mark or not end:
        raise SystemExit(f"{page}: no marks for the table {name}; put them where it belongs")
    page.write_text(before + mark + "".join(f"{line}\n" for line in lines) + end + after)


# --- outliers ----------------------------------------------------------------------------------


def outliers_table() -> Iterator[str]:
    """By traffic: what would be learnt of attacks, what honest waits, AUC and the rival's."""
    yield (
        "| traffic | scans learnt | one-offs learnt | beacons learnt | honest that wait, most of a"
        f" seed | {' | '.join(f'AUC {what} (rival)' for what in ATTACKS)} |"
    )
    yield "| --- " * (5 + len(ATTACKS)) + "|"
    for kind in KINDS:
        cells: dict[str, list[float]] = defaultdict(list)
        for seed in OUTLIER_SEEDS:
            _judge(watched(kind, seed), cells)
        taken = [
            f"{sum(cells[w + ' learned']):.0f} of {sum(cells[w]):,.0f}"
            for w in ("scan", "one-off", "beacon")
        ]
        share = sum(cells["honest stopped"]) / sum(cells["honest"])
        most = max(np.array(cells["honest stopped"]) / np.array(cells["honest"]))
        auc = [
            f"{np.mean(cells['auc ' + w]):.3f} ({np.mean(cells['forest ' + w]):.3f})"
            for w in ATTACKS
        ]
        row = " | ".join([kind, *taken, f"{share:.2%}, {most:.2%}", *auc])
        yield f"| {row} |"


def _judge(seen: Watched, cells: dict[str, list[float]]) -> None:
    learnt = roles(seen.edges[seen.edges["hours"] > 1])
    found = judged(seen.edges, seen.sightings, learnt.of)
    truth = np.array(seen.truth, object)
    learned = (found["class"] == "wanted").to_numpy()
    for word, which in (
        ("scan", np.isin(truth, ATTACKS[:2])),
        ("one-off", truth == "one-off"),
        ("beacon", truth == "beacon"),
    ):
        cells[word].append(which.sum())
        cells[f"{word} learned"].append((which & learned).sum())
    honest = truth == "honest"
    cells["honest"].append(honest.sum())
    cells["honest stopped"].append((honest & ~learned).sum())
    score = found["score"].to_numpy(float)
    rival = isolation_forest(seen.edges)
    for what in ATTACKS:
        chosen = honest | (truth == what)
        cells[f"auc {what}"].append(roc_auc_score(truth[chosen] == what, score[chosen]))
        cells[f"forest {what}"].append(roc_auc_score(truth[chosen] == what, rival[chosen]))


# --- window ------------------------------------------------------------------------------------


def window_table() -> Iterator[str]:
    """Each run: two to eight weeks watched, one more day held out."""
    yield "| activity | windows | warned | ready | foretold, met if ready | foretold, met in all |"
    yield "| --- " * 6 + "|"
    for name, run, fading in (
        ("independent hours", 1, 0.0),
        ("runs of 6 h", 6, 0.0),
        ("runs of 24 h", 24, 0.0),
        ("runs of 6 h, a tenth weekly", 6, 0.1),
    ):
        rows = [
            _foretold(seed, days, run, fading) for days in (14, 28, 56) for seed in range(100, 112)
        ]
        warned, ready = [r[0] for r in rows], [r for r in rows if r[1]]
        said, met = (np.mean([r[i] for r in ready]) if ready else np.nan for i in (2, 3))
        every = [np.mean([r[i] for r in rows]) for i in (2, 3)]
        yield (
            f"| {name} | {len(rows)} | {np.mean(warned):.0%} | {len(ready)} "
            f"| {said:.3%}, {met:.3%} | {every[0]:.3%}, {every[1]:.3%} |"
        )


def _foretold(seed: int, days: int, run: float, weekly: float) -> tuple[bool, bool, float, float]:
    """Warned, ready, edge-day share foretold for the next day, and met on it."""
    rng = np.random.default_rng(seed)
    table = _activity(rng, 400, days + 1, run, weekly)
    before, after = table[:, : days * 24], table[:, days * 24 :]
    seen = before.any(axis=1)
    edge, hour = np.nonzero(before[seen])
    frame = pd.DataFrame(dict.fromkeys(_COLUMNS), index=range(int(seen.sum())), dtype=object)
    frame = frame.assign(**{"class": "wanted", "client_type": "address", "server_type": "address"})
    found = window(frame, pd.DataFrame({"edge": edge, "hour": hour}), Inventory())
    active = after.any(axis=1)
    met = float((active & ~seen).sum() / max(active.sum(), 1))
    return found.correlated, found.word.word == "ready", found.foretold, met


_COLUMNS = [*CLIENT, *SERVER, "protocol", "port", "run"]


def _activity(rng: Generator, edges: int, days: int, run: float, weekly: float) -> np.ndarray:
    """Edges x hours; each is on in runs of `run` hours on average, some on one hour a week."""
    rates = rng.beta(0.5, 1.2, edges)
    on = rng.random(edges) < rates
    table = np.empty((edges, days * 24), bool)
    for hour in range(days * 24):
        on = np.where(rng.random(edges) < 1 / run, rng.random(edges) < rates, on)
        table[:, hour] = on
    for edge in range(int(weekly * edges)):
        table[edge] = False
        table[edge, rng.integers(0, 168) :: 168] = True
    return table


# --- scale -------------------------------------------------------------------------------------


def scale_table() -> Iterator[str]:
    """From edges by hour on: 10,000 workloads, a million edges, each seen in three hours or so."""
    rng = np.random.default_rng(1)
    calls = world("block", 1, ends=10_000, roles=160).calls
    most = min(len(calls), 1_000_000)
    calls = calls.where(np.sort(rng.choice(len(calls), most, replace=False)))
    frame = hourly(calls, rng.integers(0, HOURS, (len(calls), 3)))
    yield f"| step | CPU seconds, {len(calls.ends):,} workloads, {len(calls):,} edges |"
    yield "| --- | --- |"
    started = start = time.process_time()
    told = folded(resolved(frame, Inventory()))
    edges = runs(classified(told.edges, Inventory()), told.seen, Inventory())
    yield f"| edges folded and classified | {time.process_time() - start:.1f} |"
    start = time.process_time()
    learnt = roles(edges[edges["hours"] > 1])
    yield f"| roles | {time.process_time() - start:.1f} ({int(learnt.labels.max()) + 1} found) |"
    start = time.process_time()
    catalogue = learnt.catalogue
    yield f"| catalogue | {time.process_time() - start:.1f} ({len(catalogue)}) |"
    start = time.process_time()
    found = judged(edges, told.seen, learnt.of)
    yield f"| outliers | {time.process_time() - start:.1f} |"
    start = time.process_time()
    window(found, told.seen, Inventory())
    yield f"| window | {time.process_time() - start:.1f} |"
    yield f"| all | {time.process_time() - started:.1f} |"
    yield f"| peak | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB |"


TABLES = {
    "roles": roles_table,
    "outliers": outliers_table,
    "window": window_table,
    "shuffles": shuffles_table,
    "scale": scale_table,
}

WRITTEN = ("roles", "outliers", "window", "scale")  # those that `docs/statistics.md` has

if __name__ == "__main__":
    chosen = [name for name in sys.argv[1:] if name != "--write"]
    for name in chosen or TABLES:
        lines = []
        for line in TABLES[name]():
            print(line, flush=True)
            lines.append(line)
        if "--write" in sys.argv and name in WRITTEN:
            write(name, lines)
