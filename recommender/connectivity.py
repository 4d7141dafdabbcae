"""All connections of a matrix, by workload or by pod, and to and from addresses."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np

from recommender.ends import Ends
from recommender.listing import By, Connection, Grid, listing
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
class Tally:
    """Connections that may be too many to list: the count, the first, and how many are of each end.

    `by_end` is of named ends, by name; a connection of an end with itself counts once.
    """

    count: int
    first: tuple[Connection, ...]
    by_end: dict[str, int]


def tally(grid: Grid, ends: Ends, by: By, most: int) -> Tally:
    """What `connections` would list: counted by groups of ends, only `most` made one by one."""
    listed = listing(grid, ends, by, PORT_PROTOCOLS)
    groups, names = listed.groups, listed.names
    members = list(groups.members())
    people = np.array([len(at) for _, at in members], np.int64)
    own = np.zeros(len(names), np.int64)
    sent, received = np.zeros((2, len(members)), np.int64)
    for g, (classes, at) in enumerate(
        tracked("counting what may be reached from groups of workloads", members)
    ):
        to_class, sizes, outward = listed.counted(classes)
        sent[g] = sizes @ people - sizes[g] + outward
        received += sizes * len(at)
        received[g] -= sizes[g]
        for i in at:
            own[i] = listed.width(listed.own(i, to_class))
    inward = listed.inward_runs()
    taken = np.array([len(runs) for runs in inward], np.int64)
    counts = ((sent + received + taken)[groups.of] + own).tolist()
    return Tally(
        int(sent @ people + own.sum() + taken @ people),
        tuple(islice(listed.rows(), most)),
        {name: count for name, count in sorted(zip(names, counts, strict=True)) if count},
    )
