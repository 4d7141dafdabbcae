"""The files that `recommend` writes: a policy each, and `recommendation.json`.

Of what stands in the folder, only policies that the earlier `recommendation.json` lists are ever
replaced or removed: people keep Git repositories, kustomizations and policies of their own there.
"""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest.errors import FlowpolicyError
from recommender.extents import spelled
from recommender.frames import Row, of_class, records
from recommender.manifests import Manifest
from recommender.minimise import Minimised
from recommender.model import DIRECTIONS, Ports, Rule
from recommender.needs import Loss
from recommender.policies import PolicySet
from recommender.propose import Proposal, instant, named
from recommender.recommend import Recommendation
from recommender.report import beside, patterns
from recommender.report.comments import manifest_text

INDEX = "recommendation.json"
# RFC 1123 subdomain, as the API server demands of both names; so no name can choose a path.
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_PLACE = re.compile(rf"{NAME.pattern}/{NAME.pattern}\.yaml")


def write(recommendation: Recommendation, out: Path) -> list[Path]:
    """Write `OUT/<namespace>/<workload>.yaml` for each proposal, and `OUT/recommendation.json`.

    A run that is stopped on the way leaves whole files only, and the next run completes it: stale
    policies go first, while the old index still lists them.

    Returns the paths of the policies, sorted.

    Raises:
        FlowpolicyError: `out` holds files but no earlier run's index, a file of somebody else's
            stands where a policy is to go, or the folder cannot be written.
    """
    texts = policy_texts(recommendation)
    index = json.dumps(as_dict(recommendation), indent=2) + "\n"
    try:
        earlier = _written_earlier(out)
        for path in texts.keys() - earlier:
            if (out / path).exists():
                raise FlowpolicyError(
                    f"{out / path}: not written by an earlier run; move it or choose another --out"
                )
        for path in sorted(earlier - texts.keys()):
            (out / path).unlink(missing_ok=True)
        _replace(out / INDEX, index)
        for path, text in texts.items():
            _replace(out / path, text)
    except OSError as error:
        raise FlowpolicyError(f"{out}: {error.strerror}; choose another --out") from error
    return sorted(out / path for path in texts)


def moment(given: str) -> datetime:
    """The instant that a text says, UTC unless it names a zone; or the end of a proposal's window.

    Args:
        given: ISO 8601, or the path of a `recommendation.json` or of its folder.

    Raises:
        FlowpolicyError: it is neither.
    """
    path = Path(given)
    try:
        if path.exists():
            index = path / INDEX if path.is_dir() else path
            given = json.loads(index.read_text(encoding="utf-8"))["window"]["last_seen"]
        found = datetime.fromisoformat(given)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise FlowpolicyError(
            f"{given}: neither an instant such as 2026-11-01T10:00Z nor a {INDEX} of recommend; "
            "give one of these"
        ) from error


def _written_earlier(out: Path) -> set[Path]:
    """The policies that an earlier run wrote into the folder, by its index.

    The index is a file that anyone may have edited, so it names nothing outside the folder.
    """
    if not out.exists() or not any(out.iterdir()):
        return set()
    try:
        policies = json.loads((out / INDEX).read_text(encoding="utf-8"))["policies"]
        files = [policy["file"] for policy in policies]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise FlowpolicyError(
            f"{out}: holds other files and no {INDEX} of an earlier run; choose an empty or new "
            "folder for --out"
        ) from error
    return {Path(file) for file in files if isinstance(file, str) and _PLACE.fullmatch(file)}


def _replace(path: Path, text: str) -> None:
    """Write a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def proposal_path(proposal: Proposal) -> Path:
    """Where the policy stands inside the folder."""
    name = proposal.policy.ref.name.removeprefix("flowpolicy-")
    return Path(proposal.namespace) / f"{name}.yaml"


def proposed(recommendation: Recommendation) -> PolicySet:
    """The policies that would be written, as the set that they are once applied."""
    own = [
        Manifest(str(proposal_path(proposal)), body)
        for proposal, manifests in recommendation.written
        for body in manifests
    ]
    return PolicySet(own, recommendation.policies)


def policy_texts(recommendation: Recommendation) -> dict[Path, str]:
    """The text of each policy that is written, by its place inside the folder."""
    since = str(window(recommendation.watched.edges)["first_seen"])[:10]
    render = recommendation.writer.render
    return {
        proposal_path(proposal): manifest_text(manifests, proposal.policy, render, since)
        for proposal, manifests in recommendation.written
    }


def as_dict(recommendation: Recommendation) -> dict[str, Any]:
    """All of `recommendation.json`, in its documented order."""
    watched = recommendation.watched
    edges = watched.edges
    classes = {str(k): int(v) for k, v in sorted(edges["class"].value_counts().items())}
    return {
        "schema": "flowpolicy/recommendation/v1",
        "cluster": watched.cluster,
        "dialect": recommendation.writer.dialect,
        "inventory": "flows" if watched.from_flows else "given",
        "window": {**window(edges), **patterns.window_fields(recommendation.window)},
        "workloads": records(recommendation.window.workloads),
        "roles": patterns.role_rows(watched.meaning.roles),
        "edges": classes,
        "policies": [
            _policy(proposal, refused)
            for proposal, refused in zip(
                recommendation.proposals, recommendation.refusals, strict=True
            )
        ],
        "lost": [lost(loss) for loss in recommendation.lost],
        "replay": {
            "edges": recommendation.replayed,
            "allowed": recommendation.replayed - len(recommendation.denied),
            "denied": [str(denied) for denied in recommendation.denied],
        },
        **_shortest(recommendation.shortest),
        **(
            {"opened": [dataclasses.asdict(p) for p in recommendation.opened]}
            if recommendation.opened
            else {}
        ),
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
        **({"beside": beside.as_dict(recommendation.beside)} if recommendation.beside else {}),
        "review": [edge(row) for row in of_class(edges, "review")],
        "denied": [edge(row) for row in of_class(edges, "denied")],
        "rejected": [edge(row) for row in of_class(edges, "rejected")],
        "marked": [edge(row) for row in patterns.marked(edges)],
    }


def _shortest(found: Minimised | None) -> dict[str, Any]:
    """How much shorter the policies became, and which selectors take in workloads unseen."""
    if found is None:
        return {}
    return {
        "shortest": {
            "before": dataclasses.asdict(found.before),
            "after": dataclasses.asdict(found.after),
            "embraces": [
                {
                    "policy": str(each.policy),
                    "direction": each.direction,
                    "rule": each.rule,
                    "selector": spelled(each.selector),
                    "workloads": list(each.workloads),
                }
                for each in found.embraces
            ],
        }
    }


def window(edges: Any) -> dict[str, Any]:
    """First and last instant of any edge, as text in UTC; null where there is none."""
    if not len(edges):
        return {"first_seen": None, "last_seen": None}
    return {
        "first_seen": instant(edges["first_seen"].min()),
        "last_seen": instant(edges["last_seen"].max()),
    }


def edge(row: Row) -> dict[str, Any]:
    """An edge that is no rule, or a marked one, with its reason."""
    return {
        "client": named(row, "client"),
        "server": named(row, "server"),
        "protocol": row["protocol"],
        "port": None if row["port"] is None else int(row["port"]),
        "pattern": row["pattern"],
        "reason": row["reason"],
        "connections": int(row["connections"]),
        "hours": int(row["hours"]),
        "days": int(row["days"]),
        "first_seen": instant(row["first_seen"]),
        "last_seen": instant(row["last_seen"]),
    }


def lost(loss: Loss) -> dict[str, Any]:
    """A wanted edge that the dialect has no words for, and at which end."""
    return {
        "workload": f"{loss.unit.namespace}/{loss.unit.name}",
        "why": loss.why,
        **edge(loss.row),
    }


def _policy(proposal: Proposal, refused: str) -> dict[str, Any]:
    policy = proposal.policy
    return {
        "namespace": proposal.namespace,
        "name": policy.ref.name,
        "workloads": [f"{key.kind}/{key.name}" for key in proposal.workloads],
        "file": None if refused else str(proposal_path(proposal)),
        "refused": refused or None,
        "seen": len(proposal.unseen) < len(proposal.units),
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
        "opened": list(evidence.opened),
    }


def port_texts(ports: Ports) -> list[str]:
    """`TCP 8080`, `UDP 30000-30010`, one text an interval."""
    return [
        f"{protocol} {low}" if low == high else f"{protocol} {low}-{high}"
        for protocol, intervals in ports.numbers.by_protocol
        for low, high in intervals
    ]
