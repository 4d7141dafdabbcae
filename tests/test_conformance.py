"""Answers that other implementations recorded; the cases lie beside the checkout, in `shared`."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from recommender.addresses import LAST, Address, address
from recommender.dialects import parse_policies
from recommender.evaluate import Evaluator, evaluator
from recommender.manifests import read_manifests
from recommender.model import PortSet
from recommender.objects import read_inventory
from recommender.tiers import usual_host_network

CASES = Path(__file__).parents[2] / "shared" / "conformance"
KINDS = ("netpol-analyzer", "cluster-network-policy", "telepathy")


def cases(kind: str) -> list[Any]:
    if not (CASES / kind).is_dir():
        return [
            pytest.param(None, marks=pytest.mark.skip(f"no {CASES / kind} beside the checkout"))
        ]
    found = json.loads((CASES / kind / "cases.json").read_text())["cases"]
    return [pytest.param(case, id=case["id"]) for case in found]


def judge_of(objects: list[Path], policies: list[Path]) -> Evaluator:
    inventory = read_inventory(objects)
    manifests, problems = read_manifests(policies)
    parsed = parse_policies(manifests, inventory)
    assert not problems
    assert not parsed.findings
    hosts = usual_host_network(parsed.policies)
    return evaluator(parsed.policies, inventory, host_network=hosts)


@pytest.mark.parametrize(
    ("kind", "case"),
    [pytest.param(k, *c.values, id=c.id, marks=c.marks) for k in KINDS[1:] for c in cases(k)],
)
def test_single_verdicts_are_those_recorded(kind: str, case: dict[str, Any]) -> None:
    folder = CASES / kind / case["id"].partition("/")[2].replace("/", "-")
    judge = judge_of([folder / "topology.yaml"], [folder / "policy.yaml"])
    for asked in case["expected"]:
        verdict = judge.verdict(asked["src"], asked["dst"], asked["proto"], asked["port"])
        assert verdict.allow is asked["allow"], (asked, verdict)


@pytest.mark.parametrize("case", cases("netpol-analyzer"))
def test_all_connections_are_those_recorded(case: dict[str, Any]) -> None:
    folder = CASES / "netpol-analyzer" / case["dir"]
    files = [path for path in folder.iterdir() if path.name != "connlist_output.json"]
    judge = judge_of(files, files)
    known = judge.ends.workloads
    expected = [
        (_named(row["src"], known), _named(row["dst"], known), protocol, _ports(ports))
        for row in case["expected"]
        for protocol, ports in row["conn"].items()
    ]
    listed = [(c.src, c.dst, c.protocol, c.ports) for c in judge.connectivity("workload")]
    listed = [row for row in listed if row[0] != row[1]]
    firsts = sorted(
        {first for row in (*expected, *listed) for end in row[:2] for first in _cuts(end)}
    )
    assert _cut(listed, firsts) == _cut(expected, firsts)


Row = tuple[str, str, str, tuple[tuple[int, int], ...]]


def _named(name: str, known: dict[str, Any]) -> str:
    """A workload by our name: there pods of a ReplicaSet are told by its name, hash and all."""
    if name.startswith("ip:"):
        return name.removeprefix("ip:")
    return name if name in known else name.rpartition("-")[0]


def _ports(text: str) -> tuple[tuple[int, int], ...]:
    ranges = ["1-65535"] if text == "ALL" else text.split(",")
    return tuple((int(r.partition("-")[0]), int(r.rpartition("-")[2])) for r in ranges)


def _bounds(end: str) -> tuple[Address, Address] | None:
    low, high = address(end.partition("-")[0]), address(end.partition("-")[2])
    return (low, high) if low and high else None


def _cuts(end: str) -> list[Address]:
    """The first addresses of the range and of what follows it."""
    if not (bounds := _bounds(end)):
        return []
    first, (version, last) = bounds
    return [first, *([(version, last + 1)] if last < LAST[version] else [])]


def _cut(rows: list[Row], firsts: list[Address]) -> dict[tuple[object, object], PortSet]:
    def parts(end: str) -> list[object]:
        if not (bounds := _bounds(end)):
            return [end]
        return [first for first in firsts if bounds[0] <= first <= bounds[1]]

    out: dict[tuple[object, object], PortSet] = defaultdict(PortSet)
    for src, dst, protocol, ports in rows:
        for pair in ((s, d) for s in parts(src) for d in parts(dst)):
            out[pair] |= PortSet.of({protocol: ports})
    return dict(out)
