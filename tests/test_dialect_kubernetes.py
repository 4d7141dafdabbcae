from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recommender.dialects import kubernetes, parse_policies
from recommender.errors import PolicyError
from recommender.inventory import Inventory
from recommender.manifests import Manifest
from recommender.model import (
    NO_PORTS,
    And,
    AnyPeer,
    Has,
    In,
    LabelPeer,
    Not,
    Parsed,
    Policy,
    Ports,
    PortSet,
    Rule,
    UnknownPeer,
)
from recommender.tiers import NETWORK_POLICIES


def parse(spec: dict[str, Any] | str | None, **meta: str) -> Parsed:
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop", **meta},
        "spec": yaml.safe_load(spec) if isinstance(spec, str) else spec,
    }
    return kubernetes.parse([Manifest("p.yaml:1", body)], Inventory())


def one(spec: dict[str, Any] | str | None) -> Policy:
    parsed = parse(spec)
    assert not parsed.findings
    (policy,) = parsed.policies
    return policy


def refused(spec: str) -> tuple[str, str]:
    parsed = parse(spec)
    assert not parsed.policies
    (finding,) = parsed.findings
    assert finding.place == "p.yaml:1"
    assert str(finding.ref) == "NetworkPolicy shop/p"
    return finding.field, finding.message


SHOP = In("meta:namespace", frozenset({"shop"}))


def in_(key: str, *values: str) -> In:
    return In(key, frozenset(values))


def test_without_policy_types_ingress_is_isolated_and_egress_where_it_has_rules() -> None:
    assert one("{podSelector: {}}").isolates == {"ingress"}
    assert one("{egress: []}").isolates == {"ingress"}
    assert one("{egress: [{}]}").isolates == {"ingress", "egress"}
    assert one("{policyTypes: [], egress: [{}]}").isolates == {"ingress", "egress"}
    assert one("{policyTypes: [Egress]}").isolates == {"egress"}


def test_rules_of_a_direction_that_policy_types_leave_out_have_no_effect() -> None:
    policy = one("{policyTypes: [Ingress], ingress: [{}], egress: [{}]}")
    assert policy.ingress == (Rule(),)
    assert policy.egress == ()


@pytest.mark.parametrize("peers", ["", "from: null", "from: []"])
def test_no_peers_are_everyone(peers: str) -> None:
    assert one(f"{{ingress: [{{{peers}}}]}}").ingress == (Rule(AnyPeer()),)


@pytest.mark.parametrize("rule", ["null", "{}", "{from: null, ports: null}"])
def test_an_empty_rule_allows_all(rule: str) -> None:
    assert one(f"{{ingress: [{rule}]}}").ingress == (Rule(),)


@pytest.mark.parametrize("rules", ["", "ingress: null", "ingress: []"])
def test_no_rules_allow_nothing(rules: str) -> None:
    policy = one(f"{{{rules}}}")
    assert policy.ingress == ()
    assert policy.isolates == {"ingress"}


def test_a_policy_without_spec_isolates_its_namespace() -> None:
    assert one(None).subject == And((SHOP,))


def test_a_policy_without_namespace_is_in_default() -> None:
    (policy,) = parse({}, namespace="").policies
    assert policy.ref.namespace == "default"
    assert policy.subject == And((In("meta:namespace", frozenset({"default"})),))


def test_selectors_of_a_peer_must_both_match_and_the_namespace_defaults_to_the_own() -> None:
    policy = one("""
      ingress:
      - from:
        - {podSelector: {matchLabels: {app: web}}}
        - {namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {app: web}}}
        - {namespaceSelector: {}}
    """)
    assert policy.ingress[0].peer.peers == (  # type: ignore[union-attr]
        LabelPeer(And((SHOP, in_("pod:app", "web")))),
        LabelPeer(And((in_("ns:team", "a"), in_("pod:app", "web")))),
        LabelPeer(And(())),
    )


def test_every_operator_is_read() -> None:
    policy = one("""
      podSelector:
        matchExpressions:
        - {key: a, operator: In, values: [x, y]}
        - {key: b, operator: NotIn, values: [x]}
        - {key: c, operator: Exists}
        - {key: d, operator: DoesNotExist}
    """)
    assert policy.subject == And(
        (SHOP, in_("pod:a", "x", "y"), Not(in_("pod:b", "x")), Has("pod:c"), Not(Has("pod:d")))
    )


def test_ports_default_to_tcp_and_join() -> None:
    policy = one("""
      ingress:
      - ports:
        - {port: 80}
        - {port: 81, endPort: 90}
        - {protocol: UDP}
        - {port: http}
        - {port: dns, protocol: UDP}
    """)
    numbers = PortSet.of({"TCP": [(80, 90)], "UDP": [(1, 65535)]})
    assert policy.ingress[0].ports == Ports(numbers, (("TCP", "http"), ("UDP", "dns")))


def test_named_ports_only_mean_no_numbers() -> None:
    assert one("{ingress: [{ports: [{port: http}]}]}").ingress[0].ports.numbers == NO_PORTS


def test_a_block_with_host_bits_means_its_network() -> None:
    policy = one("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/24}}]}]}")
    assert policy.ingress[0].peer.blocks == ("10.0.0.0/24",)  # type: ignore[union-attr]


BLOCK = "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/24, except: [%s]}}]}]}"
PORT = "{ingress: [{ports: [{%s}]}]}"
TERM = "{podSelector: {matchExpressions: [{%s}]}}"


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ("{ingress: [{from: [{}]}]}", "spec.ingress[0].from[0]", "needs"),
        ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.1}}]}]}", "spec.ingress[0].from[0].ipBlock.cidr", "10.0.0.1"),
        ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}", "spec.ingress[0].from[0].ipBlock.cidr", "/33"),
        ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/255.0.0.0}}]}]}", "spec.ingress[0].from[0].ipBlock.cidr", "/255"),
        ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/0.255.255.255}}]}]}", "spec.ingress[0].from[0].ipBlock.cidr", "/0.255"),
        ("{ingress: [{from: [{ipBlock: {cidr: 'fe80::%eth0/64'}}]}]}", "spec.ingress[0].from[0].ipBlock.cidr", "%eth0"),
        ("{ingress: [{from: [{ipBlock: {}}]}]}", "spec.ingress[0].from[0].ipBlock.cidr", "None"),
        ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}", "spec.ingress[0].from[0]", "beside"),
        (BLOCK % "10.0.1.0/25", "spec.ingress[0].from[0].ipBlock.except[0]", "10.0.0.0/24"),
        (BLOCK % "10.0.0.0/24", "spec.ingress[0].from[0].ipBlock.except[0]", "not a part"),
        (BLOCK % "10.0.0.0/16", "spec.ingress[0].from[0].ipBlock.except[0]", "not a part"),
        (BLOCK % "'fd00::/64'", "spec.ingress[0].from[0].ipBlock.except[0]", "not a part"),
        (PORT % "port: 0", "spec.ingress[0].ports[0].port", "0"),
        (PORT % "port: 65536", "spec.ingress[0].ports[0].port", "65536"),
        (PORT % "port: '80'", "spec.ingress[0].ports[0].port", "'80'"),
        (PORT % "port: no--name", "spec.ingress[0].ports[0].port", "no--name"),
        (PORT % "port: true", "spec.ingress[0].ports[0].port", "True"),
        (PORT % "port: 80, endPort: 79", "spec.ingress[0].ports[0].endPort", "below"),
        (PORT % "port: http, endPort: 79", "spec.ingress[0].ports[0].endPort", "number"),
        (PORT % "endPort: 79", "spec.ingress[0].ports[0].endPort", "number"),
        (PORT % "protocol: tcp", "spec.ingress[0].ports[0].protocol", "'tcp'"),
        (PORT % "protocol: ICMP", "spec.ingress[0].ports[0].protocol", "ICMP"),
        (TERM % "key: a, operator: Equals", "spec.podSelector.matchExpressions[0].operator", "Equals"),
        (TERM % "key: a, operator: In", "spec.podSelector.matchExpressions[0].values", "at least one"),
        (TERM % "key: a, operator: Exists, values: [x]", "spec.podSelector.matchExpressions[0].values", "no values"),
        (TERM % "operator: Exists", "spec.podSelector.matchExpressions[0].key", "None"),
        ("{podSelector: {matchLabels: {version: 1}}}", "spec.podSelector.matchLabels.version", "1"),
        ("{podSelector: {matchLabels: {-a: b}}}", "spec.podSelector.matchLabels", "-a"),
        ("{podSelector: [web]}", "spec.podSelector", "map"),
        ("{policyTypes: [ingress]}", "spec.policyTypes[0]", "'ingress'"),
        ("{policyTypes: [Ingress, Egress, Egress]}", "spec.policyTypes", "two"),
        ("{policyTypes: [Ingress], egress: [{ports: [{port: 0}]}]}", "spec.egress[0].ports[0].port", "0"),
        ("{ingress: {}}", "spec.ingress", "list"),
    ],
)  # fmt: skip
def test_what_the_api_server_refuses_is_a_finding(spec: str, field: str, words: str) -> None:
    found, message = refused(spec)
    assert found == field
    assert words in message


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("{podSelector: {matchLabel: {app: web}}}", "spec.podSelector.matchLabel"),
        ("{podSelector: {}, Ingress: [{}]}", "spec.Ingress"),
        ("{podSelector: {}, ingress: [{to: [{podSelector: {}}]}]}", "spec.ingress[0].to"),
        ("{podSelector: {}, ingress: [{port: [{port: 80}]}]}", "spec.ingress[0].port"),
        (
            "{podSelector: {}, ingress: [{from: [{podSelector: {}, namespaceselector: {}}]}]}",
            "spec.ingress[0].from[0].namespaceselector",
        ),
        ("{podSelector: {}, ingress: [{ports: [{prot: 80}]}]}", "spec.ingress[0].ports[0].prot"),
        (
            "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, exept: []}}]}]}",
            "spec.ingress[0].from[0].ipBlock.exept",
        ),
    ],
)
def test_a_field_that_there_is_not_is_said_and_the_policy_is_judged_without_it(
    spec: str, field: str
) -> None:
    parsed = parse(spec)
    assert len(parsed.policies) == 1
    (finding,) = parsed.findings
    assert (finding.field, finding.effect) == (field, "read all the same")
    assert finding.message.startswith("no such field; the API server drops it")


def test_the_rest_of_a_set_is_judged_and_other_kinds_are_counted() -> None:
    def manifest(name: str, kind: str, spec: Any) -> Manifest:
        meta = {"name": name, "namespace": "shop"}
        body = {"apiVersion": "networking.k8s.io/v1", "kind": kind, "metadata": meta, "spec": spec}
        return Manifest(f"{name}.yaml:1", body)

    bad = {"ingress": [{"ports": [{"port": 0}]}]}
    parsed = parse_policies(
        [
            manifest("good", "NetworkPolicy", {}),
            manifest("bad", "NetworkPolicy", bad),
            manifest("way", "Ingress", {}),
        ],
        Inventory(),
    )
    assert [policy.ref.name for policy in parsed.policies] == ["good"]
    assert [finding.ref.name for finding in parsed.findings] == ["bad"]
    assert parsed.unknown_kinds == (("networking.k8s.io/v1 Ingress", 1),)


keys = st.sampled_from(["app", "tier", "example.com/role"])
values = st.sampled_from(["a", "b", "c"])
terms = st.one_of(
    st.fixed_dictionaries(
        {"key": keys, "operator": st.sampled_from(["In", "NotIn"]),
         "values": st.lists(values, min_size=1, max_size=2)}
    ),
    st.fixed_dictionaries({"key": keys, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)  # fmt: skip
label_selectors = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.dictionaries(keys, values, max_size=2),
        "matchExpressions": st.lists(terms, max_size=2),
    },
)
blocks = st.sampled_from(
    [
        {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.168.0.0/16"]},
        {"cidr": "203.0.113.0/24"},
        {"cidr": "fd00::/8", "except": ["fd00::/64"]},
    ]
)
peers = st.one_of(
    st.fixed_dictionaries({"podSelector": label_selectors}),
    st.fixed_dictionaries({"namespaceSelector": label_selectors}),
    st.fixed_dictionaries({"namespaceSelector": label_selectors, "podSelector": label_selectors}),
    st.fixed_dictionaries({"ipBlock": blocks}),
)
ports = st.one_of(
    st.fixed_dictionaries({}, optional={"protocol": st.sampled_from(["TCP", "UDP", "SCTP"])}),
    st.fixed_dictionaries(
        {"port": st.sampled_from([1, 80, 81, "http", "dns-tcp"])},
        optional={"protocol": st.sampled_from(["TCP", "UDP"])},
    ),
    st.fixed_dictionaries({"port": st.integers(1, 90), "endPort": st.integers(90, 65535)}),
)


def rules(key: str) -> st.SearchStrategy[Any]:
    rule = {key: st.lists(peers, max_size=2), "ports": st.lists(ports, max_size=3)}
    return st.lists(st.fixed_dictionaries({}, optional=rule), max_size=2)


specs = st.fixed_dictionaries(
    {"podSelector": label_selectors},
    optional={
        "policyTypes": st.lists(st.sampled_from(["Ingress", "Egress"]), unique=True),
        "ingress": rules("from"),
        "egress": rules("to"),
    },
)


@given(specs)
def test_what_is_rendered_parses_to_the_same_policy(spec: dict[str, Any]) -> None:
    policy = one(spec)
    body = kubernetes.render(policy)
    again = kubernetes.parse([Manifest("p.yaml:1", body)], Inventory())
    assert again == Parsed((policy,))
    assert kubernetes.render(again.policies[0]) == body


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(action="deny"), "plain allow"),
        (Rule(UnknownPeer("x")), "UnknownPeer"),
        (Rule(LabelPeer(in_("sa:role", "x"))), "sa:role"),
        (Rule(LabelPeer(in_("meta:namespace", "other"))), "other"),
        (Rule(ports=Ports(PortSet.one("ICMP", 8))), "ICMP"),
        (Rule(ports=Ports(NO_PORTS)), "no port"),
        (Rule(ports=Ports(not_named=(("TCP", "http"),))), "names"),
    ],
)
def test_what_a_network_policy_cannot_say_is_not_rendered(rule: Rule, words: str) -> None:
    policy = Policy(
        one("{}").ref, NETWORK_POLICIES, And((SHOP,)), frozenset({"ingress"}), ingress=(rule,)
    )
    with pytest.raises(PolicyError, match=words):
        kubernetes.render(policy)
