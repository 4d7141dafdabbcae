"""Policies from files: what stands once all are applied, and what is said of the rest."""

from pathlib import Path

import pytest

from recommender.inventory import Inventory
from recommender.policies import PolicySet, read_policies

POLICY = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"


def read(folder: Path, *documents: str) -> PolicySet:
    """The policies of documents that stand in files a.yaml, b.yaml, ..., one in each."""
    for letter, text in zip("abcdef", documents, strict=False):
        (folder / f"{letter}.yaml").write_text(text)
    return read_policies([folder], Inventory())


def policy(name: str, spec: str = "{podSelector: {}}", namespace: str = "shop") -> str:
    return f"{POLICY}metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"


def test_of_the_same_object_twice_the_last_counts_and_both_places_are_said(tmp_path: Path) -> None:
    found = read(tmp_path, policy("p"), policy("q"), policy("p", "{podSelector: {}, egress: [{}]}"))
    assert [(p.ref.name, len(p.isolates)) for p in found.policies] == [("q", 1), ("p", 2)]
    (note,) = found.notes
    assert note == (
        f"{tmp_path}/a.yaml:1: NetworkPolicy p stands again at {tmp_path}/c.yaml:1, and the last "
        "counts; the rest was read"
    )
    assert found.refused == 1


def test_the_default_namespace_may_be_written_or_left_out(tmp_path: Path) -> None:
    bare = f"{POLICY}metadata: {{name: p}}\nspec: {{podSelector: {{}}}}\n"
    found = read(tmp_path, bare, policy("p", namespace="default"))
    assert len(found.policies) == 1


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        (r'"p\nNetworkPolicy shop/q: denied"', "shop"),
        (r'"p\e[2J"', "shop"),
        ("P", "shop"),
        ("p" * 254, "shop"),
        ("p", r'"sh\rop"'),
    ],
)
def test_a_name_that_the_api_server_refuses_keeps_the_object_out(
    tmp_path: Path, name: str, namespace: str
) -> None:
    found = read(tmp_path, policy(name, namespace=namespace), policy("good"))
    assert [p.ref.name for p in found.policies] == ["good"]
    (note,) = found.notes
    assert note.startswith(f"{tmp_path}/a.yaml:1: a NetworkPolicy that the API server refuses")
    assert note.isprintable()


@pytest.mark.parametrize(
    "kind",
    [
        "policy.networking.k8s.io/v1alpha1 AdminNetworkPolicy",
        "policy.networking.k8s.io/v1alpha1 BaselineAdminNetworkPolicy",
        "extensions/v1beta1 NetworkPolicy",
        "cilium.io/v2alpha1 CiliumNetworkPolicy",
    ],
)
def test_a_network_policy_of_a_kind_that_is_not_read_is_loud(tmp_path: Path, kind: str) -> None:
    api, name = kind.split()
    found = read(tmp_path, f"{{apiVersion: {api}, kind: {name}, metadata: {{name: a}}}}")
    (note,) = found.notes
    assert note.startswith(f"1 of kind {kind} not judged: ")
    assert note.endswith("what such policies permit or deny is missing from every answer")
    assert found.refused == 1


def test_an_object_that_is_no_policy_is_no_fault(tmp_path: Path) -> None:
    text = "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a}}"
    assert read(tmp_path, text).refused == 0
