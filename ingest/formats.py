"""FORMATS, one reader a log format, and detect(), which knows a format by its lines.

To add a format: a module with `decode(line)` and `parse(block, *, cluster)`, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from ingest import calico, goldmane, hubble, hubble_wire
from ingest.batch import TROUBLE, Batch


class Parse(Protocol):
    """A block of whole lines -> Batch, with no state between blocks."""

    def __call__(self, block: bytes, *, cluster: str | None = None) -> Batch:
        """Read a block."""
        ...


@dataclass(frozen=True)
class Format:
    """A log format: `decode` raises where a line is not of the format, `parse` never does."""

    decode: Callable[[bytes], Any]
    parse: Parse


FORMATS = {
    "hubble": Format(hubble_wire.decode, hubble.parse),
    "calico": Format(calico.decode, calico.parse),
    "goldmane": Format(goldmane.decode, goldmane.parse),
}

_LINES = 200


def detect(head: bytes) -> str | None:
    """The format of the first line that any format knows; None where none does.

    Args:
        head: the beginning of a log; the last line may be cut.
    """
    for line in islice(head.splitlines(), _LINES):
        for name, format_ in FORMATS.items():
            if _is_of(format_, line):
                return name
    return None


def _is_of(format_: Format, line: bytes) -> bool:
    try:
        format_.decode(line)
    except TROUBLE:
        return False
    return True
