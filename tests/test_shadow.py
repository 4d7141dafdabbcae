"""Shadow mode: what policies would have denied since, and one word a workload on enforcing them."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from drawn_traffic import row
from test_comments import _later, _time
from test_dialects_written import proposed, run
from test_proposals_judged import boutique

from ingest.errors import FlowpolicyError
from recommender.model import Verdict
from recommender.replay import Replayed
from recommender.report.files import moment

CART, FRONTEND = "shop/Deployment/cartservice", "shop/Deployment/frontend"


def days(lines: list[str], count: int) -> list[str]:
    """A log of two days that goes on for `count` days more, each as the last."""
    records = [json.loads(line) for line in lines]
    last = max(_time(record)[:10] for record in records)
    todays = [record for record in records if _time(record)[:10] == last]
    found = []
    for _ in range(count):
        todays = [_later(record) for record in todays]
        found += [json.dumps(record) for record in todays]
    return found


def checked(tmp_path: Path, *more: object, code: int = 0) -> dict[str, Any]:
    found = json.loads(
        run("check", *more, "--store", tmp_path / "store", "--inventory",
            tmp_path / "inventory.yaml", "-o", "json", code=code)
    )  # fmt: skip
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return boutique()[1].hubble()


def propose(tmp_path: Path, lines: list[str], *more: str) -> Path:
    """Proposals of the lines, and three days more of the same in the store."""
    out, _ = proposed(tmp_path, more[0], lines, boutique()[0].objects, *more[1:])
    (tmp_path / "later.log").write_text("\n".join(days(lines, 3)) + "\n")
    run("ingest", tmp_path / "later.log", "--store", tmp_path / "store")
    return out


def words(found: dict[str, Any]) -> set[str]:
    return {one["word"] for one in found["workloads"]}


@pytest.mark.parametrize(
    "form",
    [("kubernetes",), ("cilium", "--rollout", "audit"), ("calico", "--rollout", "staged")],
    ids=lambda form: form[0],
)
def test_the_flows_since_the_proposal_decide_on_enforcing(
    tmp_path: Path, lines: list[str], form: tuple[str, ...]
) -> None:
    out = propose(tmp_path, lines, *form)
    since = ("--since", out / "recommendation.json", "--staged")
    found = checked(tmp_path, out, *since, "--min-days", "2")
    assert (
        found["since"]
        == json.loads((out / "recommendation.json").read_text())["window"]["last_seen"]
    )
    assert found["denied"] == found["waiting"] == []
    assert "hold" not in words(found)
    assert "enforce" in words(found)
    found = checked(tmp_path, out, *since)
    assert (words(found), found["verdict"]["word"]) == ({"can't tell"}, "can't tell")
    assert "14 are asked for" in found["verdict"]["why"][1]


def test_text_tells_workloads_of_one_word_and_reason_in_one_line(
    tmp_path: Path, lines: list[str]
) -> None:
    out = propose(tmp_path, lines, "kubernetes")
    inventory = ("--inventory", tmp_path / "inventory.yaml")
    text = run("check", out, "--since", out, "--store", tmp_path / "store", *inventory)
    told = [line for line in text.splitlines() if line.startswith("  can't tell: ")]
    reasons = [re.split(r": (?=\w+/\w+/)", line)[0] for line in told]
    assert len(set(reasons)) == len(reasons)
    assert re.search(r"shop/\w+/\S+, shop/\w+/", text)


@pytest.mark.parametrize(
    "form", [("cilium", "--rollout", "audit"), ("calico", "--rollout", "staged")]
)
def test_a_soft_form_denies_nothing_as_it_is_and_is_judged_as_if_it_enforced(
    tmp_path: Path, lines: list[str], form: tuple[str, ...]
) -> None:
    out = propose(tmp_path, lines, *form)
    victim = next(
        path for path in sorted(out.rglob("*.yaml"))
        if any(d["spec"].get("ingress") not in (None, [], [{}]) for d in yaml.safe_load_all(path.read_text()))
    )  # fmt: skip
    bodies = list(yaml.safe_load_all(victim.read_text()))
    bodies[-1]["spec"]["ingress"] = [{}] if form[0] == "cilium" else []
    victim.write_text(yaml.safe_dump_all(bodies))
    assert checked(tmp_path, out)["denied"] == []
    found = checked(tmp_path, out, "--staged", "--since", out, code=11)
    (held,) = [one for one in found["workloads"] if one["word"] == "hold"]
    assert held["workload"].endswith(f"/{victim.stem}")
    assert {edge["server"].split("/")[1] for edge in held["denied"]} == {victim.stem}
    assert found["verdict"]["word"] == "hold"
    run("enforce", out)
    after = checked(tmp_path, out, "--since", out, code=11)
    for one in (*found["denied"], *after["denied"]):
        one.pop("because")  # which names the kind
    assert after["denied"] == found["denied"]


def test_counts_are_those_of_the_flows_since(tmp_path: Path, lines: list[str]) -> None:
    out = propose(tmp_path, lines, "kubernetes")
    closed = tmp_path / "closed.yaml"
    closed.write_text(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
        "metadata: {name: closed, namespace: shop}\nspec: {podSelector: {}}\n"
    )
    every = checked(tmp_path, closed, code=11)["denied"]
    since = checked(tmp_path, closed, "--since", out, code=11)["denied"]
    count = {(e["client"], e["server"], e["port"]): e["connections"] for e in every}
    assert 0 < len(since) <= len(every)
    assert all(e["connections"] < count[e["client"], e["server"], e["port"]] for e in since)
    assert "the store holds no wanted edge" in run_all(tmp_path, closed, "--since", "2099-01-01")


def run_all(tmp_path: Path, *words: object) -> str:
    from click.testing import CliRunner

    from recommender.cli import group

    asked = ("--store", tmp_path / "store", "--inventory", tmp_path / "inventory.yaml")
    result = CliRunner().invoke(group, [str(w) for w in ("check", *words, *asked)])
    assert result.exit_code == 3
    return result.output


def test_a_moment_is_an_instant_or_the_end_of_a_proposal(tmp_path: Path) -> None:
    assert moment("2026-11-01").isoformat() == "2026-11-01T00:00:00+00:00"
    assert moment("2026-11-01T12:00+02:00").isoformat() == "2026-11-01T10:00:00+00:00"
    index = tmp_path / "recommendation.json"
    index.write_text('{"window": {"last_seen": "2026-11-01T10:00:00Z"}}')
    assert moment(str(index)) == moment(str(tmp_path)) == moment("2026-11-01T10:00Z")
    for text in ("[]", "{", '{"window": {"last_seen": null}}', "[" * 100_000, '{"window": 3}'):
        index.write_text(text)
        with pytest.raises(FlowpolicyError, match="give one of these"):
            moment(str(index))
    for text in ("yesterday", "", "0001-01-01T00:00+23:00", str(datetime.max + timedelta(0)) + "x"):
        with pytest.raises(FlowpolicyError, match="give one of these"):
            moment(text or "nowhere")


def test_an_edge_without_a_port_is_told_without_one() -> None:
    echo = {**row("shop/Deployment/a", "shop/Deployment/b", "ICMP", 0), "port": None}
    assert str(Replayed(echo, Verdict(None, ()))) == "shop/a -> shop/b ICMP"
