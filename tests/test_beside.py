"""Proposals beside policies of others: what stays open is told, and closed by changes apart."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from cluster_objects import inventory, workload
from drawn_theirs import theirs
from drawn_traffic import SPACES, Edge, basis_of, namespace, row, traffic
from hypothesis import given
from hypothesis import strategies as st

from recommender.beside import Beside, beside
from recommender.cli import group
from recommender.dialects.narrowing import LABEL
from recommender.dialects.writers import writer
from recommender.evaluate import Evaluator, evaluator
from recommender.inventory import Inventory
from recommender.known import Known
from recommender.manifests import Manifest
from recommender.model import Policy
from recommender.policies import PolicySet, policy_set
from recommender.propose import Scope, propose
from recommender.replay import replay
from recommender.tiers import place

Object = dict[str, Any]
SAMPLE = ("--inventory", "data/samples/inventory.yaml")


def looked(
    drawn: tuple[Inventory, list[Edge]], objects: list[Object], dialect: str, scope: Scope
) -> tuple[Beside, list[Policy], list[Object], list[Object]]:
    """What is found beside the proposals; the proposals, their manifests and the wanted rows."""
    world, edges = drawn
    words = writer(dialect).words
    rows = [row(*edge, number=at) for at, edge in enumerate(edges, 1)]
    proposals, lost = propose(rows, scope, basis_of(world, words))
    bodies = [body for each in proposals for body in writer(dialect).render(each.policy)]
    own = policy_set([Manifest("own", body) for body in bodies], world)
    assert not own.refused
    watched = SimpleNamespace(
        inventory=world, known=Known(), edges=pd.DataFrame({"class": pd.Series([], dtype=str)})
    )
    in_force = policy_set([Manifest("x.yaml:1", body) for body in objects], world)
    found = beside(
        own.policies, bodies, in_force, cast("Any", watched), rows, [loss.row for loss in lost]
    )
    return found, list(own.policies), bodies, rows


def changed(found: Beside, world: Inventory) -> PolicySet:
    """The policies of others once all changes are applied."""
    new = {change.ref: change.body for change in found.changes}
    by_name = {(ref.kind, ref.namespace, ref.name): body for ref, body in new.items()}
    bodies = []
    for manifest in found.theirs.manifests:
        meta = manifest.body["metadata"]
        key = manifest.body["kind"], meta.get("namespace"), meta["name"]
        bodies.append(Manifest(manifest.place, by_name.get(key, manifest.body)))
    return policy_set(bodies, world)


def judges(
    found: Beside, own: list[Policy], world: Inventory
) -> tuple[Evaluator, Evaluator, Evaluator]:
    """Of the proposals alone, of all as it is, and of all with the changes."""
    both = place([*own, *found.theirs.policies])
    after = place([*own, *changed(found, world).policies])
    sets = (both[: len(own)], both, after)
    alone, now, then = (evaluator(each, world, beside=[*both, *after]) for each in sets)
    return alone, now, then


SCOPES = st.sampled_from(
    [Scope(), Scope(), Scope(frozenset({"shop"})), Scope(directions=("ingress",))]
)


def check(
    drawn: tuple[Inventory, list[Edge]], objects: list[Object], dialect: str, scope: Scope
) -> Beside:
    """The laws that hold of any policies."""
    before = copy.deepcopy(objects)
    found, own, _, rows = looked(drawn, objects, dialect, scope)
    assert objects == before
    alone, now, then = judges(found, own, drawn[0])
    # What is told is what stays open, and the changes close all of it that is not told as left.
    stays = now.connectivity(beyond_those_of=alone)  # by workload: a made pod stands for several
    assert bool(stays) == bool(found.holes)
    if not any(hole.left for hole in found.holes):
        assert then.connectivity("pod", beyond_those_of=alone) == []
    # The changes open nothing, and deny nothing that was wanted and passed.
    assert then.connectivity("pod", beyond_those_of=now) == []
    passed = [r.row for r in replay(now, rows) if r.verdict.allow is True]
    assert all(r.verdict.allow is True for r in replay(then, passed))
    # Those whom the proposals do not concern may do among themselves what they did.
    concerned = {f"{pod.namespace}/{pod.name}" for p in own for pod in now.selects(p)}
    lost = now.connectivity("pod", beyond_those_of=then)
    assert all(c.src in concerned or c.dst in concerned for c in lost)
    # The denied are those that theirs deny.
    denied = {id(r.row) for r in replay(now, rows) if r.verdict.allow is False}
    assert {id(r.row) for r in found.denied} <= denied
    assert all(change.body["metadata"]["labels"][LABEL] == "narrowed" for change in found.changes)
    return found


@given(traffic(), theirs("kubernetes"), SCOPES)
def test_beside_network_policies_the_proposals_alone_are_left_once_the_changes_are_applied(
    drawn: tuple[Inventory, list[Edge]], objects: list[Object], scope: Scope
) -> None:
    found = check(drawn, objects, "kubernetes", scope)
    assert not found.denied or scope != Scope()
    _, own, _, _ = looked(drawn, objects, "kubernetes", scope)
    alone, _, then = judges(found, own, drawn[0])
    if scope == Scope():
        assert not any(hole.left for hole in found.holes)
        assert alone.connectivity("pod", beyond_those_of=then) == []


@given(traffic(), theirs("cilium", "kubernetes"), SCOPES, st.sampled_from(["cilium", "kubernetes"]))
def test_the_laws_hold_beside_policies_of_cilium(
    drawn: tuple[Inventory, list[Edge]], objects: list[Object], scope: Scope, dialect: str
) -> None:
    check(drawn, objects, dialect, scope)


@given(traffic(), theirs("calico", "kubernetes"), SCOPES, st.sampled_from(["calico", "kubernetes"]))
def test_the_laws_hold_beside_policies_of_calico_in_tiers(
    drawn: tuple[Inventory, list[Edge]], objects: list[Object], scope: Scope, dialect: str
) -> None:
    check(drawn, objects, dialect, scope)


def world_of(*names: str) -> Inventory:
    objects = [namespace(name, labels) for name, labels in SPACES.items()]
    for name in names:
        space, app = name.split("/")
        objects.append(workload(app, {"app": app}, namespace=space, match={"app": app}))
    return inventory(*objects)


SHOP = world_of("shop/web", "shop/cart", "shop/db", "bank/till")
CALL: list[Edge] = [("shop/Deployment/web", "shop/Deployment/cart", "TCP", 80)]


def policy_of(text: str) -> Object:
    found: Object = yaml.safe_load(text)
    return found


OPEN = policy_of("""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: open, namespace: shop, resourceVersion: "7", uid: u, annotations: {who: ann}}
spec:
  podSelector: {}
  ingress:
    - from: [{podSelector: {matchLabels: {app: web}}}]
      ports: [{protocol: TCP, port: 80}]
    - {}
  egress:
    - {}
status: {}
""")


def test_rules_are_told_by_their_fields_and_those_that_keep_nothing_open_are_not() -> None:
    found, *_ = looked((SHOP, CALL), [OPEN], "kubernetes", Scope())
    assert [hole.at for hole in found.holes] == [
        "spec.ingress[0]",
        "spec.ingress[1]",
        "spec.egress[0]",
    ]
    web_to_db = ("shop/web", "shop/db", "TCP", ((80, 80),))
    assert web_to_db in found.holes[0].shown
    only_cart = copy.deepcopy(OPEN)
    only_cart["spec"]["podSelector"] = {"matchLabels": {"app": "cart"}}
    found, *_ = looked((SHOP, CALL), [only_cart], "kubernetes", Scope())
    assert [hole.at for hole in found.holes] == ["spec.ingress[1]", "spec.egress[0]"]


def test_the_changed_object_goes_on_isolating_and_can_be_applied() -> None:
    found, *_ = looked((SHOP, CALL), [OPEN], "kubernetes", Scope())
    (change,) = found.changes
    assert change.says == tuple(f"{hole.at} is removed" for hole in found.holes)
    assert change.body == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": "open",
            "namespace": "shop",
            "annotations": {"who": "ann"},
            "labels": {LABEL: "narrowed"},
        },
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [],
            "egress": [],
        },
    }


def test_how_many_flows_used_a_rule_is_told() -> None:
    found, *_ = looked((SHOP, CALL), [OPEN], "kubernetes", Scope())
    assert [(hole.edges, hole.connections) for hole in found.holes] == [(1, 1), (1, 1), (1, 1)]


def test_an_earlier_proposal_is_replaced_and_no_policy_of_others() -> None:
    _, _, bodies, _ = looked((SHOP, CALL), [], "kubernetes", Scope())
    wide = copy.deepcopy(bodies[0]) | {"spec": {"podSelector": {}, "ingress": [{}]}}
    found, *_ = looked((SHOP, CALL), [wide], "kubernetes", Scope())
    assert (found.replaced, found.holes, found.changes) == (1, (), ())


CLUSTERWIDE = policy_of("""
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: wide}
spec:
  endpointSelector: {}
  ingress:
    - fromEntities: [all]
""")


def test_a_policy_of_the_whole_cluster_is_narrowed_to_whom_the_proposals_do_not_concern() -> None:
    scope = Scope(frozenset({"shop"}))
    found, *_ = looked((SHOP, CALL), [CLUSTERWIDE], "cilium", scope)
    (change,) = found.changes
    assert change.says == ("it selects nobody of shop any more",)
    assert change.body["spec"]["endpointSelector"] == {
        "matchExpressions": [
            {"key": "k8s:io.kubernetes.pod.namespace", "operator": "NotIn", "values": ["shop"]}
        ]
    }
    found, *_ = looked((SHOP, CALL), [CLUSTERWIDE], "cilium", Scope())
    assert found.changes[0].body["spec"] == {"endpointSelector": {}, "ingress": [{}]}


def test_what_cannot_be_narrowed_is_told_with_the_reason() -> None:
    denying = copy.deepcopy(CLUSTERWIDE)
    denying["spec"]["ingressDeny"] = [{"fromEntities": ["world"]}]
    found, *_ = looked((SHOP, CALL), [denying], "cilium", Scope(frozenset({"shop"})))
    assert found.changes == ()
    assert [hole.left for hole in found.holes] == [
        "it serves pods too that the proposals do not concern, and does not only allow"
    ]


HTTP = policy_of("""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: paths, namespace: shop}
specs:
  - endpointSelector: {matchLabels: {app: db}}
    egress: [{}]
  - endpointSelector: {matchLabels: {app: cart}}
    ingress:
      - fromEndpoints: [{}]
        toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET}]}}]
      - fromEndpoints: [{matchLabels: {app: web}}]
        toPorts: [{ports: [{port: "81", protocol: TCP}]}]
""")


def test_a_rule_narrowed_by_http_stays_and_what_makes_it_void_is_told() -> None:
    edges = [*CALL, ("shop/Deployment/db", "bank/Deployment/till", "TCP", 80)]
    opener = policy_of("""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: out, namespace: shop}
spec: {endpointSelector: {}, egress: [{toEntities: [all]}]}
""")
    found, *_ = looked((SHOP, edges), [HTTP, opener], "cilium", Scope())
    (line,) = found.voided
    assert line.startswith("x.yaml:1: CiliumNetworkPolicy shop/paths ingress rule 0 allows only ")
    assert line.endswith("; the proposals let the same through without that")
    left = {hole.at: hole.left for hole in found.holes if hole.ref.name == "paths"}
    assert left.pop("specs[1].ingress[0]").endswith(", which flows do not tell")
    assert left == {"specs[1].ingress[1]": ""}
    (body,) = (change.body for change in found.changes if change.ref.name == "paths")
    assert [len(each.get("ingress", ())) for each in body["specs"]] == [0, 1]


def test_a_rule_of_an_earlier_tier_passes_on_what_it_allowed() -> None:
    tier, rule = (
        policy_of("""
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: early}
spec: {order: 10, defaultAction: Deny}
"""),
        policy_of("""
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: early.shop}
spec:
  tier: early
  selector: projectcalico.org/namespace == 'shop'
  types: [Ingress]
  ingress: [{action: Allow, source: {selector: all()}}]
"""),
    )
    found, *_ = looked((SHOP, CALL), [tier, rule], "calico", Scope(directions=("ingress",)))
    (change,) = found.changes
    assert change.says == ("spec.ingress[0] passes to the next tier",)
    assert [each["action"] for each in change.body["spec"]["ingress"]] == ["Pass"]
    assert found.denied == ()


def test_a_deny_of_a_wanted_edge_is_told_with_its_rule() -> None:
    deny = policy_of("""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: never, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: cart}}
  ingressDeny: [{fromEndpoints: [{matchLabels: {app: web}}]}]
""")
    found, *_ = looked((SHOP, CALL), [deny], "cilium", Scope())
    (denied,) = found.denied
    assert str(denied) == "shop/web -> shop/cart TCP 80"
    (why,) = denied.verdict.because
    assert (why.policy and why.policy.name, why.rule, why.action) == ("never", 0, "deny")
    assert found.changes == ()


def test_a_rule_stays_through_which_came_what_the_proposals_have_no_words_for() -> None:
    echo = policy_of("""
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: echo}
spec: {order: 1, types: [Ingress, Egress], ingress: [{action: Allow}], egress: [{action: Allow}]}
""")
    edges = [*CALL, ("shop/Deployment/web", "shop/Deployment/cart", "ICMP", 8)]
    found, *_ = looked((SHOP, edges), [echo], "kubernetes", Scope())
    assert [hole.left for hole in found.holes] == [
        "a wanted edge came through it for which the proposals have no words"
    ] * 2
    assert found.changes == ()


# --- the command -------------------------------------------------------------------------------


def run(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(group, [str(arg) for arg in args])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the samples' Hubble log."""
    path = tmp_path_factory.mktemp("samples") / "store"
    run("ingest", "data/samples/hubble", "--store", path)
    return path


@pytest.mark.parametrize("given", ["data/samples/policies", "inventory"])
def test_the_changes_are_files_apart_that_leave_the_proposals_alone(
    given: str, store: Path, tmp_path: Path
) -> None:
    asked = ("recommend", "--store", store, *SAMPLE)
    run(*asked, "--out", tmp_path / "plain")
    text = run(
        *asked, "--out", tmp_path / "out", "--with", given, "--changes", tmp_path / "changes"
    )
    assert "NetworkPolicy payments/gateway spec.egress[0]: 4 pairs stay open" in text
    assert "6 wanted edges (972 connections) came through it" in text
    for path in (tmp_path / "plain").rglob("*.yaml"):
        same = tmp_path / "out" / path.relative_to(tmp_path / "plain")
        assert same.read_bytes() == path.read_bytes()
    (file,) = (tmp_path / "changes").rglob("*.yaml")
    assert file == tmp_path / "changes" / "payments" / "NetworkPolicy-gateway.yaml"
    assert "# spec.egress[0] is removed." in file.read_text()
    index = json.loads((tmp_path / "out" / "recommendation.json").read_text())["beside"]
    (hole,) = index["holes"]
    assert (hole["field"], hole["edges"], hole["closed_by"]) == (
        "spec.egress[0]",
        6,
        ["spec.egress[0] is removed"],
    )


def test_with_the_changes_applied_nothing_but_the_proposals_is_permitted(
    store: Path, tmp_path: Path
) -> None:
    out, changes, theirs_ = tmp_path / "out", tmp_path / "changes", tmp_path / "theirs"
    given = ("--with", "data/samples/policies", "--changes", changes)
    run("recommend", "--store", store, *SAMPLE, "--out", out, *given)
    theirs_.mkdir()
    for path in Path("data/samples/policies").glob("*.yaml"):
        (theirs_ / path.name).write_bytes(path.read_bytes())
    (theirs_ / "payments-gateway.yaml").write_bytes(
        (changes / "payments" / "NetworkPolicy-gateway.yaml").read_bytes()
    )
    permitted = [
        run("connectivity", *paths, *SAMPLE, "-o", "json")
        for paths in ((out,), (out, theirs_), (out, "data/samples/policies"))
    ]
    assert permitted[0] == permitted[1] != permitted[2]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--changes", "CHANGES"], "--changes needs --with"),
        (["--with", "inventory", "--changes", "OUT/changes"], "folders apart"),
        (["--with", "inventory", "--with", "data/samples/policies"], "stands alone"),
    ],
)
def test_changes_never_lie_among_the_proposals(
    more: list[str], message: str, store: Path, tmp_path: Path
) -> None:
    words = [w.replace("CHANGES", f"{tmp_path}/c").replace("OUT", f"{tmp_path}/out") for w in more]
    output = run("recommend", "--store", store, *SAMPLE, "--out", tmp_path / "out", *words, code=2)
    assert message in output
    assert not (tmp_path / "out").exists()


def test_a_folder_of_changes_follows_and_keeps_files_of_others(store: Path, tmp_path: Path) -> None:
    asked = ("recommend", "--store", store, *SAMPLE, "--out", tmp_path / "out")
    changes = tmp_path / "changes"
    run(*asked, "--with", "inventory", "--changes", changes)
    (changes / "mine.txt").write_text("mine")
    run(*asked, "--with", "data/samples/policies/data-redis.yaml", "--changes", changes)
    assert sorted(p.name for p in changes.rglob("*") if p.is_file()) == ["changes.json", "mine.txt"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    output = run(*asked, "--with", "inventory", "--changes", tmp_path / "other", code=1)
    assert "choose an empty or new folder for --changes" in output
