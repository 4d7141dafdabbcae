"""Whether the order of a log's lines says anything: shuffled logs, and what is made of each."""

from __future__ import annotations

import gzip
import hashlib
import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from click.testing import CliRunner

from recommender.cli import group

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
LOGS = {name: sorted((SAMPLES / name).glob("*.gz")) for name in ("hubble", "calico")}


def lines_of(files: Sequence[Path]) -> list[bytes]:
    """The lines of gzipped logs, one file after the other."""
    return [line for file in files for line in gzip.decompress(file.read_bytes()).splitlines(True)]


def digests(lines: Sequence[bytes], folder: Path) -> dict[str, str]:
    """SHA-256 of all that is made of a log: the output of `patterns`, each file of `recommend`.

    Args:
        lines: of one log, in the order in which it is ingested.
        folder: for the log, its store and the proposals; made anew.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log, store, out = folder / "flows.log", folder / "store", folder / "out"
    log.write_bytes(b"".join(lines))
    _run("ingest", log, "--store", store)
    args = ("--store", store, "--inventory", SAMPLES / "inventory.yaml")
    made = {f"patterns -o {o}": _run("patterns", *args, "-o", o) for o in ("text", "json")}
    _run("patterns", *args, "-o", "parquet", "--out", folder / "tables")
    _run("recommend", *args, "--out", out)
    files = [file for root in (folder / "tables", out) for file in root.rglob("*")]
    made |= {str(f.relative_to(folder)): f.read_bytes() for f in sorted(files) if f.is_file()}
    return {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}


def _run(*args: object) -> bytes:
    result = CliRunner().invoke(group, [str(arg) for arg in args], catch_exceptions=False)
    if result.exit_code:
        raise RuntimeError(f"flowpolicy {args[0]} failed: {result.stderr}")
    return result.stdout_bytes


def changed(lines: Sequence[bytes], seeds: Iterable[int]) -> tuple[int, set[str]]:
    """How many outputs are compared, and those that a shuffle of the log's lines changes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "made"
        first = digests(lines, folder)
        differ: set[str] = set()
        for seed in seeds:
            random.Random(seed).shuffle(order := list(lines))
            again = digests(order, folder)
            differ |= {made for made in {*first, *again} if first.get(made) != again.get(made)}
    return len(first), differ


def shuffles_table() -> Iterator[str]:
    yield "| log | shuffles | outputs compared | outputs that differ |"
    for name, files in LOGS.items():
        count, differ = changed(lines_of(files), range(1, 21))
        yield f"| {name} sample | 20 | {count} | {', '.join(sorted(differ)) or 'none'} |"
