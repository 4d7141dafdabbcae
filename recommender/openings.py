"""Pairs that nobody was seen to make and that shorten the policies: as many as a person allows.

A block is all workloads of a label set as clients of one server's port, or one client and a label
set of servers. A block is completed only where at least as much of it was seen as is opened, and
where the policies become shorter. A pair of which anything was denied, held back or rejected stays
shut, on every port.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from recommender.decisions import Decision, none_rejected
from recommender.dns import dns_ports, is_dns
from recommender.extents import Extents, Mask, bits, extents
from recommender.fewest import By
from recommender.frames import Row, workload_of
from recommender.minimise import minimised
from recommender.needs import Basis
from recommender.propose import Scope, named, propose

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_MOST_TRIED = 40  # blocks, the fullest first: each is proposed and shortened to see what it saves

Pair = tuple[int, int, str, int]  # numbers of client and server, protocol, port


@dataclass(frozen=True, slots=True, order=True)
class Opening:
    """A pair of workloads that is permitted though nobody was seen to use it."""

    client: str
    server: str
    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{self.client} -> {self.server} {self.protocol} {self.port}"


@dataclass(frozen=True, slots=True)
class Budget:
    """How many pairs may be opened, and the decisions whose rejections stay shut."""

    pairs: int = 0
    decisions: Sequence[Decision] = ()


def opening(row: Row) -> Opening:
    """An opened row as the pair that it stands for."""
    ends = named(row, "client"), named(row, "server")
    return Opening(*ends, str(row["protocol"]), int(row["port"]))


@dataclass(frozen=True)
class _Seen:
    """The wanted pairs of workloads that labels tell apart, each with its row; who stays shut."""

    basis: Basis
    scope: Scope
    extents: Extents
    rows: dict[Pair, Row] = field(default_factory=dict)
    shut: set[tuple[int, int]] = field(default_factory=set)

    def ends(self, row: Row) -> tuple[int, int] | None:
        """The numbers of both ends; null where one is no workload by itself, or out of scope."""
        found = []
        for role in ("client", "server"):
            key = workload_of(row, role)
            unit = self.basis.units.get(key) if key else None
            if key is None or unit is None or len(unit.workloads) > 1:
                return None
            found.append(self.extents.numbers[key])
        return found[0], found[1]

    def may(self, pair: Pair) -> bool:
        """Whether the pair can be opened."""
        client, server, *_ = pair
        units = [self.extents.units[at] for at in (client, server)]
        alone = all(len(u.workloads) == 1 and self.scope.takes(u.namespace) for u in units)
        return alone and client != server and (client, server) not in self.shut


def openings(
    wanted: Sequence[Row],
    others: Iterable[Row],
    scope: Scope,
    basis: Basis,
    by: By,
    budget: Budget,
) -> list[Row]:
    """Rows like the wanted ones, marked `opened`, that make the policies shorter; at most so many.

    Args:
        wanted: rows of what `classify.classified` returns.
        others: the rows of every other class; their pairs stay shut.
        scope: which namespaces and directions; both ends of what is opened lie in it.
        basis: what the proposals are told from.
        by: as for `minimise.minimised`.
        budget: how many, and whose rejections stand.
    """
    if budget.pairs < 1:
        return []
    seen = _seen(wanted, others, scope, basis)
    opened: dict[Pair, Row] = {}
    for block in sorted(_blocks(seen, budget.pairs), key=_fullest)[:_MOST_TRIED]:
        new = {pair: _row(seen, pair) for pair in block[1] if pair not in opened}
        if not new or len(opened) + len(new) > budget.pairs:
            continue
        if not none_rejected(list(new.values()), budget.decisions, basis.inventory):
            continue
        spaces = frozenset(
            seen.extents.units[at].namespace for pair in new for at in (pair[0], pair[1])
        )
        before = [*wanted, *opened.values()]
        if _cost([*before, *new.values()], spaces, seen, by) < _cost(before, spaces, seen, by):
            opened |= new
    return [opened[pair] for pair in sorted(opened)]


def _seen(wanted: Sequence[Row], others: Iterable[Row], scope: Scope, basis: Basis) -> _Seen:
    seen = _Seen(basis, scope, extents(basis))
    dns = dns_ports(basis.inventory)
    for row in wanted:
        ends = seen.ends(row)
        if ends and (row["denied_client"] or row["denied_server"]):
            seen.shut.add(ends)  # let through at other times, and still denied at some
        plain = row["protocol"] in _PROTOCOLS and row["protocol"] in basis.words.protocols
        if ends and plain and not row["run"] and not is_dns(row, dns):
            seen.rows[*ends, str(row["protocol"]), int(row["port"])] = row
    for row in others:
        if ends := seen.ends(row):
            seen.shut.add(ends)
    return seen


Block = tuple[int, tuple[Pair, ...]]  # how many pairs of it were seen; those that were not


def _fullest(block: Block) -> tuple[float, tuple[Pair, ...]]:
    return len(block[1]) / block[0], block[1]


def _blocks(seen: _Seen, most: int) -> set[Block]:
    """The blocks that can be completed within the budget."""
    near: dict[tuple[bool, int, str, int], Mask] = defaultdict(int)
    for client, server, protocol, port in seen.rows:
        near[True, server, protocol, port] |= 1 << client
        near[False, client, protocol, port] |= 1 << server
    found: set[Block] = set()
    for (of_server, end, protocol, port), mask in near.items():
        for members in _sets(seen.extents, mask):
            lacking = members & ~mask & ~(1 << end)
            count = (members & mask).bit_count()
            if 0 < lacking.bit_count() <= min(count, most):
                pairs = tuple(
                    (at, end, protocol, port) if of_server else (end, at, protocol, port)
                    for at in bits(lacking)
                )
                if all(map(seen.may, pairs)):
                    found.add((count, pairs))
    return found


def _sets(known: Extents, mask: Mask) -> Iterator[Mask]:
    """The extents of the label sets of all namespaces in which some of these units are."""
    for namespace, space in known.spaces.items():
        if mask & space:
            yield from dict.fromkeys(each.mask for each in known.label_sets(namespace))


def _row(seen: _Seen, pair: Pair) -> Row:
    """A row for an unseen pair, made of one with the same server, or else the same client."""
    client, server, protocol, port = pair
    like = next(
        row
        for other, row in seen.rows.items()
        if other[2:] == (protocol, port) and (other[0] == client or other[1] == server)
    )
    ends: Row = {}
    for role, at in (("client", client), ("server", server)):
        key = seen.extents.units[at].workloads[0]
        ends |= {
            f"{role}_type": "workload",
            f"{role}_namespace": key.namespace,
            f"{role}_kind": key.kind,
            f"{role}_name": key.name,
            f"{role}_address": None,
        }
    nothing = {"connections": 0, "days": 0, "hours": 0}
    return {
        **like,
        **ends,
        **nothing,
        "allowed_client": False,
        "allowed_server": False,
        "opened": True,
    }


def _cost(rows: Sequence[Row], spaces: frozenset[str], seen: _Seen, by: By) -> int:
    """What the shortest policies of some namespaces cost, in tenths."""
    near = [row for row in rows if {row["client_namespace"], row["server_namespace"]} & set(spaces)]
    scope = replace(seen.scope, namespaces=spaces)
    proposals, _ = propose(near, scope, seen.basis, apart=True)
    return minimised(proposals, seen.basis, by=by).after.cost
