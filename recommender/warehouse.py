"""Flows that lie in a warehouse: the fold as its SQL, and the edges that it gives read back."""

from __future__ import annotations

from pathlib import Path

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from ingest.errors import FlowpolicyError
from ingest.schema import FLOWS
from recommender.edges import END, WHO, api_servers, counts, edges, outside_calls, sighted_ends
from recommender.endpoints import inventory_of_flows, resolve
from recommender.hours import SUMS
from recommender.inventory import Inventory

WAREHOUSES = ("clickhouse", "trino")
# What tells who an end is, by the name of its file.
_MENTIONED = {"sighted": sighted_ends, "calls": outside_calls, "servers": api_servers}
# Columns of EDGES by hour that any flow tells.
_NEVER_NULL = ("cluster", "client_type", "server_type", "hour", *SUMS, "first_seen", "last_seen")


class WarehouseError(FlowpolicyError):
    """A file that came from a warehouse is not what was asked for."""


def script(warehouse: str) -> str:
    """SELECTs in a warehouse's SQL: who its flows mention (three), and their edges by hour.

    They read the tables `flows` (FLOWS) and `ends` (what `ends_of` returns), whose columns the
    comments before them give.
    """
    flows, ends = _flows(), _ends()
    asked = "\n".join(
        f"-- {name}.parquet\n{ibis.to_sql(of(flows), dialect=warehouse)};\n"
        for name, of in _MENTIONED.items()
    )
    return f"""\
-- Table flows, the columns of `STORE/flows/**/*.parquet` and of their paths:
{_columns(flows)}
--
-- 1. Who is mentioned. Keep the answers in a folder under these names, then make the table ends:
--    flowpolicy edges --ends-of FOLDER --inventory PATH --out ends.parquet
{asked}
-- Table ends, the columns of ends.parquet:
{_columns(ends)}
--
-- 2. The edges, by hour, of the same flows as 1: edges with ends that are not in the table ends are
--    left out, so make that anew where flows have come meanwhile. Keep the answer
--    as edges.parquet, and give it to any later command:
--    flowpolicy recommend --edges edges.parquet --inventory PATH --out DIR
{ibis.to_sql(edges(counts(flows), ends), dialect=warehouse)};
"""


def ends_of(folder: Path, inventory: Inventory | None) -> pa.Table:
    """Who the ends are that a warehouse's flows mention.

    Args:
        folder: the answers to the first SELECTs of `script`, as Parquet under the names it gives.
        inventory: of the flows' cluster; None for what the flows tell.

    Raises:
        WarehouseError: a file is not that.
    """
    sighted, calls, servers = (
        _read(folder / f"{name}.parquet", of(_flows())) for name, of in _MENTIONED.items()
    )
    known = inventory or inventory_of_flows(sighted)
    return resolve(sighted, calls, known, frozenset(servers["address"]))


def read_edges(path: Path, cluster: str | None = None) -> pd.DataFrame:
    """EDGES by hour from a Parquet file: of a warehouse, or of `edges --hourly -o parquet`.

    Raises:
        WarehouseError: the file is not that, holds no edge, or several clusters and none is named.
    """
    found = _read(path, edges(counts(_flows()), _ends()))
    if unknown := [name for name in _NEVER_NULL if found[name].hasnans]:
        raise WarehouseError(
            f"{path}: null in {', '.join(unknown)}; ask the warehouse with what "
            "`flowpolicy edges --sql` prints"
        )
    names = sorted(found["cluster"].unique())
    if cluster is not None:
        found = found[found["cluster"] == cluster].reset_index(drop=True)
    elif len(names) > 1:
        raise WarehouseError(
            f"{path} holds the clusters {', '.join(names)}; choose one with --cluster"
        )
    if not len(found):
        whose = "" if cluster is None else f" of cluster {cluster}"
        held = f"; it holds {', '.join(names)}" if names else ""
        raise WarehouseError(f"{path}: no edge{whose}{held}; ask the warehouse for others")
    return found


def _flows() -> ir.Table:
    return ibis.table(ibis.Schema.from_pyarrow(FLOWS), name="flows")


def _ends() -> ir.Table:
    names = ("record_cluster", *END, *(f"is_{name}" for name in WHO))
    return ibis.table(dict.fromkeys(names, "string"), name="ends")


def _columns(table: ir.Table) -> str:
    said = (f"{name} {kind}".replace("string", "text") for name, kind in table.schema().items())
    return "\n".join(f"--   {one}" for one in said)


def _read(path: Path, expression: ir.Table) -> pd.DataFrame:
    """The rows of a file, in the columns, types and order of an expression's own."""
    schema = expression.schema().to_pyarrow()
    try:
        frame = pd.read_parquet(path, dtype_backend="pyarrow")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise WarehouseError(f"{path}: no Parquet file that can be read ({error})") from error
    if missing := [name for name in schema.names if name not in frame.columns]:
        raise WarehouseError(
            f"{path}: lacks the columns {', '.join(missing)}; ask the warehouse with what "
            "`flowpolicy edges --sql` prints, or write it by `flowpolicy edges --hourly -o parquet`"
        )
    try:
        table = pa.Table.from_pandas(frame[schema.names], preserve_index=False).cast(schema)
    except pa.ArrowException as error:
        raise WarehouseError(f"{path}: values of another type than asked for ({error})") from error
    rows: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return rows
