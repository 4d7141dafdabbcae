"""The `services` of a Calico rule, read into `model.Peer` and `model.Ports`."""

from __future__ import annotations

from itertools import chain

from recommender.dialects.fields import Field, Refused
from recommender.inventory import Inventory, Service
from recommender.model import (
    AddressPeer,
    And,
    AnyOf,
    In,
    LabelPeer,
    Peer,
    Ports,
    PortSet,
    UnknownPeer,
)


def service_in(services: Field, namespace: str | None, inventory: Inventory) -> tuple[Peer, Ports]:
    """The endpoints behind a Service, and the ports that they serve it on."""
    services.known("name", "namespace")
    name, namespace = services["name"].text(), services["namespace"].text() or namespace
    if not name:
        raise Refused(services["name"], "must be given")
    if namespace is None:
        raise Refused(services["namespace"], "must be given in a global policy")
    service = inventory.services.get((namespace, name))
    if service is None:
        return UnknownPeer(f"Service {namespace}/{name} is not in the inventory"), Ports()
    if not service.selector:
        reason = f"Service {namespace}/{name} has no selector: its endpoints are not known"
        return UnknownPeer(reason), Ports()
    return _endpoints(service, inventory)


def _endpoints(service: Service, inventory: Inventory) -> tuple[Peer, Ports]:
    """The pods behind a Service, those of the host network by their nodes' addresses.

    Felix takes the addresses and ports of the Service's endpoints (felix/serviceindex).
    """
    labels = (In(f"pod:{key}", frozenset({value})) for key, value in service.selector.items())
    peer: Peer = LabelPeer(And((In("meta:namespace", frozenset({service.namespace})), *labels)))
    backends = inventory.backends(service)
    hosts = [pod for pod in backends if pod.host_network]
    numbers, named = PortSet(), []
    for protocol, _, target, _ in service.ports:
        if isinstance(target, int):
            numbers |= PortSet.one(protocol, target)
            continue
        named.append((protocol, target))
        for pod in hosts:
            found = [(n, n) for given, n, name in pod.ports if (given, name) == (protocol, target)]
            numbers |= PortSet.of({protocol: found})
    known = [pod.addresses or pod.node_addresses for pod in hosts]
    name = f"{service.namespace}/{service.name}"
    if named and hosts and len(hosts) < len(backends):
        return UnknownPeer(f"Service {name} has pods with and without the host network"), Ports()
    if not all(known):
        return UnknownPeer(f"the nodes of the pods behind Service {name} are not known"), Ports()
    if hosts:
        blocks = tuple(sorted(set(chain.from_iterable(known))))
        peer = AnyOf((peer, AddressPeer(blocks, reach="nodes")))
    return peer, Ports(numbers, tuple(sorted(named)))
