"""The lines of a block, quickly as long as they are written as Hubble itself writes them.

The quick way knows values only by their bytes: it looks up what the Reader has met before, and
works out the rest for many lines at once. A line with anything new or unusual goes to
`Reader.row`, which is twice as slow, takes every spelling, and gives the same (a test compares the
two on every line).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ingest.batch import TROUBLE, Lines
from ingest.hubble_rows import ADDRESSES, PORTS, Reader, Row
from ingest.hubble_wire import BESIDE, LINE, SHAPES
from ingest.values import MICROSECONDS, second

Rows = NDArray[np.int64]
_WIDTH = 1 + len(Row._fields)
_CHUNK = 2_000  # lines
_TIME = len('"2026-03-02T08:00:00.123456789Z"')
_MARKS = np.frombuffer(b'"--T::.Z"', np.uint8)
_MARK_PLACES = [0, 5, 8, 11, 14, 17, 20, 30, 31]
_DIGIT_PLACES = [1, 2, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 18, 19, *range(21, 30)]
# Worth of the digits of hour, minute, second and microsecond, in microseconds.
_WORTH = np.array(
    [
        *(n * MICROSECONDS for n in (36_000, 3_600, 600, 60, 10, 1)),
        *(10**n for n in range(5, -1, -1)),
    ]
)
_PORT_NUMBERS = {b"%d" % number: number for number in range(1, 1 << 16)}


def read(reader: Reader, lines: Lines) -> Rows:
    """The flows of all lines: number of the line, and Row."""
    others: list[tuple[int, ...]] = []

    def other(number: int, line: bytes) -> str | None:
        row = reader.row(line)
        if isinstance(row, str):
            return row
        others.append((number, *row))
        return None

    made = []
    for start in range(0, len(lines.todo), _CHUNK):
        chunk = dict(lines.todo[start : start + _CHUNK])
        found, texts = _known(reader, chunk, lambda *line: lines.give(other, *line))
        columns, time = np.frombuffer(found, np.int64).reshape(-1, 9).T, _microseconds(texts)
        for number in columns[0, time < 0].tolist():
            lines.give(other, number, chunk[number])
        made.append(_rows(reader, columns[:, time >= 0], time[time >= 0], lines))
    return np.concatenate([*made, np.array(others, np.int64).reshape(-1, _WIDTH)])


def _known(
    reader: Reader, lines: Mapping[int, bytes], other: Callable[[int, bytes], None]
) -> tuple[array[int], bytearray]:
    """Lines that hold nothing new; any that does is given to `other`.

    Returns:
        Of each its number, then those of sign, node, source, destination and addresses, and both
        ports; and their times, _TIME bytes each.
    """
    found, times = array("q"), bytearray()
    decode, addresses_of, ports_of = LINE.decode, ADDRESSES.fullmatch, PORTS.fullmatch
    sign_of, end_of = reader.usual_signs.get, reader.end_numbers.get
    ip_of, node_of, port_of = reader.ip_numbers.get, reader.node_numbers.get, _PORT_NUMBERS.get
    beside, commas = BESIDE[True, True]
    for number, line in lines.items():
        row: tuple[int | None, ...] = (None,)
        try:
            said = decode(line)
        except TROUBLE:
            other(number, line)
            continue
        flow, node = said.flow or {}, said.node_name
        shape = SHAPES.get(tuple(flow)) if node and said.time else None
        if shape is not None and shape.columns is not None:
            # As in hubble_wire.decode: no key stands twice, and none beside these three.
            size = sum(map(len, flow.values())) + len(node) + len(said.time)
            surplus = len(line) - size - shape.marks - beside - 1
            time, ip, l4, source, target, *facts = shape.columns(flow)
            addresses, ports = addresses_of(ip), ports_of(l4)
            if (
                (not surplus or (surplus == shape.commas + commas and b', "' in line[:200]))
                and addresses is not None
                and ports is not None
                and len(time) == _TIME
            ):
                source_ip, target_ip = addresses.groups()
                kind, source_port, target_port, flags = ports.groups()
                row = (
                    number, sign_of((shape, b",".join(facts), kind, flags)), node_of(bytes(node)),
                    end_of(bytes(source)), end_of(bytes(target)),
                    ip_of(source_ip), ip_of(target_ip), port_of(source_port), port_of(target_port),
                )  # fmt: skip
        if None in row:
            other(number, line)
        else:
            found.extend(row)  # type: ignore[arg-type]
            times += time
    return found, times


def _rows(reader: Reader, found: Rows, time: Rows, lines: Lines) -> Rows:
    """Rows of the columns that _known found, with the initiator as `src`; skips are counted."""
    if not len(time):
        return np.empty((0, _WIDTH), np.int64)
    signs = [seen for _, seen in reader.signs]
    is_skip = np.array([seen.skip is not None for seen in signs])[found[1]]
    for number in found[1, is_skip].tolist():
        lines.skipped[str(signs[number].skip)] += 1
    time = time[~is_skip]
    numbers, sign, node, source, target, *others = found[:, ~is_skip]
    reply = np.array([bool(seen.reply) for seen in signs])[sign]
    src, dst = _turned(reply, source, target)
    src_ip, dst_ip = _turned(reply, others[0], others[1])
    src_port, dst_port = _turned(reply, others[2], others[3])
    clusters: dict[str | None, int] = {None: 0}  # number 0 is no cluster
    number, local, cluster = np.array(
        [
            (number, end.local, clusters.setdefault(end.cluster, len(clusters)))
            for number, end in reader.seen_ends
        ]
    ).T
    fact = _each(
        (sign * 2 + local[src]) * 2 + local[dst],
        lambda n: reader.fact(
            n // 4, signs[n // 4].reply, src_local=n & 2 > 0, dst_local=n & 1 > 0
        ),
    )
    # As in hubble_rows.cluster_of.
    is_dst = (local[dst] > local[src]) | (cluster[src] == 0)
    nodes, names = list(reader.node_numbers), list(clusters)
    place = _each(
        node * len(names) + np.where(is_dst, cluster[dst], cluster[src]),
        lambda n: reader.place(nodes[n // len(names)], names[n % len(names)]),
    )
    rare, one = np.full_like(numbers, reader.nothing_rare), np.ones_like(numbers)
    return np.stack([numbers, time, fact, place, number[src], number[dst], src_ip, dst_ip, src_port,
                     dst_port, rare, one], axis=1)  # fmt: skip


def _each(codes: Rows, number: Callable[[int], int]) -> Rows:
    """The number for each code, asked for once a distinct code."""
    distinct, places = np.unique(codes, return_inverse=True)
    return np.array([number(code) for code in distinct.tolist()], np.int64)[places]


def _turned(reply: NDArray[np.bool_], source: Rows, target: Rows) -> tuple[Rows, Rows]:
    return np.where(reply, target, source), np.where(reply, source, target)


def _microseconds(texts: bytearray) -> Rows:
    """`instant` of JSON strings of _TIME bytes each; -1 where it takes a closer look."""
    table = np.frombuffer(texts, np.uint8).reshape(-1, _TIME)
    digits = (table[:, _DIGIT_PLACES] - 48).astype(np.int64)  # what is below "0" wraps around
    is_ok = (table[:, _MARK_PLACES] == _MARKS).all(axis=1) & (digits <= 9).all(axis=1)
    hour, minute, sec = (digits[:, n] * 10 + digits[:, n + 1] for n in (8, 10, 12))
    is_ok &= (hour < 24) & (minute < 60) & (sec < 60)
    days = np.ascontiguousarray(table[:, 1:11]).view("S10").ravel()
    distinct, places = np.unique(days, return_inverse=True)
    midnights = np.array([_midnight(day) for day in distinct.tolist()], np.int64)[places]
    found = midnights * MICROSECONDS + digits[:, 8:20] @ _WORTH
    return np.where(is_ok & (midnights >= 0), found, -1)


def _midnight(day: bytes) -> int:
    try:
        return second(day.decode("ascii") + "T00:00:00")
    except ValueError:
        return -1
