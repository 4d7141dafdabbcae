"""Files of a store: each is written whole or not at all, and read though it may be gone.

On disk a file is written aside and renamed. In an object store it is put at its place at once,
which shows it whole or not at all likewise.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.places import filesystem, put


@dataclass(frozen=True)
class Staged:
    """A file that was written aside, and its place in the store."""

    aside: Path
    place: Path

    def put(self) -> None:
        """Put it in its place, where whoever looks sees the whole of it or what was there."""
        self.place.parent.mkdir(parents=True, exist_ok=True)
        self.aside.replace(self.place)

    def drop(self) -> None:
        """Remove it."""
        self.aside.unlink(missing_ok=True)


def parquet(table: pa.Table, schema: pa.Schema, **writing: Any) -> pa.Buffer:
    """The bytes of a Parquet file; `writing` as in `pyarrow.parquet.write_table`."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.cast(schema.remove_metadata()), sink, **{"compression": "zstd"} | writing)
    return sink.getvalue()


def read_parquet(file: Path, schema: pa.Schema) -> pa.Table:
    """The rows of a file."""
    return pq.read_table(pa.BufferReader(file.read_bytes()), schema=schema)


def write_json(store: Path, file: Path, value: Mapping[str, Any]) -> None:
    """Write an object as a file, as `write` does."""
    write(store, file, json.dumps(value, indent=1, sort_keys=True).encode())


def write(store: Path, file: Path, data: bytes | pa.Buffer) -> None:
    """Write a file, so that whoever looks sees the whole of it or what was there before."""
    if filesystem(file) is not None:
        put(file, bytes(data))
    else:
        Staged(write_aside(store, data), file).put()


def write_aside(store: Path, data: bytes | pa.Buffer, folder: str = "") -> Path:
    """A new file of these bytes, where nobody looks for one."""
    aside = store / "tmp" / folder / uuid.uuid4().hex
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        aside.write_bytes(data)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    return aside


@contextmanager
def asides(store: Path) -> Iterator[str]:
    """A folder for `write_aside`; what was never put in its place is removed with it."""
    folder = uuid.uuid4().hex
    try:
        yield folder
    finally:
        if filesystem(store) is None:
            shutil.rmtree(store / "tmp" / folder, ignore_errors=True)


def read_json(file: Path) -> dict[str, Any] | None:
    """The object of a file; None where there is none, or it is damaged."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
