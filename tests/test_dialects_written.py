"""Proposals in every dialect: exact, the same from both logs, read back as they were meant."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from clusters import APPLICATIONS, application
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulation import Simulation
from test_proposals_judged import NODES, Cluster, boutique

from recommender.cli import group
from recommender.dialects import DIALECTS
from recommender.dialects.writers import WRITERS, Form, writer
from recommender.errors import PolicyError
from recommender.evaluate import evaluator
from recommender.names import joined
from recommender.objects import read_inventory
from recommender.policies import read_policies

DIALECT = pytest.mark.parametrize("dialect", WRITERS)
FORM = pytest.mark.parametrize("form", ["hubble", "calico"])


def run(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(group, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def proposed(
    tmp_path: Path, dialect: str, lines: list[str], objects: list[dict[str, Any]], *more: str
) -> tuple[Path, Path]:
    """The folder of proposals, and the inventory."""
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(yaml.safe_dump_all(objects))
    (tmp_path / "flows.log").write_text("\n".join(lines) + "\n")
    run("ingest", tmp_path / "flows.log", "--store", tmp_path / "store")
    asked = ("--store", tmp_path / "store", "--inventory", inventory)
    run("recommend", *asked, "--out", tmp_path / "out", "--dialect", dialect, *more)
    return tmp_path / "out", inventory


def documents(out: Path) -> list[dict[str, Any]]:
    return [d for path in sorted(out.rglob("*.yaml")) for d in yaml.safe_load_all(path.read_text())]


def permitted(out: Path, inventory: Path) -> set[tuple[str, str, str, int]]:
    """Every (client, server, protocol, port) that the files permit between ends of the cluster."""
    objects = read_inventory([inventory])
    judge = evaluator(read_policies([out], objects).policies, objects)
    return {
        (row.src, row.dst, row.protocol, port)
        for row in judge.connectivity(protocols=("TCP", "UDP", "SCTP", "ICMP", "ICMPv6"))
        for low, high in row.ports
        for port in range(low, high + 1)
        if high - low < 1000
    }


def truth(simulation: Simulation) -> set[tuple[str, str, str, int]]:
    """What is wanted between pods, with DNS over both protocols."""
    found = set()
    for client, server, protocol, port in simulation.wanted:
        if "/" in client and "/" in server:
            ends = ["/".join(end.split("/")[::2]) for end in (client, server)]
            for one in ("TCP", "UDP") if port == 53 else (protocol,):
                # Of ICMP all codes of the type.
                codes = range(port * 256, port * 256 + 256) if one == "ICMP" else (port,)
                found |= {(ends[0], ends[1], one, code) for code in codes}
    return found


@DIALECT
@FORM
@pytest.mark.parametrize("name", APPLICATIONS)
def test_files_of_every_dialect_permit_what_is_wanted_and_nothing_else(
    tmp_path: Path, dialect: str, form: str, name: str
) -> None:
    cluster, simulation = application(name)
    out, inventory = proposed(tmp_path, dialect, getattr(simulation, form)(), cluster.objects)
    pods = {each for each in permitted(out, inventory) if "/" in each[0] and "/" in each[1]}
    lost = {"ICMP"} if dialect == "kubernetes" else set()
    assert pods == {each for each in truth(simulation) if each[2] not in lost}
    index = json.loads((out / "recommendation.json").read_text())
    assert {each["protocol"] for each in index["lost"]} == lost
    assert index["replay"]["denied"] == []
    assert {s["why"] for s in index["surplus"]} <= {
        "DNS is kept on UDP and TCP", "an entity means nodes together"
    }  # fmt: skip


@DIALECT
@pytest.mark.parametrize("name", APPLICATIONS)
def test_both_logs_give_the_same_bytes_in_every_dialect(
    tmp_path: Path, dialect: str, name: str
) -> None:
    texts = []
    for form in ("hubble", "calico"):
        cluster, simulation = application(name)
        folder = tmp_path / form
        folder.mkdir()
        out, _ = proposed(folder, dialect, getattr(simulation, form)(), cluster.objects)
        texts.append({p.relative_to(out): p.read_text() for p in sorted(out.rglob("*.yaml"))})
    assert texts[0] == texts[1]


names = st.sampled_from(["a", "b", "c", "d", "e"])
edge = st.tuples(
    names, names, st.sampled_from(["TCP", "UDP", "SCTP"]), st.sampled_from([80, 81, 443])
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(edge, min_size=1, max_size=12, unique=True),
    st.dictionaries(names, st.sampled_from(["x", "y"])),
    st.sampled_from(["cilium", "calico"]),
)
def test_any_traffic_is_allowed_exactly_in_the_dialects_of_networks(
    tmp_path_factory: pytest.TempPathFactory,
    edges: list[tuple[str, str, str, int]],
    tiers: dict[str, str],
    dialect: str,
) -> None:
    cluster = Cluster(3)
    where = {name: f"{'one' if name < 'c' else 'two'}/Deployment/{name}" for name in "abcde"}
    for name in "abcde":
        cluster.add(where[name], {"app": name, **({"t": tiers[name]} if name in tiers else {})})
    simulation = cluster.simulation()
    for client, server, protocol, port in edges:
        simulation.want(where[client], where[server], protocol, port, times=3)
    tmp = tmp_path_factory.mktemp("any")
    out, inventory = proposed(tmp, dialect, simulation.hubble(), cluster.objects)
    assert permitted(out, inventory) == truth(simulation)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the samples' Hubble log."""
    path = tmp_path_factory.mktemp("samples") / "store"
    run("ingest", "data/samples/hubble", "--store", path)
    return path


Sample = Callable[..., Path]


@pytest.fixture
def sample(store: Path, tmp_path: Path) -> Sample:
    """The samples' proposals, in a dialect and with more options."""

    def written(dialect: str, *more: str) -> Path:
        asked = ("--store", store, "--inventory", "data/samples/inventory.yaml")
        run("recommend", *asked, "--out", tmp_path / "out", "--dialect", dialect, *more)
        return tmp_path / "out"

    return written


def spec(out: Path, name: str) -> dict[str, Any]:
    (found,) = (d["spec"] for d in documents(out) if d["metadata"]["name"] == name)
    assert isinstance(found, dict)
    return found


def test_cilium_says_entities_names_and_icmp(sample: Sample) -> None:
    out = sample("cilium")
    agent = spec(out, "flowpolicy-log-agent")["egress"]
    assert [e["toEntities"] for e in agent if "toEntities" in e] == [["host"], ["kube-apiserver"]]
    gateway = spec(out, "flowpolicy-gateway")["egress"]
    (named,) = (e for e in gateway if "toFQDNs" in e)
    assert named["toFQDNs"] == [{"matchName": "api.payments.example"}]
    (asked,) = (e for e in gateway if any("rules" in ports for ports in e["toPorts"]))
    assert asked["toPorts"][0]["rules"] == {"dns": [{"matchPattern": "*"}]}
    (echo,) = (e for e in spec(out, "flowpolicy-cart")["ingress"] if "icmps" in e)
    assert echo["icmps"] == [{"fields": [{"family": "IPv4", "type": 8}]}]
    index = json.loads((out / "recommendation.json").read_text())
    assert index["lost"] == []
    assert {s["why"] for s in index["surplus"]} == {"DNS is kept on UDP and TCP"}


def test_calico_says_icmp_and_groups_addresses_in_network_sets(sample: Sample) -> None:
    out = sample("calico")
    sets = {d["metadata"]["name"]: d for d in documents(out) if d["kind"] == "NetworkSet"}
    name = "flowpolicy-gateway-egress-tcp-443"
    assert sets[name]["spec"]["nets"] == ["203.0.113.10/31", "203.0.113.12/32"]
    gateway = spec(out, "flowpolicy-gateway")["egress"]
    assert gateway[0]["destination"]["selector"] == f"flowpolicy/set == '{name}'"
    icmp = [r for r in spec(out, "flowpolicy-cart")["ingress"] if r["protocol"] == "ICMP"]
    assert [rule["icmp"] for rule in icmp] == [{"type": 8}]
    assert json.loads((out / "recommendation.json").read_text())["lost"] == []


def test_only_calico_enterprise_names_domains(sample: Sample) -> None:
    out = sample("calico", "--calico-enterprise")
    destinations = [rule["destination"] for rule in spec(out, "flowpolicy-gateway")["egress"]]
    assert {"domains": ["api.payments.example"], "ports": [443]} in destinations


def test_what_kubernetes_cannot_say_is_listed_by_workload(sample: Sample) -> None:
    out = sample("kubernetes", "--network", "cilium")
    lost = json.loads((out / "recommendation.json").read_text())["lost"]
    said = {(each["workload"], each["protocol"], each["server"]) for each in lost}
    nodes = {(w, p, s) for w, p, s in said if w == "data/log-agent"}
    assert said - nodes == {
        ("shop/cart", "ICMP", "shop/cart"),
        ("shop/checkout", "ICMP", "shop/cart"),
    }
    assert nodes == {("data/log-agent", "TCP", address) for address in nodes_of_the_sample()}
    assert all(each["why"] for each in lost)


def nodes_of_the_sample() -> list[str]:
    return [f"192.168.10.{number}" for number in (11, 12, 13)]


def test_a_staged_form_is_judged_as_if_it_were_in_force(sample: Sample) -> None:
    out = sample("calico", "--rollout", "staged", "--tier", "platform", "--order", "7.5")
    policies = [d for d in documents(out) if d["kind"] != "NetworkSet"]
    assert {d["kind"] for d in policies} == {"StagedNetworkPolicy"}
    assert all(d["spec"]["stagedAction"] == "Set" for d in policies)
    assert {(d["spec"]["tier"], d["spec"]["order"]) for d in policies} == {("platform", 7.5)}
    assert all(d["metadata"]["name"].startswith("platform.flowpolicy-") for d in policies)


def test_an_audit_form_turns_no_default_deny_on(sample: Sample) -> None:
    out = sample("cilium", "--rollout", "audit")
    flags = [d["spec"]["enableDefaultDeny"] for d in documents(out)]
    assert flags == [{"ingress": False, "egress": False}] * len(flags)
    assert permitted_everything(out)


@pytest.mark.parametrize(("dialect", "rollout"), [("cilium", "audit"), ("calico", "staged")])
def test_a_form_that_denies_nothing_yet_is_proved_as_it_will_enforce(
    sample: Sample, dialect: str, rollout: str
) -> None:
    proofs = []
    for form in ("enforced", rollout):
        index = json.loads((sample(dialect, "--rollout", form) / "recommendation.json").read_text())
        proofs.append((index["replay"], index["surplus"]))
    assert proofs[0] == proofs[1]


def permitted_everything(out: Path) -> bool:
    answer = run(
        "verdict", out, "--inventory", "data/samples/inventory.yaml", "-o", "json",
        "--src", "shop/cart", "--dst", "payments/ledger", "--protocol", "TCP", "--port", "50051",
    )  # fmt: skip
    return bool(json.loads(answer)["allow"])


@pytest.mark.parametrize(
    ("dialect", "rollout"), [("kubernetes", "audit"), ("calico", "audit"), ("cilium", "staged")]
)
def test_a_form_that_a_dialect_has_not_is_refused_with_the_next_step(
    dialect: str, rollout: Any
) -> None:
    with pytest.raises(PolicyError, match=f"{dialect} has no {rollout} form.*flowpolicy check"):
        writer(dialect, Form(rollout=rollout))


@DIALECT
def test_every_dialect_that_writes_reads_what_it_writes(dialect: str) -> None:
    words = writer(dialect).words
    assert (words.api, words.kind) in DIALECTS[dialect].KINDS


def test_another_node_is_an_entity_to_cilium(tmp_path: Path) -> None:
    cluster, simulation = boutique()
    simulation.from_node("node-2", "shop/Deployment/frontend", "TCP", 8443)
    out, _ = proposed(tmp_path, "cilium", simulation.hubble(), cluster.objects)
    ingress = spec(out, "flowpolicy-frontend")["ingress"]
    (nodes,) = (e for e in ingress if "fromEntities" in e)
    assert nodes["fromEntities"] == ["remote-node"]
    assert not any(
        block["cidr"].startswith(tuple(NODES.values()))
        for e in ingress
        for block in e.get("fromCIDRSet", [])
    )


def test_names_are_joined_only_where_asked_by_the_stated_rule() -> None:
    names = ["a.s3.example.com", "b.s3.example.com", "c.s3.example.com", "x.com", "y.com", "z.com"]
    assert list(joined(names, 0)) == sorted(names)
    assert list(joined(names, 4)) == sorted(names)
    found = joined(names, 3)
    assert found["*.s3.example.com"] == tuple(names[:3])
    assert list(found) == ["*.s3.example.com", "x.com", "y.com", "z.com"]
    assert joined(found, 3) == found | {"*.s3.example.com": ("*.s3.example.com",)}


def meshed(lines: list[str], address: str) -> list[str]:
    """The lines, an outside address in them made a pod of another cluster."""
    labels = {
        "app": "edge",
        "pod-template-hash": "abc12",
        "io.kubernetes.pod.namespace": "front",
        "io.cilium.k8s.policy.cluster": "far",
    }
    pod = {
        "identity": 130000,
        "cluster_name": "far",
        "namespace": "front",
        "labels": [f"k8s:{key}={value}" for key, value in labels.items()],
        "pod_name": "edge-abc12-x7k2p",
    }
    found = []
    for line in lines:
        event = json.loads(line)
        for end in ("source", "destination"):
            if event["flow"]["IP"][end] == address:
                event["flow"][end] = pod
        found.append(json.dumps(event))
    return found


def test_pods_of_another_cluster_are_told_apart_by_cilium(tmp_path: Path) -> None:
    cluster, simulation = boutique()
    lines = meshed(simulation.hubble(), "198.51.100.7")
    out, _ = proposed(tmp_path, "cilium", lines, cluster.objects)
    label = "k8s:io.cilium.k8s.policy.cluster"
    peers = [
        peer["matchLabels"]
        for document in documents(out)
        for elements in ("ingress", "egress")
        for element in document["spec"][elements]
        for peer in (*element.get("fromEndpoints", ()), *element.get("toEndpoints", ()))
    ]
    far = [peer for peer in peers if peer[label] == "far"]
    assert far == [
        {label: "far", "k8s:io.kubernetes.pod.namespace": "front", "app": "edge"},
    ]
    assert {peer[label] for peer in peers} == {"far", "sim"}
    assert json.loads((out / "recommendation.json").read_text())["lost"] == []


def test_pods_of_another_cluster_are_a_loss_to_kubernetes(tmp_path: Path) -> None:
    cluster, simulation = boutique()
    lines = meshed(simulation.hubble(), "198.51.100.7")
    out, _ = proposed(tmp_path, "kubernetes", lines, cluster.objects)
    (lost,) = json.loads((out / "recommendation.json").read_text())["lost"]
    assert lost["workload"] == "shop/frontend"
    assert lost["client"] == "far:front/edge"
    assert lost["why"].startswith(
        "front/edge is a pod of cluster far, which a NetworkPolicy cannot"
    )


@DIALECT
def test_a_namespace_that_kubernetes_would_not_take_stops_no_proposal(
    tmp_path: Path, dialect: str
) -> None:
    _, simulation = boutique()
    evil = "no'such: [space]"
    lines = []
    for line in simulation.hubble():
        event = json.loads(line)
        for end in ("source", "destination"):
            if event["flow"][end].get("namespace") == "ops":
                event["flow"][end] |= {"namespace": evil, "labels": ["k8s:app=a'b", "k8s:x y=z"]}
        lines.append(json.dumps(event))
    (tmp_path / "flows.log").write_text("\n".join(lines) + "\n")
    run("ingest", tmp_path / "flows.log", "--store", tmp_path / "store")
    out = tmp_path / "out"
    run("recommend", "--store", tmp_path / "store", "--out", out, "--dialect", dialect)
    index = json.loads((out / "recommendation.json").read_text())
    assert any("whose name Kubernetes does not take" in lost["why"] for lost in index["lost"])
    assert {d["metadata"]["namespace"] for d in documents(out)} == {"shop", "kube-system", "idle"}
    assert evil not in "".join(path.read_text() for path in out.rglob("*.yaml"))
