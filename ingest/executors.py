"""spark_outcomes(): blocks read by the executors of a Spark cluster, recorded by this process.

An executor writes the flows of a block aside and tells of them; only this process puts files in
their places, once for each block. So a task that fails half-way, runs twice or is lost with its
executor leaves nothing in the store.
"""

from __future__ import annotations

import pickle
import socket
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from ingest.blocks import Outcome, Task, read_block
from ingest.errors import FlowpolicyError, SparkError, StoreError
from ingest.places import is_remote
from ingest.store import open_store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_BLOCKS_PER_CORE = 8  # of one job; all of them are done before the next job begins
_CARRIED = 256 << 20  # bytes that this process read (compressed, a stream) and sends with one job


def spark_outcomes(
    tasks: Iterator[Task], session: SparkSession
) -> Generator[tuple[Task, Outcome], None, None]:
    """Each task with its outcome, in the order in which they were given.

    Raises:
        FlowpolicyError: as `read_block`, or an executor does not have the folder of the store.
    """
    most = _BLOCKS_PER_CORE * session.sparkContext.defaultParallelism
    for job in _jobs(tasks, most):
        yield from zip(job, _done(list(map(_sent, job)), session), strict=True)


def _jobs(tasks: Iterator[Task], most: int) -> Iterator[list[Task]]:
    """Tasks to be done at once: no two of one name, for the longer block must find the shorter."""
    job: list[Task] = []
    carried, names = 0, set[str]()
    for task in tasks:
        if len(job) == most or carried >= _CARRIED or task.name in names:
            yield job
            job, carried, names = [], 0, set()
        job.append(task)
        names.add(task.name)
        carried += len(task.block.data or b"")
    if job:
        yield job


def _sent(task: Task) -> bytes:
    """The task for another process, which has another working folder."""
    store = task.store if is_remote(task.store) else task.store.resolve()
    is_plain = task.block.data is None and not task.block.too_long
    source = str(Path(task.source).resolve()) if is_plain else task.source
    return pickle.dumps(replace(task, store=store, source=source))


def _done(tasks: list[bytes], session: SparkSession) -> Iterator[Outcome]:
    # One row a batch is one task of Spark a block.
    session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "1")
    frame = session.createDataFrame(pa.table({"task": pa.array(tasks, pa.large_binary())}))
    for outcome in frame.mapInArrow(_read, "outcome binary").toArrow()["outcome"].to_pylist():
        found = pickle.loads(outcome)  # noqa: S301 - made by `_read`
        if isinstance(found, FlowpolicyError):
            raise found
        yield found


def _read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What an executor does; what is wrong with a log is an answer, which no second try changes."""
    for batch in batches:
        found = [pickle.dumps(_outcome(pickle.loads(task))) for task in batch["task"].to_pylist()]  # noqa: S301 - made by `_sent`
        yield pa.record_batch({"outcome": pa.array(found, pa.binary())})


def _outcome(task: Task) -> Outcome | FlowpolicyError:
    try:
        open_store(task.store)
    except StoreError:
        return SparkError(
            f"{task.store}: {socket.gethostname()} of the cluster does not have this store; name a "
            "folder that this machine and all workers share."
        )
    try:
        return read_block(task)
    except FlowpolicyError as error:
        return error
