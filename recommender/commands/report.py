"""`flowpolicy report`: one page that shows it all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ingest.errors import FlowpolicyError
from recommender.commands import options, progress
from recommender.commands.proposing import proposing

if TYPE_CHECKING:
    from recommender.policies import PolicySet
    from recommender.recommend import Recommendation
    from recommender.watch import Watched


@click.command(
    epilog="\b\nExample:\n  flowpolicy report --store /tmp/store "
    "--inventory data/samples/inventory.yaml --out /tmp/report.html",
    short_help="Write one page that shows it all in a browser.",
)
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
@proposing
def command(found: Recommendation, out: Path, policies: tuple[str, ...]) -> None:
    """Write one page that shows it all in a browser: no server, no network, one file.

    A map of who calls whom, each workload's proposed policy with the evidence for its rules, what
    changes against the policies in force, whether it was watched long enough, and the review list
    with the commands that decide it.
    """
    from recommender.report.page import page
    from recommender.report.page_data import judged, page_data

    old, what = _in_force(policies, found.watched)
    with progress.waiting("comparing with the policies in force"):
        against = judged(old, found, what)
    with progress.waiting("writing the page"):
        text = page(page_data(found, against))
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FlowpolicyError(f"{out}: {error.strerror}; choose another file") from error
    options.say(f"{out}: {len(text) / 1e6:.1f} MB; open it in a browser")


def _in_force(paths: tuple[str, ...], watched: Watched) -> tuple[PolicySet, str]:
    """The policies in force, and a sentence on where they are from."""
    from recommender.policies import in_force
    from recommender.report.lines import many

    if paths:
        given = options.read_policies(paths, watched.inventory, may_be_empty=True)
        where = ", ".join(paths)
    else:
        given, where = in_force(watched.inventory), "the inventory"
    told = f"{many(len(given.policies), 'policy', 'policies')} in force, from {where}"
    if not given.policies:
        told = "No policies in force are known, so all was permitted before"
    return given, f"{told}; the proposals are taken to stand in their place."
