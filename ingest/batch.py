"""Batch, what a format makes of a block of lines, and the loop over lines that all formats share.

Every line ends in one of three ways: as a flow, skipped for a reason, or as a reject.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from ingest.values import UnreadableError
from ingest.wrappers import PART

TEXT_LIMIT = 2_000
_SECRETS = re.compile(r"((?:headers|process_?args)[\\\"]*)\s*:.*", re.DOTALL | re.IGNORECASE)
_QUERY = re.compile(r"(?:\?|\\u003f)[^\s\"]+", re.IGNORECASE)
_USER = re.compile(r":[\\/]{2,6}[^/?#\s\"]*@")
TROUBLE = (UnreadableError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Reject(NamedTuple):
    """A line that could not be understood; the fields are those of REJECTS."""

    line: int
    reason: str
    detail: str | None
    text: str


class Gap(NamedTuple):
    """Traffic that the log says it missed; the fields are those of GAPS."""

    cluster: str | None
    node: str | None
    time: int | None
    end_time: int | None
    kind: str
    reason: str | None = None
    lost: int | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Batch:
    """What a block of lines holds; `lines` = flows + skipped + rejects, always.

    Args:
        flows: FLOWS; one row per record that describes traffic.
        skipped: lines that are understood and no flow, by reason; blank lines are among them.
        rejects: lines that are not understood; `line` counts from 1 within the block.
        lines: line breaks, and one more where the last line has none.
        absent: fields that recommendations need and that no flow of the block has.
        gaps: what the log itself says it missed; such lines are among the skipped.
    """

    flows: pa.Table
    skipped: dict[str, int]
    rejects: list[Reject]
    lines: int
    absent: frozenset[str] = field(default_factory=frozenset)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Events that the log itself says were lost."""
        return sum(gap.lost or 0 for gap in self.gaps)


class Lines:
    """The lines of a block, and what became of those that are no flow.

    Args:
        block: the bytes of them all.
        count: of the lines.
        starts: where each line begins in the block.
        numbers: of the lines that may be read, from 1.
        texts: their bytes.
        skipped: lines that are understood and no flow, by reason.
        rejects: lines that are not understood.
    """

    def __init__(self, block: bytes) -> None:
        self.block = block
        self.texts = BytesIO(block).readlines()
        self.count = len(self.texts)
        self.numbers: Sequence[int] = range(1, self.count + 1)
        lengths = np.fromiter(map(len, self.texts), np.int64, self.count)
        self.starts = lengths.cumsum() - lengths
        self.skipped: Counter[str] = Counter()
        self.rejects: list[Reject] = []
        self._parts: dict[bytes, list[tuple[int, bytes]]] = {}  # by stream
        # msgspec does not look at the bytes of text that it skips, so what is not UTF-8 is found
        # here: once for the block, and line by line only in a block that has any.
        if not _is_utf8(block):
            pairs = zip(self.numbers, self.texts, strict=True)
            good = [pair for pair in pairs if self._is_text(*pair)]
            self.numbers, self.texts = [n for n, _ in good], [line for _, line in good]

    def give(self, add: Callable[[int, bytes], str | None], number: int, line: bytes) -> None:
        """Give a line to `add`, which keeps a flow, returns why to skip it, or raises.

        Lines are given in order, for a line that a container runtime cut up is put together first.
        """
        if line[:1] != b"{":
            whole = self._joined(number, line)
            if whole is None:
                return
            line = whole
        try:
            reason = "blank line" if line.isspace() else add(number, line)
        except TROUBLE as error:
            self.rejects.append(_reject(number, line, error))
        else:
            if reason is not None:
                self.skipped[reason] += 1

    def finish(self) -> None:
        """After the last line was given: parts that no last part followed are rejects."""
        for number, line in chain.from_iterable(self._parts.values()):
            error = UnreadableError("partial line", "the container runtime cut the line up")
            self.rejects.append(_reject(number, line, error))

    def _joined(self, number: int, line: bytes) -> bytes | None:
        """The whole line where this is its last part or all of it, else None."""
        found = PART.match(line)
        if found is None:
            return line
        parts = self._parts.setdefault(found[1], [])
        if found[2] == b"P":
            parts.append((number, line))
            return None
        texts = [PART.sub(b"", text, count=1).rstrip(b"\r\n") for _, text in parts]
        if parts:
            self.skipped["part of a line"] += len(parts)
            parts.clear()
        return b"".join([*texts, line[found.end() :]])

    def _is_text(self, number: int, line: bytes) -> bool:
        try:
            line.decode()
        except UnicodeDecodeError as error:
            self.rejects.append(_reject(number, line, error))
            return False
        return True

    def read(self, add: Callable[[int, bytes], str | None]) -> None:
        """Give every line to `add`."""
        for number, line in zip(self.numbers, self.texts, strict=True):
            self.give(add, number, line)
        self.finish()


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _reject(number: int, line: bytes, error: Exception) -> Reject:
    reason, detail = _why(error)
    if b"\0" in line:
        detail = "holds NUL bytes"
    if reason == "invalid JSON" and not line.endswith(b"\n"):
        reason = "torn last line"
    return Reject(number, reason, detail, shown(line.rstrip(b"\r\n")))


def shown(line: bytes) -> str:
    """The beginning of a line as text for a person: what is no text is replaced."""
    cut = line[: 4 * TEXT_LIMIT].decode(errors="replace")
    return redacted(cut.replace("\0", "\N{SYMBOL FOR NULL}"))[:TEXT_LIMIT]


def redacted(text: str) -> str:
    """A line without what can hold secrets; rather too much is left out than too little.

    That is all from HTTP headers or a process's arguments on, the query of a URL, and its user.
    """
    text = _SECRETS.sub(r"\1: (left out)", text)
    return _USER.sub("://", _QUERY.sub("?(left out)", text))


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
