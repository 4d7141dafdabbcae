"""Logs and stores in an object store, which moto's server plays on loopback."""

import gzip
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from moto.server import ThreadedMotoServer
from numbered_flows import lines, numbers

import ingest.buckets
import ingest.places
import ingest.sources
import ingest.workers
from ingest.buckets import Bucket
from ingest.compact import compact
from ingest.errors import SourceError, StoreError
from ingest.load import load
from ingest.places import filesystem, place, put
from ingest.store import create_store, open_store
from recommender.cli import group
from recommender.watch import watch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://127.0.0.1:{1}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    name = f"b{abs(hash(request.node.name))}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


def upload(bucket: str, key: str, data: bytes) -> None:
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=data)


def keys(bucket: str) -> set[str]:
    found = boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    return {item["Key"] for item in found}


def test_objects_folders_and_globs_are_read_like_files(bucket: str, tmp_path: Path) -> None:
    upload(bucket, "logs/n1/events.log", lines(0, 1))
    upload(bucket, "logs/n1/events-1.log.gz", gzip.compress(lines(2, 3)))
    upload(bucket, "logs/n2/events.log", lines(4))
    upload(bucket, "logs/n2/readme.txt", b"nothing of interest\n")
    found = load([f"s3://{bucket}/logs/n1/events.log"], tmp_path / "one")
    assert numbers(tmp_path / "one") == [0, 1]
    assert found.files == 1
    load([f"s3://{bucket}/logs/*/events*"], tmp_path / "glob")
    assert numbers(tmp_path / "glob") == [0, 1, 2, 3, 4]
    found = load([f"s3://{bucket}/logs/"], tmp_path / "folder")
    assert numbers(tmp_path / "folder") == [0, 1, 2, 3, 4]
    assert any("1 object looks like no flow log" in note for note in found.notes)
    load([f"s3://{bucket}/logs"], tmp_path / "folder")
    assert numbers(tmp_path / "folder") == [0, 1, 2, 3, 4]


def test_a_store_in_a_bucket_gives_the_same_answers_as_one_on_disk(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.sources, "BLOCK", 2_000)
    log, remote = tmp_path / "a.log", f"s3://{bucket}/deep/store"
    for size in (3, 20, 21):
        log.write_bytes(b"{bad\n" + lines(*range(size)))
        for store in (remote, tmp_path / "s"):
            load([str(log)], store, workers=1)
    assert numbers(remote) == numbers(tmp_path / "s") == list(range(21))
    here, there = open_store(tmp_path / "s"), open_store(remote)
    assert there.rejects().equals(here.rejects())
    assert there.sources() == here.sources()
    assert (there.clusters, there.days) == (here.clusters, here.days)
    asked = ["edges", "--store"]
    answers = [CliRunner().invoke(group, [*asked, str(store)]) for store in (remote, here.path)]
    assert answers[0].output == answers[1].output
    assert answers[0].exit_code == 0
    before = len(there.files)
    compact(create_store(remote), today=date(2026, 3, 20))
    assert len(there.files) < before
    assert CliRunner().invoke(group, [*asked, remote]).output == answers[0].output
    log.write_bytes(b"{bad\n" + lines(*range(40)))
    load([str(log)], remote, workers=1)
    assert numbers(remote) == list(range(40))
    assert not [key for key in keys(bucket) if "/tmp/" in key], "nothing is written aside"


def test_a_cluster_with_a_name_of_numbers_or_slashes_is_read_from_a_bucket(bucket: str) -> None:
    upload(bucket, "a.log", lines(0))
    for name in ("2026", "a/b", "it's"):
        store = f"s3://{bucket}/s-{len(name)}"
        load([f"s3://{bucket}/a.log"], store, cluster=name)
        assert watch(store, cluster=name).cluster == name


def test_worker_processes_write_to_a_bucket(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.workers, "POOL_FROM", 10_000)
    monkeypatch.setattr(ingest.sources, "BLOCK", 4_000)
    log = tmp_path / "a.log"
    log.write_bytes(lines(*range(150)))
    load([str(log)], f"s3://{bucket}/s", workers=2)
    assert numbers(f"s3://{bucket}/s") == list(range(150))


def test_whoever_reads_while_objects_are_written_sees_whole_ones(bucket: str) -> None:
    store = create_store(f"s3://{bucket}/s")
    stop = threading.Event()
    (path,) = store.files
    whole = path.read_bytes()

    def write() -> None:
        while not stop.is_set():
            put(path, whole)

    writer = threading.Thread(target=write)
    writer.start()
    seen = {path.read_bytes() for _ in range(100)}
    stop.set()
    writer.join()
    assert seen == {whole}


RUN = """
import sys
import ingest.sources
ingest.sources.BLOCK = 4_000
from ingest.load import load
load([sys.argv[1]], sys.argv[2], workers=1)
"""


def test_a_run_killed_at_any_moment_is_completed_by_the_next(bucket: str, tmp_path: Path) -> None:
    log, store = tmp_path / "a.log", f"s3://{bucket}/s"
    log.write_bytes(lines(*range(600)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", RUN, str(log), store]
    for pause in (0.2, 0.5, 0.35):
        run = subprocess.Popen(words, env=environment)
        before = len(keys(bucket))
        end = time.monotonic() + 60
        while len(keys(bucket)) < before + 3 and run.poll() is None:
            assert time.monotonic() < end
        time.sleep(pause)
        run.kill()
        run.wait()
        for key in keys(bucket):
            if key.endswith(".parquet"):
                pq.read_table(place(f"s3://{bucket}/{key}", StoreError).open("rb"))
    subprocess.run(words, env=environment, check=True)
    assert numbers(store) == list(range(600))


def gone(_name: str) -> None:
    raise SourceError("s3://x: can't be reached.")


def test_new_and_replaced_objects_are_followed_and_known_after_a_restart(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create_store(tmp_path / "s")
    name = f"s3://{bucket}/logs/*.log"

    def look(watched: Bucket) -> int:
        sources = watched.changed()
        if sources:
            load(sources, store)
            watched.settle([0] * len(sources))
        return len(sources)

    upload(bucket, "logs/a.log", lines(0, 1))
    watched = Bucket(name, store, None)
    assert look(watched) == 1
    assert look(watched) == 0
    upload(bucket, "logs/b.log", lines(5))
    upload(bucket, "logs/a.log", lines(0, 1, 2))
    assert look(watched) == 2
    assert look(Bucket(name, store, None)) == 0
    assert numbers(tmp_path / "s") == [0, 1, 2, 5]
    with monkeypatch.context() as patched:
        patched.setattr(ingest.buckets, "objects", gone)
        assert look(watched) == 0
    assert watched.notes == ["s3://x: can't be reached."]
    with pytest.raises(SourceError, match="no such object"):
        look(Bucket(f"s3://{bucket}/none/", store, None))


def test_what_is_wrong_is_said_in_one_sentence(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match="no such object"):
        load([f"s3://{bucket}/none/"], tmp_path / "s")
    with pytest.raises(SourceError, match=r"can't be reached|no such object"):
        load(["s3://no-such-bucket-at-all/x.log"], tmp_path / "s")
    with pytest.raises(StoreError, match="no such store"):
        open_store(f"s3://{bucket}/none")
    upload(bucket, "mine/notes.txt", b"x")
    with pytest.raises(StoreError, match="holds other files"):
        create_store(f"s3://{bucket}/mine")
    with pytest.raises(StoreError, match="can't be reached"):
        create_store("s3://no-such-bucket-at-all/store")
    with pytest.raises(StoreError, match="not a place"):
        create_store("ftp://host/store")
    with pytest.raises(SourceError, match="not a place"):
        load(["simplecache::s3://b/x", "http://host/x"], tmp_path / "s")
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(StoreError, match=r"flowpolicy\[gs\]"):
        create_store("gs://bucket/store")


@pytest.mark.parametrize("scheme", ["gs", "gcs", "az", "abfs", "s3"])
def test_every_scheme_has_its_filesystem(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ANON", "true")
    monkeypatch.setenv("GCSFS_DEFAULT_PROJECT", "p")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    found = place(f"{scheme}://bucket/store", StoreError)
    files = filesystem(found / "flows")
    assert files is not None
    assert not files.dircache.use_listings_cache
    assert scheme in ingest.places.SCHEMES
