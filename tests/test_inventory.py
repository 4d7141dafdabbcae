"""Kubernetes objects -> inventory: owners, stand-ins, addresses."""

from pathlib import Path

import pytest
from cluster_objects import inventory, manifest, node, pod, service, workload

from recommender.errors import InventoryError
from recommender.inventory import WorkloadKey
from recommender.objects import read_inventory


def replica_set(name: str, owner: str | None) -> object:
    metadata: dict[str, object] = {"name": name, "namespace": "shop"}
    if owner:
        metadata["ownerReferences"] = [{"kind": "Deployment", "name": owner, "controller": True}]
    return manifest(
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": {}}
    )


def job(name: str, owner: str | None = None) -> object:
    metadata: dict[str, object] = {"name": name, "namespace": "shop"}
    if owner:
        metadata["ownerReferences"] = [{"kind": "CronJob", "name": owner, "controller": True}]
    return manifest({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}})


def owner_of(found: object, name: str) -> str:
    key = found.pods["shop", name].workload  # type: ignore[attr-defined]
    return f"{key.kind}/{key.name}"


def test_a_pod_belongs_to_the_end_of_its_owner_references() -> None:
    found = inventory(
        workload("web", {"app": "web"}),
        replica_set("web-5d8", "web"),  # type: ignore[arg-type]
        pod("web-5d8-x", {"app": "web"}, owner=("ReplicaSet", "web-5d8")),
        workload("night", {"app": "night"}, kind="CronJob"),
        job("night-29000000", "night"),  # type: ignore[arg-type]
        pod("night-29000000-x", {"app": "night"}, owner=("Job", "night-29000000")),
        job("once"),  # type: ignore[arg-type]
        pod("once-x", {}, owner=("Job", "once")),
        pod("alone", {"run": "alone"}),
    )
    assert owner_of(found, "web-5d8-x") == "Deployment/web"
    assert owner_of(found, "night-29000000-x") == "CronJob/night"
    assert owner_of(found, "once-x") == "Job/once"
    assert owner_of(found, "alone") == "Pod/alone"


def test_an_owner_that_is_gone_is_told_by_its_name() -> None:
    labels = {"app": "web", "pod-template-hash": "5d8"}
    found = inventory(
        pod("web-5d8-x", labels, owner=("ReplicaSet", "web-5d8")),
        workload("night", {"app": "night"}, kind="CronJob"),
        pod("night-29000000-x", {}, owner=("Job", "night-29000000")),
        pod("odd-29000000-x", {}, owner=("Job", "odd-29000000")),
    )
    assert owner_of(found, "web-5d8-x") == "Deployment/web"
    assert owner_of(found, "night-29000000-x") == "CronJob/night"
    assert owner_of(found, "odd-29000000-x") == "Job/odd-29000000"


def test_a_workload_without_pods_is_stood_for_by_its_template() -> None:
    found = inventory(workload("web", {"app": "web"}, ports=(("http", 8080),)))
    stand_in = found.pods["shop", "web"]
    assert stand_in.made
    assert stand_in.labels == {"app": "web"}
    assert stand_in.ports == (("TCP", 8080, "http"),)


def test_namesakes_of_two_kinds_without_pods_are_both_stood_for() -> None:
    found = inventory(workload("a", {"app": "a"}), workload("a", {"app": "b"}, kind="StatefulSet"))
    assert {(p.workload.kind, p.labels["app"]) for p in found.pods.values()} == {
        ("Deployment", "a"),
        ("StatefulSet", "b"),
    }


def test_every_pod_has_a_workload_and_every_namespace_its_name_label() -> None:
    found = inventory(pod("a-1", {"app": "a"}, owner=("Rollout", "a")))
    assert WorkloadKey("shop", "Rollout", "a") in found.workloads
    assert found.namespaces["shop"].labels == {"kubernetes.io/metadata.name": "shop"}


def test_an_ended_pod_gives_its_address_back() -> None:
    found = inventory(
        pod("job-x", {}, ip="10.0.0.5", phase="Succeeded"), pod("web-x", {}, ip="10.0.0.5")
    )
    assert found.pod_of_address["10.0.0.5"].name == "web-x"


def test_an_address_of_two_pods_is_said() -> None:
    found = inventory(pod("a", {}, ip="10.0.0.5"), pod("b", {}, ip="10.0.0.5"))
    (said,) = found.problems
    assert said.startswith("inventory: 1 addresses belong to several pods each, 10.0.0.5 to shop/a")
    agents = (pod(name, {}, ip="192.168.0.1", hostNetwork=True) for name in "ab")
    assert inventory(*agents).problems == ()


def test_a_host_network_pod_does_not_own_its_nodes_address() -> None:
    found = inventory(
        node("n1", "192.168.0.1"),
        pod("agent-x", {}, ip="192.168.0.1", node="n1", hostNetwork=True),
        pod("web-x", {}, ip="10.0.0.5", node="n1"),
    )
    assert "192.168.0.1" not in found.pod_of_address
    assert found.node_of_address == {"192.168.0.1": "n1"}
    assert found.pods["shop", "web-x"].node_addresses == ("192.168.0.1",)


def test_a_node_goes_by_its_cnis_addresses_too() -> None:
    body = node("n1", "192.168.0.1").body
    body["metadata"]["annotations"] = {
        "projectcalico.org/IPv4VXLANTunnelAddr": "10.1.1.0",
        "network.cilium.io/ipv4-cilium-host": "10.2.2.2",
        "unrelated": "10.3.3.3",
    }
    found = inventory(manifest(body)).nodes["n1"].addresses
    assert sorted(found) == ["10.1.1.0", "10.2.2.2", "192.168.0.1"]


def test_a_service_knows_its_backends_by_selector() -> None:
    ports = [{"port": 80, "targetPort": "http"}, {"port": 81}]
    found = inventory(
        workload("web", {"app": "web"}), service("web", {"app": "web"}, "10.96.0.1", ports)
    )
    chosen = found.service_of_address["10.96.0.1"]
    assert [p.name for p in found.backends(chosen)] == ["web"]
    assert chosen.ports == (("TCP", 80, "http", None), ("TCP", 81, 81, None))


def test_kinds_that_are_no_part_of_an_inventory_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\n---\n"
        "kind: Namespace\napiVersion: v1\nmetadata: {name: shop}\n---\n"
        "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {name: p}\n"
    )
    found = read_inventory([path])
    assert found.unknown_kinds == {"ConfigMap": 1}
    assert [m.body["kind"] for m in found.manifests] == ["NetworkPolicy"]


def test_an_inventory_without_anything_useful_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "maps.yaml"
    path.write_text("kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\n")
    with pytest.raises(InventoryError, match="no workload, pod or namespace found; give what"):
        read_inventory([path])


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "Service", "spec": {"clusterIPs": 5, "externalIPs": 7, "ports": 3}},
        {"kind": "Service", "status": {"loadBalancer": {"ingress": 4}}},
        {"kind": "Node", "spec": {"podCIDRs": 5}, "status": {"addresses": {"x": "y"}}},
        {"kind": "Pod", "spec": None, "status": []},
        {"kind": "Deployment", "spec": {"selector": {"matchLabels": []}, "template": 5}},
    ],
    ids=str,
)
def test_a_field_of_the_wrong_type_is_taken_as_not_given(body: dict[str, object]) -> None:
    odd = manifest(body | {"metadata": {"name": "odd", "labels": 5, "ownerReferences": 7}})
    found = inventory(odd, workload("web", {"app": "web"}))
    assert WorkloadKey("shop", "Deployment", "web") in found.workloads
