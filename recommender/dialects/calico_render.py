"""Calico's NetworkPolicy, written: a rule for each peer's namespace, address family and protocol.

Two or more outside blocks of one rule stand in a NetworkSet of their own, beside the policy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from recommender.dialects.calico import API, DEFAULT_TIER
from recommender.dialects.labels import flat, key_of
from recommender.errors import PolicyError
from recommender.model import (
    ALL_PORTS,
    DIRECTIONS,
    PORT_PROTOCOLS,
    AddressPeer,
    AnyOf,
    AnyPeer,
    Direction,
    Has,
    In,
    LabelPeer,
    NamePeer,
    Not,
    Peer,
    Policy,
    Ports,
    PortSet,
    Rule,
    Selector,
)
from recommender.words import Words

KIND, STAGED, SET = "NetworkPolicy", "StagedNetworkPolicy", "NetworkSet"
SET_LABEL = "flowpolicy/set"
_ICMP = ("ICMP", "ICMPv6")
_LONGEST_LABEL = 63
_ORDER = 1000.0  # as Calico places Kubernetes' own policies


def apart(peer: Peer, protocol: str) -> Hashable:
    """A rule has one protocol, and pods of one namespace, blocks of one family, or names."""
    match peer:
        case LabelPeer(selector=selector):
            return protocol, "pods", _namespace(selector)
        case AddressPeer(blocks=blocks):
            return protocol, "v6" if ":" in blocks[0] else "v4"
    return protocol, type(peer).__name__


def _namespace(selector: Selector) -> str | None:
    for term in flat(selector):
        if isinstance(term, In) and term.key == "meta:namespace" and len(term.values) == 1:
            return next(iter(term.values))
    return None


WORDS = Words(
    api=API,
    kind=KIND,
    title=f"{KIND} of Calico",
    tier=DEFAULT_TIER,
    order=_ORDER,
    reach="all",
    protocols=frozenset({*PORT_PROTOCOLS, *_ICMP}),
    apart=apart,
)


def render(policy: Policy, *, staged: bool = False) -> list[dict[str, Any]]:
    """The manifests of a policy: its network sets, and itself last.

    Raises:
        PolicyError: the policy says something that is not written by this dialect.
    """
    sets: dict[str, dict[str, Any]] = {}
    own = In("meta:namespace", frozenset({str(policy.ref.namespace)}))
    subject = [term for term in flat(policy.subject) if term != own]
    spec: dict[str, Any] = {
        "tier": policy.tier.name,
        "order": int(policy.order) if policy.order.is_integer() else policy.order,
        "selector": _all_of(subject, policy),
        "types": [d.capitalize() for d in DIRECTIONS if d in policy.isolates],
    }
    for direction in DIRECTIONS:
        if direction in policy.isolates:
            rules = policy.rules(direction)
            spec[direction] = [one for r in rules for one in _rules(r, direction, policy, sets)]
    if staged:
        spec = {"stagedAction": "Set", **spec}
    # Until 3.31 the names of policies bear their tier's, which later versions still take.
    in_default = policy.tier.name == DEFAULT_TIER.name
    name = policy.ref.name if in_default else f"{policy.tier.name}.{policy.ref.name}"
    kind = STAGED if staged else KIND
    return [*sets.values(), _object(kind, name, policy, spec)]


def _object(kind: str, name: str, policy: Policy, spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": policy.ref.namespace}
    return {"apiVersion": API, "kind": kind, "metadata": meta, "spec": spec}


# --- rules --------------------------------------------------------------------------------------


def _rules(
    rule: Rule, direction: Direction, policy: Policy, sets: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """A rule as Calico's: mostly one; one each for further protocols and types of ICMP."""
    if rule.action != "allow" or rule.local is not None:
        raise _unsayable(policy, "a rule other than a plain allow")
    side = "source" if direction == "ingress" else "destination"
    peer = _peer(rule, direction, policy, sets)
    for traffic, ports in _traffic(rule.ports, policy):
        out: dict[str, Any] = {"action": "Allow", **traffic}
        ends = {side: dict(peer)} if peer else {}
        if ports:
            ends.setdefault("destination", {})["ports"] = ports
        yield out | {name: ends[name] for name in ("source", "destination") if name in ends}


def _traffic(ports: Ports, policy: Policy) -> Iterator[tuple[dict[str, Any], list[int | str]]]:
    """Protocol and ICMP type, with the ports; nothing where everything is meant."""
    if ports.not_named or ports.not_numbers:
        raise _unsayable(policy, "all ports but some")
    if ports == Ports():
        yield {}, []
        return
    names = [name for name, _ in (*ports.numbers.by_protocol, *ports.named)]
    for protocol in dict.fromkeys(names):
        intervals = ports.numbers.intervals(protocol)
        if protocol in _ICMP:
            yield from (({"protocol": protocol, **kind}, []) for kind in _types(intervals, policy))
        elif protocol not in PORT_PROTOCOLS:
            raise _unsayable(policy, f"the protocol {protocol}")
        elif intervals == ALL_PORTS.intervals(protocol):
            yield {"protocol": protocol}, []
        else:
            listed = [low if low == high else f"{low}:{high}" for low, high in intervals]
            named = [name for given, name in ports.named if given == protocol]
            yield {"protocol": protocol}, [*listed, *named]


def _types(intervals: Sequence[tuple[int, int]], policy: Policy) -> Iterator[dict[str, Any]]:
    if tuple(intervals) == ALL_PORTS.intervals("ICMP"):
        yield {}
        return
    for low, high in intervals:
        if low % 256 or (high + 1) % 256:
            raise _unsayable(policy, "single codes of ICMP")
        for kind in range(low // 256, high // 256 + 1):
            yield {"icmp": {"type": kind}}


# --- peers --------------------------------------------------------------------------------------


def _peer(
    rule: Rule, direction: Direction, policy: Policy, sets: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The entity rule of one end; empty where it may be anybody."""
    peers = rule.peer.peers if isinstance(rule.peer, AnyOf) else (rule.peer,)
    if len({apart(peer, "") for peer in peers}) != 1:
        raise _unsayable(policy, "peers of several kinds in one rule")
    match peers[0]:
        case AnyPeer():
            return {}
        case LabelPeer(selector=selector):
            return _pods(peers, _namespace(selector), policy)
        case AddressPeer():
            return _blocks(peers, direction, rule.ports.numbers, policy, sets)
        case NamePeer():
            names = {name for peer in peers if isinstance(peer, NamePeer) for name in peer.names}
            return {"domains": sorted(name.replace("**.", "*.") for name in names)}
    raise _unsayable(policy, f"a peer such as {peers[0]}")


def _pods(peers: Sequence[Peer], namespace: str | None, policy: Policy) -> dict[str, Any]:
    selectors = []
    for peer in peers:
        terms = flat(peer.selector) if isinstance(peer, LabelPeer) else ()
        within = [term for term in terms if key_of(term) != "meta:namespace"]
        selectors.append(_all_of(within, policy))
    alone = len(selectors) == 1
    text = " || ".join(s if alone or "&&" not in s else f"({s})" for s in dict.fromkeys(selectors))
    out = {"selector": text}
    if namespace is None:
        raise _unsayable(policy, "pods of no one namespace")
    if namespace != policy.ref.namespace:
        out["namespaceSelector"] = f"projectcalico.org/name == '{namespace}'"
    return out


def _blocks(
    peers: Sequence[Peer],
    direction: Direction,
    ports: PortSet,
    policy: Policy,
    sets: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Blocks of addresses: one where it stands, more as a network set."""
    found = [peer for peer in peers if isinstance(peer, AddressPeer)]
    nets = [block for peer in found for block in peer.blocks]
    excepts = [block for peer in found for block in peer.excepts]
    if len(nets) == 1 or excepts:
        return {"nets": nets, **({"notNets": excepts} if excepts else {})}
    family = "v6" if ":" in nets[0] else "v4"
    name = _set_name(policy.ref.name, direction, ports, family)
    body = _object(SET, name, policy, {"nets": nets})
    body["metadata"]["labels"] = {SET_LABEL: name}
    sets[name] = body
    return {"selector": f"{SET_LABEL} == '{name}'"}


def _set_name(policy: str, direction: str, ports: PortSet, family: str) -> str:
    """A name that lasts while the rule's ports do, and that a label can hold."""
    said = [
        f"{protocol.lower()}-{'-'.join(dict.fromkeys(map(str, interval)))}"
        for protocol, intervals in ports.by_protocol
        for interval in intervals
    ]
    name = "-".join((policy, direction, *said, *(["v6"] if family == "v6" else [])))
    if len(name) <= _LONGEST_LABEL:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"{name[: _LONGEST_LABEL - 11].rstrip('-.')}-{digest}"


# --- selectors ----------------------------------------------------------------------------------


def _all_of(terms: Sequence[Selector], policy: Policy) -> str:
    return " && ".join(_term(term, policy) for term in terms) or "all()"


def _term(term: Selector, policy: Policy) -> str:
    inner = term.term if isinstance(term, Not) else term
    positive = inner is term
    if not key_of(term).startswith("pod:") or (isinstance(inner, In) and _quoted(inner)):
        raise _unsayable(policy, f"that {term}")
    key = key_of(term).removeprefix("pod:")
    match inner:
        case Has():
            return f"{'' if positive else '!'}has({key})"
        case In(values=values) if len(values) == 1:
            return f"{key} {'==' if positive else '!='} '{next(iter(values))}'"
        case In(values=values):
            listed = ", ".join(f"'{value}'" for value in sorted(values))
            return f"{key} {'in' if positive else 'not in'} {{{listed}}}"
    raise _unsayable(policy, f"that {term}")


def _quoted(term: In) -> bool:
    """Whether a value holds a quote, which Calico's strings cannot."""
    return any("'" in value for value in term.values)


def _unsayable(policy: Policy, what: str) -> PolicyError:
    return PolicyError(f"{policy.ref}: a {KIND} of Calico is not written with {what}")
