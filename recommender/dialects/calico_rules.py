"""One rule of a Calico policy, read into `model.Rule`: who, on which ports, and what happens.

Selectors are kept in the form that Felix evaluates, one label map for each endpoint with
`projectcalico.org/namespace`, `pcns.` and `pcsa.` keys, until it is known which network sets they
match; only then are their keys renamed to those of `model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from recommender.dialects.calico_ports import narrowed, port_list, ports_in, protocol_in
from recommender.dialects.calico_selector import (
    SelectorError,
    is_global,
    parse_selector,
    says_global,
)
from recommender.dialects.calico_services import service_in
from recommender.dialects.fields import Field, Refused
from recommender.inventory import Inventory
from recommender.model import (
    EVERYTHING,
    NOTHING,
    Action,
    AddressPeer,
    AllOf,
    And,
    AnyOf,
    AnyPeer,
    Direction,
    Has,
    In,
    LabelPeer,
    Labels,
    NamePeer,
    Not,
    NotPeer,
    Or,
    Peer,
    Rule,
    Selector,
    Text,
    UnknownPeer,
)

NAMESPACE = "projectcalico.org/namespace"
ACCOUNT = "projectcalico.org/serviceaccount"
ORCHESTRATOR = "projectcalico.org/orchestrator"
NAME = "projectcalico.org/name"
OF_NAMESPACE, OF_ACCOUNT = "pcns.", "pcsa."
_IN_A_NAMESPACE = Has(NAMESPACE)
_RENAMED = {
    NAMESPACE: "meta:namespace",
    OF_NAMESPACE + NAME: "meta:namespace",
    ACCOUNT: "meta:service-account",
    OF_ACCOUNT + NAME: "meta:service-account",
}
_ACTIONS: dict[str, Action] = {"Allow": "allow", "Deny": "deny", "Pass": "pass", "Log": "log"}
_EVERY_ADDRESS = {4: "0.0.0.0/0", 6: "::/0"}
_TRAFFIC = ("ipVersion", "protocol", "notProtocol", "icmp", "notICMP", "http")
_RULE = ("action", "metadata", "source", "destination", *_TRAFFIC)
_WHO = ("nets", "notNets", "selector", "notSelector", "namespaceSelector", "serviceAccounts")
_ENTITY = (*_WHO, "services", "ports", "notPorts", "domains")


@dataclass(frozen=True, slots=True)
class AddressSet:
    """A network set or host endpoint: labels as Felix sees them, and its addresses or names.

    `host` is a host endpoint as a peer.
    """

    labels: Labels
    blocks: tuple[str, ...]
    names: tuple[str, ...] = ()
    host: Peer | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What a rule is read against: its policy's namespace (none if global), and the cluster."""

    namespace: str | None
    sets: Sequence[AddressSet]
    inventory: Inventory


# --- selectors ---------------------------------------------------------------------------------


def selector_in(
    field: Field,
    *,
    prefix: str = "",
    everything: Selector = EVERYTHING,
    outside: Selector = EVERYTHING,
) -> Selector:
    """The selector in a field, in Felix's form: each key with `prefix` in front."""
    try:
        return parse_selector(
            field.text(), key=prefix.__add__, everything=everything, outside=outside
        )
    except SelectorError as error:
        raise Refused(field, f"not a selector, {error}") from error


def all_of(*terms: Selector) -> Selector:
    """The conjunction of the terms, flat: what is always true falls away."""
    flat = [part for term in terms for part in (term.terms if isinstance(term, And) else (term,))]
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def for_pods(selector: Selector) -> Selector:
    """A selector in Felix's form, renamed to the keys of `model`.

    projectcalico/calico libcalico-go/lib/backend/k8s/conversion/constants.go
    """
    match selector:
        case And(terms):
            return And(tuple(for_pods(term) for term in terms))
        case Or(terms):
            return Or(tuple(for_pods(term) for term in terms))
        case Not(term):
            return Not(for_pods(term))
        case _ if selector.key == ORCHESTRATOR:  # the same for every pod
            return EVERYTHING if selector.matches({ORCHESTRATOR: "k8s"}) else NOTHING
        case Has(key):
            return Has(_renamed(key))
        case In(key, values):
            return In(_renamed(key), values)
        case Text(key, how, text):
            return Text(_renamed(key), how, text)


def _renamed(key: str) -> str:
    if key in _RENAMED:
        return _RENAMED[key]
    if key.startswith(OF_NAMESPACE):
        return "ns:" + key.removeprefix(OF_NAMESPACE)
    if key.startswith(OF_ACCOUNT):
        return "sa:" + key.removeprefix(OF_ACCOUNT)
    return "pod:" + key


def _known(selector: Selector, sets: Sequence[AddressSet]) -> Peer:
    """The endpoints that a selector in Felix's form matches, network sets and hosts included."""
    matched = [found for found in sets if selector.matches(found.labels)]
    blocks = tuple(sorted(set(chain.from_iterable(found.blocks for found in matched))))
    names = tuple(sorted(set(chain.from_iterable(found.names for found in matched))))
    peers: list[Peer] = [LabelPeer(for_pods(selector))]
    if blocks:
        peers.append(AddressPeer(blocks, reach="all"))
    if names:
        peers.append(NamePeer(names))
    return peers[0] if len(peers) == 1 else AnyOf(tuple(peers))


# --- who ---------------------------------------------------------------------------------------


def _entity(entity: Field, scope: Scope) -> tuple[Peer, ...]:
    """Everything that an entity rule asks of one end; nothing where it does not limit that end."""
    entity.known(*_ENTITY)
    peers: list[Peer] = []
    selector = _entity_selector(entity, scope.namespace)
    if selector is not None:
        peers.append(_known(selector, scope.sets))
    if entity["notSelector"].text():
        # Not limited to the namespace: the limit is in the selector above (rules.go).
        peers.append(NotPeer(_known(selector_in(entity["notSelector"]), scope.sets)))
    nets, not_nets = _blocks(entity["nets"]), _blocks(entity["notNets"])
    if nets:
        peers.append(AddressPeer(nets, not_nets, reach="all"))
    elif not_nets:
        peers.append(NotPeer(AddressPeer(not_nets, reach="all")))
    if entity["domains"].texts():
        peers.append(NamePeer(tuple(sorted(domain(name) for name in entity["domains"].texts()))))
    return tuple(peers)


def domain(name: str) -> str:
    """A domain in the notation of `NamePeer`; Calico's leading `*.` stands for any depth."""
    name = name.lower().removesuffix(".")
    return f"*{name}" if name.startswith("*.") else name


def _entity_selector(entity: Field, namespace: str | None) -> Selector | None:
    """The one selector that Felix makes of an entity rule's four; none where all are empty.

    In a namespaced policy, any of them, `notSelector` too, limits the peer to the namespace.
    projectcalico/calico libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go
    """
    for name in ("selector", "notSelector"):
        if says_global(entity[name].text()):
            entity[name].say("global() may stand in namespaceSelector only")
    terms = []
    if entity["namespaceSelector"].text():
        terms.append(_namespaces(entity["namespaceSelector"]))
    accounts = _accounts(entity["serviceAccounts"])
    if accounts is not None:
        terms.append(accounts)
    if entity["selector"].text():
        terms.append(selector_in(entity["selector"]))
    limits = terms or entity["notSelector"].text()
    if limits and namespace is not None and not entity["namespaceSelector"].text():
        terms.insert(0, In(NAMESPACE, frozenset({namespace})))
    return all_of(*terms) if terms else None


def _namespaces(field: Field) -> Selector:
    text = field.text()
    if says_global(text) and not is_global(text):
        raise Refused(field, "global() must stand alone")
    return selector_in(
        field, prefix=OF_NAMESPACE, everything=_IN_A_NAMESPACE, outside=Not(_IN_A_NAMESPACE)
    )


def _accounts(accounts: Field) -> Selector | None:
    accounts.known("names", "selector")
    terms: list[Selector] = []
    if accounts["selector"].text():
        terms.append(selector_in(accounts["selector"], prefix=OF_ACCOUNT))
    if accounts["names"].texts():
        terms.append(In(ACCOUNT, frozenset(accounts["names"].texts())))
    return all_of(*terms) if terms else None


def _blocks(nets: Field) -> tuple[str, ...]:
    return tuple(sorted({net.block() for net in nets.items()}))


# --- the rule ----------------------------------------------------------------------------------


def rule_in(field: Field, direction: Direction, index: int, scope: Scope) -> Rule | None:
    """One rule; none, and a finding, where the API server would refuse it."""
    try:
        return _rule(field, _action(field), direction, index, scope)
    except Refused as refused:
        refused.noted()
        return None


def _action(rule: Field) -> Action:
    action = _ACTIONS.get(rule["action"].text())
    if action is None:
        raise Refused(rule["action"], "must be Allow, Deny, Pass or Log")
    return action


def _rule(rule: Field, action: Action, direction: Direction, index: int, scope: Scope) -> Rule:
    rule.known(*_RULE)
    _check(rule, direction)
    remote, local = ("source", "destination")[:: 1 if direction == "ingress" else -1]
    peers = [*_entity(rule[remote], scope), *_unknown_restrictions(rule)]
    ports = ports_in(rule)
    if rule[remote]["services"].given:
        peer, served = service_in(rule[remote]["services"], scope.namespace, scope.inventory)
        peers.append(peer)
        if direction == "egress" and not isinstance(peer, UnknownPeer):
            ports = narrowed(ports, served)
    version = _version(rule, peers)
    if version:
        peers.append(version)
    here = _entity(rule[local], scope)
    return Rule(
        peer=_together(peers) or AnyPeer(),
        ports=ports,
        action=action,
        index=index,
        local=_together(here),
        restricted=_http(rule["http"]),
    )


def _together(peers: Sequence[Peer]) -> Peer | None:
    if len(peers) > 1:
        return AllOf(tuple(peers))
    return peers[0] if peers else None


def _unknown_restrictions(rule: Field) -> list[Peer]:
    """What limits a rule in ways that no verdict can tell: the client's own port."""
    limits = [f for f in ("ports", "notPorts") if rule["source"][f].value]
    for name in limits:
        port_list(rule["source"][name], protocol_in(rule["protocol"]))
    return [UnknownPeer(f"source.{name}: the client's port is not known") for name in limits]


def _version(rule: Field, peers: Sequence[Peer]) -> Peer | None:
    """The addresses of one IP version, where nothing else in the rule says the version."""
    version = rule["ipVersion"].whole()
    if version is None:
        return None
    if version not in _EVERY_ADDRESS:
        raise Refused(rule["ipVersion"], "must be 4 or 6")
    told = any(isinstance(peer, AddressPeer) for peer in peers)
    if told or protocol_in(rule["protocol"]) in ("ICMP", "ICMPv6"):
        return None
    return AddressPeer((_EVERY_ADDRESS[version],), reach="all")


def _http(http: Field) -> str | None:
    if not http.value:
        return None
    http.known("methods", "paths")
    paths = [path["exact"].text() or path["prefix"].text() + "*" for path in http["paths"].items()]
    said = (" or ".join(http["methods"].texts()), " or ".join(paths))
    return " ".join(("http", *(part for part in said if part)))


# --- what the API server would refuse ----------------------------------------------------------


def _check(rule: Field, direction: Direction) -> None:
    """Say what projectcalico/calico libcalico-go/lib/validator/v3/validator.go refuses here."""
    _check_http(rule, direction)
    _check_versions(rule)
    served, other = ("destination", "source")[:: 1 if direction == "egress" else -1]
    if rule[other]["services"].given:
        raise Refused(rule[other]["services"], f"may stand in the {served} of {direction} only")
    if rule[served]["services"].given:
        beside = (*_WHO, "ports", "notPorts") if direction == "egress" else _WHO
        for name in beside:
            if rule[served][name].value:
                raise Refused(rule[served][name], "may not stand beside services")
    for side in ("source", "destination"):
        if rule[side]["domains"].given and not (side == served and direction == "egress"):
            raise Refused(rule[side]["domains"], "may stand in the destination of egress only")
    if rule["destination"]["domains"].given and rule["action"].text() != "Allow":
        rule["destination"]["domains"].say("may stand in an Allow rule only")


def _check_http(rule: Field, direction: Direction) -> None:
    http = rule["http"]
    if not http.value:
        return
    if direction == "egress":
        raise Refused(http, "may stand in an ingress rule only")
    if rule["action"].text() != "Allow":
        raise Refused(http, "may stand in an Allow rule only")
    if protocol_in(rule["protocol"]) not in (None, "TCP"):
        raise Refused(http, "needs protocol TCP")


def _check_versions(rule: Field) -> None:
    sides = [rule[side] for side in ("source", "destination")]
    lists = [side[name] for side in sides for name in ("nets", "notNets")]
    versions = {6 if ":" in net.text() else 4: net for nets in lists for net in nets.items()}
    if len(versions) > 1:
        versions[6].say(f"IPv6 may not stand beside the IPv4 of {versions[4].path}")
    asked = rule["ipVersion"].whole()
    for name in ("protocol", "notProtocol"):
        wanted = {"ICMP": 4, "ICMPv6": 6}.get(protocol_in(rule[name]) or "")
        if wanted and asked not in (None, wanted):
            raise Refused(rule["ipVersion"], f"must be {wanted} with {name} {rule[name].text()}")
    if asked is not None and versions and asked not in versions:
        raise Refused(rule["ipVersion"], f"is not that of {next(iter(versions.values())).path}")
