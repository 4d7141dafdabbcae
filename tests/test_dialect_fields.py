"""What every dialect does with a value that is no value: it is refused, in a short sentence."""

from typing import Any

import pytest

from recommender.dialects import parse_policies
from recommender.inventory import Inventory
from recommender.manifests import Manifest


def bomb() -> Any:
    """A value that takes no room and is endless when written out, as YAML's aliases make it."""
    value: Any = ["x"] * 10
    for _ in range(30):
        value = [value] * 10
    return value


KINDS = {
    "NetworkPolicy": "networking.k8s.io/v1",
    "ClusterNetworkPolicy": "policy.networking.k8s.io/v1alpha2",
    "CiliumNetworkPolicy": "cilium.io/v2",
    "GlobalNetworkPolicy": "projectcalico.org/v3",
}
RULE = {"action": "Allow", "protocol": "TCP", "destination": {"ports": [80]}}
SPECS: list[tuple[str, dict[str, Any]]] = [
    ("NetworkPolicy", {"podSelector": {"matchLabels": {"a": bomb()}}}),
    ("NetworkPolicy", {"policyTypes": [bomb()]}),
    ("NetworkPolicy", {"ingress": [{"ports": [{"port": bomb()}]}]}),
    ("NetworkPolicy", {"ingress": [{"ports": [{"protocol": bomb()}]}]}),
    ("NetworkPolicy", {"ingress": [{"from": [{"ipBlock": {"cidr": bomb()}}]}]}),
    ("ClusterNetworkPolicy", {"tier": bomb()}),
    ("ClusterNetworkPolicy", {"tier": "Admin", "priority": bomb()}),
    ("CiliumNetworkPolicy", {"endpointSelector": {"matchLabels": {"a": bomb()}}}),
    ("CiliumNetworkPolicy", {"endpointSelector": {}, "ingress": [{"fromCIDR": [bomb()]}]}),
    (
        "CiliumNetworkPolicy",
        {"endpointSelector": {}, "ingress": [{"icmps": [{"fields": [{"type": bomb()}]}]}]},
    ),
    ("GlobalNetworkPolicy", {"ingress": [{**RULE, "protocol": bomb()}]}),
    ("GlobalNetworkPolicy", {"ingress": [{**RULE, "destination": {"ports": [bomb()]}}]}),
]


@pytest.mark.parametrize(("kind", "spec"), SPECS)
def test_an_endless_value_is_cut_in_the_finding_about_it(kind: str, spec: dict[str, Any]) -> None:
    body = {"apiVersion": KINDS[kind], "kind": kind, "metadata": {"name": "p"}, "spec": spec}
    (finding, *_) = parse_policies([Manifest("case.yaml:1", body)], Inventory()).findings
    assert len(finding.message) < 400


def test_an_endless_api_version_or_namespace_is_cut_too() -> None:
    body = {"apiVersion": bomb(), "kind": "NetworkPolicy", "metadata": {"name": "p"}}
    ((name, count),) = parse_policies([Manifest("case.yaml:1", body)], Inventory()).unknown_kinds
    assert len(name) < 200
    assert count == 1
    body = {**body, "apiVersion": KINDS["NetworkPolicy"], "spec": {}}
    body["metadata"] = {"name": "p", "namespace": bomb()}
    found = parse_policies([Manifest("case.yaml:1", body)], Inventory())
    assert len(str(found.policies)) < 1000
