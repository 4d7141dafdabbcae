"""The sample data is what its generator makes, and its truth fits its logs and its inventory."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

Json = dict[str, Any]
Edge = tuple[str, str, str, int | None]

SAMPLES = Path(__file__).parent.parent / "data" / "samples"
LOGS = sorted(SAMPLES.glob("*/*.gz"))
GENERATED = [*LOGS, SAMPLES / "inventory.yaml", SAMPLES / "truth.json"]
GROUPS = ("wanted", "undecided", "no_rule_needed", "malicious")
CONTROLLERS = ("Deployment", "StatefulSet", "DaemonSet", "CronJob")


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    subprocess.run([sys.executable, SAMPLES / "generate.py", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def truth() -> Json:
    found: Json = json.loads((SAMPLES / "truth.json").read_text())
    return found


@pytest.fixture(scope="module")
def objects() -> list[Json]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    whole = yaml.load((SAMPLES / "inventory.yaml").read_text(), Loader=loader)
    items: list[Json] = whole["items"]
    return items


def content(path: Path) -> bytes:
    """A file's bytes; of a gzip file those inside, for zlib's output differs between builds."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def lines(path: Path) -> Iterator[Json]:
    return map(json.loads, content(path).splitlines())


def named(objects: list[Json], *kinds: str) -> dict[str, Json]:
    """Objects by `namespace/Kind/name`."""
    return {
        f"{one['metadata'].get('namespace')}/{one['kind']}/{one['metadata']['name']}": one
        for one in objects
        if one["kind"] in kinds
    }


def pod_edges(truth: Json) -> set[Edge]:
    """The edges of the truth that have pods at both ends."""
    edges = (edge for group in GROUPS for edge in truth[group] if "entity" not in edge)
    return {(e["client"], e["server"], e["protocol"], e["port"]) for e in edges}


def owner(namespace: str, pod: str, workloads: dict[str, Json]) -> str:
    """The workload with the longest name that begins the pod's."""
    fitting = [path for path in workloads if pod.startswith(path.split("/")[2] + "-")]
    return max((path for path in fitting if path.startswith(f"{namespace}/")), key=len)


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_generating_again_gives_the_same_bytes(path: Path, again: Path) -> None:
    made = again / path.relative_to(SAMPLES)

    assert content(made) == content(path)


def test_generating_makes_no_other_file(again: Path) -> None:
    made = {path.relative_to(again) for path in again.rglob("*") if path.is_file()}

    assert made == {path.relative_to(SAMPLES) for path in GENERATED}


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name)
def test_gzip_header_holds_no_clock_and_no_name(path: Path) -> None:
    flags_and_mtime = path.read_bytes()[3:8]

    assert flags_and_mtime == bytes(5)


def test_logs_stay_small() -> None:
    assert sum(path.stat().st_size for path in LOGS) < 3_000_000
    assert (SAMPLES / "inventory.yaml").stat().st_size < 200_000


def test_readme_counts_the_rows_of_every_log() -> None:
    readme = (SAMPLES / "README.md").read_text()
    told = dict(re.findall(r"^\| `([^`]+\.gz)` \| ([\d,]+) ", readme, flags=re.MULTILINE))

    assert told == {
        str(path.relative_to(SAMPLES)): f"{len(content(path).splitlines()):,}" for path in LOGS
    }


def test_every_hubble_line_holds_one_event() -> None:
    for path in SAMPLES.glob("hubble/*.gz"):
        for line in lines(path):
            assert len(line.keys() & {"flow", "lost_events"}) == 1
            assert line["node_name"] == f"shop-prod/{path.name.partition('.')[0]}"


def test_hubble_names_workloads_at_the_local_end_only() -> None:
    for path in SAMPLES.glob("hubble/*.gz"):
        for flow in (line["flow"] for line in lines(path) if "flow" in line):
            for end in (flow["source"], flow["destination"]):
                assert ("workloads" in end) == ("ID" in end)


def test_hubble_tells_the_edges_of_the_truth(truth: Json, objects: list[Json]) -> None:
    workloads = named(objects, *CONTROLLERS)
    told = set()
    for path in SAMPLES.glob("hubble/*.gz"):
        for flow in (line["flow"] for line in lines(path) if "flow" in line):
            ends = flow["source"], flow["destination"]
            if flow["Type"] == "SOCK" or "reply" in flow or not all("pod_name" in e for e in ends):
                continue
            client, server = (owner(e["namespace"], e["pod_name"], workloads) for e in ends)
            ((protocol, l4),) = flow["l4"].items()
            protocol = protocol.removesuffix("v4")
            told.add((client, server, protocol, l4.get("destination_port")))

    assert told == pod_edges(truth)


def test_calico_tells_the_edges_of_the_truth(truth: Json, objects: list[Json]) -> None:
    workloads = named(objects, *CONTROLLERS)
    told = set()
    for record in lines(SAMPLES / "calico" / "flows.log.gz"):
        if record["source_type"] == record["dest_type"] == "wep":
            client, server = (
                owner(record[f"{end}_namespace"], record[f"{end}_name_aggr"], workloads)
                for end in ("source", "dest")
            )
            told.add((client, server, record["proto"].upper(), record["dest_port"]))

    assert told == pod_edges(truth)


def test_truth_names_only_workloads_of_the_inventory(truth: Json, objects: list[Json]) -> None:
    ends = {end for edge in pod_edges(truth) for end in edge[:2]}

    assert ends <= named(objects, *CONTROLLERS).keys()


def test_wanted_servers_listen_on_their_ports(truth: Json, objects: list[Json]) -> None:
    workloads = named(objects, *CONTROLLERS)
    for edge in truth["wanted"]:
        if edge["server"] in workloads and edge["port"]:
            (container,) = workloads[edge["server"]]["spec"]["template"]["spec"]["containers"]
            ports = {(port["protocol"], port["containerPort"]) for port in container["ports"]}
            assert (edge["protocol"], edge["port"]) in ports


def test_policies_in_force_deny_nothing_that_is_wanted(truth: Json) -> None:
    assert {tuple(edge["outcomes"]) for edge in truth["wanted"]} == {("answered",)}


def test_no_edge_is_both_wanted_and_not(truth: Json) -> None:
    groups = [
        {(e["client"], e["server"], e["protocol"], e["port"]) for e in truth[group]}
        for group in GROUPS
    ]

    assert sum(map(len, groups)) == len(set().union(*groups))


def test_inventory_holds_the_policies_of_the_folder(truth: Json, objects: list[Json]) -> None:
    listed = named(objects, "NetworkPolicy").values()
    written = [yaml.safe_load(path.read_text()) for path in SAMPLES.glob("policies/*.yaml")]

    def spec(policy: Json) -> tuple[str, Json]:
        return f"{policy['metadata']['namespace']}/{policy['metadata']['name']}", policy["spec"]

    assert dict(map(spec, listed)) == dict(map(spec, written))
    assert dict(map(spec, written)).keys() == truth["policies"].keys()


def test_nightly_report_shows_on_every_day_and_weekly_settlement_on_two(truth: Json) -> None:
    days = {(edge["client"], edge["server"]): edge["days"] for edge in truth["wanted"]}

    assert days["data/CronJob/report", "data/StatefulSet/postgres"] == 8
    assert days["payments/Deployment/ledger", "payments/Deployment/gateway"] == 2


def test_scan_brings_few_answers_and_some_denials() -> None:
    start = 1_772_853_420  # 2026-03-07T03:17:00Z
    probes = [
        record
        for record in lines(SAMPLES / "calico" / "flows.log.gz")
        if start - 300 < record["start_time"] < start + 60
        and record["source_name_aggr"].startswith("catalog-")
        and record["reporter"] == "src"
        and record["num_flows"] == 1
    ]
    unanswered = [record for record in probes if record["packets_in"] == 0]

    assert len(probes) > 100
    assert len(unanswered) > 2 * len(probes) / 3
