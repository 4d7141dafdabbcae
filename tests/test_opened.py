"""What `recommend` opens beyond what was seen: only where asked or tested, counted and listed."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from recommender.cli import group

START = datetime(2026, 3, 2, tzinfo=UTC)
PASSIVE = (40_003, 40_011, 40_018, 40_027, 40_034, 40_040, 40_049, 40_058, 40_066, 40_071)
ADDRESSES = tuple(f"203.0.113.{n}" for n in (0, 1, 2, 4, 5, 6, 7))
OUTSIDE = {"identity": 2, "labels": ["reserved:world"]}


def pod(name: str, identity: int) -> dict[str, Any]:
    return {
        "ID": identity, "identity": 1000 + identity, "namespace": "shop", "pod_name": f"{name}-0",
        "cluster_name": "c", "labels": [f"k8s:app={name}"],
        "workloads": [{"kind": "StatefulSet", "name": name}],
    }  # fmt: skip


WEB, FTP = pod("web", 11), pod("ftp", 12)


def workload(name: str, port: int) -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": name, "ports": [{"containerPort": port}]}
    return {
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }  # fmt: skip


def line(hour: int, source: Any, target: Any, ips: tuple[str, str], ports: tuple[int, int]) -> str:
    time = f"{START + timedelta(hours=hour):%Y-%m-%dT%H:%M:%SZ}"
    flow = {
        "time": time, "verdict": "FORWARDED", "Type": "L3_L4", "is_reply": False,
        "IP": {"source": ips[0], "destination": ips[1], "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": ports[0], "destination_port": ports[1],
                       "flags": {"ACK": True}}},
        "source": source, "destination": target, "node_name": "c/one",
        "event_type": {"type": 4}, "trace_observation_point": "TO_ENDPOINT",
        "trace_reason": "ESTABLISHED", "traffic_direction": "INGRESS",
    }  # fmt: skip
    return json.dumps({"flow": flow, "node_name": "c/one", "time": time})


def recommended(path: Path, *options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    lines = [line(h, WEB, FTP, ("10.0.0.1", "10.0.0.2"), (50_000 + h, 21)) for h in range(200)]
    lines += [
        line(7 * i, WEB, FTP, ("10.0.0.1", "10.0.0.2"), (55_000 + i, port))
        for i, port in enumerate(PASSIVE)
    ]
    lines += [
        line(h, WEB, OUTSIDE, ("10.0.0.1", at), (45_000 + h, 443))
        for at in ADDRESSES
        for h in range(200)
    ]
    # Late answers of 21 that the network took for new connections.
    lines += [
        line(h, FTP, WEB, ("10.0.0.2", "10.0.0.1"), (21, 50_000 + h)) for h in range(3, 60, 19)
    ]
    (path / "flows.log").write_text("\n".join(lines) + "\n")

    def run(*args: object) -> None:
        result = CliRunner().invoke(group, [str(arg) for arg in args], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    run("ingest", path / "flows.log", "--store", path / "store")
    (path / "objects.yaml").write_text(
        yaml.safe_dump_all([workload("ftp", 21), workload("web", 80)])
    )
    inventory = ("--inventory", path / "objects.yaml")
    run("recommend", "--store", path / "store", *inventory, "--out", path / "out", *options)
    told = json.loads((path / "out/recommendation.json").read_text())
    return told, yaml.safe_load((path / "out/shop/web.yaml").read_text())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    return recommended(tmp_path_factory.mktemp("plain"))


def blocks(policy: dict[str, Any]) -> list[str]:
    peers = [peer for rule in policy["spec"]["egress"] for peer in rule["to"]]
    return [peer["ipBlock"]["cidr"] for peer in peers if "ipBlock" in peer]


def test_passive_ports_become_a_range_with_its_evidence(plain: Any) -> None:
    told, policy = plain
    ports = [port for rule in policy["spec"]["egress"] for port in rule["ports"]]
    assert {"protocol": "TCP", "port": 40_003, "endPort": 40_071} in ports
    opened = [o for p in told["policies"] for rule in p["rules"] for o in rule["opened"]]
    why = "given out anew for each connection; pin the port if you can"
    assert set(opened) == {f"TCP 40003-40071 of shop/ftp: 10 of 69 ports were seen, {why}"}
    why = "the server gives out its ports from this range anew each time"
    beyond = [s for s in told["surplus"] if s["why"] == why]
    assert sum(b - a + 1 for s in beyond for a, b in s["ports"]) == 59
    assert not [s for s in told["surplus"] if s["why"] == "unexplained"]


def test_a_late_answer_is_no_rule(plain: Any) -> None:
    told, policy = plain
    assert policy["spec"]["ingress"] == []
    assert told["review"] == []


def test_without_a_budget_no_unseen_address_is_opened(plain: Any) -> None:
    assert blocks(plain[1]) == ["203.0.113.0/31", "203.0.113.2/32", "203.0.113.4/30"]


def test_a_budget_joins_blocks_and_lists_each_address_that_it_opens(tmp_path: Path) -> None:
    told, policy = recommended(tmp_path, "--open-addresses", "1")
    assert blocks(policy) == ["203.0.113.0/29"]
    web = next(p for p in told["policies"] if p["name"] == "flowpolicy-web")
    assert "203.0.113.0/29: 7 of 8 addresses were seen" in web["losses"]
    assert [s["dst"] for s in told["surplus"] if s["why"] == "opened to join 203.0.113.0/29"] == [
        "203.0.113.3"
    ]
