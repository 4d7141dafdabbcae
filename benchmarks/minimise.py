"""How much shorter minimised proposals are, and in what time and memory.

    python -m benchmarks.minimise [WORKLOADS ...]

The traffic is that of `worlds.py`. In the drawn worlds a workload bears the label of its role and
stands in one of its role's namespaces; half of the clients' calls may be missing, so roles are not
whole blocks. Every figure counts rules: one for each edge, one for each edge at each end, one for
each set of ports as `propose` writes them, and after. The processor's seconds tell more than the
clock on a machine that others use; no test asserts on either.
"""

import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.worlds import TENANTS, TOPOLOGY, World, world
from recommender.dialects import kubernetes
from recommender.inventory import Inventory, Namespace, Workload, WorkloadKey
from recommender.minimise import Size, minimised, size
from recommender.needs import Basis
from recommender.propose import Scope, propose
from recommender.selectors import units

SEED = 7
PER_SPACE = 50  # workloads of a namespace


def placed(made: World, kind: str) -> list[WorkloadKey]:
    """Who is who: tenants in namespaces of their own, roles together elsewhere."""
    count = len(made.calls.ends)
    shared = count - 3 * TENANTS if kind in TOPOLOGY else 0
    spaces = max(count // PER_SPACE, 1)
    keys = []
    for i in range(count):
        role = int(made.truth[i])
        space = f"tenant-{i % TENANTS:03}" if i < shared else f"space-{role % spaces:03}"
        keys.append(WorkloadKey(space, "Deployment", f"w{i:06}"))
    return keys


def inventory(made: World, keys: list[WorkloadKey]) -> Inventory:
    """The workloads, each with a label of its own and one of its role."""
    found = {}
    for key, role in zip(keys, made.truth, strict=True):
        labels = {"app": key.name, "role": f"r{int(role):04}"}
        found[key] = Workload(key, {"app": key.name}, labels, (), "default", host_network=False)
    names = sorted({key.namespace for key in keys})
    spaces = {n: Namespace(n, {"kubernetes.io/metadata.name": n}) for n in names}
    return Inventory(namespaces=spaces, workloads=dict(sorted(found.items())))


def rows(made: World, keys: list[WorkloadKey]) -> Iterator[dict[str, Any]]:
    """The calls as wanted edges."""
    for client, server, port in zip(
        made.calls.client.tolist(),
        made.calls.server.tolist(),
        made.calls.port.tolist(),
        strict=True,
    ):
        row: dict[str, Any] = {
            "protocol": "TCP",
            "port": int(made.calls.ports[port].split()[1]),
            "connections": 1,
            "days": 1,
            "hours": 1,
            "first_seen": "2026-01-01T00:00:00Z",
            "last_seen": "2026-01-01T00:00:00Z",
            "allowed_client": True,
            "allowed_server": True,
            "run": None,
        }
        for role, at in (("client", client), ("server", server)):
            key = keys[at]
            own = {"namespace": key.namespace, "kind": key.kind, "name": key.name}
            end = {"type": "workload", "address": None, "cluster": None, **own}
            row |= {f"{role}_{name}": value for name, value in end.items()}
        yield row


def shown(title: str, found: Size) -> str:
    return (
        f"    {title:12} {found.policies:7,} policies {found.rules:8,} rules "
        f"{found.peers:9,} peers {found.terms:9,} terms  cost {found.cost / 10:11,.1f}"
    )


def run(kind: str, ends: int, by: Any) -> None:
    made = world(kind, SEED, ends=ends, roles=max(ends * 60 // 1000, 2))
    keys = placed(made, kind)
    basis = Basis(known := inventory(made, keys), units(known), kubernetes.WORDS)
    proposals, _ = propose(rows(made, keys), Scope(), basis)
    edges = len(made.calls)
    start = time.process_time()
    found = minimised(proposals, basis, by=by)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    after = found.after.rules
    print(f"{kind}: {len(keys):,} workloads, {edges:,} edges, --by {by}")
    print(shown("proposed", size(proposals)))
    print(shown("minimised", found.after))
    print(
        f"    rules fewer than one an edge: {1 - after / edges:.1%}, an edge and end: "
        f"{1 - after / (2 * edges):.1%}; {seconds:.1f} s of the processor, peak {peak:,.0f} MiB",
        flush=True,
    )


if __name__ == "__main__":
    for count in [int(arg) for arg in sys.argv[1:]] or [1000]:
        for one in ("block", "degree-corrected", "overlapping"):
            run(one, count, "role")
    if len(sys.argv) == 1:
        for one in TOPOLOGY:
            run(one, 0, "role")
        run("block", 1000, "workload")
