"""Minimised proposals permit just what the proposals permitted, with less to read."""

import random
from dataclasses import replace

from drawn_traffic import Edge, basis_of, proposals_of, traffic
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.evaluate import Evaluator, evaluator
from recommender.fewest import By
from recommender.inventory import Inventory
from recommender.minimise import Minimised, minimised, size
from recommender.model import DIRECTIONS, AnyOf, Policy, Rule
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
