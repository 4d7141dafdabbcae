"""The made-up cluster `shop-prod`: nodes, workloads, pods and services.

Nothing here is random: names that Kubernetes would draw are digests of what they name.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

Labels = dict[str, str]

CLUSTER = "shop-prod"
SECOND = 1_000_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
DAYS = 8


def instant(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time."""
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


def rfc3339(time: int) -> str:
    """The inverse of `instant`, whole seconds."""
    return datetime.fromtimestamp(time // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


START = instant("2026-03-02T00:00:00Z")
END = START + DAYS * DAY
ROLLOUT = START + 4 * DAY + 10 * HOUR
FOUNDED = instant("2026-01-12T09:00:00Z")
FOREVER = END + 365 * DAY


def digest(text: str) -> bytes:
    """The bytes from which everything arbitrary about `text` is made."""
    return hashlib.sha256(text.encode()).digest()


def code(text: str, length: int) -> str:
    """A name part in the alphabet that Kubernetes uses for them."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    return "".join(alphabet[byte % len(alphabet)] for byte in digest(text)[:length])


def number(text: str, low: int, high: int) -> int:
    """A number from `low` up to but not including `high`."""
    return low + int.from_bytes(digest(text)[:6]) % (high - low)


def uid(text: str) -> str:
    """A UUID."""
    return str(uuid.UUID(bytes=digest(text)[:16], version=4))


@dataclass(frozen=True)
class Node:
    """A node: its name, its own address and the first three bytes of its pods' addresses."""

    name: str
    ip: str
    pod_net: str


@dataclass(frozen=True)
class Port:
    """A port that a container listens on."""

    number: int
    name: str | None = None
    protocol: str = "TCP"


@dataclass(frozen=True, eq=False)
class Workload:
    """An owner of pods; `on` places its replicas on nodes, `versions` are its rollouts."""

    namespace: str
    kind: str
    name: str
    labels: Labels
    ports: tuple[Port, ...] = ()
    on: tuple[int, ...] = (0, 1, 2)
    versions: tuple[str, ...] = ("",)
    service_account: str = "default"
    host_network: bool = False

    @property
    def key(self) -> str:
        """How the traffic table names it."""
        return f"{self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        """How truth.json names it."""
        return f"{self.namespace}/{self.kind}/{self.name}"


@dataclass(frozen=True, eq=False)
class Pod:
    """A pod; `owner` is its ReplicaSet or Job, else the workload itself."""

    workload: Workload
    name: str
    owner: str
    node: Node
    ip: str
    labels: Labels
    born: int = FOUNDED
    died: int = FOREVER

    @property
    def prefix(self) -> str:
        """Its generateName."""
        return self.name.rpartition("-")[0] + "-"

    def alive(self, time: int) -> bool:
        """Whether it runs at `time`."""
        return self.born <= time < self.died


@dataclass(frozen=True, eq=False)
class Service:
    """A Service; each port is (name, port, target number or name, protocol)."""

    namespace: str
    name: str
    ip: str | None
    selector: Labels
    ports: tuple[tuple[str | None, int, int | str, str], ...]
    type: str = field(default="ClusterIP")

    @property
    def host(self) -> str:
        """Its name in DNS."""
        return f"{self.name}.{self.namespace}.svc.cluster.local"


NODES = tuple(Node(f"node-{n}", f"192.168.10.{10 + n}", f"10.244.{n}") for n in (1, 2, 3))

NAMESPACES: dict[str, Labels] = {
    "data": {"team": "platform"},
    "default": {},
    "kube-system": {},
    "payments": {"pci": "true", "team": "payments"},
    "shop": {"team": "storefront"},
}


def _named(name: str) -> Labels:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "shop"}


DNS_PORTS = (Port(53, "dns", "UDP"), Port(53, "dns-tcp"), Port(9153, "metrics"))

WORKLOADS = (
    Workload("data", "Deployment", "logs", _named("logs"), (Port(3100, "http"),), (1,)),
    Workload("data", "Deployment", "redis", _named("redis"), (Port(6379),), (2,)),
    Workload(
        "data", "StatefulSet", "postgres", _named("postgres"), (Port(5432, "postgresql"),), (0, 1)
    ),
    Workload("data", "DaemonSet", "log-agent", _named("log-agent"), service_account="log-agent"),
    Workload("data", "CronJob", "report", _named("report"), on=(1,)),
    Workload("kube-system", "Deployment", "coredns", {"k8s-app": "kube-dns"}, DNS_PORTS, (0, 1)),
    Workload(
        "kube-system",
        "DaemonSet",
        "node-exporter",
        {"app.kubernetes.io/name": "node-exporter"},
        (Port(9100, "metrics"),),
        host_network=True,
    ),
    Workload(
        "payments", "Deployment", "gateway", {"app": "gateway"}, (Port(8443, "https"),), (0, 2)
    ),
    Workload("payments", "Deployment", "ledger", {"app": "ledger"}, (Port(50051, "grpc"),), (1, 2)),
    Workload(
        "shop", "Deployment", "cart", {"app": "cart"}, (Port(8080),), (0, 1), ("2.3.0", "2.4.0")
    ),
    Workload("shop", "Deployment", "catalog", {"app": "catalog"}, (Port(8080, "http"),), (1, 2)),
    Workload("shop", "Deployment", "checkout", {"app": "checkout"}, (Port(9000),), (0, 2)),
    Workload(
        "shop",
        "Deployment",
        "web",
        {"app": "web", "track": "stable"},
        (Port(8080, "http"),),
        (0, 2),
    ),
    Workload(
        "shop",
        "Deployment",
        "web-canary",
        {"app": "web", "track": "canary"},
        (Port(8080, "http"),),
        (1,),
    ),
)

SERVICES = (
    Service("data", "logs", "10.96.41.7", _named("logs"), (("http", 3100, "http", "TCP"),)),
    Service("data", "postgres", None, _named("postgres"), (("pg", 5432, "postgresql", "TCP"),)),
    Service("data", "redis", "10.96.118.20", _named("redis"), ((None, 6379, 6379, "TCP"),)),
    Service("default", "kubernetes", "10.96.0.1", {}, (("https", 443, 6443, "TCP"),)),
    Service(
        "kube-system",
        "kube-dns",
        "10.96.0.10",
        {"k8s-app": "kube-dns"},
        (("dns", 53, 53, "UDP"), ("dns-tcp", 53, 53, "TCP"), ("metrics", 9153, 9153, "TCP")),
    ),
    Service("payments", "gateway", "10.96.77.3", {"app": "gateway"}, ((None, 443, 8443, "TCP"),)),
    Service("payments", "ledger", "10.96.9.164", {"app": "ledger"}, (("grpc", 80, "grpc", "TCP"),)),
    Service("shop", "cart", "10.96.201.14", {"app": "cart"}, ((None, 80, 8080, "TCP"),)),
    Service("shop", "catalog", "10.96.55.90", {"app": "catalog"}, (("http", 80, "http", "TCP"),)),
    Service("shop", "checkout", "10.96.132.8", {"app": "checkout"}, ((None, 80, 9000, "TCP"),)),
    Service(
        "shop", "web", "10.96.14.33", {"app": "web"}, (("http", 80, "http", "TCP"),), "LoadBalancer"
    ),
)


def _revisions(workload: Workload) -> Iterator[tuple[str, Labels, int, int]]:
    """(prefix of its pods, their extra labels, born, died) of each generation of pods."""
    name = workload.name
    if workload.kind == "CronJob":
        for day in range(DAYS):
            start = START + day * DAY + 2 * HOUR
            job = f"{name}-{start // (60 * SECOND)}"
            job_uid = uid(f"Job {workload.namespace}/{job}")
            extra = {"job-name": job, "controller-uid": job_uid}
            extra |= {f"batch.kubernetes.io/{key}": value for key, value in extra.items()}
            yield job, extra, start, start + 7 * 60 * SECOND
        return
    for index, version in enumerate(workload.versions):
        revision = code(f"{workload.path} {version}", 10)
        born = ROLLOUT if index else FOUNDED
        died = ROLLOUT if index + 1 < len(workload.versions) else FOREVER
        if workload.kind == "Deployment":
            labels = {"pod-template-hash": revision} | ({"version": version} if version else {})
            yield f"{name}-{revision}", labels, born, died
        else:
            labels = {"controller-revision-hash": f"{name}-{revision}"}
            if workload.kind == "DaemonSet":
                labels = {"controller-revision-hash": revision, "pod-template-generation": "1"}
            yield name, labels, born, died


def _pods() -> Iterator[Pod]:
    """Every pod of the window, dead ones too; the latest reports reuse a dead cart's address."""
    used: defaultdict[Node, int] = defaultdict(lambda: 10)
    dead_cart = ""
    for workload in reversed(WORKLOADS):
        for owner, extra, born, died in _revisions(workload):
            for ordinal, place in enumerate(workload.on):
                node = NODES[place]
                name = f"{owner}-{code(f'{owner} {workload.path} {ordinal}', 5)}"
                labels = workload.labels | extra
                if workload.kind == "StatefulSet":
                    name = f"{owner}-{ordinal}"
                    labels |= {"apps.kubernetes.io/pod-index": str(ordinal)}
                    labels |= {"statefulset.kubernetes.io/pod-name": name}
                used[node] += 1
                ip = node.ip if workload.host_network else f"{node.pod_net}.{used[node]}"
                if died == ROLLOUT and node is NODES[1]:
                    dead_cart = ip
                if workload.kind == "CronJob" and born > ROLLOUT:
                    ip = dead_cart
                yield Pod(workload, name, owner, node, ip, labels, born, died)


PODS = tuple(_pods())
