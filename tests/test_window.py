"""Estimators against published values, algebra and exhaustive cases; the word on made windows."""

from datetime import UTC, datetime
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cluster_objects import inventory, node, pod, service, workload

from recommender import incidence
from recommender.cron import schedule
from recommender.enough import Thresholds, quiet_nodes
from recommender.gaps import Gaps
from recommender.inventory import Inventory
from recommender.window import (
    Window,
    correlated,
    denied_share,
    estimate,
    rolling_origin,
    window,
)

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
# iNEXT's `spider` (Sackett et al. 2011): individuals of each species, at girdled and logged trees.
# fmt: off
GIRDLED = [46, 22, 17, 15, 15, 9, 8, 6, 6, 4, 2, 2, 2, 2, *[1] * 12]
LOGGED = [88, 22, 16, 15, 13, 10, 8, 8, 7, 7, 7, 5, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, *[1] * 14]
# fmt: on


@pytest.mark.parametrize(
    ("counts", "edges", "covered"), [(GIRDLED, 43.8929, 0.92886), (LOGGED, 61.4028, 0.94457)]
)
def test_spiders_are_estimated_as_inext_does(
    counts: list[int], edges: float, covered: float
) -> None:
    y = np.array(counts)
    assert incidence.chao2(y, y.sum()).edges == pytest.approx(edges, abs=1e-4)
    assert incidence.coverage(y, y.sum()) == pytest.approx(covered, abs=1e-5)


def test_the_error_and_interval_of_the_girdled_spiders_are_those_of_inext() -> None:
    found = incidence.chao2(np.array(GIRDLED), sum(GIRDLED))
    assert (round(found.edges, 3), round(found.se, 3)) == (43.893, 14.306)
    assert (found.low, found.high) == pytest.approx((30.51, 96.97), abs=0.01)


def test_every_window_of_three_bins_and_three_edges_is_rarefied_exactly() -> None:
    for cells in product([0, 1], repeat=9):
        matrix = np.array(cells).reshape(3, 3)
        y = matrix.sum(axis=1)
        y = y[y > 0]
        for t in (1, 2, 3):
            chosen = [matrix[:, list(bins)].any(axis=1).sum() for bins in combinations(range(3), t)]
            assert incidence.rarefied(y, 3, t) == pytest.approx(np.mean(chosen))


@pytest.mark.parametrize("seed", range(5))
def test_curves_obey_their_algebra(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bins = int(rng.integers(5, 40))
    y = rng.integers(1, bins + 1, int(rng.integers(3, 60)))
    curve = [incidence.rarefied(y, bins, t) for t in range(bins + 1)]
    steps = np.diff(curve)
    assert curve[bins] == pytest.approx(len(y))
    assert (steps >= -1e-9).all()
    assert (np.diff(steps) <= 1e-9).all()
    missing = 1 - (y == 1).sum() / y.sum()
    assert incidence.rarefied_coverage(y, bins, bins - 1) == pytest.approx(missing)
    bound = incidence.chao2(y, bins).edges
    assert incidence.extrapolated(y, bins, 1e9) == pytest.approx(bound)
    assert incidence.extrapolated(y, bins, 0) == len(y)
    assert incidence.unseen(np.append(y, bins), bins) == incidence.unseen(y, bins)
    if needed := incidence.bins_needed(y, bins, 0.99):
        assert incidence.extrapolated(y, bins, needed) == pytest.approx(0.99 * bound)


def test_no_unique_edge_means_full_coverage_and_nothing_needed() -> None:
    y = np.array([2, 3, 5])
    assert incidence.coverage(y, 5) == 1
    assert incidence.bins_needed(y, 5) == 0
    assert incidence.chao2(y, 5) == incidence.Chao2(3, 0, 3, 3)


def test_ice_agrees_with_its_formula_and_is_undefined_for_unique_rare_edges() -> None:
    y = np.array([1, 1, 2, 3, 12, 20])
    covered, rare_bins = 1 - 2 / 7, 5
    spread = max(4 / covered * rare_bins / (rare_bins - 1) * (2 + 6) / 49 - 1, 0)
    assert incidence.ice(y, rare_bins) == pytest.approx(2 + 4 / covered + 2 / covered * spread)
    with pytest.raises(ValueError, match="unique"):
        incidence.ice(np.array([1, 1, 30]), 2)


def test_novelty_is_the_share_of_bins_with_an_edge_of_their_own() -> None:
    assert incidence.novelty(0, 14).high == pytest.approx(1 - 0.025 ** (1 / 14))
    assert incidence.novelty(14, 14).high == 1
    assert incidence.novelty(3, 14).chance == 3 / 14


def test_the_bound_meets_equal_rates_and_its_interval_covers_them() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(500):
        y = rng.binomial(30, 0.06, 200)
        found.append(incidence.chao2(y[y > 0], 30))
    assert np.mean([f.edges for f in found]) == pytest.approx(200, rel=0.02)
    assert np.mean([f.low <= 200 <= f.high for f in found]) >= 0.9


def test_the_bound_stays_below_unequal_rates() -> None:
    rng = np.random.default_rng(2)
    rates = rng.beta(0.25, 1.2, 800)
    found = []
    for _ in range(100):
        y = rng.binomial(72, rates)
        found.append(incidence.chao2(y[y > 0], 72).edges)
    assert np.mean(found) < 800


def test_coverage_meets_the_truth_within_five_percent_of_what_is_missing() -> None:
    rng = np.random.default_rng(3)
    rates = rng.beta(0.25, 1.2, 800)
    said, true = [], []
    for _ in range(300):
        y = rng.binomial(24, rates)
        said.append(1 - incidence.coverage(y[y > 0], 24))
        true.append(rates[y == 0].sum() / rates.sum())
    assert np.mean(said) == pytest.approx(np.mean(true), rel=0.05)


def in_runs(rng: np.random.Generator, rates: Any, hours: int, run: float) -> np.ndarray:
    """Edges x hours: on or off, in runs of `run` hours on average (1: independent)."""
    on = rng.random(len(rates)) < rates
    table = np.empty((len(rates), hours), bool)
    for hour in range(hours):
        again = rng.random(len(rates)) < 1 / run
        on = np.where(again, rng.random(len(rates)) < rates, on)
        table[:, hour] = on
    return table


def seen(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edge, hour = np.nonzero(table[table.any(axis=1)])
    return edge, hour


@pytest.mark.parametrize(("run", "low", "high"), [(1, 0.0, 0.05), (6, 0.95, 1.0)])
def test_activity_in_runs_is_warned_of_and_independent_bins_are_not(
    run: float, low: float, high: float
) -> None:
    rng = np.random.default_rng(4)
    warned = []
    for _ in range(60):
        edge, hour = seen(in_runs(rng, rng.beta(0.25, 1.2, 400), 24 * 7, run))
        warned.append(correlated([uniques(edge, hour // width) for width in (1, 6, 24)], 2.0))
    assert low <= np.mean(warned) <= high


def uniques(edge: np.ndarray, bin_: np.ndarray) -> int:
    pairs = np.unique(np.stack([edge, bin_]), axis=1)
    return int((np.bincount(pairs[0]) == 1).sum())


def test_time_split_and_rolling_origin_count_edge_days_of_new_edges() -> None:
    edge = np.array([0, 0, 0, 1, 1, 2])
    hour = np.array([0, 24, 48, 24, 50, 49])
    assert denied_share(edge, hour, 1) == pytest.approx(1 / 3)
    assert denied_share(edge, hour, 3) is None
    new, every = rolling_origin(edge, hour)
    assert (new.tolist(), every.tolist()) == ([1, 1], [2, 3])
    assert denied_share(edge, hour, 2) == pytest.approx(2 / 5)


def test_days_drawn_anew_widen_with_new_edges_and_repeat_the_same() -> None:
    hours = np.arange(24 * 14)
    steady = estimate(np.repeat([0, 1], len(hours)), np.tile(hours, 2), hours, 24)
    assert (steady.coverage, steady.low) == (1, 1)
    edge = np.concatenate([np.repeat([0, 1], len(hours)), np.arange(2, 9)])
    hour = np.concatenate([np.tile(hours, 2), np.arange(7) * 48])
    found = estimate(edge, hour, hours, 24)
    assert found.low < found.coverage < 1
    assert found == estimate(edge, hour, hours, 24)


# --- the word ----------------------------------------------------------------------------------


def edges_frame(count: int, class_: str = "wanted") -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for i in range(count):
        ends = {
            f"{role}_{name}": value
            for role, number in (("client", i % 7), ("server", i))
            for name, value in (
                ("type", "workload"), ("namespace", "shop"), ("kind", "Deployment"),
                ("name", f"{role}{number}"), ("address", None), ("cluster", None),
            )
        }  # fmt: skip
        edge = {"cluster": "c", **ends, "protocol": "TCP", "port": 80, "run": None}
        rows.append(edge | {"class": class_})
    return pd.DataFrame(rows, dtype=object)


def judged(
    edges: pd.DataFrame, edge: Any, hour: Any, objects: Inventory | None = None, **options: Any
) -> Window:
    start = int(MONDAY.timestamp()) // 3600
    found = pd.DataFrame({"edge": edge, "hour": np.asarray(hour) + start})
    return window(edges, found, objects or Inventory(), **options)


def steady(days: int, edges: int = 5) -> tuple[np.ndarray, np.ndarray]:
    hours = np.arange(24 * days)
    return np.repeat(np.arange(edges), len(hours)), np.tile(hours, edges)


def test_two_steady_weeks_are_enough() -> None:
    found = judged(edges_frame(5), *steady(14))
    assert found.word.word == "ready"
    assert set(found.workloads["word"]) == {"ready"}
    assert found.worst is not None
    assert found.worst.coverage == 1
    assert found.longest_period_days == pytest.approx(4.67)


def test_a_short_window_waits_until_it_is_long_enough() -> None:
    found = judged(edges_frame(5), *steady(8))
    assert (found.word.word, found.word.until) == ("wait", datetime(2026, 3, 16, tzinfo=UTC))
    assert set(found.workloads["word"]) == {"wait"}
    looser = judged(edges_frame(5), *steady(8), thresholds=Thresholds(days=7))
    assert looser.word.word == "ready"


def test_a_monthly_job_outside_the_window_is_waited_for() -> None:
    job = workload("report", {"app": "report"}, kind="CronJob")
    job.body["spec"]["schedule"] = "0 4 1 * *"
    found = judged(edges_frame(5), *steady(14), inventory(job))
    assert (found.word.word, found.word.until) == ("wait", datetime(2026, 4, 1, 5, tzinfo=UTC))
    assert found.unrun == (
        "CronJob shop/report did not run in the window; it runs next on 2026-04-01 at 04:00 UTC",
    )
    row = found.workloads.set_index("workload").loc["shop/CronJob/report"]
    assert row["word"] == "wait"


def test_a_nightly_job_inside_the_window_is_not_waited_for() -> None:
    job = workload("report", {"app": "report"}, kind="CronJob")
    assert judged(edges_frame(5), *steady(14), inventory(job)).unrun == ()


def test_a_hole_in_the_log_and_an_unreadable_schedule_cannot_be_told() -> None:
    edge, hour = steady(14)
    kept = (hour < 100) | (hour >= 110)
    found = judged(edges_frame(5), edge[kept], hour[kept])
    assert found.word.word == "can't tell"
    assert found.silences == ("nothing was logged from 2026-03-06T04:00Z to 2026-03-06T14:00Z",)
    job = workload("report", {"app": "report"}, kind="CronJob")
    job.body["spec"]["schedule"] = "when the moon is full"
    assert judged(edges_frame(5), *steady(14), inventory(job)).word.word == "can't tell"
    assert judged(edges_frame(5), *steady(14), gaps=["lost"]).word.why == ("lost",)


def test_a_window_with_large_gaps_is_never_ready_and_one_with_small_ones_says_so() -> None:
    large, small = (Gaps(("node one lost 9 events",), share) for share in (0.02, 0.005))
    found = judged(edges_frame(5), *steady(14), told=large)
    assert found.word.word == "can't tell"
    assert found.word.why == (
        "gaps in the log may hide 2.0% of the traffic, at most 1.0% is asked for",
        "node one lost 9 events",
    )
    found = judged(edges_frame(5), *steady(14), told=small)
    assert (found.word.word, found.gaps) == ("ready", small)
    strict = Thresholds(missed=0.001)
    assert judged(edges_frame(5), *steady(14), thresholds=strict, told=small).word.word != "ready"


def test_a_node_that_went_silent_is_named_while_the_inventory_has_it() -> None:
    times = pd.to_datetime([MONDAY] * 3, utc=True) + pd.to_timedelta([0, 5, 20], unit="h")
    reports = pd.DataFrame({"node": ["c/n1", "c/n2", "c/n1"], "hour": times})
    silent = "reported nothing from 2026-03-02T{:02}:00Z to 2026-03-02T{:02}:00Z"
    assert list(quiet_nodes(reports, Inventory())) == [
        "node c/n1 " + silent.format(1, 20), "node c/n2 " + silent.format(6, 21),
    ]  # fmt: skip
    assert len(list(quiet_nodes(reports, inventory(node("n1"))))) == 1
    assert list(quiet_nodes(reports.iloc[:0], Inventory())) == []


def test_ever_new_edges_are_not_called_ready() -> None:
    edge, hour = steady(14)
    edge, hour = np.append(edge, np.arange(5, 60)), np.append(hour, np.arange(55) * 6)
    found = judged(edges_frame(60), edge, hour)
    assert found.word.word != "ready"
    assert found.split is not None
    assert found.split > 0.1


def test_nothing_wanted_cannot_be_told() -> None:
    found = judged(edges_frame(2, "review"), [0, 1], [0, 1])
    assert found.word.word == "can't tell"
    assert judged(edges_frame(1).iloc[:0], [], []).first is None


def test_services_that_nobody_called_are_named() -> None:
    objects = inventory(
        workload("server0", {"app": "s"}, ports=(("", 80),)),
        pod("server0-x", {"app": "s"}, owner=("Deployment", "server0"), ip="10.0.0.1"),
        service("used", {"app": "s"}, "10.1.0.1", [{"port": 8, "targetPort": 80}]),
        service("idle", {"app": "s"}, "10.1.0.2", [{"port": 9, "targetPort": 81}]),
    )
    assert judged(edges_frame(5), *steady(14), objects).unseen == ("Service shop/idle TCP 9",)


# --- schedules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "after", "next_run"),
    [
        ("*/15 * * * *", (2026, 3, 2, 10, 14, 59), (2026, 3, 2, 10, 15)),
        ("0 3 * * *", (2026, 3, 2, 3, 0), (2026, 3, 3, 3, 0)),
        ("30 6 * * 1-5", (2026, 3, 6, 7, 0), (2026, 3, 9, 6, 30)),
        ("0 0 * * SUN", (2026, 3, 2, 0, 0), (2026, 3, 8, 0, 0)),
        ("0 0 * * 7", (2026, 3, 2, 0, 0), (2026, 3, 8, 0, 0)),
        ("0 12 13 * 5", (2026, 3, 7, 0, 0), (2026, 3, 13, 12, 0)),
        ("0 12 20 * 5", (2026, 3, 14, 0, 0), (2026, 3, 20, 12, 0)),
        ("@monthly", (2026, 3, 1, 0, 0), (2026, 4, 1, 0, 0)),
        ("0 0 29 2 *", (2026, 3, 1, 0, 0), (2028, 2, 29, 0, 0)),
        ("5/20 4 * JAN,jul *", (2026, 3, 1, 0, 0), (2026, 7, 1, 4, 5)),
        ("59 23 31 12 ?", (2026, 3, 1, 0, 0), (2026, 12, 31, 23, 59)),
    ],
)
def test_the_next_run_of_a_schedule(
    text: str, after: tuple[int, ...], next_run: tuple[int, ...]
) -> None:
    found = schedule(text).next_after(datetime(*after, tzinfo=UTC))  # type: ignore[misc,arg-type]
    assert found == datetime(*next_run, tzinfo=UTC)  # type: ignore[misc,arg-type]


def test_a_date_that_never_comes_has_no_next_run() -> None:
    assert schedule("0 0 31 2 *").next_after(MONDAY) is None


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "60 * * * *", "a * * * *", "*/0 * * * *", "5-1 * * * *", "TZ=x 0 0 * * *"],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"schedule|range|number"):
        schedule(text)
