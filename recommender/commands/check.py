"""`flowpolicy check`: what would these policies deny."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from recommender.commands import options, progress

if TYPE_CHECKING:
    from recommender.replay import Replayed


@click.command(
    epilog="\b\nExample:\n  flowpolicy check /tmp/policies --store /tmp/store "
    "--inventory data/samples/inventory.yaml",
    short_help="Replay the logs: what would these policies deny.",
)
@click.argument("policies", nargs=-1, required=True, metavar="POLICIES...")
@options.store
@options.inventory
@options.cluster
@options.judging
@options.decisions
@options.output("text", "json")
def command(
    policies: tuple[str, ...],
    store: str,
    inventory: tuple[str, ...],
    cluster: str | None,
    staged: bool,
    host_network: str | None,
    strict: bool,
    decisions: str | None,
    output: str,
) -> None:
    """Replay the logs through POLICIES: what would they deny.

    Exits 11 when wanted traffic would be denied. What cannot be told is listed apart. Host-network
    pods are judged as their nodes, as the logs have them.
    """
    from recommender.evaluate import evaluator
    from recommender.frames import of_class
    from recommender.replay import replay
    from recommender.watch import watch

    with progress.waiting("reading the store"):
        watched = watch(
            store, inventory, cluster=cluster, decisions=options.read_decisions(decisions)
        )
    options.say_problems(watched.inventory)
    given = options.read_policies(policies, watched.inventory)
    judge = evaluator(
        given.policies,
        watched.inventory,
        told=watched.known,
        staged=staged,
        host_network="as pods" if host_network == "pods" else "as nodes",
    )
    replayed = list(replay(judge, of_class(watched.edges, "wanted")))
    if not replayed:
        options.say("the store holds no wanted edge to replay; ingest a log with flows first")
        sys.exit(3)
    denied = [r for r in replayed if r.verdict.allow is False]
    unknown = [r for r in replayed if r.verdict.allow is None]
    if output == "json":
        parts = {"denied": [_as_dict(r) for r in denied], "unknown": [_as_dict(r) for r in unknown]}
        click.echo(json.dumps({"edges": len(replayed), **parts}, indent=2))
    else:
        _print(replayed, denied, unknown)
    options.done(strict, given, answer=11 if denied else 0)


def _as_dict(replayed: Replayed) -> dict[str, Any]:
    from recommender.commands.verdict import as_dict
    from recommender.propose import instant

    row = replayed.row
    return {
        "client": replayed.client,
        "server": replayed.server,
        "protocol": row["protocol"],
        "port": int(row["port"]),
        "connections": int(row["connections"]),
        "last_seen": instant(row["last_seen"]),
        "because": [as_dict(reason) for reason in replayed.verdict.because],
    }


def _print(replayed: list[Replayed], denied: list[Replayed], unknown: list[Replayed]) -> None:
    from recommender.commands.verdict import told

    options.tell(
        f"replayed {len(replayed)} wanted edges: {len(denied)} would be denied, "
        f"{len(unknown)} cannot be told"
    )
    for word, found in (("denied", denied), ("cannot tell", unknown)):
        for one in found:
            options.tell(f"  {word}: {one}, {one.row['connections']:,} connections")
            for reason in dict.fromkeys(map(told, one.verdict.because)):
                options.tell(f"    {reason}")
