"""Times `ingest.load` against DuckDB and hubble-audit2policy on the same synthetic Hubble log.

    python -m benchmarks.ingest [--lines 300000] [--workers 2] [--repeat 3]
    python -m benchmarks.ingest --flat [--gigabytes 0.1 1 4]

The log is made from a seed: pods with the labels, node labels, both observation points and replies
of a Cilium 1.19 exporter file, about 2 KB a line; a second one has 1 % of its lines torn. DuckDB
reads the columns that flowpolicy needs with `read_json` and writes them as zstd Parquet: it turns
no reply around, keeps no reject, and one torn line ends its read. hubble-audit2policy reads the log
into counts of distinct flows. All take turns in one run. `--flat` reads logs of growing size with
`flowpolicy ingest` alone. Peak memory is that of all its processes at one moment, with what they
share counted once. The figures are for a person to read: no test asserts on time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from ingest.load import load
from ingest.store import open_store

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
NODE_LABELS = [
    "beta.kubernetes.io/arch=amd64",
    "beta.kubernetes.io/instance-type=m6i.2xlarge",
    "beta.kubernetes.io/os=linux",
    "eks.amazonaws.com/nodegroup=general-purpose",
    "failure-domain.beta.kubernetes.io/region=eu-central-1",
    "failure-domain.beta.kubernetes.io/zone=eu-central-1a",
    "kubernetes.io/arch=amd64",
    "kubernetes.io/os=linux",
    "node.kubernetes.io/instance-type=m6i.2xlarge",
    "topology.k8s.aws/zone-id=euc1-az2",
    "topology.kubernetes.io/region=eu-central-1",
    "topology.kubernetes.io/zone=eu-central-1a",
]
RIVAL = """
COPY (
  SELECT flow.time AS time, flow.verdict AS verdict, flow.drop_reason_desc AS drop_reason,
         flow.event_type.type AS event, flow.trace_observation_point AS observation,
         flow.is_reply AS is_reply, flow.traffic_direction AS direction, node_name AS node,
         flow.IP.source AS src_ip, flow.IP.destination AS dst_ip,
         flow.l4.TCP.source_port AS src_port, flow.l4.TCP.destination_port AS dst_port,
         flow.l4.UDP.source_port AS src_port_udp, flow.l4.UDP.destination_port AS dst_port_udp,
         flow.source AS source, flow.destination AS destination
  FROM read_json('{log}', format='newline_delimited', columns={{
    flow: 'STRUCT("time" TIMESTAMP, verdict VARCHAR, drop_reason_desc VARCHAR,
      event_type STRUCT("type" INTEGER), trace_observation_point VARCHAR, is_reply BOOLEAN,
      traffic_direction VARCHAR, IP STRUCT(source VARCHAR, destination VARCHAR),
      l4 STRUCT(TCP STRUCT(source_port INTEGER, destination_port INTEGER, flags STRUCT(SYN BOOLEAN,
        ACK BOOLEAN, RST BOOLEAN)), UDP STRUCT(source_port INTEGER, destination_port INTEGER)),
      source STRUCT(ID BIGINT, identity BIGINT, namespace VARCHAR, pod_name VARCHAR,
        labels VARCHAR[], workloads STRUCT(name VARCHAR, kind VARCHAR)[]),
      destination STRUCT(ID BIGINT, identity BIGINT, namespace VARCHAR, pod_name VARCHAR,
        labels VARCHAR[], workloads STRUCT(name VARCHAR, kind VARCHAR)[]))',
    node_name: 'VARCHAR', "time": 'TIMESTAMP'}})
) TO '{out}' (FORMAT parquet, COMPRESSION zstd)
"""


def pods(chance: random.Random) -> list[dict[str, Any]]:
    """Pods of 8 namespaces × 8 workloads × 3 replicas over 6 nodes, with what Hubble says of each."""  # noqa: E501
    made = []
    for number in range(8 * 8 * 3):
        namespace, app = f"team-{number // 24}", f"service-{number // 3 % 8}"
        suffix = "".join(chance.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
        made.append(
            {
                "ip": f"10.0.{number // 250}.{number % 250 + 1}",
                "node": number % 6,
                "port": 8000 + number // 3 % 8,
                "end": {
                    "ID": 100 + number,
                    "identity": 30000 + number // 3,
                    "cluster_name": "prod",
                    "namespace": namespace,
                    "labels": [
                        f"k8s:app.kubernetes.io/component={app}",
                        f"k8s:app.kubernetes.io/instance={namespace}",
                        f"k8s:app.kubernetes.io/name={app}",
                        f"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={namespace}",
                        "k8s:io.cilium.k8s.policy.cluster=prod",
                        f"k8s:io.cilium.k8s.policy.serviceaccount={app}",
                        f"k8s:io.kubernetes.pod.namespace={namespace}",
                    ],
                    "pod_name": f"{app}-7f9c6d5b8-{suffix}",
                    "workloads": [{"name": app, "kind": "Deployment"}],
                },
            }
        )
    return made


def _seen_from(end: dict[str, Any], *, local: bool) -> dict[str, Any]:
    return end if local else {k: v for k, v in end.items() if k not in ("ID", "workloads")}


def line(chance: random.Random, everyone: list[dict[str, Any]], number: int) -> str:
    """One line: a trace at either end, request or reply, now and then DNS or a denied SYN."""
    client, server = chance.sample(everyone, 2)
    reply, at_client, denied = chance.random() < 0.45, chance.random() < 0.5, number % 200 == 0
    source, target = (server, client) if reply else (client, server)
    here = client if at_client else server
    ports = (chance.randrange(32768, 61000), server["port"])
    ports = ports[::-1] if reply else ports
    protocol = "UDP" if number % 9 == 0 else "TCP"
    when = f"{START + timedelta(microseconds=number * 911):%Y-%m-%dT%H:%M:%S.%f}123Z"
    node = f"prod/ip-10-1-0-{here['node']}.eu-central-1.compute.internal"
    inbound = here is target
    flow: dict[str, Any] = {
        "time": when,
        "uuid": f"{chance.getrandbits(128):032x}",
        "emitter": {"name": "Hubble", "version": "1.19.4+gd0d0c879"},
        "verdict": "DROPPED" if denied else "FORWARDED",
        "ethernet": {"source": "9a:4b:92:54:a9:62", "destination": "72:59:04:fd:68:13"},
        "IP": {"source": source["ip"], "destination": target["ip"], "ipVersion": "IPv4"},
        "l4": {protocol: {"source_port": ports[0], "destination_port": ports[1]}},
        "source": _seen_from(source["end"], local=source["node"] == here["node"]),
        "destination": _seen_from(target["end"], local=target["node"] == here["node"]),
        "Type": "L3_L4",
        "node_name": node,
        "node_labels": [*NODE_LABELS, f"kubernetes.io/hostname={node[5:]}"],
        "event_type": {"type": 1, "sub_type": 133} if denied else {"type": 4},
        "traffic_direction": "EGRESS" if at_client else "INGRESS",
        "interface": {"index": 6, "name": f"lxc{here['end']['ID']:012x}"},
        "Summary": "TCP Flags: ACK, PSH",
    }
    if protocol == "TCP":
        flow["l4"]["TCP"]["flags"] = {"SYN": True} if denied else {"PSH": True, "ACK": True}
    if denied:
        flow |= {"drop_reason": 133, "drop_reason_desc": "POLICY_DENIED"}
    else:
        point = "TO_ENDPOINT" if inbound else "TO_OVERLAY"
        reason = "REPLY" if reply else "ESTABLISHED"
        flow |= {"trace_observation_point": point, "trace_reason": reason, "is_reply": reply}
    return json.dumps({"flow": flow, "node_name": node, "time": when}, separators=(",", ":"))


def write_log(path: Path, lines: int, bad: float, seed: int) -> None:
    """A log of `lines` lines, of which the share `bad` is cut off in the middle."""
    chance = random.Random(seed)
    everyone = pods(chance)
    with path.open("w") as file:
        for number in range(lines):
            text = line(chance, everyone, number)
            file.write((text[:500] if chance.random() < bad else text) + "\n")


def tree(process: str) -> Iterator[str]:
    """The numbers of a process and of all below it; Linux alone tells them."""
    yield process
    for children in Path("/proc", process, "task").glob("*/children"):
        below = ""
        with suppress(OSError):  # a thread that has just ended, as a JVM's do
            below = children.read_text()
        for child in below.split():
            yield from tree(child)


def memory_mib(process: str) -> float:
    """Memory of a process now, with its share of what others have as well."""
    said = Path("/proc", process, "smaps_rollup").read_text()
    return int(said.partition("Pss:")[2].split()[0]) / 1024


def _peak_mib(log: Path, store: Path, workers: int | None) -> float:
    """Peak memory of `flowpolicy ingest` and its worker processes, looked at 20 times a second."""
    command = [sys.executable, "-m", "recommender.cli", "ingest", str(log), "--store", str(store)]
    command += [] if workers is None else ["--workers", str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        with suppress(OSError, ValueError, IndexError):  # one that has just ended
            peak = max(peak, sum(map(memory_mib, tree(str(process.pid)))))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: failed")
    return peak


def _ours(log: Path, store: Path, workers: int | None) -> None:
    shutil.rmtree(store, ignore_errors=True)
    load([str(log)], store, workers=workers)


def _duckdb(log: Path, out: Path) -> None:
    import duckdb  # not at the top: worker processes of ours would import it too

    duckdb.sql("SET enable_progress_bar = false")
    duckdb.sql(RIVAL.format(log=log, out=out))


def _peer(log: Path, out: Path) -> None:
    command = [Path(sys.executable).with_name("hubble-audit2policy"), "--no-enrich", "-o", out, log]
    subprocess.run(command, check=True, capture_output=True)


def _compiled() -> None:
    """Start anew where Python may not keep what it compiles.

    Worker processes are then timed as they are where packages were installed the usual way.
    """
    if sys.flags.dont_write_bytecode:
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        kept["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "flowpolicy-bench-compiled")
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.ingest", *sys.argv[1:]], kept)


def _write_long_log(path: Path, part: bytes, copies: int) -> None:
    """A log of so many copies of a part of it, each an hour later."""
    with path.open("wb") as file:
        for number in range(copies):
            when = f"{START + timedelta(hours=number):%Y-%m-%dT%H:}"
            file.write(part.replace(f"{START:%Y-%m-%dT%H:}".encode(), when.encode()))


def _flat(gigabytes: Sequence[float], workers: int | None) -> None:
    """Print what logs of these sizes take."""
    with tempfile.TemporaryDirectory() as name:
        log, store = Path(name, "events.log"), Path(name, "store")
        write_log(log, 45_000, 0.0, seed=7)
        part = log.read_bytes()
        for size in gigabytes:
            _write_long_log(log, part, max(1, round(size * 1e9 / len(part))))
            shutil.rmtree(store, ignore_errors=True)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            began = time.perf_counter()
            peak = _peak_mib(log, store, workers)
            seconds = time.perf_counter() - began
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            read = log.stat().st_size / 1e9
            print(f"{read:6.2f} GB: {seconds:7.2f} s, {busy / read:5.2f} s of processor time a GB, "
                  f"peak {peak:,.0f} MiB", flush=True)  # fmt: skip


def main() -> None:
    """Make the logs, read them with all, print the figures."""
    _compiled()
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=300_000)
    options.add_argument("--workers", type=int, default=None)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--flat", action="store_true")
    options.add_argument("--gigabytes", type=float, nargs="+", default=[0.1, 1, 4])
    given = options.parse_args()
    if given.flat:
        _flat(given.gigabytes, given.workers)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, torn, store = folder / "events.log", folder / "torn.log", folder / "store"
        write_log(log, given.lines, 0.0, seed=7)
        write_log(torn, given.lines, 0.01, seed=7)
        runs = {
            "flowpolicy": lambda: _ours(log, store, given.workers),
            "flowpolicy, 1 % torn": lambda: _ours(torn, folder / "torn", given.workers),
            "DuckDB": lambda: _duckdb(log, folder / "rival.parquet"),
        }
        seconds: dict[str, list[float]] = {}
        for _ in range(given.repeat):
            for who, run in runs.items():
                began = time.perf_counter()
                run()
                seconds.setdefault(who, []).append(time.perf_counter() - began)
        peak = _peak_mib(log, folder / "looked-at", given.workers)
        began = time.perf_counter()
        _peer(log, folder / "policies")
        seconds["hubble-audit2policy"] = [time.perf_counter() - began]
        flows = open_store(store)
        count = flows.flows().count_rows()
        parquet = sum(file.stat().st_size for file in flows.files)
        print(f"{given.lines:,} lines, {log.stat().st_size / 2**20:,.0f} MiB, {count:,} flows")
        best = {who: min(times) for who, times in seconds.items()}
        for who, times in seconds.items():
            print(f"{who:22} {median(times):6.2f} s median, {best[who]:6.2f} s best, "
                  f"{given.lines / best[who]:9,.0f} lines/s, "
                  f"ratio to DuckDB {best[who] / best['DuckDB']:5.2f}")  # fmt: skip
        print(f"1 % torn lines cost {best['flowpolicy, 1 % torn'] / best['flowpolicy']:.2f} times")
        rival = (folder / "rival.parquet").stat().st_size / given.lines
        print(f"{parquet / count:.1f} bytes of Parquet a flow; DuckDB {rival:.1f}")
        print(f"peak memory of flowpolicy and its worker processes: {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
