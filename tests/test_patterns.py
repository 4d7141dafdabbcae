"""Roles: what they must find, that order says nothing, and that the bits add up."""

import json
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.worlds import world
from recommender import patterns
from recommender.bits import description_length
from recommender.cli import group
from recommender.edges import WHO
from recommender.moves import parted
from recommender.patterns import Roles, refined, roles
from recommender.roles import Calls, coded, distinct, relabelled, tokens

Edge = tuple[str, str, str]


def calls(*edges: Edge) -> Calls:
    clients, servers, ports = (np.array(column, object) for column in zip(*edges, strict=True))
    return distinct(coded(clients, servers, ports))


def tenants(count: int) -> list[Edge]:
    """A web, an api and a database a tenant; all of them ask one DNS."""
    edges = []
    for i in range(count):
        web, api, db = f"t{i:02}/web", f"t{i:02}/api", f"t{i:02}/db"
        edges += [(web, api, "TCP 80"), (api, db, "TCP 5432")]
        edges += [(one, "kube-system/dns", "UDP 53") for one in (web, api)]
    return edges


def test_tenants_fall_into_roles_across_namespaces() -> None:
    found = refined(calls(*tenants(20)))
    sizes = [len(role.members) for role in found.catalogue]
    assert sizes == [20, 20, 20, 1]
    assert {m.split("/")[1] for m in found.catalogue[0].members} == {"api"}
    assert found.catalogue[3].members == ("kube-system/dns",)


def test_each_role_is_explained_by_what_its_members_do() -> None:
    api = refined(calls(*tenants(20))).catalogue[0]
    told = {str(token): token.members for token in api.tokens}
    assert told == {
        "calls role 1 on TCP 5432": 20,
        "called by role 2 on TCP 80": 20,
        "calls role 3 on UDP 53": 20,
    }
    assert api.tokens[-1].port == "UDP 53"  # what everyone does says least
    assert api.saved > 0


def test_the_odd_member_is_named() -> None:
    found = refined(calls(*tenants(40), ("t07/api", "t08/db", "TCP 22")))
    odd = {(member, str(token)) for role in found.catalogue for member, token in role.odd}
    assert odd == {("t07/api", "calls role 1 on TCP 22"), ("t08/db", "called by role 0 on TCP 22")}


def test_missing_calls_do_not_break_roles_apart() -> None:
    edges = tenants(40)
    kept = [edge for i, edge in enumerate(edges) if i % 17]
    found = refined(calls(*kept))
    of = {end.split("/")[1]: [] for end in found.of}
    for end, role in found.of.items():
        of[end.split("/")[1]].append(role)
    assert all(max(map(members.count, members)) >= 0.8 * len(members) for members in of.values())


def test_twenty_shuffles_give_the_same_roles() -> None:
    rng = np.random.default_rng(5)
    edges = [
        (f"a{rng.integers(40)}", f"b{rng.integers(30)}", f"TCP {rng.integers(5)}")
        for _ in range(400)
    ]
    first = refined(calls(*edges))
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(edges))
        again = refined(calls(*(edges[i] for i in order)))
        assert again.catalogue == first.catalogue
        assert again.bits == first.bits


def test_no_edge_gives_no_role() -> None:
    empty = Calls((), (), *[np.array([], np.int64)] * 3)
    assert refined(empty).catalogue == ()
    assert roles(pd.DataFrame(columns=COLUMNS, dtype=object)).of == {}


NAMED = [f"{role}_{name}" for role in ("client", "server") for name in WHO]
COLUMNS = [*NAMED, "protocol", "port", "run"]


def test_ends_of_edges_are_named_as_the_evaluator_names_them() -> None:
    no = (None, None)
    rows = [
        ("workload", "shop", "Deployment", "web", *no, "address", *no, None, "1.2.3.4", None, "TCP", 443, None),
        ("gone", "shop", "Pod", "old", *no, "unresolved", *no, *no, None, "UDP", None, None),
    ]  # fmt: skip
    found = roles(pd.DataFrame(rows, columns=COLUMNS, dtype=object))
    assert set(found.of) == {"shop/Deployment/web", "1.2.3.4", "shop/Pod/old", "unresolved"}
    assert found.calls.ports == ("TCP 443", "UDP")


def test_pods_of_one_name_in_two_clusters_are_two_ends() -> None:
    web = ("shop", "Deployment", "web", None)
    rows = [
        ("remote", *web, "east", "workload", *web, None, "TCP", 80, None),
        ("remote", *web, "west", "workload", *web, None, "TCP", 80, None),
        ("remote", "spare", *web[1:], "west", "workload", *web, None, "TCP", 80, None),
    ]
    found = roles(pd.DataFrame(rows, columns=COLUMNS, dtype=object))
    assert set(found.of) == {
        "shop/Deployment/web",
        "east:shop/Deployment/web",
        "west:shop/Deployment/web",
        "west:spare/Deployment/web",
    }
    assert len(found.calls) == 3


def test_no_search_of_its_own_beats_the_crossing_of_all() -> None:
    made = world("Sock Shop", 3, shown=0.9).calls
    starts = (patterns._by_length(made), *patterns._by_height(made))
    alone = [description_length(made, patterns.settled(made, start)[1]) for start in starts]
    assert refined(made).bits < min(alone) - 20


def test_crossing_is_left_out_where_there_are_too_many_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patterns, "_MOST_SETTLED", 1)
    monkeypatch.setattr(patterns, "_MOST_PLACED", 1)
    monkeypatch.setattr(patterns, "joined", None)
    assert refined(calls(*tenants(20))).catalogue


def test_a_server_whose_telling_call_is_missing_plays_the_role_that_its_client_lacks() -> None:
    edges = [
        edge
        for i in range(12)
        for edge in (
            (f"web{i:02}", f"cart{i:02}", "TCP 80"),
            (f"web{i:02}", f"user{i:02}", "TCP 80"),
            (f"cart{i:02}", f"redis{i:02}", "TCP 6379"),
            (f"user{i:02}", f"mysql{i:02}", "TCP 3306"),
        )
    ]
    for missing, other in (("cart", "user"), ("user", "cart")):
        kept = [edge for edge in edges if edge[0] != f"{missing}05"]
        found = refined(calls(*kept)).of
        assert found[f"{missing}05"] == found[f"{missing}06"] != found[f"{other}05"]


small = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("cdef"), st.sampled_from(["x", "y"])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(small, st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_the_bits_are_those_of_the_formula(edges: list[Edge], drawn: list[int]) -> None:
    found = calls(*edges)
    labels = np.unique(drawn[: len(found.ends)], return_inverse=True)[1]
    count = int(labels.max()) + 1
    blocks: dict[tuple[int, int, int], set[tuple[int, int]]] = {}
    for c, s, p in zip(found.client, found.server, found.port, strict=True):
        blocks.setdefault((int(labels[c]), int(labels[s]), int(p)), set()).add((int(c), int(s)))
    total = 0.0
    for (r, s, p), pairs in blocks.items():
        bits, k, told = 0.0, len(pairs), []
        clients, servers = {c for c, _ in pairs}, {s for _, s in pairs}
        for side, ends, role in ((0, clients, r), (1, servers, s)):
            all_of_it = (found.client, found.server)[side]
            degrees = {end: sum(pair[side] == end for pair in pairs) for end in ends}
            totals = {end: int((all_of_it == end).sum()) for end in ends}
            bits += _taking_part(int((labels == role).sum()), len(ends))
            told.append((degrees, _degree_bits(k, degrees, totals)))
        (out, of_clients), (back, of_servers) = told
        size = len(clients) * len(servers)
        at_will = math.log2(math.comb(size, k))
        by_client = sum(math.log2(math.comb(len(servers), d)) for d in out.values())
        by_server = sum(math.log2(math.comb(len(clients), d)) for d in back.values())
        bits += math.log2(size) + 2
        bits += min(
            at_will,
            of_clients + by_client,
            of_servers + by_server,
            of_clients + of_servers + max(by_client + by_server - at_will, 0),
        )
        calls_of = list(zip(found.client, found.server, found.port, strict=True))
        asked = [sum(s2 == one and p2 == p for _, s2, p2 in calls_of) for one in servers]
        asking = [sum(c2 == one and p2 == p for c2, _, p2 in calls_of) for one in clients]
        usual = max(asked + asking)
        bits -= math.log2(usual / len(found.ends))
        apart = 2 * math.log2(len(found.ends)) + math.log2(len(found.ports))
        total += min(bits, apart * len(pairs))
    sizes, ends = [int((labels == role).sum()) for role in range(count)], len(found.ends)
    orders = math.factorial(ends) // math.prod(map(math.factorial, sizes))
    total += (math.log2(orders) + math.log2(math.comb(ends - 1, count - 1))) / 2
    assert description_length(found, labels) == pytest.approx(total)


def _taking_part(members: int, taking: int) -> float:
    """Beta(4, 1) over the share that takes part, integrated; then who it is."""
    weights = math.factorial(taking + 3) * math.factorial(members - taking)
    return -math.log2(Fraction(4 * weights, math.factorial(members + 4)))


def _degree_bits(calls: int, degrees: dict[int, int], totals: dict[int, int]) -> float:
    more = calls - len(degrees)
    if not more:
        return 0.0
    chance = Fraction(math.factorial(more))
    for end, degree in degrees.items():
        chance *= Fraction(totals[end], sum(totals.values())) ** (degree - 1)
        chance /= math.factorial(degree - 1)
    divided = math.comb(calls - 1, len(degrees) - 1)
    return 1 + min(math.log2(divided), -math.log2(chance))


def test_calls_to_a_server_of_ones_own_cost_fewer_bits_than_as_many_pairs_at_will() -> None:
    found = calls(*((f"web{i:02}", f"api{i:02}", "TCP 80") for i in range(40)))
    labels = np.array([end.startswith("web") for end in found.ends]).astype(int)
    who = (math.log2(math.comb(80, 40)) + math.log2(79)) / 2
    assert description_length(found, labels) < who + math.log2(math.comb(40 * 40, 40)) - 40


def test_servers_that_nearly_all_call_and_that_few_call_are_told_best_together() -> None:
    draws = np.random.default_rng(5)
    often = [[2 * (i + 1) / 20 * (j + 1) / 40 for j in range(40)] for i in range(20)]
    met = np.argwhere(draws.random((20, 40)) < often).tolist()
    found = calls(*((f"web{i:02}", f"api{j:02}", "TCP 80") for i, j in met))
    servers = np.array([end.startswith("api") for end in found.ends]).astype(int)
    famous = np.array([end >= "api20" for end in found.ends]) * servers
    together = description_length(found, servers)
    assert together < description_length(found, servers + famous)


def test_a_role_is_parted_by_what_half_of_it_does_and_not_by_what_a_few_lack() -> None:
    edges = [
        (f"{kind}{i:02}", server, "TCP 80")
        for kind, server in (("web", "api"), ("job", "queue"))
        for i in range(20)
    ]
    edges += [(f"{kind}{i:02}", "dns", "UDP 53") for kind in ("web", "job") for i in range(2, 20)]
    found = calls(*edges)
    together = np.array([end[:3] in ("web", "job") for end in found.ends])
    others = np.cumsum(~together) * ~together
    of = dict(zip(found.ends, parted(found, others).tolist(), strict=True))
    assert {of[f"web{i:02}"] for i in range(20)} == {of["web00"]}
    assert {of[f"job{i:02}"] for i in range(20)} == {of["job00"]} != {of["web00"]}


def test_ends_that_no_role_explains_are_each_alone() -> None:
    found = refined(calls(*tenants(20), ("ci/a", "ci/b", "TCP 1"), ("ci/c", "ci/d", "TCP 2")))
    alone = {role.members for role in found.catalogue if len(role.members) == 1}
    assert {("ci/a",), ("ci/b",), ("ci/c",), ("ci/d",)} <= alone


@settings(max_examples=40, deadline=None)
@given(small)
def test_roles_never_cost_more_bits_than_one_role_for_all(edges: list[Edge]) -> None:
    found = refined(calls(*edges))
    assert found.bits <= description_length(found.calls, np.zeros(len(found.labels), int)) + 1e-3
    assert sum(len(role.members) for role in found.catalogue) == len(found.calls.ends)


def test_tokens_count_distinct_peers_by_role_and_port() -> None:
    found = calls(("a", "c", "x"), ("a", "d", "x"), ("b", "c", "y"), ("a", "c", "x"))
    facts = tokens(found, np.array([0, 0, 1, 1]))
    told = {
        (found.ends[i], int(facts.direction[j]), int(facts.peer[j]), found.ports[facts.port[j]]): n
        for i, row in enumerate(facts.counts.toarray())
        for j, n in enumerate(row)
        if n
    }
    assert told[("a", 0, 1, "x")] == 2
    assert told[("c", 1, 0, "x")] == 1
    assert told[("c", 1, 0, "y")] == 1


def test_roles_are_numbered_by_size_then_by_first_member() -> None:
    assert relabelled(np.array([5, 5, 2, 9, 9, 9, 1])).tolist() == [1, 1, 2, 0, 0, 0, 3]


def test_more_rows_than_fit_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_MOST_ROWS", 3)
    edges = [(f"n{i}/web", f"n{i}/db{i % 4}", f"TCP {i % 5}") for i in range(20)]
    found: Roles = refined(calls(*edges))
    assert sum(len(role.members) for role in found.catalogue) == len(found.calls.ends)


SAMPLES = Path(__file__).parents[1] / "data" / "samples"
INVENTORY = SAMPLES / "inventory.yaml"


def run(*args: object) -> str:
    result = CliRunner().invoke(group, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("patterns") / "store"
    run("ingest", SAMPLES / "hubble", "--store", path)
    return path


@pytest.mark.parametrize(
    "given", [("--max-denied", "2"), ("--max-missed", "10"), ("--min-coverage", "99"), ("--max-denied", "nan"), ("--min-days", "-1")]
)  # fmt: skip
def test_a_share_given_in_percent_is_no_share(given: tuple[str, str]) -> None:
    result = CliRunner().invoke(group, ["patterns", "--store", "x", *given])
    assert result.exit_code == 2
    assert f"Invalid value for '{given[0]}'" in result.output


def test_the_command_shows_roles_review_and_window_of_the_samples(store: Path) -> None:
    text = run("patterns", "--store", store, "--inventory", INVENTORY)
    assert "shop/Deployment/web, shop/Deployment/web-canary" in text
    said, listed = (set(re.findall(f"{words} (\\d+)", text)) for words in (" role", "\n  role"))
    assert said == listed, "a role is spoken of whose members are not told"
    assert "called by payments/Deployment/gateway on TCP 443 (3 of 3)" in text
    assert "shop/cart -> payments/ledger TCP 50051: seen in one hour only" in text
    assert "shop/catalog -> 28 servers, 133 edges: part of a scan" in text
    # The samples' log says itself that it lost events, each node at some time.
    assert "watched long enough: can't tell\n  gaps in the log may hide 9.2% of the traffic" in text
    assert "node node-3 lost 1,239 events" in text


def test_json_tells_the_same_and_thresholds_change_the_word(store: Path) -> None:
    args = ("patterns", "--store", store, "--inventory", INVENTORY, "-o", "json")
    found = json.loads(run(*args))
    assert found["window"]["word"] == "can't tell"
    assert [b["width_h"] for b in found["window"]["bins"]] == [1, 6, 24]
    whole = json.loads(run(*args, "--max-missed", 0.1))
    assert whole["window"]["word"] == "wait"
    loose = json.loads(run(*args, "--max-missed", 0.1, "--min-days", 7, "--max-denied", 0.1))
    assert loose["window"]["word"] == "ready"
    assert {row["word"] for row in loose["workloads"] if row["edges"]} == {"ready"}
    assert found["marked"][0]["pattern"] == "ask"


def test_parquet_comes_as_three_tables(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "tables"
    run("patterns", "--store", store, "--inventory", INVENTORY, "-o", "parquet", "--out", out)
    tables = {path.stem: pd.read_parquet(path) for path in out.iterdir()}
    assert set(tables) == {"roles", "edges", "window"}
    assert {"pattern", "score", "class"} <= set(tables["edges"].columns)


def test_a_decision_moves_an_edge_out_of_and_into_the_proposals(
    store: Path, tmp_path: Path
) -> None:
    args = ("--store", store, "--inventory", INVENTORY)
    file, out = tmp_path / "decisions.yaml", tmp_path / "policies"
    ends = ("--client", "shop/cart", "--server", "payments/ledger", "--port", 50051)
    rules = {}
    for what in ("accept", "reject"):
        run("decide", what, "--file", file, *ends, "--who", "alice", "--why", "she asked")
        run("recommend", *args, "--decisions", file, "--out", out)
        rules[what] = (out / "payments" / "ledger.yaml").read_text()
        index = json.loads((out / "recommendation.json").read_text())
        ends_of = [(row["client"], row["server"]) for row in index["review"]]
        assert ("shop/cart", "payments/ledger") not in ends_of
        assert len(index["rejected"]) == (what == "reject")
    assert "app: cart" in rules["accept"]
    assert "app: cart" not in rules["reject"]


def test_what_a_policy_in_force_denies_is_asked_and_still_judges_policies(
    store: Path, tmp_path: Path
) -> None:
    deny = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "cart"}}, "policyTypes": ["Ingress"]},
    }
    (tmp_path / "deny.json").write_text(json.dumps(deny))
    args = ("--store", store, "--inventory", INVENTORY, "--inventory", tmp_path / "deny.json")
    found = json.loads(run("patterns", *args, "-o", "json"))
    asked = {row["client"] for row in found["review"] if "policy in force" in row["reason"]}
    assert "shop/web" in asked
    checked = CliRunner().invoke(group, ["check", str(tmp_path / "deny.json"), *map(str, args)])
    assert checked.exit_code == 11
