"""A cluster of Apache Spark: the session on it, and the tables that its workers read.

Nothing is configured here but what results depend on: memory, cores and all else is said where
Spark looks for it, in `spark-defaults.conf` of $SPARK_CONF_DIR.
"""

from __future__ import annotations

import re
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from ingest.errors import SourceError, SparkError
from ingest.schema import FLOWS
from ingest.store import Store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SCHEME = "spark://"
_SETTINGS = {
    "spark.app.name": "flowpolicy",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.session.collation.default": "UTF8_BINARY",
    # A cluster may be named 2026.
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    # A file that was joined with others is reported, not passed over.
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.ui.showConsoleProgress": "false",
    # An executor holds all rows of a task that it answers with, thrice over: names repeat, and
    # packed they take a sixth. Spark 4.0 does not know it, and does without.
    "spark.sql.execution.arrow.compression.codec": "zstd",
}
# Spark has no unsigned integers: it reads them as the next wider signed ones.
_TYPES = {
    pa.string(): "STRING",
    pa.bool_(): "BOOLEAN",
    pa.int64(): "BIGINT",
    pa.uint8(): "INT",
    pa.uint16(): "INT",
    pa.date32(): "DATE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP",
}
_LONGEST_ERROR = 500
_SECONDS = 10  # for a master to answer
# What Spark says of tasks and shuffle files that went with an executor.
_LOST = re.compile(r"ExecutorLostFailure|FetchFailedException|executor \S+ exited")
_GLOB = re.compile(r"([\\*?\[\]{},^])")


@contextmanager
def spark_session(master: str) -> Iterator[SparkSession]:
    """A session on the cluster, as long as it is needed.

    Where this process has one open already, it is one beside it, which stays open and as it is.

    Args:
        master: `spark://HOST:PORT`.

    Raises:
        SparkError: pyspark or Java is missing, no master answers, a session on another master is
            open, or what was asked of the cluster inside failed.
    """
    with warnings.catch_warnings():
        # Nothing here goes through pandas on its way to or from Spark.
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")
        theirs = _theirs(master)
        session = _beside(theirs) if theirs else _opened(master)
        try:
            with _as_spark_error(master):
                yield session
        finally:
            if theirs:
                theirs.createDataFrame([], "nothing INT")  # makes it the active one again
            else:
                session.stop()


def _theirs(master: str) -> SparkSession | None:
    """The session that whoever calls has open, in a notebook say; a process has one cluster."""
    if sys.modules.get("pyspark") is None:
        return None
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    context = SparkContext._active_spark_context  # noqa: SLF001 - all else opens one
    if context is None:
        return None
    if context.master != master:
        raise SparkError(
            f"{master}: this process has a session on {context.master} open, and Spark takes one "
            "cluster at a time; stop that session, or name its master."
        )
    return SparkSession.builder.getOrCreate()


def _beside(theirs: SparkSession) -> SparkSession:
    """A session on the same cluster with settings and views of its own."""
    session = theirs.newSession()
    for name, value in _SETTINGS.items():
        if name.startswith("spark.sql."):  # the others are the cluster's
            session.conf.set(name, value)
    return session


def _opened(master: str) -> SparkSession:
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SparkError(
            f"{master}: pyspark is missing; install it with `pip install 'flowpolicy[spark]'`."
        ) from error
    _check(master)
    with _as_spark_error(master):
        session = SparkSession.builder.master(master).config(map=_SETTINGS).getOrCreate()
    context = session.sparkContext
    if context.pythonExec == "python3":  # nobody said in $PYSPARK_PYTHON which one
        context.pythonExec = context.getConf().get("spark.pyspark.python") or sys.executable
    return session


def _check(master: str) -> None:
    """See that a master listens: Spark itself tries for minutes, and ends in a trace."""
    for one in master.removeprefix(SCHEME).split(","):
        host, _, port = one.rpartition(":")
        with suppress(OSError, ValueError, OverflowError):
            socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()
            return
    raise SparkError(
        f"{master}: no master of Spark answers there; check the host and the port, and see that it "
        "runs."
    )


@contextmanager
def _as_spark_error(master: str) -> Iterator[None]:
    """While the cluster is spoken to: its errors in one sentence."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JError, PySparkException) as error:
        raise SparkError(f"{master}: {_sentence(error)[:_LONGEST_ERROR]}") from error


@contextmanager
def reading(name: str) -> Iterator[None]:
    """While Hadoop, which Spark reads with, is asked for logs: its errors in one sentence.

    Raises:
        SourceError: Hadoop can't read there.
    """
    from py4j.protocol import Py4JError

    try:
        yield
    except Py4JError as error:
        raise SourceError(
            f"{name}: Hadoop can't read there ({_sentence(error)[:_LONGEST_ERROR]}); check the "
            "name, and that spark-defaults.conf has the packages and settings of that place."
        ) from error


def _sentence(error: Exception) -> str:
    """What went wrong, without the trace."""
    if "JAVA_GATEWAY_EXITED" in str(error):
        return (
            "Spark needs Java 17 or 21 on this machine and it does not start; install it (Debian: "
            "openjdk-17-jre-headless), or set JAVA_HOME to where it is."
        )
    if "stopped SparkContext" in str(error):
        return (
            "Spark gave up: what answers there is no master, or it went away; check that the port "
            "is the master's own (7077 unless set), not that of its web page, and see its log."
        )
    # What Spark wraps in its own words ("Exception thrown in awaitResult") says what it was.
    while (cause := getattr(error, "_cause", None)) is not None and str(cause).strip():
        error = cause
    text = f"{getattr(error, 'java_exception', None) or error}\n{error}"
    # A trace of Python's ends in the error itself, one of Java's in the cause of all others.
    _, is_python, trace = text.rpartition("Traceback (most recent call last)")
    if is_python:
        said = (line for line in trace.splitlines()[1:] if line and not line[0].isspace())
        return f"a worker says {next(said, 'nothing')}"
    causes = re.findall(r"^Caused by: (.+)", text, re.MULTILINE)
    first = causes[-1] if causes else text.strip().splitlines()[0]
    return _of_memory(first) or first


def _of_memory(first: str) -> str | None:
    """Which setting gives more memory, where that is what was short."""
    where = "in spark-defaults.conf of $SPARK_CONF_DIR"
    if _LOST.search(first):
        return (
            "executors were lost again and again, most often because their memory is too small; "
            f"raise spark.executor.memory {where}, and see their logs."
        )
    if "OutOfMemoryError" not in first:
        return None
    who, name = ("an executor", "executor") if "Lost task" in first else ("Spark here", "driver")
    return f"{who} had too little memory; raise spark.{name}.memory {where}."


def view_of(session: SparkSession, table: pa.Table, name: str) -> None:
    """Give a table to the session's cluster, under that name."""
    session.createDataFrame(table).createOrReplaceTempView(name)


def view_of_flows(session: SparkSession, store: Store, name: str) -> pa.Schema:
    """Let the session's cluster read FLOWS of a store, under that name.

    Returns:
        The schema as Spark has it.
    """
    if store.is_remote:
        raise SparkError(
            f"{store.path}: Spark reads a store that lies in a folder which every worker has at "
            "the same path; copy it there."
        )
    said = ", ".join(f"`{field.name}` {_TYPES[field.type]}" for field in FLOWS)
    reader = session.read.schema(said)
    base = store.path.resolve()
    files = [_escaped(str(base / file.relative_to(store.path))) for file in store.files]
    frame = reader.option("basePath", f"file://{base}/flows").parquet(*files)
    frame.createOrReplaceTempView(name)
    return pa.schema(
        [(f.name, pa.int32() if pa.types.is_unsigned_integer(f.type) else f.type) for f in FLOWS]
    )


def _escaped(path: str) -> str:
    """A path for Hadoop, which would read `*` and the like as a glob."""
    return "file://" + _GLOB.sub(r"\\\1", path)
