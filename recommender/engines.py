"""What runs the expressions of `edges`: DuckDB in this process, or a cluster of Apache Spark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from ingest.errors import FlowpolicyError
from ingest.spark import SCHEME, spark_session, view_of, view_of_flows
from ingest.store import Store

DUCKDB = "duckdb"


class EngineError(FlowpolicyError):
    """DuckDB could not do what it was asked to."""


@contextmanager
def connected(engine: str) -> Iterator[ibis.BaseBackend]:
    """The engine of that name, as long as it is needed.

    Args:
        engine: `duckdb`, or `spark://HOST:PORT` for a cluster of Apache Spark.

    Raises:
        SparkError: the cluster can't do it, or what it needs is missing here.
        EngineError: DuckDB can't do what was asked of it inside.
    """
    if engine.startswith(SCHEME):
        with spark_session(engine) as session:
            yield ibis.pyspark.connect(session)
        return
    # A file that is replaced must not be read as a mixture of both.
    backend = ibis.duckdb.connect(enable_external_file_cache=False)
    try:
        yield backend
    except duckdb.Error as error:
        raise EngineError(str(error).splitlines()[0]) from error


def flows_of(store: Store, cluster: str, backend: ibis.BaseBackend) -> ir.Table:
    """FLOWS of one cluster."""
    if _is_spark(backend):
        flows = ibis.table(view_of_flows(store, "flows"), name="flows")
    elif store.is_remote:
        flows = ibis.memtable(store.flows())
    else:
        # Partition values stay text: a cluster may be named 2026.
        flows = backend.read_parquet(
            [str(file) for file in store.files],
            hive_partitioning=True,
            hive_types_autocast=False,
            union_by_name=True,
        )
    return flows.filter(flows.cluster == cluster)


def table_of(table: pa.Table, backend: ibis.BaseBackend) -> ir.Table:
    """A small table that expressions may join with."""
    if not _is_spark(backend):
        return ibis.memtable(table)
    name = ibis.util.gen_name("table")
    view_of(table, name)
    return ibis.table(table.schema, name=name)


def fetch(expression: ir.Table, backend: ibis.BaseBackend) -> pd.DataFrame:
    """Run the expression; Arrow-backed columns, so that a missing port stays missing."""
    if _is_spark(backend):
        # ibis would go through pandas, which turns integers with missing ones into floats.
        found = backend.raw_sql(backend.compile(expression)).toArrow()
        found = found.cast(expression.schema().to_pyarrow())
    else:
        found = backend.to_pyarrow(expression)
    frame: pd.DataFrame = found.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _is_spark(backend: ibis.BaseBackend) -> bool:
    return bool(backend.name == "pyspark")
