"""The address space cut into atoms, so that every block of every policy is a run of whole atoms.

An address is a pair (IP version, number); both versions' spaces are always covered.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = tuple[int, int]
LAST = {4: (1 << 32) - 1, 6: (1 << 128) - 1}


@cache
def span(block: str) -> tuple[Address, Address]:
    """The first and the last address of a block (CIDR, or one address)."""
    network = ip_network(block, strict=False)
    return (
        (network.version, int(network.network_address)),
        (network.version, int(network.broadcast_address)),
    )


def address(text: str) -> Address | None:
    """An address as written, or null if it is none; IPv4-mapped IPv6 is IPv4."""
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return parsed.version, int(parsed)


def cidr(text: str) -> IPv4Network | IPv6Network | None:
    """The network of a CIDR, host bits set or not (or of one address); null if it is none.

    What the API server takes, and the agents of Calico and Cilium (Go, net.ParseCIDR): a length
    after the slash and no netmask, no zone. Python alone takes both.
    """
    _, slash, length = text.partition("/")
    if "%" in text or (slash and not length.isdigit()):
        return None
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def text(given: Address) -> str:
    """An address as it is usually written."""
    version, number = given
    return str(IPv4Address(number) if version == 4 else IPv6Address(number))


@dataclass(frozen=True, slots=True)
class Atoms:
    """Ranges of addresses, each by its first, that no block cuts."""

    firsts: tuple[Address, ...]

    @staticmethod
    def cut(blocks: Iterable[str]) -> Atoms:
        """The atoms of these blocks."""
        firsts = {(4, 0), (6, 0)}
        for block in blocks:
            first, (version, last) = span(block)
            firsts.add(first)
            if last < LAST[version]:
                firsts.add((version, last + 1))
        return Atoms(tuple(sorted(firsts)))

    def __len__(self) -> int:
        return len(self.firsts)

    def run(self, block: str) -> range:
        """The atoms of a block that they were cut by."""
        first, last = span(block)
        return range(bisect_left(self.firsts, first), bisect_right(self.firsts, last))

    def at(self, given: Address) -> int:
        """The atom that an address is in."""
        return bisect_right(self.firsts, given) - 1

    def last(self, atom: int) -> Address:
        """The last address of an atom."""
        version, _ = self.firsts[atom]
        if atom + 1 < len(self.firsts) and self.firsts[atom + 1][0] == version:
            return version, self.firsts[atom + 1][1] - 1
        return version, LAST[version]

    def size(self, atom: int) -> int:
        """How many addresses an atom holds."""
        return self.last(atom)[1] - self.firsts[atom][1] + 1
