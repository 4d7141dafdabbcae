"""A standalone cluster of Apache Spark on loopback: a master and two workers, as a site has them."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Two hosts by their addresses: Spark runs the second copy of a slow task on another host only.
HOSTS = ("127.0.0.2", "127.0.0.3")
_SECONDS = 300  # a machine that does much else starts a JVM slowly
# What a site says in its own spark-defaults.conf.
_DEFAULTS = """
spark.driver.host 127.0.0.1
spark.driver.bindAddress 127.0.0.1
spark.driver.memory {memory}
spark.executor.memory {memory}
spark.sql.shuffle.partitions 2
spark.ui.enabled false
spark.speculation true
spark.speculation.interval 100ms
spark.speculation.quantile 0.5
spark.speculation.minTaskRuntime 1s
"""
_QUIET = """
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %p %c{1}: %m%n
"""


@dataclass(frozen=True)
class Cluster:
    """`conf` is what SPARK_CONF_DIR is to be; `work` holds a folder for each executor there was."""

    url: str
    conf: Path
    work: Path
    pids: tuple[int, ...]

    def executors(self) -> list[int]:
        """The processes of the executors that run now."""
        return [pid for worker in self.pids for pid in _children(worker) if _is_executor(pid)]

    def parsers(self) -> list[int]:
        """One process of Python for each executor that works in one."""
        daemons = (_children(executor) for executor in self.executors())
        return [
            pids[0] for each in daemons if (pids := [p for one in each for p in _children(one)])
        ]

    def executors_ever(self) -> int:
        """How many there were, by the folders that they left."""
        return len(list(self.work.glob("*/app-*/*")))


def has_java() -> bool:
    return shutil.which("java") is not None or "JAVA_HOME" in os.environ


@contextmanager
def spark_cluster(folder: Path, memory: str = "512m") -> Iterator[Cluster]:
    """The cluster while the block runs; `memory` is that of each executor and of the driver."""
    import pyspark

    conf = folder / "conf"
    conf.mkdir()
    (conf / "spark-defaults.conf").write_text(_DEFAULTS.format(memory=memory))
    (conf / "log4j2.properties").write_text(_QUIET)
    home = Path(pyspark.__file__).parent
    env = {**os.environ, "SPARK_HOME": str(home), "SPARK_DAEMON_MEMORY": "256m"}
    started: list[subprocess.Popen[bytes]] = []

    def start(role: str, host: str, *words: str) -> Path:
        log = folder / f"{role}-{host}.log"
        main = f"org.apache.spark.deploy.{role}.{role.title()}"
        command = [home / "bin" / "spark-class", main, "--host", host, "--webui-port", "0", *words]
        with log.open("wb") as file:
            started.append(
                subprocess.Popen(
                    command,
                    env={**env, "SPARK_LOCAL_IP": host},
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            )
        return log

    port = _free_port()
    url = f"spark://127.0.0.1:{port}"
    try:
        log = start("master", "127.0.0.1", "--port", str(port))
        _wait(log, "I have been elected leader")
        for host in HOSTS:
            work = str(folder / f"worker-{host}")
            start("worker", host, "--cores", "1", "--memory", memory, "--work-dir", work, url)
        _wait(log, "Registering worker", len(HOSTS))
        yield Cluster(url, conf, folder, tuple(one.pid for one in started[1:]))
    finally:
        for one in reversed(started):
            one.terminate()
        for one in started:
            try:
                one.wait(60)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def _wait(log: Path, text: str, times: int = 1) -> None:
    end = time.monotonic() + _SECONDS
    while log.read_text().count(text) < times:
        assert time.monotonic() < end, f"{log}: {log.read_text()[-2000:]}"
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children")
        tasks = found.parent.parent.glob("*/children")
        return [int(one) for task in tasks for one in task.read_text().split()]
    except OSError:
        return []


def _is_executor(pid: int) -> bool:
    try:
        return b"CoarseGrainedExecutorBackend" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
