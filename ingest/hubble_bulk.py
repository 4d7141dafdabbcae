"""The lines of a block, quickly as long as they are made of pieces that were met before.

The quick way knows values by their bytes (`hubble_pieces`), and works out the rest for many lines
at once. A line with anything new or unusual goes to `Reader.row`, which is several times slower,
takes every spelling, and gives the same (a test compares the two on every line).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.batch import Lines
from ingest.hubble_cuts import INTERFACE, SOURCE, SOURCE_IP, TARGET, TARGET_IP, TEMPLATE, Bytes, cut
from ingest.hubble_pieces import PIECES, Pieces
from ingest.hubble_rows import Reader, Row
from ingest.hubble_signs import EPHEMERAL, Sign
from ingest.values import MICROSECONDS, UnreadableError, second

Rows = NDArray[np.int64]
_WIDTH = 1 + len(Row._fields)
_HIGHEST_PORT = 65_535
_REPLY = (None, False, True)
_MARKS = np.frombuffer(b"--T::.Z", np.uint8)
_MARK_PLACES = [4, 7, 10, 13, 16, 19, 29]
_DIGIT_PLACES = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, *range(20, 29)]
# Worth of the digits of hour, minute, second and microsecond, in microseconds.
_WORTH = np.array(
    [
        *(n * MICROSECONDS for n in (36_000, 3_600, 600, 60, 10, 1)),
        *(10**n for n in range(5, -1, -1)),
    ]
)


def read(reader: Reader, lines: Lines, pieces: Pieces = PIECES) -> Rows:
    """The flows of all lines: number of the line, and Row."""
    others: list[tuple[int, ...]] = []

    def other(number: int, line: bytes) -> str | None:
        row = reader.row(line)
        if isinstance(row, str):
            return row
        others.append((number, *row))
        return None

    try:
        reader.place(b"", None)
    except UnreadableError:  # no cluster can have the name that was given
        lines.read(other)
        return np.array(others, np.int64).reshape(-1, _WIDTH)
    pieces.begin(len(lines.texts))
    places, found, time = _known(lines, pieces)
    is_other = np.ones(len(lines.texts), np.bool_)
    is_other[places] = False
    for place in np.flatnonzero(is_other).tolist():
        lines.give(other, lines.numbers[place], lines.texts[place])
    lines.finish()
    rows = _rows(reader, pieces, found, time, lines)
    return np.concatenate([rows, np.array(others, np.int64).reshape(-1, _WIDTH)])


def _known(lines: Lines, pieces: Pieces) -> tuple[Rows, Rows, Rows]:
    """Lines of which all pieces are known.

    Returns:
        Their places among those that may be read; of each its number, then those of template,
        source and destination and their addresses, and both ports; and their times.
    """
    numbers = np.array(lines.numbers, np.int64)
    cuts = cut(lines.block, lines.texts, lines.starts[numbers - 1])
    texts, columns = cuts.texts, cuts.pieces.T
    kinds, templates = _distinct(cuts.pieces[:, TEMPLATE])
    found = np.stack([
        numbers[cuts.lines],
        _each(kinds, lambda n: pieces.template(tuple(texts[at] for at in templates[n]))),
        *(_each(columns[at], lambda n: pieces.end(texts[n])) for at in (SOURCE, TARGET)),
        *(_each(columns[at], lambda n: pieces.address(texts[n])) for at in (SOURCE_IP, TARGET_IP)),
        cuts.source_port,
        cuts.target_port,
    ])  # fmt: skip
    interface = _each(columns[INTERFACE], lambda n: pieces.interface(texts[n]))
    time = _microseconds(cuts.time)
    is_good = (found >= 0).all(axis=0) & (interface == 0)
    is_good &= (time >= 0) & (found[6:] <= _HIGHEST_PORT).all(axis=0)
    return cuts.lines[is_good], found[:, is_good], time[is_good]


def _distinct(rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], list[list[int]]]:
    """The place of each row among the distinct ones, and these."""
    type_ = pa.binary(rows.itemsize * rows.shape[1])
    buffer = pa.py_buffer(np.ascontiguousarray(rows))
    found = pa.Array.from_buffers(type_, len(rows), [None, buffer]).dictionary_encode()
    distinct = np.frombuffer(b"".join(found.dictionary.to_pylist()), rows.dtype)
    numbers = np.frombuffer(found.indices.buffers()[1], np.int32, len(rows))
    return numbers, distinct.reshape(-1, rows.shape[1]).tolist()


def _rows(reader: Reader, pieces: Pieces, found: Rows, time: Rows, lines: Lines) -> Rows:
    """Rows of the columns that _known found, with the initiator as `src`; skips are counted."""
    if not len(time):
        return np.empty((0, _WIDTH), np.int64)
    sign = _each(found[1], lambda n: reader.sign(pieces.kinds[n].sign))
    signs = [seen for _, seen in reader.signs]
    is_skip = np.array([seen.skip is not None for seen in signs])[sign]
    for number in sign[is_skip].tolist():
        lines.skipped[str(signs[number].skip)] += 1
    time, sign = time[~is_skip], sign[~is_skip]
    numbers, template, source, target, *addresses, source_port, target_port = found[:, ~is_skip]
    source_port, target_port = (np.where(of == 0, -1, of) for of in (source_port, target_port))
    source, target = (
        _each(of, lambda n: reader.end_number(pieces.end_values[n])) for of in (source, target)
    )
    source_ip, target_ip = (
        _each(of, lambda n: reader.ip_number(pieces.address_texts[n])) for of in addresses
    )
    signs = [seen for _, seen in reader.signs]
    reply = _replies(signs, sign, source_port, target_port)
    src, dst = _turned(reply, source, target)
    src_ip, dst_ip = _turned(reply, source_ip, target_ip)
    src_port, dst_port = _turned(reply, source_port, target_port)
    clusters: dict[str | None, int] = {None: 0}  # number 0 is no cluster
    number, local, cluster = np.array(
        [
            (number, end.local, clusters.setdefault(end.cluster, len(clusters)))
            for number, end in reader.seen_ends
        ],
        np.int64,
    ).reshape(-1, 3).T  # fmt: skip
    fact = _each(
        ((sign * 3 + reply) * 2 + local[src]) * 2 + local[dst],
        lambda n: reader.fact(
            n // 12, _REPLY[n // 4 % 3], src_local=n & 2 > 0, dst_local=n & 1 > 0
        ),
    )
    # As in hubble_rows.cluster_of.
    is_dst = (local[dst] > local[src]) | (cluster[src] == 0)
    nodes: dict[bytes, int] = {}
    node = _each(template, lambda n: nodes.setdefault(pieces.kinds[n].node, len(nodes)))
    names, node_names = list(clusters), list(nodes)
    place = _each(
        node * len(names) + np.where(is_dst, cluster[dst], cluster[src]),
        lambda n: reader.place(node_names[n // len(names)], names[n % len(names)]),
    )
    rare, one = np.full_like(numbers, reader.nothing_rare), np.ones_like(numbers)
    return np.stack([numbers, time, fact, place, number[src], number[dst], src_ip, dst_ip,
                     src_port, dst_port, rare, one], axis=1)  # fmt: skip


def _each(codes: Rows | NDArray[np.int32], number: Callable[[int], int]) -> Rows:
    """The number for each code, asked for once a distinct code."""
    numbers = np.zeros(int(codes.max(initial=-1)) + 1, np.int64)
    distinct = np.flatnonzero(np.bincount(codes))
    numbers[distinct] = [number(code) for code in distinct.tolist()]
    return numbers[codes]


def _replies(signs: Sequence[Sign], sign: Rows, source_port: Rows, target_port: Rows) -> Rows:
    """Whether each packet answers, as a place in _REPLY."""
    told = np.array([_REPLY.index(seen.reply) for seen in signs])[sign]
    # As in hubble_signs.reply_by_ports.
    is_low = source_port < EPHEMERAL
    is_told = (source_port > 0) & (target_port > 0) & (is_low != (target_port < EPHEMERAL))
    return np.where(told == 0, np.where(is_told, 1 + is_low, 0), told)


def _turned(reply: Rows, source: Rows, target: Rows) -> tuple[Rows, Rows]:
    is_reply = reply == _REPLY.index(True)
    return np.where(is_reply, target, source), np.where(is_reply, source, target)


def _microseconds(table: Bytes) -> Rows:
    """`instant` of texts of TIME_LENGTH bytes, one a row; -1 where it takes a closer look."""
    digits = (table[:, _DIGIT_PLACES] - 48).astype(np.int64)  # what is below "0" wraps around
    is_ok = (table[:, _MARK_PLACES] == _MARKS).all(axis=1) & (digits <= 9).all(axis=1)
    hour, minute, sec = (digits[:, n] * 10 + digits[:, n + 1] for n in (8, 10, 12))
    is_ok &= (hour < 24) & (minute < 60) & (sec < 60)
    days = np.ascontiguousarray(table[:, :10]).view("S10").ravel()
    distinct, places = np.unique(days, return_inverse=True)
    midnights = np.array([_midnight(day) for day in distinct.tolist()], np.int64)[places]
    found = midnights * MICROSECONDS + digits[:, 8:20] @ _WORTH
    return np.where(is_ok & (midnights >= 0), found, -1)


def _midnight(day: bytes) -> int:
    try:
        return second(day.decode("ascii") + "T00:00:00")
    except ValueError:
        return -1
