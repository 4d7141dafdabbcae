"""`flowpolicy patterns`: roles, review list, window."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recommender.commands import options, progress, tables
from recommender.commands.edges import FROM_FLOWS

if TYPE_CHECKING:
    from recommender.enough import Thresholds
    from recommender.watch import Watched
    from recommender.window import Window


@click.command(
    epilog="\b\nExample:\n  flowpolicy patterns --store /tmp/store "
    "--inventory data/samples/inventory.yaml",
    short_help="Show roles, odd edges, and whether it was watched long enough.",
)
@options.watched
@options.inventory
@options.cluster
@options.decisions
@options.thresholds
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for roles.parquet, edges.parquet and window.parquet, with -o parquet.",
)
@options.output("text", "json", "parquet")
def command(
    store: str,
    inventory: tuple[str, ...],
    cluster: str | None,
    decisions: str | None,
    thresholds: Thresholds,
    out: Path | None,
    output: str,
) -> None:
    """Show roles, odd edges, and whether it was watched long enough.

    Workloads that communicate alike share a role. Edges that a gate stops wait for a decision. The
    window ends in one word: ready, wait (until when) or can't tell (why).
    """
    from recommender.watch import watch, window_of

    if output == "parquet" and out is None:
        raise click.UsageError("-o parquet needs --out DIR")
    chosen = options.read_decisions(decisions)
    with progress.waiting("reading the store"):
        watched = watch(store, inventory, cluster=cluster, decisions=chosen, in_force=True)
    options.say_problems(watched.inventory)
    for note in watched.meaning.notes:
        options.say(note)
    if watched.from_flows:
        options.say(FROM_FLOWS)
    if not len(watched.edges):
        options.say("the store holds no edge; ingest a log with flows first")
        sys.exit(3)
    found = window_of(watched, thresholds)
    if output == "text":
        _tell(watched, found)
    elif output == "json":
        click.echo(json.dumps(_as_dict(watched, found)))
    else:
        assert out is not None
        _write(watched, found, out)


def _tell(watched: Watched, window: Window) -> None:
    from recommender.report import patterns

    for line in patterns.roles_lines(watched.meaning.roles):
        options.tell(line)
    for title, rows, more in patterns.to_look_at(watched.edges):
        options.tell(title)
        tables.tell(patterns.HEADS, rows)
        if more:
            options.tell(more)
    for line in patterns.estimate_lines(window):
        options.tell(line)


def _as_dict(watched: Watched, window: Window) -> dict[str, Any]:
    from recommender.frames import of_class, records
    from recommender.report import files, patterns

    return {
        "schema": "flowpolicy/patterns/v1",
        "roles": patterns.role_rows(watched.meaning.roles),
        "review": [files.edge(row) for row in of_class(watched.edges, "review")],
        "marked": [files.edge(row) for row in patterns.marked(watched.edges)],
        "rejected": [files.edge(row) for row in of_class(watched.edges, "rejected")],
        "window": patterns.window_fields(window),
        "workloads": records(window.workloads),
    }


def _write(watched: Watched, window: Window, out: Path) -> None:
    import pandas as pd

    from recommender.report import patterns

    out.mkdir(parents=True, exist_ok=True)
    roles = pd.DataFrame(
        [(row["role"], member) for row in patterns.role_rows(watched.meaning.roles)
         for member in row["members"]],
        columns=["role", "member"],
    )  # fmt: skip
    tables = {"roles": roles, "edges": watched.edges, "window": window.workloads}
    for name, table in tables.items():
        frame = table.convert_dtypes(dtype_backend="pyarrow")
        frame.to_parquet(out / f"{name}.parquet", index=False)
        options.say(f"{out / name}.parquet: {len(frame):,} rows")
