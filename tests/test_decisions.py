"""Decisions survive the file, are followed on edges, and return to review when they end."""

from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cluster_objects import inventory, workload
from hypothesis import given
from hypothesis import strategies as st

from recommender.decisions import (
    Decision,
    DecisionError,
    decided,
    read_decisions,
    with_decision,
    write_decisions,
)

TODAY = date(2026, 3, 10)
OBJECTS = inventory(
    workload("cart", {"app": "cart", "tier": "web"}),
    workload("ledger", {"app": "ledger"}, namespace="payments"),
)


def decision(what: Any = "reject", **fields: Any) -> Decision:
    given_: dict[str, Any] = {"client": "shop/cart", "server": "payments/ledger"}
    return Decision(what, **{**given_, "who": "alice", "why": "a curl by hand", **fields})


def end(role: str, text: str) -> dict[str, Any]:
    if "/" in text:
        namespace, name = text.split("/")
        values: tuple[Any, ...] = ("workload", namespace, "Deployment", name, None)
    else:
        values = ("address", None, None, None, text)
    names = ("type", "namespace", "kind", "name", "address")
    return {f"{role}_{name}": value for name, value in zip(names, values, strict=True)}


def edges(*rows: tuple[str, str, str, int | None, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                **end("client", c),
                **end("server", s),
                "protocol": t,
                "port": p,
                "run": None,
                "class": k,
                "reason": "r",
            }
            for c, s, t, p, k in rows
        ],
        dtype=object,
    )


CURL = ("shop/cart", "payments/ledger", "TCP", 50051, "wanted")


def classes(found: pd.DataFrame) -> list[str]:
    return list(found["class"])


@given(
    st.lists(
        st.builds(
            Decision,
            what=st.sampled_from(["accept", "reject"]),
            client=st.sampled_from(
                ["shop/cart", "shop/Deployment/cart", "10.0.0.0/8", "2001:db8::1"]
            ),
            server=st.sampled_from(
                ["shop/app=cart,tier=web", "*/app.kubernetes.io/name=x", "1.2.3.4"]
            ),
            who=st.sampled_from(["alice", "bob: 1", "# no"]),
            why=st.text(min_size=1).filter(str.strip).filter(str.isprintable),
            protocol=st.sampled_from([None, "TCP", "UDP"]),
            port=st.one_of(st.none(), st.integers(0, 65535)),
            until=st.one_of(st.none(), st.dates()),
        ),
        max_size=3,
    )
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, decisions: list[Decision]
) -> None:
    path = tmp_path_factory.mktemp("d") / "decisions.yaml"
    write_decisions(path, decisions)
    assert read_decisions(path) == tuple(decisions)


def test_the_file_is_easy_to_read(tmp_path: Path) -> None:
    write_decisions(tmp_path / "d.yaml", [decision(protocol="TCP", port=50051, until=TODAY)])
    assert (tmp_path / "d.yaml").read_text() == (
        "schema: flowpolicy/decisions/1\ndecisions:\n- decision: reject\n  client: shop/cart\n"
        "  server: payments/ledger\n  protocol: TCP\n  port: 50051\n  who: alice\n"
        "  why: a curl by hand\n  until: 2026-03-10\n"
    )


def test_a_rejected_edge_is_not_wanted_and_says_by_whom() -> None:
    found, notes = decided(edges(CURL), [decision()], OBJECTS, TODAY)
    assert classes(found) == ["rejected"]
    assert found["reason"][0] == "rejected by alice: a curl by hand"
    assert notes == []


@pytest.mark.parametrize("class_", ["review", "denied", "wanted"])
def test_an_accepted_edge_is_wanted(class_: str) -> None:
    found, _ = decided(edges((*CURL[:4], class_)), [decision("accept")], OBJECTS, TODAY)
    assert classes(found) == ["wanted"]


@pytest.mark.parametrize("what", ["accept", "reject"])
def test_an_ended_decision_returns_to_review_the_day_after(what: Any) -> None:
    for until, class_ in ((date(2026, 3, 9), "review"), (TODAY, None)):
        found, _ = decided(edges(CURL), [decision(what, until=until)], OBJECTS, TODAY)
        holds = "wanted" if what == "accept" else "rejected"
        assert classes(found) == [class_ or holds]
    assert (
        "decide again"
        in decided(edges(CURL), [decision(what, until=date(2026, 3, 9))], OBJECTS, TODAY)[0][
            "reason"
        ][0]
    )


@pytest.mark.parametrize(
    ("fields", "hit"),
    [
        ({"client": "shop/Deployment/cart"}, True),
        ({"client": "shop/StatefulSet/cart"}, False),
        ({"client": "shop/app=cart,tier=web"}, True),
        ({"client": "*/tier=web"}, True),
        ({"client": "payments/tier=web"}, False),
        ({"client": "shop/app=cart,tier=db"}, False),
        ({"client": "*"}, True),
        ({"port": 50051}, True),
        ({"port": 1}, False),
        ({"protocol": "UDP"}, False),
        ({"server": "10.0.0.0/8"}, False),
    ],
)
def test_a_decision_is_of_just_the_edges_that_it_describes(
    fields: dict[str, Any], hit: bool
) -> None:
    found, notes = decided(edges(CURL), [decision(**fields)], OBJECTS, TODAY)
    assert classes(found) == (["rejected"] if hit else ["wanted"])
    assert bool(notes) is not hit


def test_addresses_are_decided_by_block() -> None:
    rows = [
        ("shop/cart", ip, "TCP", 443, "review")
        for ip in ("203.0.113.9", "203.0.114.1", "2001:db8::1")
    ]
    accept = decision("accept", server="203.0.113.0/24")
    assert classes(decided(edges(*rows), [accept], OBJECTS, TODAY)[0]) == [
        "wanted",
        "review",
        "review",
    ]


def test_the_last_decision_on_an_edge_holds_and_what_policy_ignores_stays_ignored() -> None:
    rows = edges(CURL, (*CURL[:4], "ignored"))
    found, _ = decided(rows, [decision("accept"), decision(client="*")], OBJECTS, TODAY)
    assert classes(found) == ["rejected", "ignored"]


def test_what_no_policy_can_name_is_not_accepted() -> None:
    found, notes = decided(edges((*CURL[:3], None, "review")), [decision("accept")], OBJECTS, TODAY)
    assert classes(found) == ["review"]
    assert "cannot be accepted" in notes[0]


def test_a_new_decision_takes_the_place_of_the_old_one_on_the_same_edges() -> None:
    first = with_decision((), decision("accept"))
    other = with_decision(first, decision(port=1))
    assert [d.what for d in with_decision(other, decision("reject"))] == ["reject", "reject"]
    assert len(other) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("decisions: []", "no decisions file"),
        ("schema: flowpolicy/decisions/1\ndecisions: 3", "no list"),
        ("schema: flowpolicy/decisions/1\ndecisions: [3]", "decision 1 is no mapping"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(DecisionError, match=message):
        read_decisions(tmp_path / "d.yaml")
    with pytest.raises(DecisionError, match="check the path"):
        read_decisions(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"what": "maybe"}, "neither accept nor reject"),
        ({"who": " "}, "`who` is missing"),
        ({"why": ""}, "`why` is missing"),
        ({"protocol": "tcp"}, "protocol 'tcp'"),
        ({"port": 70000}, "port 70000"),
        ({"client": "cart"}, "no end"),
        ({"client": "shop/"}, "no end"),
        ({"client": "shop/=x"}, "no end"),
        ({"client": "a/b/c/d"}, "no end"),
        ({"what": "accept", "server": "*"}, "name both ends"),
    ],
)
def test_a_decision_that_says_nothing_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DecisionError, match=message):
        with_decision((), decision(**fields))


def test_unknown_fields_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(
        "schema: flowpolicy/decisions/1\ndecisions:\n- {decision: reject, ports: 1}"
    )
    with pytest.raises(DecisionError, match="unknown field 'ports'"):
        read_decisions(tmp_path / "d.yaml")


def test_policy_readers_pass_over_the_file(tmp_path: Path) -> None:
    from recommender.manifests import read_manifests

    write_decisions(tmp_path / "decisions.yaml", [decision()])
    assert read_manifests([tmp_path]) == ([], [])
