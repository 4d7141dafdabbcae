"""The rarefaction curve: what so many days would have shown, with its interval."""

import math
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.incidence import rarefied, rarefied_error
from recommender.rarefaction import Curve, curve

# For each edge the days on which it was seen, of at most eight.
worlds = st.lists(st.sets(st.integers(0, 7), min_size=1), min_size=1, max_size=12)


def drawn(world: list[set[int]]) -> Curve | None:
    edges = pd.DataFrame({"class": ["wanted"] * len(world)})
    seen = [(edge, day * 24 + 5) for edge, days in enumerate(world) for day in sorted(days)]
    return curve(edges, pd.DataFrame(seen, columns=["edge", "hour"]))


@given(worlds)
def test_more_days_never_show_fewer_edges_and_all_days_show_all(world: list[set[int]]) -> None:
    days = set.union(*world)
    found = drawn(world)
    if len(days) < 2:
        assert found is None
        return
    assert found is not None
    shown = [point.edges for point in found.points]
    assert all(after >= before - 1e-9 for before, after in pairwise(shown))
    now = next(point for point in found.points if point.days == len(days))
    assert now.edges == pytest.approx(len(world))
    assert shown[-1] <= found.bound.edges + 1e-9
    for point in found.points:
        assert point.foretold == (point.days > len(days))
        if point.foretold:
            assert point.low is None
        else:
            assert point.low is not None
            assert point.high is not None
            assert point.low <= point.edges <= point.high


@given(worlds, st.integers(1, 8))
def test_the_curve_is_the_mean_over_every_choice_of_days(world: list[set[int]], taken: int) -> None:
    days = sorted(set.union(*world))
    taken = min(taken, len(days))
    choices = [set(choice) for choice in combinations(days, taken)]
    mean = sum(sum(bool(one & chosen) for one in world) for chosen in choices) / len(choices)
    y = np.array([len(one) for one in world])
    assert rarefied(y, len(days), taken) == pytest.approx(mean)


def test_the_error_is_that_of_the_published_formula() -> None:
    y, bins, taken, exist = np.array([1, 1, 2, 3, 5]), 6, 4, 7.0
    alpha = [math.comb(bins - int(k), taken) / math.comb(bins, taken) for k in y]
    shown = sum(1 - a for a in alpha)
    variance = sum((1 - a) ** 2 for a in alpha) - shown**2 / exist
    assert rarefied_error(y, bins, taken, exist) == pytest.approx(math.sqrt(variance))


def test_the_interval_holds_the_true_mean_of_such_days_in_nineteen_of_twenty_draws() -> None:
    """Edges with chances of their own, days independent: the interval's own assumptions."""
    rng = np.random.default_rng(11)
    chances = rng.beta(1, 3, 200)
    true = float((1 - (1 - chances) ** 10).sum())
    days, held, draws = 20, 0, 300
    for _ in range(draws):
        seen = rng.random((200, days)) < chances[:, None]
        found = drawn([set(np.flatnonzero(row).tolist()) for row in seen if row.any()])
        assert found is not None
        point = next(p for p in found.points if p.days == 10)
        assert point.low is not None
        assert point.high is not None
        held += point.low <= true <= point.high
    assert held / draws >= 0.95


def test_what_is_not_wanted_is_not_counted() -> None:
    edges = pd.DataFrame({"class": ["wanted", "review", "wanted"]})
    seen = pd.DataFrame([(0, 5), (1, 5), (1, 30), (2, 30)], columns=["edge", "hour"])
    found = curve(edges, seen)
    assert found is not None
    assert next(p.edges for p in found.points if p.days == 2) == pytest.approx(2)
