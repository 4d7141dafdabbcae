import json
from collections import Counter
from datetime import UTC, datetime
from itertools import product, zip_longest
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ingest.hubble_rows
from ingest.batch import Batch
from ingest.hubble import parse
from ingest.hubble_pieces import PIECES, Pieces
from ingest.schema import FLOWS

SAMPLES = Path(__file__).parents[2] / "shared" / "samples" / "hubble"
TIME = "2026-03-02T08:00:00.123456789Z"

CLIENT = {
    "ID": 881,
    "identity": 3418,
    "cluster_name": "prod",
    "namespace": "shop",
    "labels": [
        "k8s:app=web",
        "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop",
        "k8s:io.cilium.k8s.policy.cluster=prod",
        "k8s:io.cilium.k8s.policy.serviceaccount=web-sa",
        "k8s:io.kubernetes.pod.namespace=shop",
        "k8s:tier=front",
    ],
    "pod_name": "web-6b746f74dc-9rcxx",
    "workloads": [{"name": "web", "kind": "Deployment"}],
}
SERVER = {
    "identity": 11615,
    "namespace": "shop",
    "labels": ["k8s:app=cart", "k8s:io.kubernetes.pod.namespace=shop"],
    "pod_name": "cart-0",
}
WORLD = {"identity": 2, "labels": ["reserved:world"]}
REQUEST = {
    "time": TIME,
    "verdict": "FORWARDED",
    "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
    "l4": {"TCP": {"source_port": 41000, "destination_port": 8080, "flags": {"SYN": True}}},
    "source": CLIENT,
    "destination": SERVER,
    "Type": "L3_L4",
    "node_name": "prod/node-1",
    "event_type": {"type": 4, "sub_type": 3},
    "traffic_direction": "EGRESS",
    "trace_observation_point": "TO_STACK",
    "is_reply": False,
}


def flow(**changes):
    """REQUEST with changes; a value of None leaves the key out."""
    return {k: v for k, v in {**REQUEST, **changes}.items() if v is not None}


def tcp(source, destination, *flags):
    ports = {"source_port": source, "destination_port": destination}
    return {"TCP": {**ports, "flags": dict.fromkeys(flags, True)}}


def udp(source, destination):
    return {"UDP": {"source_port": source, "destination_port": destination}}


def line(inner):
    return json.dumps({"flow": inner, "node_name": inner.get("node_name"), "time": TIME})


def batch(*lines, **options) -> Batch:
    """The lines read; dicts are flows, text stands for itself."""
    texts = [text if isinstance(text, str) else line(text) for text in lines]
    made = parse("".join(f"{text}\n" for text in texts).encode(), **options)
    assert made.lines == made.flows.num_rows + sum(made.skipped.values()) + len(made.rejects)
    return made


def row(inner, **options):
    """The one row that a flow gives."""
    made = batch(inner, **options)
    assert made.rejects == []
    assert made.flows.num_rows == 1
    return made.flows.to_pylist()[0]


def ends(found):
    return found["src_pod"], found["src_port"], found["dst_pod"], found["dst_port"]


FORWARD = ("web-6b746f74dc-9rcxx", 41000, "cart-0", 8080)
BACKWARD = ("cart-0", 8080, "web-6b746f74dc-9rcxx", 41000)


# --- one plain line ------------------------------------------------------------------------------


def test_a_request_gives_every_column_that_the_log_knows():
    found = {k: v for k, v in row(flow()).items() if v is not None}
    assert found == {
        "cluster": "prod",
        "day": datetime(2026, 3, 2).date(),
        "time": datetime(2026, 3, 2, 8, 0, 0, 123456, UTC),
        "format": "hubble",
        "node": "node-1",
        "reporter": "src",
        "verdict": "allowed",
        "event": "trace",
        "observation": "TO_STACK",
        "is_reply": False,
        "established": False,
        "protocol": "TCP",
        "src_type": "pod",
        "src_cluster": "prod",
        "src_namespace": "shop",
        "src_pod": "web-6b746f74dc-9rcxx",
        "src_workload_kind": "Deployment",
        "src_workload": "web",
        "src_labels": "app=web\ntier=front",
        "src_service_account": "web-sa",
        "src_ip": "10.0.0.1",
        "src_port": 41000,
        "dst_type": "pod",
        "dst_namespace": "shop",
        "dst_pod": "cart-0",
        "dst_labels": "app=cart",
        "dst_ip": "10.0.0.2",
        "dst_port": 8080,
        "connections": 1,
    }


def test_the_table_has_the_columns_of_the_schema_in_their_order():
    assert batch(flow()).flows.schema.equals(FLOWS, check_metadata=True)
    assert batch().flows.schema.equals(FLOWS, check_metadata=True)
    batch(flow()).flows.validate(full=True)


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-03-02T08:00:00Z", 0),
        ("2026-03-02T08:00:00.4Z", 400_000),
        ("2026-03-02T08:00:00.095357Z", 95_357),
        ("2026-03-02T08:00:00.465597750Z", 465_597),
        ("2026-03-02T09:00:00.465597750+01:00", 465_597),
    ],
)
def test_a_time_has_any_number_of_fraction_digits(text, microsecond):
    assert row(flow(time=text))["time"] == datetime(2026, 3, 2, 8, 0, 0, microsecond, UTC)


def test_the_last_nanosecond_of_a_day_belongs_to_that_day():
    found = row(flow(time="2026-03-02T23:59:59.999999999Z"))
    assert str(found["day"]) == "2026-03-02"


# --- traps: replies ------------------------------------------------------------------------------


def test_trap_reply_packets_are_turned_around():
    reply = flow(
        source=SERVER, destination=CLIENT, l4=tcp(8080, 41000, "ACK"), is_reply=True,
        IP={"source": "10.0.0.2", "destination": "10.0.0.1"}, source_names=["cart.shop"],
        source_service={"name": "cart", "namespace": "shop"},
    )  # fmt: skip
    found = row(reply)
    assert ends(found) == FORWARD
    assert (found["src_ip"], found["dst_ip"]) == ("10.0.0.1", "10.0.0.2")
    assert (found["dst_names"], found["src_names"]) == ("cart.shop", None)
    assert (found["service_namespace"], found["service"]) == ("shop", "cart")
    assert found["is_reply"] is True


@pytest.mark.parametrize(
    ("changes", "reply"),
    [
        ({"is_reply": False, "reply": True}, False),
        ({"reply": True}, True),
        ({"trace_reason": "REPLY", "l4": tcp(41000, 80, "SYN")}, True),
        ({"trace_reason": "NEW", "l4": tcp(80, 41000, "SYN", "ACK")}, False),
        ({"trace_reason": "ESTABLISHED", "l4": tcp(80, 41000, "ACK")}, False),
        ({"trace_reason": "RELATED", "l4": tcp(80, 90, "ACK")}, None),
        ({"l4": tcp(80, 41000, "SYN")}, False),
        ({"l4": tcp(41000, 80, "SYN", "ACK")}, True),
        ({"l4": tcp(41000, 80, "ACK")}, False),
        ({"l4": tcp(80, 41000, "ACK")}, True),
        ({"l4": udp(53, 41000)}, True),
        ({"l4": udp(7946, 7946)}, None),
        ({"l4": udp(41000, 51000)}, None),
        ({"l4": {"ICMPv4": {"type": 8}}}, False),
        ({"l4": {"ICMPv4": {}}}, True),
        ({"l4": {"ICMPv6": {"type": 128}}}, False),
        ({"l4": {"ICMPv6": {"type": 129}}}, True),
        ({"l4": {"ICMPv6": {"type": 133}}}, None),
        ({"l4": None}, None),
    ],
)
def test_trap_is_reply_absent_is_not_false_but_told_in_order(changes, reply):
    found = row(flow(**{"is_reply": None, **changes}))
    assert found["is_reply"] is reply
    assert found["src_pod"] == ("cart-0" if reply else "web-6b746f74dc-9rcxx")


def test_trap_drop_direction_a_dropped_reply_is_turned_around_and_reported_by_the_server():
    dropped = flow(
        source={**SERVER, "ID": 5}, destination={**CLIENT, "ID": None}, l4=udp(53, 41000),
        is_reply=None, verdict="DROPPED", event_type={"type": 1, "sub_type": 133},
        drop_reason_desc="POLICY_DENIED", trace_observation_point=None,
    )  # fmt: skip
    found = row(dropped)
    assert found["src_pod"] == "web-6b746f74dc-9rcxx"
    assert (found["dst_pod"], found["dst_port"]) == ("cart-0", 53)
    assert found["reporter"] == "dst"


# --- traps: verdicts and events ------------------------------------------------------------------

DROP = {"event_type": {"type": 1}, "trace_observation_point": None, "is_reply": None}
VERDICT = {"event_type": {"type": 5}, "trace_observation_point": None}
L7 = {"event_type": {"type": 129}, "Type": "L7", "trace_observation_point": None}


@pytest.mark.parametrize(
    ("changes", "verdict", "event", "reason"),
    [
        ({}, "allowed", "trace", None),
        ({"verdict": "REDIRECTED"} | VERDICT, "allowed", "verdict", None),
        ({"trace_observation_point": "FROM_ENDPOINT"}, "pending", "trace", None),
        ({"trace_observation_point": "FROM_NETWORK"}, "pending", "trace", None),
        ({"verdict": "AUDIT"} | VERDICT, "audited", "verdict", None),
        ({"verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED"} | DROP, "denied", "drop",
         "POLICY_DENIED"),
        ({"verdict": "DROPPED", "drop_reason": 181} | DROP, "denied", "drop", "POLICY_DENY"),
        ({"verdict": "DROPPED", "event_type": {"type": 1, "sub_type": 189}}, "denied", "drop",
         "AUTH_REQUIRED"),
        ({"verdict": "DROPPED"} | VERDICT, "denied", "verdict", None),
        ({"verdict": "DROPPED", "drop_reason_desc": "CT_MAP_INSERTION_FAILED"} | DROP, "dropped",
         "drop", "CT_MAP_INSERTION_FAILED"),
        ({"verdict": "DROPPED", "drop_reason": 132} | DROP, "dropped", "drop", "132"),
        ({"verdict": "ERROR"}, "dropped", "trace", None),
        ({"verdict": "DROPPED", "l7": {"type": "REQUEST", "http": {"code": 403}}} | L7, "denied",
         "l7", None),
        ({"verdict": None}, "pending", "trace", None),
    ],
)  # fmt: skip
def test_traps_of_verdicts(changes, verdict, event, reason):
    found = row(flow(**changes))
    assert (found["verdict"], found["event"], found["drop_reason"]) == (verdict, event, reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verdict": "TRACED"}, "socket event"),
        ({"verdict": "TRANSLATED"}, "socket event"),
        ({"Type": "SOCK", "event_type": {"type": 7}}, "socket event"),
        ({"event_type": {"type": 2}}, "debug event"),
        ({"event_type": {"type": 3}}, "capture event"),
        ({"event_type": {"type": 130}}, "agent event"),
        ({"event_type": {"type": 77}}, "other event"),
        ({"verdict": 99}, "other verdict"),
        ({"l7": {"type": "RESPONSE", "http": {"code": 200}}} | L7, "L7 response"),
        ({"l7": {"type": "RESPONSE", "dns": {"query": "a.", "rcode": 3}}} | L7, "L7 response"),
        ({"l7": {"type": "SAMPLE"}} | L7, "L7 sample"),
    ],
)
def test_trap_events_that_are_no_traffic_are_skipped_and_counted(changes, reason):
    assert batch(flow(**changes)).skipped == {reason: 1}


def test_lines_of_other_kinds_are_skipped_and_lost_events_are_added_up():
    lost = {"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "41"}, "time": TIME}
    made = batch(
        json.dumps(lost), json.dumps(lost), '{"node_status":{"state_change":"NODE_GONE"}}',
        '{"agent_event":{"type":"POLICY_UPDATED"}}', '{"debug_event":{}}', "", "  ",
    )  # fmt: skip
    assert made.skipped == {
        "lost_events": 2, "node_status": 1, "agent_event": 1, "debug_event": 1, "blank line": 2,
    }  # fmt: skip
    assert made.lost == 82


def test_enums_may_be_numbers():
    as_numbers = flow(
        verdict=2, traffic_direction=1, trace_observation_point=101, trace_reason="1", Type=1,
        drop_reason_desc=133, is_reply=None,
    )  # fmt: skip
    found = row(as_numbers)
    assert (found["verdict"], found["drop_reason"]) == ("denied", "POLICY_DENIED")
    assert (found["observation"], found["is_reply"]) == ("TO_ENDPOINT", False)


def test_a_verdict_as_a_very_long_number_is_another_verdict():
    assert batch(flow(verdict="9" * 5_000)).skipped == {"other verdict": 1}


def test_the_observation_point_comes_from_the_event_number_where_it_is_missing():
    for number, point in ((None, "TO_ENDPOINT"), (4, "TO_OVERLAY"), (5, "FROM_ENDPOINT")):
        event = {"type": 4} if number is None else {"type": 4, "sub_type": number}
        found = row(flow(trace_observation_point=None, event_type=event))
        assert found["observation"] == point


def test_policies_are_named_with_their_kind():
    allowed = [
        {"name": "web", "namespace": "shop", "kind": "CiliumNetworkPolicy", "revision": "6"},
        {"name": "base", "kind": "CiliumClusterwideNetworkPolicy"},
    ]
    found = row(flow(egress_allowed_by=allowed, ingress_denied_by=[{"name": "x"}], **VERDICT))
    assert found["policies"] == (
        "CiliumClusterwideNetworkPolicy base\nCiliumNetworkPolicy shop/web\nx"
    )


# --- traps: reporter, established, connections ---------------------------------------------------

BOTH = {"source": {**CLIENT, "ID": 1}, "destination": {**SERVER, "ID": 2}}
NEITHER = {"source": {**CLIENT, "ID": None}}


@pytest.mark.parametrize(
    ("changes", "reporter"),
    [
        ({"traffic_direction": "INGRESS"} | VERDICT, "dst"),
        ({"traffic_direction": "INGRESS", "is_reply": True} | VERDICT, "dst"),
        ({"traffic_direction": "EGRESS", "l7": {"type": "REQUEST"}} | L7, "src"),
        ({"traffic_direction": "EGRESS", "trace_observation_point": "TO_ENDPOINT"}, "dst"),
        ({"trace_observation_point": "TO_ENDPOINT", "is_reply": True}, "src"),
        ({"traffic_direction": "INGRESS"}, "src"),
        ({"is_reply": True}, "dst"),
        (BOTH, "src"),
        (BOTH | {"is_reply": True}, "dst"),
        (NEITHER | {"source": {k: v for k, v in CLIENT.items() if k != "ID"}}, None),
    ],
)
def test_trap_direction_is_trusted_on_verdicts_drops_and_l7_only(changes, reporter):
    assert row(flow(**changes))["reporter"] == reporter


@pytest.mark.parametrize(
    ("changes", "established"),
    [
        ({"l4": tcp(41000, 80, "SYN")}, False),
        ({"l4": tcp(41000, 80, "SYN"), "trace_reason": "ESTABLISHED"}, False),
        ({"l4": tcp(41000, 80, "ACK")}, True),
        ({"l4": tcp(41000, 80, "ACK", "PSH")}, True),
        ({"l4": tcp(41000, 80, "RST", "ACK")}, None),
        ({"l4": tcp(80, 41000, "SYN", "ACK"), "is_reply": True}, True),
        ({"l4": tcp(80, 41000, "RST", "ACK"), "is_reply": True}, False),
        ({"l4": {"TCP": {"source_port": 41000, "destination_port": 80}}}, None),
        ({"l4": {"TCP": {"source_port": 41000}}, "trace_reason": "ESTABLISHED"}, True),
        ({"l4": udp(41000, 53)}, None),
        ({"l4": udp(41000, 53), "trace_reason": "ESTABLISHED"}, True),
        ({"l4": udp(53, 41000), "is_reply": True}, True),
        ({"l7": {"type": "REQUEST"}} | L7, True),
    ],
)
def test_traps_long_lived_connections_and_unanswered_attempts(changes, established):
    assert row(flow(**changes))["established"] is established


def test_trap_monitor_aggregation_a_line_is_one_connection_unless_the_exporter_counted():
    assert row(flow())["connections"] == 1
    counted = {"ingress_flow_count": 2, "egress_flow_count": "5"}
    assert row(flow(aggregate=counted))["connections"] == 7
    assert row(flow(aggregate={}))["connections"] == 1


# --- traps: ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ({"identity": 1, "labels": ["reserved:host"]}, "host"),
        ({"identity": 1, "labels": ["reserved:host", "reserved:remote-node"]}, "host"),
        ({"identity": 6, "labels": ["reserved:remote-node"]}, "node"),
        ({"identity": 33554433, "labels": []}, "node"),
        ({"identity": 7}, "apiserver"),
        ({"identity": 16777217, "labels": ["reserved:kube-apiserver", "reserved:world"]},
         "apiserver"),
        ({"identity": 1, "labels": ["reserved:host", "reserved:kube-apiserver"]}, "apiserver"),
        ({"identity": 8, "labels": ["reserved:ingress"]}, "ingress"),
        ({"identity": 4, "labels": ["reserved:health"]}, "health"),
        ({"identity": 5, "labels": ["reserved:init"]}, "init"),
        ({"identity": 3, "labels": ["reserved:unmanaged"]}, "unmanaged"),
        ({"identity": 2, "labels": ["reserved:world"]}, "outside"),
        ({"identity": 9}, "outside"),
        ({"identity": 10, "labels": ["reserved:world-ipv6"]}, "outside"),
        ({"identity": 16777219, "labels": ["cidr:104.20.23.154/32", "reserved:world"]}, "outside"),
        ({"identity": 16777220}, "outside"),
        ({"labels": ["cidr:10.0.0.0/8"]}, "outside"),
        ({"identity": 139460, "namespace": "a", "pod_name": "b"}, "pod"),
        ({"identity": 40000}, "pod"),
        ({"namespace": "default", "pod_name": "xwing"}, "pod"),
        ({}, None),
        (None, None),
    ],
)  # fmt: skip
def test_traps_what_an_end_is(end, kind):
    assert row(flow(destination=end))["dst_type"] == kind


def test_trap_a_pod_with_reserved_world_is_a_pod():
    found = row(flow(destination={**WORLD, "namespace": "shop", "pod_name": "cart-0"}))
    assert (found["dst_type"], found["dst_namespace"], found["dst_pod"]) == (
        "pod",
        "shop",
        "cart-0",
    )
    assert found["dst_labels"] is None


def test_trap_labels_without_namespace_after_the_proxy():
    found = row(flow(source={"identity": 3418, "labels": CLIENT["labels"]}))
    assert (found["src_type"], found["src_namespace"], found["src_pod"]) == ("pod", "shop", None)
    assert found["src_labels"] == "app=web\ntier=front"


def test_trap_stale_identity_a_pod_name_of_another_namespace_is_not_believed():
    found = row(flow(source={**CLIENT, "namespace": "other"}))
    assert (found["src_namespace"], found["src_pod"]) == ("shop", None)


def test_trap_host_network_pods_stay_hosts_and_keep_their_name():
    pod = {"namespace": "kube-system", "pod_name": "kube-proxy-x"}
    found = row(flow(source={"identity": 1, "labels": ["reserved:host"], **pod}))
    assert (found["src_type"], found["src_pod"]) == ("host", "kube-proxy-x")


def test_trap_generated_fqdn_and_cidr_labels_are_no_pod_labels():
    labels = ["gen:io.cilium.k8s.named-ports=dns.UDP.53", "fqdn:*.example.com", "cidr:1.2.3.4/32",
              "node:zone=a", "any:role=db", "k8s:empty=", "k8s:eq=a=b"]  # fmt: skip
    found = row(flow(destination={**SERVER, "labels": labels}))
    assert found["dst_labels"] == "empty=\neq=a=b\nrole=db"


def test_trap_workloads_are_named_at_the_local_end_only():
    found = row(flow())
    assert (found["src_workload"], found["dst_workload"]) == ("web", None)


def test_trap_cluster_mesh_ends_keep_their_own_cluster():
    remote = {**SERVER, "cluster_name": "poc2"}
    found = row(flow(destination=remote, node_name="poc1/worker"))
    assert (found["cluster"], found["src_cluster"], found["dst_cluster"]) == (
        "poc1",
        "prod",
        "poc2",
    )


@pytest.mark.parametrize(
    ("node", "source", "option", "cluster", "name"),
    [
        ("poc1/worker", CLIENT, None, "poc1", "worker"),
        ("worker", CLIENT, None, "prod", "worker"),
        ("worker", WORLD, None, "default", "worker"),
        (None, WORLD, None, "default", None),
        ("poc1/worker", CLIENT, "mine", "mine", "worker"),
    ],
)
def test_the_cluster_is_the_options_else_the_nodes_else_the_local_ends(
    node, source, option, cluster, name
):
    found = row(flow(node_name=node, source=source), cluster=option)
    assert (found["cluster"], found["node"]) == (cluster, name)


def test_trap_fqdn_names_are_kept_sorted_without_the_last_dot():
    found = row(flow(destination=WORLD, destination_names=["b.example.com.", "a.example.com"]))
    assert found["dst_names"] == "a.example.com\nb.example.com"


# --- traps: L7, ICMP -----------------------------------------------------------------------------


def test_trap_dns_requests_and_answers():
    query = {"query": "cart.shop.svc.cluster.local.", "qtypes": ["A"]}
    asked = row(flow(l7={"type": "REQUEST", "dns": query}, l4=udp(41000, 53), **L7))
    assert (asked["dns_query"], asked["dns_ips"]) == ("cart.shop.svc.cluster.local", None)
    answer = {**query, "ips": ["10.0.0.9", "10.0.0.10"], "ttl": 30}
    answered = row(
        flow(
            source=SERVER, destination=CLIENT, l4=udp(53, 41000), is_reply=True,
            l7={"type": "RESPONSE", "dns": answer}, **L7,
        )
    )  # fmt: skip
    assert ends(answered) == ("web-6b746f74dc-9rcxx", 41000, "cart-0", 53)
    assert answered["dns_ips"] == "10.0.0.10\n10.0.0.9"


def test_nothing_of_http_is_kept():
    secret = "s3cr3t-token"
    http = {"method": "GET", "url": f"http://cart/?k={secret}",
            "headers": [{"key": "Authorization", "value": secret}]}  # fmt: skip
    made = batch(flow(l7={"type": "REQUEST", "http": http}, **L7))
    assert made.flows.num_rows == 1
    assert secret not in str(made.flows.to_pylist())


def test_trap_icmp_has_a_type_and_no_port_and_an_empty_object_is_an_echo_reply():
    found = row(flow(l4={"ICMPv4": {}}, is_reply=None))
    assert (found["protocol"], found["icmp_type"], found["dst_port"]) == ("ICMP", 0, None)
    assert found["is_reply"] is True


@pytest.mark.parametrize("name", ["SCTP", "VRRP", "IGMP"])
def test_other_protocols_keep_their_name(name):
    assert row(flow(l4={name: {}}))["protocol"] == name


# --- traps: shapes of lines ----------------------------------------------------------------------


def camel(value):
    if isinstance(value, dict):
        return {
            k if k[:1].isupper() else k[:1] + k.title().replace("_", "")[1:]: camel(v)
            for k, v in value.items()
        }
    return [camel(item) for item in value] if isinstance(value, list) else value


def without_metadata(made):
    return made.flows.to_pylist()


def test_trap_keys_in_lower_camel_case():
    inner = flow(l4={"TCP": {"source_port": 41000, "destination_port": 8080, "flags": {}}})
    spelt = {"flow": camel(inner), "nodeName": "prod/node-1", "time": TIME}
    assert "sourcePort" in json.dumps(spelt)
    assert without_metadata(batch(json.dumps(spelt))) == without_metadata(batch(inner))
    lost = '{"lostEvents":{"numEventsLost":"3"},"nodeName":"n"}'
    assert batch(lost).lost == 3


def test_trap_the_older_flat_form():
    assert without_metadata(batch(json.dumps(flow()))) == without_metadata(batch(flow()))


@pytest.mark.parametrize("key", ["log", "message", "line", "body", "_raw"])
def test_trap_a_line_as_text_inside_a_shippers_object(key):
    wrapped = json.dumps({key: line(flow()) + "\n", "stream": "stdout"})
    assert without_metadata(batch(wrapped)) == without_metadata(batch(flow()))


def test_trap_the_prefix_of_container_runtimes():
    prefixed = f"2026-03-02T08:00:00.1Z stdout F {line(flow())}"
    for text in (prefixed, json.dumps({"log": prefixed}), json.dumps({"line": prefixed, "ts": 1})):
        assert without_metadata(batch(text)) == without_metadata(batch(flow()))
    nested = json.dumps({"message": json.dumps({"log": line(flow())})})
    assert without_metadata(batch(nested)) == without_metadata(batch(flow()))


def parts(text: str, size: int, stream: str = "stdout") -> list[str]:
    """A line as a container runtime writes it, cut into parts of that size."""
    cut = [text[at : at + size] for at in range(0, len(text), size)]
    marks = ["P"] * (len(cut) - 1) + ["F"]
    return [f"2026-03-02T08:00:00.1Z {stream} {mark} {part}"
            for mark, part in zip(marks, cut, strict=True)]  # fmt: skip


@pytest.mark.parametrize("size", [1, 40, 500, 5_000])
def test_parts_of_a_line_that_the_container_runtime_cut_up_are_put_together(size):
    text = line(flow())
    made = batch(*parts(text, size), line(flow(verdict="AUDIT")))
    assert made.flows["verdict"].to_pylist() == ["allowed", "audited"]
    assert without_metadata(made)[:1] == without_metadata(batch(flow()))
    assert made.skipped == ({"part of a line": made.lines - 2} if made.lines > 2 else {})
    assert made.rejects == []


def test_parts_of_two_streams_are_not_mixed():
    here, there = parts(line(flow()), 300), parts(line(flow()), 200, "stderr")
    mixed = [part for pair in zip_longest(here, there) for part in pair if part]
    made = batch(*mixed)
    assert (made.flows.num_rows, made.rejects) == (2, [])
    assert made.skipped == {"part of a line": len(mixed) - 2}


def test_a_part_without_its_last_part_is_said_to_be_partial():
    made = raw(f"2026-03-02T08:00:00.1Z stdout P {line(flow())[:200]}".encode(), GOOD)
    assert [reject.reason for reject in made.rejects] == ["partial line"]
    assert made.flows.num_rows == 1


def test_agent_messages_between_the_lines_are_rejects_and_harm_nothing():
    made = raw(b"level=info msg=hello", json.dumps({"log": "level=info"}).encode(), GOOD)
    assert [reject.reason for reject in made.rejects] == ["invalid JSON", "not a flow record"]


def test_keys_beside_the_flow_are_ignored():
    tenant = json.dumps({"tenant": "a", "flow": flow(), "time": TIME, "node_name": "prod/node-1"})
    assert without_metadata(batch(tenant)) == without_metadata(batch(flow()))


@pytest.mark.parametrize("key", sorted(REQUEST))
def test_trap_field_masked_lines_any_key_may_be_absent(key):
    made = batch(flow(**{key: None}))
    assert made.flows.num_rows == 1


def test_trap_field_masked_lines_fields_that_no_line_has_are_named():
    masked = flow(event_type=None, traffic_direction=None, is_reply=None, source={},
                  destination={"namespace": "a", "pod_name": "b"})  # fmt: skip
    assert batch(masked).absent == {"event_type", "traffic_direction", "is_reply", "labels"}
    assert batch(masked, flow()).absent == frozenset()
    dropped = flow(verdict="DROPPED", drop_reason_desc="POLICY_DENIED", **DROP)
    assert batch(dropped).absent == frozenset()


# --- lines that are not understood ---------------------------------------------------------------


def raw(*lines: bytes):
    made = parse(b"\n".join(lines) + b"\n")
    assert made.lines == made.flows.num_rows + sum(made.skipped.values()) + len(made.rejects)
    return made


GOOD = line(flow()).encode()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"flow":{"verdict":', "invalid JSON"),
        (GOOD[:200], "invalid JSON"),
        (GOOD + GOOD, "invalid JSON"),
        (GOOD.replace(b"shop", b"sh\xffop"), "invalid UTF-8"),
        (GOOD.replace(b'"Type"', b'"T\xffpe"'), "invalid UTF-8"),
        (b"\0" * 100, "invalid JSON"),
        (GOOD[:50] + b"\0\0\0", "invalid JSON"),
        (b"level=info msg=started", "invalid JSON"),
        (b"[1,2]", "not a flow record"),
        (b"17", "not a flow record"),
        (b"null", "not a flow record"),
        (b"{}", "not a flow record"),
        (b'{"flow":null}', "not a flow record"),
        (b'{"start_time":1,"action":"allow"}', "not a flow record"),
        (b'{"x":' + b"[" * 100_000 + b"}", "invalid JSON"),
        (b'{"flow":7}', "wrong type"),
        (line(flow(time="yesterday")).encode(), "unreadable time"),
        (line(flow(time="0001-01-01T00:00:00Z")).encode(), "unreadable time"),
        (line(flow(time="2026-02-30T00:00:00Z")).encode(), "unreadable time"),
        (line(flow(time="2026-03-02T08:00:00")).encode(), "unreadable time"),
        (b'{"flow":{"verdict":"FORWARDED"}}', "unreadable time"),
        (line(flow(time=12)).encode(), "wrong type"),
        (line(flow(event_type=5)).encode(), "wrong type"),
        (line(flow(source=[1])).encode(), "wrong type"),
        (line(flow(source={"labels": "x"})).encode(), "wrong type"),
        (line(flow(is_reply={"value": True})).encode(), "wrong type"),
        (line(flow(l4=udp(1, 70_000))).encode(), "bad port"),
        (line(flow(l4=udp(-1, 80))).encode(), "bad port"),
        (line(flow(IP={"source": "10.0.0.256"})).encode(), "bad address"),
        (line(flow(IP={"source": "fe80::1%eth0"})).encode(), "bad address"),
        (line(flow(source={**CLIENT, "pod_name": "a\nb"})).encode(), "control character"),
        (line(flow(source={**CLIENT, "labels": ["k8s:a=b\nc=d"]})).encode(), "control character"),
        (line(flow(node_name="a/b\0")).encode(), "control character"),
        (line(flow(destination_names=["a\nb"])).encode(), "control character"),
        (line(flow(l4={"ICMPv4": {"type": 256}})).encode(), "wrong type"),
        (b'{"flow":{"verdict":' + b"9" * 5_000 + b"}}", "wrong type"),
        (GOOD.replace(b'"Type"', b'"verdict": "DROPPED", "Type"'), "duplicate key"),
        (GOOD.replace(b'"Type"', b'"x":1,"x":1,"Type"'), "duplicate key"),
        (GOOD.replace(b'"app=', b'"app=').replace(b'"ID"', b'"identity": 1, "ID"'), "duplicate key"),
        (GOOD.replace(b'"source_port"', b'"source_port": 1, "source_port"'), "duplicate key"),
        (GOOD.replace(b'"SYN"', b'"SYN": false, "SYN"'), "duplicate key"),
        (GOOD.replace(b'"sub_type"', b'"type": 5, "sub_type"'), "duplicate key"),
        (GOOD.replace(b'"ipVersion"', b'"source": "10.0.0.9", "ipVersion"'), "duplicate key"),
        (GOOD.replace(b'{"flow"', b'{"time": "2026-03-02T08:00:00.1Z", "flow"'), "duplicate key"),
    ],
)  # fmt: skip
def test_a_line_that_is_not_understood_is_a_reject_and_its_neighbours_are_kept(bad, reason):
    made = raw(GOOD, bad, GOOD)
    assert [(reject.line, reject.reason) for reject in made.rejects] == [(2, reason)]
    assert made.flows.num_rows == 2
    assert "\0" not in made.rejects[0].text


def test_a_torn_last_line_is_said_to_be_torn_and_a_whole_one_needs_no_line_break():
    torn = parse(GOOD + b"\n" + GOOD[:300])
    assert [reject.reason for reject in torn.rejects] == ["torn last line"]
    whole = parse(GOOD + b"\n" + GOOD)
    assert (whole.lines, whole.flows.num_rows) == (2, 2)


def test_carriage_returns_and_a_byte_order_mark_do_no_harm():
    made = parse(b"\xef\xbb\xbf" + GOOD + b"\r\n" + GOOD + b"\r\n\r\n")
    assert (made.flows.num_rows, made.skipped, made.rejects) == (2, {"blank line": 1}, [])


def test_the_text_of_a_reject_is_cut():
    assert len(raw(b"x" * 100_000).rejects[0].text) == 2_000


def test_blocks_have_no_state_between_them():
    lines = [line(flow(l4=tcp(41000 + n, 80, "SYN"))).encode() for n in range(20)]
    whole = raw(*lines).flows
    parts = pa.concat_tables([raw(*lines[:7]).flows, raw(*lines[7:]).flows])
    assert whole.equals(parts)


# --- laws ----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
PATHS = [
    *((key,) for key in REQUEST),
    ("IP", "source"), ("l4", "TCP"), ("l4", "TCP", "source_port"), ("l4", "TCP", "flags"),
    ("l4", "ICMPv4"), ("source", "labels"), ("source", "identity"), ("source", "workloads"),
    ("source", "namespace"), ("event_type", "type"), ("event_type", "sub_type"), ("l7",),
    ("drop_reason",), ("drop_reason_desc",), ("aggregate",), ("egress_allowed_by",),
    ("destination_names",), ("destination_service",), ("trace_reason",), ("reply",),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PATHS), JSON)
def test_any_value_in_any_place_gives_a_flow_a_skip_or_a_reject(path, value):
    changed = json.loads(json.dumps(REQUEST))
    place = changed
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    made = batch(changed, flow())
    made.flows.validate(full=True)
    assert made.flows.num_rows >= 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.sampled_from([GOOD, GOOD[:99]]), max_size=6))
def test_any_bytes_are_accounted_for(pieces):
    made = parse(b"\n".join(pieces))
    assert made.lines == made.flows.num_rows + sum(made.skipped.values()) + len(made.rejects)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 65_535), st.integers(0, 65_535))
def test_a_reply_gives_the_row_of_its_request(source, destination):
    there = row(flow(l4=udp(source, destination)))
    back = row(
        flow(
            source=SERVER, destination=CLIENT, l4=udp(destination, source), is_reply=True,
            IP={"source": "10.0.0.2", "destination": "10.0.0.1"},
        )
    )  # fmt: skip
    same = [name for name in FLOWS.names if name.startswith(("src_", "dst_"))]
    assert [there[name] for name in same] == [back[name] for name in same]


SPELLINGS = {
    "as json.dumps": json.dumps,
    "compact": lambda record: json.dumps(record, separators=(",", ":")),
    "as protojson in every second build": lambda record: json.dumps(record, separators=(", ", ":")),
    "keys sorted": lambda record: json.dumps(record, sort_keys=True),
    "camel": lambda record: json.dumps(camel(record)),
    "wrapped": lambda record: json.dumps({"log": json.dumps(record) + "\n"}),
}


def careful(*texts: str) -> Batch:
    """The lines read one by one, by a reader that knows no template and so no line."""
    with patch.object(Pieces, "template", return_value=-1):
        made = [parse(f"{text}\n".encode()) for text in texts]
    rejects = [r._replace(line=n) for n, one in enumerate(made, 1) for r in one.rejects]
    skipped = sum((Counter(one.skipped) for one in made), Counter())
    flows = pa.concat_tables([one.flows for one in made])
    gaps = [gap for one in made for gap in one.gaps]
    return Batch(flows, dict(skipped), rejects, len(texts), gaps=gaps)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PATHS), JSON | st.sampled_from(["2026-03-02T08:00:00.1Z", 0, "x\n"]),
            st.sampled_from(sorted(SPELLINGS)), st.booleans(), st.integers(0, 70_000),
        ),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_the_quick_way_gives_what_the_careful_way_gives_on_every_line(changes):
    texts = []
    for path, value, spelling, is_changed, port in changes:
        record = json.loads(line(flow(l4=tcp(port, 8080, "ACK"))))
        place = record["flow"]
        if is_changed:
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = value
        texts += [SPELLINGS[spelling](record)] * 2
    assert_quick_is_careful(texts)


def assert_quick_is_careful(texts):
    slow = careful(*texts)
    block = "".join(f"{text}\n" for text in texts).encode()
    PIECES.clear()
    # The second time, all that can be known was known before.
    for quick in (parse(block), parse(block)):
        assert quick.flows.equals(slow.flows)
        assert (quick.skipped, quick.rejects) == (slow.skipped, slow.rejects)
        assert (quick.gaps, quick.lines) == (slow.gaps, slow.lines)


# Members of a flow with places for values, in the order of Hubble.
MEMBERS = [
    '"time":"%(time)s"', '"uuid":"%(uuid)s"', '"emitter":{"name":"Hubble"}', '"verdict":"FORWARDED"',
    '"ethernet":{"source":"9a:4b:92:54:a9:62","destination":"72:59:04:fd:68:13"}',
    '"IP":{"source":"%(a)s","destination":"%(b)s","ipVersion":"IPv4"}',
    '"l4":{"TCP":{"source_port":%(port)s,"destination_port":80,"flags":{"ACK":true}}}',
    '"source":%(from)s', '"destination":%(to)s', '"Type":"L3_L4"', '"node_name":"prod/node-1"',
    '"event_type":{"type":4}', '"trace_observation_point":"TO_ENDPOINT"', '"is_reply":%(reply)s',
    '"interface":%(interface)s', '"Summary":"TCP Flags: ACK"',
]  # fmt: skip
FORGED = [
    '"IP":{"source":"%(b)s","destination":"%(c)s"}',
    '"IP":{"source":"%(c)s","destination":"%(b)s","x":{"IP":{"source":"%(a)s"}}}',
    '"IP":{"source":"%(a)s","destination":"%(b)s","sourc\\u0065":"%(c)s"}',
    '"l4":{"TCP":{"source_port":%(port)s,"destination_port":443}}',
    '"l4":{"TCP":{"source_port":%(port)s,"destination_port":80.5}}',
    '"l4":{"TCP":{"source_port":0%(port)s,"destination_port":80}}',
    '"l4":{"UDP":{"source_port":%(port)s,"destination_port":%(port)s}}',
    '"l4":{"x":1,"TCP":{"source_port":1,"destination_port":2}}',
    '"source":%(to)s', '"sourc\\u0065":%(to)s', '"destination":%(from)s', '"time":"%(later)s"',
    '"uuid":"%(uuid)s"', '"Type":"L7"', '"Type":"SOCK"', '"event_type":{"type":7}', '"x":"%(odd)s"',
    '"x":"\\",\\"IP\\":{\\"source\\":\\"%(a)s\\""', '"x":"{\\"source\\":{"', '"is_reply":true',
    '"trace_reason":"REPLY"', '"reply":"no"', '"node_name":"b/\\u0000"', '"aggregate":{}',
    '"interface":%(interface)s', '"x":{"interface":%(interface)s}', '"interface":0',
    '"source":{"x":%(from)s,"destination":%(to)s}', '"source":{"identity":2,"identity":3}',
]  # fmt: skip
ENDS = [
    json.dumps(end, separators=(",", ":"))
    for end in (CLIENT, SERVER, WORLD, {"labels": ['k8s:a=}},{"destination":{']}, {"ID": "x"}, {})
]


def mostly(usual, *unusual):
    """Values of which most are usual, so that most lines are such as the quick way can read."""
    return st.integers(0, 9).flatmap(lambda n: st.sampled_from(unusual if n == 9 else usual))


VALUES = st.fixed_dictionaries(
    {
        "time": mostly([TIME, TIME.replace("08", "09")], "2026-03-02T08:00:60.123456789Z"),
        "later": mostly([TIME], "2026-03-02T07:00:00.123456789Z"),
        "uuid": mostly(["0" * 32, "e8bd1ea8-7f6d-419b-97d0-8e8e05e867a2"], "z"),
        "port": mostly([80, 40_000, 41_000], 0, 65_535, 65_536, 99_999),
        "reply": mostly(["false"], "true"),
        "interface": mostly(
            ['{"index":7}', '{"index":8,"name":"lxc0"}'], '{"a":1,"a":1}', '{"a":}', "{}"
        ),
        "odd": mostly([""], "\\u0022", "\\\\", "{", "}"),
        **{key: mostly(["10.0.0.1", "10.0.0.2", "fd00::1"], "1.2.3") for key in "abc"},
        **{key: mostly(ENDS[:3], *ENDS[3:]) for key in ("from", "to")},
    }
)


@st.composite
def forged_lines(draw):
    """Lines with the members of a flow, with others before, between, inside and after them."""
    members = list(MEMBERS)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(members)))
        match draw(st.sampled_from(["insert", "nest", "replace", "move", "drop", "swallow"])):
            case "insert":
                members.insert(at, draw(st.sampled_from(FORGED)))
            case "nest":
                inner = draw(st.lists(st.sampled_from(MEMBERS + FORGED), min_size=1, max_size=4))
                members.insert(at, '"x":{' + ",".join(inner) + "}")
            case "replace":
                members[at % len(members)] = draw(st.sampled_from(FORGED))
            case "move":
                members.insert(at, members.pop(draw(st.integers(0, len(members) - 1))))
            case "drop" if len(members) > 1:
                members.pop(at % len(members))
            case "swallow":  # the members of the flow, in an object beside those that count
                members = ['"x":{' + ",".join(members[at:]) + "}", *members]
    comma = draw(mostly([",", ", "], " ,"))
    flow = '{"flow":{' + comma.join(members) + "}"
    beside = draw(mostly(['"node_name":"prod/node-1"'], '"node_name":"a"', '"flow":{}', '"x":1'))
    when = draw(mostly(["time"], "later"))
    text = f'{flow}{comma}{beside}{comma}"time":"%({when})s"}}'
    return [text % draw(VALUES) for _ in range(draw(st.integers(3, 6)))]


@settings(max_examples=500, deadline=None)
@given(forged_lines())
def test_no_forged_line_is_read_otherwise_than_the_careful_way_reads_it(texts):
    assert_quick_is_careful(texts)


@pytest.mark.parametrize("first", [5, 6, 7, 8])
@pytest.mark.parametrize("last", [5, 6, 7, 8])
@pytest.mark.parametrize("real", ["10.0.0.1", "10.0.0.2"])
def test_a_part_of_a_flow_inside_another_part_is_not_taken_for_it(first, last, real):
    # The real addresses are those that the template is tried with.
    members = [
        *MEMBERS[:first],
        '"x":{' + ",".join(MEMBERS[first : last + 1]) + "}",
        '"IP":{"source":"%(real)s","destination":"10.0.1.1"}',
        *(member for member in MEMBERS[first:] if not member.startswith('"IP"')),
    ]
    text = '{"flow":{' + ",".join(members) + '},"node_name":"a","time":"%(time)s"}'
    values = {"time": TIME, "uuid": "0" * 32, "reply": "false", "b": "10.0.1.1", "real": real}
    values |= {"from": ENDS[0], "to": ENDS[1], "interface": '{"index":7}'}
    changes = [{"a": "10.0.0.1", "port": 41_000}, {"a": "10.0.0.2", "port": 42_000}] * 3
    assert_quick_is_careful([text % {**values, **change} for change in changes])


def test_a_cluster_that_no_name_can_be_makes_rejects_of_lines_that_were_met_before():
    assert batch(flow(), flow()).flows.num_rows == 2
    made = batch(flow(), flow(), cluster="a\nb")
    assert [reject.reason for reject in made.rejects] == ["control character"] * 2


def test_the_quick_way_is_taken(monkeypatch):
    calls = []
    row = ingest.hubble_rows.Reader.row

    def counted(self, text):
        calls.append(text)
        return row(self, text)

    monkeypatch.setattr(ingest.hubble_rows.Reader, "row", counted)
    for separators, more in product(((",", ":"), (", ", ":")), ({}, {"uuid": "0" * 32})):
        record = {"time": TIME} | more | flow()
        text = json.dumps(json.loads(line(record)), separators=separators) + "\n"
        calls.clear()
        PIECES.clear()
        assert parse(text.encode() * 50).flows.num_rows == 50
        assert not calls


# --- real lines ----------------------------------------------------------------------------------


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not part of the project")
def test_every_real_line_is_read():
    files = sorted(SAMPLES.glob("*/*json"))
    assert len(files) == 20
    lines, skipped = 0, Counter()
    for file in files:
        made = parse(file.read_bytes())
        assert made.rejects == [], file
        assert made.lines == made.flows.num_rows + sum(made.skipped.values()), file
        lines += made.lines
        skipped.update(made.skipped)
    assert lines == 1_980
    assert skipped == {"L7 response": 356}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not part of the project")
def test_real_replies_point_at_the_servers_port():
    made = parse((SAMPLES / "cilium-hubble-otel" / "basic-sample-400-tcp-flows.json").read_bytes())
    assert {port for port in made.flows["dst_port"].to_pylist() if port >= 32_768} == set()
