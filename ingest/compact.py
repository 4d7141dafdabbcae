"""compact(): small files of a store joined, old days removed.

Joining changes no answer at any moment, for who reads with flowpolicy. First a record names the
files and the one that is to replace them; then that one is put in place, whole, which is the
moment from which the others do not count; then they are marked and removed. A run that was killed
in between is completed by the next run of `ingest` or `compact`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from pathlib import Path

from ingest.errors import StoreError
from ingest.locks import lock
from ingest.places import reached
from ingest.records import Join
from ingest.store import Store

SMALL = 32 << 20  # bytes of a file that is worth joining
JOINED = 64 << 20  # bytes of the files that become one


@dataclass(frozen=True)
class Compacted:
    """What a run did: files of flows before and after, bytes likewise, days removed."""

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    days_removed: int


@contextmanager
def writing(store: Store) -> Iterator[None]:
    """While blocks are written: no files are joined, and none are joined by half."""
    while True:
        with lock(store, alone=False), reached(store.path, StoreError):
            if not store.joins():
                yield
                return
        with lock(store, alone=True):
            _complete(store)


def compact(store: Store, *, keep_days: int | None = None, today: date) -> Compacted:
    """Join the small files of each cluster and day, and remove days that are too old.

    Args:
        store: one that was opened to write to it.
        keep_days: how many days are kept, the last of which is today; None keeps all. Flows that
            were removed do not come back when their log is read again.
        today: the UTC day.

    Raises:
        StoreError: the store can't be written.
    """
    try:
        with lock(store, alone=True), reached(store.path, StoreError):
            _complete(store)
            before = _sizes(store)
            removed = 0
            if keep_days is not None:
                removed = _remove_before(store, today - timedelta(days=keep_days - 1))
            _join(store)
            after = _sizes(store)
    except OSError as error:
        raise StoreError(f"{store.path}: can't be written: {error.strerror or error}.") from error
    return Compacted(len(before), len(after), sum(before), sum(after), removed)


def _sizes(store: Store) -> list[int]:
    return [file.stat().st_size for file in store.files]


# --- joining --------------------------------------------------------------------------------------


def _join(store: Store) -> None:
    blocks = {name.removesuffix(".json"): record for name in store.names("blocks")
              if (record := store.block(name.removesuffix(".json")))}  # fmt: skip
    for group in _groups(store, {name for name, record in blocks.items() if record.is_whole}):
        said = blake2b("\n".join(group).encode(), digest_size=16).hexdigest()
        folder = group[0].rpartition("/")[0]
        join = Join(f"{said}.json", f"{folder}/joined-{said}.parquet", group)
        text = json.dumps({"into": join.into, "parts": join.parts}, indent=1)
        store.write(f"joins/{join.name}", text.encode())
        store.join_flows(join.into, join.parts)
        _finish(store, join)


def _groups(store: Store, whole: set[str]) -> Iterator[list[str]]:
    """Small files of one cluster and day that may be joined: those of blocks that are whole."""
    folders: dict[Path, list[tuple[str, int]]] = {}
    for file in store.files:
        size = file.stat().st_size
        if size < SMALL and (file.stem in whole or file.stem.startswith("joined-")):
            name = file.relative_to(store.path).as_posix()
            folders.setdefault(file.parent, []).append((name, size))
    for files in folders.values():
        group: list[str] = []
        room = JOINED
        for name, size in files:
            if size > room and len(group) > 1:
                yield group
                group, room = [], JOINED
            group.append(name)
            room -= size
        if len(group) > 1:
            yield group


def _complete(store: Store) -> None:
    """End the joins that a killed run began."""
    for join in store.joins():
        if store.has(join.into):
            _finish(store, join)
        else:
            store.remove(f"joins/{join.name}")


def _finish(store: Store, join: Join) -> None:
    for name in join.parts:
        record = store.block(Path(name).stem)
        if record is not None and not record.is_joined:
            store.mark(replace(record, is_joined=True))
    for name in join.parts:
        store.remove(name)
    store.remove(f"joins/{join.name}")


# --- removing -------------------------------------------------------------------------------------


def _remove_before(store: Store, first: date) -> int:
    """Remove the flows of days before the first that is kept, and what else their blocks have."""
    days = set()
    for file in store.files:
        day = date.fromisoformat(file.parent.name.partition("=")[2])
        if day < first and file.stem != "empty":
            store.remove(file.relative_to(store.path).as_posix())
            days.add(day)
    for folder in ("rejects", "gaps"):
        for name in store.names(folder):
            record = store.block(Path(name).stem)
            newest = None if record is None else record.newest
            written = (store.path / folder / name).stat().st_mtime
            last = newest or datetime.fromtimestamp(written, UTC).date().isoformat()
            if last < first.isoformat():
                store.remove(f"{folder}/{name}")
    # What edges are made of tells of those days as much as their flows do.
    for kept in (store.path / "edges").glob("cluster=*/day=*"):
        if kept.name < f"day={first}":
            shutil.rmtree(kept, ignore_errors=True)
    return len(days)
