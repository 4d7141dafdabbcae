"""Logs wherever Hadoop reads: `hdfs://`, `s3a://` and what else the session's Spark knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ingest.errors import SourceError
from ingest.sources import Source, reopened
from ingest.spark import reading

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_READ_AHEAD = 4 << 20  # bytes


def hadoop_sources(name: str, session: SparkSession) -> tuple[list[Source], list[str]]:
    """The sources behind a file, folder or glob of Hadoop; and what was left out, as sentences.

    Raises:
        SourceError: there is none, or Hadoop can't read there.
    """
    found, others = [], 0
    with reading(name):
        for path, opened in _files(name, session):
            source = reopened(path, opened)
            if source.format is not None:
                found.append(source)
            elif not source.is_empty:
                others += 1
    if not found and not others:
        raise SourceError(f"{name}: no such file, folder or glob; check the name.")
    say = "1 file looks like no flow log and was"
    if others > 1:
        say = f"{others} files look like no flow log and were"
    return found, [f"{name}: {say} left out."] if others else []


def _files(name: str, session: SparkSession) -> Iterator[tuple[str, Callable[[], BinaryIO]]]:
    """The files, by name, and what opens each."""
    context: Any = session.sparkContext
    path = context._jvm.org.apache.hadoop.fs.Path(name)  # noqa: SLF001 - nothing else has it
    files = path.getFileSystem(context._jsc.hadoopConfiguration())  # noqa: SLF001
    paths = []
    for status in files.globStatus(path) or ():
        each = files.listFiles(status.getPath(), True)
        while each.hasNext():
            paths.append(each.next().getPath())
    for one in sorted(paths, key=str):
        yield str(one), partial(_opened, files, one)


def _opened(files: Any, path: Any) -> BinaryIO:
    return cast("BinaryIO", BufferedReader(_Stream(files.open(path)), _READ_AHEAD))


class _Stream(RawIOBase):
    """A stream of Java as one of Python."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.readNBytes(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
