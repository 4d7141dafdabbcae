from typing import Any

import pytest
import yaml

from recommender.dialects import clusternetworkpolicy
from recommender.inventory import Inventory
from recommender.manifests import Manifest
from recommender.model import AddressPeer, And, In, NamePeer, NodePeer, Parsed, Ports, PortSet

SPEC: dict[str, Any] = {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}}
TO = {"action": "Accept", "to": [{"namespaces": {}}]}


def parse(spec: dict[str, Any]) -> Parsed:
    body = {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "c"},
        "spec": spec,
    }
    return clusternetworkpolicy.parse([Manifest("c.yaml:1", body)], Inventory())


def egress(**rule: Any) -> dict[str, Any]:
    return {**SPEC, "egress": [{**TO, **rule}]}


def test_it_isolates_nobody_and_stands_in_the_tier_that_it_names() -> None:
    (admin,) = parse(SPEC).policies
    (baseline,) = parse({**SPEC, "tier": "Baseline", "priority": 7}).policies
    assert admin.isolates == frozenset()
    assert admin.subject == And(())
    assert admin.tier.order < 1_000_000 < baseline.tier.order
    assert (admin.tier.default, baseline.tier.default) == ("pass", "pass")
    assert baseline.order == 7


def test_every_outward_peer_is_read() -> None:
    for given, peer in (
        ({"networks": ["10.0.0.0/8", "fd00::/8"]}, AddressPeer(("10.0.0.0/8", "fd00::/8"), reach="all")),
        ({"nodes": {"matchLabels": {"a": "b"}}}, NodePeer(And((In("node:a", frozenset("b")),)))),
        ({"domainNames": ["a.example.", "*.b.example"]}, NamePeer(("a.example", "**.b.example"))),
    ):  # fmt: skip
        (policy,) = parse(egress(to=[given])).policies
        assert policy.egress[0].peer == peer


def test_protocols_are_alternatives_and_a_protocol_alone_is_all_its_ports() -> None:
    given = [
        {"tcp": {"destinationPort": {"number": 80}}},
        {"sctp": {}},
        {"destinationNamedPort": "dns"},
    ]
    (policy,) = parse(egress(protocols=given)).policies
    numbers = PortSet.of({"TCP": [(80, 80)], "SCTP": [(1, 65535)]})
    assert policy.egress[0].ports == Ports(
        numbers, (("SCTP", "dns"), ("TCP", "dns"), ("UDP", "dns"))
    )


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({**SPEC, "tier": "admin"}, "spec.tier", "Admin"),
        ({**SPEC, "priority": 1001}, "spec.priority", "1000"),
        ({**SPEC, "priority": None}, "spec.priority", "None"),
        ({**SPEC, "subject": {}}, "spec.subject", "exactly one"),
        ({**SPEC, "subject": {"namespaces": {}, "pods": {}}}, "spec.subject", "exactly one"),
        ({**SPEC, "subject": {"pods": {"podSelector": {}}}}, "spec.subject.pods.namespaceSelector", "required"),
        (egress(action="Allow"), "spec.egress[0].action", "Accept"),
        (egress(to=[]), "spec.egress[0].to", "at least one"),
        (egress(to=[{}]), "spec.egress[0].to[0]", "exactly one"),
        (egress(to=[{"networks": ["10.0.0.0"]}]), "spec.egress[0].to[0].networks[0]", "CIDR"),
        (egress(to=[{"networks": []}]), "spec.egress[0].to[0].networks", "at least one"),
        (egress(to=[TO["to"][0]] * 26), "spec.egress[0].to", "25"),  # type: ignore[index]
        (egress(action="Deny", to=[{"domainNames": ["a.example"]}]), "spec.egress[0].to", "accepted"),
        (
            egress(to=[{"networks": ["10.0.0.0/8"]}], protocols=[{"destinationNamedPort": "a"}]),
            "spec.egress[0].protocols",
            "named ports",
        ),
        (egress(protocols=[{"icmp": {}}]), "spec.egress[0].protocols[0]", "exactly one"),
        (
            egress(protocols=[{"tcp": {"destinationPort": {"range": {"start": 9, "end": 8}}}}]),
            "spec.egress[0].protocols[0].tcp.destinationPort.range",
            "below",
        ),
        ({**SPEC, "ingress": [{"action": "Deny", "from": [{"networks": ["10.0.0.0/8"]}]}]}, "spec.ingress[0].from[0]", "exactly one"),
    ],
)  # fmt: skip
def test_what_the_api_server_refuses_is_a_finding(
    spec: dict[str, Any], field: str, words: str
) -> None:
    parsed = parse(yaml.safe_load(yaml.safe_dump(spec)))
    assert not parsed.policies
    (finding,) = parsed.findings
    assert finding.field == field
    assert words in finding.message


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({**SPEC, "Egress": []}, "spec.Egress"),
        (egress(ports=[]), "spec.egress[0].ports"),
        (egress(protocols=[{"tcp": {"port": 80}}]), "spec.egress[0].protocols[0].tcp.port"),
        ({**SPEC, "subject": {"namespaces": {"matchLabel": {}}}}, "spec.subject.namespaces.matchLabel"),
    ],
)  # fmt: skip
def test_a_field_that_there_is_not_is_said_and_the_policy_is_judged_without_it(
    spec: dict[str, Any], field: str
) -> None:
    parsed = parse(spec)
    assert len(parsed.policies) == 1
    (finding,) = parsed.findings
    assert (finding.field, finding.effect) == (field, "read all the same")
