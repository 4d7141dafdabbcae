"""CiliumNetworkPolicy, written: one element of a rule list for each rule of the model."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, TypeVar

from recommender.dialects.cilium import API, KIND, TIER
from recommender.dialects.cilium_selectors import is_hidden
from recommender.dialects.labels import flat, key_of, label_selector
from recommender.errors import PolicyError
from recommender.model import (
    ALL_PORTS,
    DIRECTIONS,
    PORT_PROTOCOLS,
    AddressPeer,
    AnyOf,
    AnyPeer,
    Direction,
    EntityPeer,
    In,
    LabelPeer,
    NamePeer,
    Peer,
    Policy,
    Ports,
    Rule,
    Selector,
)
from recommender.words import Words

_FAMILIES = {"ICMP": "IPv4", "ICMPv6": "IPv6"}
# Keys of the model that are labels which the agent gives a pod (cilium_selectors reads them).
_KEYS = {
    "meta:namespace": "k8s:io.kubernetes.pod.namespace",
    "meta:service-account": "k8s:io.cilium.k8s.policy.serviceaccount",
    "meta:cluster": "k8s:io.cilium.k8s.policy.cluster",
}
_MOST = 40  # ports in one entry of toPorts, fields in one of icmps


def apart(peer: Peer, protocol: str) -> Hashable:
    """An element has one kind of peer, and either ports or ICMP."""
    return type(peer).__name__, protocol in _FAMILIES


WORDS = Words(
    api=API,
    kind=KIND,
    title=KIND,
    tier=TIER,
    reach="outside",
    protocols=frozenset({*PORT_PROTOCOLS, *_FAMILIES}),
    entities=True,
    names=True,
    clusters=True,
    apart=apart,
    hides=is_hidden,
)


def render(policy: Policy, *, audit: bool = False) -> dict[str, Any]:
    """The manifest of a policy; `parse` of it gives the policy back.

    With `audit` the rules stand but deny nothing else: `enableDefaultDeny` is off.

    Raises:
        PolicyError: the policy says something that is not written by this dialect.
    """
    terms = list(flat(policy.subject))
    spec: dict[str, Any] = {"endpointSelector": _selector(terms, policy, own=True)}
    if audit:
        spec["enableDefaultDeny"] = dict.fromkeys(DIRECTIONS, False)
    for direction in DIRECTIONS:
        if direction in policy.isolates:
            elements = [_element(rule, direction, policy) for rule in policy.rules(direction)]
            spec[direction] = elements or [{}]
    meta = {"name": policy.ref.name, "namespace": policy.ref.namespace}
    return {"apiVersion": API, "kind": KIND, "metadata": meta, "spec": spec}


def _element(rule: Rule, direction: Direction, policy: Policy) -> dict[str, Any]:
    if rule.action != "allow" or rule.local is not None:
        raise _unsayable(policy, "a rule other than a plain allow")
    peers = rule.peer.peers if isinstance(rule.peer, AnyOf) else (rule.peer,)
    if len({type(peer) for peer in peers}) != 1:
        raise _unsayable(policy, "peers of several kinds in one rule")
    out = _peers(peers, "from" if direction == "ingress" else "to", policy)
    if rule.ports == Ports():
        return out or {"fromEntities" if direction == "ingress" else "toEntities": ["all"]}
    if rule.ports.not_named or rule.ports.not_numbers:
        raise _unsayable(policy, "all ports but some")
    icmp = [name for name, _ in rule.ports.numbers.by_protocol if name in _FAMILIES]
    if icmp and (rule.ports.named or len(icmp) < len(rule.ports.numbers.by_protocol)):
        raise _unsayable(policy, "ports and ICMP in one rule")
    if icmp:
        return out | {"icmps": [{"fields": part} for part in _cut(list(_types(rule, policy)))]}
    dns = {"rules": {"dns": [{"matchPattern": "*"}]}} if rule.learns else {}
    ports = list(_ports(rule.ports, policy))
    return out | {"toPorts": [{"ports": part, **dns} for part in _cut(ports)]}


def _peers(peers: Sequence[Peer], way: str, policy: Policy) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for peer in peers:
        match peer:
            case AnyPeer():
                pass
            case LabelPeer(selector=selector):
                terms = list(flat(selector))
                found.setdefault("Endpoints", []).append(_selector(terms, policy, own=False))
            case EntityPeer(entity=entity):
                found.setdefault("Entities", []).append(entity)
            case NamePeer(names=names):
                found.setdefault("FQDNs", []).extend(names)
            case AddressPeer(blocks=blocks, excepts=excepts, reach="outside"):
                sets = [{"cidr": b, **({"except": [*excepts]} if excepts else {})} for b in blocks]
                found.setdefault("CIDRSet", []).extend(sets)
            case _:
                raise _unsayable(policy, f"a peer such as {peer}")
    if "FQDNs" in found:
        asked = sorted(set(found["FQDNs"]))
        found["FQDNs"] = [{"matchPattern" if "*" in n else "matchName": n} for n in asked]
    return {way + kind: values for kind, values in found.items()}


def _selector(terms: Sequence[Selector], policy: Policy, *, own: bool) -> dict[str, Any]:
    """The selector of pods; a policy's subject is of its namespace without a word."""
    labels: dict[str, str] = {}
    for term in terms:
        key = key_of(term)
        if key.startswith("pod:"):
            continue
        if key not in _KEYS or not isinstance(term, In) or len(term.values) != 1:
            raise _unsayable(policy, f"that {term}")
        (value,) = term.values
        if not own or key != "meta:namespace":
            labels[_KEYS[key]] = value
        elif value != policy.ref.namespace:
            raise _unsayable(policy, f"a subject in namespace {value}")
    out = label_selector(terms, "pod:")
    if labels:
        out = {"matchLabels": labels | out.pop("matchLabels", {}), **out}
    return out


def _ports(ports: Ports, policy: Policy) -> Iterator[dict[str, Any]]:
    for protocol, intervals in ports.numbers.by_protocol:
        if protocol not in PORT_PROTOCOLS:
            raise _unsayable(policy, f"the protocol {protocol}")
        for low, high in intervals:
            if (low, high) == ALL_PORTS.intervals(protocol)[0]:
                yield {"port": "0", "protocol": protocol}
            elif low == high:
                yield {"port": str(low), "protocol": protocol}
            else:
                yield {"port": str(low), "endPort": high, "protocol": protocol}
    for protocol, name in ports.named:
        yield {"port": name, "protocol": protocol}


def _types(rule: Rule, policy: Policy) -> Iterator[dict[str, Any]]:
    for protocol, intervals in rule.ports.numbers.by_protocol:
        for low, high in intervals:
            if low % 256 or (high + 1) % 256:
                raise _unsayable(policy, "single codes of ICMP")
            if low == 0 and high < 65535:  # type 0 means all, see `cilium_ports`
                raise _unsayable(policy, "type 0 of ICMP without the others")
            if low == 0:
                yield {"family": _FAMILIES[protocol], "type": 0}
                continue
            for kind in range(low // 256, high // 256 + 1):
                yield {"family": _FAMILIES[protocol], "type": kind}


T = TypeVar("T")


def _cut(items: Sequence[T]) -> Iterator[list[T]]:
    return (list(items[at : at + _MOST]) for at in range(0, len(items), _MOST))


def _unsayable(policy: Policy, what: str) -> PolicyError:
    return PolicyError(f"{policy.ref}: a {KIND} is not written with {what}")
