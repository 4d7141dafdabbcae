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
@click.option(
    "--changes",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="With --with: folder for the policies in force with less in them, one file each that says "
    "what it would close. No part of the proposals.",
)
@proposing
@options.output("text", "json")
def command(found: Recommendation, out: Path, changes: Path | None, output: str) -> None:
    """Propose least-privilege policies, checked against the logs.

    Writes DIR/NAMESPACE/WORKLOAD.yaml for each workload, and DIR/recommendation.json with the
    evidence for each rule, the replay, the surplus and the review list. Every wanted edge is
    replayed first; if one would be denied, nothing is written and the command exits 1.

    With --with, policies in force stay as they are, and the rules of theirs are told that keep
    connections open which nobody was seen to make.
    """
    from recommender.report import beside, files, text
    from recommender.report.lines import many

    if changes is not None:
        _check(changes, out, found)
    files.write(found, out)
    if changes is not None and found.beside is not None:
        written = beside.write(found.beside, changes)
        options.say(f"{changes}: {many(len(written), 'change')} of others'")
    if output == "json":
        click.echo(json.dumps(files.as_dict(found)))
    else:
        for line in text.summary(found, out):
            options.tell(line)


def _check(changes: Path, out: Path, found: Recommendation) -> None:
    """See that changes never lie among proposals, where they would be applied with them."""
    if found.beside is None:
        raise click.UsageError("--changes needs --with, which says what policies are in force")
    own, other = out.resolve(), changes.resolve()
    if own.is_relative_to(other) or other.is_relative_to(own):
        raise click.UsageError("--changes and --out are folders apart, neither in the other")
