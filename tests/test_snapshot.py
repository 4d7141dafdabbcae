"""The running cluster as an inventory, and snapshots of it that add up."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cluster_objects as of
import pytest
from api_server import Api, served
from click.testing import CliRunner, Result

from ingest.store import create_store
from recommender import cluster
from recommender.cli import group
from recommender.errors import InventoryError
from recommender.inventory import WorkloadKey
from recommender.kept import kept
from recommender.manifests import Manifest
from recommender.objects import inventory_of, read_inventory
from recommender.snapshots import Seen, add_snapshot, added, read_snapshots

PODS = "/api/v1/pods"
CORE = {
    f"/{'api/v1' if version == 'v1' else f'apis/{version}'}/{cluster.plural(kind)}"
    for version, kind in cluster.asked()[:12]
}
TUESDAY = datetime(2026, 11, 17, 3, tzinfo=UTC)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(cluster, "_FIRST_WAIT_SECONDS", 0.0)
    with served() as api:
        for path in CORE:
            api.lists[path] = []
        api.lists["/api/v1/namespaces"] = [{"metadata": {"name": "shop"}}]
        yield api


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(group, ["snapshot", *map(str, words)])


def pod(name: str, **rest: Any) -> dict[str, Any]:
    body = of.pod(name, {"app": "web"}, ip="10.0.0.1", **rest).body
    return {key: value for key, value in body.items() if key not in ("apiVersion", "kind")}


def objects(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text)["items"]
    return found


def test_lists_are_read_page_by_page(api: Api, tmp_path: Path) -> None:
    api.lists[PODS] = [pod(f"web-{n}") for n in range(1234)]
    out = tmp_path / "inventory.json"
    result = run("--kubeconfig", api.kubeconfig(tmp_path), "--out", out)
    assert result.exit_code == 0, result.output
    assert api.asked.count(("GET", PODS)) == 3
    assert len(read_inventory([out]).pods) == 1234
    assert api.tokens == {"Bearer a-token"}


def test_nothing_but_the_named_lists_is_asked_for_and_no_secret(api: Api, tmp_path: Path) -> None:
    assert (
        run("--kubeconfig", api.kubeconfig(tmp_path), "--out", tmp_path / "o.yaml").exit_code == 0
    )
    paths = {path for _, path in api.asked}
    assert paths > CORE
    assert not any("secret" in path or "configmap" in path for path in paths)
    assert {verb for verb, _ in api.asked} == {"GET"}


def test_passwords_in_the_environment_and_in_annotations_are_left_out(
    api: Api, tmp_path: Path
) -> None:
    hidden = pod("web")
    hidden["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied": "hunter2"}
    hidden["spec"]["containers"][0] |= {
        "env": [{"name": "PASSWORD", "value": "hunter2"}],
        "args": ["--password=hunter2"],
        "ports": [{"containerPort": 80, "name": "http"}],
        "livenessProbe": {"httpGet": {"port": 80, "httpHeaders": [{"value": "hunter2"}]}},
    }
    api.lists[PODS] = [hidden]
    for name in ("o.yaml", "o.json"):
        run("--kubeconfig", api.kubeconfig(tmp_path), "--out", tmp_path / name)
        assert "hunter2" not in (tmp_path / name).read_text()
        (found,) = read_inventory([tmp_path / name]).pods.values()
        assert found.ports == (("TCP", 80, "http"),)


def test_what_is_left_out_of_the_sample_cluster_is_not_missed() -> None:
    sample = Path(__file__).parents[1] / "data" / "samples" / "inventory.yaml"
    from recommender.manifests import read_manifests
    from recommender.objects import core_kind

    whole, _ = read_manifests([sample])
    core = [m for m in whole if core_kind(m.body)]
    thin = [Manifest(m.place, kept(m.body, is_policy=False)) for m in core]
    assert inventory_of(thin) == inventory_of(core)


def test_crds_that_are_not_installed_are_named_and_no_failure(api: Api, tmp_path: Path) -> None:
    api.lists["/apis/cilium.io/v2/ciliumnetworkpolicies"] = [
        {"metadata": {"name": "p"}, "spec": {}}
    ]
    out = tmp_path / "o.json"
    result = run("--kubeconfig", api.kubeconfig(tmp_path), "--out", out)
    assert "GlobalNetworkPolicy (projectcalico.org/v3)" in result.output
    assert "CiliumNetworkPolicy" not in result.output
    kinds = [body["kind"] for body in objects(out.read_text())]
    assert kinds == ["Namespace", "CiliumNetworkPolicy"]


def test_a_list_that_expires_on_the_way_is_begun_anew(api: Api, tmp_path: Path) -> None:
    api.lists[PODS] = [pod(f"web-{n}") for n in range(1100)]
    expired = iter([True, True])

    def gone(path: str, query: dict[str, str]) -> tuple[int, dict[str, Any]] | None:
        if path == PODS and query.get("continue") == "1000" and next(expired, False):
            return 410, {"reason": "Expired"}
        return None

    api.trouble = gone
    out = tmp_path / "o.json"
    assert run("--kubeconfig", api.kubeconfig(tmp_path), "--out", out).exit_code == 0
    assert len(read_inventory([out]).pods) == 1100


def test_a_server_that_is_tired_is_asked_again(api: Api, tmp_path: Path) -> None:
    answers = iter([(429, {}), (503, {}), (500, {})])
    api.trouble = lambda path, _: next(answers, None) if path == PODS else None
    assert run("--kubeconfig", api.kubeconfig(tmp_path), "--out", tmp_path / "o").exit_code == 0


def test_a_server_that_has_just_started_may_not_know_us_yet(api: Api, tmp_path: Path) -> None:
    answers = iter([(503, {}), (401, {}), (403, {})])
    api.trouble = lambda path, _: next(answers, None) if path == PODS else None
    assert run("--kubeconfig", api.kubeconfig(tmp_path), "--out", tmp_path / "o").exit_code == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not know these credentials (401); log in again"),
        (403, "may not list pods (v1) in all namespaces; give this user the verb `list`"),
        (410, "expired 6 times"),
        (503, "answered 503"),
        (418, "answered 418"),
    ],
)
def test_a_refusal_is_one_sentence_that_says_what_to_do(
    status: int, words: str, api: Api, tmp_path: Path
) -> None:
    api.trouble = lambda path, _: (status, {}) if path == PODS else None
    result = run("--kubeconfig", api.kubeconfig(tmp_path), "--out", tmp_path / "o")
    assert result.exit_code == 1
    assert words in result.output
    assert api.url in result.output
    assert "a-token" not in result.output
    assert not (tmp_path / "o").exists()


def test_every_list_that_is_refused_is_named_at_once(api: Api, tmp_path: Path) -> None:
    api.trouble = lambda path, _: (403, {}) if path.endswith(("pods", "nodes")) else None
    result = run("--kubeconfig", api.kubeconfig(tmp_path), "--out", tmp_path / "o")
    assert "nodes (v1), pods (v1)" in result.output


def test_a_server_that_is_not_there_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(cluster, "_FIRST_WAIT_SECONDS", 0.0)
    with served() as api:
        config = api.kubeconfig(tmp_path)
    result = run("--kubeconfig", config, "--out", tmp_path / "o")
    assert result.exit_code == 1
    assert f"{api.url}: cannot be reached" in result.output
    assert "refused" in result.output


def test_no_kubeconfig_and_no_pod_around_it_is_said(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    result = run("--kubeconfig", tmp_path / "none", "--out", tmp_path / "o")
    assert result.exit_code == 1
    assert "no cluster" in result.output
    assert run("--out", tmp_path / "o", "--context", "elsewhere").exit_code == 1
    assert run().exit_code == 2


# --- snapshots ---------------------------------------------------------------------------------


def seen(*snapshots: list[Manifest], keep_days: int = 90) -> list[Manifest]:
    known: tuple[Seen, ...] = ()
    for day, manifests in enumerate(snapshots):
        known = added(known, manifests, TUESDAY + timedelta(days=day), keep_days)
    return [Manifest("", one.body) for one in known]


def job(name: str, cron: str | None) -> Manifest:
    made = of.workload(name, {"job-name": name}, kind="Job").body
    made["apiVersion"] = "batch/v1"
    if cron:
        owner = {"kind": "CronJob", "name": cron, "controller": True}
        made["metadata"]["ownerReferences"] = [owner]
    return Manifest("", made)


def test_a_pod_of_last_tuesdays_job_is_still_known() -> None:
    cron = of.workload("report", {"app": "report"}, kind="CronJob")
    ran = [
        job("report-29000000", "report"),
        of.pod(
            "report-29000000-abcde", {"a": "b"}, owner=("Job", "report-29000000"), ip="10.0.0.9"
        ),
    ]
    found = inventory_of(seen([cron, *ran], [cron], [cron]))
    pod = found.pods["shop", "report-29000000-abcde"]
    assert pod.workload == WorkloadKey("shop", "CronJob", "report")
    assert pod.addresses == ()


def test_a_job_and_a_runners_pod_that_have_gone_are_known() -> None:
    ran = [
        job("migrate", None),
        of.pod("migrate-abcde", {}, owner=("Job", "migrate")),
        of.pod("runner-1", {"app": "ci"}),
    ]
    found = inventory_of(seen(ran, []))
    assert {str(key) for key in found.workloads} == {"shop/migrate", "shop/runner-1"}


def test_what_was_removed_for_good_and_replicas_that_were_replaced_are_forgotten() -> None:
    web = of.workload("web", {"app": "web"})
    owner = ("ReplicaSet", "web-6f5d8")
    labels = {"app": "web", "pod-template-hash": "6f5d8"}
    first = [web, of.pod("web-6f5d8-aaaaa", labels, owner=owner)]
    assert set(
        inventory_of(seen(first, [web, of.pod("web-6f5d8-bbbbb", labels, owner=owner)])).pods
    ) == {("shop", "web-6f5d8-bbbbb")}
    cron = of.workload("report", {}, kind="CronJob")
    ran = [
        cron,
        job("report-29000000", "report"),
        of.pod("report-29000000-abcde", {}, owner=("Job", "report-29000000")),
    ]
    assert not inventory_of(seen(ran, [])).pods


def test_an_address_belongs_to_the_living() -> None:
    old, new = of.node("old", "192.0.2.1", "192.0.2.2"), of.node("new", "192.0.2.1")
    found = inventory_of(
        seen([old, of.pod("a", {}, ip="10.0.0.1")], [new, of.pod("b", {}, ip="10.0.0.1")])
    )
    assert found.node_of_address == {"192.0.2.1": "new", "192.0.2.2": "old"}
    assert found.pod_of_address["10.0.0.1"].name == "b"


def test_what_has_gone_is_forgotten_after_the_days_to_keep() -> None:
    empty: list[Manifest] = []
    days = [[of.pod("a", {})], *[empty] * 5]
    assert len(seen(*days, keep_days=5)) == 1
    assert not seen(*days, empty, keep_days=5)


def test_the_order_in_which_a_snapshot_lists_objects_does_not_matter() -> None:
    both = [of.pod("a", {}), of.pod("b", {})]
    assert added((), both, TUESDAY, 9) == added((), both[::-1], TUESDAY, 9)


def test_snapshots_in_a_store_add_up_and_serve_as_inventory(api: Api, tmp_path: Path) -> None:
    store, config = tmp_path / "store", api.kubeconfig(tmp_path)
    api.lists[PODS] = [pod("runner-1")]
    assert run("--kubeconfig", config, "--store", store).exit_code == 0
    api.lists[PODS] = [pod("runner-2")]
    assert run("--kubeconfig", config, "--store", store).exit_code == 0
    found = read_inventory([f"snapshots:{store}"])
    assert {name for _, name in found.pods} == {"runner-1", "runner-2"}
    assert found.pod_of_address["10.0.0.1"].name == "runner-2"


def test_a_live_cluster_serves_as_inventory(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.lists[PODS] = [pod("web")]
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(api.kubeconfig(tmp_path))
    )
    assert set(read_inventory(["live:"]).pods) == {("shop", "web")}
    assert set(read_inventory(["live:here"]).pods) == {("shop", "web")}


def test_several_clusters_in_a_store_are_told_apart(tmp_path: Path) -> None:
    store = create_store(tmp_path / "store")
    for name in ("../east", "west"):
        add_snapshot(store, name, [of.pod(f"in-{name.strip('./')}", {})], TUESDAY, 9)
    with pytest.raises(InventoryError, match=r"choose one, as in snapshots:.*#"):
        read_inventory([f"snapshots:{store.path}"])
    assert set(read_inventory([f"snapshots:{store.path}#../east"]).pods) == {("shop", "in-east")}
    assert {path.name for path in (store.path / "inventory").iterdir()} == {
        "..%2Feast.json",
        "west.json",
    }


def test_a_store_without_a_snapshot_and_a_damaged_one_say_what_to_do(tmp_path: Path) -> None:
    store = create_store(tmp_path / "store")
    with pytest.raises(InventoryError, match="take one with"):
        read_inventory([f"snapshots:{store.path}"])
    for text in ("{", "{}", '{"schema": "flowpolicy/inventory/1", "objects": [1]}'):
        store.write("inventory/default.json", text.encode())
        with pytest.raises(InventoryError, match="damaged; remove it"):
            read_snapshots(store, "default")
    store.write("inventory/default.json", b'{"schema": "flowpolicy/inventory/9"}')
    with pytest.raises(InventoryError, match="newer"):
        read_snapshots(store, "default")
