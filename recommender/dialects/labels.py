"""Kubernetes label selectors and port names, to and from the model; refused as by the API server.

A selector is a tuple of requirements in canonical order, all of which must hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from recommender.dialects.fields import Field, Refused, shown
from recommender.model import And, Has, In, Not, Selector
from recommender.syntax import is_label_key, is_label_value

# apimachinery/pkg/util/validation: IsValidPortName.
_PORT_NAME = re.compile(r"(?=[0-9-]*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")


def requirements(selector: Field, prefix: str) -> tuple[Selector, ...]:
    """The requirements of a label selector on keys with `prefix`; null and {} have none."""
    selector.known("matchLabels", "matchExpressions")
    terms = {
        In(prefix + _key(labels, key), frozenset({_value(labels[str(key)])}))
        for labels in (selector["matchLabels"],)
        for key in labels.mapping()
    }
    terms_of = (_requirement(term, prefix) for term in selector["matchExpressions"].items())
    return ordered({*terms, *terms_of})


def ordered(terms: Iterable[Selector]) -> tuple[Selector, ...]:
    """Requirements by key, then by what they ask of it."""
    return tuple(sorted(terms, key=_order))


def _order(term: Selector) -> tuple[str, bool, bool, list[str]]:
    inner = term.term if isinstance(term, Not) else term
    values = sorted(inner.values) if isinstance(inner, In) else []
    return key_of(term), isinstance(term, Not), isinstance(inner, Has), values


def key_of(term: Selector) -> str:
    """The key that a requirement is about; empty where it is no requirement on one key."""
    inner = term.term if isinstance(term, Not) else term
    return inner.key if isinstance(inner, In | Has) else ""


def _requirement(term: Field, prefix: str) -> Selector:
    term.known("key", "operator", "values")
    key = prefix + _key(term["key"], term["key"].value)
    operator, given = term["operator"], term["values"]
    values = frozenset(_value(value) for value in given.items())
    match operator.value:
        case "In" | "NotIn":
            if not values:
                raise Refused(given, f"{operator.value} needs at least one value")
            # NotIn holds for an absent key too.
            return In(key, values) if operator.value == "In" else Not(In(key, values))
        case "Exists" | "DoesNotExist":
            if values:
                raise Refused(given, f"{operator.value} takes no values")
            return Has(key) if operator.value == "Exists" else Not(Has(key))
    raise Refused(operator, f"{shown(operator.value)} is not In, NotIn, Exists or DoesNotExist")


def _key(field: Field, key: object) -> str:
    if not isinstance(key, str) or not is_label_key(key):
        raise Refused(field, f"{shown(key)} is not a label key")
    return key


def _value(field: Field) -> str:
    if not isinstance(field.value, str) or not is_label_value(field.value):
        raise Refused(field, f"{shown(field.value)} is not a label value")
    return field.value


def port_name(field: Field) -> str:
    """The name of a container port."""
    if not isinstance(field.value, str) or not _PORT_NAME.fullmatch(field.value):
        raise Refused(
            field, f"{shown(field.value)} is not a port from 1 to 65535, nor a port's name"
        )
    return field.value


def port_number(field: Field) -> int:
    """The number of a port."""
    number = field.value
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 65535:
        raise Refused(field, f"{shown(number)} is not a port from 1 to 65535")
    return number


def flat(selector: Selector) -> Iterator[Selector]:
    """The requirements that a selector is the conjunction of."""
    if isinstance(selector, And):
        for term in selector.terms:
            yield from flat(term)
    else:
        yield selector


def label_selector(terms: Iterable[Selector], prefix: str) -> dict[str, Any]:
    """The label selector of those requirements whose keys have `prefix`; `{}` for none."""
    labels: dict[str, str] = {}
    expressions: list[dict[str, Any]] = []
    for term in terms:
        if not key_of(term).startswith(prefix):
            continue
        key = key_of(term).removeprefix(prefix)
        match term:
            case In(values=values) if len(values) == 1 and key not in labels:
                labels[key] = next(iter(values))
            case In(values=values):
                expressions.append({"key": key, "operator": "In", "values": sorted(values)})
            case Has():
                expressions.append({"key": key, "operator": "Exists"})
            case Not(term=In(values=values)):
                expressions.append({"key": key, "operator": "NotIn", "values": sorted(values)})
            case _:
                expressions.append({"key": key, "operator": "DoesNotExist"})
    out = {"matchLabels": labels, "matchExpressions": expressions}
    return {name: given for name, given in out.items() if given}
