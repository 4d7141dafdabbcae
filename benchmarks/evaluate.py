"""How the evaluator's time and memory grow: generated clusters of 1,000, 3,000 and 10,000 pods.

Every namespace has five workloads of four pods and two policies: one that isolates all its pods and
one that lets a neighbour namespace, its own ingress and a block of addresses in.

    python -m benchmarks.evaluate [PODS ...]
"""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from recommender.dialects import kubernetes
from recommender.evaluate import evaluator
from recommender.inventory import Inventory, Namespace, Pod, WorkloadKey
from recommender.manifests import Manifest

PODS_OF_A_NAMESPACE = 20
APPS = ("web", "cart", "pay", "stock", "db")


def inventory(pods: int) -> Inventory:
    """Namespaces of `APPS`, four pods each, in teams of ten namespaces."""
    count = pods // PODS_OF_A_NAMESPACE
    names = [f"ns-{i:03}" for i in range(count)]
    found = {}
    for i, namespace in enumerate(names):
        for j, app in enumerate(APPS):
            for k in range(4):
                number = (i * len(APPS) + j) * 4 + k
                name = f"{app}-{k}"
                found[namespace, name] = Pod(
                    namespace=namespace,
                    name=name,
                    labels={"app": app, "tier": "data" if app == "db" else "app", "pod": name},
                    workload=WorkloadKey(namespace, "Deployment", app),
                    addresses=(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",),
                    ports=(("TCP", 8080, "http"), ("TCP", 9090, "metrics")),
                    service_account="default",
                    host_network=False,
                )
    labels = {
        n: {"kubernetes.io/metadata.name": n, "team": f"t{i // 10}"} for i, n in enumerate(names)
    }
    return Inventory(namespaces={n: Namespace(n, labels[n]) for n in names}, pods=found)


def policies(namespaces: list[str]) -> Iterator[dict[str, Any]]:
    """Two policies for each namespace."""
    for i, namespace in enumerate(namespaces):
        yield _policy(namespace, "isolate", {"podSelector": {}, "policyTypes": ["Ingress"]})
        team = {"matchLabels": {"team": f"t{i // 10}"}}
        own = {
            "podSelector": {
                "matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "cart"]}]
            }
        }
        block = {"ipBlock": {"cidr": f"192.0.{i % 250}.0/24"}}
        yield _policy(
            namespace,
            "let-in",
            {
                "podSelector": {"matchLabels": {"tier": "app"}},
                "ingress": [
                    {"from": [{"namespaceSelector": team}], "ports": [{"port": "http"}]},
                    {
                        "from": [own],
                        "ports": [{"port": 8000 + i % 50}, {"port": 53, "protocol": "UDP"}],
                    },
                    {"from": [block], "ports": [{"port": 443}]},
                ],
            },
        )


def _policy(namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": kubernetes.API, "kind": kubernetes.KIND, "metadata": meta, "spec": spec}


def measure(pods: int) -> None:
    """Print one row: what it is of, and seconds."""
    objects = inventory(pods)
    manifests = [Manifest("b:1", body) for body in policies(list(objects.namespaces))]
    parsed = kubernetes.parse(manifests, objects)
    times = [time.perf_counter()]
    judge = evaluator(parsed.policies, objects)
    judge.verdict("ns-000/web-0", "ns-001/cart-1", "TCP", 8080)
    times.append(time.perf_counter())
    asked = list(objects.pods)[:: max(1, pods // 1000)][:1000]
    for i, (namespace, name) in enumerate(asked):
        other = asked[i * 7 % len(asked)]
        judge.verdict(f"{namespace}/{name}", "/".join(other), "TCP", 8080)
    times.append(time.perf_counter())
    rows = judge.connectivity("workload")
    times.append(time.perf_counter())
    build, verdicts, listing = (after - t for t, after in pairwise(times))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {pods:,} | {len(manifests):,} | {build:.2f} | {verdicts / len(asked) * 1000:.3f} "
        f"| {judge.matrix.members.size:,} | {listing:.2f} | {len(rows):,} | {peak:,.0f} |"
    )


def main() -> None:
    """Each size in a process of its own, so that peaks don't add up."""
    if len(sys.argv) == 2:
        measure(int(sys.argv[1]))
        return
    print("| pods | policies | load s | verdict ms | classes | all, s | connections | peak MiB |")
    print("| --- " * 8 + "|", flush=True)
    for pods in sys.argv[1:] or ["1000", "3000", "10000"]:
        subprocess.run([sys.executable, "-m", "benchmarks.evaluate", pods], check=True)


if __name__ == "__main__":
    main()
