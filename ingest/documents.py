"""JSON that is not one record a line -> one record a line.

Seen in the field: an array of records; a list as an API answers it (`items` of Whisker, `flows` of
Goldmane, `hits.hits` of Elasticsearch); records that were printed over several lines (grpcurl, jq).
Line breaks can stand between the parts of a record and never inside a text, so a record becomes one
line by turning them into spaces. Nothing is decoded: only brackets are counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Literal

_LISTS = (b'"items"', b'"flows"', b'"hits"')
_DEEPEST_LIST = 2  # as hits.hits
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*("?)|[{}\[\]]', re.DOTALL)
_ARRAY = re.compile(rb"\s*\[\s*\{")
_LONG_LIST = re.compile(rb'\s*\{[^\[]*"(?:items|flows|hits)"\s*:\s*\[\s*\{')
_LONGEST_TEXT = 16 << 20  # bytes; a longer text is passed on as it is, for the reader to reject


def is_document(head: bytes) -> bool:
    """Whether a log is JSON, but does not hold one record a line.

    Args:
        head: the beginning of the log; its last line may be cut.
    """
    head = head.removeprefix(b"\xef\xbb\xbf")
    if _ARRAY.match(head) or _LONG_LIST.match(head):
        return True
    if not head.lstrip().startswith(b"{"):
        return False
    text = head.decode(errors="replace").lstrip()
    try:
        _, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return "\n" in text[:end]


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of a document with each record on a line of its own.

    Whatever stands around the records of a list is left out; what is no JSON stays, as a line.
    """
    split = _Split()
    for chunk in chunks:
        yield from filter(None, split.feed(chunk))
    if split.rest:
        yield split.rest


class _Split:
    """Where in a document the records begin and end; kept from chunk to chunk."""

    def __init__(self) -> None:
        self.rest = b""
        self._scanned = 0  # bytes of the rest that were looked at
        self._where: Literal["between", "record", "around"] = "between"
        self._depth = 0
        self._outer = 0  # depth around the record
        self._list = 0  # depth around the records of a list
        self._key = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The records that end in this chunk."""
        text = self.rest + chunk
        begin, scanned = 0, len(text)
        for token in _TOKEN.finditer(text, self._scanned):
            if token[0][:1] == b'"':
                if not token[1] and len(text) - token.start() < _LONGEST_TEXT:
                    scanned = token.start()  # the text goes on in the next chunk
                    break
                self._key = token[0]
                continue
            before = self._where
            self._step(token[0])
            if before == "between":
                end = token.start() if self._where == "record" else token.end()
                yield _line(text[begin : token.start()].strip(b", \t\r\n"))
                begin = end
            elif before == "around" or self._where != "record":
                if before == "record" and not (token[0] == b"[" and self._list):
                    yield _line(text[begin : token.end()])
                begin = token.end()
        self.rest, self._scanned = text[begin:], scanned - begin

    def _step(self, bracket: bytes) -> None:
        is_open = bracket in b"{["
        if self._where == "between":
            if bracket == b"{":
                self._where, self._outer = "record", self._depth
            elif bracket == b"]" and self._list and self._depth == self._list + 1:
                self._where = "around"
        elif self._where == "record" and bracket == b"[" and self._is_list():
            self._where, self._list = "between", self._depth
        if is_open:
            self._depth += 1
        elif bracket == b"]" or self._where != "between":
            self._depth = max(self._depth - 1, 0)
        if self._where == "record" and not is_open and self._depth <= self._outer:
            self._where = "between"
        elif self._where == "around" and self._depth == 0:
            self._where, self._list = "between", 0

    def _is_list(self) -> bool:
        """Whether the array that begins here holds the records: then what is around it is none."""
        return self._outer == 0 and self._depth <= _DEEPEST_LIST and self._key in _LISTS


def _line(record: bytes) -> bytes:
    return record.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n" if record else b""
