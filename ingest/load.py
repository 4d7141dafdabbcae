"""load(): logs in, flows in the store out, block by block, in worker processes.

A block is read, parsed and written inside a worker; the parent cuts sources into blocks, counts,
and records each block once its files are in place. So memory does not grow with the log, and a
run that is killed leaves whole blocks, which the next run knows and does not read again.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal

from ingest.batch import Batch, Gap, Reject, shown
from ingest.errors import SourceError, StoreError
from ingest.formats import FORMATS
from ingest.schema import FLOWS
from ingest.sources import LONGEST_LINE, Block, Source, data_of, expand
from ingest.store import BlockRecord, Store, block_name, create_store, digest
from ingest.workers import outcomes


Progress = Callable[[int, int | None], None]
Seen = Callable[[int, int, BlockRecord], None]


@dataclass(frozen=True)
class Summary:
    """What a run read; `lines` = `flows` + `skipped` + `rejects`.

    Args:
        files: sources that were read.
        skipped: lines that are understood and no flow, by reason.
        rejects: lines that are not understood, by reason.
        seconds: of wall-clock time.
        notes: what the reader of the figures must know, as sentences.
    """

    files: int
    lines: int
    flows: int
    skipped: dict[str, int]
    rejects: dict[str, int]
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Task:
    """A block that is to be in the store; `number` is that of its source."""

    number: int
    store: Path
    source: str
    block: Block
    format: str
    cluster: str | None

    @property
    def name(self) -> str:
        return block_name(self.block.first, self.cluster, self.format)

    @property
    def size(self) -> int:
        return self.block.length


@dataclass(frozen=True)
class _Outcome:
    """What became of a block.

    Args:
        state: `new`, its flows are in the store and it is to be recorded; `known`, it was recorded
            before; `torn`, it is the beginning of a line, which may be whole the next time.
    """

    record: BlockRecord
    rejects: list[Reject]
    gaps: list[Gap]
    state: Literal["new", "known", "torn"]


@dataclass
class _Tally:
    """Counts of a source, or of all."""

    lines: int = 0
    flows: int = 0
    lost: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    absent: frozenset[str] | None = None  # None: no flow yet
    blocks: list[str] = field(default_factory=list)
    is_known: bool = True
    continues: bool = False

    def add(self, outcome: _Outcome) -> None:
        record = outcome.record
        self.lines += record.lines
        self.flows += record.flows
        self.lost += record.lost
        self.skipped.update(record.skipped)
        self.rejects.update(record.rejects)
        if record.flows:
            absent = frozenset(record.absent)
            self.absent = absent if self.absent is None else self.absent & absent
        self.blocks.append(record.name)
        self.is_known = self.is_known and outcome.state == "known"
        self.continues = self.continues or (outcome.state == "new" and bool(record.older))


def load(
    sources: Sequence[str | Source],
    store: str | Path | Store,
    *,
    format: str | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    seen: Seen | None = None,
) -> Summary:
    """Read logs into a store, which is made where there is none.

    Reading what the store has already changes nothing, whatever its name or compression; of a
    log that has grown only the new flows come to it.

    Args:
        sources: files, folders, globs, `-` for standard input, or sources that were opened.
        store: the folder of the store, or one that was opened.
        format: a key of FORMATS; None finds out for each source.
        cluster: the Kubernetes cluster of all lines, in place of what they say.
        workers: processes that parse; None is one for each CPU.
        progress: called with the uncompressed bytes read so far, and how many there are in all,
            None where that can't be known before.
        seen: called with each block that is in the store: the number of its source (those that
            were opened come first), the bytes of the source before it, and its record.

    Raises:
        SourceError: a source is missing, unreadable, or of no known format.
        StoreError: the store can't be written, or is something else.
    """
    began = time.monotonic()
    found, notes = _found(sources)
    formats = [_format_of(source, format) for source in found]
    target = store if isinstance(store, Store) else create_store(store)
    tallies = [_Tally() for _ in found]
    total = None if any(s.size is None for s in found) else sum(s.size or 0 for s in found)
    done = 0
    for task, outcome in outcomes(_tasks(found, formats, target.path, cluster), _work, workers):
        tally = tallies[task.number]
        if outcome.state == "new":
            with _as_store_error(target):
                target.commit(
                    outcome.record, task.source, outcome.rejects, tally.lines, outcome.gaps
                )
        tally.add(outcome)
        if seen is not None:
            seen(task.number, task.block.offset, outcome.record)
        done += task.block.length
        if progress is not None:
            lines = sum(tally.lines for tally in tallies)
            rejects = sum(tally.rejects.total() for tally in tallies)
            progress(Progress(done, total, lines, rejects))
    with _as_store_error(target):
        _record_sources(target, found, formats, tallies)
    return Summary(
        files=len(found),
        lines=sum(tally.lines for tally in tallies),
        flows=sum(tally.flows for tally in tallies),
        skipped=_sum(tally.skipped for tally in tallies),
        rejects=_sum(tally.rejects for tally in tallies),
        seconds=time.monotonic() - began,
        notes=(*notes, *_notes(found, tallies)),
    )


def _found(sources: Sequence[str | Source]) -> tuple[list[Source], list[str]]:
    names = [source for source in sources if isinstance(source, str)]
    expanded, notes = expand(names)
    found = [*(source for source in sources if isinstance(source, Source)), *expanded]
    if not found:
        raise SourceError(" ".join(notes) or f"{', '.join(names)}: no flow log found.")
    return found, notes


def _format_of(source: Source, given: str | None) -> str:
    if given is not None and given not in FORMATS:
        raise ValueError(f"unknown format {given!r}, known are {', '.join(FORMATS)}")
    known = given or source.format or (next(iter(FORMATS)) if source.is_empty else None)
    if known is None:
        raise SourceError(
            f"{source.name}: looks like no flow log ({', '.join(FORMATS)}); "
            "if it is one, name its format with --format."
        )
    return known


def _tasks(
    sources: list[Source], formats: list[str], store: Path, cluster: str | None
) -> Iterator[_Task]:
    for number, (source, format_) in enumerate(zip(sources, formats, strict=True)):
        for block in source.blocks():
            yield _Task(number, store, source.name, block, format_, cluster)


def _work(task: _Task) -> _Outcome:
    """Read a block into the store, unless it is there; the parent records it."""
    store, block = Store(task.store), task.block
    try:
        data = block.first if block.too_long else data_of(task.source, block)
    except OSError as error:
        raise SourceError(f"{task.source}: can't be read: {error.strerror}.") from error
    place = _place(store, task, data)
    if place.known is not None and place.known.length == len(data):
        return _Outcome(place.known, [], [], "known")
    batch = _too_long(data) if block.too_long else _parse(task, data)
    state: Literal["new", "known", "torn"] = "new" if place.known is None else "known"
    if {reject.reason for reject in batch.rejects} == {"torn last line"} and batch.lines == 1:
        state = "torn"
    if state == "new":
        with _as_store_error(store):
            store.write_flows(place.name, batch.flows)
    record = BlockRecord(
        name=place.name,
        length=len(data),
        digest=digest(data),
        lines=batch.lines,
        flows=batch.flows.num_rows,
        skipped=batch.skipped,
        rejects=dict(Counter(reject.reason for reject in batch.rejects)),
        absent=sorted(batch.absent),
        lost=batch.lost,
        older=place.older,
    )
    return _Outcome(record, batch.rejects, batch.gaps, state)


@contextmanager
def _as_store_error(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise StoreError(
            f"{store.path}: can't be written: {why}; mend that and run the command again, what was "
            "read is kept."
        ) from error


@dataclass(frozen=True)
class _Place:
    """Where a block belongs in the store.

    Args:
        known: the record of the block that has its lines already.
        older: what the block replaces: shorter blocks that it begins with.
    """

    name: str
    known: BlockRecord | None = None
    older: list[tuple[int, str]] = field(default_factory=list)


def _place(store: Store, task: _Task, data: bytes) -> _Place:
    for number in count():
        name = block_name(task.block.first, task.cluster, task.format, number)
        record = store.block(name)
        if record is None:
            return _Place(name)
        if record.holds(len(data), digest(data)):
            return _Place(name, known=record)
        if record.length < len(data) and digest(data[: record.length]) == record.digest:
            return _Place(name, older=[*record.older, (record.length, record.digest)])
    raise AssertionError


def _parse(task: _Task, data: bytes) -> Batch:
    return FORMATS[task.format].parse(data, cluster=task.cluster)


def _too_long(data: bytes) -> Batch:
    reject = Reject(1, "line too long", f"longer than {LONGEST_LINE:,} bytes", shown(data))
    return Batch(FLOWS.empty_table(), {}, [reject], 1)


def _sum(counters: Iterator[Counter[str]]) -> dict[str, int]:
    total = Counter[str]()
    for counter in counters:
        total.update(counter)
    return dict(sorted(total.items()))


def _record_sources(
    store: Store, sources: list[Source], formats: list[str], tallies: list[_Tally]
) -> None:
    for source, format_, tally in zip(sources, formats, tallies, strict=True):
        if not tally.blocks or (tally.is_known and store.has_source(tally.blocks[0])):
            continue
        store.write_source(
            tally.blocks[0],
            {
                "source": source.name,
                "format": format_,
                "lines": tally.lines,
                "flows": tally.flows,
                "skipped": tally.skipped,
                "rejects": tally.rejects,
                "lost": tally.lost,
                "absent": sorted(tally.absent or ()),
                "blocks": tally.blocks,
                "trouble": source.trouble,
            },
        )


def _notes(sources: list[Source], tallies: list[_Tally]) -> Iterator[str]:
    """What figures alone don't say; what many sources have in common is said once."""
    for source in sources:
        yield from source.trouble
        if source.is_empty:
            yield f"{source.name}: empty."
    by_absent: dict[frozenset[str], list[str]] = {}
    for source, tally in zip(sources, tallies, strict=True):
        if tally.absent:
            by_absent.setdefault(tally.absent, []).append(source.name)
    for absent, names in by_absent.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield (
            f"{names[0]}{others}: no line has {', '.join(sorted(absent))}; an exporter's field "
            "mask may leave it out, and recommendations from such a log are unsafe."
        )
    if lost := sum(tally.lost for tally in tallies):
        yield f"Hubble lost {lost:,} events by its own account: connections may be missing."
    if known := sum(1 for tally in tallies if tally.blocks and tally.is_known):
        yield f"{known} of {len(sources)} sources were in the store already."
    if grown := sum(1 for tally in tallies if tally.continues):
        yield (
            f"{grown} of {len(sources)} sources begin with lines that were in the store; "
            "the store has them once."
        )
