"""networking.k8s.io/v1 NetworkPolicy: parse and render.

A selector becomes one flat `And` of requirements in canonical order, namespace terms before pod
terms, so that policies that differ only in how they are written parse to equal values.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from recommender.addresses import cidr
from recommender.dialects.fields import Field, Refused, object_of, shown
from recommender.dialects.labels import (
    flat,
    key_of,
    label_selector,
    port_name,
    port_number,
    requirements,
)
from recommender.errors import PolicyError
from recommender.inventory import Inventory
from recommender.manifests import Manifest
from recommender.model import (
    ALL_PORTS,
    DIRECTIONS,
    PORT_PROTOCOLS,
    AddressPeer,
    And,
    AnyOf,
    AnyPeer,
    Direction,
    Finding,
    In,
    LabelPeer,
    Parsed,
    Peer,
    Policy,
    Ports,
    PortSet,
    Rule,
    Selector,
)
from recommender.tiers import NETWORK_POLICIES
from recommender.words import Words

API = "networking.k8s.io/v1"
KIND = "NetworkPolicy"
KINDS = frozenset({(API, KIND)})
TYPES: dict[str, Direction] = {"Ingress": "ingress", "Egress": "egress"}
PEERS: dict[Direction, str] = {"ingress": "from", "egress": "to"}
WORDS = Words(
    api=API,
    kind=KIND,
    title=KIND,
    tier=NETWORK_POLICIES,
    reach="nodes",
    namespace_key="ns:kubernetes.io/metadata.name",
)


def parse(manifests: Sequence[Manifest], inventory: Inventory) -> Parsed:  # noqa: ARG001
    """The policies of these manifests; one that the API server would refuse is a finding."""
    return parsed(manifests, _policy, namespaced=True)


def parsed(
    manifests: Sequence[Manifest], policy: Callable[[Field], Policy], *, namespaced: bool
) -> Parsed:
    """`policy` of each manifest that the API server takes, and what there is to say of them all."""
    policies: list[Policy] = []
    findings: list[Finding] = []
    for manifest in manifests:
        found: list[Finding] = []
        whole = object_of(manifest, str(manifest.body["apiVersion"]), found, namespaced=namespaced)
        try:
            whole.known("apiVersion", "kind", "metadata", "spec", "status")
            policies.append(policy(whole))
        except Refused as refused:
            refused.noted()
        findings += found
    return Parsed(tuple(policies), tuple(findings))


def _policy(whole: Field) -> Policy:
    spec = whole["spec"]
    spec.known("podSelector", "policyTypes", *DIRECTIONS)
    own = In("meta:namespace", frozenset({str(whole.ref.namespace)}))
    isolates = _isolates(spec)
    rules = {
        direction: tuple(
            _rule(rule, PEERS[direction], index, own)
            for index, rule in enumerate(spec[direction].items())
        )
        for direction in DIRECTIONS
    }
    # 1. Rules of a direction that policyTypes leaves out have no effect.
    return Policy(
        ref=whole.ref,
        tier=NETWORK_POLICIES,
        subject=And((own, *requirements(spec["podSelector"], "pod:"))),
        isolates=isolates,
        ingress=rules["ingress"] if "ingress" in isolates else (),
        egress=rules["egress"] if "egress" in isolates else (),
    )


def _isolates(spec: Field) -> frozenset[Direction]:
    # 2. Without policyTypes: Ingress always, Egress where there is an egress rule.
    types = list(spec["policyTypes"].items())
    for given in types:
        if given.text() not in TYPES:
            raise Refused(given, f"{shown(given.value)} is neither Ingress nor Egress")
    if len(types) > len(TYPES):
        raise Refused(spec["policyTypes"], "there can be two at most")
    if types:
        return frozenset(TYPES[given.value] for given in types)
    return frozenset(DIRECTIONS if any(spec["egress"].items()) else ("ingress",))


def _rule(rule: Field, key: str, index: int, own: Selector) -> Rule:
    rule.known(key, "ports")
    # 3. Peers are alternatives. 4. No peers, null or [], is everyone.
    peers = tuple(_peer(peer, own) for peer in rule[key].items())
    peer = AnyPeer() if not peers else peers[0] if len(peers) == 1 else AnyOf(peers)
    return Rule(peer, _ports(rule["ports"]), index=index)


def _peer(peer: Field, own: Selector) -> Peer:
    peer.known("podSelector", "namespaceSelector", "ipBlock")
    pods, namespaces = peer["podSelector"], peer["namespaceSelector"]
    if peer["ipBlock"].given:
        if pods.given or namespaces.given:
            raise Refused(peer, "ipBlock cannot stand beside podSelector or namespaceSelector")
        return _block(peer["ipBlock"])
    if not pods.given and not namespaces.given:
        raise Refused(peer, "a peer needs ipBlock, podSelector or namespaceSelector")
    # 5. Both selectors must match. 6. Without namespaceSelector: the policy's own namespace.
    place = requirements(namespaces, "ns:") if namespaces.given else (own,)
    return LabelPeer(And((*place, *requirements(pods, "pod:"))))


def _block(block: Field) -> Peer:
    block.known("cidr", "except")
    whole = network(block["cidr"])
    excepts = []
    for given in block["except"].items():
        part = network(given)
        if part == whole or not _inside(part, whole):
            raise Refused(given, f"{given.value} is not a part of {whole}")
        excepts.append(str(part))
    # 7. An ipBlock means what is not a pod: addresses outside the cluster, and nodes.
    return AddressPeer((str(whole),), tuple(sorted(set(excepts))), reach="nodes")


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(field: Field) -> Network:
    """A CIDR; the API server takes one with host bits set, and means its network."""
    given = field.value
    if isinstance(given, str) and "/" in given and (found := cidr(given)) is not None:
        return found
    raise Refused(field, f"{shown(given)} is not a CIDR such as 10.0.0.0/8")


def _inside(part: Network, whole: Network) -> bool:
    if isinstance(part, ipaddress.IPv4Network) and isinstance(whole, ipaddress.IPv4Network):
        return part.subnet_of(whole)
    if isinstance(part, ipaddress.IPv6Network) and isinstance(whole, ipaddress.IPv6Network):
        return part.subnet_of(whole)
    return False


def _ports(field: Field) -> Ports:
    # 8. No ports, null or [], is all of them, of every protocol.
    entries = [_port(entry) for entry in field.items()]
    if not entries:
        return Ports()
    numbers = PortSet.union(entry for entry in entries if isinstance(entry, PortSet))
    return Ports(numbers, tuple(sorted({e for e in entries if not isinstance(e, PortSet)})))


def _port(entry: Field) -> PortSet | tuple[str, str]:
    entry.known("port", "endPort", "protocol")
    port, end = entry["port"], entry["endPort"]
    # 9. A missing protocol is TCP.
    protocol = entry["protocol"].value if entry["protocol"].given else "TCP"
    if protocol not in PORT_PROTOCOLS:
        raise Refused(entry["protocol"], f"{shown(protocol)} is not TCP, UDP or SCTP")
    if end.given and not isinstance(port.value, int):
        raise Refused(end, "a range begins with the number of a port")
    if not port.given:
        return PortSet.one(protocol, 1, 65535)
    # 10. A name is resolved at each server.
    if isinstance(port.value, str):
        return protocol, port_name(port)
    low = port_number(port)
    high = port_number(end) if end.given else low
    if high < low:
        raise Refused(end, f"{high} is below port {low}")
    return PortSet.one(protocol, low, high)


def render(policy: Policy) -> dict[str, Any]:
    """The manifest of a policy; `parse` of it gives the policy back.

    Raises:
        PolicyError: the policy says something that a NetworkPolicy cannot.
    """
    spec: dict[str, Any] = {
        "podSelector": label_selector(_requirements(policy.subject, policy), "pod:"),
        "policyTypes": [name for name, direction in TYPES.items() if direction in policy.isolates],
    }
    for direction in DIRECTIONS:
        if direction in policy.isolates:
            rules = policy.rules(direction)
            spec[direction] = [_rule_of(rule, PEERS[direction], policy) for rule in rules]
    meta = {"name": policy.ref.name, "namespace": policy.ref.namespace}
    return {"apiVersion": API, "kind": KIND, "metadata": meta, "spec": spec}


def _rule_of(rule: Rule, key: str, policy: Policy) -> dict[str, Any]:
    if rule.action != "allow" or rule.local is not None:
        raise _unsayable(policy, "a rule other than a plain allow")
    out: dict[str, Any] = {}
    if rule.peer != AnyPeer():
        peers = rule.peer.peers if isinstance(rule.peer, AnyOf) else (rule.peer,)
        out[key] = [_peer_of(peer, policy) for peer in peers]
    if rule.ports != Ports():
        out["ports"] = list(_ports_of(rule.ports, policy))
    return out


def _peer_of(peer: Peer, policy: Policy) -> dict[str, Any]:
    match peer:
        case AddressPeer(blocks=(block,), excepts=excepts):
            return {"ipBlock": {"cidr": block, **({"except": list(excepts)} if excepts else {})}}
        case LabelPeer(selector=selector):
            terms = _requirements(selector, policy)
            keys = [key_of(term) for term in terms]
            out = {}
            own = "meta:namespace" in keys
            if not own:
                out["namespaceSelector"] = label_selector(terms, "ns:")
            if own or any(key.startswith("pod:") for key in keys):
                out["podSelector"] = label_selector(terms, "pod:")
            return out
    raise _unsayable(policy, f"a peer of the kind {type(peer).__name__}")


def _requirements(selector: Selector, policy: Policy) -> list[Selector]:
    own = In("meta:namespace", frozenset({str(policy.ref.namespace)}))
    terms = list(flat(selector))
    for term in terms:
        if term != own and not key_of(term).startswith(("pod:", "ns:")):
            raise _unsayable(policy, f"that {term}")
    return terms


def _ports_of(ports: Ports, policy: Policy) -> Iterator[dict[str, Any]]:
    if ports.not_named or ports.not_numbers or not (ports.numbers or ports.named):
        raise _unsayable(policy, "all ports but some names, or no port at all")
    for protocol, intervals in ports.numbers.by_protocol:
        if protocol not in PORT_PROTOCOLS:
            raise _unsayable(policy, f"the protocol {protocol}")
        for low, high in intervals:
            if (low, high) == ALL_PORTS.intervals(protocol)[0]:
                yield {"protocol": protocol}
            elif low == high:
                yield {"protocol": protocol, "port": low}
            else:
                yield {"protocol": protocol, "port": low, "endPort": high}
    for protocol, name in ports.named:
        yield {"protocol": protocol, "port": name}


def _unsayable(policy: Policy, what: str) -> PolicyError:
    return PolicyError(f"{policy.ref}: a NetworkPolicy cannot say {what}; use another dialect")
