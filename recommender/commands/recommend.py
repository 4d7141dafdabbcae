"""`flowpolicy recommend`: proposals from the store, checked, written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recommender.commands import options
from recommender.commands.proposing import proposing

if TYPE_CHECKING:
    from recommender.recommend import Recommendation


@click.command(
    epilog="\b\nExample:\n  flowpolicy recommend --store /tmp/store "
    "--inventory data/samples/inventory.yaml --out /tmp/policies",
    short_help="Propose least-privilege policies, checked against the logs.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the policies and recommendation.json; made anew.",
)
@proposing
@options.output("text", "json")
def command(found: Recommendation, out: Path, output: str) -> None:
    """Propose least-privilege policies, checked against the logs.

    Writes DIR/NAMESPACE/WORKLOAD.yaml for each workload, and DIR/recommendation.json with the
    evidence for each rule, the replay, the surplus and the review list. Every wanted edge is
    replayed first; if one would be denied, nothing is written and the command exits 1.
    """
    from recommender.report import files, text

    files.write(found, out)
    if output == "json":
        click.echo(json.dumps(files.as_dict(found)))
    else:
        click.echo(text.summary(found, out))
