"""Kubernetes objects as dicts, each with the place it was read from; broken documents are named.

YAML goes through PyYAML's safe C loader, node by node, so that an object inside a `List` keeps its
own line, and document by document, so that a broken one costs only itself.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from recommender.errors import InventoryError

SUFFIXES = (".yaml", ".yml", ".json")
_KUSTOMIZE = ("kustomization.yaml", "kustomization.yml")


class _Loader(yaml.CSafeLoader):
    """YAML as kubectl reads it: `20:25` is a port range, not a number of base 60."""


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] not in _NUMBERS]
    for first, rules in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _NUMBERS[0],
    re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    _NUMBERS[1],
    re.compile(r"([-+]?([0-9][0-9_]*)?\.?[0-9]+([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN))$"),
    list("-+0123456789."),
)


class _Dumper(yaml.CSafeDumper):
    """Quotes each text that YAML 1.1, YAML 1.2 or kubectl would take for something else.

    Labels are often such: `on`, `yes`, or the `8e12345` of a commit.
    """


_Dumper.add_implicit_resolver(
    _NUMBERS[0],
    re.compile(
        r"[-+]?([0-9][0-9_.]*([eE][-+]?[0-9_]*)?|0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0b[01_]+)$"
    ),
    list("-+0123456789"),
)
_Dumper.add_implicit_resolver(
    _NUMBERS[1],
    re.compile(r"[-+]?\.([0-9_]+([eE][-+]?[0-9]+)?|inf|Inf|INF|nan|NaN|NAN)$"),
    list("-+."),
)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("[yYnN]$"), list("yYnN"))
MOST_LEVELS = 500  # a Kubernetes object has some twenty
TOO_DEEP = f"nests deeper than {MOST_LEVELS} levels"
_DEEP = re.compile(rf"(?:[-?] +){{{MOST_LEVELS}}}|^ {{{MOST_LEVELS}}}", re.MULTILINE)
MOST_VALUES = 1_000_000  # one object; etcd takes 1.5 MB
TOO_WIDE = f"its anchors expand it to more than {MOST_VALUES:,} values"
_DOCUMENT = re.compile(r"^---(?=\s|$)", re.MULTILINE)  # which may go on after the mark


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object as read, with its place (`file:line`)."""

    place: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """A document that could not be read; the rest of its file was."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}; the rest was read"


Texts = dict[bytes, list[Manifest | Problem]]  # by the hash of a text; places lack the file


def read_manifests(
    paths: Sequence[str | Path], *, may_be_empty: bool = False, read: Texts | None = None
) -> tuple[list[Manifest], list[Problem]]:
    """Every object in the files, folders (searched through) and `-` (standard input) given.

    Lists are opened. Objects come in the order of the paths, folders by name. Files that tell
    Kustomize what to build are no objects, and are passed over in folders. What is in `read` is not
    read again: files of one text share their bodies.

    Raises:
        InventoryError: a path does not exist or cannot be read, or a folder holds no manifest,
            unless it may.
    """
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    read = {} if read is None else read
    for path in paths:
        for name, text in _texts(path, may_be_empty):
            key = sha256(text.encode(errors="surrogatepass")).digest()
            if key not in read:
                reader = _json_objects if text.lstrip()[:1] in ("{", "[") else _yaml_objects
                read[key] = list(reader("", text))
            for found in read[key]:
                if isinstance(found, Problem):
                    problems.append(replace(found, place=f"{name}{found.place}"))
                else:
                    manifests.append(replace(found, place=f"{name}{found.place}"))
    return manifests, problems


def read_document(path: str | Path) -> Any:
    """The one document of a YAML file that is no manifest, as plain values.

    Raises:
        InventoryError: it cannot be read or is not YAML.
    """
    ((name, text),) = _texts(path, may_be_empty=False)
    try:
        return yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        what = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
        raise InventoryError(f"{name}: not YAML ({what}); mend it") from error


def document_text(body: Any) -> str:
    """Plain values as a YAML document, keys in their order."""
    return str(yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def manifests_text(bodies: Sequence[Mapping[str, Any]]) -> str:
    """Objects as YAML documents, in ASCII, a value a line."""
    return str(yaml.dump_all(bodies, Dumper=_Dumper, sort_keys=False, width=4096))


def is_ambiguous(text: str) -> bool:
    """Whether some reader of YAML takes the text for no text, unless it is quoted."""
    resolvers = _Dumper.yaml_implicit_resolvers
    rules = (*resolvers.get(text[:1], ()), *resolvers.get(None, ()))
    return any(rule.match(text) for _, rule in rules)


def rule_lines(text: str, directions: Sequence[str]) -> list[tuple[str, int]]:
    """Where the rules of each document begin: direction and line, from 0, by direction.

    Args:
        text: YAML documents.
        directions: the keys of `spec` whose items are rules.
    """
    found = []
    # Where rules begin does not ask of which type their values are.
    for document in yaml.compose_all(text, Loader=yaml.CBaseLoader):
        spec = _values(document).get("spec")
        for direction in directions:
            rules = _values(spec).get(direction)
            if isinstance(rules, yaml.SequenceNode):
                found += [(direction, rule.start_mark.line) for rule in rules.value]
    return found


def _values(node: yaml.Node | None) -> dict[str, yaml.Node]:
    """The values of a mapping by their keys; of anything else none."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: value for key, value in node.value if isinstance(key.value, str)}


def objects_of(path: Path) -> list[dict[str, Any]] | None:
    """The objects of one file; None where any of its documents cannot be read."""
    try:
        manifests, problems = read_manifests([path])
    except InventoryError:
        return None
    return None if problems else [manifest.body for manifest in manifests]


def list_text(bodies: Sequence[dict[str, Any]], *, is_json: bool) -> str:
    """Objects as one `List`, as `kubectl get -o yaml` or `-o json` prints it."""
    body = {"apiVersion": "v1", "kind": "List", "items": list(bodies)}
    if is_json:
        return json.dumps(body, indent=1) + "\n"
    return str(yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def _texts(path: str | Path, may_be_empty: bool) -> Iterator[tuple[str, str]]:
    if str(path) == "-":
        yield "standard input", sys.stdin.read()
        return
    root = Path(path)
    if not root.exists():
        raise InventoryError(f"{root}: no such file or folder; check the path")
    files = [root]
    if root.is_dir():
        files = sorted(p for p in root.rglob("*") if p.suffix in SUFFIXES and p.is_file())
        files = [file for file in files if file.name not in _KUSTOMIZE]
        if not files and not may_be_empty:
            raise InventoryError(
                f"{root}: no manifest in this folder; give one with .yaml, .yml or .json files"
            )
    for file in files:
        try:
            yield str(file), file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InventoryError(f"{file}: not UTF-8 text; give YAML or JSON") from error
        except OSError as error:
            raise InventoryError(f"{file}: {error.strerror}; check its permissions") from error


def _json_objects(name: str, text: str) -> Iterator[Manifest | Problem]:
    decoder = json.JSONDecoder()
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        line = text.count("\n", 0, at) + 1
        try:
            body, at = decoder.raw_decode(text, at)
        except RecursionError:
            yield Problem(f"{name}:{line}", TOO_DEEP)
            return
        except ValueError as error:
            if at == 0:
                yield from _yaml_objects(name, text)  # YAML in flow style starts like JSON
                return
            yield Problem(f"{name}:{line}", f"not JSON ({error})")
            return
        if trouble := _trouble(body, text):
            yield Problem(f"{name}:{line}", trouble)
            return
        yield from _opened(name, line, body)


def _yaml_objects(name: str, text: str) -> Iterator[Manifest | Problem]:
    marks = [(m.start(), m.end()) for m in _DOCUMENT.finditer(text)]
    starts = [0, *(end for _, end in marks)]
    ends = [*(start for start, _ in marks), len(text)]
    line, counted = 1, 0
    for start, end in zip(starts, ends, strict=True):
        line, counted = line + text.count("\n", counted, start), start
        document = text[start:end]
        if not document.strip():
            continue
        if is_too_deep(document):
            yield Problem(f"{name}:{line}", TOO_DEEP)
            continue
        try:
            yield from _document(name, line, document)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = line + (mark.line if mark else 0)
            what = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
            yield Problem(f"{name}:{where}", f"not YAML ({what})")


def is_too_deep(text: str) -> bool:
    """Whether a document nests deeper than libyaml's caller can follow: its stack would run out.

    Reading all events tells for sure and takes as long as reading the document, so only text with
    very many brackets, indicators in a row or leading blanks is looked at.
    """
    if max(text.count("["), text.count("{")) < MOST_LEVELS and not _DEEP.search(text):
        return False
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_LEVELS:
                return True
    except yaml.YAMLError:
        return False  # the reader says where
    return False


def _trouble(body: Any, text: str) -> str | None:
    """Why a value cannot be worked with: it is too deep, or grows too large behind its aliases.

    A value that holds itself, by an alias inside its own anchor, nests without end.
    """
    level, values = [body] if isinstance(body, dict | list) else [], 0
    for _ in range(MOST_LEVELS):
        values += sum(map(len, level))
        if values > max(MOST_VALUES, len(text)):  # without aliases a value takes a character
            return TOO_WIDE
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [each for one in inner for each in one if isinstance(each, (dict, list))]
        if not level:
            return None
    return TOO_DEEP


def _document(name: str, line: int, text: str) -> Iterator[Manifest | Problem]:
    loader = _Loader(text)
    tree = "&" not in text  # without anchors no value stands in two places, nor in itself
    try:
        node = loader.get_single_node()
        if node is None:
            return
        listed = _list_of(node)
        for item in (node,) if listed is None else listed.items:
            body = _built(loader, item, _SHALLOW) if tree else loader.construct_document(item)
            at = line + item.start_mark.line
            if trouble := _trouble(body, text):
                yield Problem(f"{name}:{at}", trouble)
            else:
                yield from _opened(name, at, _typed(body, listed))
    except ValueError as error:  # a value that YAML's own constructors refuse (a bad date, say)
        if isinstance(error, yaml.YAMLError):
            raise
        yield Problem(f"{name}:{line}", f"not YAML ({error})")
    finally:
        loader.dispose()


_TAG = "tag:yaml.org,2002:"
_SHALLOW = 50  # levels


def _built(loader: _Loader, node: yaml.Node, levels: int) -> Any:
    """The value of a node, as the loader makes it; sooner where it is plain."""
    match node:
        case yaml.ScalarNode() if node.tag == f"{_TAG}str":
            return node.value
        case yaml.SequenceNode() if node.tag == f"{_TAG}seq" and levels:
            return [_built(loader, each, levels - 1) for each in node.value]
        case yaml.MappingNode() if node.tag == f"{_TAG}map" and levels:
            if all(isinstance(k, yaml.ScalarNode) and k.tag == f"{_TAG}str" for k, _ in node.value):
                return {k.value: _built(loader, each, levels - 1) for k, each in node.value}
    return loader.construct_document(node)


@dataclass(frozen=True, slots=True)
class _ListOf:
    kind: str
    api: str | None
    items: tuple[yaml.Node, ...]


def _list_of(node: yaml.Node) -> _ListOf | None:
    """The parts of a `List` document, or None where the document is one object."""
    if not isinstance(node, yaml.MappingNode):
        return None
    fields = {k.value: v for k, v in node.value if isinstance(k, yaml.ScalarNode)}
    kind, items, api = fields.get("kind"), fields.get("items"), fields.get("apiVersion")
    if not isinstance(kind, yaml.ScalarNode) or not kind.value.endswith("List"):
        return None
    if not isinstance(items, yaml.SequenceNode):
        return None
    version = api.value if isinstance(api, yaml.ScalarNode) else None
    return _ListOf(kind.value, version, tuple(items.value))


def _typed(item: Any, listed: _ListOf | None) -> Any:
    """The item with the kind that a typed list (`PodList`) leaves out of its items."""
    kind = listed.kind.removesuffix("List") if listed else ""
    if listed and kind and isinstance(item, dict):
        return {"kind": kind, "apiVersion": listed.api, **item}
    return item


def _opened(name: str, line: int, body: Any) -> Iterator[Manifest | Problem]:
    place = f"{name}:{line}"
    if body is None:
        return
    if isinstance(body, list):
        for item in body:
            yield from _opened(name, line, item)
        return
    if isinstance(body, dict) and str(body.get("schema")).startswith("flowpolicy/"):
        return  # the evidence that `recommend` writes beside its policies
    if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
        yield Problem(place, "not a Kubernetes object (no kind)")
        return
    kind = body["kind"]
    if kind.endswith("List") and isinstance(body.get("items"), list):
        for item in body["items"]:
            yield from _opened(name, line, _typed(item, _ListOf(kind, body.get("apiVersion"), ())))
        return
    metadata = body.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        yield Problem(place, f"a {kind} without metadata.name")
        return
    yield Manifest(place, body)
