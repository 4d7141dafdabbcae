"""Flows of Calico Open Source -> FLOWS: the three forms, and each trap of reading by its name."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import Batch
from ingest.calico_rows import is_staged
from ingest.goldmane import parse
from ingest.schema import FLOWS

SAMPLES = Path(__file__).parents[2] / "shared" / "samples" / "calico"
HIT = {
    "kind": "CalicoNetworkPolicy", "name": "allow-web", "namespace": "shop", "tier": "default",
    "action": "Allow", "policy_index": 0, "rule_index": 1, "trigger": None,
}  # fmt: skip
WHISKER = {
    "start_time": "2026-10-08T08:08:15Z", "end_time": "2026-10-08T08:08:30Z", "action": "Allow",
    "source_name": "web-85bfb6d759-*", "source_namespace": "shop",
    "source_labels": "app=web | empty= | a=b=c", "dest_name": "cart-0", "dest_namespace": "shop",
    "dest_labels": "app=cart", "protocol": "tcp", "dest_port": 80, "reporter": "Src",
    "policies": {"enforced": [HIT], "pending": None},
    "packets_in": 5, "packets_out": 6, "bytes_in": 50, "bytes_out": 360,
}  # fmt: skip
GRPC = {
    "id": "7",
    "flow": {
        "Key": {
            "sourceName": "web-85bfb6d759-*", "sourceNamespace": "shop",
            "sourceType": "WorkloadEndpoint", "destName": "cart-0", "destNamespace": "shop",
            "destType": "WorkloadEndpoint", "destPort": "80", "proto": "tcp", "reporter": "Src",
            "action": "Allow",
            "policies": {
                "enforcedPolicies": [
                    {"kind": "CalicoNetworkPolicy", "name": "allow-web", "namespace": "shop",
                     "tier": "default", "action": "Allow", "ruleIndex": "1"}
                ]
            },
        },
        "startTime": "1791446895", "endTime": "1791446910",
        "sourceLabels": ["app=web", "empty=", "a=b=c"], "destLabels": ["app=cart"],
        "packetsIn": "5", "packetsOut": "6", "bytesIn": "50", "bytesOut": "360",
    },
}  # fmt: skip
EMITTER = {
    "Key": {
        "source_name": "web-85bfb6d759-*", "source_namespace": "shop", "source_type": 1,
        "dest_name": "cart-0", "dest_namespace": "shop", "dest_type": 1, "dest_port": 80,
        "proto": "tcp", "reporter": 1, "action": 1,
        "policies": {
            "enforced_policies": [
                {"kind": 1, "name": "allow-web", "namespace": "shop", "tier": "default",
                 "action": 1, "rule_index": 1}
            ]
        },
    },
    "start_time": 1791446895, "end_time": 1791446910,
    "source_labels": ["app=web", "empty=", "a=b=c"], "dest_labels": ["app=cart"],
    "packets_in": 5, "packets_out": 6, "bytes_in": 50, "bytes_out": 360,
}  # fmt: skip


def batch(*records: Any) -> Batch:
    texts = [record if isinstance(record, str) else json.dumps(record) for record in records]
    made = parse("".join(f"{text}\n" for text in texts).encode())
    assert made.flows.schema.equals(FLOWS)
    assert made.lines == made.flows.num_rows + sum(made.skipped.values()) + len(made.rejects)
    return made


def flow(**more: Any) -> dict[str, Any]:
    made = batch({**WHISKER, **more})
    assert made.flows.num_rows == 1, (made.skipped, made.rejects)
    return dict(made.flows.to_pylist()[0])


def test_the_three_forms_of_one_flow_give_one_row() -> None:
    made = batch(WHISKER, GRPC, EMITTER, "data: " + json.dumps(WHISKER)).flows.to_pylist()
    assert made[0] == made[1] == made[2] == made[3]
    assert {key: value for key, value in made[0].items() if value is not None} == {
        "cluster": "default", "day": datetime(2026, 10, 8).date(), "format": "goldmane",
        "time": datetime(2026, 10, 8, 8, 8, 15, tzinfo=UTC),
        "end_time": datetime(2026, 10, 8, 8, 8, 30, tzinfo=UTC),
        "event": "record", "reporter": "src", "verdict": "allowed", "is_reply": False,
        "established": True, "protocol": "TCP", "src_type": "pod", "src_namespace": "shop",
        "src_pod_prefix": "web-85bfb6d759-", "src_labels": "a=b=c\napp=web\nempty=",
        "dst_type": "pod", "dst_namespace": "shop", "dst_pod": "cart-0",
        "dst_labels": "app=cart", "dst_port": 80, "policies": "0|default|np:shop/allow-web|allow|1",
        "connections": 1, "bytes_to_dst": 360, "bytes_to_src": 50,
    }  # fmt: skip


def test_trap_numeric_enums_and_numbers_as_text() -> None:
    key = {**EMITTER["Key"], "reporter": "2", "action": "2", "dest_port": "443"}  # type: ignore[dict-item]
    (row,) = batch({**EMITTER, "Key": key, "packets_in": "3"}).flows.to_pylist()
    assert (row["reporter"], row["verdict"], row["dst_port"]) == ("dst", "denied", 443)


def test_trap_in_and_out_counters_are_turned_by_reporter() -> None:
    row = flow(reporter="Dst")
    assert (row["bytes_to_dst"], row["bytes_to_src"]) == (50, 360)
    assert flow(packets_in=0)["established"] is False
    assert flow(reporter="Dst", packets_out=0)["established"] is False


def test_trap_stale_deny_with_zero_packets() -> None:
    made = batch({**WHISKER, "action": "Deny", "packets_in": 0, "packets_out": 0})
    assert made.skipped == {"stale deny": 1}


def test_trap_pass_is_no_verdict_of_a_connection() -> None:
    assert [r.reason for r in batch({**WHISKER, "action": "Pass"}).rejects] == ["unknown action"]


def test_trap_pub_and_pvt_under_whiskers_names() -> None:
    row = flow(dest_name="PUBLIC NETWORK", dest_namespace="-", dest_labels="")
    assert (row["dst_type"], row["dst_set"], row["dst_pod"]) == ("outside", "public", None)
    assert flow(source_name="PRIVATE NETWORK", source_namespace="-")["src_set"] == "private"
    assert flow(source_name="pvt", source_namespace="")["src_set"] == "private"


def test_trap_network_sets_and_host_endpoints_are_no_pods() -> None:
    row = flow(dest_name="partners", dest_namespace="-", dest_type="NetworkSet")
    assert (row["dst_type"], row["dst_set"], row["dst_pod"]) == ("set", "partners", None)
    row = flow(dest_name="node-1", dest_namespace="-", dest_type="HostEndpoint")
    assert (row["dst_type"], row["dst_workload_kind"]) == ("hostendpoint", "HostEndpoint")
    untyped = flow(dest_name="partners", dest_namespace="-")
    assert (untyped["dst_type"], untyped["dst_pod"], untyped["dst_set"]) == (None, None, None)


def test_trap_end_of_tier_names_its_trigger() -> None:
    trigger = {"kind": "NetworkPolicy", "name": "isolate", "namespace": "shop", "tier": "default",
               "action": "ActionUnspecified"}  # fmt: skip
    end = {"kind": "EndOfTier", "tier": "default", "action": "Deny", "rule_index": -1,
           "trigger": trigger}  # fmt: skip
    row = flow(policies={"enforced": [end], "pending": []}, action="Deny")
    assert row["policies"] == "0|default|knp:shop/isolate|deny|-1"


def test_trap_pending_policies_are_not_enforced() -> None:
    staged = {**HIT, "kind": "StagedNetworkPolicy", "name": "try"}
    assert "try" not in flow(policies={"enforced": [HIT], "pending": [staged]})["policies"]


def test_trap_volatile_labels_and_calicos_own_are_told_apart() -> None:
    row = flow(source_labels="app=web | projectcalico.org/namespace=shop | pcns.a=b")
    assert row["src_labels"] == "app=web"


def test_trap_icmp_port_0_is_no_port() -> None:
    row = flow(protocol="icmp", dest_port=0)
    assert (row["protocol"], row["dst_port"]) == ("ICMP", None)


def test_trap_service_port_is_not_the_policys_port() -> None:
    row = flow(dest_port=8080, dest_service_port=80, dest_service_name="web")
    assert (row["dst_port"], row["service"]) == (8080, "web")


def test_an_event_stream_that_ends_with_an_error_leaves_a_gap() -> None:
    made = batch(": hello", "event: flow", "data: " + json.dumps(WHISKER), "", "error: it\x1b went")
    assert made.skipped == {"stream field": 2, "blank line": 1, "stream error": 1}
    (gap,) = made.gaps
    assert (gap.kind, gap.detail) == ("stream_error", "it\\u001b went")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"start_time": "soon"}, "unreadable time"),
        ({"start_time": 1791446895000}, "unreadable time"),
        ({"dest_port": 70000}, "bad port"),
        ({"dest_port": "http"}, "bad port"),
        ({"source_namespace": "a\nb"}, "control character"),
        ({"action": "maybe"}, "unknown action"),
        ({"reporter": "3"}, "unknown reporter"),
        ({"action": "9" * 5_000}, "unknown action"),
        ({"packets_in": "many"}, "wrong type"),
        ({"packets_in": -1}, "wrong type"),
        ({"policies": [1]}, "wrong type"),
        ({"source_labels": {"a": 1}}, "wrong type"),
        ({"source_name_aggr": "x"}, "not a flow record"),
    ],
    ids=str,
)
def test_what_cannot_be_understood_is_a_reject_with_a_reason(
    more: dict[str, Any], reason: str
) -> None:
    made = batch(WHISKER, {**WHISKER, **more}, WHISKER)
    assert [(reject.line, reject.reason) for reject in made.rejects] == [(2, reason)]
    assert made.flows.num_rows == 2


def test_a_key_that_stands_twice_is_a_reject() -> None:
    text = json.dumps(WHISKER).replace('"action"', '"action":"Deny","action"', 1)
    assert [reject.reason for reject in batch(text).rejects] == ["duplicate key"]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([WHISKER, GRPC, EMITTER]), st.data(), ANY)
def test_any_value_in_any_place_is_accounted_for(
    record: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    changed = json.loads(json.dumps(record))
    place = changed
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
            place = place[key]
        else:
            place[key] = value
            break
    made = batch(changed, record)
    made.flows.validate(full=True)
    assert made.lines == 2
    assert made.flows.num_rows >= 1  # of the record as it was


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not part of the project")
def test_real_lines_of_every_form_are_read() -> None:
    stream = parse((SAMPLES / "cyrinux__ichor/flows.sse").read_bytes())
    assert (stream.flows.num_rows, stream.rejects, len(stream.gaps)) == (5, [], 1)
    assert stream.flows["verdict"].to_pylist() == [
        "allowed",
        "denied",
        "denied",
        "denied",
        "allowed",
    ]
    whisker = parse((SAMPLES / "BirknerAlex__kubyl/whisker-flows-3.32.jsonl").read_bytes())
    assert (whisker.flows.num_rows, whisker.rejects) == (3, [])
    emitter = (SAMPLES / "projectcalico__calico/goldmane-emitter-flow.jsonl").read_text()
    (row,) = batch(
        emitter.strip().replace('"action":1,', '"action":1,"reporter":1,', 1)
    ).flows.to_pylist()
    assert row["policies"] == "0|test-tier|knp:kube-system/cluster-dns|allow|1"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not part of the project")
@pytest.mark.parametrize("file", ["kind-format", "legacy-v3.31", "felix-fv"])
def test_real_policy_strings_old_and_new_tell_staged_ones(file: str) -> None:
    texts = (
        (SAMPLES / f"projectcalico__calico/policy-hit-strings-{file}.txt").read_text().split("\n")
    )
    hits = [hit for hit in texts if hit]
    staged = {hit for hit in hits if "staged" in hit or "|s" in hit}
    assert {hit for hit in hits if is_staged(hit)} == staged
