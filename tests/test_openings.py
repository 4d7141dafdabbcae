"""Pairs that are opened for shorter policies are few, listed, and never ones that were held back."""

import dataclasses
import json
from datetime import date
from pathlib import Path

from click.testing import CliRunner
from drawn_traffic import Edge, basis_of, row, traffic
from hypothesis import given, settings
from hypothesis import strategies as st
from test_minimise import ANY, DB, judge, policies, shop, three
from test_proposals_judged import Cluster, recommended

from recommender.cli import group
from recommender.decisions import Decision
from recommender.fewest import By
from recommender.frames import Row
from recommender.inventory import Inventory
from recommender.minimise import Minimised, minimised
from recommender.model import PortSet
from recommender.openings import Budget, Opening, opening, openings
from recommender.propose import Scope, propose
from recommender.report.comments import EVIDENCE, comment

WORLD = shop(*three("api"), DB)
FIRST: list[Edge] = [(f"shop/Deployment/w{i}", "bank/Deployment/db", "TCP", 5432) for i in range(2)]
LACKING = Opening("shop/w2", "bank/db", "TCP", 5432)


def rows_of(edges: list[Edge]) -> list[Row]:
    return [row(*edge, number=at) for at, edge in enumerate(edges, 1)]


def opened(
    edges: list[Edge],
    world: Inventory,
    budget: Budget,
    by: By = "role",
    shut: list[Edge] | None = None,
) -> tuple[list[Opening], Minimised]:
    rows, basis = rows_of(edges), basis_of(world)
    new = openings(rows, rows_of(shut or []), Scope(), basis, by, budget)
    found, _ = propose([*rows, *new], Scope(), basis, apart=True)
    return [opening(one) for one in new], minimised(found, basis, by=by)


def permitted(found: Minimised, world: Inventory) -> set[tuple[str, str, str, int]]:
    rows = judge(policies(found.proposals), world, []).connectivity("workload")
    return {
        (r.src, r.dst, r.protocol, port)
        for r in rows
        for port in (80, 443, 53)
        if (r.protocol, port) in PortSet.of({r.protocol: r.ports})
    }


def test_a_role_that_lacks_one_pair_gets_it_and_shares_a_policy() -> None:
    pairs, found = opened(FIRST, WORLD, Budget(1))
    assert pairs == [LACKING]
    assert found.after.cost < opened(FIRST, WORLD, Budget())[1].after.cost
    said = [r.evidence for p in found.proposals for r in (*p.policy.egress, *p.policy.ingress)]
    assert {e.pairs for e in said if e} == {(str(LACKING),)}
    assert {e.clients for e in said if e} == {("shop/w0", "shop/w1")}
    assert any(
        "was opened for shorter policies" in why for p in found.proposals for why in p.losses
    )
    for evidence in said:
        assert evidence is not None
        line = f"  # {comment(evidence, 'ingress', '2026-01-01')}"
        assert str(LACKING) in line
        assert EVIDENCE.fullmatch(line)


def test_a_pair_that_was_held_back_on_any_port_stays_shut() -> None:
    held: list[Edge] = [("shop/Deployment/w2", "bank/Deployment/db", "TCP", 22)]
    assert opened(FIRST, WORLD, Budget(9), shut=held)[0] == []


def test_a_pair_that_was_denied_at_times_and_let_through_at_others_gets_no_further_port() -> None:
    rows = rows_of([*FIRST, ("shop/Deployment/w2", "bank/Deployment/db", "TCP", 80)])
    for denied in ("denied_client", "denied_server"):
        for count in (0, 1):
            seen = [*rows[:-1], {**rows[-1], denied: count}]
            new = openings(seen, [], Scope(), basis_of(WORLD), "role", Budget(1))
            assert [opening(one) for one in new] == ([] if count else [LACKING])


def test_a_pair_that_somebody_rejected_stays_shut_be_it_unseen_or_the_rejection_ended() -> None:
    for until in (None, date(2020, 1, 1)):
        decision = Decision("reject", "shop/w2", "*", "ann", "it is old", until=until)
        assert opened(FIRST, WORLD, Budget(9, (decision,)))[0] == []
    other = Decision("reject", "shop/w2", "*", "ann", "it is old", port=80)
    assert opened(FIRST, WORLD, Budget(9, (other,)))[0] == [LACKING]


def test_a_block_of_which_less_was_seen_than_is_opened_stays_as_it_is() -> None:
    assert opened(FIRST[:1], WORLD, Budget(9))[0] == []


@settings(max_examples=40)
@given(traffic(), ANY, st.integers(0, 6), st.data())
def test_just_the_listed_pairs_open_and_no_more_than_allowed(
    drawn: tuple[Inventory, list[Edge]], by: By, most: int, data: st.DataObject
) -> None:
    world, edges = drawn
    inside = [e for e in edges if e[0].count("/") == e[1].count("/") == 2]
    shut = data.draw(st.lists(st.sampled_from(inside), max_size=2)) if inside else []
    gone = data.draw(st.sets(st.sampled_from(inside), max_size=2)) if inside else set()
    edges = [e for e in edges if e not in gone and e[:2] not in {s[:2] for s in shut}]
    pairs, after = opened(edges, world, Budget(most), by, shut)
    _, before = opened(edges, world, Budget(), by)
    assert len(pairs) == len(set(pairs)) <= most
    assert {(p.client, p.server) for p in pairs}.isdisjoint(_names(edge) for edge in shut)
    assert after.after.cost < before.after.cost or not pairs
    there = {str(key) for key, pods in world.pods_of.items() if pods}
    listed = {(p.client, p.server, p.protocol, p.port) for p in pairs}
    assert permitted(after, world) - permitted(before, world) == {
        pair for pair in listed if {pair[0], pair[1]} <= there
    }
    if not pairs:
        assert after == before


def _recommended(tmp_path: Path, *more: str) -> tuple[Path, str]:
    """What is proposed where two of a role of three were seen to call the database."""
    cluster = Cluster(3)
    for name in ("w0", "w1", "w2"):
        cluster.add(f"shop/Deployment/{name}", {"app": name, "role": "api"}, match={"app": name})
    cluster.add("bank/Deployment/db", {"app": "db"})
    simulation = cluster.simulation()
    for name in ("w0", "w1"):
        simulation.want(f"shop/Deployment/{name}", "bank/Deployment/db", "TCP", 5432)
    simulation.want("bank/Deployment/db", "shop/Deployment/w2", "TCP", 80)
    out = recommended(tmp_path, "hubble", simulation.hubble(), cluster.objects, *more)
    store = str(tmp_path / "store-hubble")
    inventory = str(tmp_path / "inventory.yaml")
    args = ("recommend", "--store", store, "--inventory", inventory, "--out", str(out), *more)
    return out, CliRunner().invoke(group, args).stdout


def test_each_pair_that_was_opened_is_told_in_text_json_and_the_files(tmp_path: Path) -> None:
    out, said = _recommended(tmp_path, "--by", "role", "--open-pairs", "3")
    index = json.loads((out / "recommendation.json").read_text())
    assert index["opened"] == [dataclasses.asdict(LACKING)]
    assert f"opened for that, though nobody was seen to use it: 1 pair\n  {LACKING}\n" in said
    told = {
        s["why"] for s in index["surplus"] if s["src"] == "shop/w2" and s["ports"] == [[5432] * 2]
    }
    assert told == {"opened for shorter policies"}
    texts = [file.read_text() for file in out.rglob("*.yaml")]
    assert sum(f"opened, not seen: {LACKING}" in text for text in texts) == 2  # at each end


def test_without_a_budget_no_byte_changes(tmp_path: Path) -> None:
    files = []
    for name, more in (("without", ()), ("with", ("--open-pairs", "0"))):
        (tmp_path / name).mkdir()
        out, said = _recommended(tmp_path / name, "--by", "role", *more)
        found = {str(f.relative_to(out)): f.read_bytes() for f in out.rglob("*") if f.is_file()}
        files.append((found, said.replace(str(out), "")))
    assert files[0] == files[1]


def test_opening_pairs_needs_policies_that_are_made_short() -> None:
    args = ("recommend", "--store", "s", "--out", "o", "--open-pairs", "3")
    found = CliRunner().invoke(group, args)
    assert found.exit_code == 2
    assert "--open-pairs needs --by" in found.output


def _names(edge: Edge) -> tuple[str, str]:
    client, server = (end.split("/") for end in edge[:2])
    return f"{client[0]}/{client[2]}", f"{server[0]}/{server[2]}"
