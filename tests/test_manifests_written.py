"""What is written as YAML is the same to every reader of it."""

import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from recommender.manifests import is_ambiguous, manifests_text, rule_lines
from recommender.report.keeping import rewritten

# What YAML 1.1 (kubectl among its readers) or YAML 1.2 takes for a truth value, a number, a time or
# nothing, and what nearly looks so; the labels of Kubernetes may be any of the first two lines.
WORDS = (
    "yes", "No", "on", "OFF", "y", "n", "true", "null", "Null", "012", "08", "0777", "0x1F", "0o17",
    "0b1", "1e3", "8e12345", "1E5", "1_000", "190", "1.", "1.5", "2026-11-24", "e3", "1e", "infinity",
    "~", "=", "<<", ".5", "+1", "-", "-1", ".inf", "-.inf", ".nan", "1:30", "190:20:30", "", " a", "a: b",
    "- a", "#a", "a #b", "'", '"', "{a}", "[a]", "!a", "&a", "*a", "|", ">", "%a", "@a", "`a`",
)  # fmt: skip
LABELS = st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=12)


def read_by_all(text: str) -> list[object]:
    return [yaml.safe_load(text), YAML(typ="safe", pure=True).load(text)]


@given(st.dictionaries(LABELS | st.sampled_from(WORDS), LABELS | st.sampled_from(WORDS)))
def test_a_text_is_read_back_as_it_was_by_yaml_1_1_and_1_2(labels: dict[str, str]) -> None:
    body = {"labels": labels, "list": [*labels.values()], "port": 8080, "is": True, "none": None}
    assert read_by_all(manifests_text([body])) == [body, body]


@pytest.mark.parametrize("word", ["y", "N", "08", "0777", "0o17", "1e3", "8e12345"])
def test_what_only_kubectl_or_yaml_1_2_takes_for_no_text_is_quoted(word: str) -> None:
    assert is_ambiguous(word)
    assert manifests_text([{"a": word, word: "b"}]) == f"a: '{word}'\n'{word}': b\n"


@given(LABELS)
def test_only_what_somebody_may_misread_is_quoted(label: str) -> None:
    is_plain = manifests_text([{"a": label}]) == f"a: {label}\n"
    assert is_plain or is_ambiguous(label) or label[0] in "-."


def test_the_lines_of_rules_are_found_in_every_document() -> None:
    text = "spec:\n  egress: []\n  ingress:\n  # why\n  - from: []\n\n  - {}\n---\nspec: {egress: [{}]}\n"
    assert rule_lines(text, ("ingress", "egress")) == [
        ("ingress", 4),
        ("ingress", 6),
        ("egress", 8),
    ]
    assert rule_lines("a: 1\n---\n---\n- spec\n", ("ingress",)) == []


def test_a_file_of_an_earlier_version_gets_its_quotes_and_keeps_its_comments() -> None:
    body = {"apiVersion": "v1", "kind": "P", "metadata": {"name": "a", "namespace": "b"},
            "spec": {"podSelector": {"matchLabels": {"canary": "on", "y": "1"}}}}  # fmt: skip
    plain = manifests_text([body])
    old = plain.replace("'", "").replace("spec:", "# mine\nspec:")
    new = rewritten(old, [body], plain)
    assert new.replace("# mine\n", "") == plain.replace("'1'", "1") or yaml.safe_load(new) == body
    assert "# mine\n" in new
    assert yaml.safe_load(new) == body
