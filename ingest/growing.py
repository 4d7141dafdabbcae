"""Growing: files that others write, rotate and truncate, read from where they were left.

A file is known by its inode and by how it begins, so a log that was renamed is the same log, and
one that begins anew under its old name is another. After a rotation the files beside it that have
the same beginning of their name are read too: there is what was written since the last look. Most
of it is in the store already, which the store knows by its content.
"""

from __future__ import annotations

import glob
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ingest.errors import SourceError
from ingest.packed import is_packed
from ingest.sources import Source, open_source
from ingest.store import Store

_HEAD = 4096  # bytes that tell a file from another
_CHUNK = 1 << 20
ROUND = 64 << 20  # bytes of a file that are read at once; more than a block and a line may have
_SETTLED_SECONDS = 2  # a compressed file that is still being written looks torn
_ABANDONED_SECONDS = 30  # then a last line without a line break is one

Key = tuple[int, int]


@dataclass(frozen=True)
class _State:
    """How far a file was read: `start` is where its last block begins, `end` where it stopped."""

    inode: int
    start: int
    end: int
    changed_ns: int
    head: str
    head_length: int


@dataclass(frozen=True)
class _Given:
    """A source that was given out, and what its file's state is once it is in the store."""

    path: Path
    key: Key
    state: _State
    start: int


class Growing:
    """Files, folders and globs, looked at again and again.

    Args:
        names: as for `load`.
        store: keeps how far each file was read.
        format: a key of FORMATS; None finds out for each file, and leaves out what has none.
    """

    has_ended = False

    def __init__(self, names: Sequence[str], store: Store, format: str | None) -> None:
        self._names, self._store, self._format = names, store, format
        self._states: dict[Key, _State] = {}
        self._last: dict[Path, Key] = {}
        self._beside: set[Path] = set()
        self._given: list[_Given] = []
        self._others: set[Key] = set()
        self._looked = 0.0
        self.notes: list[str] = []
        self.is_waiting = False

    def changed(self) -> list[Source]:
        """The files that have new lines, each from where its last block begins.

        Raises:
            SourceError: a file that was named can't be read.
        """
        self._given = []
        sources: list[Source] = []
        self.is_waiting, taken = False, 0
        looked = time.time()
        done: set[Path] = set()
        while todo := sorted(set(self._paths()) - done):
            done.update(todo)
            for path in todo:
                if taken > ROUND:
                    self.is_waiting = True
                    return sources
                try:
                    source = self._source(path)
                except (OSError, SourceError) as error:
                    self._pass_over(path, error)
                    continue
                if source is not None:
                    sources.append(source)
                    taken += self._given[-1].state.end - self._given[-1].state.start
        self._looked = looked
        return sources

    def settle(self, ends: Sequence[int]) -> None:
        """Remember how far the files were read, now that the store has it."""
        for given, before_last in zip(self._given, ends, strict=True):
            state = _State(**{**asdict(given.state), "start": given.start + before_last})
            self._states[given.key] = state
            self._store.write(_checkpoint(given.path), json.dumps(asdict(state)).encode())

    def close(self) -> None:
        """Nothing is open between two looks."""

    def _paths(self) -> Iterator[Path]:
        for name in self._names:
            path = Path(name)
            if path.is_dir():
                yield from (file for file in path.rglob("*") if file.is_file())
            elif path.exists() or not glob.has_magic(name):
                yield path
            else:
                found = map(Path, glob.glob(name, recursive=True))  # noqa: PTH207
                yield from (file for file in found if file.is_file())
        yield from self._beside

    def _source(self, path: Path) -> Source | None:
        """What is new in a file, and how far it will have been read; None: nothing."""
        with path.open("rb", buffering=0) as file:
            stat = os.fstat(file.fileno())
            key = (stat.st_dev, stat.st_ino)
            if path not in self._last:
                self._recall(path, key)
            if self._last[path] != key:
                self._look_beside(path)
            self._last[path] = key
            known = self._states.get(key)
            seen = None if known is None else (known.end, known.changed_ns)
            if seen == (stat.st_size, stat.st_mtime_ns):
                return None
            if key in self._others and stat.st_size > _HEAD:
                return None
            source = open_source(path)
            source.format = self._format or source.format
            if source.format is None:
                if not source.is_empty:
                    self._leave_out(path, key)
                return None
            if source.size is None:
                packed = is_packed(os.pread(file.fileno(), 4, 0))
                if packed and time.time() - stat.st_mtime < _SETTLED_SECONDS:
                    return None
                return self._whole(path, key, source, stat)
            return self._grown(path, file.fileno(), key, source, known)

    def _pass_over(self, path: Path, error: OSError | SourceError) -> None:
        """Go on without a file that can't be read now; the next look tries again.

        Raises:
            SourceError: it is the first look, and whoever started it can still mend it.
        """
        if not path.exists():
            if not self._looked:
                self.notes.append(f"{path}: not there yet.")
            return  # else it was rotated away under our hands
        said = str(error)
        if isinstance(error, OSError):
            said = f"{path}: can't be read: {error.strerror or error}."
        if not self._looked:
            raise SourceError(said) from error
        self.notes.append(said)

    def _leave_out(self, path: Path, key: Key) -> None:
        if key not in self._others:
            self._others.add(key)
            self.notes.append(f"{path}: looks like no flow log and is left out.")

    def _whole(self, path: Path, key: Key, source: Source, stat: os.stat_result) -> Source:
        state = _State(stat.st_ino, 0, stat.st_size, stat.st_mtime_ns, "", 0)
        self._given.append(_Given(path, key, state, 0))
        return source

    def _grown(
        self, path: Path, file: int, key: Key, source: Source, known: _State | None
    ) -> Source | None:
        """The lines from the last block on, at most ROUND bytes.

        They are read here, from the file that was opened, and given out only if it still begins
        as before: a log that is renamed or truncated meanwhile must not pass for this one.
        """
        stat = os.fstat(file)
        if known is not None and (
            stat.st_size < known.end or _head(file, known.head_length) != known.head
        ):
            self._look_beside(path)
            known = None
        is_left = time.time() - stat.st_mtime >= _ABANDONED_SECONDS
        start, before = (0, 0) if known is None else (known.start, known.end)
        while True:
            data = _read(file, start, min(stat.st_size - start, ROUND))
            lines, end = _whole_lines(file, data, start, stat.st_size, is_left=is_left)
            if end > before:
                break
            if len(data) < ROUND or start == before:
                return None
            start = before  # a line so long that the last block ends before it
        if known is not None and _head(file, known.head_length) != known.head:
            return None  # the next look finds out what happened
        self.is_waiting = self.is_waiting or len(data) == ROUND
        length = min(_HEAD, end)
        changed_ns = stat.st_mtime_ns if end == stat.st_size else 0
        state = _State(key[1], start, end, changed_ns, _head(file, length), length)
        # Behind a line that is longer than all that is read at once there is a new beginning.
        begin = start if start + len(lines) == end else end
        self._given.append(_Given(path, key, state, begin))
        return Source(source.name, None, source.format, False, lambda: iter([lines]), [])

    def _recall(self, path: Path, key: Key) -> None:
        """Take up what an earlier run left of this path."""
        self._last[path] = key
        kept = self._store.read(_checkpoint(path))
        if kept is None:
            return
        try:
            state = _State(**_object(kept))
        except (ValueError, TypeError):
            return  # damaged: the file is read from its beginning
        if state.inode == key[1]:
            self._states.setdefault(key, state)
        else:
            self._last[path] = (key[0], state.inode)
            self._looked = self._looked or state.changed_ns / 1e9

    def _look_beside(self, path: Path) -> None:
        """A log was rotated or truncated: what it was is beside it now, if anywhere."""
        for other in path.parent.iterdir():
            if other == path or not other.name.startswith(path.stem) or not other.is_file():
                continue
            if other.stat().st_mtime >= self._looked - _SETTLED_SECONDS:
                self._beside.add(other)


def _checkpoint(path: Path) -> str:
    name = blake2b(os.fsencode(path.resolve()), digest_size=16).hexdigest()
    return f"follow/{name}.json"


def _object(text: bytes) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError
    return found


def _head(file: int, length: int) -> str:
    return blake2b(os.pread(file, length, 0), digest_size=16).hexdigest()


def _read(file: int, start: int, size: int) -> bytes:
    parts = []
    while size > 0 and (part := os.pread(file, min(size, _CHUNK), start)):
        parts.append(part)
        start, size = start + len(part), size - len(part)
    return b"".join(parts)


def _whole_lines(
    file: int, data: bytes, start: int, size: int, *, is_left: bool
) -> tuple[bytes, int]:
    """The whole lines of what was read, and the place behind them.

    A line that ends the file without a line break counts where the file was left alone; of one
    that is longer than ROUND its beginning is returned, with the place behind all of it.
    """
    if is_left and start + len(data) == size:
        return data, size
    end = data.rfind(b"\n") + 1
    if end or len(data) < ROUND:
        return data[:end], start + end
    for place in range(start + ROUND, size, _CHUNK):
        found = os.pread(file, _CHUNK, place).find(b"\n")
        if found >= 0:
            return data, place + found + 1
    return b"", start
