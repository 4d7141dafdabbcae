"""The traffic of eight days, as connections: the truth that both log formats tell.

EDGES is what the shop needs; beside it stand probes, mistakes and a break-in. Every edge draws
from a stream of its own, so that a change to one leaves the others as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from cluster import (
    DAY,
    DAYS,
    END,
    HOUR,
    NODES,
    PODS,
    ROLLOUT,
    SECOND,
    SERVICES,
    START,
    Pod,
    Service,
)
from verdicts import End, Hit, Manifest, Peer, verdict

SEED = 20260302
MINUTE = 60 * SECOND
SCAN = START + 5 * DAY + 3 * HOUR + 17 * MINUTE

API_NAME = "api.payments.example"
APIS = tuple(Peer("world", f"203.0.113.{n}", API_NAME) for n in (10, 11, 12))
APISERVER = Peer("kube-apiserver", "192.168.10.5")
HOSTS = {node: Peer("host", node.ip, node=node) for node in NODES}
SHOPPERS = tuple(
    Peer("world", f"{net}.{n}")
    for net, first in (("198.51.100", 17), ("203.0.113", 130))
    for n in range(first, first + 70, 7)
)


@dataclass(frozen=True)
class Edge:
    """Who needs whom: `rate` connections an hour (a run for `nightly` and `weekly`)."""

    client: str
    server: str
    port: int | None
    rate: float
    via: str | None = None
    protocol: str = "TCP"
    when: str = "day"


def _dns(client: str, rate: float, protocol: str = "UDP", when: str = "day") -> Edge:
    return Edge(client, "kube-system/coredns", 53, rate, "kube-system/kube-dns", protocol, when)


EDGES = (
    Edge("outside", "shop/web", 8080, 3.4, "shop/web"),
    Edge("outside", "shop/web-canary", 8080, 0.9, "shop/web"),
    Edge("shop/web", "shop/cart", 8080, 2.2, "shop/cart"),
    Edge("shop/web", "shop/catalog", 8080, 2.6, "shop/catalog"),
    Edge("shop/web", "shop/checkout", 9000, 1.2, "shop/checkout"),
    Edge("shop/web-canary", "shop/cart", 8080, 0.6, "shop/cart"),
    Edge("shop/web-canary", "shop/catalog", 8080, 0.7, "shop/catalog"),
    Edge("shop/web-canary", "shop/checkout", 9000, 0.4, "shop/checkout"),
    Edge("shop/checkout", "shop/cart", 8080, 0.9, "shop/cart"),
    Edge("shop/checkout", "shop/cart", None, 0.15, protocol="ICMP"),
    Edge("shop/checkout", "payments/gateway", 8443, 1.1, "payments/gateway"),
    Edge("shop/cart", "data/redis", 6379, 2.4, "data/redis"),
    Edge("shop/catalog", "data/postgres", 5432, 2.0, "data/postgres"),
    Edge("payments/gateway", "payments/ledger", 50051, 1.1, "payments/ledger"),
    Edge("payments/gateway", API_NAME, 443, 1.3),
    Edge("payments/ledger", "data/postgres", 5432, 1.2, "data/postgres"),
    Edge("payments/ledger", "payments/gateway", 8443, 4, "payments/gateway", when="weekly"),
    Edge("data/postgres", "data/postgres", 5432, 0.8, "data/postgres", when="ongoing"),
    Edge("data/report", "data/postgres", 5432, 6, "data/postgres", when="nightly"),
    Edge("data/log-agent", "data/logs", 3100, 3.0, "data/logs", when="always"),
    Edge("data/log-agent", "kube-apiserver", 6443, 0.8, "default/kubernetes", when="always"),
    Edge("data/log-agent", "own node", 9100, 0.9, when="always"),
    _dns("shop/web", 0.7),
    _dns("shop/web-canary", 0.3),
    _dns("shop/cart", 0.5),
    _dns("shop/catalog", 0.5),
    _dns("shop/checkout", 0.6),
    _dns("payments/gateway", 0.8),
    _dns("payments/gateway", 0.06, "TCP"),
    _dns("payments/ledger", 0.4),
    _dns("data/postgres", 0.2, when="always"),
    _dns("data/log-agent", 0.6, when="always"),
    _dns("data/report", 2, when="nightly"),
)


@dataclass(frozen=True)
class Connection:
    """One connection; `count` says for how many a Calico record of it stands.

    `why`: wanted, probe, denied, one-off, lost, scan, beacon, metadata. `outcome`: answered,
    refused (RST), silent, denied (by a policy in force), lost (no route). `hits` are the verdicts
    of the policies at (client, server).
    """

    time: int
    client: End
    server: End
    protocol: str
    port: int | None
    client_port: int
    via: Service | None
    why: str
    outcome: str
    hits: tuple[Hit | None, Hit | None]
    count: int = 1
    ongoing: bool = False

    @property
    def front(self) -> tuple[str | None, int] | None:
        """Name and number of the service port that the client addressed, if it was translated."""
        if self.via is None or self.via.ip is None:
            return None
        return next(
            (name, port) for name, port, _, proto in self.via.ports if proto == self.protocol
        )


@dataclass(frozen=True)
class Traffic:
    """Makes connections under the policies in force, each with its verdicts."""

    policies: list[Manifest]

    def connections(self) -> list[Connection]:
        """All of them, in order of time."""
        made = [self._wanted(edge) for edge in EDGES]
        made += [self._probes(), self._mistakes(), self._scan(), self._aftermath()]
        return sorted(
            (one for some in made for one in some), key=lambda one: (one.time, one.client_port)
        )

    def _connect(
        self,
        rng: Random,
        time: int,
        client: End,
        server: End,
        port: int | None,
        *,
        why: str = "wanted",
        protocol: str = "TCP",
        outcome: str = "answered",
        via: Service | None = None,
        count: int = 1,
        ongoing: bool = False,
    ) -> Connection:
        egress = verdict(self.policies, client, server, protocol, port, "egress")
        ingress = verdict(self.policies, client, server, protocol, port, "ingress")
        if any(hit and not hit.allows for hit in (egress, ingress)):
            outcome = "denied"
        return Connection(
            time,
            client,
            server,
            protocol,
            port,
            rng.randrange(32768, 61000),
            via,
            why,
            outcome,
            (egress, ingress),
            count,
            ongoing,
        )

    def _wanted(self, edge: Edge) -> Iterator[Connection]:
        rng = Random(f"{SEED} {edge}")
        via = next((s for s in SERVICES if f"{s.namespace}/{s.name}" == edge.via), None)
        for time in _times(edge, rng):
            client, server = _ends(edge, time, rng)
            yield self._connect(
                rng,
                time,
                client,
                server,
                edge.port,
                protocol=edge.protocol,
                via=via,
                count=rng.randrange(1, 2 + int(12 * edge.rate)),
                ongoing=edge.when == "ongoing",
            )

    def _probes(self) -> Iterator[Connection]:
        """The kubelet asks every pod that listens whether it is well."""
        rng = Random(f"{SEED} probes")
        for pod in PODS:
            if not pod.workload.ports or pod.workload.host_network:
                continue
            port = next(p.number for p in reversed(pod.workload.ports) if p.protocol == "TCP")
            for eighth in range(3 * DAYS):
                time = START + eighth * 8 * HOUR + rng.randrange(8 * HOUR)
                if pod.alive(time):
                    host = HOSTS[pod.node]
                    yield self._connect(rng, time, host, pod, port, why="probe", count=30)

    def _mistakes(self) -> Iterator[Connection]:
        """A canary that redis refuses, an engineer's curl, and callers of pods just gone."""
        rng = Random(f"{SEED} mistakes")
        redis = next(s for s in SERVICES if s.name == "redis")
        for day in range(1, DAYS, 2):
            time = START + day * DAY + 11 * HOUR + rng.randrange(HOUR)
            client, server = _pod("shop/web-canary", time, rng), _pod("data/redis", time, rng)
            yield self._connect(rng, time, client, server, 6379, why="denied", via=redis)
        time = START + 3 * DAY + 14 * HOUR + 21 * MINUTE
        client, server = _pod("shop/cart", time, rng), _pod("payments/ledger", time, rng)
        yield self._connect(rng, time, client, server, 50051, why="one-off")
        for _ in range(6):
            gone = _pod("shop/cart", ROLLOUT - 1, rng)
            time = ROLLOUT + rng.randrange(20 * SECOND)
            client = _pod("shop/web", time, rng)
            yield self._connect(rng, time, client, gone, 8080, why="lost", outcome="lost")

    def _scan(self) -> Iterator[Connection]:
        """A compromised catalog pod tries every pod and some empty addresses in one minute."""
        rng = Random(f"{SEED} scan")
        attacker = intruder()
        targets: list[End] = [
            pod
            for pod in PODS
            if pod.alive(SCAN) and pod.workload.namespace != "kube-system" and pod is not attacker
        ]
        targets += [
            Peer("world", f"10.244.{net}.{n}") for net in (1, 2, 3) for n in range(200, 206)
        ]
        ports = (22, 80, 443, 3306, 5432, 6379, 8080, 8443, 9000, 9200)
        for target in targets:
            for port in ports if isinstance(target, Pod) else ports[:3]:
                open_ports = (
                    [p.number for p in target.workload.ports] if isinstance(target, Pod) else []
                )
                if port == 5432 and port in open_ports:
                    continue
                closed = "refused" if isinstance(target, Pod) and rng.random() < 0.25 else "silent"
                outcome = "answered" if port in open_ports else closed
                time = SCAN + rng.randrange(MINUTE)
                yield self._connect(rng, time, attacker, target, port, why="scan", outcome=outcome)

    def _aftermath(self) -> Iterator[Connection]:
        """The intruder asks for the cloud's credentials and reports home for half a day."""
        rng = Random(f"{SEED} aftermath")
        metadata = Peer("world", "169.254.169.254")
        yield self._connect(
            rng, SCAN + 3 * MINUTE, intruder(), metadata, 80, why="metadata", outcome="silent"
        )
        home = Peer("world", "203.0.113.200")
        for hour in range(12):
            time = SCAN + hour * HOUR + 5 * MINUTE + rng.randrange(SECOND)
            yield self._connect(rng, time, intruder(), home, 4444, why="beacon")


def intruder() -> Pod:
    """The compromised pod."""
    return next(pod for pod in PODS if pod.workload.key == "shop/catalog")


def _pod(key: str, time: int, rng: Random) -> Pod:
    return rng.choice([pod for pod in PODS if pod.workload.key == key and pod.alive(time)])


def _times(edge: Edge, rng: Random) -> Iterator[int]:
    """When the connections of an edge begin."""
    for start in range(START, END, HOUR):
        hour, day = start // HOUR % 24, (start - START) // DAY
        if edge.when == "nightly" or edge.when == "weekly":
            due = hour == 2 if edge.when == "nightly" else hour == 6 and day % 7 == 0
            for _ in range(int(edge.rate) if due else 0):
                yield start + 15 * SECOND + rng.randrange(6 * MINUTE)
            continue
        weight = 1.0
        if edge.when == "day":
            weight = 1.5 if 8 <= hour < 22 else 0.3
        for _ in range(int(edge.rate * weight + rng.random())):
            yield start + rng.randrange(HOUR)


def _ends(edge: Edge, time: int, rng: Random) -> tuple[End, End]:
    """A client and a server of an edge that live at `time`."""
    if edge.client == edge.server:
        primary, standby = (pod for pod in PODS if pod.workload.key == edge.client)
        return standby, primary
    client: End = rng.choice(SHOPPERS)
    if edge.client != "outside":
        client = _pod(edge.client, time, rng)
    if edge.server == API_NAME:
        return client, rng.choice(APIS if time > START + 5 * DAY else APIS[:2])
    if edge.server == "kube-apiserver":
        return client, APISERVER
    if edge.server == "own node" and isinstance(client, Pod):
        return client, HOSTS[client.node]
    return client, _pod(edge.server, time, rng)
