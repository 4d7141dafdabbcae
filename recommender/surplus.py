"""What proposals permit beyond what was seen, and why."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from recommender.dns import dns_ports, is_dns
from recommender.evaluate import Evaluator
from recommender.frames import Row
from recommender.model import AddressPeer, AnyOf, PortSet
from recommender.needs import ports_of, run_of
from recommender.propose import Proposal, named
from recommender.watch import Watched


@dataclass(frozen=True, slots=True)
class Surplus:
    """A connection that the proposals permit and nobody was seen to make."""

    client: str
    server: str
    protocol: str
    ports: tuple[tuple[int, int], ...]
    why: str


def surplus(
    judge: Evaluator,
    watched: Watched,
    proposals: Sequence[Proposal],
    wanted: Sequence[Row],
    protocols: Iterable[str],
) -> Iterator[Surplus]:
    """Connections with a governed end that are permitted beyond the wanted ones."""
    seen, kept, runs = _seen(watched, wanted)
    shared = {
        str(key)
        for p in proposals
        for unit in p.units
        if len(unit.workloads) > 1
        for key in unit.workloads
    }
    isolated = {
        direction: {
            str(key) for p in proposals if direction in p.policy.isolates for key in p.workloads
        }
        for direction in ("ingress", "egress")
    }
    known = {**_joined_addresses(proposals), **_known_addresses(watched)}
    # Policies see host-network pods as their nodes, whose addresses have rows of their own.
    on_hosts = {str(k) for k, w in watched.inventory.workloads.items() if w.host_network}
    for row in judge.connectivity(by="workload", protocols=sorted(protocols)):
        if row.src not in isolated["egress"] and row.dst not in isolated["ingress"]:
            continue
        if row.src in on_hosts or row.dst in on_hosts:
            continue
        permitted = PortSet.of({row.protocol: row.ports})
        for client, server in _pairs(row.src, row.dst):
            beyond = permitted - seen[client, server]
            if beyond:
                why = "DNS is kept on UDP and TCP" if beyond <= kept[client, server] else ""
                if not why and beyond <= runs[client, server]:
                    why = "the server gives out its ports from this range anew each time"
                if not why and {client, server} & shared:
                    why = "labels do not tell the workloads apart"
                ports = beyond.intervals(row.protocol)
                why = why or known.get(client) or known.get(server) or "unexplained"
                yield Surplus(client, server, row.protocol, ports, why)


def _known_addresses(watched: Watched) -> dict[str, str]:
    """Why an address that was not seen may be permitted beside one that was."""
    nodes = dict.fromkeys(watched.inventory.node_of_address, "an entity means nodes together")
    entities = {at for some in watched.known.entities.values() for at in some}
    named = {at for some in watched.names.values() for at in some}
    return {
        **dict.fromkeys(named, "a DNS name means all its addresses"),
        **dict.fromkeys(entities, "an entity means all its addresses"),
        **nodes,
    }


Seen = dict[tuple[str, str], PortSet]


def _joined_addresses(proposals: Sequence[Proposal]) -> dict[str, str]:
    """Why an address in a block of several may be permitted: only a budget opens unseen ones."""
    found: dict[str, str] = {}
    for proposal in proposals:
        for rule in (*proposal.policy.ingress, *proposal.policy.egress):
            for peer in rule.peer.peers if isinstance(rule.peer, AnyOf) else ():
                for block in peer.blocks if isinstance(peer, AddressPeer) else ():
                    network = ipaddress.ip_network(block)
                    if 1 < network.num_addresses <= _MOST_ADDRESSES:
                        found |= {str(one): f"opened to join {block}" for one in network}
    return found


def _seen(watched: Watched, wanted: Sequence[Row]) -> tuple[Seen, Seen, Seen]:
    """Ports wanted by pair of ends, the DNS ports that come with them, and their runs."""
    dns = dns_ports(watched.inventory)
    seen: Seen = defaultdict(PortSet)
    kept: Seen = defaultdict(PortSet)
    runs: Seen = defaultdict(PortSet)
    for row in wanted:
        pair = named(row, "client"), named(row, "server")
        seen[pair] |= ports_of(row)
        runs[pair] |= run_of(row)
        if is_dns(row, dns):
            port = int(row["port"])
            kept[pair] |= PortSet.one("TCP", port) | PortSet.one("UDP", port)
    return seen, kept, runs


def _pairs(src: str, dst: str) -> Iterator[tuple[str, str]]:
    """The pair, an address range taken apart where it is as small as exact blocks make it."""
    for client in _addresses(src):
        for server in _addresses(dst):
            yield client, server


_MOST_ADDRESSES = 4096


def _addresses(name: str) -> list[str]:
    low, dash, high = name.partition("-")
    if "/" in name or not dash:
        return [name]
    try:
        first, last = ipaddress.ip_address(low), ipaddress.ip_address(high)
    except ValueError:
        return [name]
    if int(last) - int(first) >= _MOST_ADDRESSES:
        return [name]
    return [str(first + offset) for offset in range(int(last) - int(first) + 1)]
