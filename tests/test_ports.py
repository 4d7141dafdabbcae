"""Sets of ports keep their laws, and stay quick where there are very many."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recommender.dialects import parse_policies
from recommender.inventory import Inventory
from recommender.manifests import Manifest
from recommender.ports import PortSet

points = st.sets(st.tuples(st.sampled_from(["TCP", "UDP"]), st.integers(1, 20)))


def of(found: set[tuple[str, int]]) -> PortSet:
    return PortSet.union(PortSet.one(*each) for each in found)


@given(points, points)
def test_sets_of_ports_are_sets_of_points(
    left: set[tuple[str, int]], right: set[tuple[str, int]]
) -> None:
    assert of(left) - of(right) == of(left - right)
    assert of(left) & of(right) == of(left & right)
    assert of(left) | of(right) == of(left | right)


def test_thirty_thousand_ports_and_labels_are_read() -> None:
    numbers = range(2, 60_002, 2)
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": {f"k{i}": "v" for i in numbers}},
        "ingress": [{"ports": [{"port": i} for i in numbers]}],
    }
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": spec}
    found = parse_policies([Manifest("p:1", {**body, "metadata": {"name": "p"}})], Inventory())
    ports = found.policies[0].ingress[0].ports.numbers
    assert len(ports.intervals("TCP")) == 30_000
    assert ports & ports == ports - PortSet.one("TCP", 1) == ports
