"""Proposals from simulated traffic, judged by an evaluator that shares no code with the project."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from brute_force import Judge, load
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulation import Simulation

from recommender.cli import group

NODES = {"node-1": "192.168.0.1", "node-2": "192.168.0.2", "node-3": "192.168.0.3"}
HASH = "bcdfghjklmnpqrstvwxz2456789"


def run(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(group, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


class Cluster:
    """Workloads with their pods, as objects for the inventory and as pods for the judge."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.objects: list[dict[str, Any]] = []
        self.pods: list[dict[str, Any]] = []
        self.spaces: dict[str, dict[str, str]] = {}
        for name, address in NODES.items():
            self.objects.append(
                {
                    "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                    "status": {"addresses": [{"type": "InternalIP", "address": address}]},
                }
            )  # fmt: skip

    def token(self, length: int) -> str:
        return "".join(self.random.choice(HASH) for _ in range(length))

    def add(
        self,
        key: str,
        labels: dict[str, str],
        match: dict[str, str] | None = None,
        replicas: int = 2,
        ports: tuple[tuple[str, str, int], ...] = (),
        probe: int | None = None,
    ) -> None:
        """Add a workload `namespace/Kind/name` with its pods."""
        namespace, kind, name = key.split("/")
        if namespace not in self.spaces:
            self.spaces[namespace] = {"kubernetes.io/metadata.name": namespace}
            self.objects.append(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            )
        containers: list[dict[str, Any]] = [
            {
                "name": "c",
                "ports": [{"protocol": t, "name": n, "containerPort": p} for t, n, p in ports],
            }
        ]
        if probe is not None:
            containers[0]["readinessProbe"] = {"tcpSocket": {"port": probe}}
        template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
        body: dict[str, Any] = {
            "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": match or labels}, "template": template},
        }  # fmt: skip
        hash_ = self.token(9)
        if kind == "CronJob":
            body |= {
                "apiVersion": "batch/v1",
                "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template}}},
            }
        if kind != "Pod":
            self.objects.append(body)
        for number in range(replicas):
            own = dict(labels)
            if kind == "Deployment":
                prefix, pod = f"{name}-{hash_}-", f"{name}-{hash_}-{self.token(5)}"
                owner = ("ReplicaSet", f"{name}-{hash_}")
                own["pod-template-hash"] = hash_
            elif kind == "StatefulSet":
                prefix, pod, owner = f"{name}-", f"{name}-{number}", (kind, name)
                own["statefulset.kubernetes.io/pod-name"] = pod
            elif kind == "CronJob":
                job = f"{name}-{29_000_000 + number * 1440}"
                prefix, pod, owner = f"{job}-", f"{job}-{self.token(5)}", ("Job", job)
                own["job-name"] = own["batch.kubernetes.io/job-name"] = job
            elif kind == "Pod":
                prefix, pod, owner = "", name, ("", "")
            else:
                prefix, pod, owner = f"{name}-", f"{name}-{self.token(5)}", (kind, name)
            self._pod(namespace, kind, name, pod, prefix, own, owner, containers, ports)

    def _pod(
        self,
        namespace: str,
        kind: str,
        name: str,
        pod: str,
        prefix: str,
        labels: dict[str, str],
        owner: tuple[str, str],
        containers: object,
        ports: tuple[tuple[str, str, int], ...],
    ) -> None:
        number = len(self.pods)
        node = f"node-{number % 3 + 1}"
        ip = f"10.0.{number // 250}.{number % 250 + 2}"
        metadata: dict[str, Any] = {"name": pod, "namespace": namespace, "labels": labels}
        if owner[0]:
            metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": True}]
        self.objects.append(
            {
                "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
                "spec": {"nodeName": node, "containers": containers},
                "status": {"podIP": ip, "hostIP": NODES[node], "phase": "Running"},
            }
        )  # fmt: skip
        self.pods.append(
            {
                "namespace": namespace, "name": pod, "workload": f"{kind}/{name}", "labels": labels,
                "ip": ip, "node": node, "prefix": prefix, "ports": {n: (t, p) for t, n, p in ports},
            }
        )  # fmt: skip

    def simulation(self, seed: int = 1) -> Simulation:
        return Simulation(self.pods, self.spaces, NODES, seed)


def boutique() -> tuple[Cluster, Simulation]:
    """A shop in the shape that public demo applications have, with the traps of real clusters."""
    c = Cluster(7)
    c.add(
        "kube-system/Deployment/coredns",
        {"k8s-app": "kube-dns"},
        ports=(("UDP", "dns", 53), ("TCP", "dns-tcp", 53)),
    )
    c.add(
        "shop/Deployment/frontend",
        {"app": "frontend"},
        replicas=3,
        ports=(("TCP", "http", 8080),),
        probe=8080,
    )
    c.add("shop/Deployment/cart", {"app": "cart"}, ports=(("TCP", "grpc", 7070),))
    c.add("shop/StatefulSet/redis", {"app": "redis"}, replicas=3)
    c.add("shop/Deployment/reviews-v1", {"app": "reviews", "version": "v1"})
    c.add("shop/Deployment/reviews-v2", {"app": "reviews", "version": "v2"}, probe=9080)
    c.add("shop/Deployment/pay", {"app": "pay"})
    c.add("shop/Deployment/pay-canary", {"app": "pay", "track": "canary"}, match={"app": "pay"})
    c.add("ops/Deployment/prometheus", {"app.kubernetes.io/name": "prometheus"}, replicas=1)
    c.add("ops/DaemonSet/agent", {"app": "agent"}, replicas=3)
    c.add("ops/CronJob/backup", {"app": "backup"}, replicas=3)
    c.add("ops/Pod/shell", {"run": "shell"}, replicas=1)
    c.add("idle/Deployment/idle", {"app": "idle"})
    s = c.simulation()
    for one in ("frontend", "cart", "reviews-v1", "reviews-v2", "pay", "pay-canary"):
        s.want(f"shop/Deployment/{one}", "kube-system/Deployment/coredns", "UDP", 53)
    s.want("shop/Deployment/frontend", "shop/Deployment/cart", "TCP", 7070)
    s.want("shop/Deployment/frontend", "shop/Deployment/reviews-v1", "TCP", 9080)
    s.want("shop/Deployment/frontend", "shop/Deployment/reviews-v2", "TCP", 9080)
    s.want("shop/Deployment/reviews-v2", "shop/Deployment/pay", "TCP", 9000)
    s.want("shop/Deployment/frontend", "shop/Deployment/pay-canary", "TCP", 9001)
    s.want("shop/Deployment/cart", "shop/StatefulSet/redis", "TCP", 6379)
    s.want("shop/StatefulSet/redis", "shop/StatefulSet/redis", "TCP", 16379, times=20)
    s.want("ops/CronJob/backup", "shop/StatefulSet/redis", "TCP", 6379, times=1)
    s.want("ops/DaemonSet/agent", "ops/Deployment/prometheus", "UDP", 8125)
    s.want("ops/Deployment/prometheus", "shop/Deployment/frontend", "TCP", 9464)
    s.want("shop/Deployment/pay", "203.0.113.10", "TCP", 443)
    s.want("shop/Deployment/pay", "203.0.113.11", "TCP", 443)
    s.want("198.51.100.7", "shop/Deployment/frontend", "TCP", 8080)
    s.want("10.99.0.7", "shop/Deployment/frontend", "TCP", 8080, times=1)
    s.probes("shop/Deployment/frontend", 8080)
    s.probes("shop/Deployment/reviews-v2", 9080)
    s.want("shop/Deployment/pay", NODES["node-3"], "TCP", 6443)
    s.scan("shop/Deployment/reviews-v1")
    return c, s


def recommended(
    tmp_path: Path, form: str, lines: list[str], objects: list[dict[str, Any]], *more: object
) -> Path:
    (tmp_path / "inventory.yaml").write_text(yaml.safe_dump_all(objects))
    (tmp_path / "flows.log").write_text("\n".join(lines) + "\n")
    store, out = tmp_path / f"store-{form}", tmp_path / f"out-{form}"
    run("ingest", tmp_path / "flows.log", "--store", store)
    known = tmp_path / "inventory.yaml"
    run("recommend", "--store", store, "--inventory", known, "--out", out, *more)
    return out


def assert_exact(out: Path, pods: list[dict[str, Any]], simulation: Simulation) -> None:
    """Every wanted connection passes, pod by pod, and no other one does on any port seen."""
    judge = Judge(load(out), pods, simulation.spaces)
    ports = {(protocol, port) for *_, protocol, port in simulation.wanted}
    ports |= {(c.protocol, c.port) for c in simulation.connections} | {("TCP", 1), ("TCP", 53)}
    outside = {e for edge in simulation.wanted for e in edge[:2] if "/" not in e}
    outside |= {"203.0.113.9", "8.8.8.8", *NODES.values()}

    def key(end: dict[str, Any] | str) -> str:
        return end if isinstance(end, str) else f"{end['namespace']}/{end['workload']}"

    ends: list[dict[str, Any] | str] = [*pods, *sorted(outside)]
    for src in ends:
        for dst in ends:
            if src is dst or (isinstance(src, str) and isinstance(dst, str)):
                continue
            for protocol, port in sorted(ports):
                asked = (key(src), key(dst), protocol, port)
                dns = port == 53 and (*asked[:2], "UDP", 53) in simulation.wanted
                wanted = asked in simulation.wanted or dns
                assert judge.allowed(src, dst, protocol, port) == wanted, asked


@pytest.mark.parametrize("form", ["hubble", "calico"])
def test_nothing_wanted_is_denied_and_nothing_else_opens(tmp_path: Path, form: str) -> None:
    cluster, simulation = boutique()
    out = recommended(tmp_path, form, getattr(simulation, form)(), cluster.objects)
    assert_exact(out, cluster.pods, simulation)


@pytest.mark.parametrize("by", ["role", "workload"])
def test_the_shortest_policies_permit_the_same(tmp_path: Path, by: str) -> None:
    cluster, simulation = boutique()
    out = recommended(tmp_path, "hubble", simulation.hubble(), cluster.objects, "--by", by)
    assert_exact(out, cluster.pods, simulation)
    index = json.loads((out / "recommendation.json").read_text())
    assert {s["why"] for s in index["surplus"]} == {"DNS is kept on UDP and TCP"}
    assert index["shortest"]["after"]["rules"] < index["shortest"]["before"]["rules"]
    rules = [rule for policy in index["policies"] for rule in policy["rules"]]
    assert all(rule["evidence"]["connections"] > 0 for rule in rules)


@pytest.mark.parametrize("form", ["hubble", "calico"])
def test_another_node_gets_a_rule_and_a_pods_own_node_does_not(tmp_path: Path, form: str) -> None:
    cluster, simulation = boutique()
    simulation.from_node("node-2", "shop/Deployment/frontend", "TCP", 8443)
    out = recommended(tmp_path, form, getattr(simulation, form)(), cluster.objects)
    assert_exact(out, cluster.pods, simulation)


def test_probes_are_told_without_the_name_of_the_reporting_node(tmp_path: Path) -> None:
    cluster, simulation = boutique()
    simulation.with_host = False
    out = recommended(tmp_path, "calico", simulation.calico(), cluster.objects)
    assert_exact(out, cluster.pods, simulation)


@pytest.mark.parametrize("form", ["hubble", "calico"])
def test_manifests_without_pods_serve_as_an_inventory(tmp_path: Path, form: str) -> None:
    cluster, simulation = boutique()
    objects = [o for o in cluster.objects if o["kind"] not in ("Pod", "Node")]
    simulation.connections = [
        c for c in simulation.connections if not ({"ops/Pod/shell"} & {str(c.src), str(c.dst)})
    ]
    out = recommended(tmp_path, form, getattr(simulation, form)(), objects)
    pods = [p for p in cluster.pods if p["workload"] != "Pod/shell"]
    assert_exact(out, pods, simulation)


def test_hubble_and_calico_logs_of_the_same_traffic_give_the_same_policies(tmp_path: Path) -> None:
    texts = []
    for form in ("hubble", "calico"):
        cluster, simulation = boutique()
        out = recommended(tmp_path, form, getattr(simulation, form)(), cluster.objects)
        texts.append({p.relative_to(out): p.read_text() for p in sorted(out.rglob("*.yaml"))})
    assert texts[0] == texts[1]


def test_the_order_of_the_log_changes_no_byte(tmp_path: Path) -> None:
    cluster, simulation = boutique()
    found = set()
    for seed in range(3):
        lines = simulation.hubble()
        random.Random(seed).shuffle(lines)
        folder = tmp_path / str(seed)
        folder.mkdir()
        out = recommended(folder, "hubble", sorted(lines) if seed == 0 else lines, cluster.objects)
        found.add(tuple(p.read_text() for p in sorted(out.rglob("*")) if p.is_file()))
    assert len(found) == 1


def test_every_rule_has_evidence_and_the_scan_waits_for_review(tmp_path: Path) -> None:
    cluster, simulation = boutique()
    out = recommended(tmp_path, "hubble", simulation.hubble(), cluster.objects)
    index = json.loads((out / "recommendation.json").read_text())
    assert index["replay"]["edges"] == index["replay"]["allowed"] == len(simulation.wanted)
    assert index["replay"]["denied"] == []
    assert {s["why"] for s in index["surplus"]} == {"DNS is kept on UDP and TCP"}
    rules = [rule for policy in index["policies"] for rule in policy["rules"]]
    assert all(rule["evidence"]["connections"] > 0 for rule in rules)
    assert {r["client"] for r in index["review"]} == {"shop/reviews-v1"}
    assert {r["client"] for r in index["denied"]} == {"shop/reviews-v1"}
    unseen = {p["name"] for p in index["policies"] if not p["seen"]}
    assert unseen == {"flowpolicy-idle", "flowpolicy-shell"}


names = st.sampled_from(["a", "b", "c", "d", "e"])
edge = st.tuples(
    names, names, st.sampled_from(["TCP", "UDP", "SCTP"]), st.sampled_from([80, 443, 5000])
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(edge, min_size=1, max_size=12, unique=True),
    st.dictionaries(names, st.sampled_from(["x", "y"])),
    st.sampled_from(["hubble", "calico"]),
    st.sampled_from([(), ("--by", "role"), ("--by", "workload")]),
)
def test_any_traffic_is_allowed_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    edges: list[tuple[str, str, str, int]],
    tiers: dict[str, str],
    form: str,
    more: tuple[str, ...],
) -> None:
    cluster = Cluster(3)
    for name in "abcde":
        labels = {"app": name, **({"tier": tiers[name]} if name in tiers else {})}
        cluster.add(f"{'one' if name < 'c' else 'two'}/Deployment/{name}", labels)
    simulation = cluster.simulation()
    where = {name: f"{'one' if name < 'c' else 'two'}/Deployment/{name}" for name in "abcde"}
    for client, server, protocol, port in edges:
        simulation.want(where[client], where[server], protocol, port, times=3)
    tmp = tmp_path_factory.mktemp("any")
    out = recommended(tmp, form, getattr(simulation, form)(), cluster.objects, *more)
    assert_exact(out, cluster.pods, simulation)
