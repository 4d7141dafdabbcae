"""The steps of `flowpolicy run`: commands, and their options as keys of a configuration.

A step's keys are the long options of its command without the dashes, and the names of its
arguments. So what a command can do a step can do, by the same words.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ingest.errors import FlowpolicyError
from recommender import cli

SCHEMA = "flowpolicy/run/1"
_ORDER = (
    *("ingest", "compact", "snapshot", "recommend", "check", "drift", "diff", "report", "suggest"),
)
_SHARED = ("store", "cluster", "inventory", "decisions", "engine")  # given once, for every step
_NOT_HERE = frozenset({"help", "output", "follow", "every", "edges"})
_TEXT: dict[str, Any] = {"type": "string"}


def steps() -> dict[str, click.Command]:
    """The commands that a run can take, in the order that it takes them."""
    context = click.Context(cli.group)
    found = {name: cli.group.get_command(context, name) for name in _ORDER if name in cli.COMMANDS}
    return {name: command for name, command in found.items() if command is not None}


def keys(command: click.Command) -> dict[str, click.Parameter]:
    """The keys of a step and the parameters that they set."""
    found: dict[str, click.Parameter] = {}
    for parameter in command.params:
        name = str(parameter.name)
        if isinstance(parameter, click.Option):
            name = max(parameter.opts, key=len).removeprefix("--")
        if name not in _NOT_HERE:
            found[name] = parameter
    return found


def schema() -> dict[str, Any]:
    """The JSON schema of the configuration."""
    properties: dict[str, Any] = {
        "schema": {"const": SCHEMA},
        "store": {**_TEXT, "description": "The flow store, for every step."},
        "cluster": {**_TEXT, "description": "The cluster, for every step."},
        "inventory": {**_list(_TEXT), "description": "Cluster objects, for every step."},
        "decisions": {**_TEXT, "description": "The file of decisions, for every step."},
        "engine": {**_TEXT, "description": "What reads logs and flows, for every step."},
        "lock": {**_TEXT, "description": "File that two runs cannot hold; STORE.lock if local."},
        "metrics": _mapping(
            {
                "textfile": {**_TEXT, "description": "Prometheus metrics into this file, .prom."},
                "pushgateway": {**_TEXT, "description": "Prometheus Pushgateway, its URL."},
            },
            "Where the figures of the run go.",
        ),
    }
    for name, command in steps().items():
        fields = {key: _property(one) for key, one in keys(command).items()}
        properties[name] = _mapping(fields, str(command.short_help))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flowpolicy run",
        **_mapping(properties, "One run of the batch job; steps run in the order given here."),
        "required": ["schema", "store"],
    }


def _mapping(properties: dict[str, Any], description: str) -> dict[str, Any]:
    shape = {"type": "object", "additionalProperties": False, "properties": properties}
    return {"description": description, **shape}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def _property(parameter: click.Parameter) -> dict[str, Any]:
    kind: dict[str, Any] = dict(_TEXT)
    if isinstance(parameter.type, click.Choice):
        kind = {"enum": list(parameter.type.choices)}
    elif getattr(parameter, "is_flag", False):
        kind = {"type": "boolean"}
    elif isinstance(parameter.type, click.types.IntParamType):
        kind = {"type": "integer"}
    elif isinstance(parameter.type, click.types.FloatParamType):
        kind = {"type": "number"}
    if parameter.multiple or parameter.nargs == -1:
        kind = _list(kind)
    help_ = getattr(parameter, "help", None)
    return {**kind, "description": help_} if help_ else kind


def checked(body: Any, path: Path) -> dict[str, Any]:
    """The configuration, if all of it is known.

    Raises:
        FlowpolicyError: a key is unknown, a value is of another type, or `schema` is another.
    """
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise FlowpolicyError(f"{path}: no configuration; its first line is `schema: {SCHEMA}`")
    _check(body, schema(), str(path))
    if not any(name in body for name in steps()):
        raise FlowpolicyError(f"{path}: has no step; add one of {', '.join(steps())}")
    return dict(body)


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def _check(value: Any, shape: Mapping[str, Any], place: str) -> None:
    if "enum" in shape and value not in shape["enum"]:
        raise FlowpolicyError(f"{place}: {value!r} is none of {', '.join(shape['enum'])}")
    kind = shape.get("type")
    if kind and (
        not isinstance(value, _TYPES[kind])
        or (kind != "boolean" and value in (True, False) and isinstance(value, bool))
    ):
        raise FlowpolicyError(f"{place}: {value!r} is no {kind}; mend it")
    if kind == "array":
        for number, one in enumerate(value, 1):
            _check(one, shape["items"], f"{place}, item {number}")
    if kind == "object":
        known = shape["properties"]
        for key, one in value.items():
            if key not in known:
                raise FlowpolicyError(f"{place}: unknown key {key!r}{_nearest(str(key), known)}")
            _check(one, known[key], f"{place}: {key}")
        for key in shape.get("required", ()):
            if key not in value:
                raise FlowpolicyError(f"{place}: {key!r} is missing; add it")


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def words(name: str, config: Mapping[str, Any]) -> list[str]:
    """A step as the words of its command: JSON on standard output, where it can."""
    command = steps()[name]
    own = config.get(name) or {}
    given = {**{key: config[key] for key in _SHARED if key in config}, **own}
    options: list[str] = []
    arguments: list[str] = []
    for key, parameter in keys(command).items():
        value = given.get(key)
        if value is None or value is False:
            continue
        values = value if isinstance(value, list) else [value]
        if isinstance(parameter, click.Argument):
            arguments += map(str, values)
        elif getattr(parameter, "is_flag", False):
            options.append(f"--{key}")
        else:
            options += [f"--{key}={one}" for one in values]
    if any(parameter.name == "output" for parameter in command.params):
        options.append("--output=json")
    return [*options, "--", *arguments]
