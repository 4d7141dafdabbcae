"""load(): logs in, flows in the store out, block by block, in worker processes.

A block is read, parsed and written inside a worker; the parent cuts sources into blocks, counts,
and records each block once its files are in place. So memory does not grow with the log, and a
run that is killed leaves whole blocks, which the next run knows and does not read again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ingest.blocks import Outcome, State, Task, as_store_error, read_block
from ingest.compact import writing
from ingest.errors import SourceError
from ingest.files import asides
from ingest.formats import FORMATS
from ingest.locks import recording
from ingest.records import BlockRecord
from ingest.sources import Elsewhere, Source, expand
from ingest.store import Store, create_store
from ingest.workers import outcomes

_Reader = Callable[[Iterator[Task]], Generator[tuple[Task, Outcome], None, None]]
Seen = Callable[[int, int, BlockRecord], None]


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Args:
        bytes: uncompressed bytes that were read.
        total: how many there are in all; None where that can't be known before.
        lines: lines that were read.
        rejects: those of them that are not understood.
    """

    bytes: int
    total: int | None
    lines: int
    rejects: int


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
    states: set[State] = field(default_factory=set)
    continues: bool = False

    def add(self, record: BlockRecord, state: State) -> None:
        self.lines += record.lines
        self.flows += record.flows
        self.lost += record.lost
        self.skipped.update(record.skipped)
        self.rejects.update(record.rejects)
        if record.flows:
            absent = frozenset(record.absent)
            self.absent = absent if self.absent is None else self.absent & absent
        self.blocks.append(record.name)
        self.states.add(state)
        self.continues = self.continues or (state == "new" and bool(record.older))

    @property
    def is_known(self) -> bool:
        """The store had all of it, but for the beginning of a line."""
        return "known" in self.states and "new" not in self.states


def load(
    sources: Sequence[str | Source],
    store: str | Path | Store,
    *,
    format: str | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    engine: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    seen: Seen | None = None,
) -> Summary:
    """Read logs into a store, which is made where there is none.

    Reading what the store has already changes nothing, whatever its name or compression, and be it
    an old copy of a log that was read since; of a log that has grown only the new flows come to it.

    Args:
        sources: files, folders, globs, `-` for standard input, or sources that were opened; with
            Spark also what Hadoop reads, as `hdfs://` and `s3a://`.
        store: the folder of the store, or one that was opened.
        format: a key of FORMATS; None finds out for each source.
        cluster: the Kubernetes cluster of all lines, in place of what they say.
        workers: processes that parse; None is one for each CPU.
        engine: `spark://HOST:PORT`, a cluster of Spark that parses in their place.
        progress: called after each block.
        seen: called with each block that is in the store: the number of its source (those that
            were opened come first), the bytes of the source before it, and its record.

    Raises:
        SourceError: a source is missing, unreadable, or of no known format.
        StoreError: the store can't be written, or is something else.
        SparkError: the cluster of Spark can't do it.
    """
    began = time.monotonic()
    with _engine(engine, workers) as (elsewhere, read):
        found, notes = _found(sources, elsewhere)
        formats = [_format_of(source, format) for source in found]
        target = store if isinstance(store, Store) else create_store(store)
        tallies = [_Tally() for _ in found]
        total = None if any(s.size is None for s in found) else sum(s.size or 0 for s in found)
        done = 0
        with writing(target), asides(target.path) as aside:
            tasks = _tasks(found, formats, target.path, cluster, aside)
            with closing(read(tasks)) as outcomes_of:
                for task, outcome in outcomes_of:
                    _record(target, task, outcome, tallies[task.number], seen)
                    done += task.block.length
                    if progress is not None:
                        progress(_progress(done, total, tallies))
            with as_store_error(target):
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


@contextmanager
def _engine(engine: str | None, workers: int | None) -> Iterator[tuple[Elsewhere | None, _Reader]]:
    """What finds sources that only the engine knows, and what gives tasks their outcomes."""
    if engine is None:
        yield None, lambda tasks: outcomes(tasks, read_block, workers)
        return
    from ingest.executors import spark_outcomes
    from ingest.hadoop import hadoop_sources
    from ingest.spark import spark_session

    with spark_session(engine) as session:
        yield (
            lambda name: hadoop_sources(name, session),
            lambda tasks: spark_outcomes(tasks, session),
        )


def _record(store: Store, task: Task, outcome: Outcome, tally: _Tally, seen: Seen | None) -> None:
    while not _is_settled(store, task, outcome, tally):
        outcome = read_block(task)
    states: list[tuple[BlockRecord, State]] = [
        *((record, "known") for record in outcome.before),
        (outcome.record, outcome.state),
    ]
    for record, state in states:
        tally.add(record, state)
        if seen is not None:
            seen(task.number, task.block.offset, record)


def _is_settled(store: Store, task: Task, outcome: Outcome, tally: _Tally) -> bool:
    """Whether the store has the block now; not where another run got ahead of this one.

    Two runs that read one log at different lengths write blocks of one name: whoever comes second
    looks again, and finds what the other one recorded.
    """
    if outcome.state != "new":
        return True
    with as_store_error(store), recording(store):
        is_ours = store.block(outcome.record.name) == outcome.replaces
        if is_ours:
            first = tally.lines + sum(record.lines for record in outcome.before)
            store.commit(
                outcome.record, task.source, outcome.rejects, first, outcome.gaps, outcome.flows
            )
    for file in () if is_ours else outcome.flows:
        file.drop()
    return is_ours


def _found(
    sources: Sequence[str | Source], elsewhere: Elsewhere | None
) -> tuple[list[Source], list[str]]:
    names = [source for source in sources if isinstance(source, str)]
    expanded, notes = expand(names, elsewhere)
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
    sources: list[Source], formats: list[str], store: Path, cluster: str | None, aside: str
) -> Iterator[Task]:
    for number, (source, format_) in enumerate(zip(sources, formats, strict=True)):
        for block in source.blocks():
            yield Task(number, store, source.name, block, format_, cluster, aside)


def _progress(done: int, total: int | None, tallies: Sequence[_Tally]) -> Progress:
    lines = sum(tally.lines for tally in tallies)
    return Progress(done, total, lines, sum(tally.rejects.total() for tally in tallies))


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
