"""Who waits for whom where several processes use one store.

Two files of the store are locked: `lock`, shared by all who write blocks and taken alone by who
joins files or removes days; and `record.lock`, taken alone by who puts a block in its place. A lock
ends with its process, however that ends. Who reads takes none at first, since files are whole
whenever they are looked at, and reads again where some were gone meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ingest.places import filesystem
from ingest.store import Store

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_RECORD = "record.lock"


@contextmanager
def lock(store: Store, *, alone: bool, name: str = "lock") -> Iterator[None]:
    """Wait for other processes, for those that share the lock only where `alone`.

    An object store has none: there nothing may write while files are joined.

    Raises:
        OSError: the file can't be made, or be written to where `alone`.
    """
    if fcntl is None or filesystem(store.path) is not None:
        yield
        return
    # Who may only read the store can share a lock that is there.
    file = os.open(store.path / name, os.O_CREAT | (os.O_RDWR if alone else os.O_RDONLY), 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(file)


@contextmanager
def recording(store: Store) -> Iterator[None]:
    """While one block is put in its place: no other run does the same."""
    with lock(store, alone=True, name=_RECORD):
        yield


@contextmanager
def still(store: Store) -> Iterator[None]:
    """While flows are read that changed each time before: none are joined, removed or replaced.

    Where there is no lock to be had, nobody waits.
    """
    with ExitStack() as held:
        with suppress(OSError):
            held.enter_context(lock(store, alone=False))
            held.enter_context(lock(store, alone=False, name=_RECORD))
        yield
