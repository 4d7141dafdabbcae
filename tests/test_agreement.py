"""Drawn clusters and policies, judged by network-config-analyzer too; every difference has a case.

It needs dependencies of its own versions, so it runs in an environment of its own, which `make
rivals` makes, as one process that answers folder by folder.
"""

import copy
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from drawn_clusters import POINTS, folders
from hypothesis import HealthCheck, given, settings

from recommender.dialects import parse_policies
from recommender.evaluate import Evaluator, evaluator
from recommender.objects import read_inventory
from recommender.ports import NO_PORTS, PORT_PROTOCOLS, PortSet

ROOT = Path(__file__).parent.parent
RIVAL = ROOT / ".rivals/bin/python"
EXAMPLES = int(os.environ.get("AGREEMENT_EXAMPLES", "100"))
NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPv6": 58, "47": 47, "UDPLite": 136}
NUMBERS["OTHER"] = 253  # kept for experiments (RFC 3692): no policy here names it

needs_the_rival = pytest.mark.skipif(
    not RIVAL.exists(), reason="network-config-analyzer is not installed; run `make rivals`"
)


@dataclass(frozen=True)
class Rival:
    """A process of network-config-analyzer and the folder that it is asked about."""

    process: "subprocess.Popen[str]"
    folder: Path

    def answer(self, objects: list[Any]) -> Any:
        write(self.folder, objects)
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{self.folder}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def write(folder: Path, objects: list[Any]) -> None:
    text = yaml.dump_all(objects, Dumper=yaml.CSafeDumper, sort_keys=False)
    (folder / "objects.yaml").write_text(text)


@pytest.fixture(scope="module")
def rival() -> Iterator[Rival]:
    folder = Path(tempfile.mkdtemp())
    with subprocess.Popen(
        [RIVAL, Path(__file__).with_name("nca_connectivity.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield Rival(process, folder)
        process.communicate()
    shutil.rmtree(folder)


def evaluated(folder: Path) -> Evaluator:
    objects = read_inventory([folder])
    return evaluator(parse_policies(objects.manifests, objects).policies, objects)


def pods(objects: list[Any]) -> dict[str, str]:
    """Each pod by the other's name for it, with ours: a workload's pods are one here."""
    found = {}
    for body in objects:
        name = f"{body['metadata'].get('namespace')}/{body['metadata']['name']}"
        if body["kind"] == "Pod":
            found[name] = name
        elif "template" in body.get("spec", {}):
            for i in range(min(body["spec"]["replicas"], 2)):
                found[f"{name}-{i + 1}"] = name
    return found


def inside(ends: list[Any], points: list[str]) -> set[str]:
    """Those of `points`, pods or addresses, that are among the ends of a cube."""
    blocks = [tuple(map(ip_address, each)) for each in ends if not isinstance(each, str)]
    addresses = [(at, ip_address(at)) for at in points if "/" not in at]
    found = {
        name
        for name, at in addresses
        for first, last in blocks
        if first.version == at.version and first <= at <= last
    }
    return found | {name for name in points if name in ends}


def ports_in(cube: Any) -> PortSet:
    """The ports of a cube in our terms; ICMP as far as the type 254 that it ends at."""
    icmp = [
        (kind * 256 + low, kind * 256 + high)
        for first, last in cube["types"]
        for kind in range(first, last + 1)
        for low, high in cube["codes"]
    ]
    intervals = {**dict.fromkeys(PORT_PROTOCOLS, cube["ports"]), "ICMP": icmp, "ICMPv6": icmp}
    return PortSet.of(
        {
            name: map(tuple, intervals.get(name, [(0, 0)]))
            for name, number in NUMBERS.items()
            if any(low <= number <= high for low, high in cube["protocols"])
        }
    )


def permitted(cubes: list[Any], points: list[str]) -> dict[tuple[str, str], PortSet]:
    """What the other permits between any two points."""
    found: dict[tuple[str, str], PortSet] = {}
    for cube in cubes:
        ports = ports_in(cube)
        for pair in product(inside(cube["src"], points), inside(cube["dst"], points)):
            found[pair] = found.get(pair, NO_PORTS) | ports
    return found


def compared(ports: PortSet, known: PortSet) -> PortSet:
    """Our ports, every protocol that the other was asked for by its own name."""
    out = {name: ports.intervals(name) for name in NUMBERS}
    for name in ("47", "UDPLite"):
        if not known.intervals(name):
            out[name] = out["OTHER"]
    beyond = PortSet.of({name: [(255 * 256, 65535)] for name in ("ICMP", "ICMPv6")})
    return PortSet.of(out) - beyond


def agrees(found: Evaluator, objects: list[Any], cubes: list[Any]) -> None:
    named = pods(objects)
    listed: dict[tuple[str, str], dict[str, Any]] = {}
    for row in found.connectivity():
        listed.setdefault((row.src, row.dst), {})[row.protocol] = row.ports
    ends = [*named.items(), *((at, at) for at in POINTS)]
    others = permitted(cubes, [name for name, _ in ends])
    for (their_src, src), (their_dst, dst) in product(ends, ends):
        if their_src == their_dst or not ("/" in src or "/" in dst):
            continue
        allowed, unknown = (
            compared(ports, found.acting.everything) for ports in found.permitted(src, dst)
        )
        theirs = others.get((their_src, their_dst), NO_PORTS)
        assert allowed <= theirs, (their_src, their_dst, allowed - theirs)
        assert theirs <= allowed | unknown, (their_src, their_dst, theirs - allowed - unknown)
        if "/" in src and "/" in dst:
            rows = PortSet.of(listed.get((src, dst), {}))
            assert rows == PortSet.of({p: allowed.intervals(p) for p in PORT_PROTOCOLS})


@needs_the_rival
@given(folders())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_connectivity_agrees_with_network_config_analyzer(rival: Rival, objects: list[Any]) -> None:
    answer = rival.answer(objects)
    assert "refused" not in answer, answer["refused"]
    found = evaluated(rival.folder)
    agrees(found, objects, answer["cubes"])


# --- known differences -------------------------------------------------------------------------

DIFFERENCES = yaml.safe_load(
    (Path(__file__).parent / "cases/agreement/differences.yaml").read_text()
)


def objects_of(case: Any) -> list[Any]:
    policies = copy.deepcopy(case["policies"])
    for policy in policies:
        if not policy["kind"].startswith("Global"):
            policy["metadata"].setdefault("namespace", "shop")
    return [*DIFFERENCES["cluster"], *policies]


CASES = [pytest.param(case, id=case["name"]) for case in DIFFERENCES["cases"]]


@pytest.mark.parametrize("case", CASES)
def test_where_the_two_differ_ours_is_as_published(case: Any, tmp_path: Path) -> None:
    write(tmp_path, objects_of(case))
    found = evaluated(tmp_path)
    for line in case["expect"]:
        src, _, dst, protocol, port, ours, *_ = line.split()
        assert found.verdict(src, dst, protocol, int(port)).allow is (ours == "allow"), line


@needs_the_rival
@pytest.mark.parametrize("case", CASES)
def test_the_other_differs_still(case: Any, rival: Rival) -> None:
    answer = rival.answer(objects_of(case))
    if "refused" in case:
        assert "refused" in answer
        return
    for line in case["expect"]:
        src, _, dst, protocol, port, _, theirs = line.split()
        ports = permitted(answer["cubes"], [src, dst]).get((src, dst), NO_PORTS)
        point = int(port) * 256 if protocol == "ICMP" and int(port) < 256 else int(port)
        assert ((protocol, point) in ports) is (theirs == "allow"), line
