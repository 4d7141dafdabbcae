"""read_block(): one block of a source into the store, in whatever process."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Literal

from ingest.batch import Batch, Gap, Reject, shown
from ingest.errors import SourceError, StoreError
from ingest.files import Staged
from ingest.formats import FORMATS
from ingest.records import BlockRecord, block_name, digest
from ingest.schema import FLOWS
from ingest.sources import FIRST, LONGEST_LINE, Block, data_of
from ingest.store import Store

State = Literal["new", "known", "torn"]


@dataclass(frozen=True)
class Task:
    """A block that is to be in the store.

    Args:
        number: that of its source.
        aside: folder in which its files wait to be put in their places (see `files`).
    """

    number: int
    store: Path
    source: str
    block: Block
    format: str
    cluster: str | None
    aside: str = ""

    @property
    def name(self) -> str:
        """The name that the block has where no other has it; no two of one name at a time."""
        return block_name(self.block.first, self.cluster, self.format)

    @property
    def size(self) -> int:
        """Bytes of it."""
        return self.block.length


@dataclass(frozen=True)
class Outcome:
    """What became of a block.

    Args:
        record: of the block, or of what follows those in `before`.
        state: `new`, it is to be recorded; `known`, it was recorded before; `torn`, it is the
            beginning of a line, which may be whole the next time.
        before: the joined blocks that it begins with.
        flows: where it is new, its files that were written aside.
        replaces: where it is new, the record in whose place its own is to come.
    """

    record: BlockRecord
    rejects: list[Reject]
    gaps: list[Gap]
    state: State
    before: list[BlockRecord] = field(default_factory=list)
    flows: list[Staged] = field(default_factory=list)
    replaces: BlockRecord | None = None


def read_block(task: Task) -> Outcome:
    """Read a block and write its flows aside, unless the store has it; the parent records it."""
    store, block = Store(task.store), task.block
    try:
        data = block.first if block.too_long else data_of(task.source, block)
    except OSError as error:
        raise SourceError(f"{task.source}: can't be read: {error.strerror}.") from error
    place, before = _place(store, task, block.first, data), []
    while place.joined is not None:
        before.append(place.joined)
        data = data[place.joined.length :]
        place = _place(store, task, data[:FIRST].partition(b"\n")[0], data)
    if place.known is not None and place.known.length == len(data):
        return Outcome(place.known, [], [], "known", before)
    batch = _too_long(data) if block.too_long else _parse(task, data)
    state: State = "new" if place.known is None else "known"
    if {reject.reason for reject in batch.rejects} == {"torn last line"} and batch.lines == 1:
        state = "torn"
    elif place.longer is not None and state == "new" and _is_copy(store, batch):
        place, state = replace(place, name=place.longer.name), "known"
    staged: list[Staged] = []
    if state == "new":
        with as_store_error(store):
            staged = store.stage_flows(place.name, batch.flows, task.aside)
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
        is_whole=data.endswith(b"\n") and not block.too_long,
        newest=_newest(batch),
    )
    return Outcome(record, batch.rejects, batch.gaps, state, before, staged, place.replaces)


@contextmanager
def as_store_error(store: Store) -> Iterator[None]:
    """While the store is written: trouble with its disk in one sentence.

    Raises:
        StoreError: the store can't be written.
    """
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
        joined: a block that it begins with and can't replace; what follows has another place.
        longer: a longer block with the same first line, of which it may be an old copy.
        replaces: the shorter block of that name, the newest of `older`.
    """

    name: str
    known: BlockRecord | None = None
    older: list[tuple[int, str]] = field(default_factory=list)
    joined: BlockRecord | None = None
    longer: BlockRecord | None = None
    replaces: BlockRecord | None = None


def _place(store: Store, task: Task, first: bytes, data: bytes) -> _Place:
    longer = None
    for number in count():
        name = block_name(first, task.cluster, task.format, number)
        record = store.block(name)
        if record is None:
            return _Place(name, longer=longer)
        if record.holds(data):
            return _Place(name, known=record)
        if record.length > len(data):
            longer = record
        elif record.begins(data):
            if record.is_joined:
                return _Place(name, joined=record)
            older = [*record.older, (record.length, record.digest)]
            return _Place(name, older=older, longer=longer, replaces=record)
    raise AssertionError


def _parse(task: Task, data: bytes) -> Batch:
    return FORMATS[task.format].parse(data, cluster=task.cluster)


def _is_copy(store: Store, batch: Batch) -> bool:
    """Whether the store has the flows of a block that begins as a longer one does."""
    from ingest.copies import has_flows  # rarely needed, and slow to import

    return has_flows(store, batch.flows)


def _too_long(data: bytes) -> Batch:
    reject = Reject(1, "line too long", f"longer than {LONGEST_LINE:,} bytes", shown(data))
    return Batch(FLOWS.empty_table(), {}, [reject], 1)


def _newest(batch: Batch) -> str | None:
    """The newest day of its flows."""
    days = [] if not batch.flows.num_rows else batch.flows["day"].unique().to_pylist()
    return max(days).isoformat() if days else None
