"""`flowpolicy report`: one page that shows it all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ingest.errors import FlowpolicyError
from recommender.commands import options
from recommender.commands.edges import FROM_FLOWS

if TYPE_CHECKING:
    from recommender.dialects.writers import Form
    from recommender.enough import Thresholds
    from recommender.policies import PolicySet
    from recommender.watch import Watched


@click.command(
    epilog="\b\nExample:\n  flowpolicy report --store /tmp/store "
    "--inventory data/samples/inventory.yaml --out /tmp/report.html",
    short_help="Write one page that shows it all in a browser.",
)
@options.store
@options.inventory
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The page; written anew.",
)
@click.option(
    "--policies",
    multiple=True,
    metavar="PATH",
    help="The policies in force, files or folders; those of the inventory unless given.",
)
@options.form
@options.cluster
@options.decisions
@options.thresholds
def command(
    store: str,
    inventory: tuple[str, ...],
    out: Path,
    policies: tuple[str, ...],
    dialect: str,
    form: Form,
    cluster: str | None,
    decisions: str | None,
    thresholds: Thresholds,
) -> None:
    """Write one page that shows it all in a browser: no server, no network, one file.

    A map of who calls whom, each workload's proposed policy with the evidence for its rules, what
    changes against the policies in force, whether it was watched long enough, and the review list
    with the commands that decide it.
    """
    from recommender.dialects.writers import writer
    from recommender.diff import compared, evaluators
    from recommender.propose import Scope
    from recommender.recommend import recommendation
    from recommender.report import files
    from recommender.report.page import page
    from recommender.report.page_data import Judged, page_data
    from recommender.watch import watch

    chosen = options.read_decisions(decisions)
    watched = watch(store, inventory, cluster=cluster, decisions=chosen, in_force=True)
    options.say_problems(watched.inventory)
    for note in watched.meaning.notes:
        options.say(note)
    if watched.from_flows:
        options.say(FROM_FLOWS)
    if not len(watched.edges):
        options.say("the store holds no edge; ingest a log with flows first")
        sys.exit(3)
    old, what = _in_force(policies, watched)
    found = recommendation(watched, Scope(), writer(dialect, form), thresholds)
    new = files.proposed(found)
    staged = form.rollout == "staged"
    before, after = evaluators(old, new, watched.inventory, told=watched.known, staged=staged)
    changes = compared(old, new, before, after, watched.edges)
    text = page(page_data(found, Judged(before, after, changes, what)))
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FlowpolicyError(f"{out}: {error.strerror}; choose another file") from error
    options.say(f"{out}: {len(text) / 1e6:.1f} MB; open it in a browser")


def _in_force(paths: tuple[str, ...], watched: Watched) -> tuple[PolicySet, str]:
    """The policies in force, and a sentence on where they are from."""
    from recommender.policies import in_force

    if paths:
        given = options.read_policies(paths, watched.inventory, may_be_empty=True)
        where = ", ".join(paths)
    else:
        given, where = in_force(watched.inventory), "the inventory"
    count = len(given.policies)
    told = f"{count} {'policy' if count == 1 else 'policies'} in force, from {where}"
    if not count:
        told = "No policies in force are known, so all was permitted before"
    return given, f"{told}; the proposals are taken to stand in their place."
