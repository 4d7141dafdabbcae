"""A grid of ports between classes of ends, by the names of the ends that are in them.

Ends of the same classes share one group, and a pair of groups one answer; only printing it goes
through the ends themselves.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from itertools import groupby, repeat
from typing import Literal, NamedTuple, Protocol

import numpy as np

from recommender.addresses import Address, text
from recommender.ends import Ends
from recommender.matrix import Ids, Numbers, mapped
from recommender.model import NO_PORTS, Interval, PortSet

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


@dataclass(frozen=True)
class Listing:
    """A grid's connections by the names of ends, made as they are asked for."""

    ends: Ends
    by: By
    names: list[str]
    members: list[tuple[int, ...]]
    groups: _Groups
    spaces: list[Range]
    sums: _Sums

    def outward(self, classes: tuple[int, ...], at: Sequence[int]) -> Iterator[list[Connection]]:
        """The connections from each of some ends of one group."""
        to_class = self.sums.row(classes)
        to_named = self.sums.grouped(to_class, self.groups)[self.groups.of]
        runs = sorted([*self.sums.runs_of(self.names, to_named), *self._outside(to_class)])
        table = _Table([r[0] for r in runs], [r[1] for r in runs], [r[2] for r in runs])
        for i in at:
            yield table.of(self.names[i], self.sums.cells(self.own(i, to_class)))

    def from_group(self, classes: tuple[int, ...]) -> tuple[Ids, Ids, list[Run]]:
        """The ports from one group to each class, and to any end of each group, and what outside.

        The ports are numbers of `sums`.
        """
        to_class = self.sums.row(classes)
        return to_class, self.sums.grouped(to_class, self.groups), self._outside(to_class)

    def own(self, i: int, to_class: Ids) -> int:
        """The ports from an end to itself."""
        return (
            self.sums.within(self.members[i], self.ends, to_class) if self.by == "workload" else 0
        )

    def width(self, ports: int, measure: Callable[[Sequence[Run]], int]) -> int:
        """The measure of what a set of ports makes between two named ends."""
        return measure([("", *cell) for cell in self.sums.cells(ports)])

    def inward_runs(self) -> list[list[Run]]:
        """What ranges of addresses may reach at an end of each group."""
        kinds = {space.kind for space in self.spaces}
        rows = {kind: self.sums.grouped(self.sums.row((kind,)), self.groups) for kind in kinds}
        return [
            self.sums.runs(self.spaces, [int(rows[space.kind][g]) for space in self.spaces])
            for g in range(len(self.groups.classes))
        ]

    def inward(self) -> dict[str, list[Connection]]:
        """The connections from each range of addresses."""
        out: dict[str, list[Connection]] = {}
        for runs, (_, at) in zip(self.inward_runs(), self.groups.members(), strict=True):
            for src, protocol, ports in runs:
                found = out.setdefault(src, [])
                found += [Connection(src, self.names[i], protocol, ports) for i in at]
        return {src: sorted(found) for src, found in out.items()}

    def rows(self) -> Iterator[Connection]:
        """All connections, sorted."""
        inward = self.inward()
        places = {name: i for i, name in enumerate(self.names)}
        for src in sorted([*self.names, *inward]):
            if src in inward:
                yield from inward[src]
            else:
                i = places[src]
                for found in self.outward(self.groups.classes[self.groups.of[i]], [i]):
                    yield from found

    def _outside(self, to_class: Ids) -> list[Run]:
        row = [int(to_class[space.kind]) for space in self.spaces]
        return self.sums.runs(self.spaces, row)


def listing(grid: Grid, ends: Ends, by: By, protocols: Sequence[str]) -> Listing:
    """A grid by the names of ends: its workloads, or its pods."""
    named = sorted((ends.workloads if by == "workload" else ends.pods).items())
    members = [found for _, found in named]
    return Listing(
        ends=ends,
        by=by,
        names=[name for name, _ in named],
        members=members,
        groups=_groups(members, grid.classes),
        spaces=ranges(ends, grid.classes),
        sums=_Sums(grid, tuple(protocols)),
    )


Cells = tuple[tuple[str, tuple[Interval, ...]], ...]
Run = tuple[str, str, tuple[Interval, ...]]


def line_count(runs: Iterable[Run]) -> int:
    """How many lines an end's runs take, where those with the same ports share one.

    So do protocols between the same ends, and ranges that the same protocols and ports go to.
    """
    protocols: dict[tuple[str, tuple[Interval, ...]], set[str]] = {}
    for end, protocol, ports in runs:
        protocols.setdefault((end, ports), set()).add(protocol)
    return len({(frozenset(names), ports) for (_, ports), names in protocols.items()})


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
