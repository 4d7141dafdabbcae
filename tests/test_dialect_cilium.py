import json

import pytest
from hypothesis import given
from policytext import broken, made, parsed, passes, policy, reason, rule, said

from recommender.model import (
    EVERYTHING,
    NOTHING,
    AddressPeer,
    AllOf,
    And,
    AnyOf,
    AnyPeer,
    EntityPeer,
    Has,
    In,
    LabelPeer,
    NamePeer,
    NodePeer,
    Not,
    NotPeer,
    Ports,
    PortSet,
    Tier,
    UnknownPeer,
)

API = "cilium.io/v2"
SHOP = In("meta:namespace", frozenset({"shop"}))
EVERY_POD = "endpointSelector: {}"


def cnp(spec, name="p", namespace="shop"):
    return made(API, "CiliumNetworkPolicy", name, namespace, spec=f"{{{EVERY_POD}, {spec}}}")


def ccnp(spec, name="p"):
    text = f"{{{EVERY_POD}, {spec}}}"
    return made(API, "CiliumClusterwideNetworkPolicy", name, None, spec=text)


def group(name, *blocks, labels="{}", api="cilium.io/v2alpha1"):
    spec = {"externalCIDRs": list(blocks)}
    return made(api, "CiliumCIDRGroup", name, None, labels=labels, spec=spec)


def label(key, *values):
    return In(key, frozenset(values))


# --- objects, specs, default deny --------------------------------------------------------------


def test_policies_act_as_one_union_in_which_what_is_not_allowed_is_denied():
    one = policy(cnp("ingress: [{}]"))
    assert one.tier == Tier("cilium", 1_000_000, "union", "deny")
    assert (one.ref.api, one.ref.namespace, one.ref.place) == (API, "shop", "case.yaml:1")


def test_spec_and_specs_are_both_read_each_with_its_own_rule_indexes():
    ingress = {"ingress": [{"fromEntities": ["host"]}, {"fromEntities": ["world"]}]}
    spec = {"endpointSelector": {}, **ingress}
    found = parsed(made(API, "CiliumNetworkPolicy", "p", "shop", spec=spec, specs=[spec]))
    assert [[r.index for r in p.ingress] for p in found.policies] == [[0, 1], [0, 1]]
    assert len({p.ref for p in found.policies}) == 1


def test_a_policy_without_a_namespace_is_in_the_default_namespace():
    one = policy(
        made(API, "CiliumNetworkPolicy", "p", None, spec=f"{{{EVERY_POD}, egress: [{{}}]}}")
    )
    assert one.subject == And((label("meta:namespace", "default"),))


@pytest.mark.parametrize(
    ("spec", "isolates"),
    [
        ("ingress: [{}]", {"ingress"}),
        ("ingressDeny: [{fromEntities: [world]}]", {"ingress"}),
        ("egress: [{}], ingress: []", {"egress"}),
        ("egress: [{}], ingress: [{}]", {"ingress", "egress"}),
        ("egress: [{}], enableDefaultDeny: {egress: false}", set()),
        ("ingressDeny: [{}], enableDefaultDeny: {ingress: true}", {"ingress"}),
        ("egress: [{}], enableDefaultDeny: {}", {"egress"}),
    ],
)
def test_default_deny_is_turned_on_by(spec, isolates):
    assert policy(cnp(spec)).isolates == isolates


def test_default_deny_is_not_turned_on_where_there_are_no_rules():
    spec = "egress: [{}], enableDefaultDeny: {ingress: true}"
    assert parsed(cnp(spec)).policies[0].isolates == {"egress"}
    assert said(cnp(spec)) == [
        "spec.enableDefaultDeny.ingress: has no effect without rules of that direction since Cilium 1.19"
    ]
    assert passes("data/db -> shop/web tcp/8080", cnp(spec)) is True


def test_icmp_type_0_means_every_type():
    spec = "ingress: [{icmps: [{fields: [{type: EchoReply}]}]}]"
    assert passes("data/db -> shop/web icmp/2048", cnp(spec)) is True
    assert passes("data/db -> shop/web icmpv6/32768", cnp(spec)) is False
    assert said(cnp(spec)) == [
        "spec.ingress[0].icmps[0].fields[0].type: 0 means every type to the agent"
    ]


def test_an_empty_element_turns_default_deny_on_and_allows_nobody():
    assert policy(cnp("ingress: [{}]")).ingress == ()
    assert passes("data/db -> shop/web tcp/8080", cnp("ingress: [{}]")) is False


def test_an_additive_policy_leaves_everything_open():
    additive = cnp("egress: [{toEntities: [host]}], enableDefaultDeny: {egress: false}")
    assert passes("shop/web -> data/db tcp/5432", additive) is True


def test_one_policy_that_asks_for_default_deny_suffices():
    additive = cnp("egress: [{toEntities: [host]}], enableDefaultDeny: {egress: false}")
    assert passes("shop/web -> data/db tcp/5432", additive, cnp("egress: [{}]", "other")) is False


def test_a_deny_wins_over_an_allow_of_another_policy():
    allow = cnp("egress: [{toEntities: [all]}]")
    deny = ccnp("egressDeny: [{toEndpoints: [{matchLabels: {app: db}}]}]")
    assert passes("shop/web -> data/db tcp/5432", allow) is True
    assert passes("shop/web -> data/db tcp/5432", allow, deny) is False


def test_a_deny_on_a_port_leaves_the_others():
    deny = cnp(
        "egressDeny: [{toEntities: [all], toPorts: [{ports: [{port: '5432', protocol: TCP}]}]}],"
        " enableDefaultDeny: {egress: false}"
    )
    assert passes("shop/web -> data/db tcp/5432", deny) is False
    assert passes("shop/web -> data/db tcp/5433", deny) is True


def test_a_deny_without_ports_denies_icmp_too():
    deny = cnp("egressDeny: [{toEntities: [cluster]}], enableDefaultDeny: {egress: false}")
    assert passes("shop/web -> data/db icmp/2048", deny) is False


def test_a_host_policy_selects_no_pod():
    spec = "{nodeSelector: {matchLabels: {zone: a}}, ingress: [{}]}"
    one = policy(made(API, "CiliumClusterwideNetworkPolicy", "p", None, spec=spec))
    assert one.subject == NOTHING


@pytest.mark.parametrize(
    ("kind", "spec", "finding"),
    [
        ("CiliumNetworkPolicy", "{}", ": needs spec or specs"),
        ("CiliumNetworkPolicy", "{ingress: [{}]}", "spec: needs exactly one of endpointSelector"),
        (
            "CiliumClusterwideNetworkPolicy",
            "{endpointSelector: {}, nodeSelector: {}, ingress: [{}]}",
            "spec: needs exactly one of endpointSelector",
        ),
        (
            "CiliumNetworkPolicy",
            "{nodeSelector: {}, ingress: [{}]}",
            "spec.nodeSelector: may stand",
        ),
        ("CiliumNetworkPolicy", "{endpointSelector: {}, ingress: []}", "spec: needs a rule"),
        (
            "CiliumNetworkPolicy",
            "{endpointSelector: [], ingress: [{}]}",
            "spec.endpointSelector: must",
        ),
        ("CiliumNetworkPolicy", "{endpointSelector: {}, ingress: {a: b}}", "spec.ingress: must"),
    ],
)
def test_an_object_without_meaning_is_left_out_and_said(kind, spec, finding):
    found = parsed(made(API, kind, "p", "shop", spec=spec))
    assert found.policies == ()
    (one,) = found.findings
    assert f"{one.field}: {one.message}".startswith(finding)


# --- subjects and selectors --------------------------------------------------------------------


def subject(selector, namespace="shop"):
    kind = "CiliumNetworkPolicy" if namespace else "CiliumClusterwideNetworkPolicy"
    spec = f"{{endpointSelector: {selector}, ingress: [{{}}]}}"
    return parsed(made(API, kind, "p", namespace, spec=spec)).policies[0].subject


def test_the_subject_is_limited_to_the_policys_own_namespace():
    assert subject("{}") == And((SHOP,))
    assert subject("{}", None) == EVERYTHING


@pytest.mark.parametrize("key", ["app", "k8s:app", "any:app"])
def test_every_source_of_a_pod_label_means_the_same(key):
    assert subject(f"{{matchLabels: {{'{key}': web}}}}") == And((SHOP, label("pod:app", "web")))


@pytest.mark.parametrize(
    ("key", "means"),
    [
        ("io.kubernetes.pod.namespace", "meta:namespace"),
        ("io.cilium.k8s.namespace.labels.team", "ns:team"),
        ("io.cilium.k8s.policy.serviceaccount", "meta:service-account"),
        ("io.cilium.k8s.policy.cluster", "meta:cluster"),
    ],
)
def test_ciliums_own_keys_are_those_of_the_model(key, means):
    assert subject(f"{{matchLabels: {{'k8s:{key}': x}}}}", None) == And((label(means, "x"),))


def test_every_operator_of_match_expressions_is_read():
    expressions = (
        "[{key: a, operator: In, values: [x, y]}, {key: b, operator: NotIn, values: [x]},"
        " {key: c, operator: Exists}, {key: d, operator: DoesNotExist}]"
    )
    assert subject(f"{{matchExpressions: {expressions}}}", None) == And(
        (label("pod:a", "x", "y"), Not(label("pod:b", "x")), Has("pod:c"), Not(Has("pod:d")))
    )


def test_another_namespace_in_the_subject_does_not_work_and_is_said():
    plain = "{matchLabels: {io.kubernetes.pod.namespace: data}}"
    assert subject(plain) == And((SHOP, label("meta:namespace", "data")))
    # The agent writes its own value over this one key only.
    assert subject("{matchLabels: {'k8s:io.kubernetes.pod.namespace': data}}") == And((SHOP,))
    spec = f"{{endpointSelector: {plain}, ingress: [{{}}]}}"
    (finding,) = said(made(API, "CiliumNetworkPolicy", "p", "shop", spec=spec))
    assert finding == "spec.endpointSelector: names another namespace than the policy's own, shop"


def test_a_label_of_no_pod_selects_no_pod():
    assert passes("data/db -> shop/web tcp/8080", cnp("ingress: [{}]")) is False
    spec = "{endpointSelector: {matchLabels: {'reserved:host': ''}}, ingress: [{}]}"
    only_hosts = made(API, "CiliumClusterwideNetworkPolicy", "p", None, spec=spec)
    assert passes("data/db -> shop/web tcp/8080", only_hosts) is True


def peer(selector, make=cnp):
    return rule(make(f"ingress: [{{fromEndpoints: [{selector}]}}]")).peer


def test_a_peer_without_a_namespace_is_of_the_policys_own():
    assert peer("{}") == LabelPeer(And((SHOP,)))
    assert peer("{matchLabels: {app: db}}") == LabelPeer(And((SHOP, label("pod:app", "db"))))


@pytest.mark.parametrize("key", ["io.kubernetes.pod.namespace", "k8s:io.kubernetes.pod.namespace"])
def test_a_peer_with_a_namespace_keeps_it(key):
    assert peer(f"{{matchLabels: {{'{key}': data}}}}") == LabelPeer(
        And((label("meta:namespace", "data"),))
    )


def test_a_namespace_label_also_takes_the_implicit_namespace_away():
    assert peer("{matchLabels: {io.cilium.k8s.namespace.labels.team: store}}") == LabelPeer(
        And((label("ns:team", "store"),))
    )


def test_all_namespaces_are_said_with_exists():
    exists = "{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: Exists}]}"
    assert peer(exists) == LabelPeer(And((Has("meta:namespace"),)))


def test_a_clusterwide_peer_is_whoever_has_a_namespace():
    assert peer("{}", ccnp) == LabelPeer(And((Has("meta:namespace"),)))
    assert peer("{matchLabels: {io.cilium.k8s.namespace.labels.team: store}}", ccnp) == LabelPeer(
        And((Has("meta:namespace"), label("ns:team", "store")))
    )


def test_a_selector_of_endpoints_means_neither_nodes_nor_the_world():
    everyone = ccnp("ingress: [{fromEndpoints: [{}]}]")
    assert passes("data/db -> shop/web tcp/8080", everyone) is True
    assert passes("192.168.0.2 -> shop/web tcp/8080", everyone) is False
    assert passes("8.8.8.8 -> shop/web tcp/8080", everyone) is False
    assert passes("edge/proxy -> shop/web tcp/8080", everyone) is False


def test_a_cluster_cannot_be_told():
    here = cnp("ingress: [{fromEndpoints: [{matchLabels: {io.cilium.k8s.policy.cluster: east}}]}]")
    assert passes("shop/cart -> shop/web tcp/8080", here) is None


def test_reserved_labels_are_entities_and_take_no_namespace():
    assert peer("{matchLabels: {'reserved:host': ''}}") == EntityPeer("host")
    assert peer("{matchLabels: {'reserved:all': ''}}") == AnyPeer()
    absent = "{matchExpressions: [{key: 'reserved:world', operator: DoesNotExist}]}"
    assert peer(absent, ccnp) == NotPeer(EntityPeer("world"))


def test_reserved_labels_may_stand_beside_others():
    both = "{matchLabels: {app: db}, matchExpressions: [{key: 'reserved:host', operator: DoesNotExist}]}"
    assert peer(both) == AllOf((LabelPeer(label("pod:app", "db")), NotPeer(EntityPeer("host"))))


def test_labels_that_only_the_agent_knows_cannot_be_told():
    assert isinstance(peer("{matchLabels: {'cidr:10.0.0.0/8': ''}}"), UnknownPeer)


def test_a_selector_that_only_excludes_is_unknown_for_what_is_no_pod():
    others = cnp(
        "ingress: [{fromEndpoints: [{matchExpressions:"
        " [{key: io.kubernetes.pod.namespace, operator: NotIn, values: [data]}]}]}]"
    )
    assert passes("shop/cart -> shop/web tcp/8080", others) is True
    assert passes("data/db -> shop/web tcp/8080", others) is False
    assert passes("8.8.8.8 -> shop/web tcp/8080", others) is None
    assert "NotIn and DoesNotExist" in reason("8.8.8.8 -> shop/web tcp/8080", others)


@pytest.mark.parametrize(
    ("selector", "finding"),
    [
        ("{matchExpressions: [{key: a, operator: Gt, values: ['1']}]}", "[0].operator: must be In"),
        ("{matchExpressions: [{key: a, operator: In}]}", "[0].values: must be given"),
        (
            "{matchExpressions: [{key: a, operator: Exists, values: [x]}]}",
            "[0].values: must not be",
        ),
    ],
)
def test_a_bad_selector_leaves_its_policy_out(selector, finding):
    bad = cnp(f"ingress: [{{fromEndpoints: [{selector}]}}, {{fromEndpoints: [{{}}]}}]")
    assert finding in said(bad)[0]
    assert parsed(bad).policies == ()


# --- lists that are empty or absent ------------------------------------------------------------


def test_ports_without_peers_mean_any_peer():
    assert rule(cnp("ingress: [{toPorts: [{ports: [{port: '80'}]}]}]")).peer == AnyPeer()


def test_an_empty_peer_list_means_nobody():
    one = cnp("ingress: [{fromEndpoints: [], toPorts: [{ports: [{port: '80'}]}]}]")
    assert rule(one).peer == AnyOf(())
    assert passes("shop/cart -> shop/web tcp/80", one) is False


def test_an_empty_port_list_means_every_port():
    assert rule(cnp("ingress: [{fromEntities: [world], toPorts: []}]")).ports == Ports()


def test_an_entry_without_ports_allows_nothing():
    assert policy(cnp("ingress: [{fromEntities: [world], toPorts: [{}]}]")).ingress == ()


# --- kinds of peers ----------------------------------------------------------------------------


def test_entities_are_read_and_all_and_none_are_everyone_and_nobody():
    names = "[host, remote-node, cluster, world, kube-apiserver, ingress, health, init, unmanaged]"
    assert rule(cnp(f"ingress: [{{fromEntities: {names}}}]")).peer == AnyOf(
        tuple(EntityPeer(name) for name in names.strip("[]").split(", "))
    )
    assert rule(cnp("ingress: [{fromEntities: [all]}]")).peer == AnyPeer()
    assert rule(cnp("ingress: [{fromEntities: [none]}]")).peer == AnyOf(())


def test_an_entity_that_the_crd_does_not_list_is_said_and_read():
    one = cnp("egress: [{toEntities: [world-ipv4]}]")
    assert said(one) == [
        "spec.egress[0].toEntities[0]: the CRD does not list world-ipv4: write world"
    ]
    assert passes("shop/web -> 8.8.8.8 tcp/443", one) is True
    assert passes("shop/web -> data/db tcp/443", one) is False


def test_an_entity_that_does_not_exist_leaves_its_policy_out():
    one = cnp("egress: [{toEntities: [internet]}]")
    assert "'internet' is none of" in said(one)[0]
    assert parsed(one).policies == ()


def test_a_cidr_means_neither_pods_nor_nodes():
    one = cnp("egress: [{toCIDR: [0.0.0.0/0]}]")
    assert rule(one).peer == AddressPeer(("0.0.0.0/0",), reach="outside")
    assert passes("shop/web -> 8.8.8.8 tcp/443", one) is True
    assert passes("shop/web -> data/db tcp/443", one) is False
    assert passes("shop/web -> 192.168.0.2 tcp/443", one) is False


def test_exceptions_belong_to_their_own_cidr_only():
    one = cnp(
        "egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}, {cidr: 10.1.2.0/24},"
        " {cidr: 1.1.1.1/32}]}]"
    )
    assert rule(one).peer == AnyOf(
        (AddressPeer(("10.0.0.0/8",), ("10.1.0.0/16",)), AddressPeer(("1.1.1.1/32", "10.1.2.0/24")))
    )


@pytest.mark.parametrize(
    ("item", "finding"),
    [
        ("toCIDR: [10.0.0.1]", ".toCIDR[0]: must be a CIDR: write 10.0.0.1/32"),
        ("toCIDR: [ten]", ".toCIDR[0]: 'ten' is not a CIDR"),
        ("toCIDR: [10.0.0.0/255.0.0.0]", ".toCIDR[0]: '10.0.0.0/255.0.0.0' is not a CIDR"),
        ("toCIDR: ['fe80::%eth0']", ".toCIDR[0]: 'fe80::%eth0' is not a CIDR"),
        (
            "toCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/8]}]",
            ".toCIDRSet[0].except[0]: must lie inside 10.0.0.0/8",
        ),
        ("toCIDRSet: [{except: [11.0.0.0/8]}]", ".toCIDRSet[0]: needs exactly one of cidr"),
        ("toCIDRSet: [{cidr: 1.0.0.0/8, cidrGroupRef: g}]", ".toCIDRSet[0]: needs exactly one of"),
    ],
)
def test_a_bad_cidr_is_said(item, finding):
    assert said(cnp(f"egress: [{{{item}}}]"))[0].startswith(f"spec.egress[0]{finding}")


@pytest.mark.parametrize("api", ["cilium.io/v2", "cilium.io/v2alpha1"])
def test_a_cidr_group_stands_for_its_blocks(api):
    one = rule(
        cnp("egress: [{toCIDRSet: [{cidrGroupRef: partners, except: [1.1.1.0/24]}]}]"),
        group("partners", "1.1.0.0/16", "2.2.0.0/16", api=api),
    )
    assert one.peer == AddressPeer(("1.1.0.0/16", "2.2.0.0/16"), ("1.1.1.0/24",))


def test_cidr_groups_are_selected_by_their_labels():
    one = rule(
        cnp("egress: [{toCIDRSet: [{cidrGroupSelector: {matchLabels: {kind: bank}}}]}]"),
        group("a", "1.1.0.0/16", labels="{kind: bank}"),
        group("b", "2.2.0.0/16", labels="{kind: shop}"),
        group("c", "3.3.0.0/16", labels="{kind: bank}"),
    )
    assert one.peer == AddressPeer(("1.1.0.0/16", "3.3.0.0/16"))


def test_a_cidr_group_that_is_not_there_is_said_and_cannot_be_told():
    one = cnp("egress: [{toCIDRSet: [{cidrGroupRef: partners}, {cidr: 1.0.0.0/8}]}]")
    assert "no such CiliumCIDRGroup among the manifests: whom it matches" in said(one)[0]
    assert passes("shop/web -> 1.2.3.4 tcp/443", one) is True
    assert passes("shop/web -> 8.8.8.8 tcp/443", one) is None
    assert passes("shop/web -> data/db tcp/443", one) is False


def test_names_are_read_in_lower_case_without_the_last_dot():
    one = cnp(
        "egress: [{toFQDNs: [{matchName: API.Bank.example.}, {matchPattern: '*.pay.example'}]}]"
    )
    assert rule(one).peer == NamePeer(("*.pay.example", "api.bank.example"))
    assert passes("shop/web -> 8.8.8.8 tcp/443", one) is None
    assert passes("shop/web -> data/db tcp/443", one) is False


@pytest.mark.parametrize(
    "item", ["{matchName: '*.x'}", "{matchPattern: 'a b'}", "{}", "{matchName: a, matchPattern: b}"]
)
def test_a_bad_name_is_said(item):
    assert said(cnp(f"egress: [{{toFQDNs: [{item}]}}]"))


def test_a_service_stands_for_the_pods_behind_it():
    one = cnp("egress: [{toServices: [{k8sService: {serviceName: db, namespace: data}}]}]")
    assert rule(one).peer == LabelPeer(
        And((label("meta:namespace", "data"), label("pod:app", "db")))
    )
    assert passes("shop/web -> data/db tcp/1", one) is True


def test_a_service_without_a_namespace_is_of_any():
    assert passes(
        "shop/web -> data/db tcp/1",
        cnp("egress: [{toServices: [{k8sService: {serviceName: db}}]}]"),
    )


def test_services_are_selected_by_their_labels():
    store = "selector: {matchLabels: {tier: store}}"
    one = cnp(f"egress: [{{toServices: [{{k8sServiceSelector: {{{store}, namespace: data}}}}]}}]")
    assert passes("shop/web -> data/db tcp/1", one) is True
    assert passes("shop/web -> shop/cart tcp/1", one) is False
    elsewhere = f"toServices: [{{k8sServiceSelector: {{{store}, namespace: shop}}}}]"
    assert passes("shop/web -> data/db tcp/1", cnp(f"egress: [{{{elsewhere}}}]")) is None


def test_ports_beside_a_service_are_those_of_the_rule():
    one = cnp(
        "egress: [{toServices: [{k8sService: {serviceName: db, namespace: data}}],"
        " toPorts: [{ports: [{port: '5432', protocol: TCP}]}]}]"
    )
    assert passes("shop/web -> data/db tcp/5432", one) is True
    assert passes("shop/web -> data/db tcp/9090", one) is False


@pytest.mark.parametrize(
    ("service", "why"),
    [
        ("k8sService: {serviceName: none, namespace: data}", "is not in the inventory"),
        ("k8sService: {serviceName: legacy, namespace: data}", "has no selector"),
        ("k8sServiceSelector: {selector: {matchLabels: {a: b}}}", "is not in the inventory"),
    ],
)
def test_a_service_whose_pods_are_not_known_cannot_be_told(service, why):
    one = cnp(f"egress: [{{toServices: [{{{service}}}]}}]")
    assert why in reason("shop/web -> 8.8.8.8 tcp/1", one)


@pytest.mark.parametrize(
    "element",
    [
        "toGroups: [{aws: {securityGroupsIds: [sg-1]}}]",
        "toServices: [{k8sService: {serviceName: legacy, namespace: data}}]",
        "toCIDRSet: [{cidrGroupRef: partners}]",
    ],
)
def test_addresses_that_are_not_known_are_no_pod_s_and_no_node_s(element):
    one = cnp(f"egress: [{{{element}}}]")
    assert passes("shop/web -> 8.8.8.8 tcp/443", one) is None
    assert passes("shop/web -> data/db tcp/443", one) is False
    assert passes("shop/web -> 192.168.0.2 tcp/443", one) is False


def test_groups_of_a_cloud_provider_cannot_be_told():
    one = cnp("egress: [{toGroups: [{aws: {securityGroupsIds: [sg-1]}}]}]")
    assert passes("shop/web -> 8.8.8.8 tcp/443", one) is None


def test_nodes_are_selected_by_their_labels():
    one = cnp("egress: [{toNodes: [{matchLabels: {zone: b}}]}]")
    assert rule(one).peer == NodePeer(And((label("node:zone", "b"),)))
    assert passes("shop/web -> 192.168.0.2 tcp/443", one) is True
    assert passes("shop/web -> 192.168.0.1 tcp/443", one) is False
    assert passes("shop/web -> data/db tcp/443", one) is False


def test_requirements_are_deprecated_and_their_effect_is_unknown():
    one = cnp(
        "ingress: [{fromEndpoints: [{}], fromRequires: [{matchLabels: {app: cart}}]},"
        " {fromRequires: [{matchLabels: {app: db}}]}]"
    )
    assert [finding.split(":")[0] for finding in said(one)] == [
        "spec.ingress[0].fromRequires",
        "spec.ingress[1].fromRequires",
    ]
    assert passes("shop/cart -> shop/web tcp/80", one) is True
    assert passes("data/db -> shop/web tcp/80", one) is False
    without = one.replace("cart", "other")
    assert passes("shop/cart -> shop/web tcp/80", without) is None


def test_only_one_kind_of_peers_may_stand_in_an_element():
    one = cnp("ingress: [{fromEndpoints: [{}], fromEntities: [world]}, {fromEntities: [host]}]")
    assert said(one) == ["spec.ingress[0].fromEntities: may not stand beside fromEndpoints"]
    assert parsed(one).policies == ()


def test_a_field_that_does_not_exist_is_said():
    one = cnp("ingress: [{fromEndpoint: [{}], toPorts: [{ports: [{port: '80'}]}]}]")
    assert said(one) == [
        "spec.ingress[0].fromEndpoint: no such field; the API server drops it, so it limits nothing"
    ]
    assert passes("8.8.8.8 -> shop/web tcp/80", one) is True


# --- ports and ICMP ----------------------------------------------------------------------------

ALL = [(1, 65535)]


@pytest.mark.parametrize(
    ("port", "numbers"),
    [
        ("port: '80', protocol: TCP", {"TCP": [(80, 80)]}),
        ("port: '80'", {p: [(80, 80)] for p in ("TCP", "UDP", "SCTP")}),
        ("port: '80', protocol: ANY", {p: [(80, 80)] for p in ("TCP", "UDP", "SCTP")}),
        ("port: '80', endPort: 90, protocol: UDP", {"UDP": [(80, 90)]}),
        ("port: '80', endPort: 0, protocol: UDP", {"UDP": [(80, 80)]}),
        ("port: '0', protocol: SCTP", {"SCTP": ALL}),
        ("port: '0'", dict.fromkeys(("TCP", "UDP", "SCTP"), ALL)),
        ("port: '0', protocol: VRRP", {"VRRP": [(0, 0)]}),
    ],
)
def test_a_port_means(port, numbers):
    one = rule(cnp(f"ingress: [{{toPorts: [{{ports: [{{{port}}}]}}]}}]"))
    assert one.ports == Ports(PortSet.of(numbers))


def test_a_named_port_is_resolved_at_each_server():
    one = cnp("ingress: [{toPorts: [{ports: [{port: HTTP, protocol: TCP}]}]}]")
    assert rule(one).ports == Ports(PortSet(), (("TCP", "http"),))
    assert passes("data/db -> shop/web tcp/8080", one) is True
    assert passes("data/db -> shop/cart tcp/8081", one) is True
    assert passes("data/db -> shop/cart tcp/8080", one) is False


def test_a_named_port_of_any_protocol_is_looked_for_in_each():
    named = rule(cnp("ingress: [{toPorts: [{ports: [{port: http}]}]}]")).ports.named
    assert set(named) == {("TCP", "http"), ("UDP", "http"), ("SCTP", "http")}


def test_a_rule_with_ports_does_not_cover_icmp():
    one = cnp("ingress: [{toPorts: [{ports: [{port: '0'}]}]}]")
    assert passes("data/db -> shop/web tcp/8080", one) is True
    assert passes("data/db -> shop/web icmp/2048", one) is False


@pytest.mark.parametrize(
    ("field", "points"),
    [
        ("type: 8", {"ICMP": [(2048, 2303)]}),
        ("type: '8'", {"ICMP": [(2048, 2303)]}),
        ("type: EchoRequest", {"ICMP": [(2048, 2303)]}),
        ("family: IPv4, type: Redirect", {"ICMP": [(1280, 1535)]}),
        ("family: IPv6, type: EchoRequest", {"ICMPv6": [(32768, 33023)]}),
    ],
)
def test_an_icmp_field_means(field, points):
    one = rule(cnp(f"ingress: [{{icmps: [{{fields: [{{{field}}}]}}]}}]"))
    assert (one.peer, one.ports) == (AnyPeer(), Ports(PortSet.of(points)))


@pytest.mark.parametrize(
    ("element", "finding"),
    [
        (
            "toPorts: [{ports: [{port: 80, protocol: TCP}]}]",
            "must be a string: write '80' in quotes",
        ),
        ("toPorts: [{ports: [{protocol: TCP}]}]", "'' is neither a port number nor a port's name"),
        ("toPorts: [{ports: [{port: '70000'}]}]", "70000-70000 is not a range of ports"),
        ("toPorts: [{ports: [{port: '90', endPort: 80}]}]", "90-80 is not a range of ports"),
        ("toPorts: [{ports: [{port: http, endPort: 80}]}]", "has no effect beside a port's name"),
        ("toPorts: [{ports: [{port: 'a_b'}]}]", "'a_b' is neither a port number nor a port's name"),
        ("toPorts: [{ports: [{port: '80', protocol: tcp}]}]", "must be written TCP"),
        ("toPorts: [{ports: [{port: '80', protocol: GRE}]}]", "'GRE' is none of ANY, TCP"),
        ("toPorts: [{ports: [" + "{port: '1'}," * 41 + "]}]", "has 41 ports; 40 are the most"),
        ("icmps: [{fields: [" + "{type: 8}," * 41 + "]}]", "has 41 fields; 40 are the most"),
        ("icmps: [{fields: [{type: 300}]}]", "300 is not a type of ICMP"),
        ("icmps: [{fields: [{type: PacketTooBig}]}]", "'PacketTooBig' is not a type of ICMP"),
        ("icmps: [{fields: [{family: IPv5, type: 8}]}]", "must be IPv4 or IPv6"),
        (
            "icmps: [{fields: [{type: 8}]}], toPorts: [{ports: [{port: '80'}]}]",
            "may not stand beside toPorts",
        ),
    ],
)
def test_bad_ports_are_said(element, finding):
    assert finding in said(cnp(f"ingress: [{{{element}}}]"))[0]


def test_a_finding_says_where_it_is_and_what_became_of_it():
    found = parsed(cnp("ingress: [{}, {toPorts: [{ports: [{port: '9', endPort: 8}]}]}]"))
    (one,) = found.findings
    assert (one.place, one.field, one.effect) == (
        "case.yaml:1",
        "spec.ingress[1].toPorts[0].ports[0].endPort",
        "this object is left out",
    )
    assert str(one.ref) == "CiliumNetworkPolicy shop/p"
    assert found.policies == ()


def test_one_spec_that_the_agent_would_refuse_leaves_the_whole_object_out():
    deny = {"endpointSelector": {}, "ingressDeny": [{"fromEntities": ["all"]}]}
    bad = {"endpointSelector": {}, "ingress": [{"fromCIDR": ["999.0.0.0/8"]}]}
    good = cnp("egress: [{}]", "good")
    found = parsed(made(API, "CiliumNetworkPolicy", "p", "shop", specs=[deny, bad]), good)
    assert [p.ref.name for p in found.policies] == ["good"]
    assert [f.effect for f in found.findings] == ["this object is left out"]


# --- layer 7 -----------------------------------------------------------------------------------


def restricted(rules, protocol="TCP", direction="egress"):
    ports = f"ports: [{{port: '80', protocol: {protocol}}}]"
    return rule(cnp(f"{direction}: [{{toPorts: [{{{ports}, {rules}}}]}}]")).restricted


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ("rules: {http: [{method: GET, path: /a}, {method: PUT}]}", "http GET /a or PUT"),
        ("rules: {http: []}", None),
        ("rules: {http: [{}]}", None),
        ("rules: {http: [{method: GET, headers: [X]}]}", "http GET with headers"),
        ("rules: {kafka: [{role: produce, topic: t}]}", "kafka produce t"),
        ("rules: {dns: [{matchName: a.example}]}", "dns a.example"),
        ("rules: {dns: [{matchPattern: '*'}]}", None),
        ("rules: {l7proto: r2d2, l7: [{a: b}]}", "l7 r2d2"),
        ("serverNames: [a.example]", "tls server name a.example"),
        ("listener: {name: x, envoyConfig: {kind: K, name: n}}", "listener x"),
    ],
)
def test_layer_7_restricts_what_is_allowed_on_layer_4(rules, text):
    assert restricted(rules) == text


def test_a_restricted_rule_allows_its_ports():
    one = cnp(
        "ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}],"
        " rules: {http: [{method: GET}]}}]}]"
    )
    assert passes("data/db -> shop/web tcp/80", one) is True
    assert reason("data/db -> shop/web tcp/80", one).endswith("only http GET")


def test_ports_of_other_restrictions_are_rules_of_one_index():
    one = policy(
        cnp(
            "egress: [{toPorts: [{ports: [{port: '1', protocol: TCP}]},"
            " {ports: [{port: '2', protocol: TCP}], rules: {http: [{method: GET}]}},"
            " {ports: [{port: '3', protocol: TCP}]}]}]"
        )
    )
    assert [(r.index, r.restricted, r.ports.numbers.intervals("TCP")) for r in one.egress] == [
        (0, None, ((1, 1), (3, 3))),
        (0, "http GET", ((2, 2),)),
    ]


def test_authentication_restricts():
    one = rule(cnp("ingress: [{fromEntities: [cluster], authentication: {mode: required}}]"))
    assert one.restricted == "authentication required"
    off = rule(cnp("ingress: [{fromEntities: [cluster], authentication: {mode: disabled}}]"))
    assert off.restricted is None


@pytest.mark.parametrize(
    ("element", "finding"),
    [
        ("rules: {dns: [{matchName: a}], http: [{}]}", "http"),
        ("ports: [{port: '53', endPort: 54}], rules: {dns: [{matchName: a}]}", "DNS rules"),
        ("rules: {dns: [{matchName: a}]}", "needs ports"),
        ("ports: [{port: '80'}], rules: {http: [{method: GET}]}", "must be TCP beside layer 7"),
        ("ports: [{port: '0', protocol: TCP}], rules: {http: [{method: GET}]}", "0 may not stand"),
        (
            "ports: [{port: '1', protocol: TCP}], rules: {http: [{method: GET}]}, serverNames: [a]",
            "without terminatingTLS",
        ),
    ],
)
def test_bad_layer_7_rules_are_said(element, finding):
    assert finding in said(cnp(f"egress: [{{toPorts: [{{{element}}}]}}]"))[0]


def test_dns_rules_are_for_egress_only():
    one = cnp("ingress: [{toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchName: a}]}}]}]")
    assert "egress rule only" in said(one)[0]


@pytest.mark.parametrize(
    "element",
    [
        "toFQDNs: [{matchName: a.example}]",
        "toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{}]}}]",
        "toEntities: [world], authentication: {mode: required}",
    ],
)
def test_a_deny_rule_knows_addresses_and_ports_only(element):
    one = cnp(f"egressDeny: [{{{element}}}], enableDefaultDeny: {{egress: false}}")
    assert "may not stand in a deny rule" in said(one)[0]
    assert parsed(one).policies == ()


# --- laws --------------------------------------------------------------------------------------

EVERYTHING_AT_ONCE = """
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: p}
spec:
  endpointSelector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: In, values: [d]}]}
  enableDefaultDeny: {ingress: true}
  ingress:
    - fromEndpoints: [{matchExpressions: [{key: c, operator: NotIn, values: [d]}]}]
      toPorts: [{ports: [{port: "1", endPort: 2, protocol: TCP}], rules: {http: [{path: /}]}}]
    - fromNodes: [{matchLabels: {zone: a}}]
      icmps: [{fields: [{family: IPv6, type: EchoRequest}]}]
  egress:
    - toCIDRSet: [{cidr: 1.0.0.0/8, except: [1.1.0.0/16]}, {cidrGroupRef: g}]
      authentication: {mode: required}
    - toFQDNs: [{matchName: a.example}, {matchPattern: "*.b.example"}]
      toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchPattern: "*"}]}, serverNames: [a]}]
    - toServices: [{k8sService: {serviceName: db, namespace: data}}]
    - toEntities: [world]
      toRequires: [{}]
  egressDeny:
    - toCIDR: [1.0.0.0/8]
      toPorts: [{ports: [{port: http}]}]
    - toGroups: [{aws: {region: x}}]
"""


@given(broken(EVERYTHING_AT_ONCE))
def test_whatever_stands_in_a_field_is_read_or_said(body):
    found = parsed(json.dumps(body))
    assert found.policies or found.findings


# --- labels that agents hide -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "hidden"),
    [
        ("pod-template-hash", True),
        ("k8s:controller-revision-hash", True),
        ("kubernetes.io/hostname", True),
        ("statefulset.kubernetes.io/pod-name", True),
        ("batch.kubernetes.io/controller-uid", True),
        ("app.kubernetes.io/name", False),
        ("batch.kubernetes.io/job-name", False),
        ("app", False),
    ],
)
def test_labels_that_agents_hide_by_default_match_nobody_for_sure(key, hidden):
    text = cnp(f"ingress: [{{fromEndpoints: [{{matchLabels: {{'{key}': x}}}}]}}]")
    assert any("agents hide the label" in finding for finding in said(text)) is hidden
    one = parsed(text).policies[0]
    name = key.removeprefix("k8s:")
    wanted = label(f"{'hidden' if hidden else 'pod'}:{name}", "x")
    assert one.ingress[0].peer == LabelPeer(And((SHOP, wanted)))
