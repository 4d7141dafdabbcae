"""`flowpolicy diff`: what changes between two sets of policies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from recommender.commands import options, progress

if TYPE_CHECKING:
    from recommender.listing import By
    from recommender.manifests import Texts

_MOST = 40


@click.command(
    epilog="\b\nExample:\n  flowpolicy diff data/samples/policies /tmp/policies "
    "--inventory data/samples/inventory.yaml --store /tmp/store",
    short_help="Show what changes between two sets of policies.",
)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@options.inventory
@click.option(
    "--store",
    metavar="STORE",
    help="Judge the observed flows of this store, or of a Parquet file of edges, by both.",
)
@options.cluster
@options.by
@options.judging
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Text: show every line of every section. JSON: list every connection.",
)
@options.output("text", "json", "markdown")
def command(
    old: str,
    new: str,
    inventory: tuple[str, ...],
    store: str | None,
    cluster: str | None,
    by: By,
    staged: bool,
    host_network: str | None,
    strict: bool,
    everything: bool,
    output: str,
) -> None:
    """Show what changes between two sets of policies, OLD and NEW: files or folders.

    Either may be an empty folder: a set without policies.

    Four views: the objects, of which those that are rewritten mean what they meant; the connections
    gained and lost, by workload or by pod; with --store, the observed flows that change verdict;
    and findings: what selects nothing, names what is not there, cannot be told, is shadowed or
    redundant, cuts off DNS, and with --store, was never used or is wider than its use. Host-network
    pods are judged as their nodes. Exits 10 when the sets differ in more than how they are written.
    """
    from recommender.diff import diff
    from recommender.report import changes
    from recommender.watch import watch

    objects = options.read_inventory(inventory)
    read: Texts = {}  # most files are the same in both
    before, after = (
        options.read_policies([path], objects, may_be_empty=True, staged=staged, read=read)
        for path in (old, new)
    )
    with progress.waiting("reading the store"):
        watched = None if store is None else watch(store, inventory, cluster=cluster)
    with progress.waiting("comparing"):
        found = diff(
            before,
            after,
            objects,
            None if watched is None else watched.edges,
            told=None if watched is None else watched.known,
            by=by,
            staged=staged,
            host_network="as pods" if host_network == "pods" else "as nodes",
        )
    if output == "json" and everything:
        for piece in changes.json_of_all(found):
            click.echo(piece, nl=False)
    elif output == "json":
        click.echo(json.dumps(changes.as_dict(found), indent=2))
    elif output == "markdown":
        click.echo(changes.markdown(found))
    else:
        for line in changes.text(found, None if everything else _MOST):
            options.tell(line)
    options.done(strict, before, after, answer=10 if found else 0)
