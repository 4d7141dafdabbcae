"""policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy: parse.

Unlike a NetworkPolicy it isolates nobody: its rules decide for what they match, first match first,
and leave the rest to the next tier. Semantics: network-policy-api, clusternetworkpolicy_types.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recommender.dialects.fields import Field, Refused, shown
from recommender.dialects.kubernetes import network, parsed
from recommender.dialects.labels import port_name, port_number, requirements
from recommender.inventory import Inventory
from recommender.manifests import Manifest
from recommender.model import (
    ALL_PORTS,
    DIRECTIONS,
    NO_PORTS,
    PORT_PROTOCOLS,
    Action,
    AddressPeer,
    And,
    AnyOf,
    LabelPeer,
    NamePeer,
    NodePeer,
    Parsed,
    Peer,
    Policy,
    Ports,
    PortSet,
    Rule,
    Selector,
    Tier,
)

KINDS = frozenset({("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy")})
# 1. The Admin tier acts before NetworkPolicies, the Baseline tier after; neither denies by default.
TIERS = {
    "Admin": Tier("kube-admin", 1_000, "first match", "pass"),
    "Baseline": Tier("kube-baseline", 10_000_000, "first match", "pass"),
}
ACTIONS: dict[str, Action] = {"Accept": "allow", "Deny": "deny", "Pass": "pass"}
MOST = 25


def parse(manifests: Sequence[Manifest], inventory: Inventory) -> Parsed:  # noqa: ARG001
    """The policies of these manifests; one that the API server would refuse is a finding."""
    return parsed(manifests, _policy, namespaced=False)


def _policy(whole: Field) -> Policy:
    spec = whole["spec"]
    spec.known("tier", "priority", "subject", *DIRECTIONS)
    tier, priority = spec["tier"], spec["priority"]
    if tier.text() not in TIERS:
        raise Refused(tier, f"{shown(tier.value)} is neither Admin nor Baseline")
    order = priority.value
    if isinstance(order, bool) or not isinstance(order, int) or not 0 <= order <= 1000:
        raise Refused(priority, f"{shown(order)} is not a number from 0 to 1000")
    return Policy(
        ref=whole.ref,
        tier=TIERS[tier.value],
        subject=_pods(spec["subject"], ("namespaces", "pods")),
        isolates=frozenset(),
        ingress=tuple(_rules(spec["ingress"], "from")),
        egress=tuple(_rules(spec["egress"], "to")),
        order=order,
    )


def _rules(field: Field, key: str) -> Iterator[Rule]:
    for index, rule in enumerate(_few(field)):
        rule.known("name", "action", key, "protocols")
        action = rule["action"]
        if action.text() not in ACTIONS:
            raise Refused(action, f"{shown(action.value)} is not Accept, Deny or Pass")
        peers = tuple(_peer(peer, key) for peer in _few(rule[key]))
        if not peers:
            raise Refused(rule[key], "a rule needs at least one peer")
        if action.value != "Accept" and any(isinstance(peer, NamePeer) for peer in peers):
            raise Refused(rule[key], "domain names can only be accepted")
        peer = peers[0] if len(peers) == 1 else AnyOf(peers)
        ports = _ports(rule["protocols"])
        if key == "to" and ports.named and not all(isinstance(p, LabelPeer) for p in peers):
            raise Refused(rule["protocols"], "only pods have named ports")
        yield Rule(peer, ports, ACTIONS[action.value], index)


def _few(field: Field) -> list[Field]:
    found = list(field.items())
    if len(found) > MOST:
        raise Refused(field, f"there can be {MOST} at most")
    return found


def _one_of(field: Field, names: Sequence[str]) -> str:
    """The one key of a union that is set."""
    given = [name for name in field.mapping() if field[name].given]
    if len(given) != 1 or given[0] not in names:
        raise Refused(field, f"exactly one of {', '.join(names)} must be set")
    return given[0]


def _pods(field: Field, names: Sequence[str]) -> Selector:
    # 2. Host-network pods are never selected, neither as subjects nor as peers.
    if _one_of(field, names) == "namespaces":
        return And(requirements(field["namespaces"], "ns:"))
    pods = field["pods"]
    pods.known("namespaceSelector", "podSelector")
    for name in ("namespaceSelector", "podSelector"):
        if not pods[name].given:
            raise Refused(pods[name], "is required")
    places = requirements(pods["namespaceSelector"], "ns:")
    return And((*places, *requirements(pods["podSelector"], "pod:")))


def _peer(field: Field, key: str) -> Peer:
    outward = ("nodes", "networks", "domainNames") if key == "to" else ()
    names = ("namespaces", "pods", *outward)
    match _one_of(field, names):
        case "nodes":
            return NodePeer(And(requirements(field["nodes"], "node:")))
        case "networks":
            # 3. Networks match every address, those of pods and nodes too.
            blocks = [str(network(block)) for block in _few(field["networks"])]
            if not blocks:
                raise Refused(field["networks"], "at least one network is needed")
            return AddressPeer(tuple(blocks), reach="all")
        case "domainNames":
            # 4. `*.` stands for any number of labels, at least one.
            named = [_domain(name).rstrip(".") for name in _few(field["domainNames"])]
            return NamePeer(tuple(f"*{name}" if name.startswith("*") else name for name in named))
    return LabelPeer(_pods(field, names))


def _domain(field: Field) -> str:
    if not isinstance(field.value, str):
        raise Refused(field, f"{field.value!r} is not a domain name")
    return field.value


def _ports(field: Field) -> Ports:
    entries = _few(field)
    # 5. No protocols: everything. A protocol without a port: all its ports.
    if not entries:
        return Ports()
    numbers, named = NO_PORTS, set()
    for entry in entries:
        protocol = _one_of(entry, ("tcp", "udp", "sctp", "destinationNamedPort"))
        if protocol == "destinationNamedPort":
            # 6. A name means the port that has it, whatever its protocol.
            name = port_name(entry[protocol])
            named |= {(each, name) for each in PORT_PROTOCOLS}
        else:
            entry[protocol].known("destinationPort")
            numbers |= _port(entry[protocol]["destinationPort"], protocol.upper())
    return Ports(numbers, tuple(sorted(named)))


def _port(port: Field, protocol: str) -> PortSet:
    if not port.given:
        return PortSet.of({protocol: ALL_PORTS.intervals(protocol)})
    if _one_of(port, ("number", "range")) == "number":
        return PortSet.one(protocol, port_number(port["number"]))
    port["range"].known("start", "end")
    low, high = port_number(port["range"]["start"]), port_number(port["range"]["end"])
    if high < low:
        raise Refused(port["range"], f"the end {high} is below the start {low}")
    return PortSet.one(protocol, low, high)
