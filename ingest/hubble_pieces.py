"""Lines of Hubble cut into pieces that repeat and the few values that differ on every line.

    {"flow":{"time":"TIME","uuid":"UUID", HEAD "IP":{"source":"IP","destination":"IP" MIDDLE PORT,
    "destination_port":PORT TRANSPORT "source":{...}, "destination":{...}, TAIL TIME"}

A line whose pieces were all met before is known without decoding it. That is as safe as decoding:
an end is a whole JSON value, and the other pieces, a template, are tried with stand-ins for all
values. Where the careful reader finds each stand-in as the value that it stands for, any other
values of the same form in the same places are read the same, wherever the marks were found.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, NamedTuple

from ingest import hubble_ends
from ingest.batch import TROUBLE
from ingest.hubble_rows import PORTS, Reader
from ingest.hubble_wire import LINE, shape_of
from ingest.values import address, check_keys

Template = tuple[bytes, bytes, bytes, bytes]  # head, middle, transport, tail
TIME_LENGTH = len("2026-03-02T08:00:00.123456789Z")
START = re.compile(rb'\{"flow":\{"time":"([0-9T:.Z-]{30})"(?:, ?"uuid":"[0-9a-f-]{32,36}")?, ?')
VALUES = re.compile(
    rb'"IP":\{"source":"([0-9a-f.:]+)", ?"destination":"([0-9a-f.:]+)"'
    rb'([^l]*l4":\{"[A-Z]+":\{"source_port":)(0|[1-9][0-9]{0,4})'
    rb', ?"destination_port":(0|[1-9][0-9]{0,4})(?=[,}])'
)
ADDRESSES_MARK, TAIL_MARK = b'"IP":{"source":"', b'"Type":'
SOURCE_MARK, TARGET_MARK = b'"source":{', b'"destination":{'
END = b'"}\n'
_LIMIT_BYTES = 32 << 20
_FREE = 1_000  # templates


class Kind(NamedTuple):
    """What a template says: the key of its sign, as in hubble_rows.Reader, and the node's name."""

    sign: tuple[Any, ...]
    node: bytes


class Cut(NamedTuple):
    """A line in pieces."""

    template: Template
    source: bytes
    target: bytes
    addresses: tuple[bytes, bytes]


class Pieces:
    """Pieces by their bytes, each with its number: its place among what the pieces say.

    They are kept from block to block, for they say the same in each.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self.templates: dict[Template, int] = {}
        self.ends: dict[bytes, int] = {}
        self.addresses: dict[bytes, int] = {}
        self._kind_numbers: dict[Kind, int] = {}
        self.kinds: list[Kind] = []
        self.end_values: list[bytes] = []
        self.address_texts: list[bytes] = []
        self._bytes = 0
        self._lines = 0

    def begin(self, lines: int) -> None:
        """Before a block of so many lines: forget all where it is too much to keep."""
        if self._bytes > _LIMIT_BYTES:
            self.clear()
        self._lines += lines

    def learn(self, line: bytes) -> None:
        """Remember the pieces of a line; of one that is not in the usual form, nothing."""
        cut = _cut(line)
        if cut is None:
            return
        with suppress(*TROUBLE):
            flow = LINE.decode(line).flow or {}
            self._learn_end(b"source", cut.source, flow)
            self._learn_end(b"destination", cut.target, flow)
            for said in cut.addresses:
                if said not in self.addresses and address(said.decode()) is not None:
                    self.addresses[said] = len(self.address_texts)
                    self.address_texts.append(said)
                    self._bytes += 2 * len(said)
            # Where few lines are like others, learning costs more than it saves.
            if cut.template in self.templates or len(self.templates) > _FREE + self._lines // 4:
                return
            kind = _kind(cut.template) if shape_of(flow).columns else None
            if kind is not None:
                self.templates[cut.template] = self._kind_number(kind)
                self._bytes += sum(map(len, cut.template))

    def _kind_number(self, kind: Kind) -> int:
        number = self._kind_numbers.get(kind)
        if number is None:
            reader = Reader(None)  # which raises where it understands no such line
            reader.sign(kind.sign)
            reader.place(kind.node, None)
            number = self._kind_numbers[kind] = len(self.kinds)
            self.kinds.append(kind)
        return number

    def _learn_end(self, key: bytes, piece: bytes, flow: dict[str, Any]) -> None:
        if piece in self.ends:
            return
        value = bytes(flow.get(key.decode(), b""))
        whole = b'"%s":%s,' % (key, value)
        if piece in (whole, whole + b" "):
            hubble_ends.end(value)
            self.ends[piece] = len(self.end_values)
            self.end_values.append(value)
            self._bytes += 2 * len(piece)


PIECES = Pieces()


def _cut(line: bytes) -> Cut | None:
    """The line in pieces, as hubble_bulk cuts it; None where it has another form."""
    start = START.match(line)
    if start is None:
        return None
    at = line.find(ADDRESSES_MARK, start.end())
    found = VALUES.match(line, at) if at >= 0 else None
    if found is None or line[-TIME_LENGTH - len(END) :] != start[1] + END:
        return None
    source_ip, target_ip, middle, _, _ = found.groups()
    source = line.find(SOURCE_MARK, found.end())
    target = line.find(TARGET_MARK, source)
    tail = line.find(TAIL_MARK, target)
    return Cut(
        (
            line[start.end() : at],
            middle,
            line[found.end() : source],
            line[tail : -TIME_LENGTH - len(END)],
        ),
        line[source:target],
        line[target:tail],
        (source_ip, target_ip),
    )


def _kind(template: Template) -> Kind | None:
    """What a template says; None where the stand-ins are not read as what they stand for.

    Raises:
        UnreadableError, msgspec.DecodeError: the template makes no line, or has a key twice.
    """
    # Two sets of them: a line may hold the values of one by chance or by design, never of both.
    first = _tried(template, "1")
    return first if first is not None and first == _tried(template, "2") else None


def _tried(template: Template, digit: str) -> Kind | None:
    head, middle, transport, tail = template
    time, later = (b"200%s-01-01T00:00:0%d.000000000Z" % (digit.encode(), n) for n in (1, 2))
    source_ip, target_ip = b"10.0.0.%s" % digit.encode(), b"10.0.1.%s" % digit.encode()
    ports = 100 + int(digit), 200 + int(digit)
    source_end, target_end = (b'{"identity":%d}' % port for port in ports)
    uuid = digit.encode() * 32
    addresses = b'{"source":"%s","destination":"%s"' % (source_ip, target_ip)
    line = (
        b'{"flow":{"time":"%s","uuid":"%s",%s"IP":%s%s%d,"destination_port":%d%s'
        b'"source":%s,"destination":%s,%s%s"}'
        % (
            time,
            uuid,
            head,
            addresses,
            middle,
            *ports,
            transport,
            source_end,
            target_end,
            tail,
            later,
        )
    )
    if digit == "1":  # the other has the same keys
        check_keys(line)
    said = LINE.decode(line)
    flow = said.flow or {}
    shape = shape_of(flow)
    if shape.columns is None or not said.node_name or said.camel_node_name:
        return None
    found_time, ip, l4, source, target, *facts = map(bytes, shape.columns(flow))
    found = PORTS.fullmatch(l4)
    if (
        found is None
        or (int(found[2]), int(found[3])) != ports
        or (found_time, bytes(said.time)) != (b'"%s"' % time, b'"%s"' % later)
        or not ip.startswith(addresses)
        or (source, target) != (source_end, target_end)
    ):
        return None
    return Kind((shape, b",".join(facts), found[1], found[4]), bytes(said.node_name))
