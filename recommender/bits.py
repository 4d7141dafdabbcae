"""The bits that a block model needs to tell calls, given who plays which role.

Calls are told block by block (client role, server role, port); the grouping that needs the fewest
bits is the best one. A full block is one rule that opens nothing, so the bits are nearly the
policy's own cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammaln

from recommender.roles import Calls, Floats, Ints

# Names and labels tell much of who is in which role. With none of these bits roles fall apart by
# what chance has hidden, with all of them small ones that lack a call become one.
_PARTITION = 0.5
_EXPECTED = 4  # members that take part, for each that does not


def description_length(found: Calls, labels: Ints) -> float:
    """Bits to tell distinct calls, given roles: the least is best (see `block_bits`)."""
    sizes = np.bincount(labels, minlength=1).astype(np.float64)
    return block_bits(found, labels, sizes, naming(found))


def naming(found: Calls) -> Floats:
    """What may be known of each call before its block is told, a row a call.

    Columns: bits to name its block; how many calls its client makes in all, and its server gets.
    What is usual is named briefly: by -log2 of the share of all ends that call that server there,
    or that that client calls there, whichever is more. So what everybody does, as asking the same
    DNS, makes nobody alike.
    """
    ports = max(len(found.ports), 1)
    most, totals = np.zeros(len(found)), []
    for end in (found.client, found.server):
        _, same, often = np.unique(
            end * ports + found.port, return_inverse=True, return_counts=True
        )
        most = np.maximum(most, often[same])
        totals.append(np.bincount(end, minlength=1)[end].astype(np.float64))
    name = np.log2(max(len(found.ends), 1)) - np.log2(most)
    return np.stack([name, *totals], axis=1)


def block_bits(found: Calls, labels: Ints, sizes: Floats, names: Floats) -> float:
    """Bits of the blocks (client role, server role, port) that calls make up.

    A block says which clients of its role take part, which servers of the other (see
    `_part_bits`), and which pairs of these call (see `_pair_bits`), and its name. So an end that
    was never seen to do what its role does costs little, which is what a short window makes of
    it. How many calls an end makes and gets in all costs nothing, for that is the same in any
    grouping. Who is in which role costs half its bits (see `_partition_bits`).

    Calls that make no block worth its bits are told one by one, client, server and port: log2 N +
    log2 N + log2 P each. Else ends would be grouped by what chance calls have in common.

    Args:
        found: distinct calls.
        labels: the role of each end.
        sizes: members of each role.
        names: see `naming`; a block is named by its most usual call.
    """
    if not len(found):
        return 0.0
    _, as_block, apart = _told(found, labels, sizes, names)
    return float(np.minimum(as_block, apart).sum()) + _PARTITION * _partition_bits(sizes)


def _partition_bits(sizes: Floats) -> float:
    """Bits to say who is in which role: log2 C(N - 1, R - 1) + log2 N! / prod n!."""
    kept = sizes[sizes > 0]
    ends = kept.sum(keepdims=True)
    which = choices(ends - 1, np.full(1, len(kept) - 1.0)) + _factorial(ends)
    return float(which[0] - _factorial(kept).sum())


def explained(found: Calls, labels: Ints) -> npt.NDArray[np.bool_]:
    """Which ends have a part in a block that is worth its bits.

    All that the others do is told one by one: no role explains any of it.
    """
    sizes = np.bincount(labels, minlength=1).astype(np.float64)
    block, as_block, apart = _told(found, labels, sizes, naming(found))
    worth = (as_block < apart)[block]
    out = np.zeros(len(labels), bool)
    out[found.client[worth]] = out[found.server[worth]] = True
    return out


def _told(found: Calls, labels: Ints, sizes: Floats, names: Floats) -> tuple[Ints, Floats, Floats]:
    """The block of each call; the bits of each block as one, and with its calls one by one."""
    roles, ports, ends = len(sizes), max(len(found.ports), 1), len(labels)
    key = (labels[found.client] * roles + labels[found.server]) * ports + found.port
    blocks, block, seen = np.unique(key, return_inverse=True, return_counts=True)
    calls = seen.astype(np.float64)
    clients, servers = (
        _side(block, end, total, calls)
        for end, total in ((found.client, names[:, 1]), (found.server, names[:, 2]))
    )
    bits = _pair_bits(calls, clients, servers)
    for role, side in ((blocks // ports // roles, clients), (blocks // ports % roles, servers)):
        bits += _part_bits(sizes[role], side.ends)
    named = np.full(len(blocks), np.inf)
    np.minimum.at(named, block, names[:, 0])
    return block, bits + named, calls * (2 * np.log2(ends) + np.log2(ports))


@dataclass(frozen=True, slots=True)
class _Side:
    """The clients or the servers of all blocks.

    Of each that takes part, sorted by block: the block, and how many of its calls it has. Of each
    block: how many take part, and the bits to tell how many calls each has.
    """

    block: Ints
    calls: Floats
    ends: Floats
    degrees: Floats

    def summed(self, of: Floats) -> Floats:
        """Over those who take part in each block."""
        return np.asarray(np.bincount(self.block, of, len(self.ends)), np.float64)


def _side(block: Ints, end: Ints, total: Floats, calls: Floats) -> _Side:
    """One side of each block, of k calls by r ends.

    How many calls each has, d, is told by all ways to divide, log2 C(k-1, r-1), or as drawn by
    how many calls each end has in all, what is less: then ends that call more, everywhere, need
    no role of their own.

    Args:
        block: of each call.
        end: the client or server of each call.
        total: the calls of that end in all.
        calls: of each block.
    """
    most = int(end.max(initial=0)) + 1
    place = block * most + end
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    degree = np.diff(starts, append=len(place)).astype(np.float64)
    here: Ints = place[order[starts]] // most
    ends = np.bincount(here, minlength=len(calls)).astype(np.float64)
    side = _Side(here, degree, ends, ends)
    vigour, more = total[order[starts]], calls - ends
    drawn = side.summed(_factorial(degree - 1) - (degree - 1) * np.log2(vigour))
    drawn += more * np.log2(side.summed(vigour)) - _factorial(more)
    either = np.minimum(choices(calls - 1, ends - 1), drawn) + (more > 0)
    return _Side(here, degree, ends, either)


def _pair_bits(calls: Floats, clients: _Side, servers: _Side) -> Floats:
    """Bits to say which pairs call, by the best of four codes; k calls by r clients to c servers.

    log2 rc, 2 bits for which code, and one of

    - any k pairs: log2 C(rc, k);
    - the calls d of each client, and which servers: sum log2 C(c, d), so a client that calls all
      costs no more than its d; or the calls e of each server, and which clients: sum log2 C(r, e);
    - the calls of each client and each server, and how they meet: the latter two less the first.
      So many 0-1 matrices have these sums, nearly (Good and Crook 1977; Canfield, Greenhill and
      McKay, J. Combin. Theory A 2008), be they sparse, as where each client has a server of its
      own, or dense, as where some are called by all and some by few.
    """
    pairs = clients.ends * servers.ends
    by_client, by_server = (
        side.summed(choices(others.ends[side.block], side.calls))
        for side, others in ((clients, servers), (servers, clients))
    )
    any_pairs = choices(pairs, calls)
    met = np.maximum(by_client + by_server - any_pairs, 0)
    codes = (
        any_pairs,
        clients.degrees + by_client,
        servers.degrees + by_server,
        clients.degrees + servers.degrees + met,
    )
    bits: Floats = np.log2(pairs) + 2 + np.minimum.reduce(codes)
    return bits


def _part_bits(size: Floats, taking_part: Floats) -> Floats:
    """Bits to say which r of n members take part, where four of five are expected to.

    That is Beta(4, 1) over the share: log2 B(4, 1) / B(r + 4, n - r + 1). With all shares as
    likely, small roles that have little in common would be one.
    """
    bits = betaln(_EXPECTED, 1) - betaln(taking_part + _EXPECTED, size - taking_part + 1)
    return np.asarray(bits / np.log(2), np.float64)


def choices(of: Floats, taken: Floats) -> Floats:
    """Bits to say which: log2 of the binomial coefficient."""
    return _factorial(of) - _factorial(taken) - _factorial(of - taken)


def _factorial(of: Floats) -> Floats:
    """log2 of the factorial."""
    bits: Floats = gammaln(of + 1) / np.log(2)
    return bits
