"""Writes the sample data: `python data/samples/generate.py [FOLDER]`, the same bytes each time."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import calico_lines
import hubble_lines
import manifests
from cluster import CLUSTER, END, NODES, START, Pod, rfc3339
from traffic import Connection, Traffic
from verdicts import End

HERE = Path(__file__).parent
GROUPS = {
    "wanted": "wanted",
    "probe": "no_rule_needed",
    "denied": "undecided",
    "one-off": "undecided",
    "scan": "malicious",
    "beacon": "malicious",
    "metadata": "malicious",
}
POLICIES = {
    "data/postgres": "right",
    "data/redis": "rule 1 is used by nobody: no pod has app=sessions",
    "payments/gateway": "egress is wide open",
    "shop/checkout": "selects no pod: app=checkout-svc, the pods have app=checkout",
}


def main(folder: Path) -> None:
    """Write every generated file below `folder`."""
    policies = manifests.policies(HERE / "policies")
    connections = Traffic(policies).connections()
    for name in ("hubble", "calico"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "inventory.yaml").write_text(manifests.inventory(policies))
    (folder / "truth.json").write_text(json.dumps(truth(connections), indent=1) + "\n")
    lines = sorted(hubble_lines.lines(connections), key=lambda line: line[0])
    for node in NODES:
        own = [hubble_lines.wrapped(line) for line in lines if line[1] is node]
        _write(folder / "hubble" / f"{node.name}.jsonl.gz", own)
    _write(folder / "calico" / "flows.log.gz", calico_lines.records(connections, policies))


def truth(connections: list[Connection]) -> dict[str, Any]:
    """Every edge of the logs after service translation, and what it is."""
    edges: dict[tuple[str, ...], dict[str, Any]] = {}
    days: dict[tuple[str, ...], set[str]] = {}
    outcomes: dict[tuple[str, ...], set[str]] = {}
    for one in connections:
        if one.outcome == "lost":
            continue
        edge: dict[str, Any] = {"client": path(one.client), "server": path(one.server)}
        edge |= {"protocol": one.protocol, "port": one.port}
        for end in (one.client, one.server):
            if not isinstance(end, Pod):
                edge["entity"] = end.entity
                edge |= {"name": end.name} if end.name else {}
        if one.why != "wanted":
            edge["kind"] = one.why
        key = (GROUPS[one.why], *map(str, edge.values()))
        edges[key] = edge
        days.setdefault(key, set()).add(rfc3339(one.time)[:10])
        outcomes.setdefault(key, set()).add(one.outcome)
    groups: dict[str, Any] = {group: [] for group in dict.fromkeys(GROUPS.values())}
    for key in sorted(edges):
        evidence = {"days": len(days[key]), "outcomes": sorted(outcomes[key])}
        groups[key[0]].append(edges[key] | evidence)
    window = {"from": rfc3339(START), "to": rfc3339(END)}
    return {"cluster": CLUSTER, "window": window, "policies": POLICIES} | groups


def path(end: End) -> str:
    """`namespace/Kind/name` of a pod's workload, else the address."""
    return end.workload.path if isinstance(end, Pod) else end.ip


def _write(target: Path, lines: list[dict[str, Any]]) -> None:
    """JSON lines, compressed without clock and name."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as out:
        for line in lines:
            out.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    target.write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
