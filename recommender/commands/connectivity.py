"""`flowpolicy connectivity`: all that a set of policies permits."""

from __future__ import annotations

import json
from collections.abc import Iterable

import click

from recommender.commands import options


@click.command(
    epilog="\b\nExample:\n  flowpolicy connectivity data/samples/policies "
    "--inventory data/samples/inventory.yaml",
    short_help="List all that a set of policies permits.",
)
@click.argument("policies", nargs=-1, required=True, metavar="POLICIES...")
@options.inventory
@click.option(
    "--by",
    type=click.Choice(["workload", "pod"]),
    default="workload",
    show_default=True,
    help="One row a workload (permitted between any of its pods), or a pod.",
)
@options.output("text", "json")
def command(policies: tuple[str, ...], inventory: tuple[str, ...], by: str, output: str) -> None:
    """List all that a set of policies permits.

    POLICIES are files or folders of YAML or JSON. Addresses outside the cluster come as ranges.
    A pod's connections to itself and those with no pod at either end are left out.
    """
    from recommender.evaluate import evaluator

    objects = options.read_inventory(inventory)
    judge = evaluator(options.read_policies(policies, objects), objects)
    rows = judge.connectivity(by="pod" if by == "pod" else "workload")
    if output == "json":
        connections = [
            {
                "src": r.src,
                "dst": r.dst,
                "protocol": r.protocol,
                "ports": [list(p) for p in r.ports],
            }
            for r in rows
        ]
        click.echo(json.dumps({"connections": connections}))
        return
    for row in rows:
        click.echo(f"{row.src} -> {row.dst} {row.protocol} {_ports(row.ports)}")


def _ports(intervals: Iterable[tuple[int, int]]) -> str:
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in intervals)
