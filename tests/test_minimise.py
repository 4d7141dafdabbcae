"""Minimised proposals permit just what the proposals permitted, with less to read."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations, permutations
from types import ModuleType

from cluster_objects import inventory, workload
from drawn_traffic import Edge, basis_of, namespace, proposals_of, traffic
from exact_cover import least_cost
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.dialects import calico_render, cilium_render
from recommender.evaluate import Evaluator, evaluator
from recommender.extents import extents, price, term
from recommender.fewest import By
from recommender.inventory import Inventory
from recommender.manifests import Manifest
from recommender.minimise import Minimised, minimised, size
from recommender.model import (
    DIRECTIONS,
    AddressPeer,
    And,
    AnyOf,
    In,
    LabelPeer,
    Policy,
    Rule,
    Selector,
)
from recommender.propose import Proposal

BY: tuple[By, By] = ("role", "workload")
ANY = st.sampled_from(BY)


def judge(policies: list[Policy], world: Inventory, beside: list[Policy]) -> Evaluator:
    return evaluator(policies, world, beside=beside)


def sides(policies: list[Policy], world: Inventory, beside: list[Policy]) -> list[object]:
    """What is permitted by pod, together and by each direction alone; and who is isolated."""
    out: list[object] = []
    for directions in (DIRECTIONS, ("ingress",), ("egress",)):
        chosen = [
            [
                replace(
                    policy,
                    isolates=policy.isolates & set(directions),
                    ingress=policy.ingress if "ingress" in directions else (),
                    egress=policy.egress if "egress" in directions else (),
                )
                for policy in several
            ]
            for several in (policies, beside)
        ]
        out.append(judge(chosen[0], world, chosen[1]).connectivity("pod"))
    whole = judge(policies, world, beside)
    for direction in DIRECTIONS:
        out.append(
            {
                (pod.namespace, pod.name)
                for policy in policies
                if direction in policy.isolates
                for pod in whole.selects(policy)
            }
        )
    return out


def policies(found: list[Proposal] | tuple[Proposal, ...]) -> list[Policy]:
    return [proposal.policy for proposal in found]


def shortened(edges: list[Edge], world: Inventory, by: By = "role") -> Minimised:
    return minimised(proposals_of(edges, world), basis_of(world), by=by)


@given(traffic(), ANY)
def test_every_pod_may_do_the_same_as_before_at_each_end(
    drawn: tuple[Inventory, list[Edge]], by: By
) -> None:
    world, edges = drawn
    before = policies(proposals_of(edges, world))
    after = policies(shortened(edges, world, by).proposals)
    assert sides(after, world, before) == sides(before, world, after)


@given(traffic(), ANY, st.randoms(use_true_random=False))
def test_neither_the_order_nor_a_second_time_changes_anything(
    drawn: tuple[Inventory, list[Edge]], by: By, order: random.Random
) -> None:
    world, edges = drawn
    given_ = proposals_of(edges, world)
    once = minimised(given_, basis_of(world), by=by)
    order.shuffle(given_)
    assert minimised(given_, basis_of(world), by=by) == once
    assert minimised(once.proposals, basis_of(world), by=by).proposals == once.proposals


@given(traffic(), ANY)
def test_it_never_costs_more_than_before(drawn: tuple[Inventory, list[Edge]], by: By) -> None:
    world, edges = drawn
    found = shortened(edges, world, by)
    assert found.after.cost <= found.before.cost
    assert found.before == size(proposals_of(edges, world))
    if by == "workload":
        assert found.after.policies == found.before.policies


def without_one(given_: list[Policy]) -> list[list[Policy]]:
    """The policies less one peer, as often as there are peers."""
    out = []
    for at, policy in enumerate(given_):
        for direction in DIRECTIONS:
            for index, rule in enumerate(policy.rules(direction)):
                assert isinstance(rule.peer, AnyOf)
                for peer in rule.peer.peers:
                    left = tuple(p for p in rule.peer.peers if p is not peer)
                    rules: list[Rule] = list(policy.rules(direction))
                    rules[index : index + 1] = [replace(rule, peer=AnyOf(left))] if left else []
                    less = (
                        replace(policy, ingress=tuple(rules))
                        if direction == "ingress"
                        else replace(policy, egress=tuple(rules))
                    )
                    out.append([*given_[:at], less, *given_[at + 1 :]])
    return out


@settings(max_examples=40)
@given(traffic(4), ANY)
def test_no_peer_and_no_policy_can_be_left_out(drawn: tuple[Inventory, list[Edge]], by: By) -> None:
    world, edges = drawn
    if any(not world.pods_of[key] for key in world.workloads):
        return  # what only a template stands for is not seen by the evaluator
    after = policies(shortened(edges, world, by).proposals)
    whole = sides(after, world, after)
    for less in without_one(after):
        assert sides(less, world, after) != whole
    for at in range(len(after)):
        assert sides(after[:at] + after[at + 1 :], world, after) != whole


def shop(*objects: Manifest) -> Inventory:
    return inventory(namespace("shop", {}), namespace("bank", {}), *objects)


def three(role: str) -> list[Manifest]:
    labels = {"role": role} if role else {}
    return [workload(f"w{i}", {"app": f"w{i}", **labels}, match={"app": f"w{i}"}) for i in range(3)]


CALLS: list[Edge] = [(f"shop/Deployment/w{i}", "bank/Deployment/db", "TCP", 5432) for i in range(3)]
DB = workload("db", {"app": "db"}, namespace="bank")


def test_workloads_of_one_role_share_a_policy_named_by_its_label() -> None:
    found = shortened(CALLS, shop(*three("api"), DB, workload("other", {"app": "other"})))
    shared = [p for p in found.proposals if len(p.units) > 1]
    assert [len(p.units) for p in shared] == [3]
    own, role = In("meta:namespace", frozenset({"shop"})), In("pod:role", frozenset({"api"}))
    assert shared[0].policy.subject == And((own, role))
    assert shared[0].policy.ref.name.startswith("flowpolicy-role-api-")
    away = In("ns:kubernetes.io/metadata.name", frozenset({"shop"}))
    ingress = next(p for p in found.proposals if p.namespace == "bank").policy.ingress
    assert [rule.peer for rule in ingress] == [AnyOf((LabelPeer(And((away, role))),))]


def test_a_label_that_somebody_without_traffic_bears_too_serves_nobody() -> None:
    idle = workload("idle", {"app": "idle", "role": "api"}, match={"app": "idle"})
    found = shortened(CALLS, shop(*three("api"), idle, DB))
    texts = str([p.policy.subject for p in found.proposals])
    assert "pod:role" not in texts
    assert "pod:app" in texts


def test_tomorrows_workload_is_named_where_a_label_would_take_it_in_and_not_where_names_would() -> (
    None
):
    other = workload("other", {"app": "other"})
    by_label = shortened(CALLS, shop(*three("api"), DB, other)).embraces
    assert {e.workloads for e in by_label} == {("shop/w0", "shop/w1", "shop/w2")}
    assert str(by_label[0]).endswith(
        "a new workload with namespace shop and role=api falls under it"
    )
    assert not shortened(CALLS, shop(*three(""), DB, other)).embraces


def test_a_workload_alone_in_its_namespace_is_still_named_by_its_labels() -> None:
    both = {"app": "db", "part": "store"}
    found = shortened(
        CALLS, shop(*three("api"), workload("db", both, namespace="bank", match=both))
    )
    away = In("ns:kubernetes.io/metadata.name", frozenset({"bank"}))
    named = (In("pod:app", frozenset({"db"})), In("pod:part", frozenset({"store"})))
    peers = {r.peer for p in found.proposals for r in p.policy.egress}
    assert peers == {AnyOf((LabelPeer(And((away, *named))),))}


def selectors(found: list[Policy]) -> Iterator[And]:
    """Those of subjects and of peers."""
    for policy in found:
        peers = [r.peer for d in DIRECTIONS for r in policy.rules(d)]
        each = [p for peer in peers for p in (peer.peers if isinstance(peer, AnyOf) else (peer,))]
        for one in (policy.subject, *(p.selector for p in each if isinstance(p, LabelPeer))):
            assert isinstance(one, And)
            yield one


def narrower(a: Iterable[Selector], b: Iterable[Selector]) -> bool:
    """Whether all that bear the one bear the other, and not the other way round."""

    def implies(these: Iterable[Selector], those: Iterable[Selector]) -> bool:
        asked = [(t.key, t.values) for t in these if isinstance(t, In)]
        return all(
            isinstance(t, In) and any(k == t.key and vs <= t.values for k, vs in asked)
            for t in those
        )

    return implies(a, b) and not implies(b, a)


@given(traffic(), ANY)
def test_no_label_set_as_short_takes_in_the_same_workloads_and_fewer_that_nobody_has_seen(
    drawn: tuple[Inventory, list[Edge]], by: By
) -> None:
    world, edges = drawn
    known = extents(basis_of(world))
    labels = sorted({item for space in known.spaces for item in known.labels(space)})
    sets = [tuple(map(term, some)) for n in (1, 2, 3) for some in combinations(labels, n)]
    for selector in selectors(policies(shortened(edges, world, by).proposals)):
        asked = tuple(t for t in selector.terms if "pod:" in str(t))
        place = tuple(t for t in selector.terms if t not in asked)
        taken = known.matched(selector)
        for terms in sets:
            if price(terms) <= max(price(asked), 1) and narrower(terms, asked):
                assert known.matched(And((*place, *terms))) != taken


def test_merged_evidence_adds_up() -> None:
    world = shop(*three("api"), DB, workload("other", {"app": "other"}))
    given_ = proposals_of(CALLS, world)
    single = [r.evidence for p in given_ for r in p.policy.egress]
    (merged,) = [
        rule.evidence
        for p in minimised(given_, basis_of(world)).proposals
        for rule in p.policy.egress
    ]
    assert merged is not None
    assert len(single) == 3
    assert merged.connections == sum(e.connections for e in single if e)
    assert merged.days == max(e.days for e in single if e)
    assert merged.first_seen == min(e.first_seen for e in single if e)
    assert merged.last_seen == max(e.last_seen for e in single if e)
    assert merged.clients == ("shop/w0", "shop/w1", "shop/w2")


def test_addresses_that_go_together_are_written_as_the_block_that_holds_them_alone() -> None:
    edges: list[Edge] = [
        ("shop/Deployment/w0", at, "TCP", 443) for at in ("192.0.2.0", "192.0.2.1")
    ]
    found = shortened(edges, shop(*three("")))
    peers = [r.peer for p in found.proposals for r in p.policy.egress]
    assert peers == [AnyOf((AddressPeer(("192.0.2.0/31",), reach="nodes"),))]


@settings(max_examples=25)
@given(traffic(5), ANY)
def test_it_costs_at_most_a_tenth_more_than_the_cheapest_there_is(
    drawn: tuple[Inventory, list[Edge]], by: By
) -> None:
    world, edges = drawn
    given_ = proposals_of(edges, world)
    least = least_cost(given_, world, by)
    found = minimised(given_, basis_of(world), by=by).after.cost
    assert least <= found <= 1.1 * least


def test_a_policy_that_saves_nothing_until_another_is_shared_is_shared_then() -> None:
    own = [workload(f"w{i}", {"app": f"w{i}"}, match={"app": f"w{i}"}) for i in (0, 2, 3)]
    w0, w2, w3 = (f"shop/Deployment/w{i}" for i in (0, 2, 3))
    edges = [("192.0.2.0", w0), ("192.0.2.0", w2), (w0, w2), (w0, w3)]
    world = shop(*own)
    given_ = proposals_of([(*ends, "TCP", 80) for ends in edges], world)
    least = least_cost(given_, world, "role")
    assert minimised(given_, basis_of(world)).after.cost == least


def test_policies_of_which_none_pays_without_the_others_are_found() -> None:
    own = [workload(f"w{i}", {"app": f"w{i}"}, match={"app": f"w{i}"}) for i in (0, 2, 3)]
    ends = {i: f"shop/Deployment/w{i}" for i in (0, 2, 3)}
    edges: list[Edge] = [(f"192.0.2.{n}", ends[i], "TCP", 80) for n in range(3) for i in (0, 2)]
    edges += [(a, b, "TCP", 443) for a, b in permutations(ends.values(), 2)]
    world = shop(*own)
    given_ = proposals_of(edges, world)
    found = minimised(given_, basis_of(world))
    assert found.after.cost == least_cost(given_, world, "role")
    assert [len(p.units) for p in found.proposals] == [2, 2, 2]


def test_who_shares_several_peers_with_others_who_share_one_each_may_share_a_policy() -> None:
    # w0 and w2 are together in no peer's list of callers alone, but in two of three.
    own = [workload(f"w{i}", {"app": f"w{i}"}, match={"app": f"w{i}"}) for i in (0, 1, 2, 4)]
    calls = {0: (2, 4), 1: (0, 2, 4), 2: (0, 1), 4: (0, 1, 2)}
    edges: list[Edge] = [
        (f"shop/Deployment/w{client}", f"shop/Deployment/w{server}", "TCP", 443)
        for client, servers in calls.items()
        for server in servers
    ]
    world = shop(*own, DB)
    for i in calls:
        name = f"shop/Deployment/w{i}"
        edges += [("2001:db8::1", name, "TCP", 80), (name, "bank/Deployment/db", "TCP", 443)]
        edges += [("bank/Deployment/db", name, "TCP", 443)]
    given_ = proposals_of(edges, world)
    least = least_cost(given_, world, "role")
    assert minimised(given_, basis_of(world)).after.cost <= 1.01 * least


@settings(max_examples=25)
@given(traffic(5), st.sampled_from([cilium_render, calico_render]))
def test_every_dialect_can_say_what_is_left(
    drawn: tuple[Inventory, list[Edge]], dialect: ModuleType
) -> None:
    world, edges = drawn
    given_ = proposals_of(edges, world, dialect.WORDS)
    for proposal in minimised(given_, basis_of(world, dialect.WORDS)).proposals:
        assert dialect.render(proposal.policy)
