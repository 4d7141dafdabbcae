"""What is said of policies that the API server takes: remarks, and what would have to change."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from cluster_objects import edge_row
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evaluate import inventory, judge
from test_evaluate_reference import NODES, TIERS, known_peers, network_policies, worlds

from recommender.evaluate import Evaluator, evaluator
from recommender.findings import remarks
from recommender.model import (
    ALL_PORTS,
    DIRECTIONS,
    And,
    AnyPeer,
    Direction,
    In,
    Policy,
    Ports,
    PortSet,
    Ref,
    Remark,
    Rule,
)
from recommender.overlaps import overlaps

CLUSTER = {
    "namespaces": {"shop": {}, "data": {}, "kube-system": {}},
    "pods": {
        "shop/web": {"labels": {"app": "web"}, "ports": {"http": 8080}, "address": "10.0.0.1"},
        "shop/cart": {"labels": {"app": "cart"}, "address": "10.0.0.2"},
        "data/db": {"labels": {"app": "db"}, "ports": {"pg": 5432}, "address": "10.0.1.1"},
        "data/cache": {"labels": {"app": "cache"}, "address": "10.0.1.2"},
        "kube-system/dns": {"labels": {"k8s-app": "kube-dns"}, "address": "10.0.2.1"},
    },
    "services": {"kube-system/kube-dns": {"selector": {"k8s-app": "kube-dns"}, "ports": {"UDP/53": 53}}},
}  # fmt: skip


def policy(spec: dict[str, Any], name: str = "p", **more: Any) -> dict[str, Any]:
    return {"kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec, **more}


def global_policy(spec: dict[str, Any], name: str) -> dict[str, Any]:
    body = {"kind": "GlobalNetworkPolicy", "metadata": {"name": name}, "spec": spec}
    return {"apiVersion": "projectcalico.org/v3", **body}


def of(*policies: dict[str, Any]) -> Evaluator:
    return judge({"cluster": CLUSTER, "policies": policies})


def told(judge: Evaluator, rows: Sequence[dict[str, Any]] | None = None) -> list[str]:
    """Each remark as `policy [direction rule] topic: message`, those on DNS left out."""
    return [
        f"{_place(one)}{one.topic}: {one.message}"
        for one in remarks(judge, rows)
        if one.topic != "isolates without DNS"
    ]


def _place(one: Remark) -> str:
    rule = "" if one.rule is None else f"{one.direction} {one.rule} "
    return f"{one.ref.name} {rule}"


WEB = {"matchLabels": {"app": "web"}}


# --- selectors and names -----------------------------------------------------------------------


def test_a_policy_without_fault_gets_no_remark() -> None:
    assert (
        told(of(policy({"podSelector": WEB, "ingress": [{"from": [{"podSelector": {}}]}]}))) == []
    )


WEP = (
    "p selects nothing: its selector matches no pod; no pod has app=wep, the nearest label is "
    "app=web"
)


def test_a_selector_that_selects_nothing_names_the_nearest_label() -> None:
    assert told(of(policy({"podSelector": {"matchLabels": {"app": "wep"}}}))) == [WEP]


NO_SPACE = (
    "p ingress 0 peer selects nothing: a peer matches no pod; there is no namespace dta, the "
    "nearest is data"
)


def test_a_peer_of_a_namespace_that_is_not_there_names_the_nearest() -> None:
    space = {"matchLabels": {"kubernetes.io/metadata.name": "dta"}}
    one = policy({"podSelector": WEB, "ingress": [{"from": [{"namespaceSelector": space}]}]})
    assert told(of(one)) == [NO_SPACE]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (
            {"key": "app", "operator": "In", "values": ["web", "gone"]},
            ["p absent label: no pod bears app=gone"],
        ),
        ({"key": "app", "operator": "NotIn", "values": ["gone"]}, []),
        ({"key": "old", "operator": "DoesNotExist"}, []),
    ],
)
def test_a_value_that_nobody_bears_is_said_unless_it_is_to_be_kept_out(
    expression: dict[str, Any], said: list[str]
) -> None:
    assert told(of(policy({"podSelector": {"matchExpressions": [expression]}}))) == said


def test_a_label_that_no_namespace_bears_is_said_to_be_the_namespaces_own() -> None:
    expressions = [{"key": "team", "operator": "In", "values": ["store", "gone"]}]
    peer = {"namespaceSelector": {"matchExpressions": expressions}}
    one = policy({"podSelector": WEB, "ingress": [{"from": [peer]}]})
    cluster = {**CLUSTER, "namespaces": {**CLUSTER["namespaces"], "data": {"team": "store"}}}
    assert told(judge({"cluster": cluster, "policies": [one]})) == [
        "p ingress 0 absent label: no pod's namespace bears team=gone"
    ]


def test_one_of_several_namespaces_that_is_not_there_is_said() -> None:
    names = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["data", "old"]}
    peer = {"namespaceSelector": {"matchExpressions": [names]}}
    assert told(of(policy({"podSelector": WEB, "ingress": [{"from": [peer]}]}))) == [
        "p ingress 0 absent namespace: there is no namespace old"
    ]


def test_a_port_name_that_no_pod_has_is_said() -> None:
    assert told(of(policy({"podSelector": WEB, "ingress": [{"ports": [{"port": "https"}]}]}))) == [
        "p ingress 0 absent port: no pod has a TCP port named https"
    ]


def test_one_selector_of_calico_that_matches_a_set_of_addresses_matches_somebody() -> None:
    outside = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkSet",
        "metadata": {"name": "office", "labels": {"net": "office"}},
        "spec": {"nets": ["192.0.2.0/24"]},
    }
    peer = {"action": "Allow", "source": {"selector": "net == 'office'"}}
    one = global_policy({"selector": "app == 'web'", "ingress": [peer]}, "p")
    assert not [line for line in told(of(outside, one)) if "selects nothing" in line]


def test_a_label_of_the_cluster_may_be_there_and_is_not_called_absent() -> None:
    labels = {"app": "web", "io.cilium.k8s.policy.cluster": "east"}
    found = told(of(cilium("p", endpointSelector={"matchLabels": labels}, ingress=[{}])))
    assert not [line for line in found if "absent" in line or "nothing" in line]


def test_a_host_network_pod_that_a_selector_means_is_said_to_be_one() -> None:
    pods = {"shop/agent": {"labels": {"app": "agent"}, "host": True}, "shop/web": {}}
    case = {"namespaces": {"shop": {}}, "pods": pods}
    one = policy({"podSelector": {"matchLabels": {"app": "agent"}}})
    (found,) = told(judge({"cluster": case, "policies": [one]}))
    assert found.endswith("its labels is host-network, and policies do not select such pods")


def test_a_rule_that_cannot_be_told_is_said() -> None:
    one = cilium("p", endpointSelector={}, egress=[{"toFQDNs": [{"matchName": "a.example"}]}])
    assert "p egress 0 cannot be told: allow: no addresses are known for a.example" in told(of(one))


# --- DNS ---------------------------------------------------------------------------------------

TO_DB = {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}]}
TO_DNS = {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
          "ports": [{"port": 53, "protocol": "UDP"}]}  # fmt: skip


def egress(*rules: dict[str, Any], name: str = "p") -> dict[str, Any]:
    return policy({"podSelector": WEB, "policyTypes": ["Egress"], "egress": list(rules)}, name)


def without_dns(judge: Evaluator, rows: list[dict[str, Any]] | None = None) -> list[str]:
    found = remarks(judge, rows)
    return [f"{r.ref.name}: {r.message}" for r in found if r.topic == "isolates without DNS"]


def test_pods_that_may_not_ask_for_names_are_said() -> None:
    assert without_dns(of(egress(TO_DB))) == [
        "p: it isolates egress, and shop/web may reach no DNS server"
    ]


def test_dns_let_through_by_another_policy_is_enough() -> None:
    assert without_dns(of(egress(TO_DB), egress(TO_DNS, name="dns"))) == []


def test_several_policies_that_cut_the_same_pods_off_are_told_together() -> None:
    assert without_dns(of(egress(), egress(TO_DB, name="q"))) == [
        "p: it isolates egress (with NetworkPolicy shop/q), and shop/web may reach no DNS server"
    ]


def test_dns_on_tcp_alone_is_not_enough() -> None:
    over_tcp = {**TO_DNS, "ports": [{"port": 53, "protocol": "TCP"}]}
    assert without_dns(of(egress(over_tcp)))


def test_with_observed_flows_only_those_that_ask_for_names_need_dns() -> None:
    asks = edge_row("shop/web", "kube-system/dns", "UDP", 53)
    assert without_dns(of(egress(TO_DB)), []) == []
    assert without_dns(of(egress(TO_DB)), [asks])


# --- overlaps ----------------------------------------------------------------------------------

FROM_CART = {"from": [{"podSelector": {"matchLabels": {"app": "cart"}}}]}


def test_a_rule_that_another_policy_makes_needless_names_it() -> None:
    wide = policy({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}, "wide")
    narrow = policy({"podSelector": WEB, "ingress": [FROM_CART]}, "narrow")
    assert told(of(wide, narrow)) == [
        "narrow ingress 0 redundant: it allows what NetworkPolicy shop/wide rule 0 allows as well"
    ]


def test_two_equal_rules_name_each_other() -> None:
    a, b = (policy({"podSelector": WEB, "ingress": [FROM_CART]}, name) for name in "ab")
    assert told(of(a, b)) == [
        "a ingress 0 redundant: it allows what NetworkPolicy shop/b rule 0 allows as well",
        "b ingress 0 redundant: it allows what NetworkPolicy shop/a rule 0 allows as well",
    ]


def test_a_rule_behind_one_that_decides_first_is_shadowed() -> None:
    first = global_policy(
        {"order": 1, "selector": "app == 'web'", "ingress": [{"action": "Deny"}]}, "first"
    )
    later = global_policy(
        {
            "order": 2,
            "selector": "app == 'web'",
            "ingress": [{"action": "Allow", "source": {"selector": "app == 'cart'"}}],
        },
        "later",
    )
    assert told(of(first, later)) == [
        "later ingress 0 shadowed: it never acts: GlobalNetworkPolicy first rule 0 decides first"
    ]


def test_a_deny_that_nothing_contradicts_is_a_guard_rail_and_no_fault() -> None:
    guard = global_policy(
        {"order": 1, "selector": "app == 'web'", "ingress": [{"action": "Deny"}]}, "guard"
    )
    assert told(of(guard)) == []


def test_an_allow_that_nothing_forbids_is_a_guard_rail_and_no_fault() -> None:
    admin = {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "guard"},
        "spec": {
            "tier": "Admin",
            "priority": 1,
            "subject": {"namespaces": {}},
            "ingress": [{"action": "Accept", "from": [{"namespaces": {}}]}],
        },
    }
    assert told(of(admin)) == []


CILIUM = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"}


def cilium(name: str, **spec: Any) -> dict[str, Any]:
    return {**CILIUM, "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


def test_a_rule_that_http_narrows_makes_no_other_needless() -> None:
    port = {"port": "80", "protocol": "TCP"}
    rules = [
        {"toPorts": [{"ports": [port], "rules": {"http": [{"method": "GET"}]}}]},
        {"toPorts": [{"ports": [port]}]},
    ]
    found = told(of(cilium("p", endpointSelector={}, ingress=rules)))
    assert found == [
        "p ingress 0 redundant: it allows what CiliumNetworkPolicy shop/p rule 1 allows as well"
    ]


model_rules = st.lists(
    st.builds(
        Rule,
        known_peers,
        st.sampled_from([Ports(), Ports(PortSet.one("TCP", 80)), Ports(named=(("TCP", "http"),))]),
        st.sampled_from(["allow", "allow", "deny", "pass"]),
        local=st.one_of(st.none(), known_peers),
    ),
    max_size=3,
).map(lambda rules: tuple(replace(rule, index=i) for i, rule in enumerate(rules)))
model_policies = st.lists(
    st.builds(
        Policy,
        st.builds(Ref, st.just("test/v1"), st.just("Policy"), st.none(), st.sampled_from("abcd")),
        st.sampled_from(TIERS),
        st.sampled_from([And(()), In("pod:app", frozenset({"x"}))]),
        st.frozensets(st.sampled_from(["ingress", "egress"])),
        model_rules,
        model_rules,
        st.sampled_from([1.0, 2.0]),
    ),
    max_size=4,
    unique_by=lambda policy: policy.ref,
)


def with_rule(policies: list[Policy], of: Remark, rule: Rule | None) -> list[Policy]:
    """The policies with another rule, or none, in the place of the one that is meant."""
    return [
        change(p, of.direction, of.rule, rule) if of.direction and p.ref == of.ref else p
        for p in policies
    ]


def change(policy: Policy, direction: Direction, index: int | None, rule: Rule | None) -> Policy:
    rules = [
        rule if old.index == index else old
        for old in policy.rules(direction)
        if old.index != index or rule is not None
    ]
    return (
        replace(policy, ingress=tuple(rules))
        if direction == "ingress"
        else replace(policy, egress=tuple(rules))
    )


def sides(judge: Evaluator, direction: Direction) -> list[tuple[PortSet, PortSet]]:
    """What one direction's policies let through between every pair of ends."""
    ends = range(judge.world.size)
    return [
        judge.walk(direction, src, dst, ALL_PORTS)[0].outcome() for src, dst in product(ends, ends)
    ]


@given(worlds(network_policies), model_policies)
@settings(max_examples=50, deadline=None)
def test_exactly_the_rules_that_change_nothing_are_called_needless(
    world: tuple[Any, Any], policies: list[Policy]
) -> None:
    objects = inventory(world[0])
    found = evaluator(policies, objects)
    needless = {(r.ref, r.direction, r.rule): r for r in overlaps(found)}
    for policy, direction in product(policies, DIRECTIONS):
        for rule in policy.rules(direction):
            said = needless.get((policy.ref, direction, rule.index))
            here = said or Remark(policy.ref, "", "", direction, rule.index)
            less = evaluator(with_rule(policies, here, None), objects, beside=policies)
            same = sides(found, direction) == sides(less, direction)
            if said:
                assert same, said
            if said and said.topic == "shadowed":
                other = replace(rule, action="deny" if rule.action == "allow" else "allow")
                if policy.tier.how == "first match":
                    turned = evaluator(with_rule(policies, here, other), objects, beside=policies)
                    assert sides(found, direction) == sides(turned, direction)
            if not said and same and rule.action == "allow":
                pairs = list(matches(found, policy, direction, rule))
                assert not pairs or any(free(found, policy, direction, rule, *p) for p in pairs)


def free(
    judge: Evaluator, policy: Policy, direction: Direction, rule: Rule, subject: int, peer: int
) -> bool:
    """Whether nothing forbids what a rule allows between two ends."""
    src, dst = (subject, peer) if direction == "egress" else (peer, subject)
    ports = judge.acting.ports_at(rule.ports, dst)
    _, because = judge.walk(direction, src, dst, ports, without=(policy, rule))
    return all(why.policy is None for why in because)


def matches(
    judge: Evaluator, policy: Policy, direction: Direction, rule: Rule
) -> Iterator[tuple[int, int]]:
    """The pairs of different ends that a rule matches with some port."""
    selected = judge.world.selected(policy.subject).sure
    for subject, peer in product(range(judge.world.size), range(judge.world.size)):
        server = peer if direction == "egress" else subject
        chosen = selected >> subject & 1 and judge.acting.peers(rule, subject).sure >> peer & 1
        if subject != peer and chosen and judge.acting.ports_at(rule.ports, server):
            yield subject, peer


# --- what would have to change -----------------------------------------------------------------


@given(worlds(network_policies), model_policies)
@settings(max_examples=30, deadline=None)
def test_doing_what_would_have_to_change_turns_the_verdict(
    world: tuple[Any, Any], policies: list[Policy]
) -> None:
    objects = inventory(world[0])
    found = evaluator(policies, objects)
    names = [*world[0]["pods"], "192.0.2.1", *(at for found in NODES.values() for at in found)]
    for src, dst in product(names, names):
        asked = src, dst, "TCP", 80
        allow, needed = found.verdict(*asked).allow, found.to_change(*asked)
        if allow is False:
            turned = evaluator(opened(policies, needed), objects, beside=policies)
            assert turned.verdict(*asked).allow is True, (asked, needed)
        for direction in DIRECTIONS:
            these = [why for why in needed if why.direction == direction]
            if allow and these and all(why.policy for why in these):
                turned = evaluator(opened(policies, these), objects, beside=policies)
                assert turned.verdict(*asked).allow is False, (asked, these)


def opened(policies: list[Policy], needed: list[Any]) -> list[Policy]:
    """The policies without the rules that must go, and with a rule where one is wanted."""
    for why in needed:
        if why.rule is not None:
            meant = Remark(why.policy, "", "", why.direction, why.rule)
            policies = with_rule(policies, meant, None)
        elif why.policy is not None:
            allow = Rule(AnyPeer(), index=99)
            policies = [
                p
                if p.ref != why.policy
                else replace(p, ingress=(*p.ingress, allow))
                if why.direction == "ingress"
                else replace(p, egress=(*p.egress, allow))
                for p in policies
            ]
    return policies


def test_what_nothing_can_change_needs_nothing() -> None:
    found = of(policy({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))
    assert found.to_change("shop/web", "shop/web", "TCP", 80) == []


def test_both_ends_are_named_where_both_would_have_to_change() -> None:
    both = policy({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    needed = of(both).to_change("shop/web", "shop/cart", "TCP", 80)
    assert [(why.direction, why.action, str(why.policy)) for why in needed] == [
        ("ingress", "default deny", "NetworkPolicy shop/p"),
        ("egress", "default deny", "NetworkPolicy shop/p"),
    ]


# --- use ---------------------------------------------------------------------------------------

SEEN = edge_row("shop/cart", "shop/web", "TCP", 8080)


def test_a_rule_that_no_flow_came_through_is_said() -> None:
    one = policy({"podSelector": WEB, "ingress": [FROM_CART, TO_DB | {"from": TO_DB["to"]}]})
    one["spec"]["ingress"][1].pop("to")
    assert "p ingress 1 never used: no flow came through it in the window" in told(of(one), [SEEN])


def test_a_rule_that_lets_through_what_was_seen_and_no_more_is_in_order() -> None:
    exact = {**FROM_CART, "ports": [{"port": 8080}]}
    assert told(of(policy({"podSelector": WEB, "ingress": [exact]})), [SEEN]) == []


WIDE = (
    "p ingress 0 wider than its use: 1 of 2 pairs of workloads were seen; 1 of 256 addresses were "
    "seen; never seen: TCP 8082-8089"
)


def test_a_rule_wider_than_its_use_tells_pairs_ports_and_addresses() -> None:
    wide = {"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}],
            "ports": [{"port": 8080, "endPort": 8089}]}  # fmt: skip
    seen = [SEEN, edge_row("192.0.2.7", "shop/web", "TCP", 8081)]
    assert told(of(policy({"podSelector": {}, "ingress": [wide]})), seen) == [WIDE]


def test_dns_kept_on_tcp_is_not_wider_than_its_use() -> None:
    both = {**TO_DNS, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    asks = edge_row("shop/web", "kube-system/dns", "UDP", 53)
    assert told(of(egress(both)), [asks]) == []


def test_a_flow_that_the_other_end_denies_used_the_rule_all_the_same() -> None:
    closed = policy({"podSelector": {"matchLabels": {"app": "cart"}}}, "closed")
    out = policy({"podSelector": WEB, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}]}]}, "out")  # fmt: skip
    seen = [edge_row("shop/web", "shop/cart", "TCP", 80)]
    assert not [line for line in told(of(closed, out), seen) if "never used" in line]
