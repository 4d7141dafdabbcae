import json
import math

import pytest
from hypothesis import given
from policytext import broken, made, parsed, passes, policy, reason, rule, said

from recommender.dialects.calico import FIXED_TIERS
from recommender.model import (
    ALL_PORTS,
    EVERYTHING,
    NOTHING,
    AddressPeer,
    AllOf,
    And,
    AnyOf,
    AnyPeer,
    Has,
    In,
    LabelPeer,
    NamePeer,
    Not,
    NotPeer,
    Ports,
    PortSet,
    Tier,
)

API, STORED = "projectcalico.org/v3", "crd.projectcalico.org/v1"
DEFAULT = Tier("default", 1_000_000, "first match", "deny")


def np(spec, name="p", namespace="shop", api=API, kind="NetworkPolicy"):
    return made(api, kind, name, namespace, spec=f"{{{spec}}}")


def gnp(spec, name="g", api=API, kind="GlobalNetworkPolicy"):
    return made(api, kind, name, None, spec=f"{{{spec}}}")


def tier(name, spec):
    return made(API, "Tier", name, None, spec=f"{{{spec}}}")


def network_set(labels, nets, namespace=None, **more):
    kind = "NetworkSet" if namespace else "GlobalNetworkSet"
    return made(API, kind, "s", namespace, labels=labels, spec={"nets": nets, **more})


def label(key, *values):
    return In(key, frozenset(values))


SHOP = label("meta:namespace", "shop")
NOBODY = "ingress: [], types: [Ingress]"

# --- kinds and groups --------------------------------------------------------------------------


def test_a_policy_is_in_the_default_tier_after_all_that_have_an_order():
    one = policy(np("egress: [{action: Allow}]"))
    assert (one.tier, one.order, one.staged) == (DEFAULT, math.inf, False)
    assert policy(np("order: 10.5, egress: [{action: Allow}]")).order == 10.5


def test_the_stored_form_is_read_like_the_api_form_and_only_once():
    v3 = np("selector: app == 'web'", name="allow")
    stored = np("tier: default, selector: app == 'web'", name="default.allow", api=STORED)
    (one,) = parsed(stored, v3).policies
    assert (one.ref.api, one.ref.name) == (API, "allow")
    (two,) = parsed(stored).policies
    assert (two.ref.name, two.subject) == ("default.allow", one.subject)


def test_one_name_in_two_tiers_is_two_policies():
    texts = [np("tier: default", name="a"), np("tier: top", name="top.a"), tier("top", "order: 1")]
    assert len(parsed(*texts).policies) == 2


def test_one_name_in_two_namespaces_or_kinds_is_two_policies():
    texts = [np("", "a"), np("", "a", "data"), gnp("", "a")]
    assert len(parsed(*texts).policies) == 3


@pytest.mark.parametrize(
    "name", ["knp.default.web", "kanp.adminnetworkpolicy.x", "kcnp.kube-admin.x"]
)
@pytest.mark.parametrize("api", [API, STORED])
def test_copies_of_kubernetes_policies_are_left_alone(name, api):
    assert parsed(np("", name, api=api), gnp("", name, api=api)) == parsed()


def test_host_endpoints_and_profiles_are_known_and_are_no_policies():
    texts = [made(API, kind, "x", None, spec="{node: one}") for kind in ("HostEndpoint", "Profile")]
    assert parsed(*texts) == parsed()


@pytest.mark.parametrize("flag", ["doNotTrack", "preDNAT"])
def test_a_policy_before_connection_tracking_or_dnat_is_for_hosts(flag):
    one = gnp(f"{flag}: true, applyOnForward: true, selector: all(), types: [Ingress]")
    assert parsed(one) == parsed()


def test_apply_on_forward_changes_nothing_for_pods():
    one = gnp("applyOnForward: true, selector: all(), types: [Ingress]")
    assert passes("data/db -> shop/web tcp/80", one) is False


@pytest.mark.parametrize(
    ("spec", "finding"),
    [
        ("doNotTrack: true", "spec.doNotTrack: needs applyOnForward: true"),
        ("preDNAT: true, doNotTrack: true, applyOnForward: true", "spec.preDNAT: may not stand"),
        (
            "preDNAT: true, applyOnForward: true, egress: [{action: Allow}]",
            "spec.preDNAT: is for ingress only",
        ),
        ("types: [Ingress, Ingress]", "spec.types[1]: is there twice"),
        ("types: [Both]", "spec.types[0]: must be Ingress or Egress"),
        ("selector: global()", "spec.selector: global() may stand in a rule's"),
        ("selector: 'app = x'", "spec.selector: not a selector, column 5: expected =="),
        ("tier: none", "spec.tier: tier none is not among the manifests"),
        ("order: high", "spec.order: must be a number"),
        ("ingress: [" + "{action: Allow}," * 1025 + "]", "spec.ingress: has 1025 rules"),
        (
            "types: [Ingress], egress: [{action: Allow}]",
            "spec.egress: has no effect without Egress",
        ),
        ("namespaceselector: x", "spec.namespaceselector: no such field"),
    ],
)
def test_what_the_api_server_would_refuse_in_a_policy_is_said(spec, finding):
    assert said(gnp(spec))[0].startswith(finding)


def test_a_policy_without_a_subject_that_can_be_read_is_left_out_and_the_rest_is_judged():
    bad, good = np("selector: 'app =='", "bad"), np(NOBODY, "good")
    found = parsed(bad, good)
    assert ([p.ref.name for p in found.policies], found.findings[0].effect) == (
        ["good"],
        "this object is left out",
    )


# --- tiers and order ---------------------------------------------------------------------------


def test_a_tier_has_its_order_and_its_default_action():
    one = policy(tier("top", "order: 10, defaultAction: Pass"), np("tier: top"))
    assert one.tier == Tier("top", 10, "first match", "pass")
    two = policy(tier("late", "{}".strip("{}")), np("tier: late"))
    assert two.tier == Tier("late", math.inf, "first match", "deny")


@pytest.mark.parametrize(
    ("name", "order", "default"),
    [
        ("default", 1_000_000, "deny"),
        ("kube-admin", 1_000, "pass"),
        ("kube-baseline", 10_000_000, "pass"),
    ],
)
def test_calicos_own_tiers_need_no_manifest(name, order, default):
    assert policy(np(f"tier: {name}")).tier == Tier(name, order, "first match", default)


def test_calicos_own_tiers_keep_their_order():
    one = parsed(tier("default", "order: 5"), np(""))
    assert one.policies[0].tier.order == 1_000_000
    assert one.findings[0].message == "must be 1000000 in tier default"


@pytest.mark.parametrize(
    ("name", "wrong", "right"), [("default", "Pass", "Deny"), ("kube-admin", "Deny", "Pass")]
)
def test_calicos_own_tiers_keep_their_default_action(name, wrong, right):
    own = tier(name, f"order: {FIXED_TIERS[name].order}, defaultAction: {wrong}")
    one = parsed(own, np(f"tier: {name}"))
    assert one.policies[0].tier == FIXED_TIERS[name]
    assert one.findings[0].message == f"must be {right} in tier {name}"


def test_network_policies_stand_in_the_tier_that_a_manifest_calls_default():
    own = tier("default", "order: 1000000, defaultAction: Pass")
    udp = gnp("selector: all(), ingress: [{action: Deny, protocol: UDP}]")
    knp = made("networking.k8s.io/v1", "NetworkPolicy", "k", "shop", spec="{podSelector: {}}")
    assert passes("data/db -> shop/web tcp/80", own, udp, knp) is False


def test_an_allow_in_an_early_tier_hides_the_later_ones():
    early = gnp("tier: top, ingress: [{action: Allow}]", "a")
    top = tier("top", "order: 1")
    assert passes("data/db -> shop/web tcp/80", np(NOBODY)) is False
    assert passes("data/db -> shop/web tcp/80", np(NOBODY), top, early) is True


def test_a_pass_leaves_the_tier_for_the_next():
    passing = gnp("tier: top, ingress: [{action: Pass}, {action: Deny}]", "a")
    allow = np("ingress: [{action: Allow}]")
    assert passes("data/db -> shop/web tcp/80", tier("top", "order: 1"), passing, allow) is True


def test_passing_every_tier_ends_in_the_namespaces_profile_which_allows():
    passing = gnp("ingress: [{action: Pass}]")
    assert passes("data/db -> shop/web tcp/80", passing) is True


def test_a_policy_that_only_logs_denies_everything():
    assert passes("data/db -> shop/web tcp/80", gnp("ingress: [{action: Log}]")) is False


def test_a_log_rule_goes_on_with_the_next():
    logged = gnp("ingress: [{action: Log}, {action: Allow}]")
    assert passes("data/db -> shop/web tcp/80", logged) is True
    assert [r.action for r in policy(logged).ingress] == ["log", "allow"]


def test_the_first_rule_that_matches_acts():
    web = "source: {selector: app == 'cart'}"
    first = np(f"ingress: [{{action: Deny, {web}}}, {{action: Allow}}]")
    assert passes("shop/cart -> shop/web tcp/80", first) is False
    assert passes("data/db -> shop/web tcp/80", first) is True


def test_the_policy_of_lower_order_acts_first():
    deny, allow = "ingress: [{action: Deny}]", "ingress: [{action: Allow}]"
    assert (
        passes(
            "data/db -> shop/web tcp/80",
            np(f"order: 2, {allow}", "a"),
            np(f"order: 1, {deny}", "b"),
        )
        is False
    )
    assert (
        passes("data/db -> shop/web tcp/80", np(allow, "a"), np(f"order: 9, {deny}", "b")) is False
    )
    assert (
        passes(
            "data/db -> shop/web tcp/80",
            np(f"order: 1, {allow}", "a"),
            np(f"order: 1, {deny}", "b"),
        )
        is True
    )


def test_kubernetes_policies_act_at_order_1000():
    spec = "{podSelector: {}, ingress: [{}]}"
    knp = made("networking.k8s.io/v1", "NetworkPolicy", "k", "shop", spec=spec)
    assert (
        passes("data/db -> shop/web tcp/80", knp, gnp("order: 999, ingress: [{action: Deny}]"))
        is False
    )
    assert (
        passes("data/db -> shop/web tcp/80", knp, gnp("order: 1001, ingress: [{action: Deny}]"))
        is True
    )


# --- subjects and types ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ("", {"ingress"}),
        ("ingress: [{action: Allow}]", {"ingress"}),
        ("egress: [{action: Allow}]", {"egress"}),
        ("ingress: [{action: Allow}], egress: [{action: Allow}]", {"ingress", "egress"}),
        ("egress: [{action: Allow}], ingress: []", {"egress"}),
        ("types: [Ingress, Egress]", {"ingress", "egress"}),
        ("types: [Egress]", {"egress"}),
    ],
)
def test_the_types_are_those_said_or_those_of_the_rules(spec, types):
    assert policy(np(spec)).isolates == types


def test_rules_of_a_direction_that_is_not_among_the_types_have_no_effect():
    one = parsed(np("types: [Ingress], egress: [{action: Deny}]")).policies[0]
    assert one.egress == ()


def subject(spec, make=np):
    return policy(make(spec)).subject


def test_a_namespaced_policy_governs_its_own_namespace():
    assert subject("") == SHOP
    assert subject("selector: app == 'web'") == And((label("pod:app", "web"), SHOP))


def test_a_global_policy_governs_every_pod():
    assert subject("", gnp) == EVERYTHING
    assert subject("selector: all()", gnp) == EVERYTHING


def test_a_global_policy_may_be_limited_by_namespace_and_account():
    spec = (
        "selector: has(app), namespaceSelector: team == 'sales', serviceAccountSelector: has(role)"
    )
    assert subject(spec, gnp) == And((Has("pod:app"), label("ns:team", "sales"), Has("sa:role")))


@pytest.mark.parametrize(
    ("key", "means"),
    [
        ("projectcalico.org/namespace", "meta:namespace"),
        ("projectcalico.org/serviceaccount", "meta:service-account"),
        ("pcns.projectcalico.org/name", "meta:namespace"),
        ("pcns.team", "ns:team"),
        ("pcsa.projectcalico.org/name", "meta:service-account"),
        ("pcsa.role", "sa:role"),
        ("app.kubernetes.io/name", "pod:app.kubernetes.io/name"),
    ],
)
def test_calicos_own_keys_are_those_of_the_model(key, means):
    assert subject(f"selector: {key} == 'x'", gnp) == label(means, "x")


@pytest.mark.parametrize(
    ("spec", "means"),
    [
        ("namespaceSelector: projectcalico.org/name == 'x'", label("meta:namespace", "x")),
        (
            "serviceAccountSelector: projectcalico.org/name == 'x'",
            label("meta:service-account", "x"),
        ),
    ],
)
def test_the_name_of_a_namespace_or_account_is_a_label_of_it(spec, means):
    assert subject(spec, gnp) == means


def test_the_orchestrator_of_every_pod_is_kubernetes():
    assert subject("selector: projectcalico.org/orchestrator == 'k8s'", gnp) == EVERYTHING
    assert subject("selector: projectcalico.org/orchestrator == 'openstack'", gnp) == NOTHING
    assert subject("selector: '!has(projectcalico.org/orchestrator)'", gnp) == Not(EVERYTHING)


# --- who ---------------------------------------------------------------------------------------


def source(entity, make=np):
    return rule(make(f"ingress: [{{action: Allow, source: {{{entity}}}}}]")).peer


def test_a_rule_that_says_nothing_of_the_peer_means_everyone():
    assert source("") == AnyPeer()
    assert source("", gnp) == AnyPeer()


def test_a_selector_in_a_namespaced_policy_means_its_own_namespace():
    assert source("selector: app == 'db'") == LabelPeer(And((SHOP, label("pod:app", "db"))))
    assert source("selector: app == 'db'", gnp) == LabelPeer(label("pod:app", "db"))


def test_all_is_every_known_endpoint_and_not_every_address():
    one = gnp("ingress: [{action: Allow, source: {selector: all()}}]")
    assert passes("data/db -> shop/web tcp/80", one) is True
    assert passes("8.8.8.8 -> shop/web tcp/80", one) is False


def test_a_namespace_selector_opens_the_namespaced_policy():
    assert source("namespaceSelector: all()") == LabelPeer(Has("meta:namespace"))
    assert source("namespaceSelector: team == 'store', selector: has(app)") == LabelPeer(
        And((label("ns:team", "store"), Has("pod:app")))
    )
    assert source("namespaceSelector: projectcalico.org/name == 'data'") == LabelPeer(
        label("meta:namespace", "data")
    )


def test_all_inside_a_namespace_selector_is_whoever_has_a_namespace():
    assert source("namespaceSelector: '!all()'") == LabelPeer(Not(Has("meta:namespace")))


def test_global_means_what_is_in_no_namespace():
    sets = [network_set({"role": "bank"}, ["1.1.0.0/16"])]
    one = np("egress: [{action: Allow, destination: {namespaceSelector: global()}}]")
    assert passes("shop/web -> 1.1.2.3 tcp/80", one, *sets) is True
    assert passes("shop/web -> data/db tcp/80", one, *sets) is False
    assert passes("shop/web -> 8.8.8.8 tcp/80", one, *sets) is False


def test_a_not_selector_alone_is_true_of_unknown_addresses_in_a_global_policy():
    one = gnp("ingress: [{action: Allow, source: {notSelector: app == 'cart'}}]")
    assert passes("8.8.8.8 -> shop/web tcp/80", one) is True
    assert passes("data/db -> shop/web tcp/80", one) is True
    assert passes("shop/cart -> shop/web tcp/80", one) is False


def test_a_not_selector_alone_means_the_own_namespace_in_a_namespaced_policy():
    one = np("ingress: [{action: Allow, source: {notSelector: app == 'cart'}}]")
    assert passes("8.8.8.8 -> shop/web tcp/80", one) is False
    assert passes("data/db -> shop/web tcp/80", one) is False
    assert passes("shop/cart -> shop/web tcp/80", one) is False
    assert policy(one).ingress[0].peer == AllOf(
        (LabelPeer(SHOP), NotPeer(LabelPeer(label("pod:app", "cart"))))
    )


def test_service_accounts_are_told_by_name_and_by_label():
    assert source("serviceAccounts: {names: [a, b]}", gnp) == LabelPeer(
        label("meta:service-account", "a", "b")
    )
    assert source("serviceAccounts: {names: [a], selector: role == 'x'}") == LabelPeer(
        And((SHOP, label("sa:role", "x"), label("meta:service-account", "a")))
    )
    assert source("serviceAccounts: {names: [a]}, namespaceSelector: all()") == LabelPeer(
        And((Has("meta:namespace"), label("meta:service-account", "a")))
    )
    assert source("serviceAccounts: {}") == AnyPeer()


def test_nets_mean_pods_too():
    one = np(
        "egress: [{action: Allow, destination: {nets: [10.0.0.0/30], notNets: [10.0.0.2/32]}}]"
    )
    assert rule(one).peer == AddressPeer(("10.0.0.0/30",), ("10.0.0.2/32",), reach="all")
    assert passes("shop/web -> data/db tcp/80", one) is True
    assert passes("shop/web -> shop/cart tcp/80", one) is False


def test_a_net_with_host_bits_is_its_network():
    assert source("nets: [10.1.2.3/8]") == AddressPeer(("10.0.0.0/8",), reach="all")


def test_not_nets_alone_mean_everyone_else():
    assert source("notNets: [10.0.0.3/32]") == NotPeer(AddressPeer(("10.0.0.3/32",), reach="all"))


def test_nets_in_a_namespaced_policy_are_not_limited_to_the_namespace():
    one = np("ingress: [{action: Allow, source: {nets: [10.0.0.3/32]}}]")
    assert passes("data/db -> shop/web tcp/80", one) is True


def test_all_that_is_said_of_a_peer_must_hold():
    one = np("ingress: [{action: Allow, source: {nets: [10.0.0.0/24], selector: all()}}]")
    assert passes("shop/cart -> shop/web tcp/80", one) is True
    assert passes("data/db -> shop/web tcp/80", one) is False


def test_domains_stand_for_their_addresses():
    one = np("egress: [{action: Allow, destination: {domains: [a.example, '*.b.example']}}]")
    assert rule(one).peer == NamePeer(("**.b.example", "a.example"))
    assert passes("shop/web -> 8.8.8.8 tcp/443", one) is None


# --- the own end -------------------------------------------------------------------------------


def test_the_destination_of_an_ingress_rule_limits_the_own_end():
    one = np("ingress: [{action: Allow, destination: {selector: app == 'web'}}]")
    assert rule(one).local == LabelPeer(And((SHOP, label("pod:app", "web"))))
    assert passes("data/db -> shop/web tcp/80", one) is True
    assert passes("data/db -> shop/cart tcp/80", one) is False


def test_the_source_of_an_egress_rule_limits_the_own_end():
    one = np("egress: [{action: Allow, source: {nets: [10.0.0.1/32]}}]")
    assert rule(one).local == AddressPeer(("10.0.0.1/32",), reach="all")
    assert passes("shop/web -> data/db tcp/80", one) is True
    assert passes("shop/cart -> data/db tcp/80", one) is False


def test_the_clients_own_port_cannot_be_told():
    one = np("ingress: [{action: Allow, protocol: TCP, source: {ports: [1024]}}]")
    assert passes("data/db -> shop/web tcp/80", one) is None
    assert "the client's port is not known" in reason("data/db -> shop/web tcp/80", one)
    assert passes("data/db -> shop/web udp/80", one) is False


# --- network sets and hosts --------------------------------------------------------------------


def test_a_selector_matches_network_sets_by_their_labels():
    bank, other = network_set({"role": "bank"}, ["1.1.0.0/16"]), network_set({}, ["2.2.0.0/16"])
    one = gnp("egress: [{action: Allow, destination: {selector: role == 'bank'}}]")
    assert rule(one, bank, other).peer == AnyOf(
        (LabelPeer(label("pod:role", "bank")), AddressPeer(("1.1.0.0/16",), reach="all"))
    )
    assert passes("shop/web -> 1.1.2.3 tcp/80", one, bank, other) is True
    assert passes("shop/web -> 2.2.2.3 tcp/80", one, bank, other) is False


def test_a_global_set_is_out_of_reach_of_a_namespaced_selector():
    bank = network_set({"role": "bank"}, ["1.1.0.0/16"])
    one = np("egress: [{action: Allow, destination: {selector: role == 'bank'}}]")
    assert passes("shop/web -> 1.1.2.3 tcp/80", one, bank) is False


def test_a_namespaced_set_is_in_its_namespace_and_has_its_labels():
    bank = network_set({"role": "bank"}, ["1.1.0.0/16"], namespace="shop")
    own = np("egress: [{action: Allow, destination: {selector: role == 'bank'}}]")
    team = np("egress: [{action: Allow, destination: {namespaceSelector: team == 'sales'}}]")
    named = np(
        "egress: [{action: Allow, destination: {namespaceSelector: projectcalico.org/name == 'data'}}]"
    )
    assert passes("shop/web -> 1.1.2.3 tcp/80", own, bank) is True
    assert passes("shop/web -> 1.1.2.3 tcp/80", team, bank) is True
    assert passes("shop/web -> 1.1.2.3 tcp/80", named, bank) is False


def test_a_selector_in_a_set_of_the_stored_form_sees_the_labels_in_its_annotation():
    kept = json.dumps({"labels": {"role": "bank"}})
    body = json.loads(made(STORED, "GlobalNetworkSet", "s", None, spec={"nets": ["1.1.0.0/16"]}))
    body["metadata"]["annotations"] = {"projectcalico.org/metadata": kept}
    one = gnp("egress: [{action: Allow, destination: {selector: role == 'bank'}}]")
    assert passes("shop/web -> 1.1.2.3 tcp/80", one, json.dumps(body)) is True


def test_a_set_may_hold_plain_addresses_and_domains():
    bank = network_set({"role": "bank"}, ["1.1.1.1", "::1"], allowedEgressDomains=["a.example"])
    one = gnp("egress: [{action: Allow, destination: {selector: role == 'bank'}}]")
    assert rule(one, bank).peer == AnyOf(
        (
            LabelPeer(label("pod:role", "bank")),
            AddressPeer(("1.1.1.1/32", "::1/128"), reach="all"),
            NamePeer(("a.example",)),
        )
    )


def test_a_bad_net_in_a_set_is_said():
    assert said(network_set({}, ["1.1.1.1/33"])) == ["spec.nets[0]: '1.1.1.1/33' is not a CIDR"]


def test_a_host_endpoint_is_known_by_its_addresses():
    spec = {"node": "two", "expectedIPs": ["192.168.0.2"]}
    host = made(API, "HostEndpoint", "two", None, labels={"kind": "host"}, spec=spec)
    one = gnp("egress: [{action: Allow, destination: {selector: kind == 'host'}}]")
    assert passes("shop/web -> 192.168.0.2 tcp/80", one, host) is True
    assert passes("shop/web -> 192.168.0.1 tcp/80", one, host) is False


# --- services ----------------------------------------------------------------------------------


def test_a_service_in_an_egress_rule_means_its_pods_and_their_ports():
    one = np("egress: [{action: Allow, destination: {services: {name: db, namespace: data}}}]")
    found = rule(one)
    assert found.peer == LabelPeer(And((label("meta:namespace", "data"), label("pod:app", "db"))))
    assert found.ports == Ports(PortSet.one("TCP", 9090), (("TCP", "pg"),))
    assert passes("shop/web -> data/db tcp/5432", one) is True
    assert passes("shop/web -> data/db tcp/9090", one) is True
    assert passes("shop/web -> data/db tcp/80", one) is False


def test_a_service_in_an_ingress_rule_means_its_pods_only():
    one = np(
        "ingress: [{action: Allow, protocol: TCP, source: {services: {name: db, namespace: data}},"
        " destination: {ports: [80]}}]"
    )
    assert passes("data/db -> shop/web tcp/80", one) is True
    assert passes("data/db -> shop/web tcp/81", one) is False
    assert passes("shop/cart -> shop/web tcp/80", one) is False


def test_a_service_without_a_namespace_is_of_the_policys_own():
    one = np("egress: [{action: Allow, destination: {services: {name: db}}}]", namespace="data")
    assert isinstance(rule(one).peer, LabelPeer)


@pytest.mark.parametrize(
    ("service", "why"),
    [
        ("{name: none, namespace: data}", "Service data/none is not in the inventory"),
        ("{name: legacy, namespace: data}", "Service data/legacy has no selector"),
    ],
)
def test_a_service_whose_pods_are_not_known_cannot_be_told(service, why):
    one = np(f"egress: [{{action: Allow, destination: {{services: {service}}}}}]")
    assert passes("shop/web -> data/db tcp/80", one) is None
    assert why in reason("shop/web -> data/db tcp/80", one)


# --- ports and protocols -----------------------------------------------------------------------


def ports(text):
    return rule(np(f"ingress: [{{action: Allow, {text}}}]")).ports


def tcp(*intervals):
    return PortSet.of({"TCP": intervals})


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("protocol: TCP", Ports(tcp((1, 65535)))),
        ("protocol: 6", Ports(tcp((1, 65535)))),
        ("protocol: '6'", Ports(tcp((1, 65535)))),
        ("protocol: SCTP, destination: {ports: [5]}", Ports(PortSet.one("SCTP", 5))),
        ("protocol: ICMPv6", Ports(PortSet.one("ICMPv6", 0, 65535))),
        ("protocol: UDPLite", Ports(PortSet.one("UDPLite", 0))),
        ("protocol: 47", Ports(PortSet.one("47", 0))),
        ("notProtocol: TCP", Ports(ALL_PORTS - tcp((1, 65535)))),
        (
            "protocol: TCP, destination: {ports: [80, '90', '8080:8090']}",
            Ports(tcp((80, 80), (90, 90), (8080, 8090))),
        ),
        ("protocol: TCP, destination: {ports: []}", Ports(tcp((1, 65535)))),
        ("protocol: TCP, destination: {notPorts: [80]}", Ports(tcp((1, 79), (81, 65535)))),
        ("protocol: TCP, destination: {ports: ['1:9'], notPorts: [5]}", Ports(tcp((1, 4), (6, 9)))),
        ("protocol: TCP, destination: {ports: [http, 9]}", Ports(tcp((9, 9)), (("TCP", "http"),))),
        (
            "protocol: TCP, destination: {notPorts: [http]}",
            Ports(tcp((1, 65535)), (), (("TCP", "http"),)),
        ),
        (
            "protocol: TCP, destination: {ports: [http, 9], notPorts: [8080]}",
            Ports(tcp((9, 9)), (("TCP", "http"),), (), tcp((8080, 8080))),
        ),
        ("protocol: ICMP, icmp: {type: 8}", Ports(PortSet.one("ICMP", 2048, 2303))),
        ("protocol: ICMP, icmp: {type: 3, code: 4}", Ports(PortSet.one("ICMP", 772))),
        ("protocol: ICMPv6, icmp: {type: 128, code: 0}", Ports(PortSet.one("ICMPv6", 32768))),
        ("protocol: ICMP, notICMP: {type: 0}", Ports(PortSet.one("ICMP", 256, 65535))),
        ("protocol: 1, icmp: {type: 8}", Ports(PortSet.one("ICMP", 2048, 2303))),
    ],
)
def test_a_rule_says_of_ports(text, means):
    assert ports(text) == means


def test_a_rule_without_a_protocol_covers_all_of_them():
    one = np("ingress: [{action: Allow, source: {selector: app == 'cart'}}]")
    assert passes("shop/cart -> shop/web icmp/2048", one) is True
    assert passes("shop/cart -> shop/web sctp/9", one) is True


def test_a_named_port_is_resolved_at_each_server():
    one = np("ingress: [{action: Allow, protocol: TCP, destination: {ports: [http]}}]")
    assert passes("data/db -> shop/web tcp/8080", one) is True
    assert passes("data/db -> shop/cart tcp/8081", one) is True
    assert passes("data/db -> shop/cart tcp/8080", one) is False


def test_ports_are_refused_beside_names_too():
    ports = "{ports: [http], notPorts: [8081]}"
    one = np(f"ingress: [{{action: Allow, protocol: TCP, destination: {ports}}}]")
    assert passes("data/db -> shop/web tcp/8080", one) is True
    assert passes("data/db -> shop/cart tcp/8081", one) is False


def test_a_refused_protocol_is_refused_by_its_number_too():
    one = np("ingress: [{action: Allow, notProtocol: 47}]")
    assert passes("data/db -> shop/web 47/0", one) is False
    assert passes("data/db -> shop/web 50/0", one) is True
    both = np("ingress: [{action: Allow, protocol: 47}]", "other")
    assert passes("data/db -> shop/web 47/0", one, both) is True


def test_an_ip_version_limits_the_addresses():
    assert source("").__class__ is AnyPeer
    one = rule(np("ingress: [{action: Allow, ipVersion: 4}]"))
    assert one.peer == AddressPeer(("0.0.0.0/0",), reach="all")
    six = np("ingress: [{action: Allow, ipVersion: 6}]")
    assert passes("8.8.8.8 -> shop/web tcp/80", six) is False
    icmp = rule(np("ingress: [{action: Allow, ipVersion: 4, protocol: ICMP}]"))
    assert icmp.peer == AnyPeer()


def test_http_restricts_what_is_allowed_on_layer_4():
    one = np(
        "ingress: [{action: Allow, protocol: TCP,"
        " http: {methods: [GET, PUT], paths: [{exact: /a}, {prefix: /b}]}}]"
    )
    assert rule(one).restricted == "http GET or PUT /a or /b*"
    assert passes("data/db -> shop/web tcp/80", one) is True


# --- what the API server would refuse in a rule ------------------------------------------------


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("", ".action: must be Allow, Deny, Pass or Log"),
        ("action: allow", ".action: must be Allow, Deny, Pass or Log"),
        ("action: Allow, protocol: GRE", ".protocol: 'GRE' is none of"),
        ("action: Allow, protocol: tcp", ".protocol: must be written TCP"),
        ("action: Allow, protocol: 0", ".protocol: 0 is not a protocol number"),
        (
            "action: Allow, destination: {ports: [80]}",
            ".destination.ports: needs protocol TCP, UDP",
        ),
        (
            "action: Allow, protocol: ICMP, source: {ports: [80]}",
            ".source.ports: needs protocol TCP",
        ),
        (
            "action: Allow, protocol: TCP, destination: {ports: [0]}",
            ".destination.ports[0]: '0' is not",
        ),
        (
            "action: Allow, protocol: TCP, destination: {ports: ['9:8']}",
            ".destination.ports[0]: '9:8'",
        ),
        (
            "action: Allow, protocol: TCP, destination: {ports: [1.5]}",
            ".destination.ports[0]: '1.5'",
        ),
        (
            "action: Allow, protocol: TCP, destination: {ports: ['a b']}",
            ".destination.ports[0]: 'a b'",
        ),
        ("action: Allow, icmp: {type: 8}", ".icmp: needs protocol ICMP or ICMPv6"),
        ("action: Allow, protocol: ICMP, icmp: {code: 8}", ".icmp.code: needs a type"),
        ("action: Allow, protocol: ICMP, icmp: {type: 256}", ".icmp.type: must be 0-255"),
        ("action: Allow, protocol: ICMP, ipVersion: 6", ".ipVersion: must be 4 with protocol ICMP"),
        ("action: Allow, ipVersion: 5", ".ipVersion: must be 4 or 6"),
        ("action: Allow, ipVersion: 6, source: {nets: [1.0.0.0/8]}", ".ipVersion: is not that of"),
        (
            "action: Allow, source: {nets: [1.0.0.0/8, '1::/16']}",
            ".source.nets[1]: IPv6 may not stand",
        ),
        (
            "action: Allow, source: {nets: [1.0.0.1]}",
            ".source.nets[0]: must be a CIDR: write 1.0.0.1/32",
        ),
        ("action: Allow, source: {nets: [x]}", ".source.nets[0]: 'x' is not a CIDR"),
        ("action: Allow, source: {selector: 'a ='}", ".source.selector: not a selector, column 3"),
        ("action: Allow, source: {selector: global()}", ".source.selector: global() may stand in"),
        (
            "action: Allow, source: {namespaceSelector: global() || has(a)}",
            ".source.namespaceSelector: global() must stand alone",
        ),
        (
            "action: Allow, source: {services: {namespace: a}}",
            ".source.services.name: must be given",
        ),
        (
            "action: Allow, source: {services: {name: a}, nets: [1.0.0.0/8]}",
            ".source.nets: may not stand",
        ),
        (
            "action: Allow, destination: {services: {name: a}}",
            ".destination.services: may stand in the",
        ),
        (
            "action: Allow, source: {domains: [a]}",
            ".source.domains: may stand in the destination of",
        ),
        ("action: Deny, http: {methods: [GET]}", ".http: may stand in an Allow rule only"),
        ("action: Allow, protocol: UDP, http: {methods: [GET]}", ".http: needs protocol TCP"),
        ("action: Allow, source: {selectors: a}", ".source.selectors: no such field"),
        ("action: Allow, src: {}", ".src: no such field"),
        ("action: Allow, source: []", ".source: must be a map"),
    ],
)
def test_what_the_api_server_would_refuse_in_an_ingress_rule_is_said(text, finding):
    assert said(np(f"ingress: [{{{text}}}]"))[0].startswith(f"spec.ingress[0]{finding}")


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("action: Allow, http: {methods: [GET]}", ".http: may stand in an ingress rule only"),
        ("action: Allow, source: {services: {name: a}}", ".source.services: may stand in the"),
        (
            "action: Allow, protocol: TCP, destination: {services: {name: a}, ports: [1]}",
            ".destination.ports: may not stand beside services",
        ),
        (
            "action: Deny, destination: {domains: [a]}",
            ".destination.domains: may stand in an Allow",
        ),
    ],
)
def test_what_the_api_server_would_refuse_in_an_egress_rule_is_said(text, finding):
    assert said(np(f"egress: [{{{text}}}]"))[0].startswith(f"spec.egress[0]{finding}")


def test_a_service_in_a_global_policy_needs_its_namespace():
    one = gnp("egress: [{action: Allow, destination: {services: {name: a}}}]")
    assert said(one) == [
        "spec.egress[0].destination.services.namespace: must be given in a global policy"
    ]


def test_a_finding_says_what_became_of_the_policy_and_shows_the_selector():
    (found,) = parsed(np("ingress: [{action: Allow, source: {selector: 'app ='}}]")).findings
    first, shown, caret = str(found).splitlines()
    where = "case.yaml:1: NetworkPolicy shop/p: this object is left out: spec.ingress[0].source"
    assert first.startswith(f"{where}.selector: not a selector, column 5: expected ==")
    assert (shown.strip(), caret.index("^") - shown.index("app")) == ("app =", 4)


def test_one_rule_without_meaning_leaves_the_whole_policy_out():
    one = np(
        "ingress: [{action: Allow, source: {selector: app == 'cart'}},"
        " {action: Allow, source: {selector: 'app ='}}, {action: alow}, {action: Deny}]"
    )
    found = parsed(one)
    assert found.policies == ()
    assert [f.effect for f in found.findings] == ["this object is left out"] * 2
    assert passes("data/db -> shop/web tcp/80", one) is True


# --- staged ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["StagedNetworkPolicy", "StagedGlobalNetworkPolicy"])
@pytest.mark.parametrize("action", ["", "stagedAction: Set,", "stagedAction: Learn,"])
def test_a_staged_policy_acts_only_when_asked(kind, action):
    spec = f"{action} order: 5, selector: all(), types: [Ingress]"
    one = np(spec, kind=kind) if kind == "StagedNetworkPolicy" else gnp(spec, kind=kind)
    assert (policy(one).staged, policy(one).order) == (True, 5)
    assert passes("data/db -> shop/web tcp/80", one) is True
    assert passes("data/db -> shop/web tcp/80", one, staged=True) is False


def test_a_staged_deletion_is_a_policy_that_selects_nothing():
    one = policy(np("stagedAction: Delete", kind="StagedNetworkPolicy"))
    assert (one.staged, one.subject, one.isolates) == (True, NOTHING, frozenset())


@pytest.mark.parametrize("name", ["p", "default.p"])
def test_a_staged_policy_takes_the_place_of_the_enforced_one_of_its_name(name):
    enforced = np("order: 5, selector: all(), types: [Ingress]", name)
    staged = "{order: 5, selector: all(), types: [Ingress], ingress: [{action: Allow}]}"
    opened = made("projectcalico.org/v3", "StagedNetworkPolicy", "p", "shop", spec=staged)
    assert passes("data/db -> shop/web tcp/80", enforced, opened) is False
    assert passes("data/db -> shop/web tcp/80", enforced, opened, staged=True) is True
    deleted = np("stagedAction: Delete", kind="StagedNetworkPolicy")
    assert passes("data/db -> shop/web tcp/80", enforced, deleted) is False
    assert passes("data/db -> shop/web tcp/80", enforced, deleted, staged=True) is True


def test_a_staged_kubernetes_policy_takes_the_place_of_the_networkpolicy_of_its_name():
    closed = made("networking.k8s.io/v1", "NetworkPolicy", "p", "shop", spec="{podSelector: {}}")
    opened = made(
        "projectcalico.org/v3",
        "StagedKubernetesNetworkPolicy",
        "p",
        "shop",
        spec="{podSelector: {}, ingress: [{}]}",
    )
    assert passes("data/db -> shop/web tcp/80", closed, opened) is False
    assert passes("data/db -> shop/web tcp/80", closed, opened, staged=True) is True


def test_a_staged_policy_to_be_ignored_is_not_there():
    assert parsed(np("stagedAction: Ignore", kind="StagedNetworkPolicy")) == parsed()


def test_a_staged_kubernetes_policy_is_read_as_one_of_kubernetes():
    spec = (
        "stagedAction: Set, podSelector: {matchLabels: {app: web}},"
        " ingress: [{from: [{ipBlock: {cidr: 10.0.0.3/32}}]}]"
    )
    one = np(spec, kind="StagedKubernetesNetworkPolicy")
    found = policy(one)
    assert (found.tier, found.order, found.staged) == (DEFAULT, 1000.0, True)
    assert str(found.ref) == "StagedKubernetesNetworkPolicy shop/p"
    assert passes("shop/cart -> shop/web tcp/80", one, staged=True) is False
    assert passes("data/db -> shop/web tcp/80", one, staged=True) is True
    assert passes("shop/cart -> shop/web tcp/80", one) is True


def test_a_bad_staged_action_is_said():
    one = np("stagedAction: Apply", kind="StagedNetworkPolicy")
    assert said(one) == ["spec.stagedAction: must be Set, Delete, Learn or Ignore"]


# --- laws --------------------------------------------------------------------------------------

EVERYTHING_AT_ONCE = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: p, labels: {a: b}}
spec:
  tier: default
  order: 5
  selector: has(app)
  namespaceSelector: team == 'sales'
  serviceAccountSelector: has(role)
  types: [Ingress, Egress]
  ingress:
    - action: Allow
      protocol: TCP
      ipVersion: 4
      http: {methods: [GET], paths: [{exact: /a}]}
      source: {nets: [1.0.0.0/8], notNets: [1.1.0.0/16], selector: all(), notSelector: has(x)}
      destination: {ports: [80, "90:95", http], notPorts: [85], selector: has(app)}
    - action: Log
      protocol: ICMP
      icmp: {type: 8, code: 0}
      notICMP: {type: 3}
  egress:
    - action: Pass
      notProtocol: 47
      destination: {services: {name: db, namespace: data}}
    - action: Deny
      metadata: {annotations: {why: x}}
      source: {serviceAccounts: {names: [a], selector: has(b)}, namespaceSelector: all()}
      destination: {domains: [a.example], namespaceSelector: global()}
"""
A_SET = """
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: s, namespace: shop, labels: {a: b}}
spec: {nets: [1.1.1.1], allowedEgressDomains: [a.example]}
"""


@given(broken(EVERYTHING_AT_ONCE))
def test_whatever_stands_in_a_field_is_read_or_said(body):
    found = parsed(json.dumps(body))
    assert found.policies or found.findings or body["spec"].get("doNotTrack")


@given(broken(A_SET))
def test_whatever_stands_in_a_set_is_read_or_said(body):
    assert parsed(json.dumps(body), gnp("ingress: [{action: Allow}]")).policies
