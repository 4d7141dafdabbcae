"""What runs the expressions of `edges`: DuckDB in this process, or a cluster of Apache Spark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from ingest.errors import FlowpolicyError
from ingest.spark import SCHEME, spark_session, view_of, view_of_flows
from ingest.store import Store

DUCKDB = "duckdb"
# Of the machine (or the container); what takes more is put on disk meanwhile. The frames that
# follow need room beside it.
MEMORY = "40%"


class EngineError(FlowpolicyError):
    """DuckDB could not do what it was asked to."""


class MemoryShort(FlowpolicyError):  # noqa: N818 - nothing is wrong with what it reads
    """DuckDB has too little memory, or too little room on disk beside it."""


@contextmanager
def connected(engine: str) -> Iterator[ibis.BaseBackend]:
    """The engine of that name, as long as it is needed.

    Args:
        engine: `duckdb`, or `spark://HOST:PORT` for a cluster of Apache Spark.

    Raises:
        SparkError: the cluster can't do it, or what it needs is missing here.
        EngineError: DuckDB can't do what was asked of it inside.
        MemoryShort: it has too little memory for that.
    """
    if engine.startswith(SCHEME):
        with spark_session(engine) as session:
            yield ibis.pyspark.connect(session)
        return
    with TemporaryDirectory(prefix="flowpolicy-", ignore_cleanup_errors=True) as spilled:
        backend = ibis.duckdb.connect(
            # A file that is replaced must not be read as a mixture of both.
            enable_external_file_cache=False,
            memory_limit=MEMORY,
            temp_directory=spilled,
        )
        try:
            # Or it would draw one on standard output, where the answer goes.
            backend.con.execute("SET enable_progress_bar = false")
            yield backend
        except duckdb.OutOfMemoryException as error:
            raise MemoryShort(
                f"{str(error).splitlines()[0]}; DuckDB takes {MEMORY} of the memory and puts the "
                f"rest in {spilled}: give it more memory, or by TMPDIR a disk with more room"
            ) from error
        except duckdb.Error as error:
            raise EngineError(str(error).splitlines()[0]) from error
        finally:
            backend.disconnect()


def flows_of(
    store: Store, cluster: str, backend: ibis.BaseBackend, files: Sequence[Path] | None = None
) -> ir.Table:
    """FLOWS of one cluster: of all the store's files, or with DuckDB of these."""
    if _is_spark(backend):
        flows = ibis.table(view_of_flows(_session(backend), store, "flows"), name="flows")
    elif store.is_remote:
        flows = ibis.memtable(store.flows())
    else:
        # Partition values stay text: a cluster may be named 2026.
        flows = backend.read_parquet(
            [str(file) for file in (store.files if files is None else files)],
            hive_partitioning=True,
            hive_types_autocast=False,
            union_by_name=True,
        )
    return flows.filter(flows.cluster == cluster)


def table_of(table: pa.Table, backend: ibis.BaseBackend) -> ir.Table:
    """A small table that expressions may join with."""
    name = ibis.util.gen_name("table")
    if _is_spark(backend):
        view_of(_session(backend), table, name)
        return ibis.table(table.schema, name=name)
    # Not a view of the Arrow table: of that DuckDB knows no size, and reads it in one thread.
    backend.con.register(f"{name}_arrow", table)
    backend.con.execute(f"CREATE TEMP TABLE {name} AS FROM {name}_arrow")
    backend.con.unregister(f"{name}_arrow")
    return backend.table(name)


def table_in(files: Sequence[Path], backend: ibis.BaseBackend) -> ir.Table:
    """The rows of Parquet files that `saved` wrote."""
    # Their folders are named like columns, and are none.
    return backend.read_parquet([str(file) for file in files], hive_partitioning=False)


def saved(expression: ir.Table, backend: ibis.BaseBackend, file: Path) -> bool:
    """Write the rows of an expression as a Parquet file; false where the disk does not take it."""
    try:
        backend.to_parquet(expression, file, compression="zstd")
    except duckdb.IOException:
        return False
    return True


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


def _session(backend: ibis.BaseBackend) -> Any:
    """The session of Spark that `connected` gave it."""
    return backend._session  # noqa: SLF001 - ibis does not give it back


def _is_spark(backend: ibis.BaseBackend) -> bool:
    return bool(backend.name == "pyspark")
