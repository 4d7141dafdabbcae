"""Batch, what a format makes of a block of lines, and the loop over lines that all formats share.

A flow log repeats itself: a few hundred distinct endpoints, label sets and kinds of event stand
behind thousands of lines. So a format keeps each distinct group of values once, in a Pool, and a
row is a handful of numbers; Arrow copies the values out at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from ingest.schema import FLOWS, TIME
from ingest.values import UnreadableError

TEXT_LIMIT = 2_000
TROUBLE = (UnreadableError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Reject(NamedTuple):
    """A line that could not be understood; the fields are those of REJECTS."""

    line: int
    reason: str
    detail: str | None
    text: str


@dataclass(frozen=True)
class Batch:
    """What a block of lines holds; `lines` = flows + skipped + rejects, always.

    Args:
        flows: FLOWS; one row per record that describes traffic.
        skipped: lines that are understood and no flow, by reason; blank lines are among them.
        rejects: lines that are not understood; `line` counts from 1 within the block.
        lines: line breaks, and one more where the last line has none.
        absent: fields that recommendations need and that no flow of the block has.
        lost: events that the log itself says were lost.
    """

    flows: pa.Table
    skipped: dict[str, int]
    rejects: list[Reject]
    lines: int
    absent: frozenset[str] = field(default_factory=frozenset)
    lost: int = 0


class Pool:
    """Distinct groups of values, each kept once and known by its number."""

    def __init__(self, *columns: str) -> None:
        self.columns = columns
        self._numbers: dict[tuple[Any, ...], int] = {}

    def number(self, *values: Any) -> int:
        """The number of a group of values, in the order of the columns."""
        return self._numbers.setdefault(values, len(self._numbers))

    def arrays(self, numbers: Sequence[int], prefix: str = "") -> dict[str, pa.Array]:
        """Columns of FLOWS, one value for each of `numbers`."""
        rows = pa.array(numbers, pa.int32())
        values = list(zip(*self._numbers, strict=True)) or [()] * len(self.columns)
        named = ((prefix + name, kept) for name, kept in zip(self.columns, values, strict=True))
        return {name: pa.array(kept, FLOWS.field(name).type).take(rows) for name, kept in named}


def flows_table(columns: Mapping[str, Sequence[Any] | pa.Array], rows: int) -> pa.Table:
    """FLOWS from its columns; `time` and `end_time` in microseconds, `day` from `time`.

    A column that is not given is null throughout.
    """
    made: dict[str, pa.Array] = {}
    for column in FLOWS:
        given = columns.get(column.name)
        if given is None:
            made[column.name] = pa.nulls(rows, column.type)
        elif column.type == TIME:
            made[column.name] = pa.array(given, pa.int64()).cast(TIME)
        else:
            made[column.name] = pa.array(given, column.type)
    made["day"] = made["time"].cast(pa.date32())
    return pa.Table.from_arrays([made[name] for name in FLOWS.names], schema=FLOWS)


@dataclass
class Lines:
    """The lines of a block, each given to `add`, and what became of those that are no flow."""

    skipped: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    count: int = 0

    def read(self, block: bytes, add: Callable[[bytes], str | None]) -> None:
        """Give every line to `add`, which keeps a flow, returns why to skip it, or raises.

        msgspec does not look at the bytes of text that it skips, so what is not UTF-8 is found
        here: once for the block, and line by line only in a block that has any.
        """
        valid = _is_utf8(block)
        texts = block.split(b"\n")
        if not texts[-1]:
            texts.pop()
        self.count = len(texts)
        for number, line in enumerate(texts, 1):
            try:
                if not valid:
                    line.decode()
                reason = "blank line" if not line or line.isspace() else add(line)
            except TROUBLE as error:
                torn = number == self.count and not block.endswith(b"\n")
                self.rejects.append(_reject(number, line, error, torn=torn))
            else:
                if reason is not None:
                    self.skipped[reason] += 1


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _reject(number: int, line: bytes, error: Exception, *, torn: bool) -> Reject:
    reason, detail = _why(error)
    if b"\0" in line:
        detail = "holds NUL bytes"
    if torn and reason == "invalid JSON":
        reason = "torn last line"
    return Reject(number, reason, detail, shown(line))


def shown(line: bytes) -> str:
    """The beginning of a line as text for a person: what is no text is replaced."""
    cut = line[: 4 * TEXT_LIMIT].decode(errors="replace")
    return cut.replace("\0", "\N{SYMBOL FOR NULL}")[:TEXT_LIMIT]


def _why(error: Exception) -> tuple[str, str | None]:
    match error:
        case UnreadableError():
            return error.reason, error.detail
        case msgspec.ValidationError() if str(error).startswith("Expected `object`,"):
            return "not a flow record", str(error)[:200]
        case msgspec.ValidationError():
            return "wrong type", str(error)[:200]
        case UnicodeDecodeError():
            return "invalid UTF-8", f"byte {error.start + 1} of the line"
        case RecursionError():
            return "invalid JSON", "nested too deeply"
        case _:
            return "invalid JSON", str(error)[:200]
