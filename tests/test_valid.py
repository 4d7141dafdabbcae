"""What is written is valid by the published schemas, and stays below the limits of the API."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from clusters import APPLICATIONS, application
from simulation import Simulation
from test_dialects_written import documents, proposed
from test_proposals_judged import boutique

from recommender.cli import group
from recommender.dialects import parse_policies
from recommender.inventory import Inventory
from recommender.limits import MOST_APPLIED_BYTES, MOST_BYTES, largest
from recommender.manifests import Manifest


@pytest.mark.parametrize("by", [(), ("--by", "role")], ids=["plain", "role"])
@pytest.mark.parametrize("name", APPLICATIONS)
def test_network_policies_are_valid_by_the_published_schema(
    name: str, by: tuple[str, ...], tmp_path: Path
) -> None:
    cluster, simulation = application(name)
    out, _ = proposed(tmp_path, "kubernetes", simulation.hubble(), cluster.objects, *by)
    found = documents(out)
    assert found
    for body in found:
        kubernetes_validate.validate(body, "1.37", strict=True)
        assert all(len(value) <= 63 for value in body["metadata"]["labels"].values())


@pytest.mark.parametrize(
    "rule",
    [
        {"ports": [{"protocol": "ICMP", "port": 8}]},
        {"ports": [{"port": 443, "endPort": 80}]},
        {"ports": [{"port": 70_000}]},
        {"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]},
        {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["192.0.2.0/24"]}}]},
    ],
    ids=["protocol", "endPort below port", "port", "CIDR", "except outside"],
)
def test_what_the_schema_lets_pass_and_the_api_server_refuses_our_own_check_finds(
    rule: dict[str, Any],
) -> None:
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"podSelector": {}, "ingress": [rule]},
    }
    kubernetes_validate.validate(body, "1.37", strict=True)
    assert parse_policies([Manifest("p.yaml:1", body)], Inventory()).findings


def calling(simulation: Simulation, count: int) -> Simulation:
    """A workload that calls so many addresses, no two of them side by side."""
    for number in range(count):
        address = f"20.{number >> 14 & 255}.{number >> 7 & 127}.{number % 128 * 2}"
        simulation.want("shop/Deployment/frontend", address, "TCP", 443)
    return simulation


@pytest.mark.parametrize("dialect", ["kubernetes", "cilium", "calico"])
def test_a_policy_too_large_for_the_api_server_is_refused_and_the_others_are_written(
    dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recommender.limits.MOST_BYTES", 10_000)
    cluster, simulation = boutique()
    lines = calling(simulation, 1_000).hubble()
    (tmp_path / "inventory.yaml").write_text(yaml.safe_dump_all(cluster.objects))
    out, _ = proposed(tmp_path, dialect, lines, cluster.objects)
    names = {body["metadata"]["name"] for body in documents(out)}
    assert "flowpolicy-frontend" not in names
    assert len(names) > 1
    result = CliRunner().invoke(
        group,
        ["recommend", "--store", f"{tmp_path}/store", "--inventory", f"{tmp_path}/inventory.yaml",
         "--out", f"{tmp_path}/again", "--dialect", dialect],
    )  # fmt: skip
    assert "not written, the API server would not take them: 1" in result.stdout
    assert "join its addresses with --open-addresses" in result.stdout


def test_the_size_of_an_object_is_that_of_its_json_in_bytes() -> None:
    assert largest([]) == 0
    assert largest([{"a": "ä"}, {"b": 1}]) == len(r'{"a":"\u00e4"}')
    assert MOST_APPLIED_BYTES < 262_144 < MOST_BYTES < 1_572_864
