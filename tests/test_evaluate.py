import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from recommender.dialects import parse_policies
from recommender.errors import InventoryError, QuestionError
from recommender.evaluate import Evaluator, evaluator
from recommender.inventory import Inventory, Namespace, Node, Pod, Service, WorkloadKey
from recommender.known import Known
from recommender.manifests import Manifest
from recommender.model import (
    AllOf,
    AnyOf,
    AnyPeer,
    Direction,
    In,
    NotPeer,
    Policy,
    PortSet,
    Reason,
    Ref,
    Rule,
    Tier,
    UnknownPeer,
)

APIS = {
    "NetworkPolicy": "networking.k8s.io/v1",
    "ClusterNetworkPolicy": "policy.networking.k8s.io/v1alpha2",
}
WORDS = {"allow": True, "deny": False, "unknown": None}


def inventory(cluster: dict[str, Any]) -> Inventory:
    nodes = {
        name: Node(name, {"name": name}, tuple(addresses))
        for name, addresses in cluster.get("nodes", {}).items()
    }
    namespaces = {
        name: Namespace(name, {"kubernetes.io/metadata.name": name, **labels})
        for name, labels in cluster["namespaces"].items()
    }
    pods = {
        tuple(name.split("/")): pod(name, given or {}, nodes)
        for name, given in cluster["pods"].items()
    }
    services = {
        tuple(name.split("/")): service(name, given)
        for name, given in cluster.get("services", {}).items()
    }
    return Inventory(namespaces=namespaces, nodes=nodes, pods=pods, services=services)


def service(name: str, given: dict[str, Any]) -> Service:
    namespace, name = name.split("/")
    ports = tuple(
        (*container_port("", port)[:2], target, None) for port, target in given["ports"].items()
    )
    return Service(namespace, name, given["selector"], (), ports)


def pod(name: str, given: dict[str, Any], nodes: dict[str, Node]) -> Pod:
    namespace, name = name.split("/")
    kind, _, owner = given.get("owner", f"Pod/{name}").partition("/")
    node = nodes.get(given.get("node", ""))
    address = given.get("address")
    return Pod(
        namespace=namespace,
        name=name,
        labels=given.get("labels", {}),
        workload=WorkloadKey(namespace, kind, owner),
        addresses=(address,) if isinstance(address, str) else tuple(address or ()),
        ports=tuple(container_port(n, p) for n, p in given.get("ports", {}).items()),
        service_account="default",
        host_network=given.get("host", False),
        node=node.name if node else None,
        node_addresses=node.addresses if node else (),
        made=given.get("made", False),
    )


def container_port(name: str, port: int | str) -> tuple[str, int, str]:
    protocol, _, number = str(port).rpartition("/")
    return protocol or "TCP", int(number), name


def judge(case: dict[str, Any], **options: Any) -> Evaluator:
    manifests = []
    for body in case["policies"]:
        meta = {"namespace": "shop"} if body["kind"] == "NetworkPolicy" else {}
        meta |= body["metadata"]
        api = body.get("apiVersion") or APIS[body["kind"]]
        manifests.append(Manifest("case.yaml:1", {**body, "apiVersion": api, "metadata": meta}))
    objects = inventory(case["cluster"])
    parsed = parse_policies(manifests, objects)
    finding = case.get("finding")
    assert all(finding and finding in each.message for each in parsed.findings)
    names = {name: frozenset(found) for name, found in case.get("names", {}).items()}
    return evaluator(parsed.policies, objects, told=Known(names or {}), **options)


def cases() -> Iterator[Any]:
    for path in sorted((Path(__file__).parent / "cases" / "evaluate").glob("*.yaml")):
        found = yaml.safe_load(path.read_text())
        for case in found["cases"]:
            case.setdefault("cluster", found["cluster"])
            yield pytest.param(case, id=case["name"])


def told(why: Reason) -> str:
    policy = f" by {why.policy}" if why.policy else ""
    rule = "" if why.rule is None else f" rule {why.rule}"
    return f"{why.direction}: {why.action}{policy}{rule}{f' ({why.detail})' if why.detail else ''}"


@pytest.mark.parametrize("case", list(cases()))
def test_a_case_is_judged_as_expected(case: dict[str, Any]) -> None:
    found = judge(case)
    for line in case["expect"]:
        match = re.fullmatch(r"(\S+) -> (\S+) (\S+) (\S+) (allow|deny|unknown)(?:: (.*))?", line)
        assert match, line
        src, dst, protocol, port, word, words = match.groups()
        verdict = found.verdict(src, dst, protocol, None if port == "all" else int(port))
        reasons = "; ".join(map(told, verdict.because))
        assert verdict.allow is WORDS[word], (line, reasons)
        assert verdict.because
        for part in (words or "").split("; "):
            assert part in reasons, (line, reasons)
        if "/" in src and "/" in dst and port != "all" and "not isolated (" not in reasons:
            listed = found.connectivity("pod", protocols=[protocol])
            ports = next((row.ports for row in listed if row[:2] == (src, dst)), ())
            assert any(low <= int(port) <= high for low, high in ports) is (verdict.allow is True)


CLUSTER: dict[str, Any] = {
    "namespaces": {"shop": {}, "data": {}},
    "nodes": {"one": ["192.168.0.1"]},
    "pods": {
        "shop/web-1": {"labels": {"app": "web", "v": "1"}, "owner": "Deployment/web"},
        "shop/web-2": {"labels": {"app": "web", "v": "2"}, "owner": "Deployment/web"},
        "shop/cart-1": {"labels": {"app": "cart"}, "owner": "Deployment/cart"},
        "data/db-0": {"labels": {"app": "db"}, "owner": "StatefulSet/db", "address": "10.0.0.9"},
        "data/db-x": {"labels": {"app": "db", "x": "y"}, "owner": "Job/db"},
    },
}


def policy(name: str, namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    return {
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def selecting(**labels: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels}}


def of(*policies: dict[str, Any], **options: Any) -> Evaluator:
    return judge({"cluster": CLUSTER, "policies": policies}, **options)


V1 = policy("v1", **selecting(app="cart"), ingress=[{"from": [selecting(v="1")]}])


def test_pods_of_a_workload_that_disagree_deny_and_are_named() -> None:
    verdict = of(V1).verdict("shop/web", "shop/cart", "TCP", 80)
    assert verdict.allow is False
    assert [why.detail for why in verdict.because] == [
        "pods disagree; so it is for shop/web-2 to shop/cart-1"
    ]


def test_by_workload_a_port_is_listed_where_some_pod_may_use_it() -> None:
    listed = of(V1).connectivity("workload", protocols=["TCP"])
    assert ("shop/web", "shop/cart", "TCP", ((1, 65535),)) in listed


def test_by_pod_each_pod_is_listed_for_itself() -> None:
    pairs = {(row.src, row.dst) for row in of(V1).connectivity("pod")}
    assert ("shop/web-1", "shop/cart-1") in pairs
    assert ("shop/web-2", "shop/cart-1") not in pairs
    assert ("shop/web-1", "shop/web-1") not in pairs
    assert ("shop/web-1", "shop/web-2") in pairs


def test_pods_of_one_workload_are_listed_but_not_one_pod_alone() -> None:
    pairs = {(row.src, row.dst) for row in of().connectivity("workload")}
    assert ("shop/web", "shop/web") in pairs
    assert ("shop/cart", "shop/cart") not in pairs


def test_what_only_a_pod_alone_may_do_to_itself_is_not_listed() -> None:
    found = of(policy("v1", **selecting(app="web"), ingress=[{"from": [selecting(v="1")]}]))
    assert ("shop/web", "shop/web") in {row[:2] for row in found.connectivity()}
    found = of(
        policy("v1", **selecting(v="1"), ingress=[{"from": [selecting(v="1")]}]),
        policy("v2", **selecting(v="2"), ingress=[{"from": [selecting(v="2")]}]),
    )
    assert ("shop/web", "shop/web") not in {row[:2] for row in found.connectivity()}


def test_a_made_pod_stands_for_several() -> None:
    pods = {"shop/cart": {"made": True, "owner": "Deployment/cart"}}
    found = judge({"cluster": {"namespaces": {"shop": {}}, "pods": pods}, "policies": []})
    assert ("shop/cart", "shop/cart") in {row[:2] for row in found.connectivity("workload")}


def test_workloads_that_share_a_name_are_told_apart_by_kind() -> None:
    found = of(policy("x", "data", **selecting(x="y")))
    assert found.verdict("shop/cart", "data/StatefulSet/db", "TCP", 1).allow is True
    assert found.verdict("shop/cart", "data/job/db", "TCP", 1).allow is False
    ends = {row.dst for row in found.connectivity("workload")}
    assert {"data/StatefulSet/db"} == {end for end in ends if end.startswith("data/")}


def test_a_name_that_two_kinds_share_is_refused_with_the_ways_to_tell() -> None:
    with pytest.raises(InventoryError, match=r"data/Job/db or data/StatefulSet/db"):
        of().verdict("shop/cart", "data/db", "TCP", 1)


def test_an_unknown_end_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InventoryError, match=r"'shop/crat'.*nearest name is shop/cart"):
        of().verdict("shop/crat", "shop/web", "TCP", 1)


def test_addresses_are_listed_as_ranges_and_joined() -> None:
    blocks = [{"ipBlock": {"cidr": c}} for c in ("10.0.0.0/9", "10.128.0.0/9", "0.0.0.0/8")]
    listed = of(
        policy("b", **selecting(app="cart"), ingress=[{"from": blocks, "ports": [{"port": 80}]}])
    ).connectivity("workload", protocols=["TCP"])
    assert [row for row in listed if row.dst == "shop/cart"] == [
        ("0.0.0.0-0.255.255.255", "shop/cart", "TCP", ((80, 80),)),
        ("10.0.0.0-10.255.255.255", "shop/cart", "TCP", ((80, 80),)),
    ]
    assert ("shop/cart", "0.0.0.0-255.255.255.255", "TCP", ((1, 65535),)) in listed


def test_ipv6_is_listed_only_where_it_is_known_of() -> None:
    six = policy("b", egress=[{"to": [{"ipBlock": {"cidr": "2001:db8::/32"}}]}])
    assert not any(":" in row.dst for row in of(V1).connectivity())
    assert any(row.dst.startswith("2001:db8::-") for row in of(six).connectivity())


def test_a_node_reaching_its_own_pods_is_not_listed_as_a_connection() -> None:
    cluster = {**CLUSTER, "pods": {"shop/web": {"node": "one"}}}
    found = judge({"cluster": cluster, "policies": [policy("deny")]})
    assert found.verdict("192.168.0.1", "shop/web", "TCP", 1).allow is True
    assert {row.src for row in found.connectivity()} == {"shop/web"}


def test_connections_are_sorted_and_none_is_from_address_to_address() -> None:
    rows = of(V1).connectivity("pod")
    assert rows == sorted(rows)
    assert all("/" in row.src or "/" in row.dst for row in rows)


def test_an_empty_inventory_has_no_connections() -> None:
    assert evaluator([], Inventory()).connectivity() == []


def test_what_one_set_permits_beyond_another_is_what_it_gained() -> None:
    old = policy("p", **selecting(app="cart"), ingress=[{"ports": [{"port": 80}]}])
    new = policy("p", **selecting(app="cart"), ingress=[
        {"ports": [{"port": 80}]}, {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    ])  # fmt: skip
    before, after = of(old), of(new)
    a = judge({"cluster": CLUSTER, "policies": [old]}, beside=after.policies)
    b = judge({"cluster": CLUSTER, "policies": [new]}, beside=before.policies)
    gained = b.connectivity(protocols=["TCP"], beyond_those_of=a)
    assert gained == [("192.0.2.0-192.0.2.255", "shop/cart", "TCP", ((1, 79), (81, 65535)))]
    assert a.connectivity(beyond_those_of=b) == []
    with pytest.raises(ValueError, match="beside"):
        after.connectivity(beyond_those_of=before)


def test_the_pods_that_a_policy_selects_are_its_extent() -> None:
    found = of(policy("w", **selecting(app="web")))
    assert [each.name for each in found.selects(found.policies[0])] == ["web-1", "web-2"]


def test_ports_between_two_ends_are_those_allowed_and_those_unknown() -> None:
    found = of(policy("c", **selecting(app="cart"), ingress=[{"ports": [{"port": 80}]}]))
    assert found.permitted("shop/web", "shop/cart") == (PortSet.one("TCP", 80), PortSet())


def test_staged_policies_act_only_when_asked() -> None:
    staged = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "StagedGlobalNetworkPolicy",
        "metadata": {"name": "s"},
        "spec": {"selector": "app == 'cart'", "types": ["Ingress"]},
    }
    asked = "shop/web", "shop/cart", "TCP", 80
    assert of(staged).verdict(*asked).allow is True
    assert of(staged, staged=True).verdict(*asked).allow is False


def test_a_dual_stack_pod_is_in_a_network_by_any_of_its_addresses() -> None:
    pods = {"shop/a": {"address": ["10.0.0.1", "fd00::1"]}, "shop/b": {"address": "10.0.0.2"}}
    network = {"action": "Deny", "to": [{"networks": ["fd00::/8"]}]}
    spec = {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": [network]}
    body = {"kind": "ClusterNetworkPolicy", "metadata": {"name": "n"}, "spec": spec}
    found = judge({"cluster": {"namespaces": {"shop": {}}, "pods": pods}, "policies": [body]})
    assert found.verdict("shop/b", "shop/a", "TCP", 1).allow is False
    assert found.verdict("shop/a", "shop/b", "TCP", 1).allow is True


def test_an_exception_of_a_network_keeps_pods_out_too() -> None:
    pods = {"shop/a": {"address": "10.0.0.1"}, "shop/b": {"address": "10.0.1.1"}, "shop/c": {}}
    calico = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "n"},
        "spec": {
            "selector": "all()",
            "types": ["Ingress"],
            "ingress": [
                {"action": "Allow", "source": {"nets": ["10.0.0.0/16"], "notNets": ["10.0.1.0/24"]}}
            ],
        },
    }
    knp = policy(
        "k", ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.1.0/24"]}}]}]
    )
    for policies in ([calico], [calico, knp]):
        found = judge({"cluster": {"namespaces": {"shop": {}}, "pods": pods}, "policies": policies})
        assert found.verdict("shop/a", "shop/c", "TCP", 1).allow is True
        assert found.verdict("shop/b", "shop/c", "TCP", 1).allow is False


def test_a_node_that_runs_some_pods_of_a_workload_reaches_these_only() -> None:
    pods = {
        f"shop/web-{node}": {"labels": {"app": "web"}, "owner": "Deployment/web", "node": node}
        for node in ("one", "two")
    }
    nodes = {"one": ["192.168.0.1"], "two": ["192.168.0.2"]}
    cluster = {"namespaces": {"shop": {}}, "nodes": nodes, "pods": pods}
    found = judge({"cluster": cluster, "policies": [policy("deny")]})
    verdict = found.verdict("192.168.0.1", "shop/web", "TCP", 80)
    assert verdict.allow is False
    assert "shop/web-two" in (verdict.because[0].detail or "")


def test_the_address_of_a_service_means_the_pods_and_ports_behind_it() -> None:
    pods = {
        "shop/web-1": {"labels": {"app": "web"}, "ports": {"http": 8080}},
        "shop/web-2": {"labels": {"app": "web"}, "ports": {"http": 8081}},
        "shop/cart": {},
    }
    rows = (("TCP", 80, "http", None), ("TCP", 90, 9090, None))
    service = Service("shop", "web", {"app": "web"}, ("10.96.0.7",), rows)
    lone = Service("shop", "lone", {}, ("10.96.0.8",), rows)
    objects = inventory({"namespaces": {"shop": {}}, "pods": pods})
    objects = replace(objects, services={("shop", s.name): s for s in (service, lone)})
    body = policy("p", **selecting(app="web"), ingress=[{"ports": [{"port": "http"}]}])
    body |= {"apiVersion": APIS["NetworkPolicy"]}
    found = evaluator(parse_policies([Manifest("p.yaml:1", body)], objects).policies, objects)
    assert found.verdict("shop/cart", "10.96.0.7", "TCP", 80).allow is True
    assert found.verdict("shop/cart", "10.96.0.7", "TCP", 90).allow is False
    for asked in (("10.96.0.7", 70), ("10.96.0.8", 80)):
        verdict = found.verdict("shop/cart", asked[0], "TCP", asked[1])
        assert verdict.allow is None
        assert "Service shop/" in (verdict.because[0].detail or "")


def test_icmp_is_asked_by_type_or_by_type_and_code() -> None:
    calico = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "ping"},
        "spec": {
            "selector": "app == 'cart'",
            "types": ["Ingress"],
            "ingress": [{"action": "Allow", "protocol": "ICMP", "icmp": {"type": 8}}],
        },
    }
    found = of(calico)
    assert found.verdict("shop/web", "shop/cart", "ICMP", 8).allow is True
    assert found.verdict("shop/web", "shop/cart", "icmp", 8 * 256).allow is True
    assert found.verdict("shop/web", "shop/cart", "ICMP", 3).allow is False
    assert found.verdict("shop/web", "shop/cart", "ICMP", None).allow is False


LIMIT = UnknownPeer("its label is not known")


@pytest.mark.parametrize(
    "rule",
    [
        Rule(local=LIMIT),
        Rule(LIMIT),
        Rule(NotPeer(LIMIT)),
        Rule(AllOf((AnyPeer(), LIMIT))),
        Rule(AnyOf((NotPeer(AnyPeer()), LIMIT))),
    ],
)
def test_a_rule_that_may_match_or_not_leaves_the_verdict_unknown(rule: Rule) -> None:
    tier = Tier("t", 1, "first match", "deny")
    ref = Ref("test/v1", "Policy", None, "p")
    isolated: frozenset[Direction] = frozenset({"ingress"})
    one = Policy(ref, tier, In("pod:app", frozenset({"cart"})), isolated, ingress=(rule,))
    found = evaluator([one], inventory(CLUSTER))
    verdict = found.verdict("shop/web", "shop/cart", "TCP", 80)
    assert verdict.allow is None
    assert verdict.because[0].detail == "allow: its label is not known"
    assert ("shop/web", "shop/cart") not in {row[:2] for row in found.connectivity()}


def test_rules_of_which_it_is_unknown_whom_they_match_are_told() -> None:
    names = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "names", "namespace": "shop"},
        "spec": {
            "endpointSelector": {},
            "egress": [{"toEntities": ["host"]}, {"toFQDNs": [{"matchName": "a.example"}]}],
        },
    }
    (doubt,) = of(names, V1).doubts()
    assert (str(doubt.policy), doubt.rule) == ("CiliumNetworkPolicy shop/names", 1)
    assert doubt.detail == "allow: no addresses are known for a.example"


def test_host_network_pods_can_be_judged_like_others() -> None:
    pods = {"shop/a": {"host": True, "labels": {"app": "a"}}, "shop/b": {}}
    case = {"cluster": {"namespaces": {"shop": {}}, "pods": pods}, "policies": [policy("deny")]}
    assert judge(case).verdict("shop/b", "shop/a", "TCP", 1).allow is True
    assert judge(case, host_network="as pods").verdict("shop/b", "shop/a", "TCP", 1).allow is False


def behind_a_service(target: int | str, **pods: dict[str, Any]) -> Evaluator:
    """The Service 10.96.0.7 port 80 in front of pods, all of which are isolated."""
    own = {f"shop/{name}": {"labels": {"app": "web"}, **given} for name, given in pods.items()}
    objects = inventory({"namespaces": {"shop": {}}, "pods": {**own, "shop/cart": {}}})
    service = Service("shop", "web", {"app": "web"}, ("10.96.0.7",), (("TCP", 80, target, None),))
    objects = replace(objects, services={("shop", "web"): service})
    body = policy("p", **selecting(app="web")) | {"apiVersion": APIS["NetworkPolicy"]}
    return evaluator(parse_policies([Manifest("p.yaml:1", body)], objects).policies, objects)


@pytest.mark.parametrize("target", ["nosuch", "5432"])
def test_a_service_whose_target_port_no_pod_has_cannot_be_judged(target: str) -> None:
    found = behind_a_service(target, web={"ports": {"http": 5432}})
    verdict = found.verdict("shop/cart", "10.96.0.7", "TCP", 80)
    assert verdict.allow is None
    assert f"has no pod with a port {target} here" in (verdict.because[0].detail or "")
    assert found.to_change("shop/cart", "10.96.0.7", "TCP", 80) == []


def test_pods_without_the_target_port_of_a_service_are_not_behind_it() -> None:
    host = {"ports": {"http": 80}, "host": True}
    assert behind_a_service("http", a={}, b=host).verdict("shop/cart", "10.96.0.7", "6", 80).allow
    found = behind_a_service("http", a={}, b={"ports": {"http": 8080}})
    assert found.verdict("shop/cart", "10.96.0.7", "TCP", 80).allow is False


def test_a_protocol_goes_by_its_name_or_number() -> None:
    open_port = {"ports": [{"port": 80, "protocol": "UDP"}]}
    found = of(policy("p", **selecting(app="cart"), ingress=[open_port]))
    for protocol, allow in (
        ("17", True),
        ("udp", True),
        ("6", False),
        ("GRE", False),
        ("1", False),
    ):
        assert found.verdict("shop/web", "shop/cart", protocol, 80).allow is allow
    for wrong in ("TCPP", "256", "²", ""):
        with pytest.raises(QuestionError, match=r"no protocol .* write its number, or one of ICMP"):
            found.verdict("shop/web", "shop/cart", wrong, 80)


def test_a_protocol_that_a_policy_names_by_number_is_asked_by_name() -> None:
    gre = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "gre"},
        "spec": {"selector": "app == 'cart'", "ingress": [{"action": "Allow", "protocol": 47}]},
    }
    found = of(gre)
    assert found.verdict("shop/web", "shop/cart", "GRE", None).allow is True
    assert found.verdict("shop/web", "shop/cart", "ESP", None).allow is False
