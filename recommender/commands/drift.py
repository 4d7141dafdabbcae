"""`flowpolicy drift`: what has changed since the last proposal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recommender.commands import options, progress

if TYPE_CHECKING:
    from recommender.drift import Drift
    from recommender.model import Remark


@click.command(
    epilog="\b\nExample:\n  flowpolicy drift /tmp/policies --store /tmp/store "
    "--inventory data/samples/inventory.yaml",
    short_help="Show what has changed since the last proposal.",
)
@click.argument(
    "folder", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="FOLDER"
)
@options.watched
@options.inventory
@options.cluster
@options.decisions
@click.option(
    "--unused-days",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    help="Name rules that no flow used in so many days before the last flow.",
)
@options.output("text", "json", "markdown")
def command(
    folder: Path,
    store: str,
    inventory: tuple[str, ...],
    cluster: str | None,
    decisions: str | None,
    unused_days: int,
    output: str,
) -> None:
    """Show what has changed since the last proposal in FOLDER, as `suggest` wrote it.

    Three lists: wanted edges that the last proposal did not know, rules that no flow used for so
    many days, and files that people changed or removed. Exits 10 where one of them is not empty.
    """
    from recommender.drift import drift
    from recommender.report.tree import LOCK, locked
    from recommender.watch import watch

    chosen = options.read_decisions(decisions)
    with progress.waiting("reading the store"):
        watched = watch(store, inventory, cluster=cluster, decisions=chosen)
    options.say_problems(watched.inventory)
    policies = options.read_policies([str(folder)], watched.inventory, may_be_empty=True)
    if not locked(folder):
        options.say(
            f"{folder}: no namespace here has a {LOCK}, so new edges and changes by hand cannot be "
            "told; give the folder in which `suggest` wrote"
        )
    found = drift(folder, policies, watched, unused_days)
    if output == "json":
        click.echo(json.dumps(_as_dict(found), indent=2))
    else:
        _print(found, unused_days, is_markdown=output == "markdown")
    options.done(False, policies, answer=10 if found else 0)


def _rule(remark: Remark) -> str:
    rule = f" {remark.direction} rule {remark.rule}" if remark.rule is not None else ""
    return f"{remark.ref}{rule}: {remark.message}"


def _as_dict(found: Drift) -> dict[str, list[object]]:
    names = ("client", "server", "protocol", "port")
    return {
        "new_edges": [dict(zip(names, edge, strict=True)) for edge in found.new_edges],
        "unused_rules": [_rule(remark) for remark in found.unused],
        "by_hand": list(found.by_hand),
    }


def _print(found: Drift, unused_days: int, *, is_markdown: bool) -> None:
    from recommender.drift import edge_lines
    from recommender.report.markdown import code

    for title, lines in (
        ("edges that the last proposal did not know", edge_lines(found.new_edges)),
        (f"rules without use in {unused_days} days", [_rule(one) for one in found.unused]),
        ("files that people changed", list(found.by_hand)),
    ):
        options.tell(f"{'#### ' if is_markdown else ''}{title}: {len(lines)}")
        for line in lines:
            options.tell(f"- {code(line)}" if is_markdown else f"  {line}")
