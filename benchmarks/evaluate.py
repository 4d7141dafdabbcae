"""The evaluator's time and memory: against network-config-analyzer, and as clusters grow.

    python -m benchmarks.evaluate [PODS ...]

Both read the same folders: 120 Deployments with a NetworkPolicy each, first of one ingress rule,
then of rules for both directions with named ports and blocks. Each is timed as a whole process,
and from the moment that everything is read; of three runs the fastest counts. The processor's
seconds are those of all threads, and tell more than the clock on a machine that others use.

Then flowpolicy alone: every namespace has five workloads of four pods and two policies, one that
isolates all its pods and one that lets its team, some of its own and a block of addresses in. In
the second set of a diff, every tenth namespace serves on another port. The figures are for a
person to read: no test asserts on time.
"""

import copy
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from recommender.dialects import kubernetes, parse_policies
from recommender.diff import diff
from recommender.evaluate import evaluator
from recommender.inventory import Inventory, Namespace, Pod, WorkloadKey
from recommender.manifests import Manifest, read_manifests
from recommender.objects import read_inventory
from recommender.policies import PolicySet

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
RIVALS = HERE.parent / ".rivals/bin"
DEPLOYMENTS = 120
PODS_OF_A_NAMESPACE = 20
APPS = ("web", "cart", "pay", "stock", "db")
MORE_APPS = (*APPS, "mail", "search", "auth", "feed", "queue")


# --- against network-config-analyzer -----------------------------------------------------------


def write_folder(folder: Path, *, both_ways: bool) -> None:
    """Deployments, ten a namespace, below `cluster`; a policy for each below `policies`."""
    spaces, deployments, rules = [], [], []
    for i in range(DEPLOYMENTS):
        space, app = f"ns-{i // 10:02}", MORE_APPS[i % 10]
        if i % 10 == 0:
            labels = {"team": f"t{i // 30}"}
            spaces.append(_object("v1", "Namespace", {"name": space, "labels": labels}))
        container = {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}
        template = {"metadata": {"labels": {"app": app}}, "spec": {"containers": [container]}}
        spec = {"selector": {"matchLabels": {"app": app}}, "template": template}
        meta = {"name": app, "namespace": space}
        deployments.append(_object("apps/v1", "Deployment", meta, spec))
        rules.append(_policy(space, app, _both_ways(i) if both_ways else _one_rule(i)))
    for name, objects in (("cluster", [*spaces, *deployments]), ("policies", rules)):
        (folder / name).mkdir(parents=True)
        (folder / name / "objects.yaml").write_text(yaml.safe_dump_all(objects))


def _one_rule(i: int) -> dict[str, Any]:
    peer = {"podSelector": {"matchLabels": {"app": MORE_APPS[(i + 1) % 10]}}}
    return {
        "podSelector": {"matchLabels": {"app": MORE_APPS[i % 10]}},
        "ingress": [{"from": [peer], "ports": [{"port": 8080}]}],
    }


def _both_ways(i: int) -> dict[str, Any]:
    callers = [MORE_APPS[(i + k) % 10] for k in (1, 2)]
    team = {
        "namespaceSelector": {"matchLabels": {"team": f"t{i // 30}"}},
        "podSelector": {"matchLabels": {"app": "web"}},
    }
    block = {"ipBlock": {"cidr": f"192.0.{i}.0/24"}}
    return {
        "podSelector": {"matchLabels": {"app": MORE_APPS[i % 10]}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [{"podSelector": {"matchLabels": {"app": app}}} for app in callers],
                "ports": [{"port": "http"}],
            },
            {"from": [team], "ports": [{"port": 9000 + i % 50}]},
        ],
        "egress": [
            {"to": [{"podSelector": {}}]},
            {"ports": [{"port": 53, "protocol": "UDP"}]},
            {"to": [block], "ports": [{"port": 443}]},
        ],
    }


Seconds = tuple[float, float]


def now() -> Seconds:
    """Seconds of the clock, and of the processor."""
    return time.perf_counter(), time.process_time()


def answer_alone(folder: Path) -> None:
    """Print, as JSON, the seconds that all connections of a folder take once it is read."""
    objects = read_inventory([folder / "cluster"])
    manifests, _ = read_manifests([folder / "policies"])
    parsed = parse_policies(manifests, objects)
    before = now()
    evaluator(parsed.policies, objects).connectivity()
    print(json.dumps({"answer": [b - a for a, b in zip(before, now(), strict=True)]}))


def _whole(command: list[Any]) -> Seconds:
    # Installed packages are compiled, this checkout perhaps not: the fastest of several runs is.
    compiled = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    compiled["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "flowpolicy-bench-compiled")
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=-3, stderr=-3, env=compiled)
    after = os.times()
    user, system = (
        getattr(after, n) - getattr(before, n) for n in ("children_user", "children_system")
    )
    return time.perf_counter() - start, user + system


def _answered(command: list[Any]) -> Seconds:
    found = subprocess.run(command, check=True, stdout=-1, stderr=subprocess.DEVNULL)
    clock, processor = json.loads(found.stdout)["answer"]
    return clock, processor


def _fastest(timed: Callable[[list[Any]], Seconds], command: list[Any]) -> Seconds:
    clocks, processors = zip(*(timed(command) for _ in range(3)), strict=True)
    return min(clocks), min(processors)


def against_the_rival() -> None:
    """Print a table of both tools' seconds on the same folders, and their ratios."""
    if not RIVALS.exists():
        print("network-config-analyzer is not installed; run `make rivals`")
        return
    print(f"{DEPLOYMENTS} Deployments, a policy each; s of the clock (of the processor)\n")
    print("| policies | what is timed | network-config-analyzer | flowpolicy | ratio |")
    print("| --- " * 5 + "|", flush=True)
    for both_ways, policies in ((False, "one rule"), (True, "both ways")):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_folder(folder, both_ways=both_ways)
            cluster, rules = folder / "cluster", folder / "policies"
            plain = ["-o", "txt_no_fw_rules", "-p", cluster, "-n", cluster]
            rows = {
                "whole process": (
                    _whole,
                    [RIVALS / "nca", "--connectivity", rules, *plain],
                    [BIN / "flowpolicy", "connectivity", rules, "--inventory", cluster],
                ),
                "answer, once read": (
                    _answered,
                    [RIVALS / "python", HERE / "nca_timed.py", folder],
                    [sys.executable, "-m", "benchmarks.evaluate", "--answer", folder],
                ),
            }
            for what, (timed, theirs, ours) in rows.items():
                a, b = _fastest(timed, theirs), _fastest(timed, ours)
                print(
                    f"| {policies} | {what} | {a[0]:.2f} ({a[1]:.2f}) | {b[0]:.3f} ({b[1]:.3f}) "
                    f"| {a[0] / b[0]:.0f} ({a[1] / b[1]:.0f}) |",
                    flush=True,
                )


# --- growth ------------------------------------------------------------------------------------


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


def changed(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The policies, those that let in changed in every tenth namespace."""
    out = copy.deepcopy(bodies)
    for body in out[1::20]:
        body["spec"]["ingress"][1]["ports"][0] = {"port": 9000}
    return out


def _policy(namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace}
    return _object(kubernetes.API, kubernetes.KIND, meta, spec)


def _object(
    api: str, kind: str, meta: dict[str, Any], spec: dict[str, Any] | None = None
) -> dict[str, Any]:
    body = {"apiVersion": api, "kind": kind, "metadata": meta}
    return body if spec is None else {**body, "spec": spec}


def _side(bodies: list[dict[str, Any]], objects: Inventory) -> PolicySet:
    manifests = [Manifest("b:1", body) for body in bodies]
    return PolicySet(manifests, kubernetes.parse(manifests, objects).policies)


def measure(pods: int) -> None:
    """Print one row: what it is of, and seconds."""
    objects = inventory(pods)
    bodies = list(policies(list(objects.namespaces)))
    old, new = _side(bodies, objects), _side(changed(bodies), objects)
    times = [time.perf_counter()]
    judge = evaluator(old.policies, objects)
    judge.verdict("ns-000/web-0", "ns-001/cart-1", "TCP", 8080)
    times.append(time.perf_counter())
    asked = list(objects.pods)[:: max(1, pods // 1000)][:1000]
    for i, (namespace, name) in enumerate(asked):
        other = asked[i * 7 % len(asked)]
        judge.verdict(f"{namespace}/{name}", "/".join(other), "TCP", 8080)
    times.append(time.perf_counter())
    rows = judge.connectivity("workload")
    times.append(time.perf_counter())
    found = diff(old, new, objects)
    times.append(time.perf_counter())
    build, verdicts, listing, comparing = (after - t for t, after in pairwise(times))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {pods:,} | {len(objects.namespaces)} | {len(bodies):,} | {build:.2f} "
        f"| {verdicts / len(asked) * 1000:.2f} | {listing:.2f} | {len(rows):,} "
        f"| {comparing:.2f} | {len(found.gained) + len(found.lost):,} | {peak:,.0f} |",
        flush=True,
    )


def main() -> None:
    """Each size in a process of its own, so that peaks don't add up."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--answer"]:
        answer_alone(Path(arguments[1]))
    elif arguments[:1] == ["--measure"]:
        measure(int(arguments[1]))
    else:
        if not arguments:
            against_the_rival()
            print()
        columns = (
            "pods,namespaces,policies,load s,verdict ms,all s,connections,diff s,changes,peak MiB"
        )
        print("| " + " | ".join(columns.split(",")) + " |")
        print("| --- " * (columns.count(",") + 1) + "|", flush=True)
        for pods in arguments or ["1000", "3000", "10000"]:
            command = [sys.executable, "-m", "benchmarks.evaluate", "--measure", pods]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
