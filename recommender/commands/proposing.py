"""Options of the commands that propose policies, and the proposal that they ask for."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from recommender.commands import options, progress
from recommender.commands.edges import FROM_FLOWS

if TYPE_CHECKING:
    from recommender.dialects.writers import Form
    from recommender.enough import Thresholds
    from recommender.fewest import By
    from recommender.openings import Budget
    from recommender.policies import PolicySet
    from recommender.recommend import Recommendation

_OPTIONS = (
    options.watched,
    options.inventory,
    options.form,
    click.option(
        "--namespace",
        "namespaces",
        multiple=True,
        metavar="NS",
        help="Propose for this namespace only. May be given several times.",
    ),
    click.option(
        "--exclude-namespace",
        "excluded",
        multiple=True,
        metavar="NS",
        help="Propose nothing for this namespace. May be given several times.",
    ),
    click.option(
        "--directions",
        type=click.Choice(["both", "ingress", "egress"]),
        default="both",
        show_default=True,
        help="Directions to isolate.",
    ),
    click.option(
        "--open-addresses",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        metavar="N",
        help="Join the outside addresses of a rule to fewer blocks, which may permit so many that "
        "were not seen. Each is listed.",
    ),
    click.option(
        "--learn-audited",
        is_flag=True,
        help="Take traffic that policy would have denied (audit mode) as wanted.",
    ),
    click.option(
        "--by",
        type=click.Choice(["role", "workload"]),
        help="Write the fewest rules that permit just the same: one policy a workload, or policies "
        "that workloads share. Without it, each workload has its own, as it was seen.",
    ),
    click.option(
        "--open-pairs",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        metavar="N",
        help="With --by: permit up to so many pairs of workloads on a port that were not seen, "
        "where that makes the policies shorter. Each is listed; none was denied, held back or "
        "rejected.",
    ),
    click.option(
        "--with",
        "with_",
        multiple=True,
        metavar="PATH",
        help="Propose beside the policies in force here, or, by the word `inventory`, among the "
        "inventory's objects: tells which of their rules keep connections open that were not seen. "
        "They are never changed. May be given several times.",
    ),
    options.cluster,
    options.engine,
    options.decisions,
    options.thresholds,
)


def proposing(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options; the command gets the proposals, every wanted edge replayed, as `found`."""

    @functools.wraps(function)
    def wrapped(
        store: str,
        inventory: tuple[str, ...],
        dialect: str,
        form: Form,
        namespaces: tuple[str, ...],
        excluded: tuple[str, ...],
        directions: str,
        open_addresses: int,
        learn_audited: bool,
        by: By | None,
        open_pairs: int,
        with_: tuple[str, ...],
        cluster: str | None,
        engine: str,
        decisions: str | None,
        thresholds: Thresholds,
        **rest: Any,
    ) -> Any:
        from recommender.dialects.writers import writer
        from recommender.model import DIRECTIONS
        from recommender.openings import Budget
        from recommender.propose import Scope
        from recommender.watch import watch

        if open_pairs and by is None:
            raise click.UsageError("--open-pairs needs --by, which makes the policies short")
        decided = options.read_decisions(decisions)

        with progress.waiting("reading the store"):
            watched = watch(
                store,
                inventory,
                cluster=cluster,
                decisions=decided,
                audited=learn_audited,
                in_force=True,
                engine=engine,
            )
        scope = Scope(
            frozenset(namespaces),
            frozenset(excluded),
            tuple(d for d in DIRECTIONS if directions in ("both", d)),
            open_addresses,
        )
        _say(watched, scope)
        given = _in_force(with_, watched)
        budget = Budget(open_pairs, decided)
        found = _proposed(watched, scope, writer(dialect, form), thresholds, by, given, budget)
        return function(found=found, **rest)

    command = wrapped
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _say(watched: Any, scope: Any) -> None:
    options.say_problems(watched.inventory)
    for note in watched.meaning.notes:
        options.say(note)
    if watched.from_flows:
        options.say(FROM_FLOWS)
    if not len(watched.edges):
        options.say("the store holds no edge; ingest a log with flows first")
        sys.exit(3)
    for name in sorted((scope.namespaces | scope.excluded) - watched.inventory.namespaces.keys()):
        options.say(f"namespace {name} is not in the inventory")


def _in_force(paths: tuple[str, ...], watched: Any) -> PolicySet | None:
    """The policies to propose beside; none where nobody asked."""
    from recommender.policies import in_force

    if "inventory" in paths:
        if len(paths) > 1:
            raise click.UsageError("--with inventory stands alone: give it, or paths")
        found = in_force(watched.inventory)
        for note in found.notes:
            options.say(note)
        return found
    return options.read_policies(paths, watched.inventory) if paths else None


def _proposed(
    watched: Any,
    scope: Any,
    writer: Any,
    thresholds: Thresholds,
    by: By | None,
    given: PolicySet | None,
    budget: Budget,
) -> Recommendation:
    from ingest.errors import FlowpolicyError
    from recommender.recommend import recommendation

    with progress.waiting("proposing, and replaying what was wanted"):
        found = recommendation(watched, scope, writer, thresholds, by, given, budget)
    if found.denied:
        first = "; ".join(str(denied) for denied in found.denied[:3])
        raise FlowpolicyError(
            f"the proposals would deny {len(found.denied)} of {found.replayed} wanted edges, "
            f"so nothing was written; first: {first}"
        )
    return found
