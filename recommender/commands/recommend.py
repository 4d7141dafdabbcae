"""`flowpolicy recommend`: proposals from the store, checked, written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recommender.commands import options
from recommender.commands.edges import FROM_FLOWS

if TYPE_CHECKING:
    from recommender.dialects.writers import Form
    from recommender.enough import Thresholds


@click.command(
    epilog="\b\nExample:\n  flowpolicy recommend --store /tmp/store "
    "--inventory data/samples/inventory.yaml --out /tmp/policies",
    short_help="Propose least-privilege policies, checked against the logs.",
)
@options.store
@options.inventory
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the policies and recommendation.json; made anew.",
)
@options.form
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NS",
    help="Propose for this namespace only. May be given several times.",
)
@click.option(
    "--exclude-namespace",
    "excluded",
    multiple=True,
    metavar="NS",
    help="Propose nothing for this namespace. May be given several times.",
)
@click.option(
    "--directions",
    type=click.Choice(["both", "ingress", "egress"]),
    default="both",
    show_default=True,
    help="Directions to isolate.",
)
@click.option(
    "--learn-audited",
    is_flag=True,
    help="Take traffic that policy would have denied (audit mode) as wanted.",
)
@options.cluster
@options.decisions
@options.thresholds
@options.output("text", "json")
def command(
    store: str,
    inventory: tuple[str, ...],
    out: Path,
    dialect: str,
    namespaces: tuple[str, ...],
    excluded: tuple[str, ...],
    directions: str,
    learn_audited: bool,
    form: Form,
    cluster: str | None,
    decisions: str | None,
    thresholds: Thresholds,
    output: str,
) -> None:
    """Propose least-privilege policies, checked against the logs.

    Writes DIR/NAMESPACE/WORKLOAD.yaml for each workload, and DIR/recommendation.json with the
    evidence for each rule, the replay, the surplus and the review list. Every wanted edge is
    replayed first; if one would be denied, nothing is written and the command exits 1.
    """
    from ingest.errors import FlowpolicyError
    from recommender.dialects.writers import writer
    from recommender.model import DIRECTIONS
    from recommender.propose import Scope
    from recommender.recommend import recommendation
    from recommender.report import files, text
    from recommender.watch import watch

    how = {"audited": learn_audited, "in_force": True}
    chosen = options.read_decisions(decisions)
    watched = watch(store, inventory, cluster=cluster, decisions=chosen, **how)
    options.say_problems(watched.inventory)
    for note in watched.meaning.notes:
        options.say(note)
    if watched.from_flows:
        options.say(FROM_FLOWS)
    if not len(watched.edges):
        options.say("the store holds no edge; ingest a log with flows first")
        sys.exit(3)
    scope = Scope(
        frozenset(namespaces),
        frozenset(excluded),
        tuple(d for d in DIRECTIONS if directions in ("both", d)),
    )
    for name in sorted((scope.namespaces | scope.excluded) - watched.inventory.namespaces.keys()):
        options.say(f"namespace {name} is not in the inventory")
    found = recommendation(watched, scope, writer(dialect, form), thresholds)
    if found.denied:
        first = "; ".join(str(denied) for denied in found.denied[:3])
        raise FlowpolicyError(
            f"the proposals would deny {len(found.denied)} of {found.replayed} wanted edges, "
            f"so nothing was written; first: {first}"
        )
    files.write(found, out)
    if output == "json":
        click.echo(json.dumps(files.as_dict(found)))
    else:
        click.echo(text.summary(found, out))
