"""`flowpolicy connectivity`: all that a set of policies permits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from recommender.commands import options, tables

if TYPE_CHECKING:
    from recommender.listing import By


@click.command(
    epilog="\b\nExample:\n  flowpolicy connectivity data/samples/policies "
    "--inventory data/samples/inventory.yaml",
    short_help="List all that a set of policies permits.",
)
@click.argument("policies", nargs=-1, required=True, metavar="POLICIES...")
@options.inventory
@options.by
@options.names_store
@options.cluster
@options.judging
@options.output("text", "json")
def command(
    policies: tuple[str, ...],
    inventory: tuple[str, ...],
    by: By,
    store: str | None,
    cluster: str | None,
    staged: bool,
    host_network: str | None,
    strict: bool,
    output: str,
) -> None:
    """List all that a set of policies permits.

    POLICIES are files or folders of YAML or JSON. Addresses outside the cluster come as ranges.
    What cannot be told is left out, and how many rules that concerns is said on standard error.
    A pod's connections to itself and those with no pod at either end are left out. Host-network
    pods are judged as pods where all POLICIES are NetworkPolicies, else as their nodes.
    """
    from recommender.evaluate import evaluator
    from recommender.report.changes import connection, intervals

    objects = options.read_inventory(inventory)
    given = options.read_policies(policies, objects, staged=staged)
    hosts = options.host_network(host_network, given.policies)
    judge = evaluator(
        given.policies,
        objects,
        told=options.known(store, cluster),
        staged=staged,
        host_network=hosts,
    )
    if host_network is None:
        options.say_host_network(hosts, objects.pods.values())
    if doubts := list(judge.doubts()):
        first = doubts[0]
        options.say(
            f"rules that cannot be judged: {len(doubts)}; what they may permit or deny is not "
            f"listed; the first: {first.policy} {first.direction} rule {first.rule}: "
            f"{first.detail}"
        )
    rows = judge.connectivity(by=by)
    if output == "json":
        click.echo(json.dumps({"connections": [connection(row) for row in rows]}))
    else:
        shown = [(row.src, row.dst, row.protocol, intervals(row.ports)) for row in rows]
        lines = [(cells, f"{cells[0]} -> {' '.join(cells[1:])}") for cells in shown]
        tables.tell(("client", "server", "protocol", "ports"), lines)
    options.done(strict, given)
