"""PortSet, a set of ports by protocol, and Ports, what a rule says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

PORT_PROTOCOLS = ("TCP", "UDP", "SCTP")
Interval = tuple[int, int]


def _joined(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    out: list[Interval] = []
    for low, high in sorted(intervals):
        if out and low <= out[-1][1] + 1:
            out[-1] = out[-1][0], max(out[-1][1], high)
        else:
            out.append((low, high))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class PortSet:
    """Ports by protocol: `by_protocol` holds (protocol, joined sorted closed intervals), sorted.

    TCP, UDP and SCTP count ports 1-65535. ICMP and ICMPv6 count `type * 256 + code`, 0-65535.
    Any other protocol counts the one point 0.
    """

    by_protocol: tuple[tuple[str, tuple[Interval, ...]], ...] = ()

    @staticmethod
    def of(intervals: Mapping[str, Iterable[Interval]]) -> PortSet:
        """The set of the given closed intervals by protocol, in normal form."""
        rows = ((protocol, _joined(given)) for protocol, given in intervals.items())
        return PortSet(tuple(sorted((p, ivs) for p, ivs in rows if ivs)))

    @staticmethod
    def one(protocol: str, low: int, high: int | None = None) -> PortSet:
        """One port, or one range, of one protocol."""
        return PortSet(((protocol, ((low, low if high is None else high),)),))

    @staticmethod
    def union(sets: Iterable[PortSet]) -> PortSet:
        """The union of many sets, joined once."""
        merged: dict[str, list[Interval]] = {}
        for each in sets:
            for protocol, ivs in each.by_protocol:
                merged.setdefault(protocol, []).extend(ivs)
        return PortSet.of(merged)

    def intervals(self, protocol: str) -> tuple[Interval, ...]:
        """The intervals of one protocol, empty where it has none."""
        return next((ivs for p, ivs in self.by_protocol if p == protocol), ())

    def __bool__(self) -> bool:
        return bool(self.by_protocol)

    def __contains__(self, point: tuple[str, int]) -> bool:
        return any(low <= point[1] <= high for low, high in self.intervals(point[0]))

    def __or__(self, other: PortSet) -> PortSet:
        if not other or self == other:
            return self
        return PortSet.union((self, other))

    def __and__(self, other: PortSet) -> PortSet:
        return self if self == other else self - (self - other)

    def __sub__(self, other: PortSet) -> PortSet:
        if not other.by_protocol:
            return self
        # What is left of sorted and joined intervals is sorted and joined.
        rows = ((p, tuple(_minus(ivs, other.intervals(p)))) for p, ivs in self.by_protocol)
        return PortSet(tuple(row for row in rows if row[1]))

    def __le__(self, other: PortSet) -> bool:
        return not self - other


def _minus(left: Iterable[Interval], right: Sequence[Interval]) -> Iterable[Interval]:
    """One pass over both, which are sorted and joined."""
    out: list[Interval] = []
    first = 0
    for low, high in left:
        while first < len(right) and right[first][1] < low:
            first += 1
        at = first
        while at < len(right) and right[at][0] <= high:
            if low < right[at][0]:
                out.append((low, right[at][0] - 1))
            low = right[at][1] + 1
            at += 1
        if low <= high:
            out.append((low, high))
    return out


_TYPES, _PORTS = ((0, 65535),), ((1, 65535),)
ALL_PORTS = PortSet.of(
    {"ICMP": _TYPES, "ICMPv6": _TYPES, "OTHER": ((0, 0),), **dict.fromkeys(PORT_PROTOCOLS, _PORTS)}
)
NO_PORTS = PortSet()


@dataclass(frozen=True, slots=True)
class Ports:
    """What a rule says of ports: numbers, plus container port names resolved at each server.

    `named` and `not_named` hold (protocol, name); a pod without that name has no such port.
    `not_named` and `not_numbers` are taken from the other two.
    """

    numbers: PortSet = ALL_PORTS
    named: tuple[tuple[str, str], ...] = ()
    not_named: tuple[tuple[str, str], ...] = ()
    not_numbers: PortSet = NO_PORTS
