"""The line of evidence above each rule: one line whatever the log holds, the same while nothing is new."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_dialects_written import documents, proposed
from test_proposals_judged import boutique

from recommender.dialects.writers import OURS, WRITERS, writer
from recommender.model import DIRECTIONS, And, AnyOf, Evidence, In, LabelPeer, Policy, Ref, Rule
from recommender.report.comments import comment, manifest_text

SINCE = "2026-03-02"


def evidence(*names: str, first: str = "2026-03-05T10:00:00Z") -> Evidence:
    return Evidence(5, 2, 3, first, "2026-03-09T10:00:00Z", ("client", "server"), names, names)


def test_a_comment_says_who_since_when_and_who_told_it() -> None:
    told = comment(evidence("shop/a", "shop/b"), "ingress", SINCE)
    assert told == "from shop/a, shop/b; first seen 2026-03-05, told by the client and server"
    told = comment(evidence("shop/a", first="2026-03-02T01:00:00Z"), "egress", SINCE)
    assert told == "to shop/a; seen since the window began, told by the client and server"
    told = comment(evidence(*"abcde"), "egress", SINCE)
    assert told.startswith("to a, b, c, 2 more; ")


def test_what_grows_from_day_to_day_is_not_in_a_comment() -> None:
    later = Evidence(99, 8, 70, "2026-03-05T10:00:00Z", "2026-03-20T10:00:00Z", ("client",), ("a",))
    before = Evidence(5, 2, 3, "2026-03-05T10:00:00Z", "2026-03-09T10:00:00Z", ("client",), ("a",))
    assert comment(later, "ingress", SINCE) == comment(before, "ingress", SINCE)


HOSTILE = st.text(max_size=8) | st.sampled_from(
    ["\n", "\r", "\x85", "\u2028", "\u2029", "\ufeff", "\u202e", "\x00", "a\nspec: {}", "\ud800"]
)


@given(st.lists(st.tuples(HOSTILE, HOSTILE).map("".join), min_size=1, max_size=5))
def test_no_name_breaks_out_of_its_comment(names: list[str]) -> None:
    peer = AnyOf((LabelPeer(And((In("pod:app", frozenset({"b"})),))),))
    rule = Rule(peer=peer, evidence=evidence(*names))
    for dialect in WRITERS:
        made = writer(dialect)
        peers = peer
        if dialect != "kubernetes":
            inside = In("meta:namespace", frozenset({"n"}))
            peers = AnyOf((LabelPeer(And((inside, In("pod:app", frozenset({"b"}))))),))
        one = Rule(peer=peers, evidence=rule.evidence)
        subject = And((In("meta:namespace", frozenset({"n"})), In("pod:app", frozenset({"a"}))))
        ref = Ref(made.words.api, made.words.kind, "n", "flowpolicy-a")
        policy = Policy(
            ref, made.words.tier, subject, frozenset(DIRECTIONS), (one,), (one,), 1000.0
        )
        manifests = made.render(policy)
        text = manifest_text(manifests, policy, made.render, SINCE)
        assert list(yaml.safe_load_all(text)) == manifests
        lines = [line for line in text.splitlines() if line.lstrip().startswith("#")]
        assert len(lines) == 2
        assert all(line.isascii() and line.isprintable() and len(line) < 800 for line in lines)


@pytest.mark.parametrize("dialect", WRITERS)
def test_a_day_with_nothing_new_changes_no_byte(tmp_path: Path, dialect: str) -> None:
    cluster, simulation = boutique()
    lines = simulation.hubble()
    texts = []
    for name, some in (("before", lines), ("after", [*lines, *_next_day(lines)])):
        (tmp_path / name).mkdir()
        out, _ = proposed(tmp_path / name, dialect, some, cluster.objects)
        texts.append({p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*.yaml"))})
        index = json.loads((out / "recommendation.json").read_text())
        days = max(r["evidence"]["days"] for p in index["policies"] for r in p["rules"])
        assert days == (2 if name == "before" else 3)
        assert all(d["metadata"]["labels"].items() >= OURS.items() for d in documents(out))
    assert texts[0] == texts[1]


def _next_day(lines: list[str]) -> list[str]:
    """The log's last day once more, a day later."""
    records = [json.loads(line) for line in lines]
    days = [_time(record)[:10] for record in records]
    return [
        json.dumps(_later(record))
        for record, day in zip(records, days, strict=True)
        if day == max(days)
    ]


def _time(record: dict[str, Any]) -> str:
    return str(record.get("time") or record["flow"]["time"])


def _later(record: dict[str, Any]) -> dict[str, Any]:
    was = _time(record)
    day = datetime.fromisoformat(was[:10]) + timedelta(days=1)
    text: str = json.dumps(record).replace(was, f"{day:%Y-%m-%d}{was[10:]}")
    found = json.loads(text)
    assert isinstance(found, dict)
    return found
