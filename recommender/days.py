"""What edges are made of, by day: kept in the store, and read anew only where a day has changed.

    STORE/edges/cluster=X/day=YYYY-MM-DD/<part>-<digest>.parquet

The digest is of the day's files of flows (names, sizes, times) and of the expression, so whatever
changes either, however long ago the file was kept, gives it another name. Nothing here knows who
an end is: a new inventory needs no flow read again. A file is put in its place whole or not at
all; a store that can't be written to is read without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from shutil import rmtree
from typing import Literal

import ibis
import ibis.expr.types as ir
from ibis import _

from ingest.schema import FLOWS
from ingest.store import Store
from recommender.edges import (
    api_servers,
    asked,
    counts,
    looked_up,
    outside_calls,
    reports,
    sighted_ends,
    sightings,
)
from recommender.engines import DUCKDB, EngineError, flows_of, saved, table_in
from recommender.tracked import tracked

Name = Literal["sighted", "calls", "servers", "counts", "reports", "names", "asked"]
Parts = Callable[[Name], ir.Table]
# A day whose files of flows have fewer bytes is read again as soon as what was kept of it.
LEAST = 4 << 20
_FOLDER = "edges"


@dataclass(frozen=True)
class Part:
    """Something asked `of` flows; `over` its rows of several days it is that of all of them.

    `what` it is, for people. Of a day's flows `kept` is kept where it says the same in fewer rows.
    """

    what: str
    of: Callable[[ir.Table], ir.Table]
    over: Callable[[ir.Table], ir.Table]
    kept: Callable[[ir.Table], ir.Table] | None = None


def _distinct(rows: ir.Table) -> ir.Table:
    # In order: whoever came first must not depend on threads, or on which days were kept.
    return rows.distinct().order_by(rows.columns)


def _in_all_hours(rows: ir.Table) -> ir.Table:
    keys = [name for name in rows.columns if name != "hours"]
    # No hour is in two days.
    return rows.group_by(keys).aggregate(hours=_.hours.sum().cast("int64")).order_by(keys)


PARTS: Mapping[Name, Part] = {
    "sighted": Part("who is there", sighted_ends, _distinct),
    "calls": Part("calls from outside", outside_calls, _in_all_hours),
    "servers": Part("API servers", api_servers, _distinct),
    "counts": Part("connections", sightings, lambda rows: rows, kept=counts),
    "reports": Part("reports of nodes", reports, _distinct),
    "names": Part("addresses of names", looked_up, _distinct),
    "asked": Part("names that were asked for", asked, lambda rows: rows),
}


def parts(store: Store, cluster: str, backend: ibis.BaseBackend, *, keep: bool = True) -> Parts:
    """The parts of one cluster's flows, by name; kept by day where `keep` and the engine can."""
    if not keep or store.is_remote or backend.name != DUCKDB:
        return partial(_whole, flows_of(store, cluster, backend))
    days = store.files_by_day(cluster)
    _forget_gone(store, days)
    return partial(_by_day, store, cluster, backend, days)


def _whole(flows: ir.Table, name: Name) -> ir.Table:
    part = PARTS[name]
    return part.over(part.of(flows))


def _by_day(
    store: Store,
    cluster: str,
    backend: ibis.BaseBackend,
    days: Mapping[Path, Sequence[Path]],
    name: Name,
) -> ir.Table:
    part = PARTS[name]
    files: list[Path] = []
    rest: list[Path] = []
    for day, own in tracked(f"reading days of flows for {part.what}", days.items()):
        found = _kept(store, cluster, backend, name, day, own)
        files += [found] if found else []
        rest += [] if found else own
    # With nothing to read, any file tells the columns.
    tables = (
        [part.of(flows_of(store, cluster, backend, rest or store.files[:1]))]
        if rest or not files
        else []
    )
    if files:
        tables.append(_table_of_kept(files, backend, name))
    return part.over(ibis.union(*tables) if len(tables) > 1 else tables[0])


def _table_of_kept(files: Sequence[Path], backend: ibis.BaseBackend, name: Name) -> ir.Table:
    """The rows of kept files.

    Raises:
        EngineError: a file is none of this part, though it has its name.
    """
    kept, schema = table_in(files, backend), _over_flows(name).schema()
    if kept.columns != schema.names:
        raise EngineError(f"{files[0]}: other columns than {', '.join(schema.names)}")
    return kept.cast(schema)


def _kept(
    store: Store,
    cluster: str,
    backend: ibis.BaseBackend,
    name: Name,
    day: Path,
    files: Sequence[Path],
) -> Path | None:
    """The file with a part of one day, made where there is none; None where it isn't to be kept."""
    stats = _stats(files)
    if stats is None or sum(size for _, size, _ in stats) < LEAST:
        return None
    said = blake2b(repr((stats, ibis.to_sql(_over_flows(name), "duckdb"))).encode(), digest_size=16)
    folder = store.path / _FOLDER / day
    place = folder / f"{name}-{said.hexdigest()}.parquet"
    try:
        if place.is_file():
            return place
        expression = _kept_of(name, flows_of(store, cluster, backend, files))
        with store.aside() as aside:
            # What was replaced while it was read is not what the name says.
            if not saved(expression, backend, aside) or _stats(files) != stats:
                return None
            folder.mkdir(parents=True, exist_ok=True)
            aside.replace(place)
    except OSError:
        return None
    for old in folder.glob(f"{name}-*.parquet"):
        if old != place:
            old.unlink(missing_ok=True)
    return place


def _over_flows(name: Name) -> ir.Table:
    """What is kept of a table of flows that is only named."""
    return _kept_of(name, ibis.table(ibis.Schema.from_pyarrow(FLOWS), name="flows"))


def _kept_of(name: Name, flows: ir.Table) -> ir.Table:
    part = PARTS[name]
    return (part.kept or part.of)(flows)


def _stats(files: Sequence[Path]) -> list[tuple[str, int, int]] | None:
    """Name, bytes and time in nanoseconds of each file; None where one was removed just now."""
    try:
        stats = [(file.name, file.stat()) for file in files]
    except FileNotFoundError:
        # Without it the day would pass for the one that it was before the file came.
        return None
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _forget_gone(store: Store, days: Mapping[Path, Sequence[Path]]) -> None:
    """Remove what was kept of days whose flows were removed."""
    kept = store.path / _FOLDER
    with suppress(OSError):  # what somebody else kept need not be for everybody
        for cluster in {day.parent for day in days}:
            for folder in (kept / cluster).glob("day=*"):
                if folder.relative_to(kept) not in days:
                    rmtree(folder, ignore_errors=True)


def forget(store: Store) -> None:
    """Remove all that was kept: a file of it can't be read."""
    rmtree(store.path / _FOLDER, ignore_errors=True)
