"""YAML that people write in too: values change, their comments and their order stay."""

from __future__ import annotations

import difflib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ingest.errors import FlowpolicyError
from recommender.report.comments import EVIDENCE

_RULES = frozenset({"ingress", "egress", "ingressDeny", "egressDeny"})


def _yaml() -> YAML:
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096
    yaml.preserve_quotes = True
    return yaml


def rewritten(old: str, manifests: Sequence[dict[str, Any]], plain: str) -> str:
    """The old text with the values of the manifests; `plain` where the objects are others.

    Comments of people stay: where the lines that they stood at are gone, at the top of the file.
    The lines of evidence are those of `plain`.
    """
    yaml = _yaml()
    own = "".join(one for one in old.splitlines(keepends=True) if not _is_evidence(one))
    try:
        documents = list(yaml.load_all(own))
    except YAMLError:
        return plain
    if [_identity(one) for one in documents] != [_identity(one) for one in manifests]:
        return plain
    for document, manifest in zip(documents, manifests, strict=True):
        _put(document, manifest)
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
    places = zip(_rule_lines(text), _rule_lines(plain), strict=True)
    for at, where in sorted(places, reverse=True):
        if where and _is_evidence(told[where - 1]):
            indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
            lines.insert(at, f"{indent}{told[where - 1].strip()}\n")
    return "".join(lines)


def _rule_lines(text: str) -> list[int]:
    """The lines, from 0, at which the rules of a file begin, in the order of the rules."""
    found = []
    for document in _yaml().load_all(text):
        spec = document.get("spec")
        for key in sorted(_RULES & spec.keys()) if isinstance(spec, dict) else ():
            if isinstance(spec[key], list):
                found += [spec[key].lc.item(at)[0] for at in range(len(spec[key]))]
    return found


def kustomization(old: str, resources: Mapping[str, bool], path: Path) -> str:
    """The text of a kustomization whose resources list, or no longer list, the given files.

    Raises:
        FlowpolicyError: it is no YAML mapping with a list of resources.
    """
    yaml = _yaml()
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
