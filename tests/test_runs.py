"""Ports that a server gives out anew: what makes a run of them, and what never does."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.inventory import Inventory, Workload, WorkloadKey
from recommender.runs import runs

HOURS = 24 * 14
Call = tuple[str, int, int]  # client, port, hour


def found(
    calls: list[Call], inventory: Inventory | None = None, *, refused: tuple[Call, ...] = ()
) -> dict[tuple[str, int], Any]:
    """The run of each (client, port) at one server."""
    pairs = sorted({(client, port) for client, port, _ in (*calls, *refused)})
    place = {pair: i for i, pair in enumerate(pairs)}
    bad = {(client, port) for client, port, _ in refused}
    ends = {
        f"{role}_{name}": value
        for role, who in (("client", None), ("server", "ftp"))
        for name, value in (
            ("type", "workload"), ("namespace", "shop"), ("kind", "Deployment"), ("name", who),
            ("address", None), ("cluster", None),
        )
    }  # fmt: skip
    edges = pd.DataFrame(
        [
            {
                **ends, "client_name": client, "protocol": "TCP", "port": port,
                "refused": int((client, port) in bad), "class": "wanted",
            }
            for client, port in pairs
        ],
        dtype=object,
    )  # fmt: skip
    seen = sorted({(place[client, port], hour) for client, port, hour in (*calls, *refused)})
    sightings = pd.DataFrame(seen, columns=["edge", "hour"])
    given = runs(edges, sightings, inventory or Inventory())["run"]
    return {pair: given.iloc[i] for pair, i in place.items()}


def passive(
    count: int = 20, low: int = 40_000, high: int = 40_200, *, seed: int = 1, client: str = "web"
) -> list[Call]:
    rng = np.random.default_rng(seed)
    ports = low + rng.choice(high - low + 1, count, replace=False)
    hours = rng.choice(HOURS, count, replace=False)
    return [(client, int(port), int(hour)) for port, hour in zip(ports, hours, strict=True)]


def ports(calls: list[Call]) -> list[int]:
    return sorted(port for _, port, _ in calls)


def test_passive_ports_are_one_range_and_say_how_many_were_seen() -> None:
    calls = passive()
    seen = ports(calls)
    assert set(found(calls).values()) == {(seen[0], seen[-1], 20)}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(10, 60))
def test_a_range_never_goes_beyond_the_ports_that_were_seen(seed: int, count: int) -> None:
    calls = passive(count, 41_000, 42_000, seed=seed)
    seen = ports(calls)
    assert set(found(calls).values()) <= {None, (seen[0], seen[-1], count)}


FIXED = [(c, p, h) for c in ("web", "cart") for p in (80, 443, 8080, 8443) for h in range(0, 99, 7)]


def test_fixed_ports_never_become_a_range() -> None:
    many = [(c, p, h) for c in ("web", "cart") for p in range(9000, 9012) for h in range(0, 99, 7)]
    once = [("web", p, h) for h, p in enumerate((1080, 1443, 3000, 5432, 6379, 8080, 8443, 27_017))]
    for calls in (FIXED, many, once):
        assert set(found(calls).values()) == {None}


def test_fixed_ports_beside_a_run_stay_single() -> None:
    given = found([*FIXED, *passive()])
    assert {port for (_, port), run in given.items() if run} == set(ports(passive()))


@pytest.mark.parametrize(
    "calls",
    [
        passive(7),  # too few
        [("web", port, 50) for _, port, _ in passive(30)],  # a scan: one hour
        [("web", port, 50 + i % 2) for i, (_, port, _) in enumerate(passive(30))],  # two hours
        passive(20, 500, 900),  # below 1024
        [(c, p, h + 24 * d) for c, p, h in passive(12) for d in range(5)],  # each comes again
        [("web", int(p), i * 9) for i, p in enumerate(40_000 + np.arange(30) ** 4)],  # not uniform
        [*passive(15), *passive(15, 50_000, 50_200)],  # two segments
        [(f"c{i}", port, hour) for i, (_, port, hour) in enumerate(passive(30))],  # a port a client
    ],
)  # fmt: skip
def test_what_the_test_refuses_stays_single_ports(calls: list[Call]) -> None:
    assert set(found(calls).values()) == {None}


def test_a_client_that_met_closed_ports_there_has_no_part_in_a_range() -> None:
    scanner = passive(30, 40_000, 40_200, seed=2, client="odd")
    given = found([*passive(), *scanner], refused=(("odd", 39_999, 3),))
    assert {client for (client, _), run in given.items() if run} == {"web"}


def declaring(*numbers: int) -> Inventory:
    key = WorkloadKey("shop", "Deployment", "ftp")
    ports = tuple(("TCP", number, None) for number in numbers)
    return Inventory(workloads={key: Workload(key, {}, {}, ports, "default", False)})


def test_a_range_that_the_inventory_declares_is_taken_whole() -> None:
    given = found(passive(), declaring(21, *range(40_000, 40_250)))
    assert set(given.values()) == {(40_000, 40_249, 20)}


def test_a_port_that_the_inventory_declares_by_itself_stays_single() -> None:
    one = passive()[0][1]
    assert found(passive(), declaring(one))["web", one] is None


def test_a_usual_range_is_taken_only_where_most_of_it_is_spanned() -> None:
    wide = passive(60, 30_000, 32_767, seed=3)
    assert set(found(wide).values()) == {(30_000, 32_767, 60)}
    half = passive(60, 30_000, 31_500, seed=3)
    assert set(found(half).values()) == {(ports(half)[0], ports(half)[-1], 60)}
