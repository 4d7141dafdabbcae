"""Outside addresses -> CIDR blocks: exactly those that were seen, or a few more where asked.

Addresses are opened only inside a budget that a person gives, in the fewest blocks that it pays
for. Even then a block is never wider than /24 (IPv6: /64), half of it at least was seen, and it
holds no address that is known to be somebody else's. So it never mixes private, link-local,
shared and public addresses either: the borders of all those are borders of /24 and /64.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

# (version, bits of an address, bits below the widest block)
_VERSIONS = ((4, 32, 8), (6, 128, 64))
_LEAST_SEEN = 0.5  # of a block's addresses


@dataclass(frozen=True, slots=True)
class Block:
    """A CIDR block, and how many of its addresses were seen."""

    cidr: str
    size: int
    seen: int

    @property
    def opened(self) -> int:
        """Addresses that it permits and nobody was seen to use."""
        return self.size - self.seen

    def __str__(self) -> str:
        return f"{self.cidr}: {self.seen:,} of {self.size:,} addresses were seen"


def blocks(addresses: Iterable[str], budget: int = 0, closed: Collection[str] = ()) -> list[Block]:
    """The fewest CIDR blocks that hold these addresses and at most `budget` others.

    The exact minimum, by dynamic programming over the binary trie of addresses: of as many blocks
    those that open least (methods.md section 2c).

    Args:
        addresses: those that were seen.
        budget: how many others may be opened.
        closed: addresses that must not be opened.

    Returns:
        Blocks by address, IPv4 first.
    """
    seen = {ipaddress.ip_address(address) for address in addresses}
    shut = {ipaddress.ip_address(address) for address in closed} - seen
    found = []
    for version, bits, widest in _VERSIONS:
        own = sorted(int(a) for a in seen if a.version == version)
        if own:
            others = sorted(int(a) for a in shut if a.version == version)
            trie = _Trie(own, others, budget, widest)
            for low, below in _flat(trie.plans(0, len(own), bits)[0].parts):
                network = (ipaddress.IPv4Network, ipaddress.IPv6Network)[version == 6]
                cidr = str(network((low, bits - below)))
                found.append(Block(cidr, 1 << below, trie.seen_in(low, below)))
                budget -= found[-1].opened
    return found


@dataclass(frozen=True, slots=True)
class _Plan:
    """So many blocks, and how many unseen addresses they open; `parts` are one block or plans."""

    count: int
    opened: int
    parts: tuple[int, int] | tuple[_Plan, _Plan]


def _flat(parts: tuple[int, int] | tuple[_Plan, _Plan]) -> Iterator[tuple[int, int]]:
    """The blocks of a plan as (first address, bits below), by address."""
    match parts:
        case (_Plan() as left, _Plan() as right):
            yield from _flat(left.parts)
            yield from _flat(right.parts)
        case (int(low), int(below)):
            yield low, below


@dataclass(frozen=True, slots=True)
class _Trie:
    """Sorted addresses of one IP version as a binary trie; only forks are visited."""

    seen: Sequence[int]
    closed: Sequence[int]
    budget: int
    widest: int

    def plans(self, start: int, stop: int, below: int) -> list[_Plan]:
        """Plans for the seen addresses [start, stop), which agree above the last `below` bits.

        Each has more blocks than the one before and opens less, so there are few.
        """
        below = min(below, (self.seen[start] ^ self.seen[stop - 1]).bit_length())
        low = self.seen[start] >> below << below
        opened = (1 << below) - (stop - start)
        found = [_Plan(1, opened, (low, below))] if self._may(low, below, opened) else []
        if opened == 0:
            return found
        fork = bisect_left(self.seen, low + (1 << below - 1), start, stop)
        sides = self.plans(start, fork, below - 1), self.plans(fork, stop, below - 1)
        pairs = [_Plan(a.count + b.count, a.opened + b.opened, (a, b))
                 for a in sides[0] for b in sides[1]]  # fmt: skip
        for plan in sorted(pairs, key=lambda p: (p.count, p.opened)):
            if plan.opened <= self.budget and (not found or plan.opened < found[-1].opened):
                found.append(plan)
        return found

    def _may(self, low: int, below: int, opened: int) -> bool:
        """Whether the block may be a rule's."""
        if opened == 0:
            return True
        size = 1 << below
        dense = size - opened >= _LEAST_SEEN * size
        free = bisect_left(self.closed, low) == bisect_left(self.closed, low + size)
        return opened <= self.budget and below <= self.widest and dense and free

    def seen_in(self, low: int, below: int) -> int:
        """How many of a block's addresses were seen."""
        return bisect_left(self.seen, low + (1 << below)) - bisect_left(self.seen, low)
