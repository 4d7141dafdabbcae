"""A real API server: the access rights of deploy/ suffice and no more, lists outlive outages."""

import json
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from clusters import APPLICATIONS, application
from real_cluster import BINARIES, IS_BUILT, ROOT, RealCluster, running

from recommender import cluster as client
from recommender.cli import group
from recommender.objects import read_inventory

pytestmark = [
    pytest.mark.skipif(
        not IS_BUILT, reason="no kube-apiserver and etcd here: `make cluster` builds them with Go"
    ),
    pytest.mark.xdist_group("cluster"),  # one cluster, with its pods, for all
]
PODS = 5_000
# No dialect writes this kind yet; it is read.
CLUSTER_NETWORK_POLICY = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: dns}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {}}
  egress:
    - action: Accept
      to: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
      protocols: [{udp: {destinationPort: {number: 53}}}]
"""
CRDS = BINARIES / "crds"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with running(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def account(cluster: RealCluster) -> Path:
    """The kubeconfig of the job's ServiceAccount, with the rights of deploy/base alone."""
    create(cluster, "/api/v1/namespaces", {"metadata": {"name": "flowpolicy"}})
    done = cluster.kubectl("apply", "-n", "flowpolicy", "-f", ROOT / "deploy/base/rbac.yaml")
    assert done.returncode == 0, done.stderr
    return cluster.kubeconfig("account", cluster.token("flowpolicy", "flowpolicy"))


def create(cluster: RealCluster, path: str, body: dict[str, Any]) -> None:
    status, answer = cluster.ask("POST", path, body)
    assert status in (201, 409), answer


def pod(name: str) -> dict[str, Any]:
    secret = {"name": "PASSWORD", "value": "hunter2"}
    container = {"name": "c", "image": "i", "env": [secret], "ports": [{"containerPort": 80}]}
    return {
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [container]},
    }


@pytest.fixture(scope="module")
def crowd(cluster: RealCluster) -> None:
    """A namespace with 5,000 pods."""
    create(cluster, "/api/v1/namespaces", {"metadata": {"name": "crowd"}})
    with ThreadPoolExecutor(8) as pool:
        made = [
            pool.submit(create, cluster, "/api/v1/namespaces/crowd/pods", pod(f"web-{n}"))
            for n in range(PODS)
        ]
    for one in made:
        one.result()


def snapshot(config: Path, out: Path) -> str:
    words = ["snapshot", "--kubeconfig", str(config), "--out", str(out)]
    result = CliRunner().invoke(group, words)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_job_may_list_what_it_needs_and_nothing_else(
    cluster: RealCluster, account: Path, tmp_path: Path
) -> None:
    output = snapshot(account, tmp_path / "o.json")
    assert "GlobalNetworkPolicy (projectcalico.org/v3)" in output
    assert "flowpolicy" in read_inventory([tmp_path / "o.json"]).namespaces
    token = json.loads(account.read_text())["users"][0]["user"]["token"]
    for method, path in (
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/namespaces/flowpolicy/secrets/x"),
        ("GET", "/api/v1/configmaps"),
        ("POST", "/api/v1/namespaces/flowpolicy/pods"),
        ("DELETE", "/api/v1/namespaces/flowpolicy"),
        ("POST", "/apis/networking.k8s.io/v1/namespaces/flowpolicy/networkpolicies"),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
    ):
        status, answer = cluster.ask(method, path, {} if method == "POST" else None, token=token)
        assert (status, answer["reason"]) == (403, "Forbidden"), path


def test_a_list_that_is_refused_is_named(
    cluster: RealCluster, account: Path, tmp_path: Path
) -> None:
    create(cluster, "/api/v1/namespaces/flowpolicy/serviceaccounts", {"metadata": {"name": "poor"}})
    config = cluster.kubeconfig("poor", cluster.token("flowpolicy", "poor"))
    words = ["snapshot", "--kubeconfig", str(config), "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(group, words)
    assert result.exit_code == 1
    assert "may not list namespaces (v1), nodes (v1), pods (v1)" in result.output
    config = cluster.kubeconfig("nobody", "no-token")
    words = ["snapshot", "--kubeconfig", str(config), "--out", str(tmp_path / "o")]
    assert "does not know these credentials (401)" in CliRunner().invoke(group, words).output


@pytest.mark.usefixtures("crowd")
def test_five_thousand_pods_come_in_pages_without_what_they_hide(
    account: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.json"
    snapshot(account, out)
    found = read_inventory([out])
    assert sum(namespace == "crowd" for namespace, _ in found.pods) == PODS
    assert "hunter2" not in out.read_text()


@pytest.mark.usefixtures("crowd")
def test_a_server_that_is_killed_between_two_pages_is_waited_for(
    cluster: RealCluster, account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = client._answer, []

    def answer(server: Any, path: str, query: list[tuple[str, str]]) -> dict[str, Any]:
        if path == "/api/v1/pods" and len(query) == 2 and not broken:
            cluster.kill_apiserver()
            restart = threading.Thread(target=cluster.start_apiserver)
            broken.append(restart)
            restart.start()
        return whole(server, path, query)

    monkeypatch.setattr(client, "_answer", answer)
    monkeypatch.setattr(client, "_FIRST_WAIT_SECONDS", 4.0)  # the machine may be slow to start it
    out = tmp_path / "o.json"
    snapshot(account, out)
    broken[0].join()
    cluster.wait()
    assert len([key for key in read_inventory([out]).pods if key[0] == "crowd"]) == PODS


@pytest.mark.usefixtures("crowd")
def test_pages_that_expire_on_the_way_are_read_anew(
    cluster: RealCluster, account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, compacted = client._answer, []

    def answer(server: Any, path: str, query: list[tuple[str, str]]) -> dict[str, Any]:
        if path == "/api/v1/pods" and len(query) == 2 and not compacted:
            compacted.append(cluster.compact())
        return whole(server, path, query)

    monkeypatch.setattr(client, "_answer", answer)
    out = tmp_path / "o.json"
    snapshot(account, out)
    assert compacted
    assert len([key for key in read_inventory([out]).pods if key[0] == "crowd"]) == PODS


def with_numbers(schema: Any) -> Any:
    """A schema in which Calico's ports and protocols may be numbers, as its own build makes them.

    Its Go types for these write themselves as an integer or a string, which the generator of CRDs
    cannot see (projectcalico/api lib/numorstring).
    """
    if isinstance(schema, list):
        return [with_numbers(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    fields = (schema.get("properties") or {}).keys()
    if fields in ({"numVal", "strVal", "type"}, {"minPort", "maxPort", "portName"}):
        return {"x-kubernetes-int-or-string": True}
    return {key: with_numbers(one) for key, one in schema.items()}


@pytest.fixture(scope="module")
def dialects(cluster: RealCluster) -> RealCluster:
    """The cluster with the vendors' own CRDs; Calico's also under the name of what it stores."""
    for path in sorted(CRDS.glob("*.yaml")):
        body = with_numbers(yaml.safe_load(path.read_text()))
        text = [json.dumps(body)]
        if body["spec"]["group"] == "projectcalico.org":
            stored = json.dumps(body).replace("projectcalico.org", "crd.projectcalico.org")
            text.append(stored.replace('"name": "v3"', '"name": "v1"'))
        for one in text:
            path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            create(cluster, path, json.loads(one))
    done = cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    assert done.returncode == 0, done.stderr
    return cluster


FORMS = (
    ["kubernetes"],
    ["kubernetes", "--by", "role"],
    ["cilium"],
    ["cilium", "--rollout", "audit"],
    ["calico"],
    ["calico", "--rollout", "staged"],
)


def sample() -> tuple[Path, Path]:
    """The flows and the inventory of the samples."""
    return ROOT / "data" / "samples" / "hubble", ROOT / "data" / "samples" / "inventory.yaml"


def of_application(name: str, folder: Path) -> tuple[Path, Path]:
    """The flows and the inventory of a public application."""
    cluster, simulation = application(name)
    (folder / "flows.log").write_text("\n".join(simulation.hubble()) + "\n")
    (folder / "inventory.yaml").write_text(yaml.safe_dump_all(cluster.objects))
    return folder / "flows.log", folder / "inventory.yaml"


@pytest.mark.parametrize("name", ["the samples", *APPLICATIONS])
def test_the_api_server_accepts_the_proposals_of_every_dialect(
    name: str, dialects: RealCluster, tmp_path: Path
) -> None:
    flows, objects = sample() if name == "the samples" else of_application(name, tmp_path)
    store, files = tmp_path / "store", list[Path]()
    lines = [["ingest", flows, "--store", store, "--workers", "1"]]
    for number, words in enumerate(FORMS):
        asked = ["--store", store, "--inventory", objects, "--dialect", *words]
        beside = ["--with", "inventory", "--changes", tmp_path / f"changes-{number}"]
        lines.append(["recommend", *asked, "--out", tmp_path / f"out-{number}", *beside])
    for line in lines:
        result = CliRunner().invoke(group, [*map(str, line)])
        assert result.exit_code == 0, result.output
    for folder in [*tmp_path.glob("out-*"), *tmp_path.glob("changes-*")]:
        files += folder.glob("*/*.yaml")
    for namespace in {path.parent.name for path in files}:
        create(dialects, "/api/v1/namespaces", {"metadata": {"name": namespace}})
    arguments = [word for path in sorted(files) for word in ("-f", path)]
    done = dialects.kubectl("apply", "--dry-run=server", "--validate=strict", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(server dry run)") >= len(files) > len(FORMS)


def test_the_api_server_accepts_a_cluster_network_policy(
    dialects: RealCluster, tmp_path: Path
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(CLUSTER_NETWORK_POLICY)
    done = dialects.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", path)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("dialects")
def test_policies_of_every_kind_are_in_the_snapshot(account: Path, tmp_path: Path) -> None:
    output = snapshot(account, tmp_path / "o.json")
    for kind in (
        "CiliumNetworkPolicy",
        "GlobalNetworkPolicy",
        "ClusterNetworkPolicy",
        "NetworkSet",
    ):
        assert f"{kind} (" not in output


@pytest.mark.parametrize("name", ["base", "hubble-files", "hubble-relay", "goldmane", "s3"])
def test_the_api_server_accepts_the_deployment(name: str, cluster: RealCluster) -> None:
    create(cluster, "/api/v1/namespaces", {"metadata": {"name": "flowpolicy"}})
    folder = ROOT / "deploy" / (name if name == "base" else f"overlays/{name}")
    done = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-k", folder)
    assert done.returncode == 0, done.stderr
    assert "would violate PodSecurity" not in done.stderr


def test_the_kubectl_plugin_is_found(cluster: RealCluster) -> None:
    done: subprocess.CompletedProcess[str] = cluster.kubectl("flowpolicy", "--help")
    assert "least-privilege" in done.stdout, done.stderr
