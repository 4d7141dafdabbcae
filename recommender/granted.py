"""What proposals permit, as masks: for each unit, form of rule and part of the ports, which peers.

What cannot be told apart by anybody's needs is one part: ports that always go together, addresses
that always go together. So the same permissions give the same needs, however rules spell them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import collapse_addresses, ip_address, ip_network, summarize_address_range
from itertools import pairwise

from recommender.addresses import Atoms, text
from recommender.extents import Extents, Mask, spelled
from recommender.model import (
    DIRECTIONS,
    EVERYTHING,
    NO_PORTS,
    AddressPeer,
    AllOf,
    AnyOf,
    AnyPeer,
    Direction,
    LabelPeer,
    NamePeer,
    NodePeer,
    NotPeer,
    Peer,
    Policy,
    PortSet,
    Rule,
)
from recommender.propose import Proposal
from recommender.words import Words

# What rules must have in common to be one: direction, all but the peer and port numbers, and what
# the dialect keeps apart.
Form = tuple[Direction, Rule, Hashable]
Column = tuple[Form, PortSet]
Need = Mapping[int, Mask]  # by column: the peers that may be reached, or may come


@dataclass(frozen=True, slots=True)
class Granted:
    """What one proposed rule permits: units, columns, peers."""

    units: Mask
    columns: frozenset[int]
    peers: Mask
    rule: Rule


@dataclass(frozen=True)
class Problem:
    """Units of one namespace whose policies may be joined, and what each needs.

    A column is a form of rule with a part of the ports that is always needed as a whole; `tokens`
    are the peers that no pod label tells, by the bits after those of all units.
    """

    policy: Policy
    needs: Mapping[int, Need]
    columns: tuple[Column, ...]
    tokens: tuple[tuple[Peer, ...], ...]
    granted: tuple[Granted, ...]
    proposals: tuple[Proposal, ...]

    @property
    def namespace(self) -> str:
        """Where its policies stand."""
        return str(self.policy.ref.namespace)


Pieces = tuple[Mask, frozenset[Peer]]  # units, and peers that no label of a unit tells
Row = tuple[tuple[int, ...], Form, PortSet, Pieces]  # a rule: the units that it governs, ...


def problems(proposals: Iterable[Proposal], extents: Extents, words: Words) -> Iterator[Problem]:
    """The proposals by what their policies must have in common to be joined, in a fixed order."""
    alike: dict[Policy, list[Proposal]] = defaultdict(list)
    for proposal in proposals:
        policy = proposal.policy
        bare = replace(
            policy, ref=replace(policy.ref, name=""), subject=EVERYTHING, ingress=(), egress=()
        )
        alike[bare].append(proposal)
    for policy, group in sorted(alike.items(), key=lambda item: _order(item[0])):
        yield _problem(policy, sorted(group, key=lambda p: p.policy.ref), extents, words)


def _order(policy: Policy) -> tuple[object, ...]:
    return policy.ref, policy.tier.name, policy.order, sorted(policy.isolates)


def _problem(policy: Policy, group: Sequence[Proposal], extents: Extents, words: Words) -> Problem:
    rows: list[Row] = []
    rules: list[Rule] = []
    for proposal in group:
        numbers = tuple(extents.numbers[key] for key in proposal.workloads)
        for direction in DIRECTIONS:
            for rule in proposal.policy.rules(direction):
                form = direction, bare(rule), _apart(rule, words)
                rules.append(rule)
                rows.append((numbers, form, rule.ports.numbers, pieces(rule.peer, extents)))
    units = sorted({extents.numbers[key] for p in group for key in p.workloads})
    whole = {peer for *_, (_, peers) in rows for peer in peers}
    cut = _cut(whole)
    parts, indices = _parts(rows)
    raw: dict[tuple[int, Form, int], Pieces] = {}
    for numbers, form, ports, (mask, peers) in rows:
        small = frozenset(piece for peer in peers for piece in cut[peer])
        for index in indices[form, ports]:
            for number in numbers:
                had, others = raw.get((number, form, index), (0, frozenset()))
                raw[number, form, index] = had | mask, others | small
    tokens = _tokens(raw)
    bit = {peer: 1 << len(extents.units) + at for at, token in enumerate(tokens) for peer in token}
    masks = {key: mask | _union(bit[p] for p in peers) for key, (mask, peers) in raw.items()}
    columns, needs, of_part = _columns(units, masks, parts)
    granted = tuple(
        Granted(
            _union(1 << number for number in numbers),
            frozenset(of_part[form, i] for i in indices[form, ports] if (form, i) in of_part),
            mask | _union(bit[piece] for peer in peers for piece in cut[peer]),
            rule,
        )
        for (numbers, form, ports, (mask, peers)), rule in zip(rows, rules, strict=True)
    )
    return Problem(policy, needs, columns, tokens, granted, tuple(group))


def _columns(
    units: Sequence[int],
    masks: Mapping[tuple[int, Form, int], Mask],
    parts: Mapping[Form, Sequence[PortSet]],
) -> tuple[tuple[Column, ...], dict[int, dict[int, Mask]], dict[tuple[Form, int], int]]:
    """The columns, parts that everybody needs alike being one; the needs; each part's column."""
    rows: dict[tuple[Form, int], list[tuple[int, Mask]]] = defaultdict(list)
    for (unit, form, index), mask in sorted(masks.items(), key=lambda item: item[0][0]):
        rows[form, index].append((unit, mask))
    columns: list[Column] = []
    needs: dict[int, dict[int, Mask]] = {unit: {} for unit in units}
    of_part: dict[tuple[Form, int], int] = {}
    for form, elements in parts.items():
        same: dict[tuple[tuple[int, Mask], ...], list[int]] = defaultdict(list)
        for index in range(len(elements)):
            same[tuple(rows[form, index])].append(index)
        wholes = [
            (PortSet.union(elements[i] for i in found), found, row)
            for row, found in same.items()
            if any(mask for _, mask in row)
        ]
        for ports, found, row in sorted(wholes, key=lambda item: item[0].by_protocol):
            of_part |= {(form, index): len(columns) for index in found}
            for unit, mask in row:
                if mask:
                    needs[unit][len(columns)] = mask
            columns.append((form, ports))
    return tuple(columns), needs, of_part


def bare(rule: Rule) -> Rule:
    """A rule without its peer, its port numbers, its place and its evidence."""
    ports = replace(rule.ports, numbers=NO_PORTS)
    return replace(rule, peer=AnyPeer(), ports=ports, index=0, evidence=None)


def form_order(form: Form) -> tuple[str, ...]:
    """Forms by direction, then by text."""
    direction, rule, apart = form
    more = (
        str(rule.learns),
        str(rule.restricted),
        peer_text(rule.local),
        str(rule.ports),
        str(apart),
    )
    return (direction, *more)


def _apart(rule: Rule, words: Words) -> Hashable:
    """What the dialect keeps apart; a proposed rule is of one kind."""
    peers = rule.peer.peers if isinstance(rule.peer, AnyOf) else (rule.peer,)
    protocol = next((protocol for protocol, _ in rule.ports.numbers.by_protocol), "")
    return words.apart(peers[0], protocol) if peers else ()


def pieces(peer: Peer, extents: Extents) -> Pieces:
    """The units that a rule's peer takes in, and its parts that no label of a unit tells."""
    mask, others = 0, set[Peer]()
    for each in peer.peers if isinstance(peer, AnyOf) else (peer,):
        found = extents.matched(each.selector) if isinstance(each, LabelPeer) else None
        if found is not None:
            mask |= found
        elif isinstance(each, NamePeer):
            others |= {NamePeer((name,)) for name in each.names}
        elif isinstance(each, AddressPeer) and not each.excepts:
            others |= {AddressPeer((block,), reach=each.reach) for block in each.blocks}
        else:
            others.add(each)
    return mask, frozenset(others)


def _cut(peers: Iterable[Peer]) -> dict[Peer, tuple[Peer, ...]]:
    """Each address block taken apart where another one's border cuts it."""
    whole: dict[Peer, tuple[Peer, ...]] = {p: (p,) for p in peers}
    plain = [p for p in whole if isinstance(p, AddressPeer) and not p.excepts]
    atoms = Atoms.cut(p.blocks[0] for p in plain)
    for peer in plain:
        small: list[Peer] = []
        for atom in atoms.run(peer.blocks[0]):
            first, last = atoms.firsts[atom], atoms.last(atom)
            ends = ip_address(text(first)), ip_address(text(last))
            blocks = summarize_address_range(*ends)
            small += [AddressPeer((str(block),), reach=peer.reach) for block in blocks]
        whole[peer] = tuple(small)
    return whole


def _tokens(raw: Mapping[tuple[int, Form, int], Pieces]) -> tuple[tuple[Peer, ...], ...]:
    """Peers without labels, those that all units need alike taken together."""
    where: dict[Peer, list[int]] = defaultdict(list)
    for at, (_, peers) in enumerate(raw.values()):
        for peer in peers:
            where[peer].append(at)
    same: dict[tuple[object, ...], list[Peer]] = defaultdict(list)
    for peer, found in where.items():
        kind = peer.reach if isinstance(peer, AddressPeer) else type(peer).__name__
        same[kind, *found].append(peer)
    return tuple(sorted((collapsed(group) for group in same.values()), key=peers_order))


def peers_order(peers: Iterable[Peer]) -> list[str]:
    """Peers by text."""
    return [peer_text(peer) for peer in peers]


def peer_text(peer: Peer | None) -> str:
    """A peer as text that sets of values do not reorder."""
    match peer:
        case LabelPeer(selector=selector) | NodePeer(selector=selector):
            return f"{type(peer).__name__} {spelled(selector)}"
        case NotPeer(peer=inner):
            return f"not {peer_text(inner)}"
        case AllOf(peers=peers) | AnyOf(peers=peers):
            return f"{type(peer).__name__} {peers_order(peers)}"
    return str(peer)


def collapsed(peers: Iterable[Peer]) -> tuple[Peer, ...]:
    """The same peers in the fewest address blocks, by text."""
    blocks: dict[tuple[str, int], list[str]] = defaultdict(list)
    others: set[Peer] = set()
    for peer in peers:
        if isinstance(peer, AddressPeer) and not peer.excepts:
            for block in peer.blocks:
                blocks[peer.reach, ip_network(block).version].append(block)
        else:
            others.add(peer)
    found = [
        AddressPeer((str(block),), reach=reach)  # type: ignore[arg-type]
        for (reach, _), given in sorted(blocks.items())
        for block in collapse_addresses(sorted(map(ip_network, given)))  # type: ignore[type-var]
    ]
    return (*sorted(others, key=peer_text), *found)


def _parts(
    rows: Iterable[Row],
) -> tuple[dict[Form, tuple[PortSet, ...]], dict[tuple[Form, PortSet], tuple[int, ...]]]:
    """The ports of each form cut at every border of every rule, and which of them each rule has."""
    sets: dict[Form, set[PortSet]] = defaultdict(set)
    for _, form, ports, _ in rows:
        sets[form].add(ports)
    parts: dict[Form, tuple[PortSet, ...]] = {}
    indices: dict[tuple[Form, PortSet], tuple[int, ...]] = {}
    for form in sorted(sets, key=form_order):
        firsts: dict[str, set[int]] = defaultdict(set)
        for protocol, intervals in (each for ports in sets[form] for each in ports.by_protocol):
            firsts[protocol] |= {at for low, high in intervals for at in (low, high + 1)}
        points = [(p, low) for p, cuts in sorted(firsts.items()) for low in sorted(cuts)]
        ends = {a: b[1] - 1 for a, b in pairwise(points) if a[0] == b[0]}
        parts[form] = tuple(PortSet.one(p, low, high) for (p, low), high in ends.items())
        for ports in sets[form]:
            indices[form, ports] = tuple(i for i, at in enumerate(ends) if at in ports)
    return parts, indices


def _union(masks: Iterable[Mask]) -> Mask:
    found = 0
    for mask in masks:
        found |= mask
    return found
