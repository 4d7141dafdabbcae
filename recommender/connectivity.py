"""All connections of a matrix, by workload or by pod, and to and from addresses."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain

import numpy as np

from recommender.ends import Ends
from recommender.listing import By, Connection, Grid, Listing, Run, line_count, listing
from recommender.matrix import Ids, Matrix, Numbers, mapped
from recommender.model import PORT_PROTOCOLS, PortSet
from recommender.tracked import tracked


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
    listed = listing(grid, ends, by, protocols)
    members = list(listed.groups.members())
    out: dict[str, list[Connection]] = {}
    for classes, at in tracked("listing what may be reached from groups of workloads", members):
        for i, found in zip(at, listed.outward(classes, at), strict=True):
            out[listed.names[i]] = found
    out |= listed.inward()
    return [each for src in sorted(out) for each in out[src]]


@dataclass(frozen=True)
class Connections:
    """Connections that may be too many to hold: counted by groups, made as they are gone through.

    They come sorted, as `connections` lists them. `count` is of them, `lines` of the lines that
    they take for people (`listing.line_count`), `by_end` of those of each named end, by name; a
    connection of an end with itself counts once.
    """

    listed: Listing
    count: int
    lines: int
    by_end: dict[str, int]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Connection]:
        return self.listed.rows()

    def inward(self) -> Iterator[Connection]:
        """Those from ranges of addresses."""
        return chain.from_iterable(found for _, found in sorted(self.listed.inward().items()))


_MEASURES: tuple[Callable[[Sequence[Run]], int], ...] = (len, line_count)


def counted(grid: Grid, ends: Ends, by: By) -> Connections:
    """What `connections` would list: counted by groups of ends, and made when it is asked for."""
    listed = listing(grid, ends, by, PORT_PROTOCOLS)
    groups, names = listed.groups, listed.names
    members = list(groups.members())
    people = np.array([len(at) for _, at in members], np.int64)
    own = np.zeros((len(_MEASURES), len(names)), np.int64)
    sent, received, taken = np.zeros((3, len(_MEASURES), len(members)), np.int64)
    for g, (classes, at) in enumerate(
        tracked("counting what may be reached from groups of workloads", members)
    ):
        to_class, to_group, outside = listed.from_group(classes)
        to_self = [listed.own(i, to_class) for i in at]
        for m, measure in enumerate(_MEASURES):
            width = partial(listed.width, measure=measure)
            sizes = mapped(to_group, width)
            sent[m, g] = sizes @ people - sizes[g] + measure(outside)
            received[m] += sizes * len(at)
            received[m, g] -= sizes[g]
            own[m, at] = [width(ports) for ports in to_self]
    inward = listed.inward_runs()
    for m, measure in enumerate(_MEASURES):
        taken[m] = [measure(runs) for runs in inward]
    count, lines = ((sent + taken) @ people + own.sum(axis=1)).tolist()
    of_ends = ((sent[0] + received[0] + taken[0])[groups.of] + own[0]).tolist()
    by_end = {name: n for name, n in sorted(zip(names, of_ends, strict=True)) if n}
    return Connections(listed, count, lines, by_end)
