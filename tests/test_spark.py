"""Spark beside DuckDB and the processes of this machine: the same edges, the same store.

On a standalone cluster with two workers, each of which may lose what it runs.
"""

import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from py4j.protocol import Py4JError
from spark_cluster import Cluster, has_java, spark_cluster

from ingest import sources
from ingest.errors import SourceError, SparkError
from ingest.hadoop import hadoop_sources
from ingest.load import load
from ingest.spark import _as_spark_error, _sentence, spark_session
from recommender.cli import group
from recommender.watch import watch

pytestmark = [
    pytest.mark.xdist_group("spark"),  # one cluster for all
    pytest.mark.skipif(not has_java(), reason="no Java here, which Spark needs"),
]
SAMPLES = Path(__file__).parents[1] / "data" / "samples"
INVENTORY = SAMPLES / "inventory.yaml"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with (
        spark_cluster(tmp_path_factory.mktemp("spark")) as found,
        pytest.MonkeyPatch.context() as m,
    ):
        m.setenv("SPARK_CONF_DIR", str(found.conf))
        m.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        yield found


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks of few lines; where they lie is for this process alone to say."""
    monkeypatch.setattr(sources, "BLOCK", 512 << 10)


@pytest.fixture
def plain(tmp_path: Path) -> str:
    """Logs that executors read themselves, one of them with lines that are not understood."""
    logs = tmp_path / "plain"
    logs.mkdir()
    for file in sorted((SAMPLES / "hubble").iterdir()):
        (logs / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    with (logs / "node-2.jsonl").open("ab") as log:
        log.write(b'{"flow": 1}\n{"flow"')
    return str(logs)


def files_of(store: Path) -> dict[str, bytes]:
    """Every file of a store but its locks, by its path; what is left aside counts."""
    return {
        str(file.relative_to(store)): file.read_bytes()
        for file in sorted(store.rglob("*"))
        if file.is_file() and file.suffix != ".lock" and file.name != "lock"
    }


@contextmanager
def meanwhile(store: Path, act: Callable[[], bool]) -> Iterator[None]:
    """Act once a block was read and not all of them, again until it says that it could."""
    is_over = threading.Event()

    def wait() -> None:
        while not is_over.wait(0.01):
            if list(store.glob("tmp/*/*")) and act():
                return

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def flowpolicy(*words: str) -> str:
    result = CliRunner().invoke(group, [*words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("format_", ["hubble", "calico"])
def test_edges_on_spark_are_those_of_duckdb_to_the_byte(
    format_: str, cluster: Cluster, tmp_path: Path
) -> None:
    store = tmp_path / "st[or]e"  # no glob, whatever Hadoop thinks
    load([str(SAMPLES / format_)], store, cluster="2026/07 %41")
    tables = []
    for engine in ("duckdb", cluster.url):
        file = tmp_path / "edges.parquet"
        words = ["edges", "--store", str(store), "--inventory", str(INVENTORY), "--engine", engine]
        flowpolicy(*words, "--hourly", "-o", "parquet", "--out", str(file))
        tables.append(file.read_bytes())
    assert tables[0] == tables[1]
    assert pq.read_metadata(file).num_rows > 4_000


def test_all_that_is_watched_on_spark_is_what_duckdb_shows(
    cluster: Cluster, tmp_path: Path
) -> None:
    load([str(SAMPLES / "hubble")], tmp_path / "store")
    ours, theirs = (watch(tmp_path / "store", engine=one) for one in ("duckdb", cluster.url))
    assert ours.hourly.equals(theirs.hourly)
    assert ours.edges.equals(theirs.edges)
    assert ours.inventory == theirs.inventory
    assert (ours.names, ours.asked, ours.mesh) == (theirs.names, theirs.asked, theirs.mesh)
    assert ours.known == theirs.known


def test_a_store_that_spark_fills_has_the_files_of_one_filled_here(
    cluster: Cluster, tmp_path: Path, small_blocks: None
) -> None:
    wanted, store = tmp_path / "wanted", tmp_path / "store"
    here = load([str(SAMPLES)], wanted)
    out = flowpolicy(
        "ingest", str(SAMPLES), "--store", str(store), "--engine", cluster.url, "-o", "json"
    )
    assert files_of(store) == files_of(wanted)
    told = json.loads(out)
    assert (told["lines"], told["flows"]) == (here.lines, here.flows)
    again = load([str(SAMPLES)], store, engine=cluster.url)
    assert files_of(store) == files_of(wanted)
    assert any("in the store already" in note for note in again.notes)


def test_logs_are_read_where_hadoop_reads_compressed_or_not(
    cluster: Cluster, tmp_path: Path, small_blocks: None
) -> None:
    logs, wanted, store = tmp_path / "logs", tmp_path / "wanted", tmp_path / "store"
    shutil.copytree(SAMPLES / "calico", logs / "calico")
    for number, file in enumerate(sorted((SAMPLES / "hubble").iterdir())):
        data = file.read_bytes()
        packed = logs / f"{number}.log.gz"
        packed.write_bytes(data if file.suffix == ".gz" else gzip.compress(data, 1))
    (logs / "README").write_text("no log\n")
    here = load([str(logs)], wanted)
    out = flowpolicy(
        "ingest", f"file://{logs}", "--store", str(store), "--engine", cluster.url, "-o", "json"
    )
    assert json.loads(out)["rejects"] == here.rejects
    for folder in ("flows", "blocks"):
        assert files_of(store / folder) == files_of(wanted / folder)
    with pytest.raises(SourceError, match="no such file, folder or glob"):
        load([f"file://{logs}/*.none"], store, engine=cluster.url)
    with pytest.raises(SourceError, match="nonsense"):
        load(["nonsense://host/logs"], store, engine=cluster.url)


def test_a_run_on_spark_writes_the_policies_of_a_run_here(cluster: Cluster, tmp_path: Path) -> None:
    written = []
    for engine in ("duckdb", cluster.url):
        folder = tmp_path / str(len(written))
        config = {
            "schema": "flowpolicy/run/1",
            "store": str(folder / "store"),
            "inventory": [str(INVENTORY)],
            "engine": engine,
            "ingest": {"sources": [str(SAMPLES / "hubble")]},
            "recommend": {"out": str(folder / "policies")},
        }
        (tmp_path / "run.json").write_text(json.dumps(config))
        flowpolicy("run", "--config", str(tmp_path / "run.json"))
        written.append(files_of(folder / "policies"))
    assert written[0] == written[1]


def test_what_workers_lack_is_said_in_one_sentence(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setenv("PYSPARK_PYTHON", str(bare))
    with pytest.raises(SparkError, match=r"worker says ModuleNotFoundError: No module named '\w+'"):
        load([str(SAMPLES / "calico")], tmp_path / "store", engine=cluster.url)


def test_an_executor_that_is_killed_in_mid_job_takes_and_adds_nothing(
    cluster: Cluster, tmp_path: Path, small_blocks: None, plain: str
) -> None:
    wanted, store = tmp_path / "wanted", tmp_path / "store"
    load([plain], wanted)
    killed: list[int] = []

    def kill() -> bool:
        killed.extend(cluster.executors()[:1])
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        return bool(killed)

    before = cluster.executors_ever()
    with meanwhile(store, kill):
        load([plain], store, engine=cluster.url)
    assert killed
    assert cluster.executors_ever() > before + 2  # another one came in its place
    assert files_of(store) == files_of(wanted)


def test_a_task_that_fails_or_runs_twice_puts_each_block_in_place_once(
    cluster: Cluster, tmp_path: Path, small_blocks: None, plain: str
) -> None:
    wanted, store = tmp_path / "wanted", tmp_path / "store"
    load([plain], wanted)
    hit: list[int] = []

    def stop_one_and_kill_another() -> bool:
        hit.extend(cluster.parsers() if len(cluster.parsers()) == 2 else [])
        for pid, number in zip(hit, (signal.SIGSTOP, signal.SIGKILL), strict=False):
            os.kill(pid, number)  # until its block is read elsewhere; so that it is tried again
        return bool(hit)

    try:
        with meanwhile(store, stop_one_and_kill_another):
            load([plain], store, engine=cluster.url)
    finally:
        for pid in hit[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert hit
    assert files_of(store) == files_of(wanted)


def test_a_session_that_is_open_already_stays_open_and_as_it_is(
    cluster: Cluster, tmp_path: Path
) -> None:
    from pyspark.sql import SparkSession

    store = tmp_path / "store"
    load([str(SAMPLES / "calico")], store)
    theirs = SparkSession.builder.master(cluster.url).getOrCreate()
    try:
        theirs.conf.set("spark.sql.session.timeZone", "Asia/Kolkata")
        assert len(watch(store, engine=cluster.url).edges) == len(watch(store).edges)
        assert SparkSession.active() is theirs
        assert theirs.range(3).count() == 3
        assert theirs.conf.get("spark.sql.session.timeZone") == "Asia/Kolkata"
        assert theirs.catalog.listTables() == []
        with pytest.raises(SparkError, match=r"a session on spark://\S+ open.*stop that session"):
            watch(store, engine="spark://127.0.0.1:1")
        assert theirs.range(3).count() == 3
    finally:
        theirs.stop()


@pytest.mark.parametrize("words", [["--engine", "sparky"], ["--engine", "spark://h:1", "--follow"]])
def test_an_engine_that_cannot_do_it_is_refused(words: list[str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    result = CliRunner().invoke(group, ["ingest", str(SAMPLES), "--store", str(store), *words])
    assert result.exit_code == 2
    assert "spark://" in result.output
    assert not store.exists()


def test_a_master_that_does_not_answer_is_said_at_once(tmp_path: Path) -> None:
    for place in ("127.0.0.1:1", "[::1]:1,127.0.0.1:1", "nobody"):
        with pytest.raises(SparkError, match=f"{re.escape(place)}: no master of Spark answers"):
            load([str(SAMPLES)], tmp_path / "store", engine=f"spark://{place}")


def test_a_port_that_is_no_masters_is_said_in_one_sentence() -> None:
    # What comes of it after a minute of Spark's own attempts.
    trace = "Cannot call methods on a stopped SparkContext.\n\tat org.apache.spark.SparkContext"
    said = r"^spark://h:8080: .*not that of its web page"
    with pytest.raises(SparkError, match=said) as found, _as_spark_error("spark://h:8080"):
        raise Py4JError(f"java.lang.IllegalStateException: {trace}")
    assert "\n" not in str(found.value)


def test_where_hadoop_cannot_read_one_sentence_says_so(tmp_path: Path) -> None:
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[1]").getOrCreate()
    (tmp_path / "notes.txt").write_text("no log\n")
    try:
        for name in ("foo://host/x", "hdfs:///x", "file:///["):
            with pytest.raises(SourceError, match=r"can't read there \(.+\); check the name") as no:
                hadoop_sources(name, session)
            assert str(no.value).startswith(name)
            assert "\n" not in str(no.value)
        _, notes = hadoop_sources(f"file://{tmp_path}", session)
        assert notes == [f"file://{tmp_path}: 1 file looks like no flow log and was left out."]
    finally:
        session.stop()


def test_without_java_or_pyspark_one_sentence_says_what_is_missing(tmp_path: Path) -> None:
    code = "from recommender.cli import main; main()"
    without_pyspark = f"import sys; sys.modules['pyspark'] = None; {code}"
    without_java = {"PATH": "/usr/bin:/bin", "JAVA_HOME": str(tmp_path)}
    load([str(SAMPLES / "calico")], tmp_path / "store")
    with socket.create_server(("127.0.0.1", 0)) as master:
        url = f"spark://127.0.0.1:{master.getsockname()[1]}"
        for said, program, env in (
            ("pip install 'flowpolicy[spark]'", without_pyspark, None),
            ("needs Java 17 or 21", code, without_java),
        ):
            words = ["edges", "--store", str(tmp_path / "store"), "--engine", url]
            done = subprocess.run(
                [sys.executable, "-c", program, *words],
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 1
            assert said in done.stderr.splitlines()[-1]


def test_an_error_is_told_by_its_first_cause() -> None:
    class CapturedError(Exception):
        def __init__(self, text: str, cause: Exception | None = None) -> None:
            super().__init__(text)
            self._cause = cause

    missing = CapturedError("java.io.FileNotFoundException: /s/x.parquet\n\tat x.y(z)")
    error = CapturedError(
        "org.apache.spark.SparkException: Exception thrown in awaitResult:", missing
    )
    assert _sentence(error) == "java.io.FileNotFoundException: /s/x.parquet"


_AWAITED = "org.apache.spark.SparkException: Exception thrown in awaitResult: \n\tat x.y(z)"
_ABORTED = "org.apache.spark.SparkException: Job aborted due to stage failure: "


_LOST_TASK = (
    "Task 0 in stage 0.0 failed 4 times, most recent failure: Lost task 0.3 in stage 0.0 (TID 3) "
    "(127.0.0.2 executor 2): java.lang.OutOfMemoryError: Java heap space"
)
_LOST_FILE = (
    "ShuffleMapStage 31 has failed the maximum allowable number of times: 4. Most recent failure "
    "reason: org.apache.spark.shuffle.MetadataFetchFailedException: Missing an output location for "
    "shuffle 6 partition 0"
)
_TOO_LARGE = (
    "Total size of serialized results of 1 tasks (7.7 MiB) is bigger than "
    "spark.driver.maxResultSize (1024.0 KiB)"
)


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (_LOST_TASK, "raise spark.executor.memory"),
        (_LOST_FILE, "raise spark.executor.memory"),
        (_TOO_LARGE, "bigger than spark.driver.maxResultSize"),
    ],
)
def test_where_memory_was_short_the_setting_is_named(cause: str, said: str) -> None:
    error = Py4JError(f"{_AWAITED}\nCaused by: {_ABORTED}{cause}\n\tat x.y(z)")
    assert said in _sentence(error)
    assert "\n" not in _sentence(error)
    assert "raise spark.driver.memory" in _sentence(
        Py4JError("java.lang.OutOfMemoryError: Java heap space\n\tat x.y(z)")
    )


def test_more_edges_than_an_executor_holds_unpacked_come_from_the_cluster(
    cluster: Cluster, tmp_path: Path
) -> None:
    # 700 MB unpacked, of an executor of 512 MB.
    with spark_session(cluster.url) as session:
        rows = session.range(0, 600_000, 1, 1).selectExpr("repeat(string(id), 200) AS text")
        assert rows.toArrow().num_rows == 600_000
