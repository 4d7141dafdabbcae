"""Reading objects: Lists, many documents, broken ones."""

from pathlib import Path

import pytest

from recommender.errors import InventoryError
from recommender.manifests import Texts, read_manifests

TWO = """\
# two objects, the second broken

apiVersion: v1
kind: Namespace
metadata:
  name: shop
---
kind: Pod
metadata: {name: [broken
---
apiVersion: v1
kind: Namespace
metadata:
  name: data
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_broken_document_is_named_with_its_line_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "objects.yaml", TWO)
    manifests, problems = read_manifests([path])
    assert [m.body["metadata"]["name"] for m in manifests] == ["shop", "data"]
    assert [m.place for m in manifests] == [f"{path}:3", f"{path}:11"]
    assert len(problems) == 1
    assert problems[0].place in {f"{path}:9", f"{path}:10"}
    assert str(problems[0]).endswith("the rest was read")


def test_a_text_that_was_read_is_not_read_again_and_keeps_the_places_of_each_file(
    tmp_path: Path,
) -> None:
    old, new = write(tmp_path, "old.yaml", TWO), write(tmp_path, "new.yaml", TWO)
    read: Texts = {}
    (first, bad), (again, bad_again) = (read_manifests([path], read=read) for path in (old, new))
    assert (again, bad_again) == read_manifests([new])
    assert [m.place for m in first] == [f"{old}:3", f"{old}:11"]
    assert [one.body is other.body for one, other in zip(first, again, strict=True)] == [True] * 2
    assert bad[0].place.startswith(f"{old}:")


def test_an_object_in_a_list_keeps_its_own_line(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- kind: Namespace\n  metadata: {name: a}\n"
    text += "- kind: Namespace\n  metadata: {name: b}\n"
    manifests, _ = read_manifests([write(tmp_path, "list.yaml", text)])
    assert [m.place.rsplit(":", 1)[1] for m in manifests] == ["4", "6"]


@pytest.mark.parametrize(
    "text",
    [
        "kind: PodList\napiVersion: v1\nitems:\n- metadata: {name: a}\n",
        '{"kind": "PodList", "apiVersion": "v1", "items": [{"metadata": {"name": "a"}}]}',
    ],
    ids=["yaml", "json"],
)
def test_a_typed_list_gives_its_items_their_kind(tmp_path: Path, text: str) -> None:
    manifests, problems = read_manifests([write(tmp_path, "pods.yaml", text)])
    assert not problems
    assert [(m.body["kind"], m.body["apiVersion"]) for m in manifests] == [("Pod", "v1")]


def test_json_objects_may_follow_each_other(tmp_path: Path) -> None:
    text = (
        '{"kind": "Pod", "metadata": {"name": "a"}}\n{"kind": "Pod", "metadata": {"name": "b"}}\n'
    )
    manifests, _ = read_manifests([write(tmp_path, "pods.json", text)])
    assert [m.place.rsplit(":", 1)[1] for m in manifests] == ["1", "2"]


def test_flow_style_yaml_is_read_although_it_starts_like_json(tmp_path: Path) -> None:
    manifests, problems = read_manifests(
        [write(tmp_path, "a.yaml", "{kind: Pod, metadata: {name: a}}\n")]
    )
    assert not problems
    assert manifests[0].body["metadata"]["name"] == "a"


def test_a_folder_is_searched_through_and_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path, "b.yaml", "kind: Pod\nmetadata: {name: b}\n")
    write(tmp_path, "notes.txt", "not a manifest")
    write(tmp_path / "deep", "a.yml", "kind: Pod\nmetadata: {name: a}\n")
    manifests, _ = read_manifests([tmp_path])
    assert [m.body["metadata"]["name"] for m in manifests] == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("just words\n", "no kind"),
        ("kind: Pod\nmetadata: {}\n", "without metadata.name"),
        ("kind: Pod\nmetadata: !!python/object/apply:os.system ['true']\n", "not YAML"),
        ("a: 2024-99-99\nkind: Pod\n", "not YAML"),
    ],
)
def test_what_is_no_object_is_a_problem_with_a_reason(
    tmp_path: Path, text: str, message: str
) -> None:
    manifests, problems = read_manifests([write(tmp_path, "x.yaml", text)])
    assert not manifests
    assert message in str(problems[0])


def test_a_missing_path_and_an_empty_folder_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="no such file or folder; check the path"):
        read_manifests([tmp_path / "nowhere"])
    with pytest.raises(InventoryError, match="no manifest in this folder; give one"):
        read_manifests([tmp_path])
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"kind: \xff\n")
    with pytest.raises(InventoryError, match="not UTF-8"):
        read_manifests([path])


def test_numbers_are_read_as_kubectl_reads_them(tmp_path: Path) -> None:
    text = (
        "kind: Pod\nmetadata: {name: a}\nspec: {range: 20:25, port: 80, text: '80', ip: 10.0.0.1, "
    )
    text += "float: 1.5, zero: 0, negative: -1, when: 2026-01-01T00:00:00Z}\n"
    manifests, problems = read_manifests([write(tmp_path, "a.yaml", text)])
    assert not problems
    spec = manifests[0].body["spec"]
    assert (spec["range"], spec["port"], spec["text"]) == ("20:25", 80, "80")
    assert (spec["ip"], spec["float"], spec["zero"], spec["negative"]) == ("10.0.0.1", 1.5, 0, -1)


@pytest.mark.parametrize(
    "text",
    ["kind: Pod\nx: " + "[" * 100_000, '{"kind": "Pod", "x": ' + "[" * 100_000, "- " * 50_000 + "a",
     "x: " + "{a: " * 20_000, "".join(" " * n + "a:\n" for n in range(3_000))],
    ids=["yaml", "json", "sequence", "map", "block"],
)  # fmt: skip
def test_nesting_without_end_is_a_problem_and_no_crash(tmp_path: Path, text: str) -> None:
    good = "kind: Namespace\nmetadata: {name: a}\n"
    manifests, problems = read_manifests(
        [write(tmp_path, "deep.yaml", text), write(tmp_path, "good.yaml", good)]
    )
    assert [m.body["metadata"]["name"] for m in manifests] == ["a"]
    assert "deep.yaml:" in str(problems[0])


def test_many_brackets_that_do_not_nest_are_no_problem(tmp_path: Path) -> None:
    text = "kind: Pod\nmetadata: {name: a}\nspec:\n" + "- {a: [], b: '[[['}\n" * 2_000
    manifests, problems = read_manifests([write(tmp_path, "wide.yaml", text)])
    assert not problems
    assert len(manifests[0].body["spec"]) == 2_000


def test_a_document_may_begin_on_the_line_of_its_mark(tmp_path: Path) -> None:
    text = "--- {kind: Pod, metadata: {name: a}}\n--- # b\nkind: Pod\nmetadata: {name: b}\n---\n"
    manifests, problems = read_manifests([write(tmp_path, "a.yaml", text)])
    assert not problems
    assert [m.body["metadata"]["name"] for m in manifests] == ["a", "b"]
    assert [m.place.rsplit(":", 1)[1] for m in manifests] == ["1", "3"]


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "Pod", "metadata": {"name": "b"}, "x": ' + "[" * 600 + "]" * 600 + "}",
        "kind: Pod\nmetadata: {name: b}\nspec: &a {b: *a}\n",
        "&a [*a]\n",
        "&a {kind: List, items: [*a]}\n",
        "kind: List\nitems: &a [{kind: List, items: *a}]\n",
        "kind: Pod\nmetadata: {name: b}\nx: &a " + "[" * 300 + "]" * 300 + "\n"
        "y: " + "[" * 300 + "*a" + "]" * 300 + "\n",
    ],
    ids=["json", "in itself", "list in itself", "List in itself", "items", "through an alias"],
)
def test_what_nests_without_end_only_when_it_is_built_is_a_problem_too(
    tmp_path: Path, text: str
) -> None:
    good = "kind: Namespace\nmetadata: {name: a}\n"
    manifests, problems = read_manifests(
        [write(tmp_path, "deep.yaml", text), write(tmp_path, "good.yaml", good)]
    )
    assert [m.body["metadata"]["name"] for m in manifests] == ["a"]
    assert "nests deeper than 500 levels" in str(problems[0])


def test_anchors_that_expand_without_end_are_a_problem(tmp_path: Path) -> None:
    text = "kind: Pod\nmetadata: {name: a}\na0: &a0 [x, x]\n"
    text += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
    manifests, problems = read_manifests([write(tmp_path, "bomb.yaml", text)])
    assert not manifests
    assert "expand it to more than 1,000,000 values" in str(problems[0])
