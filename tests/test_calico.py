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


def test_trap_a_key_that_stands_twice_is_a_reject() -> None:
    text = json.dumps(record()).replace('"action"', '"action":"deny","action"', 1)
    assert [reject.reason for reject in parse(text.encode()).rejects] == ["duplicate key"]


def test_a_hit_of_elasticsearch_is_the_record_in_it() -> None:
    hit = {"_index": "tigera_secure_ee_flows.prod.20260302", "_id": "x", "_source": record()}
    made = parse(json.dumps(hit).encode())
    assert made.flows.to_pylist() == [flow()]
    assert flow(cluster="prod", host="node-1")["node"] == "node-1"


LEVELS = [
    {"source_name": "web-5d8f7c9b6d-x", "source_ip": "10.0.0.1", "source_port": 41000,
     "dest_name": "cart-6b5c-y", "dest_ip": "10.0.0.2"},
    {"source_name": "web-5d8f7c9b6d-x", "source_ip": "10.0.0.1", "dest_name": "cart-6b5c-y",
     "dest_ip": "10.0.0.2"},
    {},
    {"dest_port": None},
]  # fmt: skip


@pytest.mark.parametrize("level", range(4))
def test_trap_each_aggregation_level_leaves_out_more(level: int) -> None:
    row = flow(**LEVELS[level])
    assert (row["src_port"] is None) == (level >= 1)
    assert (row["src_ip"] is None) == (row["src_pod"] is None) == (level >= 2)
    assert (row["dst_port"] is None) == (level >= 3)
    assert row["src_pod_prefix"] == "web-5d8f7c9b6d-"


@pytest.mark.parametrize(
    ("hits", "kept"),
    [
        (["0|t|t.a|pass|0", "1|default|shop/default.b|allow|2"], 2),
        (["0|__PROFILE__|__PROFILE__.kns.shop|allow"], 1),  # four parts, before about 2022
        (["0|default|shop/knp.default.b|allow|0"], 1),
        (["0|t|np:shop/b|allow|0", "1|t|snp:shop/c|deny|0", "2|t|sgnp:d|deny|-1"], 1),
        (["0|default|sknp:shop/b|deny|3", "0|default|knp:shop/b|allow|3"], 1),
        (["0|t|shop/t.staged:b|deny|0", "0|t|t.staged:c|deny|0", "1|default|shop/staged:knp.default.d|deny|3"], 0),
    ],
)  # fmt: skip
def test_trap_policy_strings_old_and_new(hits: list[str], kept: int) -> None:
    found = flow(policies={"all_policies": hits})["policies"]
    assert len((found or "").split()) == kept


def test_trap_service_field_name_is_a_name_and_no_port() -> None:
    row = flow(dest_service_name="cart", dest_service_namespace="shop", dest_service_port="http",
               dest_service_port_num=80)  # fmt: skip
    assert (row["service"], row["dst_port"]) == ("cart", 8080)


def test_trap_replies_a_service_port_that_speaks_to_a_client_port_is_unclear() -> None:
    assert flow(source_port=53, dest_port=40000)["is_reply"] is None
    assert flow(source_port=40000, dest_port=53)["is_reply"] is False


def test_trap_field_names_that_calico_never_writes_make_no_record() -> None:
    made = parse(b'{"source_name":"a","destination_name":"b","protocol":"tcp"}')
    assert [reject.reason for reject in made.rejects] == ["not a flow record"]
