"""Policies of another tool and ours from the same sample log, replayed over that log.

    python -m benchmarks.rivals

hubble-audit2policy is installed with the development tools. The replay is this project's own, so it
is a judge with a side: tests/test_agreement.py holds it against another evaluator, and
data/samples/truth.json, which no tool reads, says what of the log is malicious.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import yaml

from recommender.evaluate import evaluator
from recommender.frames import of_class
from recommender.policies import read_policies
from recommender.propose import exact_name
from recommender.replay import replay
from recommender.watch import Watched, watch

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
TOOL = Path(sys.executable).parent / "hubble-audit2policy"
KEYS = ("app", "app.kubernetes.io/name", "component", "k8s-app")
MOST_PORTS = 40  # of one toPorts entry that Cilium takes


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        log, store, inventory = here / "flows.jsonl", here / "store", SAMPLES / "inventory.yaml"
        logs = sorted((SAMPLES / "hubble").glob("*.gz"))
        log.write_bytes(b"".join(gzip.decompress(one.read_bytes()) for one in logs))
        ours = [sys.executable, "-m", "recommender.cli"]
        run(*ours, "ingest", log, "--store", store)
        given = ("--store", store, "--inventory", inventory, "--dialect", "cilium")
        run(*ours, "recommend", *given, "--out", here / "ours")
        run(TOOL, log, "--no-enrich", "-o", here / "defaults")
        keys = [word for key in KEYS for word in ("--label-key", f"k8s:{key}")]
        run(TOOL, log, "--no-enrich", *keys, "--verdict", "forwarded", "-o", here / "careful")
        watched = watch(store, [inventory])
        print("| policies | wanted denied | malicious allowed | denied allowed | > 40 ports |")
        print("| --- | --- | --- | --- | --- |")
        for name, title in (
            ("ours", "flowpolicy, `--dialect cilium`"),
            ("defaults", "hubble-audit2policy"),
            ("careful", "hubble-audit2policy, forwarded only, four label keys"),
        ):
            print(f"| {title} | {judged(watched, here / name)} |")


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def judged(watched: Watched, folder: Path) -> str:
    given = read_policies([folder], watched.inventory)
    judge = evaluator(given.policies, watched.inventory, told=watched.known)
    truth = json.loads((SAMPLES / "truth.json").read_text())
    bad = {(e["client"], e["server"], e["protocol"], e["port"]) for e in truth["malicious"]}
    rows = of_class(watched.edges, "wanted", "review", "denied")
    cells: Counter[str] = Counter()
    for one in replay(judge, rows):
        ends = exact_name(one.row, "client"), exact_name(one.row, "server")
        malicious = (*ends, one.row["protocol"], one.row["port"]) in bad
        for cell, counts in (
            ("wanted", one.row["class"] == "wanted"),
            ("malicious", malicious),
            ("denied", one.row["class"] == "denied"),
        ):
            cells[f"all {cell}"] += counts
            cells[cell] += counts and one.verdict.allow is (cell != "wanted")
    wide = rules = 0
    for path in folder.rglob("*.yaml"):
        for body in yaml.safe_load_all(path.read_text()):
            for way in ("ingress", "egress"):
                for rule in body["spec"].get(way) or ():
                    entries = [len(ports["ports"]) for ports in rule.get("toPorts") or ()]
                    rules += 1
                    wide += max(entries, default=0) > MOST_PORTS
    told = [f"{cells[c]} of {cells[f'all {c}']}" for c in ("wanted", "malicious", "denied")]
    return " | ".join([*told, f"{wide} of {rules} rules"])


if __name__ == "__main__":
    main()
