"""`flowpolicy compact`: a store in fewer files, and without what is too old."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

import click

from recommender.commands import options


@click.command(
    epilog="\b\nExample:\n  flowpolicy compact --store /tmp/store",
    short_help="Join the small files of a store, and remove old days.",
)
@options.store
@click.option(
    "--keep-days",
    type=click.IntRange(1),
    metavar="DAYS",
    help="Remove the flows of all but this many days, counted back from today (UTC).",
)
@options.output("text", "json")
def command(store: str, keep_days: int | None, output: str) -> None:
    """Join the small files of a store, and remove old days.

    Joining changes no answer of any command, at no moment, and may be ended at any. Flows that were
    removed do not come back when their log is read again.
    """
    from ingest.compact import compact
    from ingest.store import create_store, open_store
    from recommender.report.lines import many

    open_store(store)
    found = compact(create_store(store), keep_days=keep_days, today=datetime.now(UTC).date())
    if output == "json":
        click.echo(json.dumps(asdict(found)))
        return
    click.echo(
        f"{many(found.files_before, 'file')}, {found.bytes_before:,} bytes -> "
        f"{many(found.files_after, 'file')}, {found.bytes_after:,} bytes"
    )
    if found.days_removed:
        click.echo(f"{many(found.days_removed, 'day')} removed")
