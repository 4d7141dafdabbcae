"""Proposals for three public applications, judged by the policy engines of the networks themselves."""

from pathlib import Path

import pytest
from clusters import APPLICATIONS, application
from oracles import ENGINES, FOLDER, Question, engine_connectivity
from simulation import Simulation
from test_dialects_written import proposed
from test_proposals_judged import NODES, Cluster

from recommender.manifests import read_manifests
from recommender.objects import read_inventory

ELSEWHERE = ("203.0.113.9", "8.8.8.8", "198.51.100.8")


def asked(cluster: Cluster, simulation: Simulation) -> list[Question]:
    """Every pair of pods and addresses on every port that is wanted of anybody, and on others."""
    pods = [f"{pod['namespace']}/{pod['name']}" for pod in cluster.pods]
    outside = {end for edge in simulation.wanted for end in edge[:2] if "/" not in end}
    ends = [*pods, *sorted({*outside, *NODES.values(), *ELSEWHERE})]
    ports = {(protocol, port) for *_, protocol, port in simulation.wanted if protocol != "ICMP"}
    ports |= {("ICMP", 8 * 256), ("ICMP", 13 * 256), ("TCP", 1), ("TCP", 53), ("SCTP", 8080)}
    return [
        (src, dst, protocol, port)
        for src in ends
        for dst in ends
        if src != dst and ("/" in src or "/" in dst) and not on_own_node(src, dst, cluster)
        for protocol, port in sorted(ports)
    ]


def on_own_node(src: str, dst: str, cluster: Cluster) -> bool:
    """Whether a node calls a pod on it, which no policy decides."""
    nodes = {f"{pod['namespace']}/{pod['name']}": NODES[pod["node"]] for pod in cluster.pods}
    return nodes.get(dst) == src


def wanted(question: Question, cluster: Cluster, simulation: Simulation, dialect: str) -> bool:
    src, dst, protocol, port = question
    of = {
        f"{p['namespace']}/{p['name']}": f"{p['namespace']}/{p['workload']}" for p in cluster.pods
    }
    ends = of.get(src, src), of.get(dst, dst)
    if protocol == "ICMP":
        return (*ends, "ICMP", port // 256) in simulation.wanted
    if port == 53 and (*ends, "UDP", 53) in simulation.wanted:
        return protocol in ("TCP", "UDP")  # long answers are asked for again over TCP
    if dialect == "cilium" and dst in NODES.values():
        # To Cilium nodes are one entity: whoever calls one may call all, on that port.
        return any((ends[0], node, protocol, port) in simulation.wanted for node in NODES.values())
    return (*ends, protocol, port) in simulation.wanted


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.parametrize("form", ["hubble", "calico"])
@pytest.mark.parametrize("dialect", ENGINES)
def test_an_engine_permits_what_is_wanted_and_nothing_else(
    tmp_path: Path, dialect: str, form: str, name: str
) -> None:
    if not (FOLDER / dialect).exists():
        pytest.skip(f"{dialect}'s engine is not built; run `make oracles`")
    cluster, simulation = application(name)
    out, inventory = proposed(tmp_path, dialect, getattr(simulation, form)(), cluster.objects)
    manifests, problems = read_manifests([out])
    assert not problems
    names: dict[str, set[str]] = {}
    for address, called in simulation.names.items():
        names.setdefault(called, set()).add(address)
    questions = asked(cluster, simulation)
    found = engine_connectivity(
        dialect,
        manifests,
        read_inventory([inventory]),
        questions,
        {called: frozenset(some) for called, some in names.items()},
    )
    expected = {q: wanted(q, cluster, simulation, dialect) for q in found}
    assert len(found) == len(questions)
    denied = [q for q, sides in found.items() if expected[q] and not all(sides)]
    surplus = [q for q, sides in found.items() if not expected[q] and all(sides)]
    assert (denied, surplus) == ([], [])
    assert sum(expected.values()) > len(simulation.wanted)
