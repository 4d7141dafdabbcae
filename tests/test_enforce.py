"""`enforce`: the soft form of our policies becomes the enforcing one, and no other byte changes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from recommender.cli import group
from recommender.enforce import enforced
from recommender.errors import PolicyError

STAGED = """\
# kept
apiVersion: projectcalico.org/v3
kind:   'StagedNetworkPolicy'   # and this
metadata: {name: a, namespace: n, labels: {app.kubernetes.io/managed-by: flowpolicy}}
spec:
  # before
  stagedAction: Set # on the line
  # after
  selector: "app == 'a'"
  types: [Ingress]
  ingress: [ {action: Allow} ]
"""
AUDIT = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: b
  namespace: n
  labels:
    app.kubernetes.io/managed-by: "flowpolicy"
spec:
  endpointSelector: {}
  # soft
  enableDefaultDeny:
    ingress: false
    # both
    egress: false
  # rules
  ingress:
    - {}
"""


def run(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(group, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_a_staged_policy_becomes_the_enforcing_kind_and_comments_stay() -> None:
    expected = STAGED.replace("Staged", "").replace("stagedAction: Set # on", "# on")
    assert enforced("f", STAGED).text == expected


def test_an_audit_policy_loses_the_flags_that_are_false_and_nothing_else() -> None:
    lost = "  enableDefaultDeny:\n    ingress: false\n    # both\n    egress: false\n"
    assert enforced("f", AUDIT).text == AUDIT.replace(lost, "")


def test_a_flag_that_is_true_stays() -> None:
    text = AUDIT.replace("    ingress: false", "    ingress: true")
    assert enforced("f", text).text == text.replace("    egress: false\n", "")


@pytest.mark.parametrize(
    "flags",
    ["{ingress: false, egress: false}", "{ingress: true , egress: false}", "{egress: no,}",
     "{ingress: false, egress: true}"],
)  # fmt: skip
def test_flags_in_one_line_go_with_their_commas(flags: str) -> None:
    before = (
        AUDIT.split("  enableDefaultDeny", maxsplit=1)[0]
        + f"  enableDefaultDeny: {flags}\n  ingress: [{{}}]\n"
    )
    after = yaml.safe_load(enforced("f", before).text)["spec"]
    on = {k: v for k, v in yaml.safe_load(flags).items() if v}
    assert after.get("enableDefaultDeny") == (on or None)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_line_ends_and_marks_of_the_encoding_stay(ending: str, start: str) -> None:
    text = start + f"{AUDIT}---\n{STAGED}".replace("\n", ending)
    parts = [start + AUDIT, "---\n" + STAGED]
    plain = "".join(enforced("f", part).text for part in parts)
    assert enforced("f", text).text == plain.replace("\n", ending)


def test_json_and_lists_are_read_through() -> None:
    items = [yaml.safe_load(STAGED), yaml.safe_load(AUDIT)]
    for indent in (None, 2):
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=indent)
        found = json.loads(enforced("f", text).text)["items"]
        assert [one["kind"] for one in found] == ["NetworkPolicy", "CiliumNetworkPolicy"]
        assert "stagedAction" not in found[0]["spec"]
        assert "enableDefaultDeny" not in found[1]["spec"]


def test_enforcing_again_changes_nothing_and_is_said() -> None:
    once = enforced("f", STAGED + "---\n" + AUDIT)
    again = enforced("f", once.text)
    assert (again.text, again.changed, len(again.already)) == (once.text, (), 2)


def test_policies_of_others_are_left_alone_and_said() -> None:
    text = STAGED.replace("flowpolicy", "helm")
    found = enforced("f", text)
    assert found.text == text
    assert found.left == ("f:2: StagedNetworkPolicy n/a: not written by flowpolicy, so left alone",)


@pytest.mark.parametrize("action", ["Delete", "Learn", "Ignore"])
def test_a_staged_deletion_is_no_policy_to_enforce(action: str) -> None:
    text = STAGED.replace("Set", action)
    found = enforced("f", text)
    assert found.text == text
    assert action in found.left[0]


ODD = {
    "no yaml": "kind: [",
    "merged keys": STAGED.replace("  stagedAction: Set", "  <<: {stagedAction: Set}"),
    "a block text": STAGED.replace("stagedAction: Set # on the line", "stagedAction: |-\n    Set"),
    "an escaped kind": STAGED.replace("'StagedNetworkPolicy'", '"Staged\\x4eetworkPolicy"'),
    "a key that is asked": STAGED.replace("  stagedAction: Set", "  ? stagedAction\n  : Set"),
    "itself": "&a {kind: StagedNetworkPolicy, metadata: *a}",
    "shared": AUDIT.replace("enableDefaultDeny:", "enableDefaultDeny: &flags")
    + "  egress: *flags\n",
    "too deep": "[" * 5000,
    "a bad date": STAGED + "  date: 2020-99-99\n",
    "an empty text": "",
    "a text": "StagedNetworkPolicy",
    "no spec": STAGED.split("spec:", maxsplit=1)[0],
    "a spec of another type": AUDIT.split("spec:", maxsplit=1)[0] + "spec: [1]\nspecs: 3\n",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_files_are_changed_rightly_or_refused_in_one_sentence(text: str) -> None:
    try:
        found = enforced("file", text)
    except PolicyError as error:
        sentence = str(error)
    else:
        assert "stagedAction" not in found.text
        assert "StagedNetworkPolicy\n" not in found.text
        return
    assert sentence.startswith("file")
    assert "\n" not in sentence


values = st.recursive(
    st.sampled_from([False, True, None, 1, "a: b", "#", "'", "\u2028", "é"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
)


@given(
    st.dictionaries(st.sampled_from(["a", "endpointSelector", "z"]), values),
    st.dictionaries(st.sampled_from(["ingress", "egress"]), st.booleans()),
    st.sampled_from([None, True, False]),
    st.sampled_from(["yaml", "json"]),
)
def test_any_policy_that_is_written_plainly_is_enforced_and_nothing_else_changes(
    spec: dict[str, Any], flags: dict[str, bool], flow: bool | None, form: str
) -> None:
    body = yaml.safe_load(AUDIT)
    body["spec"] = {**spec, "enableDefaultDeny": flags, "ingress": [{}]}
    dumped = yaml.safe_dump(body, sort_keys=False, default_flow_style=flow, allow_unicode=True)
    found = enforced("f", json.dumps(body) if form == "json" else dumped).text
    on = {key: value for key, value in flags.items() if value}
    if on or not flags:
        body["spec"]["enableDefaultDeny"] = on
    else:
        del body["spec"]["enableDefaultDeny"]
    assert yaml.safe_load(found) == body


def test_the_command_changes_files_in_place_or_copies_them(tmp_path: Path) -> None:
    folder = tmp_path / "policies" / "n"
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text(STAGED)
    (folder / "b.yaml").write_text(AUDIT)
    (tmp_path / "policies" / "recommendation.json").write_text('{"schema": "flowpolicy/x"}')
    said = run("enforce", tmp_path / "policies", "--out", tmp_path / "copy")
    assert said.endswith("2 now enforce, 0 did already, 0 left alone\n")
    assert (folder / "a.yaml").read_text() == STAGED
    assert (tmp_path / "copy" / "recommendation.json").exists()
    (folder / "a.yaml").chmod(0o640)
    shutil.copy(folder / "b.yaml", tmp_path / "elsewhere.yaml")
    (folder / "b.yaml").unlink()
    (folder / "b.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    run("enforce", tmp_path / "policies")
    assert (folder / "b.yaml").is_symlink()
    assert (folder / "a.yaml").stat().st_mode & 0o777 == 0o640
    for name in ("a.yaml", "b.yaml"):
        assert (folder / name).read_text() == (tmp_path / "copy" / "n" / name).read_text()
    found = json.loads(run("enforce", tmp_path / "policies", "-o", "json"))
    assert (found["files"], len(found["already"])) == ([], 2)


def test_nothing_is_written_where_one_file_is_broken_or_a_policy_would_stand_twice(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.yaml").write_text(STAGED)
    (tmp_path / "b.yaml").write_text("kind: [")
    said = run("enforce", tmp_path, code=1)
    assert "b.yaml:2: not YAML" in said
    (tmp_path / "b.yaml").write_text(STAGED.replace("Staged", ""))
    assert "would stand twice" in run("enforce", tmp_path, code=1)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in run("enforce", tmp_path, code=1)
    assert (tmp_path / "a.yaml").read_text() == STAGED
    assert "no such file" in run("enforce", tmp_path / "nowhere", code=1)
