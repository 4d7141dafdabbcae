"""The flow store, a folder of Parquet: atomic and idempotent writes, and reading.

    STORE/flowpolicy.json                                 marks a store, and its schema
    STORE/flows/cluster=X/day=YYYY-MM-DD/<block>.parquet  FLOWS without cluster and day
    STORE/rejects/<block>.parquet                         REJECTS
    STORE/gaps/<block>.parquet                            GAPS
    STORE/blocks/<block>.json                             what is known of the block; written last
    STORE/sources/<block>.json                            what was read from the source
    STORE/joins/<name>.json                               files that one file is to replace
    STORE/edges/cluster=X/day=YYYY-MM-DD/<part>.parquet   what edges are made of; may be removed

and what is left to go on from: STORE/live (see `spool`), STORE/follow (see `growing`).

A block of lines is named by its first line. Reading the same lines again, under whatever file
name, compressed or not, replaces files by the same files. A log that has grown ends in a longer
block of the same name; its files replace those of the shorter one, which it begins with. Two
blocks that begin with the same line and are not one the beginning of the other get two names.
Every file is seen whole or not at all (see `files`).

Small files are joined (see `compact`) by a record in `joins` that names them, and then the file
that has their rows: from the moment it is there, they are not read any more.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.batch import Gap, Reject
from ingest.columns import column
from ingest.errors import StoreError
from ingest.files import Staged, parquet, read_json, read_parquet, write, write_aside, write_json
from ingest.places import filesystem, inside, place, put, reached
from ingest.records import BlockRecord, Join
from ingest.schema import FLOWS, GAPS, REJECTS, SCHEMA_VERSION

PARTITIONS = ("cluster", "day")
# What DuckDB must be told, or a cluster named 2026 would become a number:
# read_parquet(store.glob, hive_partitioning=true, hive_types={'cluster': VARCHAR, 'day': DATE})
HIVE_TYPES = {"cluster": "VARCHAR", "day": "DATE"}

_MARK = "flowpolicy.json"
_FOLDERS = ("flows", "rejects", "gaps", "blocks", "sources", "tmp")
# Documentation of columns is left out of the files: it would be a tenth of their size.
_STORED = pa.schema([c.remove_metadata() for c in FLOWS if c.name not in PARTITIONS])
# Where the file without rows lies; no flow is that old, a format rejects unset times.
_EMPTY = Path("cluster=default", "day=1970-01-01", "empty.parquet")
_PLAIN = ("time", "src_port")  # nearly every row has another value
_WRITING: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": [name for name in _STORED.names if name not in _PLAIN],
    "column_encoding": {"time": "DELTA_BINARY_PACKED"},
    "write_statistics": ["time"],  # what readers leave out files by; of others they know the paths
}
_ROW_GROUP = 100_000  # rows that are held in memory when files are joined
_LONGEST_VALUE = 120  # characters of a quoted cluster name in a path
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Store:
    """A flow store that was opened.

    Args:
        path: its folder, on disk or in an object store (see `places`).
    """

    path: Path

    @property
    def is_remote(self) -> bool:
        """It lies in an object store, which DuckDB alone can't read."""
        return filesystem(self.path) is not None

    @property
    def glob(self) -> str:
        """All Parquet files of flows, for DuckDB; the store always has one, if without rows."""
        return str(self.path / "flows" / "*" / "*" / "*.parquet")

    @property
    def files(self) -> list[Path]:
        """The Parquet files of flows, sorted, without those that a joined file replaces."""
        found = set((self.path / "flows").glob("*/*/*.parquet"))
        for join in self.joins():
            if self.path / join.into in found:
                found -= {self.path / name for name in join.parts}
        return sorted(found)

    def joins(self) -> list[Join]:
        """The joins that have begun and not ended."""
        found = []
        for name in self.names("joins"):
            record = read_json(self.path / "joins" / name)
            if record is not None:
                found.append(Join(name, record["into"], record["parts"]))
        return found

    def flows(self) -> pa.dataset.Dataset:
        """FLOWS, cluster and day from the path; without rows where nothing was read yet."""
        # Not at the top: it imports pandas, which takes each worker process a second.
        import pyarrow.dataset as ds

        keys = pa.schema([FLOWS.field(name).remove_metadata() for name in PARTITIONS])
        return ds.dataset(
            [inside(file) for file in self.files],
            schema=FLOWS,
            filesystem=filesystem(self.path),
            format="parquet",
            partitioning=ds.HivePartitioning(keys, segment_encoding="uri"),
            partition_base_dir=inside(self.path / "flows"),
        )

    def rejects(self) -> pa.Table:
        """REJECTS, by source and line."""
        found = self._all("rejects", REJECTS)
        return found.sort_by([("source", "ascending"), ("line", "ascending")])

    def gaps(self) -> pa.Table:
        """GAPS, by time: what the logs themselves say they missed."""
        found = self._all("gaps", GAPS)
        return found.sort_by([("time", "ascending"), ("source", "ascending")])

    def _all(self, folder: str, schema: pa.Schema) -> pa.Table:
        tables = [schema.empty_table()]
        for file in sorted((self.path / folder).glob("*.parquet")):
            with suppress(FileNotFoundError):  # it was removed just now
                tables.append(read_parquet(file, schema))
        return pa.concat_tables(tables)

    @property
    def clusters(self) -> list[str]:
        """The clusters whose flows are in the store, sorted."""
        return sorted({cluster for cluster, _ in self._partitions()})

    @property
    def days(self) -> list[date]:
        """The UTC days of which the store has flows, sorted."""
        return sorted({day for _, day in self._partitions()})

    def _partitions(self) -> Iterator[tuple[str, date]]:
        for folder in {file.parent for file in self.files if file.name != _EMPTY.name}:
            yield unquote(_value(folder.parent)), date.fromisoformat(_value(folder))

    def files_by_day(self, cluster: str) -> dict[Path, list[Path]]:
        """The files of flows of one cluster, by `cluster=X/day=YYYY-MM-DD`."""
        found: dict[Path, list[Path]] = {}
        for file in self.files:
            if file.name != _EMPTY.name and unquote(_value(file.parent.parent)) == cluster:
                found.setdefault(Path(*file.parent.parts[-2:]), []).append(file)
        return found

    @contextmanager
    def aside(self) -> Iterator[Path]:
        """A place for a file that is not whole yet; it is removed where it was not moved away."""
        file = self.path / "tmp" / uuid.uuid4().hex
        file.parent.mkdir(exist_ok=True)
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)

    def sources(self) -> list[dict[str, Any]]:
        """What was read, one entry a source: source, lines, flows, skipped, rejects, notes."""
        records = (read_json(file) for file in (self.path / "sources").glob("*.json"))
        return sorted((r for r in records if r), key=lambda r: (str(r["source"]), str(r["name"])))

    def block(self, name: str) -> BlockRecord | None:
        """What is known of a block; None where it is not, or not wholly, in the store."""
        record = read_json(self.path / "blocks" / f"{name}.json")
        if record is None or not (record.get("is_joined") or record["reader"] == SCHEMA_VERSION):
            return None
        return BlockRecord(**record)

    def stage_flows(self, name: str, flows: pa.Table, aside: str = "") -> list[Staged]:
        """Write the flows of a block aside, one file for each cluster and day.

        An object store can't rename: there the files are put in their places at once.
        """
        staged = []
        for cluster, day, part in _parts(flows):
            folder = self.path / "flows" / f"cluster={_quoted(cluster)}" / f"day={day}"
            file = folder / f"{name}.parquet"
            data = parquet(part.select(_STORED.names), _STORED, **_WRITING)
            if self.is_remote:
                put(file, bytes(data))
            else:
                staged.append(Staged(write_aside(self.path, data, aside), file))
        return staged

    def write_flows(self, name: str, flows: pa.Table) -> None:
        """Write the flows of a block, one file for each cluster and day, replacing older ones."""
        for file in self.stage_flows(name, flows):
            file.put()

    def join_flows(self, into: str, parts: Sequence[str]) -> None:
        """Write one file of flows with the rows of others, in little memory."""
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, _STORED, **_WRITING) as writer:
            rows: list[pa.Table] = []
            for name in parts:
                rows.append(read_parquet(self.path / name, _STORED))
                if sum(table.num_rows for table in rows) >= _ROW_GROUP:
                    writer.write_table(_by_time(rows))
                    rows = []
            if rows:
                writer.write_table(_by_time(rows))
        self.write(into, sink.getvalue())

    def mark(self, record: BlockRecord) -> None:
        """Keep what is known of a block, in place of what was."""
        write_json(self.path, self.path / "blocks" / f"{record.name}.json", asdict(record))

    def commit(
        self,
        record: BlockRecord,
        source: str,
        rejects: Sequence[Reject],
        first: int,
        gaps: Sequence[Gap] = (),
        flows: Sequence[Staged] = (),
    ) -> None:
        """Put a block in its place, its record last: from here on it is known.

        Args:
            record: counts of the block.
            source: name of the source, for the rejects.
            rejects: with line numbers within the block.
            first: lines of the source before the block.
            gaps: what the block's lines say was missed.
            flows: its files that were written aside.
        """
        for file in flows:
            file.put()
        lines = [(source, first + line, *rest) for line, *rest in rejects]
        self._write_beside("rejects", record.name, REJECTS, lines)
        self._write_beside("gaps", record.name, GAPS, [(source, *gap) for gap in gaps])
        self.mark(record)

    def _write_beside(
        self, folder: str, name: str, schema: pa.Schema, rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Write the rows of a block, or remove those of the shorter one that it replaces."""
        file = self.path / folder / f"{name}.parquet"
        if rows:
            columns = zip(zip(*rows, strict=True), schema.types, strict=True)
            table = pa.table([column(*pair) for pair in columns], schema=schema)
            write(self.path, file, parquet(table, schema))
        else:
            file.unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """The files in a folder of the store, sorted; none where it is not there."""
        found = self.path / folder
        return sorted(file.name for file in found.iterdir()) if found.is_dir() else []

    def has(self, name: str) -> bool:
        """Whether the store has a file of that name."""
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes | None:
        """A file of the store; None where there is none."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        """Write a file of the store, in place of one that is there: whole, or not at all."""
        write(self.path, self.path / name, data)

    def remove(self, name: str) -> None:
        """Remove a file of the store, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def has_source(self, name: str) -> bool:
        """Whether it was kept what was read from the source that begins with this block."""
        return (self.path / "sources" / f"{name}.json").exists()

    def write_source(self, name: str, record: Mapping[str, Any]) -> None:
        """Keep what was read from a source; `name` is that of its first block."""
        file = self.path / "sources" / f"{name}.json"
        write_json(self.path, file, {"name": name, **record})


def open_store(path: str | Path) -> Store:
    """Open a store to read it.

    Raises:
        StoreError: there is none, or a newer flowpolicy wrote it.
    """
    folder = place(path, StoreError)
    with reached(folder, StoreError):
        return _opened(folder)


def _opened(folder: Path) -> Store:
    if not folder.exists():
        raise StoreError(f"{folder}: no such store; make one with `flowpolicy ingest`.")
    if not (folder / _MARK).is_file():
        raise StoreError(f"{folder}: not a flow store, it has no {_MARK}; check the path.")
    mark = read_json(folder / _MARK) or {}
    version = mark.get("schema")
    if not isinstance(version, int):
        raise StoreError(f"{folder / _MARK}: unreadable; restore it or read the logs again.")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{folder}: written with schema {version}, this flowpolicy knows {SCHEMA_VERSION}; "
            "install a newer one."
        )
    return Store(folder)


def create_store(path: str | Path) -> Store:
    """Open a store to write to it; make it where there is nothing or an empty folder.

    Raises:
        StoreError: the folder holds something else, can't be written, or is of a newer schema.
    """
    folder = place(path, StoreError)
    try:
        with reached(folder, StoreError):
            return _created(folder)
    except OSError as error:
        raise StoreError(f"{folder}: can't be written: {error.strerror or error}.") from error


def _created(folder: Path) -> Store:
    is_local = filesystem(folder) is None
    if is_local:
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"{folder}: not a folder; name a folder for the store.")
        folder.mkdir(parents=True, exist_ok=True)
    if not (folder / _MARK).exists():
        if folder.exists() and {p.name for p in folder.iterdir()} - set(_FOLDERS):
            raise StoreError(f"{folder}: holds other files; name a new or empty folder.")
        write_json(folder, folder / _MARK, {"schema": SCHEMA_VERSION, "store": "flowpolicy"})
    store = _opened(folder)
    _add_empty_file(folder)
    if is_local:
        for name in _FOLDERS:
            (folder / name).mkdir(exist_ok=True)
        _remove_stale(folder / "tmp")
    return store


def _add_empty_file(folder: Path) -> None:
    """A file without rows, so that every reader of a new store finds the columns."""
    file = folder / "flows" / _EMPTY
    if not file.exists():
        write(folder, file, parquet(_STORED.empty_table(), _STORED, **_WRITING))


def _remove_stale(folder: Path) -> None:
    """Remove what killed runs left; another run may be writing the younger files."""
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # it was put in its place just now
            if file.stat().st_mtime < time.time() - _STALE_SECONDS:
                shutil.rmtree(file) if file.is_dir() else file.unlink()


def _by_time(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).sort_by("time")


def _parts(flows: pa.Table) -> Iterator[tuple[str, date, pa.Table]]:
    """The flows of each cluster and day; mostly there is one."""
    clusters, days = (flows[name].unique().to_pylist() for name in PARTITIONS)
    if len(clusters) == len(days) == 1:
        yield clusters[0], days[0], flows
        return
    rows: dict[tuple[str, date], list[int]] = {}
    keys = zip(*(flows[name].to_pylist() for name in PARTITIONS), strict=True)
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    for (cluster, day), numbers in rows.items():
        yield cluster, day, flows.take(column(numbers, pa.int32()))


def _value(folder: Path) -> str:
    return folder.name.partition("=")[2]


def _quoted(cluster: str) -> str:
    """A cluster name as part of a path: quoted, and never longer than a file name may be."""
    quoted = quote(cluster, safe="")
    if len(quoted) <= _LONGEST_VALUE:
        return quoted
    return f"{quote(cluster[:8], safe='')}~{sha256(cluster.encode()).hexdigest()}"
