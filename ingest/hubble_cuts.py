"""Where Hubble's lines are cut into pieces: a whole block at once, by a few marks in each line.

    {"flow":{"time":" TIME ","uuid":" UUID ",...,"IP":{"source":" IP ","destination":" IP
    ","ipVersion":"IPv4"},"l4":{"TCP":{"source_port": PORT ,"destination_port": PORT ...}},
    "source":{...}, "destination":{...}, "Type":...,"interface": {...} ,...,"time":" TIME "}

What stands between two values is a piece, and so is an end or an interface. Few pieces differ, so
Arrow's hash table numbers them, which is ten times as fast as looking at each line in Python. The
marks only say where to look: nothing here makes sure that a line means what its pieces seem to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Bytes = NDArray[np.uint8]

TIME_LENGTH = len("2026-03-02T08:00:00.123456789Z")
_START = len(b'{"flow":{"time":"')
_END = len(b'"}\n')
_HEAD = _START + TIME_LENGTH
_ADDRESSES = b'"IP":{"source":"'
_SOURCE, _TARGET, _TAIL = b'"source":{', b'"destination":{', b'"Type":'
_INTERFACE = b'"interface":'
UUID_KEYS = (b'","uuid":"', b'", "uuid":"')
_ADDRESS_KEY = len(b'","destination":"')
_PORT_KEY, _TARGET_PORT_KEY = len(b'"source_port":'), len(b',"destination_port":')
_MARGIN = 128  # bytes behind the ports, and more than any value and key here are long
_LONGEST_UUID, _LONGEST_ADDRESS, _LONGEST_PORT = 36, 45, 5

# Places of the pieces of a line; at the others are values, and what lies between two lines. A line
# without an interface has nothing there and in the piece behind it.
TEMPLATE = [0, 2, 4, 6, 8, 10, 12, 15, 17, 19]
SOURCE_IP, TARGET_IP, SOURCE, TARGET, INTERFACE = 5, 7, 13, 14, 16
_WIDTH = 21
_IS_PIECE = np.isin(np.arange(_WIDTH), [*TEMPLATE, SOURCE_IP, TARGET_IP, SOURCE, TARGET, INTERFACE])


def _others(alphabet: bytes) -> NDArray[np.bool_]:
    """Which bytes are not of an alphabet."""
    others = np.ones(256, np.bool_)
    others[list(alphabet)] = False
    return others


_NO_DIGIT = _others(b"0123456789")
_NO_UUID = _others(b"0123456789abcdef-")
_NO_ADDRESS = _others(b"0123456789abcdef.:")


@dataclass(frozen=True)
class Cuts:
    """Lines in pieces.

    Args:
        lines: places of the lines that were cut, among those that were given.
        pieces: a row a line: the place of each of its pieces among `texts`.
        texts: the distinct pieces.
        time: bytes of the time of each line, of which the line has a second one just like it.
        source_port, target_port: -1 where there is none, or not as JSON writes numbers.
    """

    lines: Numbers
    pieces: NDArray[np.int32]
    texts: list[bytes]
    time: Bytes
    source_port: Numbers
    target_port: Numbers


def cut(block: bytes, lines: Sequence[bytes], starts: Numbers) -> Cuts:
    """The lines that can be cut, in pieces.

    Args:
        block: bytes of lines, at most 2 GiB.
        lines: some of them.
        starts: where each of these begins in the block.
    """
    marks = _marks(lines)
    ends = np.fromiter(map(len, lines), np.int64, len(lines))
    found = np.flatnonzero((marks >= _HEAD).all(axis=0) & (ends - marks[1] >= _MARGIN))
    start = starts[found]
    end = start + ends[found]
    addresses, port, source, target, tail, interface, interface_end = marks[:, found] + start
    window = _Windows(block)
    uuid = start + _HEAD
    for key in UUID_KEYS:
        uuid = np.where(window.has(start + _HEAD, key), start + _HEAD + len(key), uuid)
    is_uuid = uuid > start + _HEAD
    uuid_end = uuid + is_uuid * window.run(uuid, _LONGEST_UUID, _NO_UUID)
    source_ip = addresses + len(_ADDRESSES)
    source_ip_end = source_ip + window.run(source_ip, _LONGEST_ADDRESS, _NO_ADDRESS)
    target_ip = source_ip_end + _ADDRESS_KEY
    target_ip += window.read(target_ip - 1, 1)[:, 0] == ord(":")
    target_ip_end = target_ip + window.run(target_ip, _LONGEST_ADDRESS, _NO_ADDRESS)
    source_port, source_port_end = window.number(port)
    target_port_at = source_port_end + _TARGET_PORT_KEY
    target_port_at += window.read(target_port_at - 1, 1)[:, 0] == ord('"')
    target_port, target_port_end = window.number(target_port_at)
    later = end - _END - TIME_LENGTH
    is_interface = window.has(interface - len(_INTERFACE), _INTERFACE)
    interface = np.where(is_interface, interface, later)
    interface_end = np.where(is_interface, interface_end, later)
    cuts = np.stack(
        [start, start + _START, start + _HEAD, uuid, uuid_end, source_ip, source_ip_end, target_ip,
         target_ip_end, port, source_port_end, target_port_at, target_port_end, source, target,
         tail, interface, interface_end, later, end - _END, end], axis=1
    )  # fmt: skip
    time = window.read(start + _START, TIME_LENGTH)
    is_same_time = (time == window.read(later, TIME_LENGTH)).all(axis=1)
    is_cut = is_same_time & (np.diff(cuts) >= 0).all(axis=1)
    pieces, texts = _numbered(block, cuts[is_cut])
    return Cuts(found[is_cut], pieces, texts, time[is_cut], source_port[is_cut],
                target_port[is_cut])  # fmt: skip


def _marks(lines: Sequence[bytes]) -> Numbers:
    """Where the addresses, the source port, both ends and what follows them begin in each line.

    And where the last object without another inside begins and ends, mostly the interface.
    """
    found: list[int] = []
    add = found.append
    for line in lines:
        find = line.find
        # One byte is found far faster than many, so the search for a mark begins at a byte of it,
        # or at the end of an object.
        add(at := find(_ADDRESSES, find(b"I", _HEAD) - 1))
        add((at := find(b"_", at)) - len('"source') + _PORT_KEY)
        add(at := find(_SOURCE, at))
        add(at := find(_TARGET, find(b"}", at)))
        add(find(_TAIL, find(b"}", at)))
        add(at := line.rfind(b"{"))
        add(find(b"}", at) + 1)
    return np.array(found, np.int64).reshape(-1, 7).T


def _numbered(block: bytes, cuts: Numbers) -> tuple[NDArray[np.int32], list[bytes]]:
    """The place of each piece among the distinct ones, and these."""
    if not len(cuts):
        return np.empty((0, _WIDTH), np.int32), []
    present = np.packbits(np.tile(_IS_PIECE, len(cuts)), bitorder="little")
    offsets = cuts.astype(np.int32)
    buffers = [pa.py_buffer(one) for one in (present, offsets, block)]
    found = pa.Array.from_buffers(pa.binary(), offsets.size - 1, buffers).dictionary_encode()
    numbers = np.frombuffer(found.indices.buffers()[1], np.int32, offsets.size - 1)
    return np.append(numbers, 0).astype(np.int32).reshape(-1, _WIDTH), found.dictionary.to_pylist()


class _Windows:
    """Bytes of a block at many places at once."""

    def __init__(self, block: bytes) -> None:
        self._block = block

    def read(self, at: Numbers, width: int) -> Bytes:
        """A row of `width` bytes for each place."""
        shape = (max(len(self._block) - width + 1, 0),)
        view = np.ndarray(shape, f"V{width}", self._block, strides=(1,))
        return view[at].view(np.uint8).reshape(-1, width)

    def has(self, at: Numbers, text: bytes) -> NDArray[np.bool_]:
        """Whether the text stands at each place."""
        found = np.equal(self.read(at, len(text)), np.frombuffer(text, np.uint8)).all(axis=1)
        return np.asarray(found, np.bool_)

    def run(self, at: Numbers, longest: int, others: NDArray[np.bool_]) -> Numbers:
        """How many bytes at each place are of an alphabet; 0 where too many are."""
        length: Numbers = others.take(self.read(at, longest + 1)).argmax(axis=1)
        return length

    def number(self, at: Numbers) -> tuple[Numbers, Numbers]:
        """The number at each place, and its end; -1 where it is none, or JSON would not say so."""
        window = self.read(at, _LONGEST_PORT + 1)
        length = _NO_DIGIT.take(window).argmax(axis=1)
        value = np.zeros(len(at), np.int64)
        for place in range(_LONGEST_PORT):
            is_digit = place < length
            value = np.where(is_digit, value * 10 + window[:, place] - ord("0"), value)
        is_good = (length == 1) | ((length > 1) & (window[:, 0] != ord("0")))
        return np.where(is_good, value, -1), at + length
