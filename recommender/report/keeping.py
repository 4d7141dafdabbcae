"""YAML that people write in too: values change, their comments and their order stay."""

from __future__ import annotations

import difflib
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import SingleQuotedScalarString

from ingest.errors import FlowpolicyError
from recommender.manifests import is_ambiguous, rule_lines
from recommender.report.comments import EVIDENCE

_RULES = ("ingress", "egress", "ingressDeny", "egressDeny")


# A list that stands further in than the key that it belongs to.
_INDENTED = re.compile(r"^( *)[^ #-][^#\n]*: *\n(?: *#.*\n)*\1 +- ", re.MULTILINE)


def _yaml(text: str) -> YAML:
    """The reader and writer of a text, which keeps its way to indent lists."""
    yaml = YAML()
    offset = 2 if _INDENTED.search(text) else 0
    yaml.indent(mapping=2, sequence=2 + offset, offset=offset)
    yaml.width = 4096
    yaml.preserve_quotes = True
    return yaml


def rewritten(old: str, manifests: Sequence[dict[str, Any]], plain: str) -> str:
    """The old text with the values of the manifests; `plain` where the objects are others.

    Comments of people stay: where the lines that they stood at are gone, at the top of the file.
    The lines of evidence are those of `plain`.
    """
    yaml = _yaml(old)
    own = "".join(one for one in old.splitlines(keepends=True) if not _is_evidence(one))
    try:
        documents = list(yaml.load_all(own))
    except YAMLError:
        return plain
    if [_identity(one) for one in documents] != [_identity(one) for one in manifests]:
        return plain
    for document, manifest in zip(documents, manifests, strict=True):
        _put(document, manifest)
        _quote(document)
    text = io.StringIO()
    yaml.dump_all(documents, text)
    kept = text.getvalue()
    lost = Counter(_comments(own)) - Counter(_comments(kept))
    return "".join(f"{line}\n" for line in lost.elements()) + _with_evidence(kept, plain)


def _comments(text: str) -> list[str]:
    """The lines that are comments, without what is around them."""
    return [line.strip() for line in text.splitlines() if line.lstrip().startswith("#")]


def _is_evidence(line: str) -> bool:
    return EVIDENCE.fullmatch(line.rstrip("\r\n")) is not None


def _with_evidence(text: str, plain: str) -> str:
    """The text, its rules below the lines of evidence that the same rules of `plain` have."""
    lines, told = text.splitlines(keepends=True), plain.splitlines(keepends=True)
    of_text, of_plain = ([line for _, line in rule_lines(x, _RULES)] for x in (text, plain))
    for at, where in sorted(zip(of_text, of_plain, strict=True), reverse=True):
        if where and _is_evidence(told[where - 1]):
            indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
            lines.insert(at, f"{indent}{told[where - 1].strip()}\n")
    return "".join(lines)


def _quote(node: Any) -> None:
    """Quote what kubectl would take for no text, whoever wrote it plain."""
    places = node.items() if isinstance(node, dict) else enumerate(node)
    for place, value in list(places):
        if isinstance(value, (dict, list)):
            _quote(value)
        elif type(value) is str and is_ambiguous(value):
            node[place] = SingleQuotedScalarString(value)
    for at, key in enumerate(list(node) if isinstance(node, dict) else ()):
        if type(key) is str and is_ambiguous(key):
            node.insert(at, SingleQuotedScalarString(key), node.pop(key))


def kustomization(old: str, resources: Mapping[str, bool], path: Path) -> str:
    """The text of a kustomization whose resources list, or no longer list, the given files.

    Raises:
        FlowpolicyError: it is no YAML mapping with a list of resources.
    """
    yaml = _yaml(old)
    try:
        body = yaml.load(old)
    except YAMLError as error:
        raise FlowpolicyError(f"{path}: not YAML; mend it, and propose again") from error
    listed = body.setdefault("resources", []) if isinstance(body, dict) else None
    if not isinstance(listed, list):
        raise FlowpolicyError(f"{path}: its `resources` are no list; mend it, and propose again")
    before = list(listed)
    for name, stands in sorted(resources.items()):
        spelled = [one for one in listed if str(one).removeprefix("./") == name]
        if stands and not spelled:
            listed.append(name)
        for one in [] if stands else spelled:
            listed.remove(one)
    if listed == before:
        return old
    text = io.StringIO()
    yaml.dump(body, text)
    return text.getvalue()


def _identity(body: Any) -> tuple[Any, ...]:
    if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict):
        return (None,)
    meta = body["metadata"]
    return body.get("apiVersion"), body.get("kind"), meta.get("namespace"), meta.get("name")


def _put(old: Any, new: Mapping[str, Any]) -> None:
    """Make a mapping say what the new one says, with what it says already left in its place."""
    for key in [key for key in old if key not in new]:
        del old[key]
    for key, value in new.items():
        if key in old and old[key] == value:
            continue
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            _put(old[key], value)
        elif isinstance(value, list) and isinstance(old.get(key), list):
            _put_items(old[key], value)
        else:
            old[key] = value


def _put_items(old: Any, new: Sequence[Any]) -> None:
    """The same for a list: items that stay keep their comments, the others come and go."""
    before, after = (
        [json.dumps(one, sort_keys=True, default=str) for one in x] for x in (old, new)
    )
    steps = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    for tag, low, high, new_low, new_high in reversed(steps):
        if tag == "replace" and high - low == new_high - new_low:
            for at, value in zip(range(low, high), new[new_low:new_high], strict=True):
                if isinstance(old[at], dict) and isinstance(value, dict):
                    _put(old[at], value)
                else:
                    old[at] = value
        elif tag != "equal":
            for at in reversed(range(low, high)):
                del old[at]
            for offset, value in enumerate(new[new_low:new_high]):
                old.insert(low + offset, value)
