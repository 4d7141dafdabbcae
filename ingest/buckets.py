"""Logs in object stores: objects, folders and globs of s3://, gs:// and az://."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from glob import has_magic
from hashlib import blake2b
from typing import Any, cast

from ingest.errors import SourceError
from ingest.places import filesystem, inside, place, reached
from ingest.sources import Source, reopened
from ingest.store import Store

_READ_AHEAD = 8 << 20  # bytes

Object = tuple[str, dict[str, Any]]


def objects(name: str) -> list[Object]:
    """The objects behind a name, with what is known of each, by name.

    Raises:
        SourceError: there is none, or the object store can't be reached.
    """
    path = place(name, SourceError)
    found: dict[str, dict[str, Any]]
    with reached(name, SourceError):
        files = cast("Any", filesystem(path))
        if has_magic(name):
            found = files.glob(inside(path), detail=True)
        else:
            found = files.find(inside(path), detail=True)
    known = [(key, info) for key, info in sorted(found.items()) if info["type"] == "file"]
    if not known:
        raise SourceError(f"{name}: no such object, folder or glob; check the name.")
    return known


def open_object(name: str, key: str) -> Source:
    """The source that an object is.

    Args:
        name: what it was found by.
        key: of the object.

    Raises:
        SourceError: it can't be read.
    """
    scheme = name.partition("://")[0]
    files = cast("Any", filesystem(place(name, SourceError)))
    with reached(name, SourceError):
        source = reopened(
            f"{scheme}://{key}", lambda: files.open(key, "rb", block_size=_READ_AHEAD)
        )
    chunks = source.chunks
    source.chunks = lambda: _reached(name, chunks())
    return source


def _reached(name: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    with reached(name, SourceError):
        yield from chunks


def bucket_sources(name: str) -> tuple[list[Source], list[str]]:
    """The logs behind a name; and what was left out, as sentences.

    Raises:
        SourceError: there is none, or the object store can't be reached.
    """
    found = objects(name)
    sources = [open_object(name, key) for key, _ in found]
    if len(sources) == 1:
        return sources, []
    logs = [source for source in sources if source.format is not None]
    others = sum(1 for source in sources if source.format is None and not source.is_empty)
    if not others:
        return logs, []
    say = "1 object looks" if others == 1 else f"{others} objects look"
    return logs, [f"{name}: {say} like no flow log and were left out."]


class Bucket:
    """Objects, looked at again and again: new ones and those that were replaced.

    Args:
        name: what they are found by.
        store: keeps which were read.
        format: a key of FORMATS; None finds out for each object.
    """

    has_ended = False
    is_waiting = False

    def __init__(self, name: str, store: Store, format: str | None) -> None:
        self._name, self._store, self._format = name, store, format
        said = blake2b(name.encode(), digest_size=16).hexdigest()
        self._kept = f"follow/{said}.json"
        self._read: dict[str, str] = json.loads(store.read(self._kept) or b"{}")
        self._given: dict[str, str] = {}
        self.notes: list[str] = []

    def changed(self) -> list[Source]:
        """The objects that are new or were replaced, whole.

        Raises:
            SourceError: the object store can't be reached, and never was.
        """
        self._given, sources = {}, []
        try:
            found = objects(self._name)
        except SourceError as error:
            if not self._read:
                raise
            self.notes.append(str(error))
            return []
        for key, info in found:
            state = str(info.get("ETag") or info.get("etag") or info.get("md5Hash") or info)
            if self._read.get(key) == state:
                continue
            self._given[key] = state
            source = open_object(self._name, key)
            source.format = self._format or source.format
            if source.format is not None:
                sources.append(source)
            elif not source.is_empty:
                self.notes.append(f"{source.name}: looks like no flow log and is left out.")
        return sources

    def settle(self, _ends: Sequence[int]) -> None:
        """Remember the objects, now that the store has their lines."""
        self._read |= self._given
        self._store.write(self._kept, json.dumps(self._read).encode())

    def close(self) -> None:
        """Nothing is open between two looks."""
