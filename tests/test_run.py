"""The batch job: its file, its log, its figures, and how it ends."""

import fcntl
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

from ingest.store import open_store
from recommender.cli import group
from recommender.commands import steps
from recommender.metrics import Gauge, text

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "data" / "samples"
PUBLISHED = ROOT / "recommender" / "report" / "run.schema.json"
LOG = SAMPLES / "hubble" / "node-1.jsonl.gz"


def written(folder: Path, **config: Any) -> Path:
    path = folder / "flowpolicy.yaml"
    head = {"schema": steps.SCHEMA, "store": str(folder / "store")}
    path.write_text(yaml.safe_dump({**head, **config}))
    return path


def run(path: Path, *more: str) -> Result:
    return CliRunner().invoke(group, ["run", "--config", str(path), "--log-format", "json", *more])


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]


def test_the_steps_run_in_their_order_with_one_log_line_each(tmp_path: Path) -> None:
    out = str(tmp_path / "policies")
    path = written(
        tmp_path,
        inventory=[str(SAMPLES / "inventory.yaml")],
        check={"policies": [out]},
        recommend={"out": out, "namespace": ["payments"]},
        ingest={"sources": [str(LOG)], "workers": 1},
        metrics={"textfile": str(tmp_path / "m" / "flowpolicy.prom")},
    )
    result = run(path)
    assert result.exit_code == 0, result.output
    found = lines(result)
    assert [line["step"] for line in found] == ["ingest", "recommend", "check"]
    assert {line["outcome"] for line in found} == {"done"}
    assert found[0]["figures"]["flows"] > 0
    assert result.stdout == ""
    figures = (tmp_path / "m" / "flowpolicy.prom").read_text()
    assert "flowpolicy_success 1.0\n" in figures
    assert "flowpolicy_would_deny_edges 0.0\n" in figures
    assert 'flowpolicy_step_exit_code{step="check"} 0.0\n' in figures
    assert "flowpolicy_coverage " in figures


def test_wanted_traffic_that_would_be_denied_is_the_runs_answer(tmp_path: Path) -> None:
    deny = tmp_path / "deny.yaml"
    deny.write_text(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
        "metadata: {name: none, namespace: shop}\n"
        "spec: {podSelector: {}, policyTypes: [Ingress, Egress]}\n"
    )
    path = written(
        tmp_path,
        inventory=[str(SAMPLES / "inventory.yaml")],
        ingest={"sources": [str(LOG)], "workers": 1},
        check={"policies": [str(deny)]},
        diff={"old": str(SAMPLES / "policies"), "new": str(deny)},
    )
    result = run(path)
    assert result.exit_code == 11
    assert [(line["step"], line["code"]) for line in lines(result)] == [
        ("ingest", 0),
        ("check", 11),
        ("diff", 10),
    ]


def test_a_step_that_fails_ends_the_run_and_the_figures_say_so(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        ingest={"sources": [str(tmp_path / "none.log")]},
        compact={},
        metrics={"textfile": str(tmp_path / "flowpolicy.prom")},
    )
    result = run(path)
    assert result.exit_code == 1
    (line,) = lines(result)
    assert (line["level"], line["outcome"]) == ("error", "failed")
    assert "none.log" in line["error"]
    assert "flowpolicy_success 0.0" in (tmp_path / "flowpolicy.prom").read_text()
    plain = CliRunner().invoke(group, ["run", "--config", str(path)])
    assert plain.stderr.startswith("ingest: failed in ")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"inventry": []}, "unknown key 'inventry'; did you mean 'inventory'?"),
        ({"ingest": {"source": ["x"]}}, "ingest: unknown key 'source'; did you mean 'sources'?"),
        ({"ingest": {"sources": "x"}}, "ingest: sources: 'x' is no array"),
        ({"ingest": {"sources": [1]}}, "ingest: sources, item 1: 1 is no string"),
        ({"ingest": {"workers": True}}, "ingest: workers: True is no integer"),
        ({"ingest": {"format": "x"}}, "ingest: format: 'x' is none of auto, hubble"),
        ({"suggest": {"token": "t"}}, "suggest: unknown key 'token'"),
        ({"schema": "other"}, "its first line is `schema: flowpolicy/run/1`"),
        ({"store": None}, "None is no string"),
        ({}, "has no step; add one of ingest"),
    ],
)
def test_a_mistake_in_the_file_is_named_before_anything_runs(
    config: dict[str, Any], words: str, tmp_path: Path
) -> None:
    result = run(written(tmp_path, **config))
    assert result.exit_code == 1
    assert words in result.output
    assert not (tmp_path / "store").exists()


def test_the_published_schema_is_the_one_that_is_checked() -> None:
    assert json.loads(PUBLISHED.read_text()) == steps.schema(), (
        "run `flowpolicy run --schema > recommender/report/run.schema.json`"
    )
    jsonschema.Draft202012Validator.check_schema(steps.schema())
    shown = CliRunner().invoke(group, ["run", "--schema"])
    assert json.loads(shown.output) == steps.schema()


def test_every_configuration_in_the_docs_and_in_deploy_is_understood() -> None:
    page = (ROOT / "docs" / "cluster-job.md").read_text()
    texts = re.findall(r"```yaml\n(schema.*?)```", page, re.DOTALL)
    texts += [path.read_text() for path in ROOT.glob("deploy/**/flowpolicy.yaml")]
    assert len(texts) == 6
    for text_ in texts:
        config = steps.checked(yaml.safe_load(text_), Path("flowpolicy.yaml"))
        for name, command in steps.steps().items():
            if name in config:
                command.make_context(name, steps.words(name, config))


def test_a_step_is_words_that_no_value_can_leave() -> None:
    config = {
        "store": "s",
        "ingest": {"sources": ["--store=x", "; rm -rf /"], "strict": True, "workers": 2},
        "recommend": {"out": "-o", "namespace": ["a", "b"], "learn-audited": False},
    }
    assert steps.words("ingest", config) == [
        *("--store=s", "--strict", "--workers=2", "--output=json", "--"),
        *("--store=x", "; rm -rf /"),
    ]
    words = steps.words("recommend", config)
    assert "--namespace=b" in words
    assert "--learn-audited" not in words
    assert words[-1] == "--"


def test_two_runs_never_meet(tmp_path: Path) -> None:
    path = written(tmp_path, compact={})
    with (tmp_path / "store.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        result = run(path)
    assert result.exit_code == 1
    assert "store.lock: another run holds it" in result.output


def test_sigterm_finishes_the_block_and_leaves_a_store_that_the_next_run_completes(
    tmp_path: Path,
) -> None:
    log = tmp_path / "big.log"
    once = gzip.decompress(LOG.read_bytes())
    log.write_bytes(once * (1 + (40 << 20) // len(once)))
    path = written(tmp_path, ingest={"sources": [str(log)], "workers": 1}, compact={})
    words = [sys.executable, "-m", "recommender.cli", "run", "--config", str(path)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    blocks = tmp_path / "store" / "blocks"
    while not (blocks.is_dir() and any(blocks.iterdir())):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "stopped on SIGTERM" in said
    assert list((tmp_path / "store" / "tmp").iterdir()) == []
    before = len(list(blocks.iterdir()))
    assert open_store(tmp_path / "store").flows().count_rows() > 0
    assert run(path).exit_code == 0
    assert len(list(blocks.iterdir())) >= before
    whole = run(written(tmp_path, store=str(tmp_path / "other"), ingest={"sources": [str(log)]}))
    assert whole.exit_code == 0
    counts = [open_store(tmp_path / name).flows().count_rows() for name in ("store", "other")]
    assert counts[0] == counts[1]


# --- metrics -----------------------------------------------------------------------------------


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    taken: list[tuple[str, str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            taken.append((self.path, body, self.headers.get("Authorization", "")))
            self.send_response(400 if "refused" in self.path else 202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", taken
    server.shutdown()
    server.server_close()
    thread.join()


def test_figures_go_to_a_pushgateway(
    tmp_path: Path, gateway: tuple[str, list[tuple[str, str, str]]], monkeypatch: Any
) -> None:
    url, taken = gateway
    ingest = {"sources": [str(LOG)], "workers": 1}
    path = written(tmp_path, cluster="a/b", ingest=ingest, metrics={"pushgateway": url})
    assert run(path).exit_code == 0
    ((at, body, authorization),) = taken
    assert at == "/metrics/job/flowpolicy/cluster/a%2Fb"
    assert "flowpolicy_flows " in body
    assert authorization == ""
    monkeypatch.setenv("FLOWPOLICY_PUSHGATEWAY_TOKEN", "s3cret")
    result = run(path)
    assert result.exit_code == 1
    assert "not https" in result.output
    assert "s3cret" not in result.output
    monkeypatch.delenv("FLOWPOLICY_PUSHGATEWAY_TOKEN")
    refused = written(tmp_path, ingest=ingest, metrics={"pushgateway": f"{url}/refused"})
    assert "takes no metrics" in run(refused).output


def test_labels_of_metrics_cannot_be_left() -> None:
    labels = (("step", 'a"\n\\'),)
    found = text([Gauge("flowpolicy_x", "x", {labels: 1.0})])
    assert found.splitlines()[-1] == r'flowpolicy_x{step="a\"\n\\"} 1.0'


def test_the_environment_of_the_test_has_no_token() -> None:
    assert "FLOWPOLICY_PUSHGATEWAY_TOKEN" not in os.environ
