"""`flowpolicy ingest`: flow logs into the store."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click

from recommender.commands import following, options


@click.command(
    epilog="\b\nExample:\n  flowpolicy ingest data/samples/hubble --store /tmp/store",
    short_help="Read flow logs into a store.",
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@options.store
@click.option(
    "--format",
    "format_",
    type=click.Choice(["auto", "hubble", "calico", "goldmane"]),
    default="auto",
    show_default=True,
    help="Log format; told from the content unless given.",
)
@click.option("--cluster", metavar="NAME", help="Cluster name, where the log does not say it.")
@click.option("--strict", is_flag=True, help="Exit 12 when a line was rejected.")
@click.option("--workers", type=click.IntRange(1), help="Processes; one a core unless given.")
@options.engine
@following.following
@options.output("text", "json")
def command(
    sources: tuple[str, ...],
    store: str,
    format_: str,
    cluster: str | None,
    strict: bool,
    workers: int | None,
    engine: str,
    output: str,
    **live: Any,
) -> None:
    """Read flow logs into a store.

    SOURCE is a file (plain, .gz or .zst), a folder, a glob, - for standard input, or live:
    hubble-relay://HOST:PORT or goldmane://HOST:PORT. Reading the same log again changes nothing.
    Every line ends as a flow, as skipped with a reason, or as a reject with a reason, kept beside
    the store.
    """
    from ingest.load import load
    from recommender.commands.progress import shown

    known = None if format_ == "auto" else format_
    cluster_of_spark = None if engine == "duckdb" else engine
    if following.is_wanted(sources, live):
        if cluster_of_spark:
            raise click.UsageError("--engine spark:// reads what is there; leave out --follow")
        summary = following.summary(
            sources, store, format_=known, cluster=cluster, workers=workers, live=live
        )
    else:
        with shown() as progress:
            summary = load(
                sources,
                store,
                format=known,
                cluster=cluster,
                workers=workers,
                engine=cluster_of_spark,
                progress=progress,
            )
    for note in summary.notes:
        options.say(note)
    counts: dict[str, Any] = {k: v for k, v in asdict(summary).items() if k != "notes"}
    if output == "json":
        click.echo(json.dumps(counts))
    else:
        _print(counts)
    if not counts["flows"]:
        options.say("no usable flow in the input; check the sources and --format")
        sys.exit(3)
    if strict and counts["rejects"]:
        sys.exit(12)


def _print(counts: dict[str, Any]) -> None:
    from recommender.report.lines import many

    options.tell(
        f"{many(counts['files'], 'file')}, {many(counts['lines'], 'line')} in "
        f"{counts['seconds']:.1f} s: {many(counts['flows'], 'flow')}"
    )
    for word in ("skipped", "rejects"):
        for reason, number in sorted(counts[word].items(), key=lambda item: (-item[1], item[0])):
            options.tell(f"  {word}: {number:,} {reason}")
