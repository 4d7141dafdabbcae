"""Why a rule is there, or is not, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

from recommender.evaluate import evaluator
from recommender.frames import Row, records
from recommender.inventory import WorkloadKey
from recommender.model import DIRECTIONS, Direction, Reason, Rule
from recommender.propose import Proposal, exact_name, instant, named
from recommender.recommend import Recommendation
from recommender.replay import asked, replay
from recommender.report.files import port_texts, proposal_path
from recommender.report.lines import many

_FEW = 6


def workload(found: Recommendation, name: str) -> list[str]:
    """What is known of a policy or a workload; no line where there is none of that name.

    Args:
        found: the proposals.
        name: `namespace/name`, `namespace/kind/name`, `namespace/policy`, or a policy's file.
    """
    lines: list[str] = []
    for proposal in found.proposals:
        keys = [key for key in proposal.workloads if _means(name, key, proposal)]
        for key in keys:
            lines += [*_workload(found, key, proposal), ""]
    return lines[:-1]


def _means(name: str, key: WorkloadKey, proposal: Proposal) -> bool:
    names = {
        str(key),
        f"{key.namespace}/{key.kind}/{key.name}",
        f"{proposal.namespace}/{proposal.policy.ref.name}",
    }
    place = proposal_path(proposal).parts
    return name in names or PurePath(name).parts[-len(place) :] == place


def _workload(found: Recommendation, key: WorkloadKey, proposal: Proposal) -> Iterator[str]:
    full = f"{key.namespace}/{key.kind}/{key.name}"
    yield f"{key} is a {key.kind}{_role(found, full)}."
    for row in records(found.window.workloads):
        if row["workload"] == full:
            yield f"Watched long enough: {row['word']}, since {row['why']}."
    policy = proposal.policy
    ways = " and ".join(d for d in DIRECTIONS if d in policy.isolates) or "no direction"
    yield f"Policy {policy.ref.name} ({proposal_path(proposal)}) isolates {ways}."
    for direction in DIRECTIONS:
        rules = policy.rules(direction)
        if direction in policy.isolates and not rules:
            yield f"No wanted {direction} was seen, so none is allowed."
        yield from (_rule(direction, rule) for rule in rules)
    yield from (f"It cannot say everything: {loss}." for loss in proposal.losses)
    rows = [
        row
        for row in records(found.watched.edges)
        if full in (exact_name(row, "client"), exact_name(row, "server"))
    ]
    yield from _not_learned(rows)


def _role(found: Recommendation, full: str) -> str:
    roles = found.watched.meaning.roles
    number = roles.of.get(full)
    if number is None:
        return " that plays no role: too little was seen of it"
    members = next(len(role.members) for role in roles.catalogue if role.number == number)
    with_ = f"with {members - 1} more" if members > 1 else "alone"
    return f" that plays role {number} {with_}"


def _rule(direction: Direction, rule: Rule) -> str:
    e = rule.evidence
    assert e is not None, "every proposed rule has evidence"
    peers = _some(e.clients if direction == "ingress" else e.servers)
    verb = "lets in" if direction == "ingress" else "lets out to"
    told = f", told by the {' and the '.join(e.reporters)}" if e.reporters else ""
    return (
        f"{direction} rule {rule.index} {verb} {peers} on {', '.join(port_texts(rule.ports))}, "
        f"because {_seen(e.connections, e.days, e.hours)}, from {e.first_seen} to "
        f"{e.last_seen}{told}."
    )


def _seen(connections: int, days: int, hours: int) -> str:
    were = "was" if connections == 1 else "were"
    return (
        f"{many(connections, 'connection')} {were} delivered on up to {many(days, 'day')} and in "
        f"{many(hours, 'hour')}"
    )


_TITLES = {
    "review": ("waits for a decision", "wait for a decision"),
    "denied": ("was denied by policy and is not learned", "were denied by policy, not learned"),
    "rejected": ("was rejected", "were rejected"),
}


def _not_learned(rows: Iterable[Row]) -> Iterator[str]:
    """What is no rule, by client, class and reason."""
    together: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row["class"] in _TITLES:
            key = (named(row, "client"), str(row["class"]), str(row["reason"]))
            together.setdefault(key, []).append(row)
    for (client, class_, reason), some in together.items():
        servers = sorted({_server(row) for row in some})
        yield f"{client} to {_some(servers)} {_TITLES[class_][len(servers) > 1]}: {reason}."


def _server(row: Row) -> str:
    port = "" if row["port"] is None else f" {row['port']}"
    return f"{named(row, 'server')} {row['protocol']}{port}"


def edge(found: Recommendation, client: str, server: str) -> list[str]:
    """What is known of the edges between two ends; no line where none was seen.

    Args:
        found: the proposals.
        client: `namespace/name`, `namespace/kind/name`, or an address.
        server: likewise.
    """
    rows = [
        row
        for row in records(found.watched.edges)
        if client in (named(row, "client"), exact_name(row, "client"))
        and server in (named(row, "server"), exact_name(row, "server"))
    ]
    judge = evaluator(
        found.policies, found.watched.inventory, told=found.watched.known, staged=True
    )
    verdicts = {id(r.row): r.verdict for r in replay(judge, rows)}
    lines = []
    for row in rows:
        lines.append(
            f"{named(row, 'client')} -> {_server(row)} is {row['class']}: {row['reason']}."
        )
        first, last = instant(row["first_seen"]), instant(row["last_seen"])
        seen = _seen(int(row["connections"]), int(row["days"]), int(row["hours"]))
        what = seen if row["class"] == "wanted" else seen.replace("delivered", "seen")
        lines.append(f"  {what}, from {first} to {last}.")
        verdict = verdicts.get(id(row))
        if verdict is None:
            lines.append("  No policy can judge it.")
            continue
        if verdict.allow:  # the replay gives no reasons for what passes
            ends = exact_name(row, "client"), exact_name(row, "server")
            verdict = judge.verdict(*ends, *asked(row))
        word = {True: "allow", False: "deny", None: "may or may not allow"}[verdict.allow]
        lines.append(f"  The proposals {word} it: {_because(verdict.because)}.")
    return lines


def _because(reasons: Sequence[Reason]) -> str:
    told = [
        f"{r.direction} {r.action}"
        + (f" by {r.policy.namespace}/{r.policy.name}" if r.policy else "")
        + ("" if r.rule is None else f" rule {r.rule}")
        for r in reasons
    ]
    return "; ".join(dict.fromkeys(told))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more
