"""How time and memory grow with lines, flows and workloads; writes benchmarks/RESULTS.md.

    python -m benchmarks.scale [--lines 1 10 100] [--flows 1 10 100] [--workloads 100 1000 10000]
        [--spark spark://HOST:PORT|MEMORY] [--on-spark 1 10 100] [--memory 1GiB] [--folder DIR]
        [--out FILE]

Lines and flows are in millions. A part without sizes (`--lines --flows 1`) is not run, and what the
page has of it stays. Without options a run of a quarter of an hour: 0.1 and 0.3 million lines, 1, 3
and 10 million flows, 100, 300 and 1,000 workloads. Each step is a process of its own; peak memory
is that of the process and all below it at one moment, with what they share counted once. `--spark
1g` starts a cluster here, of two executors with a core and that memory each, and counts what its
workers and executors take too; of a cluster that is there already it is the driver's alone. Of
flowpolicy's fold and of plain SQL, which run in turns, the middle one of five counts, of three at
50 million flows or more. Logs are made as they are read; what a step reads is made outside its
time. Growth is n^k, k by least squares over the logarithms; the knee is the first size to which it
grew faster than n^1.2 from the one before.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import chain, pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import big_cluster
import spark_cluster

from benchmarks.ingest import memory_mib, tree, write_log
from benchmarks.made_flows import DAYS, fill

ROOT = Path(__file__).parents[1]
LINES, FLOWS, WORKLOADS = (0.1, 0.3), (1.0, 3.0, 10.0), (100, 300, 1000)
_STEEP = 1.2
_CHUNK = 100_000  # lines of a made log that are repeated at other hours
_PACKAGES = ("duckdb", "ibis-framework", "pyarrow", "pandas", "numpy", "msgspec", "pyspark")
_CALLS = 20  # of each workload
_LONG = 50  # million flows, from which on three runs must do where otherwise there are five
_LOOK = 0.1  # seconds between two looks at memory
_ENDING = 5  # seconds in which executors end, whose time is then their worker's


@dataclass(frozen=True)
class Run:
    """What one process took: seconds by the clock and of the processor, MiB at its peak."""

    size: float
    seconds: float
    cpu: float
    mib: float


@dataclass(frozen=True)
class Spark:
    """A cluster, and the processes of its workers where it was started here."""

    url: str
    workers: tuple[int, ...] = ()


@contextmanager
def cluster_of(given: str | None) -> Iterator[Spark | None]:
    """The cluster that was asked for: one there is, one of that memory, or none."""
    if given is None or given.startswith("spark://"):
        yield Spark(given) if given else None
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        spark_cluster.spark_cluster(Path(folder), given) as started,
    ):
        os.environ |= {"SPARK_CONF_DIR": str(started.conf), "SPARK_LOCAL_IP": "127.0.0.1"}
        yield Spark(started.url, started.pids)


def taken(pids: Sequence[int]) -> float:
    """Seconds of the processor that these processes took, and those below them that ended."""
    # proc(5): utime, stime, cutime, cstime; the name before them may hold spaces.
    fields = [Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split() for p in pids]
    return sum(int(ticks) for own in fields for ticks in own[11:15]) / os.sysconf("SC_CLK_TCK")


def held(pids: Sequence[int]) -> float:
    """MiB that these processes and all below them hold now."""
    mib = 0.0
    for pid in pids:
        for process in tree(str(pid)):
            # One that has just ended has none, and a worker's may stay that way for long.
            with suppress(OSError, ValueError, IndexError):
                mib += memory_mib(process)
    return mib


def measured(
    size: float,
    command: Sequence[str],
    feed: Callable[[], Iterator[bytes]] | None = None,
    workers: Sequence[int] = (),
) -> Run:
    """Run a command to its end, and count what `workers` do meanwhile; fails where it does."""
    # Modules are compiled once, as they are where flowpolicy was installed, not by each process.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, started, peak = os.times(), time.perf_counter(), 0.0
    at_first = taken(workers)
    with tempfile.TemporaryFile() as said:
        given = subprocess.PIPE if feed else subprocess.DEVNULL
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=given, stdout=subprocess.DEVNULL, stderr=said
        )
        pieces, looked = feed() if feed else iter(()), 0.0
        while process.poll() is None:
            # To look takes time of the processor, and stops what is looked at for a moment.
            if time.perf_counter() - looked > _LOOK:
                peak = max(peak, held((process.pid, *workers)))
                looked = time.perf_counter()
            piece = next(pieces, None)
            if process.stdin and piece:
                process.stdin.write(piece)
            elif process.stdin:
                process.stdin.close()
                process.stdin = None
            else:
                time.sleep(0.05)
        if process.returncode not in (0, 10):
            said.seek(0)
            raise SystemExit(f"{' '.join(command)}: {said.read().decode()[-2000:]}")
    seconds, after = time.perf_counter() - started, os.times()
    if workers:
        time.sleep(_ENDING)
    cpu = after.children_user + after.children_system + taken(workers)
    cpu -= before.children_user + before.children_system + at_first
    return Run(size, seconds, cpu, peak)


def ours(*words: str) -> list[str]:
    """A command of flowpolicy."""
    return [sys.executable, "-m", "recommender.cli", *words]


# --- what is measured -----------------------------------------------------------------------------


def ingest(folder: Path, millions: float) -> dict[str, Run]:
    """Lines as an exporter writes them, from standard input, into a new store."""
    base, store = folder / "base.jsonl", folder / "ingested"
    if not base.exists():
        write_log(base, _CHUNK, 0.0, 7)
    text, count = base.read_bytes(), int(millions * 1e6)

    def feed() -> Iterator[bytes]:
        for number in range(count // _CHUNK):
            # The log is of two minutes: moved to another hour and day, all its lines are new ones.
            day, hour = 2 + number // 24 % 28, number % 24
            month = 3 + number // (24 * 28)
            moved = text.replace(b"2026-03-02T08:", b"2026-%02d-%02dT%02d:" % (month, day, hour))
            for first in range(0, len(moved), 1 << 20):
                yield moved[first : first + (1 << 20)]

    shutil.rmtree(store, ignore_errors=True)
    words = ("ingest", "-", "--format", "hubble", "--store", str(store))
    run = measured(count, ours(*words), feed)
    shutil.rmtree(store)
    return {"ingest": run}


def folds(folder: Path, millions: float, memory: str) -> dict[str, Run]:
    """Flows of ten days folded into edges: by flowpolicy, SQL, and day by day."""
    store, count = folder / "flows", int(millions * 1e6)
    fill(store, count)

    def fold(how: str, *more: str) -> Run:
        return measured(count, [sys.executable, "-m", "benchmarks.fold", how, str(store), *more])

    limit = ("--memory", memory)
    turns = [
        (fold("flowpolicy", *limit), fold("sql", *limit))
        for _ in range(3 if millions >= _LONG else 5)
    ]
    mine, theirs = (median(runs) for runs in zip(*turns, strict=True))
    found = {
        f"edges, DuckDB within {memory}": mine,
        f"the same counts in plain SQL, DuckDB within {memory}": theirs,
        "all that commands ask, nothing kept": fold("days", *limit),
        "all that commands ask, every day kept": fold("days", *limit),
    }
    fill(store, count // DAYS, days=1, first=DAYS)
    found["all that commands ask, one day of eleven new"] = fold("days", *limit)
    shutil.rmtree(store)
    return found


def median(runs: Sequence[Run]) -> Run:
    """The middle one by time of the processor."""
    return sorted(runs, key=lambda run: run.cpu)[len(runs) // 2]


def folds_on_spark(folder: Path, millions: float, spark: Spark) -> dict[str, Run]:
    """The same flows folded by flowpolicy on a cluster of Spark."""
    store, count = folder / "flows", int(millions * 1e6)
    fill(store, count)
    words = ("benchmarks.fold", "flowpolicy", str(store), "--engine", spark.url)
    run = measured(count, [sys.executable, "-m", *words], workers=spark.workers)
    shutil.rmtree(store)
    return {"edges, Spark": run}


def judged(folder: Path, workloads: int) -> dict[str, Run]:
    """Recommend, diff and report over a cluster with 20 calls a workload, on three days."""
    here = folder / f"cluster-{workloads}"
    here.mkdir()
    namespaces = max(workloads // 20, 1)
    log, inventory = big_cluster.write(here, workloads, namespaces, _CALLS * workloads)
    store, out = here / "store", here / "policies"
    measured(workloads, ours("ingest", str(log), "--store", str(store)))
    log.unlink()
    given = ("--store", str(store), "--inventory", str(inventory))
    found = {"recommend": measured(workloads, ours("recommend", *given, "--out", str(out)))}
    # What is in force lacks one namespace's policies.
    old = here / "old"
    shutil.copytree(out, old)
    shutil.rmtree(next(path for path in sorted(old.iterdir()) if path.is_dir()))
    found["diff"] = measured(workloads, ours("diff", str(old), str(out), *given))
    page = str(here / "report.html")
    found["report"] = measured(workloads, ours("report", *given, "--out", page))
    shutil.rmtree(here)
    return found


# --- what is written ------------------------------------------------------------------------------


def growth(runs: Sequence[Run], value: Callable[[Run], float]) -> float | None:
    """The k of n^k, by least squares over logarithms; None of fewer than two sizes."""
    points = [(math.log(run.size), math.log(max(value(run), 1e-3))) for run in runs]
    if len(points) < 2:
        return None
    x, y = (sum(column) / len(points) for column in zip(*points, strict=True))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)


def knee(runs: Sequence[Run], value: Callable[[Run], float]) -> float | None:
    """The first size to which it grew faster than n^1.2 from the one before, if any."""
    for one, other in pairwise(runs):
        step = growth([one, other], value)
        if step is not None and step > _STEEP:
            return other.size
    return None


def table(title: str, unit: str, steps: dict[str, list[Run]]) -> Iterator[str]:
    """One section: its title, a row for each step and size, and the growth of each step."""
    yield title
    if not steps:
        return
    yield f"| step | {unit} | seconds | processor s | peak MiB |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, runs in steps.items():
        for r in runs:
            mib = f"{r.mib:,.0f}" if r.mib else "not taken"
            yield f"| {name} | {r.size:,.0f} | {r.seconds:.1f} | {r.cpu:.1f} | {mib} |"
    yield ""
    yield "| step | processor time grows as | steeper than n^1.2 from | memory grows as |"
    yield "| --- | --- | --- | --- |"
    for name, runs in steps.items():
        steep = knee(runs, lambda run: run.cpu)
        said = "no size run" if steep is None else f"{steep:,.0f} {unit}"
        powers = (growth(runs, lambda run: run.cpu), growth(runs, lambda run: run.mib))
        time_, memory = ("one size run" if k is None else f"n^{k:.2f}" for k in powers)
        memory = memory if all(run.mib for run in runs) else "not taken"
        yield f"| {name} | {time_} | {said} | {memory} |"


def machine() -> Iterator[str]:
    """What it was measured on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield f"- {os.cpu_count()} × {cpu}, {memory:.0f} GiB, {platform.system()} {platform.release()}"
    known = []
    for name in _PACKAGES:
        with suppress(ImportError):
            known.append(f"{name} {version(name)}")
    yield f"- Python {platform.python_version()}, {', '.join(known)}"


def written(sections: Sequence[Iterator[str]], before: str = "") -> str:
    """The page; sections that were not run are those of the page before."""
    now = f"{datetime.now(UTC):%Y-%m-%d}"
    kept = {text.partition("\n")[0]: text for text in before.split("\n## ")[1:]}
    head = [
        "# How it grows\n",
        "Written by `python -m benchmarks.scale`; do not edit. How each figure is taken is said at",
        "the head of that file. Sizes that are not listed were not run.",
    ]
    page = "\n".join(head) + "\n"
    for section in sections:
        title, *lines = section
        run = ["", f"Run on {now}:\n", *machine(), "", *lines]
        text = "\n".join([title, *run]) if lines else kept.get(title, "").strip("\n")
        page += f"\n## {text}\n" if text else ""
    return page


def ratio(steps: dict[str, list[Run]]) -> Iterator[str]:
    """Flowpolicy's fold against plain SQL."""
    names = [name for name in steps if "DuckDB" in name]
    if not names:
        return
    yield "\nFlowpolicy's fold against the same counts in plain SQL:\n"
    for one, other in zip(*(steps[name] for name in names), strict=True):
        clock, cpu = one.seconds / other.seconds, one.cpu / other.cpu
        yield f"- {one.size:,.0f} flows: {clock:.2f} by the clock, {cpu:.2f} of processor time"


def gathered(
    sizes: Sequence[float], step: Callable[[float], dict[str, Run]]
) -> dict[str, list[Run]]:
    """The runs of each step, by size."""
    found: dict[str, list[Run]] = {}
    for size in sorted(sizes):
        for name, run in step(size).items():
            print(f"{name}: {run}", file=sys.stderr, flush=True)
            found.setdefault(name, []).append(run)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lines", type=float, nargs="*", default=LINES, help="in millions")
    parser.add_argument("--flows", type=float, nargs="*", default=FLOWS, help="in millions")
    parser.add_argument("--workloads", type=int, nargs="*", default=WORKLOADS)
    parser.add_argument("--memory", default="1GiB", help="of DuckDB")
    spark = "spark://HOST:PORT|MEMORY"
    parser.add_argument("--spark", metavar=spark, help="fold on this cluster, or one of 1g")
    parser.add_argument("--on-spark", type=float, nargs="*", default=FLOWS, help="in millions")
    parser.add_argument("--folder", type=Path, help="where stores are made; a temporary one")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=given.folder) as name,
        cluster_of(given.spark) as cluster,
    ):
        folder = Path(name)
        lines = gathered(given.lines, lambda size: ingest(folder, size))
        flows = gathered(given.flows, lambda size: folds(folder, size, given.memory))
        on_spark: dict[str, list[Run]] = {}
        if cluster:
            on_spark = gathered(given.on_spark, partial(folds_on_spark, folder, spark=cluster))
        clusters = gathered(given.workloads, lambda size: judged(folder, int(size)))
    sections = [
        table("Lines into a store", "lines", lines),
        chain(table("Flows into edges", "flows", flows), ratio(flows)),
        table("Flows into edges on Spark", "flows", on_spark),
        table("Edges into policies", "workloads", clusters),
    ]
    before = given.out.read_text() if given.out.exists() else ""
    given.out.write_text(written(sections, before))


if __name__ == "__main__":
    main()
