"""What `recommend` says to a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from recommender.frames import of_class
from recommender.limits import MOST_APPLIED_BYTES, largest
from recommender.recommend import Recommendation
from recommender.report import beside, patterns
from recommender.report.changes import intervals
from recommender.report.files import INDEX, window
from recommender.report.lines import many
from recommender.surplus import Surplus

_MOST = 10
_FEW = 3


def summary(found: Recommendation, out: Path) -> Iterator[str]:
    """The outcome in some lines: what was written, the proof, what waits for a decision."""
    policies = [proposal for proposal, _ in found.written]
    rules = sum(len(p.policy.ingress) + len(p.policy.egress) for p in policies)
    watched = window(found.watched.edges)
    yield f"watched from {watched['first_seen']} to {watched['last_seen']}"
    yield from patterns.window_lines(found.window)
    yield f"wrote {_size(len(policies), rules)} to {out} (evidence in {INDEX})"
    if found.writer.rollout != "enforced":
        yield "they deny nothing until `flowpolicy enforce`; what follows is of that moment"
    yield f"replayed {many(found.replayed, 'wanted edge')}: all allowed"
    if shortest := found.shortest:
        before, after = shortest.before, shortest.after
        yield (
            f"shortened: {_size(before.policies, before.rules)} to "
            f"{after.policies} with {after.rules}, which permit the same"
        )
        if found.opened:
            opened = many(len(found.opened), "pair")
            yield f"opened for that, though nobody was seen to use it: {opened}"
            yield from (f"  {pair}" for pair in found.opened)
        yield f"selectors that take in workloads yet unseen: {len(shortest.embraces)}"
        yield from _some(list(map(str, shortest.embraces)))
    yield f"permitted beyond what was seen: {len(found.surplus)}"
    yield from _some(surplus_lines(found.surplus))
    if found.beside:
        yield from beside.told(found.beside)
    for class_, title in (
        ("review", "waiting for a decision, nothing learned from them"),
        ("denied", "denied by policy, not learned"),
        ("rejected", "rejected by decision"),
    ):
        rows = of_class(found.watched.edges, class_)
        yield f"{title}: {len(rows)}"
        yield from _some([line for _, line in patterns.by_client(rows)])
    losses = [f"{p.workloads[0]}: {loss}" for p in policies for loss in p.losses]
    if losses:
        yield f"what a {found.writer.words.title} cannot say: {len(losses)}"
        yield from _some(losses)
    if found.lost:
        edges = len({id(loss.row) for loss in found.lost})
        yield f"wanted, but not said by these policies, so mostly denied: {many(edges, 'edge')}"
    unseen = [f"{u.namespace}/{u.name}" for p in policies for u in p.unseen]
    if unseen:
        yield f"never seen in the window, so isolated altogether: {', '.join(unseen)}"
    pairs = zip(found.proposals, found.refusals, strict=True)
    refused = [f"{p.namespace}/{p.policy.ref.name}: {why}" for p, why in pairs if why]
    if refused:
        yield f"not written, the API server would not take them: {len(refused)}"
        yield from _some(refused)
    large = [p for p, bodies in found.written if largest(bodies) > MOST_APPLIED_BYTES]
    if large:
        yield f"too large for a plain `kubectl apply`, so use --server-side: {len(large)}"
        yield from _some([f"{p.namespace}/{p.policy.ref.name}" for p in large])


def surplus_lines(found: Iterable[Surplus]) -> list[str]:
    """What is permitted beyond what was seen; many clients of one server and reason share one."""
    alike: dict[tuple[str, str], list[str]] = {}
    for s in found:
        alike.setdefault((f"{s.server} {s.protocol} {intervals(s.ports)}", s.why), []).append(
            s.client
        )
    return [
        f"{client} -> {server}: {why}"
        for (server, why), clients in alike.items()
        for client in (clients if len(clients) <= _FEW else [many(len(clients), "client")])
    ]


def _size(policies: int, rules: int) -> str:
    return f"{many(policies, 'policy', 'policies')} with {many(rules, 'rule')}"


def _some(lines: Sequence[str]) -> Iterator[str]:
    for line in lines[:_MOST]:
        yield f"  {line}"
    if len(lines) > _MOST:
        yield f"  and {len(lines) - _MOST} more in {INDEX}"
