"""What the pieces of Hubble's lines say (see `hubble_cuts`), each found out once.

A line of which all pieces are known is known without decoding it. That is as safe as decoding: an
end and an interface are whole JSON values, and the other pieces, a template, are tried with
stand-ins for all values. Where the careful reader finds each stand-in as the value that it stands
for, any other values of the same form in the same places are read the same, wherever the line was
cut.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from ingest import hubble_ends
from ingest.batch import TROUBLE
from ingest.hubble_cuts import UUID_KEYS
from ingest.hubble_rows import ADDRESSES, PORTS, Reader
from ingest.hubble_wire import LINE, shape_of
from ingest.values import address, check_keys

Template = tuple[bytes, ...]
_END = re.compile(rb'"(?:source|destination)":(\{.*\}), ?', re.DOTALL)
_ADDRESS = re.compile(rb"[0-9a-f.:]+")
_LIMIT_BYTES = 32 << 20
_FREE = 1_000  # templates


class Kind(NamedTuple):
    """What a template says: the key of its sign, as in hubble_rows.Reader, and the node's name."""

    sign: tuple[Any, ...]
    node: bytes


class Pieces:
    """Pieces by their bytes, each with its number: its place among what the pieces say.

    They are kept from block to block, for they say the same in each. -1 is the number of what is
    not known.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._templates: dict[Template, int] = {}
        self._ends: dict[bytes, int] = {}
        self._addresses: dict[bytes, int] = {}
        self._interfaces: dict[bytes, int] = {}
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

    def end(self, piece: bytes) -> int:
        """The number of `"source":{...},` or `"destination":{...},` among `end_values`."""
        number = self._ends.get(piece)
        if number is None:
            number = -1
            if (found := _END.fullmatch(piece)) and _is_end(found[1]):
                number = len(self.end_values)
                self.end_values.append(found[1])
            self._ends[piece] = number
            self._bytes += 2 * len(piece)
        return number

    def address(self, piece: bytes) -> int:
        """The number of an address among `address_texts`."""
        number = self._addresses.get(piece)
        if number is None:
            number = -1
            if _is_address(piece):
                number = len(self.address_texts)
                self.address_texts.append(piece)
            self._addresses[piece] = number
            self._bytes += 2 * len(piece)
        return number

    def interface(self, piece: bytes) -> int:
        """0 for an object of whatever members, or for none; nothing of it is kept."""
        number = self._interfaces.get(piece)
        if number is None:
            number = self._interfaces[piece] = 0 if not piece or _is_object(piece) else -1
            self._bytes += len(piece)
        return number

    def template(self, pieces: Template) -> int:
        """The number of a template among `kinds`."""
        number = self._templates.get(pieces)
        if number is None:
            # Where few lines are like others, trying costs more than it saves.
            if len(self._templates) > _FREE + self._lines // 4:
                return -1
            number = self._templates[pieces] = self._kind_number(pieces)
            self._bytes += sum(map(len, pieces))
        return number

    def _kind_number(self, template: Template) -> int:
        try:
            kind = _kind(template)
            if kind is None:
                return -1
            if kind not in self._kind_numbers:
                reader = Reader(None)  # which raises where it understands no such line
                reader.sign(kind.sign)
                reader.place(kind.node, None)
                self._kind_numbers[kind] = len(self.kinds)
                self.kinds.append(kind)
        except TROUBLE:
            return -1
        return self._kind_numbers[kind]


PIECES = Pieces()


def _is_end(value: bytes) -> bool:
    try:
        hubble_ends.end(value)
    except TROUBLE:
        return False
    return True


def _is_object(value: bytes) -> bool:
    try:
        check_keys(value)
        return isinstance(msgspec.json.decode(value), dict)
    except TROUBLE:
        return False


def _is_address(text: bytes) -> bool:
    try:
        return _ADDRESS.fullmatch(text) is not None and address(text.decode()) is not None
    except TROUBLE:
        return False


def _kind(template: Template) -> Kind | None:
    """What a template says; None where the stand-ins are not read as what they stand for.

    Raises:
        UnreadableError, msgspec.DecodeError: the template makes no line, or has a key twice.
    """
    # Two sets of them: a line may hold the values of one by chance or by design, never of both.
    first = _tried(template, "1")
    return first if first is not None and first == _tried(template, "2") else None


def _tried(template: Template, digit: str) -> Kind | None:
    one = digit.encode()
    time, later = (b"200%s-01-01T00:00:0%d.000000000Z" % (one, n) for n in (1, 2))
    uuid = one * 32 if template[1] in UUID_KEYS else b""
    addresses = b"10.0.0." + one, b"10.0.1." + one
    ports = 100 + int(digit), 200 + int(digit)
    ends = [b'{"identity":%d}' % port for port in ports]
    interface = b'{"index":%s}' % one if template[-2] else b""
    values = [time, uuid, *addresses, *(b"%d" % port for port in ports),
              b'"source":%s,"destination":%s,' % tuple(ends), interface, later, b""]  # fmt: skip
    line = b"".join(piece + value for piece, value in zip(template, values, strict=True))
    if (not uuid and template[1]) or not line.endswith(later + b'"}\n'):
        return None
    if digit == "1":  # the other has the same keys
        check_keys(line[:-1])
    said = LINE.decode(line)
    flow = said.flow or {}
    shape = shape_of(flow)
    if shape.columns is None or not said.node_name or said.camel_node_name:
        return None
    found_time, ip, l4, source, target, *facts = map(bytes, shape.columns(flow))
    usual_ip, usual_l4 = ADDRESSES.fullmatch(ip), PORTS.fullmatch(l4)
    if (
        usual_ip is None
        or usual_ip.groups() != addresses
        or usual_l4 is None
        or (int(usual_l4[2]), int(usual_l4[3])) != ports
        or (found_time, bytes(said.time)) != (b'"%s"' % time, b'"%s"' % later)
        or [source, target, bytes(flow.get("interface", b""))] != [*ends, interface]
    ):
        return None
    return Kind((shape, b",".join(facts), usual_l4[1], usual_l4[4]), bytes(said.node_name))
