"""The lines that came from a live source, kept in the store until nobody sends them again.

    STORE/live/<source>/<number>.jsonl.zst

A live source can't be read again like a file. So its lines are written here first, whole and
atomically, and then read from here like those of a file: whatever moment a run is killed at, the
next one reads the same lines as the same blocks. The newest segments also tell which events were
received, so that what a server sends again after a reconnect is known.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from ingest.store import Store

_SUFFIX = ".jsonl.zst"


def segments(store: Store, source: str) -> Iterator[tuple[int, bytes]]:
    """The segments that are kept of a source, by number: its lines."""
    for name in store.names(f"live/{source}"):
        if name.endswith(_SUFFIX) and (packed := store.read(f"live/{source}/{name}")):
            with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as plain:
                yield int(name.removesuffix(_SUFFIX)), plain.read()


def write_segment(store: Store, source: str, number: int, lines: bytes) -> None:
    """Keep the lines of a segment in place of those that it had."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(lines)
    store.write(_path(source, number), sink.getvalue().to_pybytes())


def remove_segment(store: Store, source: str, number: int) -> None:
    """Forget a segment; its flows stay in the store."""
    store.remove(_path(source, number))


def _path(source: str, number: int) -> str:
    return f"live/{source}/{number:012}{_SUFFIX}"
