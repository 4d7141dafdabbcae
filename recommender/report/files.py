"""The files that `recommend` writes: a policy each, and `recommendation.json`.

Nothing of an earlier run is left behind: the folder is made beside the old one and takes its
place as a whole, and a folder that is not ours is never touched.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ingest.errors import FlowpolicyError
from recommender.dialects import kubernetes
from recommender.frames import Row, of_class
from recommender.model import DIRECTIONS, Ports, Rule
from recommender.propose import Proposal, instant, named
from recommender.recommend import Recommendation

INDEX = "recommendation.json"
# RFC 1123 subdomain, as the API server demands of both names; so no name can choose a path.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def write(recommendation: Recommendation, out: Path) -> list[Path]:
    """Write `OUT/<namespace>/<workload>.yaml` for each proposal, and `OUT/recommendation.json`.

    Returns the paths of the policies, sorted.

    Raises:
        FlowpolicyError: `out` holds files that no earlier run wrote, or cannot be written.
    """
    if out.exists() and any(out.iterdir()) and not (out / INDEX).exists():
        raise FlowpolicyError(f"{out}: holds other files; choose an empty or new folder for --out")
    fresh = out.with_name(f".{out.name}.new")
    old = out.with_name(f".{out.name}.old")
    try:
        for folder in (fresh, old):
            shutil.rmtree(folder, ignore_errors=True)
        files = []
        for proposal in writable(recommendation):
            path = fresh / proposal_path(proposal)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(manifest_text(proposal), encoding="utf-8")
            files.append(out / proposal_path(proposal))
        fresh.mkdir(parents=True, exist_ok=True)
        index = json.dumps(as_dict(recommendation), indent=2, sort_keys=False)
        (fresh / INDEX).write_text(index + "\n", encoding="utf-8")
        if out.exists():
            out.rename(old)
        fresh.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise FlowpolicyError(f"{out}: {error.strerror}; choose another --out") from error
    return sorted(files)


def writable(recommendation: Recommendation) -> list[Proposal]:
    """The proposals whose names Kubernetes would take; flows alone may name others."""
    return [
        p
        for p in recommendation.proposals
        if _NAME.fullmatch(p.unit.namespace) and _NAME.fullmatch(p.policy.ref.name)
    ]


def proposal_path(proposal: Proposal) -> Path:
    """Where the policy stands inside the folder."""
    name = proposal.policy.ref.name.removeprefix("flowpolicy-")
    return Path(proposal.unit.namespace) / f"{name}.yaml"


def manifest_text(proposal: Proposal) -> str:
    """The policy as YAML."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096
    text = io.StringIO()
    yaml.dump(kubernetes.render(proposal.policy), text)
    return text.getvalue()


def as_dict(recommendation: Recommendation) -> dict[str, Any]:
    """All of `recommendation.json`, in its documented order."""
    watched = recommendation.watched
    edges = watched.edges
    classes = {str(k): int(v) for k, v in sorted(edges["class"].value_counts().items())}
    return {
        "schema": "flowpolicy/recommendation/v1",
        "cluster": watched.cluster,
        "dialect": "kubernetes",
        "inventory": "flows" if watched.from_flows else "given",
        "window": window(edges),
        "edges": classes,
        "policies": [_policy(p) for p in recommendation.proposals],
        "replay": {
            "edges": recommendation.replayed,
            "allowed": recommendation.replayed - len(recommendation.denied),
            "denied": [str(denied) for denied in recommendation.denied],
        },
        "surplus": [
            {
                "src": s.client,
                "dst": s.server,
                "protocol": s.protocol,
                "ports": [list(interval) for interval in s.ports],
                "why": s.why,
            }
            for s in recommendation.surplus
        ],
        "review": [_edge(row) for row in of_class(edges, "review")],
        "denied": [_edge(row) for row in of_class(edges, "denied")],
    }


def window(edges: Any) -> dict[str, Any]:
    """First and last instant of any edge, and the hours and days between, at most."""
    if not len(edges):
        return {"first_seen": None, "last_seen": None}
    return {
        "first_seen": instant(edges["first_seen"].min()),
        "last_seen": instant(edges["last_seen"].max()),
    }


def _edge(row: Row) -> dict[str, Any]:
    return {
        "client": named(row, "client"),
        "server": named(row, "server"),
        "protocol": row["protocol"],
        "port": None if row["port"] is None else int(row["port"]),
        "reason": row["reason"],
        "connections": int(row["connections"]),
        "hours": int(row["hours"]),
        "days": int(row["days"]),
        "first_seen": instant(row["first_seen"]),
        "last_seen": instant(row["last_seen"]),
    }


def _policy(proposal: Proposal) -> dict[str, Any]:
    policy = proposal.policy
    valid = _NAME.fullmatch(proposal.unit.namespace) and _NAME.fullmatch(policy.ref.name)
    return {
        "namespace": proposal.unit.namespace,
        "name": policy.ref.name,
        "workloads": [f"{key.kind}/{key.name}" for key in proposal.unit.workloads],
        "file": str(proposal_path(proposal)) if valid else None,
        "seen": proposal.seen,
        "losses": list(proposal.losses),
        "rules": [
            _rule(direction, rule) for direction in DIRECTIONS for rule in policy.rules(direction)
        ],
    }


def _rule(direction: str, rule: Rule) -> dict[str, Any]:
    evidence = rule.evidence
    assert evidence is not None, "every proposed rule has evidence"
    return {
        "direction": direction,
        "index": rule.index,
        "peers": list(evidence.clients if direction == "ingress" else evidence.servers),
        "ports": port_texts(rule.ports),
        "evidence": {
            "connections": evidence.connections,
            "days": evidence.days,
            "hours": evidence.hours,
            "first_seen": evidence.first_seen,
            "last_seen": evidence.last_seen,
            "reporters": list(evidence.reporters),
        },
    }


def port_texts(ports: Ports) -> list[str]:
    """`TCP 8080`, `UDP 30000-30010`, one text an interval."""
    return [
        f"{protocol} {low}" if low == high else f"{protocol} {low}-{high}"
        for protocol, intervals in ports.numbers.by_protocol
        for low, high in intervals
    ]
