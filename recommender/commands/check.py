"""`flowpolicy check`: what would these policies deny, and whether to enforce them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from recommender.commands import options, progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from recommender.enough import Thresholds
    from recommender.model import HostNetwork
    from recommender.replay import Replayed
    from recommender.shadow import Judgement


@click.command(
    epilog="\b\nExample:\n  flowpolicy check /tmp/policies --store /tmp/store "
    "--inventory data/samples/inventory.yaml",
    short_help="Replay the logs: what would these policies deny.",
)
@click.argument("policies", nargs=-1, required=True, metavar="POLICIES...")
@options.watched
@options.inventory
@click.option(
    "--since",
    "moment",
    metavar="TIME|FILE",
    help="Replay only flows since then: an instant as 2026-11-01T10:00Z, or the proposal's "
    "recommendation.json, for what came after the flows that it was made of.",
)
@options.cluster
@options.judging
@options.decisions
@options.thresholds
@options.output("text", "json")
def command(
    policies: tuple[str, ...],
    store: str,
    inventory: tuple[str, ...],
    moment: str | None,
    cluster: str | None,
    staged: bool,
    host_network: str | None,
    strict: bool,
    decisions: str | None,
    thresholds: Thresholds,
    output: str,
) -> None:
    """Replay the logs through POLICIES: what would they deny, and whether to enforce them.

    This is shadow mode: with --since the flows since the proposal are judged, and each workload
    gets a word: `enforce`, `hold` (what would be denied) or `can't tell` (not watched long enough
    since). Exits 11 when wanted traffic would be denied. What cannot be told is listed apart.
    Host-network pods are judged as their nodes, as the logs have them.
    """
    from recommender import shadow
    from recommender.evaluate import evaluator
    from recommender.frames import of_class
    from recommender.replay import replay
    from recommender.report import files
    from recommender.watch import watch, window_of

    since = None if moment is None else files.moment(moment)
    chosen = options.read_decisions(decisions)
    with progress.waiting("reading the store"):
        watched = watch(store, inventory, cluster=cluster, decisions=chosen)
    options.say_problems(watched.inventory)
    _hint(policies if since is None else ())
    given = options.read_policies(policies, watched.inventory, staged=staged)
    hosts: HostNetwork = "as pods" if host_network == "pods" else "as nodes"
    inventoried, told = watched.inventory, watched.known
    judge = evaluator(given.policies, inventoried, told=told, staged=staged, host_network=hosts)
    flows = watched if since is None else shadow.since(watched, since)
    window = window_of(flows, thresholds)
    with progress.waiting("replaying what was wanted"):
        replayed = list(replay(judge, of_class(flows.edges, "wanted")))
    if not replayed:
        _nothing(since)
    waiting = replay(judge, of_class(flows.edges, "review"))
    denied = [r for r in replayed if r.verdict.allow is False]
    judged = shadow.judgements(judge, replayed, window)
    word = shadow.overall(judged, window, len(denied))
    parts = {
        "denied": denied,
        "unknown": [r for r in replayed if r.verdict.allow is None],
        "waiting": [r for r in waiting if r.verdict.allow is False],
    }
    if output == "json":
        edges = {"since": since and f"{since:%Y-%m-%dT%H:%M:%SZ}", "edges": len(replayed)}
        click.echo(json.dumps({**edges, **_all(parts, word, judged)}, indent=2))
    else:
        _print(len(replayed), **parts)
        _print_words(word, judged)
    options.done(strict, given, answer=11 if denied else 0)


def _hint(policies: Sequence[str]) -> None:
    """Say how to judge what came later, where these are proposals of ours."""
    from recommender.report import files

    for path in policies:
        if (Path(path) / files.INDEX).is_file():
            options.say(
                f"the flows that {path} was made of are replayed too; --since {path} judges "
                "those since then"
            )


def _nothing(since: datetime | None) -> NoReturn:
    when = "" if since is None else f" since {since:%Y-%m-%dT%H:%MZ}"
    options.say(f"the store holds no wanted edge to replay{when}; ingest a log with flows first")
    sys.exit(3)


def _all(
    parts: Mapping[str, list[Replayed]], word: Judgement, judged: Sequence[Judgement]
) -> dict[str, Any]:
    found = {key: [_as_dict(one) for one in some] for key, some in parts.items()}
    return {**found, "verdict": _word(word), "workloads": [_word(one) for one in judged]}


def _word(one: Judgement) -> dict[str, Any]:
    edges = [_as_dict(replayed) for replayed in one.denied]
    return {"workload": one.workload, "word": one.word, "why": list(one.why), "denied": edges}


def _as_dict(replayed: Replayed) -> dict[str, Any]:
    from recommender.commands.verdict import as_dict
    from recommender.propose import instant

    row = replayed.row
    return {
        "client": replayed.client,
        "server": replayed.server,
        "protocol": row["protocol"],
        "port": None if row["port"] is None else int(row["port"]),
        "connections": int(row["connections"]),
        "last_seen": instant(row["last_seen"]),
        "because": [as_dict(reason) for reason in replayed.verdict.because],
    }


def _print(
    edges: int, denied: list[Replayed], unknown: list[Replayed], waiting: list[Replayed]
) -> None:
    from recommender.commands.verdict import told
    from recommender.report.lines import many

    options.tell(
        f"replayed {many(edges, 'wanted edge')}: {len(denied)} would be denied, "
        f"{len(unknown)} cannot be told"
    )
    for word, found in (("denied", denied), ("cannot tell", unknown)):
        for one in found:
            options.tell(f"  {word}: {one}, {many(one.row['connections'], 'connection')}")
            for reason in dict.fromkeys(map(told, one.verdict.because)):
                options.tell(f"    {reason}")
    if waiting:
        options.tell(f"denied too, and waiting for a decision: {len(waiting)} (see -o json)")


_MOST = 10


def _print_words(word: Judgement, judged: Sequence[Judgement]) -> None:
    """The word on all, then on workloads, those on hold first; many of one reason share a line."""
    first, *more = word.why
    options.tell(f"{word.word}: {first}")
    for why in more:
        options.tell(f"  {why}")
    for name in ("hold", "can't tell", "enforce"):
        alike: dict[str, list[str]] = {}
        for one in judged:
            if one.word == name:
                alike.setdefault("; ".join(one.why), []).append(one.workload)
        for why, some in list(alike.items())[:_MOST]:
            left = len(some) - _MOST
            rest = f" and {left} more in -o json" if left > 0 else ""
            options.tell(f"  {name}: {why}: {', '.join(some[:_MOST])}{rest}")
        if len(alike) > _MOST:
            left = sum(map(len, list(alike.values())[_MOST:]))
            options.tell(f"  {name}: {left} more in -o json")
