"""What runs the expressions of `edges`: DuckDB in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from ingest.errors import FlowpolicyError
from ingest.store import Store

DUCKDB = "duckdb"


class EngineError(FlowpolicyError):
    """The engine could not do what it was asked to."""


@contextmanager
def connected(engine: str) -> Iterator[ibis.BaseBackend]:
    """The engine of that name, as long as it is needed.

    Raises:
        EngineError: what was asked of it inside failed.
    """
    assert engine == DUCKDB
    # A file that is replaced must not be read as a mixture of both.
    backend = ibis.duckdb.connect(enable_external_file_cache=False)
    try:
        yield backend
    except duckdb.Error as error:
        raise EngineError(str(error).splitlines()[0]) from error


def flows_of(store: Store, cluster: str, backend: ibis.BaseBackend) -> ir.Table:
    """FLOWS of one cluster."""
    if store.is_remote:
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


def table_of(table: pa.Table, _backend: ibis.BaseBackend) -> ir.Table:
    """A small table that expressions may join with."""
    return ibis.memtable(table)


def fetch(expression: ir.Table, backend: ibis.BaseBackend) -> pd.DataFrame:
    """Run the expression; Arrow-backed columns, so that a missing port stays missing."""
    frame: pd.DataFrame = backend.to_pyarrow(expression).to_pandas(types_mapper=pd.ArrowDtype)
    return frame
