"""From edges to checked policies: propose, replay every wanted edge, list what else opens."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recommender.dns import dns_ports, is_dns
from recommender.enough import Thresholds
from recommender.evaluate import Evaluator, evaluator
from recommender.frames import Row, of_class
from recommender.model import PortSet
from recommender.propose import Proposal, Scope, named, propose
from recommender.replay import Replayed, replay
from recommender.selectors import units
from recommender.watch import Watched, window_of
from recommender.window import Window


@dataclass(frozen=True, slots=True)
class Surplus:
    """A connection that the proposals permit and nobody was seen to make."""

    client: str
    server: str
    protocol: str
    ports: tuple[tuple[int, int], ...]
    why: str


@dataclass(frozen=True)
class Recommendation:
    """Proposals with the proof: how many wanted edges were replayed, and what else opens.

    `window` says whether it was watched long enough.
    """

    watched: Watched
    window: Window
    scope: Scope
    proposals: tuple[Proposal, ...]
    replayed: int
    denied: tuple[Replayed, ...]
    surplus: tuple[Surplus, ...]


def recommendation(
    watched: Watched, scope: Scope, thresholds: Thresholds | None = None
) -> Recommendation:
    """Propose for the watched cluster and check the proposals against all that was wanted."""
    proposals = propose(watched.edges, watched.inventory, units(watched.inventory), scope)
    judge = evaluator([proposal.policy for proposal in proposals], watched.inventory)
    replayed = list(replay(judge, of_class(watched.edges, "wanted")))
    return Recommendation(
        watched=watched,
        window=window_of(watched, thresholds),
        scope=scope,
        proposals=tuple(proposals),
        replayed=len(replayed),
        denied=tuple(r for r in replayed if r.verdict.allow is not True),
        surplus=tuple(_surplus(judge, watched, proposals, [r.row for r in replayed])),
    )


def _surplus(
    judge: Evaluator, watched: Watched, proposals: Sequence[Proposal], wanted: Sequence[Row]
) -> Iterator[Surplus]:
    """Connections with a governed end that are permitted beyond the wanted ones."""
    seen, kept = _seen(watched, wanted)
    shared = {str(k) for p in proposals if len(p.unit.workloads) > 1 for k in p.unit.workloads}
    isolated = {
        direction: {
            str(key)
            for p in proposals
            if direction in p.policy.isolates
            for key in p.unit.workloads
        }
        for direction in ("ingress", "egress")
    }
    # Policies see host-network pods as their nodes, whose addresses have rows of their own.
    on_hosts = {str(k) for k, w in watched.inventory.workloads.items() if w.host_network}
    for row in judge.connectivity(by="workload"):
        if row.src not in isolated["egress"] and row.dst not in isolated["ingress"]:
            continue
        if row.src in on_hosts or row.dst in on_hosts:
            continue
        permitted = PortSet.of({row.protocol: row.ports})
        for client, server in _pairs(row.src, row.dst):
            beyond = permitted - seen[client, server]
            if beyond:
                why = "DNS is kept on UDP and TCP" if beyond <= kept[client, server] else ""
                if not why and {client, server} & shared:
                    why = "labels do not tell the workloads apart"
                ports = beyond.intervals(row.protocol)
                yield Surplus(client, server, row.protocol, ports, why or "unexplained")


Seen = dict[tuple[str, str], PortSet]


def _seen(watched: Watched, wanted: Sequence[Row]) -> tuple[Seen, Seen]:
    """Ports wanted by pair of ends, and the DNS ports that come with them."""
    dns = dns_ports(watched.inventory)
    seen: Seen = defaultdict(PortSet)
    kept: Seen = defaultdict(PortSet)
    for row in wanted:
        pair, port = (named(row, "client"), named(row, "server")), int(row["port"])
        seen[pair] |= PortSet.one(str(row["protocol"]), port)
        if is_dns(row, dns):
            kept[pair] |= PortSet.one("TCP", port) | PortSet.one("UDP", port)
    return seen, kept


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
