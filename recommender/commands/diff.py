"""`flowpolicy diff`: what changes between two sets of policies."""

from __future__ import annotations

import json
import sys

import click

from recommender.commands import options

_MOST = 40


@click.command(
    epilog="\b\nExample:\n  flowpolicy diff data/samples/policies /tmp/policies "
    "--inventory data/samples/inventory.yaml --store /tmp/store",
    short_help="Show what changes between two sets of policies.",
)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@options.inventory
@click.option("--store", metavar="STORE", help="Judge the observed flows of this store by both.")
@options.cluster
@click.option("--all", "everything", is_flag=True, help="Text: show every line of every section.")
@options.output("text", "json", "markdown")
def command(
    old: str,
    new: str,
    inventory: tuple[str, ...],
    store: str | None,
    cluster: str | None,
    everything: bool,
    output: str,
) -> None:
    """Show what changes between two sets of policies, OLD and NEW: files or folders.

    Four views: the objects, the connections gained and lost by workload, the observed flows that
    change verdict (with --store), and what to look at, such as a selector that selects nothing.
    Exits 10 when the sets differ.
    """
    from recommender.diff import Side, diff
    from recommender.report import changes
    from recommender.watch import watch

    objects = options.read_inventory(inventory)
    before, after = (Side(*options.read_set([path], objects)) for path in (old, new))
    edges = None
    if store is not None:
        edges = watch(store, inventory, cluster=cluster).edges
    found = diff(before, after, objects, edges)
    if output == "json":
        click.echo(json.dumps(changes.as_dict(found), indent=2))
    elif output == "markdown":
        click.echo(changes.markdown(found))
    else:
        click.echo(changes.text(found, None if everything else _MOST))
    if found:
        sys.exit(10)
