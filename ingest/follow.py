"""follow(): logs that grow and live sources into the store, a micro-batch every few seconds.

A round reads what is new of every source as a longer form of its last block, so it is the same
thing as reading the log again, only without its beginning: blocks are known by their content, and
nothing is lost or doubled wherever a run ends. Where a file's last block begins is kept in the
store, to spare the next run the way there; a run without it only reads more.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ingest.blocks import as_store_error
from ingest.buckets import Bucket
from ingest.errors import SourceError
from ingest.growing import Growing
from ingest.load import Summary, load
from ingest.places import is_remote
from ingest.records import BlockRecord
from ingest.security import LIVE_SCHEMES, Security
from ingest.sources import Source
from ingest.store import Store, create_store


class Watched(Protocol):
    """Something that brings new lines from time to time."""

    notes: list[str]

    def changed(self) -> list[Source]:
        """What is new, as sources whose last block has grown."""
        ...

    def settle(self, ends: Sequence[int]) -> None:
        """The sources that `changed` gave are in the store.

        Args:
            ends: bytes of each before its last block.
        """
        ...

    def close(self) -> None:
        """Nothing more is wanted."""
        ...

    @property
    def is_waiting(self) -> bool:
        """More is at hand."""
        ...

    @property
    def has_ended(self) -> bool:
        """Nothing more will come."""
        ...


@dataclass
class _Total:
    """Counts of all blocks that were read; a block that grows counts once."""

    blocks: dict[str, tuple[int, int, dict[str, int], dict[str, int]]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    files: int = 0  # beside those of `names`

    def seen(self, _number: int, _offset: int, record: BlockRecord) -> None:
        self.blocks[record.name] = (record.lines, record.flows, record.skipped, record.rejects)

    def counts(self) -> tuple[int, int, int]:
        """Lines, flows, rejects."""
        blocks = self.blocks.values()
        return (
            sum(lines for lines, *_ in blocks),
            sum(flows for _, flows, *_ in blocks),
            sum(sum(rejects.values()) for *_, rejects in blocks),
        )

    def summary(self, seconds: float, notes: Sequence[str]) -> Summary:
        counts = list(self.blocks.values())
        skipped, rejects = Counter[str](), Counter[str]()
        for _, _, some_skipped, some_rejects in counts:
            skipped.update(some_skipped)
            rejects.update(some_rejects)
        return Summary(
            files=self.files + len(self.names),
            lines=sum(lines for lines, *_ in counts),
            flows=sum(flows for _, flows, *_ in counts),
            skipped=dict(sorted(skipped.items())),
            rejects=dict(sorted(rejects.items())),
            seconds=seconds,
            notes=tuple(notes),
        )


def follow(
    sources: Sequence[str],
    store: str,
    *,
    format: str | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    every_seconds: float = 5.0,
    since: int | None = None,
    security: Security | None = None,
    is_endless: bool = True,
    stop: threading.Event | None = None,
    said: Callable[[str], None] | None = None,
) -> Summary:
    """Read what others write, until it is stopped.

    Args:
        sources: files, folders and globs, looked at again and again, and live sources.
        store: as in `load`, and so are the next three.
        format: as in `load`.
        cluster: as in `load`.
        workers: as in `load`.
        every_seconds: how often.
        since: microseconds from which on a live source is read, where the store has nothing of it.
        security: how to connect to live sources.
        is_endless: also wait for what is written later; else files are read once, and live sources
            until now.
        stop: ends it after the lines at hand, when set.
        said: called with a sentence where there is something to say meanwhile.

    Raises:
        SourceError: a source can't be read, or no format knows it.
        StoreError: the store can't be written, or is something else.
    """
    began = time.monotonic()
    target = create_store(store)
    stop, wake = stop or threading.Event(), threading.Event()
    total, notes = _Total(), []
    live = [name for name in sources if name.startswith(LIVE_SCHEMES)]
    files = [name for name in sources if name not in live]
    if files and not is_endless:
        read = load(files, target, format=format, cluster=cluster, workers=workers, seen=total.seen)
        notes, files, total.files = list(read.notes), [], read.files
    watched = _files(files, target, format)
    try:
        for url in live:
            # One by one, so that all that were opened are closed where one can't be.
            watched.append(_tap(url, target, cluster, security, since, is_endless, wake))
        for _ in _rounds(watched, every_seconds, stop, wake):
            before = total.counts()
            for one in watched:
                _read_changes(one, target, total, cluster, workers)
            _say(said, watched, total.counts(), before)
    finally:
        for one in watched:
            one.close()
    return total.summary(time.monotonic() - began, notes)


def _files(names: Sequence[str], store: Store, format: str | None) -> list[Watched]:
    on_disk = [name for name in names if not is_remote(name)]
    watched: list[Watched] = [Growing(on_disk, store, format)] if on_disk else []
    watched += [Bucket(name, store, format) for name in names if is_remote(name)]
    return watched


def _rounds(
    watched: Sequence[Watched], seconds: float, stop: threading.Event, wake: threading.Event
) -> Iterator[None]:
    """Each time that it is time to read; the last time when nothing more will come."""
    is_last = False
    while not is_last:
        if stop.is_set():
            for one in watched:
                one.close()
        is_last = stop.is_set() or all(one.has_ended for one in watched)
        yield
        if any(one.is_waiting for one in watched):
            is_last = False
        elif not is_last and not all(one.has_ended for one in watched):
            _pause(seconds, stop, wake)
            wake.clear()


def _tap(
    url: str,
    store: Store,
    cluster: str | None,
    security: Security | None,
    since: int | None,
    follow: bool,
    wake: threading.Event,
) -> Watched:
    try:
        from ingest.live import Tap
    except ModuleNotFoundError as error:
        raise SourceError(
            f"{url}: live sources need more packages; install them with "
            "`pip install 'flowpolicy[live]'`."
        ) from error
    return Tap(
        url,
        store,
        security or Security(),
        cluster=cluster,
        since=since,
        follow=follow,
        wake=wake,
    )


def _read_changes(
    watched: Watched, store: Store, total: _Total, cluster: str | None, workers: int | None
) -> None:
    with as_store_error(store):
        sources = watched.changed()
        if not sources:
            return
        ends = [0] * len(sources)

        def seen(number: int, offset: int, record: BlockRecord) -> None:
            ends[number] = offset
            total.seen(number, offset, record)

        total.names.update(source.name for source in sources)
        load(sources, store, cluster=cluster, workers=workers, seen=seen)
        watched.settle(ends)


def _say(
    said: Callable[[str], None] | None,
    watched: Sequence[Watched],
    after: tuple[int, int, int],
    before: tuple[int, int, int],
) -> None:
    lines, flows, rejects = (now - then for now, then in zip(after, before, strict=True))
    notes = [note for one in watched for note in one.notes]
    for one in watched:
        one.notes.clear()
    if said is None:
        return
    for note in notes:
        said(note)
    if lines:
        said(f"{flows:,} flows of {lines:,} lines, {rejects:,} rejects")


def _pause(seconds: float, stop: threading.Event, wake: threading.Event) -> None:
    """Wait, but no longer than until there is something to do."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not stop.is_set():
        if wake.wait(min(left, 0.2)):
            return
