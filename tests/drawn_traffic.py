"""Small clusters with the wanted edges between their workloads, as hypothesis draws them."""

from typing import Any

from cluster_objects import inventory, manifest, pod, workload
from hypothesis import strategies as st

from recommender.dialects import kubernetes
from recommender.inventory import Inventory
from recommender.needs import Basis
from recommender.propose import Proposal, Scope, propose
from recommender.selectors import units
from recommender.words import Words

SPACES = {"shop": {"team": "red"}, "bank": {"team": "red"}, "lab": {"team": "blue"}}
ADDRESSES = ("192.0.2.0", "192.0.2.1", "192.0.2.2", "198.51.100.7", "2001:db8::1")
PORTS = (("TCP", 80), ("TCP", 443), ("UDP", 53))
Edge = tuple[str, str, str, int]  # client, server: namespace/Kind/name or an address


def namespace(name: str, labels: dict[str, str]) -> Any:
    return manifest(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    )


def row(client: str, server: str, protocol: str, port: int, number: int = 1) -> dict[str, Any]:
    """A wanted edge as `classified` has it; its figures differ by `number`."""
    ends = {**_end("client", client), **_end("server", server)}
    return {
        **ends,
        "protocol": protocol,
        "port": port,
        "connections": number,
        "days": 1 + number % 3,
        "hours": 1 + number % 7,
        "first_seen": f"2026-01-{1 + number % 9:02}T00:00:00Z",
        "last_seen": f"2026-02-{1 + number % 9:02}T00:00:00Z",
        "allowed_client": number % 2 == 0,
        "allowed_server": True,
        "denied_client": 0,
        "denied_server": 0,
        "class": "wanted",
        "run": None,
    }


def _end(role: str, name: str) -> dict[str, Any]:
    if "/" not in name:
        given = {"type": "address", "namespace": None, "kind": None, "name": None, "address": name}
    else:
        space, kind, own = name.split("/")
        given = {"type": "workload", "namespace": space, "kind": kind, "name": own, "address": None}
    return {f"{role}_{key}": value for key, value in {**given, "cluster": None}.items()}


def basis_of(world: Inventory, words: Words = kubernetes.WORDS) -> Basis:
    return Basis(world, units(world, words.hides), words)


def proposals_of(
    edges: list[Edge], world: Inventory, words: Words = kubernetes.WORDS
) -> list[Proposal]:
    rows = [row(*edge, number=at) for at, edge in enumerate(edges, 1)]
    return propose(rows, Scope(), basis_of(world, words))[0]


@st.composite
def worlds(draw: st.DrawFn, most: int = 6) -> Inventory:
    """Two to `most` workloads; some bear labels that others share, pods may differ by rollout."""
    objects = [namespace(name, labels) for name, labels in SPACES.items()]
    for number in range(draw(st.integers(2, most))):
        space = draw(st.sampled_from(["shop", "shop", "shop", "bank", "lab"]))
        labels = {"app": f"w{number}"}
        for key, values in (("role", "abc"), ("zone", "xy")):
            if value := draw(st.sampled_from(["", *values])):
                labels[key] = value
        kind = draw(st.sampled_from(["Deployment", "Deployment", "CronJob"]))
        host = {"hostNetwork": True} if draw(st.integers(0, 9)) == 0 else {}
        objects.append(
            workload(
                f"w{number}",
                labels,
                namespace=space,
                kind=kind,
                match={"app": f"w{number}"},
                **host,
            )
        )
        for pod_number in range(draw(st.integers(0, 2))):
            own = dict(labels, zone="z") if draw(st.integers(0, 4)) == 0 else labels
            owner = (kind, f"w{number}") if kind == "Deployment" else ("Job", f"w{number}-28000000")
            address = f"10.0.{number}.{pod_number + 1}"
            objects.append(
                pod(
                    f"w{number}-{pod_number}", own, namespace=space, owner=owner, ip=address, **host
                )
            )
    return inventory(*objects)


@st.composite
def traffic(draw: st.DrawFn, most: int = 6) -> tuple[Inventory, list[Edge]]:
    """A world, and edges that are mostly between whole sets of workloads, as roles make them."""
    world = draw(worlds(most))
    names = [
        f"{k.namespace}/{k.kind}/{k.name}" for k, w in world.workloads.items() if not w.host_network
    ]
    if not names:
        return world, []
    some = st.sets(st.sampled_from(names), min_size=1, max_size=5).map(sorted)
    ends = st.one_of(some, st.sets(st.sampled_from(ADDRESSES), min_size=1, max_size=3).map(sorted))
    edges: set[Edge] = set()
    for _ in range(draw(st.integers(0, 5))):
        protocol, port = draw(st.sampled_from(PORTS))
        clients, servers = draw(st.sampled_from([(some, some), (some, ends), (ends, some)]))
        edges |= {
            (client, server, protocol, port)
            for client in draw(clients)
            for server in draw(servers)
            if client != server
        }
    return world, sorted(edges)
