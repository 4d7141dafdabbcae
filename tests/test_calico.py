"""Calico Enterprise records -> FLOWS: each trap of reading by its name."""

import json
from typing import Any

import pytest

from ingest.calico import parse
from ingest.schema import FLOWS


def record(**more: Any) -> dict[str, Any]:
    return {
        "start_time": 1_700_000_000, "end_time": 1_700_000_300, "action": "allow",
        "reporter": "src", "proto": "tcp", "source_port": None, "dest_port": 8080,
        "source_type": "wep", "source_namespace": "shop", "source_name": "-",
        "source_name_aggr": "web-5d8f7c9b6d-*", "source_ip": None,
        "source_labels": {"labels": ["app=web", "pod-template-hash=5d8f7c9b6d"]},
        "dest_type": "wep", "dest_namespace": "shop", "dest_name": "-",
        "dest_name_aggr": "cart-6b5c-*", "dest_ip": None, "dest_labels": {"labels": ["app=cart"]},
        "num_flows": 3, "num_flows_started": 2, "packets_in": 4, "packets_out": 5,
        "bytes_in": 400, "bytes_out": 500, **more,
    }  # fmt: skip


def flow(**more: Any) -> dict[str, Any]:
    batch = parse(json.dumps(record(**more)).encode())
    assert batch.flows.schema.equals(FLOWS)
    assert batch.lines == batch.flows.num_rows + sum(batch.skipped.values()) + len(batch.rejects)
    assert batch.flows.num_rows == 1, (batch.skipped, batch.rejects)
    return dict(batch.flows.to_pylist()[0])


def skipped(**more: Any) -> dict[str, int]:
    batch = parse(json.dumps(record(**more)).encode())
    assert batch.flows.num_rows == 0
    assert not batch.rejects
    return dict(batch.skipped)


def test_a_name_prefix_is_no_pod_name_and_a_bare_pod_is_one() -> None:
    row = flow(dest_name="alone", dest_name_aggr="alone")
    assert (row["src_pod"], row["src_pod_prefix"]) == (None, "web-5d8f7c9b6d-")
    assert (row["dst_pod"], row["dst_pod_prefix"]) == ("alone", None)


def test_counters_in_and_out_are_turned_towards_the_ends_by_reporter() -> None:
    assert [flow()[c] for c in ("bytes_to_dst", "bytes_to_src")] == [500, 400]
    assert [flow(reporter="dst")[c] for c in ("bytes_to_dst", "bytes_to_src")] == [400, 500]


def test_packets_without_an_answer_are_an_attempt() -> None:
    assert flow()["established"] is True
    assert flow(packets_in=0)["established"] is False
    assert flow(packets_in=None)["established"] is None


def test_deny_is_kept_apart_from_allow() -> None:
    assert flow()["verdict"] == "allowed"
    assert flow(action="deny", reporter="dst")["verdict"] == "denied"


def test_host_transit_records_are_no_pod_traffic() -> None:
    assert skipped(reporter="fwd") == {"host transit (fwd)": 1}
    assert flow(reporter="dst, fwd")["reporter"] == "dst"


def test_a_stale_deny_without_packets_is_passed_over() -> None:
    zero = {"packets_in": 0, "packets_out": 0, "num_flows_started": 0, "num_flows_completed": 0}
    assert sum(skipped(action="deny", **zero).values()) == 1


def test_a_record_without_a_time_is_skipped_with_a_reason() -> None:
    assert skipped(start_time=None, end_time=None) == {"record without a time": 1}


@pytest.mark.parametrize(
    ("logged", "name"),
    [("tcp", "TCP"), ("6", "TCP"), ("TCP", "TCP"), ("udp", "UDP"), ("17", "UDP"), ("icmp", "ICMP"),
     ("1", "ICMP"), ("icmp6", "ICMPv6"), ("58", "ICMPv6"), ("sctp", "SCTP"), ("132", "SCTP")],
)  # fmt: skip
def test_protocols_are_one_word_in_every_form(logged: str, name: str) -> None:
    assert flow(proto=logged)["protocol"] == name


def test_icmp_and_level_3_records_have_no_port() -> None:
    assert flow(proto="icmp", dest_port=0)["dst_port"] is None
    assert flow(dest_port=None)["dst_port"] is None


def test_unset_marks_become_null() -> None:
    row = flow(
        dest_type="net", dest_namespace="-", dest_name="-", dest_name_aggr="pub",
        dest_ip="203.0.113.9", dest_labels=None, dest_domains=["b.example", "a.example"],
        dest_service_namespace="-", dest_service_name="-",
    )  # fmt: skip
    assert (row["dst_type"], row["dst_namespace"], row["dst_pod"]) == ("outside", None, None)
    assert (row["dst_ip"], row["dst_set"]) == ("203.0.113.9", "public")
    assert row["dst_names"] == "a.example\nb.example"
    assert row["service"] is None


def test_a_network_set_is_no_namespace_and_no_pod() -> None:
    row = flow(dest_type="ns", dest_name="-", dest_name_aggr="partners", dest_namespace="-")
    assert (row["dst_type"], row["dst_set"], row["dst_pod"]) == ("set", "partners", None)


def test_labels_are_split_at_the_first_equals_sign_and_calicos_own_dropped() -> None:
    own = ["projectcalico.org/namespace=shop", "pcns.team=x", "pcsa.a=b"]
    row = flow(source_labels={"labels": ["b=", "a=x=y", *own]})
    assert row["src_labels"] == "a=x=y\nb="


def test_connections_are_those_begun_and_not_those_active() -> None:
    assert flow()["connections"] == 2
    assert flow(num_flows_started=0)["connections"] == 3


def test_staged_policies_are_not_taken_for_enforcing_ones() -> None:
    hits = ["1|default|shop/default.cart|allow|0", "0|t|shop/staged:t.try|deny|0"]
    assert "staged" not in str(flow(policies={"all_policies": hits})["policies"])


@pytest.mark.parametrize(
    "more",
    [
        {"start_time": "soon"},
        {"dest_port": 70000},
        {"dest_ip": "10.0.0.300"},
        {"source_namespace": "a\nb"},
        {"source_labels": {"labels": ["a=b\nc=d"]}},
        {"action": "maybe"},
        {"packets_in": "many"},
    ],
    ids=str,
)
def test_what_cannot_be_understood_is_a_reject_with_a_reason(more: dict[str, Any]) -> None:
    batch = parse(json.dumps(record(**more)).encode())
    assert batch.flows.num_rows == 0
    assert [bool(reject.reason) for reject in batch.rejects] == [True]
