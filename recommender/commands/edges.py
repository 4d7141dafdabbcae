"""`flowpolicy edges`: who talks to whom."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recommender.commands import options, progress, tables

if TYPE_CHECKING:
    import pandas as pd


@click.command(
    epilog="\b\nExample:\n  flowpolicy edges --store /tmp/store "
    "--inventory data/samples/inventory.yaml",
    short_help="Show who talks to whom.",
)
@click.option("--store", metavar="STORE", help="The flow store that `ingest` wrote.")
@options.inventory
@options.cluster
@options.engine
@click.option("--hourly", is_flag=True, help="One row an hour, without classes.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File for -o parquet.")
@click.option(
    "--sql",
    type=click.Choice(["clickhouse", "trino"]),
    help="In place of --store: print the SQL that gives the same edges where flows already lie in "
    "a warehouse, and the tables that it reads.",
)
@click.option(
    "--ends-of",
    "mentioned",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="In place of --store: write the table `ends` that this SQL reads to --out, from the "
    "answers to its first SELECTs.",
)
@options.output("text", "json", "csv", "parquet")
def command(
    store: str | None,
    inventory: tuple[str, ...],
    cluster: str | None,
    engine: str,
    hourly: bool,
    out: Path | None,
    sql: str | None,
    mentioned: Path | None,
    output: str,
) -> None:
    """Show who talks to whom: clients, servers, server ports, and each edge's class.

    Both reporters of a connection are counted once. The class says whether the edge is wanted,
    waits for review, was denied, or is no policy matter.
    """
    from recommender.watch import watch

    if sum(given is not None for given in (store, sql, mentioned)) != 1:
        raise click.UsageError("give one of --store STORE, --sql WAREHOUSE and --ends-of FOLDER")
    if sql is not None:
        from recommender.warehouse import script

        click.echo(script(sql), nl=False)
        return
    if mentioned is not None:
        _write_ends(mentioned, inventory, out)
        return
    assert store is not None
    if output == "parquet" and out is None:
        raise click.UsageError("-o parquet needs --out FILE")
    with progress.waiting("reading the store"):
        watched = watch(store, inventory, cluster=cluster, engine=engine)
    options.say_problems(watched.inventory)
    if watched.from_flows:
        options.say(FROM_FLOWS)
    table = watched.hourly if hourly else watched.edges
    if not len(table):
        options.say("the store holds no edge; ingest a log with flows first")
        sys.exit(3)
    _write(table, output, out)


def _write_ends(mentioned: Path, inventory: tuple[str, ...], out: Path | None) -> None:
    """The table of ends for a warehouse."""
    from recommender.objects import read_inventory
    from recommender.warehouse import ends_of

    if out is None:
        raise click.UsageError("--ends-of needs --out FILE")
    known = read_inventory(inventory) if inventory else None
    if known is not None:
        options.say_problems(known)
    ends_of(mentioned, known).to_pandas().to_parquet(out, index=False)


FROM_FLOWS = (
    "no --inventory: workloads, labels and ports are those that the flows show, so what never "
    "talked is unknown and a selector may take in more than it seems"
)


def _write(table: pd.DataFrame, output: str, out: Path | None) -> None:
    if output == "csv":
        click.echo(table.to_csv(index=False), nl=False)
    elif output == "json":
        click.echo(table.to_json(orient="records", date_format="iso", date_unit="us"))
    elif output == "parquet":
        table.convert_dtypes(dtype_backend="pyarrow").to_parquet(out, index=False)
    else:
        _print(table)


def _print(table: pd.DataFrame) -> None:
    from recommender.frames import records
    from recommender.propose import named
    from recommender.report.lines import many

    rows = []
    for row in records(table):
        client, server = named(row, "client"), named(row, "server")
        port = f"{row['protocol']}" + ("" if row["port"] is None else f" {row['port']}")
        class_ = f"{row['class']}: {row['reason']}" if "class" in row else ""
        cells = (client, server, port, f"{row['connections']:,}", class_ or str(row["hour"]))
        line = f"{client} -> {server} {port}  {many(row['connections'], 'connection')}"
        rows.append((cells, f"{line}  {class_}" if class_ else line))
    last = "class" if "class" in table else "hour"
    tables.tell(("client", "server", "port", "conn.", last), rows, numbers=("conn.",))
