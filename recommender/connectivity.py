"""All connections of a matrix, by workload or by pod, and to and from addresses.

Ends of the same classes share one group, and a pair of groups one answer; only printing it goes
through the ends themselves.
"""

from __future__ import annotations

import gc
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from itertools import groupby, repeat
from typing import Literal, NamedTuple, Protocol

import numpy as np

from recommender.addresses import Address, text
from recommender.ends import Ends
from recommender.matrix import Ids, Matrix, Numbers, mapped
from recommender.model import NO_PORTS, PORT_PROTOCOLS, Interval, PortSet
from recommender.tracked import tracked

By = Literal["workload", "pod"]


class Connection(NamedTuple):
    """Ports of one protocol that one end may reach at another; a tuple, as there are millions."""

    src: str
    dst: str
    protocol: str
    ports: tuple[Interval, ...]


class Grid(Protocol):
    """Classes of ends with the ports from one class to all; a matrix, or two compared."""

    @property
    def classes(self) -> Ids:
        """The class of each end."""

    def row(self, src: int) -> Ids:
        """The results from one class to every class, by number."""

    def allowed(self, result: int) -> PortSet:
        """The ports of a result."""


@dataclass(frozen=True)
class Beyond:
    """The ports that `new` allows and `old` does not, over the same ends."""

    new: Matrix
    old: Matrix
    classes: Ids
    members: Ids
    ports: Numbers[PortSet]

    def row(self, src: int) -> Ids:
        """The results from one class to every class, by number."""
        in_new, in_old = self._columns
        new = self.new.row(int(in_new[src]))[in_new]
        old = self.old.row(int(in_old[src]))[in_old]
        width = len(self.old.results.values)
        return mapped(new * width + old, lambda code: self._less(*divmod(code, width)))

    @cached_property
    def _columns(self) -> tuple[Ids, Ids]:
        """The class of each of these classes in `new`, and in `old`."""
        return self.new.classes[self.members], self.old.classes[self.members]

    def allowed(self, result: int) -> PortSet:
        """The ports of a result."""
        return self.ports.values[result]

    def _less(self, new: int, old: int) -> int:
        return self.ports.of(self.new.allowed(new) - self.old.allowed(old))


def beyond(new: Matrix, old: Matrix) -> Beyond:
    """What `new` allows beyond `old`; both must have the same ends."""
    if new.classes.size != old.classes.size:
        raise ValueError("the evaluators have different ends; make each with `beside` the other")
    joint = new.classes * (int(old.classes.max()) + 1) + old.classes
    _, members, classes = np.unique(joint, return_index=True, return_inverse=True)
    return Beyond(new, old, classes, members, Numbers())


@dataclass(frozen=True)
class Range:
    """Addresses in a row that are in one class."""

    first: Address
    last: Address
    kind: int


def ranges(ends: Ends, classes: Ids) -> list[Range]:
    """The address space by class; IPv6 only where policies or the inventory know of any."""
    atoms, pods = ends.world.atoms, len(ends.world.pods)
    sixes = [a for a in (*atoms.firsts, *(at for at, _ in ends.world.points)) if a[0] == 6]
    out: list[Range] = []
    for atom, first in enumerate(atoms.firsts):
        kind = int(classes[pods + atom])
        if first[0] == 6 and len(sixes) == 1:
            continue
        if out and out[-1].kind == kind and out[-1].first[0] == first[0]:
            out[-1] = Range(out[-1].first, atoms.last(atom), kind)
        else:
            out.append(Range(first, atoms.last(atom), kind))
    return out


def connections(
    grid: Grid, ends: Ends, by: By, protocols: Sequence[str] = PORT_PROTOCOLS
) -> list[Connection]:
    """Every connection that the grid allows, sorted by source, destination and protocol.

    By workload, a port counts as allowed where some pod of the one may reach it at some pod of the
    other. Left out are addresses to addresses and a pod to itself.
    """
    # Collecting garbage among millions of tuples, of which none is any, doubles the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        return _connections(grid, ends, by, protocols)
    finally:
        if collects:
            gc.enable()


def _connections(grid: Grid, ends: Ends, by: By, protocols: Sequence[str]) -> list[Connection]:
    named = sorted((ends.workloads if by == "workload" else ends.pods).items())
    names = [name for name, _ in named]
    groups = _groups([found for _, found in named], grid.classes)
    spaces = ranges(ends, grid.classes)
    sums = _Sums(grid, tuple(protocols))
    out: dict[str, list[Connection]] = {}
    members = list(groups.members())
    for classes, at in tracked("listing what may be reached from groups of workloads", members):
        to_class = sums.row(classes)
        to_named = sums.grouped(to_class, groups)[groups.of]
        outward = sums.runs(spaces, [int(to_class[space.kind]) for space in spaces])
        runs = sorted([*sums.runs_of(names, to_named), *outward])
        table = _Table([r[0] for r in runs], [r[1] for r in runs], [r[2] for r in runs])
        for i in at:
            own = sums.within(named[i][1], ends, to_class) if by == "workload" else 0
            out[names[i]] = table.of(names[i], sums.cells(own))
    rows = {kind: sums.grouped(sums.row((kind,)), groups) for kind in {s.kind for s in spaces}}
    for g, (_, at) in enumerate(members):
        inward = sums.runs(spaces, [int(rows[space.kind][g]) for space in spaces])
        for src, protocol, ports in inward:
            found = out.setdefault(src, [])
            found += [Connection(src, names[i], protocol, ports) for i in at]
    for name in out.keys() - set(names):
        out[name].sort()
    return [each for src in sorted(out) for each in out[src]]


Cells = tuple[tuple[str, tuple[Interval, ...]], ...]
Run = tuple[str, str, tuple[Interval, ...]]


@dataclass(frozen=True)
class _Table:
    """What the ends of one group may reach, by column, as it is listed for each of them."""

    dst: list[str]
    protocol: list[str]
    ports: list[tuple[Interval, ...]]

    def of(self, src: str, own: Cells) -> list[Connection]:
        """The connections of one end, `own` being those to itself."""
        low, high = bisect_left(self.dst, src), bisect_right(self.dst, src)
        columns = zip(
            repeat(src),
            [*self.dst[:low], *(src for _ in own), *self.dst[high:]],
            [*self.protocol[:low], *(protocol for protocol, _ in own), *self.protocol[high:]],
            [*self.ports[:low], *(ports for _, ports in own), *self.ports[high:]],
            strict=False,
        )
        # Not `Connection(*row)`: that is a call in Python for each of millions of rows.
        return list(map(partial(tuple.__new__, Connection), columns))


@dataclass(frozen=True)
class _Groups:
    """Ends whose pods are of the same classes: `of` is the group of each, `classes` by group."""

    of: Ids
    classes: list[tuple[int, ...]]

    @cached_property
    def firsts(self) -> Ids:
        """One class of each group."""
        return np.array([classes[0] for classes in self.classes], np.int64)

    @cached_property
    def mixed(self) -> dict[int, Ids]:
        """The groups of several classes."""
        pairs = enumerate(self.classes)
        return {g: np.array(classes, np.int64) for g, classes in pairs if len(classes) > 1}

    def members(self) -> Iterator[tuple[tuple[int, ...], list[int]]]:
        """Each group's classes, and the places of its ends."""
        order = np.argsort(self.of, kind="stable")
        bounds = np.searchsorted(self.of[order], np.arange(1, len(self.classes)))
        for classes, at in zip(self.classes, np.split(order, bounds), strict=False):
            yield classes, at.tolist()


def _groups(found: Sequence[tuple[int, ...]], classes: Ids) -> _Groups:
    numbers: Numbers[tuple[int, ...]] = Numbers()
    of = [numbers.of(tuple(sorted(set(classes[list(ends)].tolist())))) for ends in found]
    return _Groups(np.array(of, np.int64), numbers.values)


@dataclass(frozen=True)
class _Sums:
    """Unions of a grid's ports over classes, held by number; number 0 is no port."""

    grid: Grid
    protocols: tuple[str, ...]
    ports: Numbers[PortSet] = field(default_factory=lambda: Numbers([NO_PORTS], {NO_PORTS: 0}))
    _unions: dict[tuple[int, int], int] = field(default_factory=dict)
    _cells: dict[int, Cells] = field(default_factory=dict)
    _runs: dict[tuple[int, ...], list[Run]] = field(default_factory=dict)

    def row(self, sources: Sequence[int]) -> Ids:
        """The ports from any of some classes to every class."""
        return reduce(
            self.unions,
            (
                mapped(self.grid.row(each), lambda found: self.ports.of(self.grid.allowed(found)))
                for each in sources
            ),
        )

    def unions(self, left: Ids, right: Ids) -> Ids:
        """The unions of two rows."""
        width = len(self.ports.values)
        return mapped(left * width + right, lambda code: self.union(*divmod(code, width)))

    def union(self, left: int, right: int) -> int:
        """The union of two port sets."""
        if (left, right) not in self._unions:
            both = self.ports.values[left] | self.ports.values[right]
            self._unions[left, right] = self.ports.of(both)
        return self._unions[left, right]

    def grouped(self, row: Ids, groups: _Groups) -> Ids:
        """The ports to any class of each group."""
        out = row[groups.firsts]
        for g, classes in groups.mixed.items():
            out[g] = reduce(self.union, row[classes].tolist())
        return out

    def within(self, own: tuple[int, ...], ends: Ends, row: Ids) -> int:
        """The ports between different pods of one workload; a made pod stands for several.

        `row` is what any of its pods may reach.
        """
        made = any(ends.world.pods[end].made for end in own)
        count = Counter(self.grid.classes[list(own)].tolist())
        out = 0
        if len(own) > 1 or made:
            for src in count:
                found = row if len(count) == 1 else self.row((src,))
                for dst in count:
                    if src != dst or count[src] > 1 or made:
                        out = self.union(out, int(found[dst]))
        return out

    def runs_of(self, names: Sequence[str], row: Ids) -> Iterator[Run]:
        """Each of `names` with its ports by protocol."""
        at = np.flatnonzero(row)
        numbers = row[at].tolist()
        cells = {number: self.cells(number) for number in set(numbers)}
        for i, number in zip(at.tolist(), numbers, strict=True):
            for protocol, ports in cells[number]:
                yield names[i], protocol, ports

    def cells(self, number: int) -> Cells:
        """A port set as (protocol, intervals), of the protocols asked for."""
        if number not in self._cells:
            given = self.ports.values[number]
            by_protocol = ((p, given.intervals(p)) for p in sorted(self.protocols))
            self._cells[number] = tuple((p, intervals) for p, intervals in by_protocol if intervals)
        return self._cells[number]

    def runs(self, spaces: Sequence[Range], row: Sequence[int]) -> list[Run]:
        """Ranges with their ports by protocol, neighbours with the same ports joined."""
        key = tuple(row)
        if key not in self._runs:
            self._runs[key] = [
                (f"{text(same[0].first)}-{text(same[-1].last)}", protocol, ports)
                for protocol in self.protocols
                for (_, ports), same in self._same(spaces, row, protocol)
                if ports
            ]
        return self._runs[key]

    def _same(
        self, spaces: Sequence[Range], row: Sequence[int], protocol: str
    ) -> Iterator[tuple[tuple[int, tuple[Interval, ...]], list[Range]]]:
        ports = {number: dict(self.cells(number)).get(protocol, ()) for number in set(row)}
        pairs = zip(spaces, row, strict=True)
        for key, run in groupby(pairs, lambda each: (each[0].first[0], ports[each[1]])):
            yield key, [space for space, _ in run]
