"""Our evaluator beside the policy engines of Cilium and Calico themselves.

Every difference is a case, with its reason, in `cases/oracles`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml
from drawn_calico import calico_folders
from drawn_cilium import NAMES, cilium_folders
from hypothesis import given, settings
from oracles import (
    ENGINES,
    KINDS,
    Engine,
    Question,
    engine,
    engine_connectivity,
    needs,
    questions_of,
)
from policytext import WORLD
from policytext import manifests as objects
from test_conformance import CASES as RECORDED
from test_evaluate import APIS, inventory

from recommender.dialects import parse_policies
from recommender.evaluate import Evaluator, evaluator
from recommender.inventory import Inventory
from recommender.known import Known
from recommender.manifests import Manifest, read_manifests
from recommender.model import (
    AddressPeer,
    AllOf,
    And,
    AnyOf,
    EntityPeer,
    LabelPeer,
    Not,
    Peer,
    Policy,
)
from recommender.objects import inventory_of, read_inventory

ROOT = Path(__file__).parent.parent
EXAMPLES = int(os.environ.get("AGREEMENT_EXAMPLES", "25"))
# Cilium: pkg/ipcache/metadata.go, resolveLabels; Calico: blocks are matched as addresses.
REACH = {"cilium": "outside", "calico": "all"}
Names = Mapping[str, frozenset[str]]


@pytest.fixture(scope="module")
def cilium() -> Iterator[Engine]:
    with engine("cilium") as running:
        yield running


@pytest.fixture(scope="module")
def calico() -> Iterator[Engine]:
    with engine("calico") as running:
        yield running


def disagreements(
    running: Engine,
    manifests: Sequence[Manifest],
    objects: Inventory,
    names: Names | None = None,
    *,
    most: int = 5_000,
) -> list[str]:
    """Where an engine's answer is surely another than ours, and policies that only one refuses."""
    parsed = parse_policies(manifests, objects)
    policies = [as_on(running.dialect, policy) for policy in parsed.policies]
    judge = evaluator(policies, objects, told=Known(dict(names or {})))
    questions = questions_of(judge, most)
    found = running.ask(manifests, objects, questions, names)
    ours = {str(each.ref) for each in parsed.findings if each.effect == "this policy is left out"}
    if ours != found.refused.keys():
        return [f"refused: {sorted(ours)} here, {found.refused} there"]
    return list(differing(judge, questions, found.verdicts))


def as_on(network: str, policy: Policy) -> Policy:
    """A policy of the API as one network takes it (see `cases/oracles`).

    It leaves open whether blocks mean pods and nodes; and to Cilium nodes lack labels as pods do.
    """
    if "cilium.io" in policy.ref.api or "projectcalico.org" in policy.ref.api:
        return policy
    return replace(
        policy,
        ingress=tuple(replace(rule, peer=taken(rule.peer, network)) for rule in policy.ingress),
        egress=tuple(replace(rule, peer=taken(rule.peer, network)) for rule in policy.egress),
    )


def taken(peer: Peer, network: str) -> Peer:
    match peer:
        case AddressPeer():
            return replace(peer, reach=REACH[network])
        case AnyOf(peers=peers) | AllOf(peers=peers):
            return replace(peer, peers=tuple(taken(each, network) for each in peers))
        case LabelPeer(selector=And(terms=terms)) if network == "cilium" and terms:
            if all(isinstance(term, Not) for term in terms):
                return AnyOf((peer, EntityPeer("host"), EntityPeer("remote-node")))
    return peer


def differing(
    judge: Evaluator, questions: Sequence[Question], verdicts: Mapping[Question, Any]
) -> Iterator[str]:
    for (src, dst), asked in groupby(questions, lambda each: each[:2]):
        if decided(judge, src, dst):
            continue
        allowed, unknown = judge.permitted(src, dst)
        for question in asked:
            port = question[2], question[3]
            if question in verdicts and port not in unknown:
                theirs = all(verdicts[question])
                if theirs is not (port in allowed):
                    yield f"{question}: {verdicts[question]}, here {port in allowed}"


def decided(judge: Evaluator, src: str, dst: str) -> bool:
    """Whether policies do not decide: a node reaches the pods on it."""
    (s,), (d,) = judge.ends.find(src), judge.ends.find(dst)
    return judge._always(s, d) is not None or judge._may_be_on_node(s, d)


def read(bodies: list[Any]) -> list[Manifest]:
    return [Manifest(f"case.yaml:{i}", body) for i, body in enumerate(bodies, 1)]


@needs("cilium")
@given(cilium_folders())
@settings(max_examples=EXAMPLES)
def test_drawn_cilium_policies_mean_what_its_agent_makes_of_them(
    cilium: Engine, bodies: Any
) -> None:
    manifests = read(bodies)
    assert not disagreements(cilium, manifests, inventory_of(manifests), NAMES)


@needs("calico")
@given(calico_folders())
@settings(max_examples=EXAMPLES)
def test_drawn_calico_policies_mean_what_felix_makes_of_them(calico: Engine, bodies: Any) -> None:
    manifests = read(bodies)
    assert not disagreements(calico, manifests, inventory_of(manifests))


# --- cases -------------------------------------------------------------------------------------


DIFFERENT = {("calico", "a-service-of-host-network-pods-means-their-nodes")}  # see `DIFFERENCES`


def evaluate_cases() -> Iterator[Any]:
    """The cases of `cases/evaluate` whose policies an engine knows."""
    for path in sorted((ROOT / "tests/cases/evaluate").glob("*.yaml")):
        found = yaml.safe_load(path.read_text())
        for case in found["cases"]:
            whole = {"cluster": found["cluster"], **case}
            apis = {p.get("apiVersion") or APIS[p["kind"]] for p in case["policies"]}
            for name in ENGINES:
                if (name, case["name"]) not in DIFFERENT and all(knows(name, api) for api in apis):
                    yield pytest.param(name, whole, id=f"{name}-{case['name']}", marks=needs(name))


def knows(name: str, api: str) -> bool:
    """Whether an engine has a kind of policies; the Calico of here has no ClusterNetworkPolicy."""
    return api.startswith(KINDS[name])


@pytest.mark.parametrize(("name", "case"), [*evaluate_cases()])
def test_cases_mean_what_the_engines_make_of_them(
    name: str, case: Any, request: pytest.FixtureRequest
) -> None:
    bodies = [
        {
            **body,
            "apiVersion": body.get("apiVersion") or APIS[body["kind"]],
            "metadata": ({"namespace": "shop"} if body["kind"] == "NetworkPolicy" else {})
            | body["metadata"],
        }
        for body in case["policies"]
    ]
    names = {name: frozenset(found) for name, found in case.get("names", {}).items()}
    running = request.getfixturevalue(name)
    assert not disagreements(running, read(bodies), inventory(case["cluster"]), names)


def recorded() -> Iterator[Any]:
    """Folders of manifests beside the checkout, for the engine of their policies' API."""
    for kind in ("netpol-analyzer", "telepathy", "cluster-network-policy"):
        for folder in sorted(path for path in (RECORDED / kind).glob("*") if path.is_dir()):
            apis = {str(m.body.get("apiVersion")) for m in manifests_in(folder)}
            for name in ENGINES:
                others = [
                    api for api in apis if "policy" in api or "calico" in api or "cilium" in api
                ]
                if all(knows(name, api) for api in others if not api.startswith("policy/")):
                    yield pytest.param(name, folder, id=f"{name}-{folder.name}", marks=needs(name))


def manifests_in(folder: Path) -> Sequence[Manifest]:
    return read_manifests(files_in(folder))[0]


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != "connlist_output.json")


@pytest.mark.parametrize(
    ("name", "folder"),
    [*recorded()] or [pytest.param("", None, marks=pytest.mark.skip(f"no {RECORDED}"))],
)
def test_recorded_clusters_mean_what_the_engines_make_of_them(
    name: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    running = request.getfixturevalue(name)
    objects = read_inventory(files_in(folder))
    assert not disagreements(running, manifests_in(folder), objects, most=1_000)


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in ENGINES])
def test_the_policies_of_the_sample_cluster_mean_what_the_engines_make_of_them(
    name: str, request: pytest.FixtureRequest
) -> None:
    samples = ROOT / "data/samples"
    objects = read_inventory([samples / "inventory.yaml"])
    manifests = manifests_in(samples / "policies")
    assert not disagreements(request.getfixturevalue(name), manifests, objects)


# --- known differences -------------------------------------------------------------------------

DIFFERENCES = yaml.safe_load((ROOT / "tests/cases/oracles/differences.yaml").read_text())


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c["name"], marks=needs(c["engine"])) for c in DIFFERENCES]
)
def test_where_an_engine_differs_both_answers_are_as_said(case: Any) -> None:
    manifests = read(case["policies"])
    cluster = inventory_of([*objects(WORLD), *read(case.get("objects", []))])
    judge = evaluator(parse_policies(manifests, cluster).policies, cluster)
    lines = [line.split() for line in case["expect"]]
    asked = [(src, dst, protocol, int(port)) for src, _, dst, protocol, port, *_ in lines]
    theirs = engine_connectivity(case["engine"], manifests, cluster, asked)
    for question, (*_, ours, other) in zip(asked, lines, strict=True):
        assert judge.verdict(*question).allow is (ours == "allow"), question
        assert all(theirs[question]) is (other == "allow"), question
