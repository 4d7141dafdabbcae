"""The staged or audit form of our policies -> the enforcing one, in the very text of their files.

Nothing is written anew: what has to change is found by the places of YAML's nodes, so comments,
quotes, order and every other byte stay. The new text is read again before it is believed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from recommender.errors import PolicyError
from recommender.manifests import TOO_DEEP, is_too_deep
from recommender.rollout import ENFORCING, SOFT, Identity, enforce, identity, judged, shown

_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Enforced:
    """The text of a file with its policies in the enforcing form.

    `objects` names every object that stands in it (API group, kind, namespace, name); `changed`,
    `already` and `left` are sentences, one a policy.
    """

    text: str
    objects: tuple[Identity, ...]
    changed: tuple[str, ...]
    already: tuple[str, ...]
    left: tuple[str, ...]


Pair = tuple[yaml.Node, yaml.Node]
Edit = tuple[int, int, str]


def enforced(name: str, text: str) -> Enforced:
    """The text of one file with our policies in the enforcing form.

    Args:
        name: of the file, for messages.
        text: YAML or JSON; several documents and Lists are read through.

    Raises:
        PolicyError: the text is no YAML, or is written in a way (aliases, merged keys) in which the
            form cannot be changed without changing more.
    """
    bare = text.removeprefix(_BOM)
    edits: set[Edit] = set()
    said: dict[str, list[str]] = {"changed": [], "already": [], "left": []}
    documents = _documents(name, bare)
    expected = [_values(name, document) for document in documents]
    objects = []
    for document, value in zip(documents, expected, strict=True):
        for node, body in _objects(document, value):
            how, why = judged(body)
            line = f"{name}:{node.start_mark.line + 1}"
            if how == "changed":
                edits |= set(_edits(node, bare))
                enforce(body)
            objects.append(identity(body))
            if how != "no policy":
                said[how].append(f"{line}: {shown(body)}: {why}")
    after = _applied(bare, edits)
    if edits and [_values(name, one) for one in _documents(name, after)] != expected:
        raise PolicyError(
            f"{name}: its policies share parts by aliases or merged keys, or a field stands in an "
            "unusual form, so it cannot be changed without changing more; write the parts out"
        )
    lines = {key: tuple(found) for key, found in said.items()}
    return Enforced(text[: len(text) - len(bare)] + after, tuple(objects), **lines)


def _documents(name: str, text: str) -> list[yaml.Node]:
    if is_too_deep(text):
        raise PolicyError(f"{name}: {TOO_DEEP}; mend it")
    try:
        return [node for node in yaml.compose_all(text, Loader=yaml.CSafeLoader) if node]
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{name}:{mark.line + 1}" if mark else name
        what = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
        raise PolicyError(f"{place}: not YAML ({what}); mend it") from error


def _values(name: str, node: yaml.Node) -> Any:
    """The values of a document."""
    loader = yaml.CSafeLoader("")
    try:
        return copy.deepcopy(loader.construct_document(node))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
        raise PolicyError(f"{name}: not YAML ({what}); mend it") from error
    finally:
        loader.dispose()


def _objects(node: yaml.Node, value: Any) -> Iterator[tuple[yaml.MappingNode, dict[str, Any]]]:
    """Each object of a document, as node and as values; those of a List one by one."""
    if not isinstance(node, yaml.MappingNode) or not isinstance(value, dict):
        return
    items = _pair(node, "items")
    if str(value.get("kind")).endswith("List") and items and isinstance(value["items"], list):
        for inner, body in zip(items[1].value, value["items"], strict=True):
            yield from _objects(inner, body)
    elif isinstance(value.get("metadata"), dict):
        yield node, value


# --- text ---------------------------------------------------------------------------------------


def _edits(node: yaml.MappingNode, text: str) -> Iterator[Edit]:
    """The change that is wanted, in the text."""
    kind = _pair(node, "kind")
    if kind and (now := ENFORCING.get(kind[1].value)):
        start, end = kind[1].start_mark.index, kind[1].end_mark.index
        written = text[start:end]
        yield start, end, written.replace(kind[1].value, now)
        spec = _pair(node, "spec")
        if spec and isinstance(spec[1], yaml.MappingNode):
            yield from _without(spec[1], {"stagedAction"}, text)
        return
    one, many = _pair(node, "spec"), _pair(node, "specs")
    for spec_node in (*([one[1]] if one else []), *(many[1].value if many else ())):
        flags = _pair(spec_node, SOFT) if isinstance(spec_node, yaml.MappingNode) else None
        if flags is None or not isinstance(flags[1], yaml.MappingNode):
            continue
        inner = flags[1].value
        off = {key.value for key, on in inner if _is_false(on)}
        if len(off) == len(inner):
            yield from _without(spec_node, {SOFT}, text)
        else:
            yield from _without(flags[1], off, text)


def _is_false(node: yaml.Node) -> bool:
    return node.tag == "tag:yaml.org,2002:bool" and node.value.lower() in ("false", "no", "off")


def _pair(node: yaml.MappingNode, key: str) -> Pair | None:
    return next((pair for pair in node.value if pair[0].value == key), None)


def _without(node: yaml.MappingNode, keys: set[str], text: str) -> Iterator[Edit]:
    """The removal of some keys of a map, each with its value."""
    pairs: Sequence[Pair] = node.value
    for at, (key, value) in enumerate(pairs):
        if key.value not in keys:
            continue
        start, end = key.start_mark.index, _end(value)
        if node.flow_style and at + 1 < len(pairs):
            yield start, pairs[at + 1][0].start_mark.index, ""
        elif node.flow_style:  # the last, or all that is left, goes with the comma before it
            kept = [pair for pair in pairs[:at] if pair[0].value not in keys]
            yield (_end(kept[-1][1]) if kept else start), end, ""
        else:
            yield _line(text, start, end)


def _line(text: str, start: int, end: int) -> Edit:
    """The removal of an entry and of its line or lines; a comment that follows it stays."""
    while text[end : end + 1] in (" ", "\t"):
        end += 1
    began = text.rfind("\n", 0, start) + 1
    if text[end : end + 1] == "#" or text[began:start].strip():
        return start, end, ""
    newline = text.find("\n", end)
    if text[end : newline if newline >= 0 else None].strip():
        return start, end, ""  # not a line of its own; the reading afterwards judges
    return began, newline + 1 if newline >= 0 else len(text), ""


def _end(node: yaml.Node) -> int:
    """Where a value's text ends: a block's own mark stands beyond the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    return int(node.end_mark.index)


def _applied(text: str, edits: Iterable[Edit]) -> str:
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text
