"""`flowpolicy explain`: why a rule is there, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ingest.errors import FlowpolicyError
from recommender.commands import options
from recommender.commands.proposing import proposing

if TYPE_CHECKING:
    from recommender.recommend import Recommendation


@click.command(
    epilog="\b\nExample:\n  flowpolicy explain shop/catalog --store /tmp/store "
    "--inventory data/samples/inventory.yaml",
    short_help="Tell in sentences why a rule is there, or is not.",
)
@click.argument("what", nargs=-1, required=True, metavar="POLICY|WORKLOAD|CLIENT SERVER")
@proposing
def command(found: Recommendation, what: tuple[str, ...]) -> None:
    """Tell in sentences why a rule is there, or is not.

    One word names a policy (NS/POLICY, or the file that recommend wrote it to) or a workload
    (NS/NAME or NS/KIND/NAME); two words name the ends of an edge: workloads or addresses, client
    first.
    """
    from recommender.report import explain

    if len(what) > 2:
        raise click.UsageError("give one policy or workload, or the two ends of an edge")
    lines = explain.edge(found, *what) if len(what) == 2 else explain.workload(found, what[0])
    if not lines:
        known = sorted({str(key) for proposal in found.proposals for key in proposal.workloads})
        near = options.nearest(what[-1], known)
        raise FlowpolicyError(
            f"nothing is known of {' -> '.join(what)}; {near}`flowpolicy edges` lists who was seen"
        )
    for line in lines:
        options.tell(line)
