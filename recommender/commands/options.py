"""Options that several commands share, and how they say things."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from recommender.decisions import Decision
    from recommender.inventory import Inventory
    from recommender.manifests import Manifest
    from recommender.model import Policy

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

store = click.option(
    "--store", required=True, metavar="STORE", help="The flow store that `ingest` wrote."
)
inventory = click.option(
    "--inventory",
    multiple=True,
    metavar="PATH",
    help="Cluster objects: what `kubectl get ns,nodes,deploy,sts,ds,rs,job,cronjob,pods,svc,netpol "
    "-A -o yaml` prints, or a folder of manifests. May be given several times.",
)
cluster = click.option(
    "--cluster", metavar="NAME", help="The cluster to look at, where the store holds several."
)

decisions = click.option(
    "--decisions",
    metavar="FILE",
    help="Edges that people accepted or rejected, as `decide` writes them.",
)


def thresholds(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say when a window is long enough; the command gets them as `thresholds`."""

    @click.option("--min-days", type=int, help="Days that must be watched; 14 unless given.")
    @click.option("--min-coverage", type=float, help="Coverage asked for; 0.99 unless given.")
    @click.option(
        "--max-denied", type=float, help="Share of new edges a day borne; 0.001 unless given."
    )
    @functools.wraps(function)
    def wrapped(
        min_days: int | None,
        min_coverage: float | None,
        max_denied: float | None,
        **rest: Any,
    ) -> Any:
        from recommender.enough import Thresholds

        given = {"days": min_days, "coverage": min_coverage, "denied": max_denied}
        chosen: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        return function(thresholds=Thresholds(**chosen), **rest)

    return wrapped


def read_decisions(path: str | None) -> tuple[Decision, ...]:
    """The decisions of a file, none without one."""
    from recommender.decisions import read_decisions

    return () if path is None else read_decisions(path)


def output(*choices: str) -> Decorator:
    """The `-o` option with the given forms, the first by default."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="Form of the output.",
    )


def say(message: str) -> None:
    """One line for people, on standard error."""
    click.echo(message, err=True)


def read_inventory(paths: Sequence[str]) -> Inventory:
    """The inventory; what could not be read of it is said."""
    from recommender.inventory import Inventory
    from recommender.objects import read_inventory

    inventory = read_inventory(paths) if paths else Inventory()
    say_problems(inventory)
    return inventory


def say_problems(inventory: Inventory) -> None:
    """Say what of the inventory was broken or of no known kind."""
    for problem in inventory.problems:
        say(problem)
    if inventory.unknown_kinds:
        kinds = ", ".join(f"{n} {kind}" for kind, n in inventory.unknown_kinds.items())
        say(f"inventory: objects of other kinds were passed over: {kinds}")


def read_policies(paths: Sequence[str], inventory: Inventory) -> tuple[Policy, ...]:
    """The policies; what was left out is said."""
    return read_set(paths, inventory)[1]


def read_set(
    paths: Sequence[str], inventory: Inventory
) -> tuple[list[Manifest], tuple[Policy, ...]]:
    """The manifests of a set of policies, and the policies; what was left out is said."""
    from recommender.policies import read_policies

    manifests, parsed, notes = read_policies(paths, inventory)
    for note in notes:
        say(note)
    return manifests, parsed.policies
