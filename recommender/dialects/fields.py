"""The fields of a manifest, each with its path, so that a dialect can say where it is wrong.

Two kinds of trouble: what has a clear meaning all the same is said (`Field.say`) and read on; what
has none stops the reading of its rule (`Refused`), and leaves the whole object out.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recommender.addresses import cidr
from recommender.manifests import Manifest
from recommender.model import Finding, Policy, Ref

_SHORT = reprlib.Repr()
_SHORT.maxlevel = _SHORT.maxdict = _SHORT.maxlist = 2
_SHORT.maxstring = _SHORT.maxother = 80
LEFT_OUT = "this object is left out"


def shown(value: object) -> str:
    """A value for a message, cut short: aliases can make a small document an endless value."""
    return _SHORT.repr(value)


class Refused(Exception):  # noqa: N818 - a word of the API, as in kubernetes.py
    """A field that the API server would refuse, and without which its rule has no meaning."""

    def __init__(self, field: Field, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message

    def noted(self) -> None:
        """Add the finding to those of the object."""
        self.field.say(self.message, LEFT_OUT)


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a manifest, its path in it, the object, and where that object's findings go."""

    value: Any
    path: str
    ref: Ref
    findings: list[Finding]

    @property
    def given(self) -> bool:
        """Whether the field is there and not null; an empty list or map is there."""
        return self.value is not None

    def say(self, message: str, effect: str = "read all the same") -> None:
        """Note a finding about this field, and read on."""
        self.findings.append(Finding(self.ref.place or "", self.ref, self.path, message, effect))

    def __getitem__(self, key: str) -> Field:
        """The field under `key`; not given where this field is not."""
        path = f"{self.path}.{key}" if self.path else key
        # Only a key that YAML reads as no string needs the copy of the whole map.
        value = self.value.get(key) if isinstance(self.value, dict) else None
        value = self.mapping().get(key) if value is None else value
        return Field(value, path, self.ref, self.findings)

    def mapping(self) -> Mapping[str, Any]:
        """The map in this field; empty where it is not given."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise Refused(self, "must be a map")
        return {str(key): value for key, value in self.value.items()}

    def known(self, *keys: str) -> None:
        """Say which keys of this map are none of `keys`: the API server drops them unread."""
        for key in self.mapping():
            if key not in keys:
                self[key].say("no such field; the API server drops it, so it limits nothing")

    def items(self) -> Iterator[Field]:
        """The fields of the list in this field; none where it is not given."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise Refused(self, "must be a list")
        for i, value in enumerate(self.value):
            yield Field(value, f"{self.path}[{i}]", self.ref, self.findings)

    def text(self) -> str:
        """The string in this field; empty where it is not given. A bare scalar is said."""
        if self.value is None:
            return ""
        if isinstance(self.value, dict | list):
            raise Refused(self, "must be a string")
        if not isinstance(self.value, str):
            self.say(f"must be a string: write {shown(str(self.value))} in quotes")
        return str(self.value).lower() if isinstance(self.value, bool) else str(self.value)

    def texts(self) -> tuple[str, ...]:
        """The strings of the list in this field."""
        return tuple(item.text() for item in self.items())

    def flag(self) -> bool | None:
        """The boolean in this field; null where it is not given."""
        if self.value is not None and not isinstance(self.value, bool):
            raise Refused(self, "must be true or false")
        return self.value

    def number(self) -> float | None:
        """The number in this field; null where it is not given."""
        value = self.value
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if not isinstance(value, float) or not math.isfinite(value):
            raise Refused(self, "must be a number")
        return value

    def whole(self) -> int | None:
        """The whole number in this field; null where it is not given."""
        value = self.number()
        if isinstance(value, float):
            raise Refused(self, "must be a whole number")
        return value

    def block(self, *, or_address: bool = False) -> str:
        """The CIDR in this field, canonical; an address without a mask is said, unless allowed."""
        text = self.text()
        block = cidr(text)
        if block is None:
            raise Refused(self, f"{shown(text)} is not a CIDR")
        if "/" not in text and not or_address:
            self.say(f"must be a CIDR: write {block}")
        return str(block)


def kept(policies: Iterable[Policy], findings: Iterable[Finding]) -> tuple[Policy, ...]:
    """The policies of the objects in which nothing was refused: an object is taken whole or not."""
    refused = {finding.ref for finding in findings if finding.effect == LEFT_OUT}
    return tuple(policy for policy in policies if policy.ref not in refused)


def object_of(manifest: Manifest, api: str, findings: list[Finding], *, namespaced: bool) -> Field:
    """The whole of a manifest as a field; without a namespace it is in `default`, if in any."""
    metadata = manifest.body["metadata"]
    given = metadata.get("namespace") or "default"
    namespace = (given if isinstance(given, str) else shown(given)) if namespaced else None
    kind = str(manifest.body["kind"])
    ref = Ref(api, kind, namespace, str(metadata["name"]), manifest.place)
    return Field(manifest.body, "", ref, findings)
