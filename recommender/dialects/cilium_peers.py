"""Whom a Cilium rule means, read into `model.Peer`: endpoints, entities, addresses, names.

Selectors are read by `cilium_selectors`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from recommender.dialects.cilium_selectors import (
    NAMESPACE,
    NOBODY,
    endpoints_in,
    entity,
    plain_key,
    requirements_in,
)
from recommender.dialects.fields import Field, Refused, shown
from recommender.inventory import Inventory, Service
from recommender.model import (
    AddressPeer,
    AllOf,
    And,
    AnyOf,
    Direction,
    EntityPeer,
    In,
    LabelPeer,
    Labels,
    NamePeer,
    NodePeer,
    Peer,
    UnknownPeer,
)

# cilium/cilium pkg/policy/api/entity.go; the CRD's own list leaves out the two of one IP version.
_NODES = ("host", "remote-node", "kube-apiserver")
_ENTITIES = (*_NODES, "cluster", "health", "ingress", "init", "unmanaged", "world")
_UNLISTED_ENTITIES = ("world-ipv4", "world-ipv6")
_DNS_NAME = re.compile(r"[-a-zA-Z0-9_.]+")
_DNS_PATTERN = re.compile(r"[-a-zA-Z0-9_.*]+")


@dataclass(frozen=True, slots=True)
class CidrGroup:
    """A CiliumCIDRGroup: its labels and its blocks."""

    labels: Labels
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a rule is read against: its policy's namespace (null if clusterwide), the cluster."""

    namespace: str | None
    groups: Mapping[str, CidrGroup]
    inventory: Inventory


# --- kinds of peers ----------------------------------------------------------------------------


def peer_in(element: Field, direction: Direction, scope: Scope) -> Peer | None:
    """Whom one element of a rule list means; null where it says nothing of peers.

    A peer list that is there and empty means nobody (pkg/policy/api/ingress.go, egress.go).
    """
    prefix = "from" if direction == "ingress" else "to"
    fields = {kind: element[prefix + kind] for kind in _READERS}
    filled = [kind for kind, field in fields.items() if field.value]
    if len(filled) > 1:
        raise Refused(fields[filled[1]], f"may not stand beside {prefix}{filled[0]}")
    peer: Peer | None = None
    if any(field.given and not field.value for field in fields.values()):
        peer = NOBODY
    elif filled:
        peer = _any_of(list(_READERS[filled[0]](fields[filled[0]], scope)))
    return _with_requires(element[prefix + "Requires"], peer, scope)


def _any_of(peers: Sequence[Peer]) -> Peer:
    return peers[0] if len(peers) == 1 else AnyOf(tuple(peers))


def _with_requires(requires: Field, peer: Peer | None, scope: Scope) -> Peer | None:
    """`peer`, which must also meet the requirements where the agent still reads them."""
    if not requires.value:
        return peer
    requires.say("is deprecated since Cilium 1.17 and without effect since 1.19")
    met = [endpoints_in(item, scope.namespace) for item in requires.items()]
    reason = "fromRequires and toRequires are read by agents before 1.19 only"
    return None if peer is None else AllOf((peer, AnyOf((*met, UnknownPeer(reason)))))


def _endpoints(field: Field, scope: Scope) -> Iterator[Peer]:
    return (endpoints_in(item, scope.namespace) for item in field.items())


def _entities(field: Field, _: Scope) -> Iterator[Peer]:
    for item in field.items():
        name = item.text()
        if name in _UNLISTED_ENTITIES:
            item.say(f"the CRD does not list {name}: write world")
        elif name not in (*_ENTITIES, "all", "none"):
            known = ", ".join(sorted((*_ENTITIES, "all", "none")))
            raise Refused(item, f"{shown(name)} is none of {known}")
        yield entity(name)


def _cidrs(field: Field, _: Scope) -> Iterator[Peer]:
    yield AddressPeer(tuple(sorted({item.block() for item in field.items()})))


def _cidr_sets(field: Field, scope: Scope) -> Iterator[Peer]:
    whole: set[str] = set()
    for item in field.items():
        item.known("cidr", "cidrGroupRef", "cidrGroupSelector", "except")
        given = [k for k in ("cidr", "cidrGroupRef", "cidrGroupSelector") if item[k].given]
        if len(given) != 1:
            raise Refused(item, "needs exactly one of cidr, cidrGroupRef and cidrGroupSelector")
        blocks = (item["cidr"].block(),) if given == ["cidr"] else _group(item, scope)
        if blocks is None:
            yield _outside(f"{item.path}: the CiliumCIDRGroup is not among the manifests")
            continue
        excepts = tuple(sorted(_except(part, item["cidr"]) for part in item["except"].items()))
        if excepts:
            yield AddressPeer(blocks, excepts)
        else:
            whole.update(blocks)
    if whole:
        yield AddressPeer(tuple(sorted(whole)))


def _except(part: Field, cidr: Field) -> str:
    block = part.block()
    if cidr.given:
        inner, outer = ipaddress.ip_network(block), ipaddress.ip_network(cidr.block())
        if inner.version != outer.version or inner.network_address not in outer:
            part.say(f"must lie inside {outer}")
    return block


def _group(item: Field, scope: Scope) -> tuple[str, ...] | None:
    """The blocks of the groups that a CIDR set refers to; null where none is known."""
    if item["cidrGroupRef"].given:
        name = item["cidrGroupRef"].text()
        found = [scope.groups[name]] if name in scope.groups else []
        what = item["cidrGroupRef"]
    else:
        what = item["cidrGroupSelector"]
        terms = And(tuple(r.selector(plain_key) for r in requirements_in(what)))
        found = [group for group in scope.groups.values() if terms.matches(group.labels)]
    if not found:
        what.say("no such CiliumCIDRGroup among the manifests: whom it matches cannot be told")
        return None
    return tuple(sorted({block for group in found for block in group.blocks}))


def _outside(reason: str) -> Peer:
    """Addresses that are not known: like every CIDR they mean no pod, and no node by default."""
    return AllOf((EntityPeer("world"), UnknownPeer(reason)))


def _services(field: Field, scope: Scope) -> Iterator[Peer]:
    for item in field.items():
        item.known("k8sService", "k8sServiceSelector")
        if item["k8sService"].given == item["k8sServiceSelector"].given:
            raise Refused(item, "needs one of k8sService and k8sServiceSelector")
        services, asked = _asked_services(item, scope)
        if not services:
            yield UnknownPeer(f"{asked} is not in the inventory")
        yield from (_service(service) for service in services)


def _asked_services(item: Field, scope: Scope) -> tuple[list[Service], str]:
    """The Services that an item names or selects, and what it asks for, in words."""
    by_name = item["k8sService"].given
    asked = item["k8sService" if by_name else "k8sServiceSelector"]
    asked.known("serviceName" if by_name else "selector", "namespace")
    where = asked["namespace"].text()
    found = [s for s in scope.inventory.services.values() if where in ("", s.namespace)]
    if by_name:
        name = asked["serviceName"].text()
        words = f"Service {where and where + '/'}{name}"
        return [service for service in found if service.name == name], words
    terms = And(tuple(r.selector(plain_key) for r in requirements_in(asked["selector"])))
    return [s for s in found if terms.matches(s.labels)], f"{asked.path}: a Service like this"


def _service(service: Service) -> Peer:
    """The pods behind a Service, on any port; without a selector its addresses, as CIDRs.

    cilium/cilium pkg/policy/k8s/service.go
    """
    if not service.selector:
        name = f"{service.namespace}/{service.name}"
        return _outside(f"Service {name} has no selector: its endpoints are not known")
    labels = (In(f"pod:{key}", frozenset({value})) for key, value in service.selector.items())
    return LabelPeer(And((In(NAMESPACE, frozenset({service.namespace})), *labels)))


def _nodes(field: Field, _: Scope) -> Iterator[Peer]:
    return (nodes_in(item) for item in field.items())


def nodes_in(selector: Field) -> Peer:
    """The nodes that a selector selects; every one is `reserved:host` to itself."""
    asked = (r for r in requirements_in(selector) if r.source != "reserved")
    return NodePeer(And(tuple(r.selector(lambda _, name: f"node:{name}") for r in asked)))


def _groups(field: Field, _: Scope) -> Iterator[Peer]:
    yield _outside(f"{field.path}: the addresses are kept by a cloud provider")


def _fqdns(field: Field, _: Scope) -> Iterator[Peer]:
    yield NamePeer(tuple(sorted({dns_name(item) for item in field.items()})))


def dns_name(item: Field) -> str:
    """The name or pattern of an FQDN selector, in lower case, without the last dot."""
    item.known("matchName", "matchPattern")
    if item["matchName"].given == item["matchPattern"].given:
        raise Refused(item, "needs one of matchName and matchPattern")
    exact = item["matchName"].given
    field = item["matchName" if exact else "matchPattern"]
    name = field.text().strip()
    if not (_DNS_NAME if exact else _DNS_PATTERN).fullmatch(name):
        raise Refused(field, f"{shown(name)} is not a DNS name{'' if exact else ' or pattern'}")
    return name.lower().removesuffix(".")


_READERS: dict[str, Callable[[Field, Scope], Iterator[Peer]]] = {
    "Endpoints": _endpoints,
    "Entities": _entities,
    "CIDR": _cidrs,
    "CIDRSet": _cidr_sets,
    "Nodes": _nodes,
    "Groups": _groups,
    "Services": _services,
    "FQDNs": _fqdns,
}
FROM = ("Endpoints", "Entities", "CIDR", "CIDRSet", "Nodes", "Groups", "Requires")
TO = (*FROM, "Services")
