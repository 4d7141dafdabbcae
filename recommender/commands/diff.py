"""`flowpolicy diff`: what changes between two sets of policies."""

from __future__ import annotations

import json
import sys

import click

from recommender.commands import options


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
@options.output("text", "json", "markdown")
def command(
    old: str,
    new: str,
    inventory: tuple[str, ...],
    store: str | None,
    cluster: str | None,
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
    sides = []
    for path in (old, new):
        manifests, policies = options.read_set([path], objects)
        sides.append(Side(manifests, policies))
    edges = None
    if store is not None:
        edges = watch(store, inventory, cluster=cluster).edges
    found = diff(*sides, objects, edges)
    if output == "json":
        click.echo(json.dumps(changes.as_dict(found), indent=2))
    else:
        click.echo(changes.markdown(found) if output == "markdown" else changes.text(found))
    if found:
        sys.exit(10)
