"""Live sources: a real gRPC server that speaks the protocol, and breaks off where it hurts."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

import ingest.live
from ingest import spool
from ingest.errors import SourceError
from ingest.follow import follow
from ingest.formats import FORMATS
from ingest.live import address
from ingest.live_protocols import PROTOCOLS
from ingest.load import load
from ingest.protocols import goldmane_pb2, hubble_pb2
from ingest.security import Security
from ingest.store import open_store
from ingest.values import MICROSECONDS

ROOT = Path(__file__).parents[1]
PLAIN = Security(is_plaintext=True)


def event(number: int, *, moment: int, **changes: Any) -> Any:
    """A forwarded connection from client port `10000 + number`, seen at a moment (microseconds)."""
    message = hubble_pb2.GetFlowsResponse(node_name="prod/node-1")
    message.time.FromMicroseconds(moment)
    flow = message.flow
    flow.time.FromMicroseconds(moment)
    flow.uuid = f"uuid-{number}"
    flow.verdict = hubble_pb2.FORWARDED
    flow.IP.source, flow.IP.destination = "10.0.0.1", "10.0.0.2"
    flow.l4.TCP.source_port, flow.l4.TCP.destination_port = 10_000 + number, 80
    flow.l4.TCP.flags.SYN = True
    flow.source.namespace, flow.source.pod_name = "shop", "web-1"
    flow.source.labels.extend(["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"])
    flow.destination.namespace, flow.destination.pod_name = "shop", "cart-1"
    flow.destination.labels.extend(["k8s:app=cart", "k8s:io.kubernetes.pod.namespace=shop"])
    flow.event_type.type, flow.event_type.sub_type = 4, 101
    flow.is_reply.value = False
    flow.traffic_direction = hubble_pb2.INGRESS
    flow.trace_observation_point = hubble_pb2.TO_ENDPOINT
    flow.node_name = "prod/node-1"
    for name, value in changes.items():
        setattr(flow, name, value)
    return message


class Relay:
    """A Hubble Relay that keeps what it was given, and ends a stream after so many answers."""

    def __init__(self, breaks: list[int] | None = None) -> None:
        self.kept: list[Any] = []
        self.breaks = breaks or []
        self.asked: list[Any] = []
        self.is_over = threading.Event()
        self.extra = b""

    def get_flows(self, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        self.asked.append(request)
        left = self.breaks.pop(0) if self.breaks else None
        since, sent = request.since.ToMicroseconds(), 0
        while context.is_active():
            while sent < len(self.kept):
                message = self.kept[sent]
                sent += 1
                if message.time.ToMicroseconds() < since:
                    continue
                if left == 0:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
                left = None if left is None else left - 1
                yield message.SerializeToString() + self.extra
            if not request.follow:
                return
            if self.is_over.is_set():
                context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
            time.sleep(0.01)


def serve(
    method: Any, name: str, request: Any, credentials: grpc.ServerCredentials | None = None
) -> tuple[grpc.Server, int]:
    server = grpc.server(ThreadPoolExecutor(8))
    service, _, short = name.strip("/").partition("/")
    handler = grpc.unary_stream_rpc_method_handler(
        method, request_deserializer=request.FromString, response_serializer=lambda data: data
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {short: handler}),)
    )
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    return server, port


def relay_at(relay: Relay, credentials: grpc.ServerCredentials | None = None) -> Any:
    method = PROTOCOLS["hubble-relay"].method
    return serve(relay.get_flows, method, hubble_pb2.GetFlowsRequest, credentials)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.live, "_wait_seconds", lambda _failures: 0.02)


def ports(store: Path) -> list[int]:
    column = open_store(store).flows().to_table()["src_port"].to_pylist()
    return sorted(port - 10_000 for port in column)


def now() -> int:
    return time.time_ns() // 1000


def test_what_a_relay_keeps_is_read_as_a_file_of_the_same_lines_would_be(tmp_path: Path) -> None:
    relay = Relay()
    start = now() - 100 * MICROSECONDS
    relay.kept = [event(n, moment=start + n * 1000) for n in range(50)]
    dropped = event(50, moment=start + 60_000, verdict=hubble_pb2.DROPPED, drop_reason=133)
    dropped.flow.drop_reason_desc = hubble_pb2.POLICY_DENIED
    query = event(51, moment=start + 61_000, Type=hubble_pb2.L7)
    query.flow.l7.type, query.flow.event_type.type = hubble_pb2.RESPONSE, 129
    query.flow.l7.dns.query = "api.example.com."
    query.flow.l7.dns.ips.append("192.0.2.7")
    query.flow.is_reply.value = True
    relay.kept += [dropped, query]
    lost = hubble_pb2.GetFlowsResponse(node_name="prod/node-1")
    lost.lost_events.num_events_lost = 7
    lost.time.FromMicroseconds(start + 70_000)
    relay.kept.append(lost)
    server, port = relay_at(relay)
    found = follow(
        [f"hubble-relay://127.0.0.1:{port}"], str(tmp_path / "live"), security=PLAIN,
        is_endless=False,
    )  # fmt: skip
    server.stop(None)
    log = tmp_path / "events.log"
    log.write_bytes(b"".join(PROTOCOLS["hubble-relay"].line(message) for message in relay.kept))
    same = load([str(log)], tmp_path / "file")
    assert (found.lines, found.flows, found.skipped) == (53, same.flows, same.skipped)
    assert found.rejects == {}
    live, file = (
        open_store(tmp_path / name).flows().to_table().sort_by("time").to_pylist()
        for name in ("live", "file")
    )
    assert live == file
    assert {row["verdict"] for row in live} >= {"allowed", "denied"}


def test_a_stream_that_breaks_in_the_middle_leaves_no_gap_and_no_double(
    tmp_path: Path, quick: None
) -> None:
    relay = Relay(breaks=[7, 0, 1, 30, 3])
    start = now() - 20 * MICROSECONDS
    relay.kept = [event(n, moment=start + n * 1000) for n in range(100)]
    server, port = relay_at(relay)
    said: list[str] = []
    found = follow(
        [f"hubble-relay://127.0.0.1:{port}"], str(tmp_path / "s"), security=PLAIN,
        is_endless=False, every_seconds=0.05, said=said.append,
    )  # fmt: skip
    server.stop(None)
    assert ports(tmp_path / "s") == list(range(100))
    assert found.flows == 100
    assert len(relay.asked) == 6
    assert any("going away" in sentence for sentence in said)


def test_the_second_run_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    relay = Relay()
    start = now() - 20 * MICROSECONDS
    relay.kept = [event(n, moment=start + n * 1000) for n in range(40)]
    server, port = relay_at(relay)
    url = f"hubble-relay://127.0.0.1:{port}"
    for _ in range(2):
        follow([url], str(tmp_path / "s"), security=PLAIN, is_endless=False)
        assert ports(tmp_path / "s") == list(range(40))
    relay.kept += [event(n, moment=start + n * 1000) for n in range(40, 60)]
    follow([url], str(tmp_path / "s"), security=PLAIN, is_endless=False)
    server.stop(None)
    assert ports(tmp_path / "s") == list(range(60))
    assert relay.asked[0].since.ToMicroseconds() == 0
    assert relay.asked[1].since.ToMicroseconds() > start - 61 * MICROSECONDS


def test_fields_that_are_not_declared_make_no_event_another_one(tmp_path: Path) -> None:
    # Field 100000, Summary, as bytes behind the message: unknown here, as HTTP and Kafka are.
    relay = Relay()
    relay.kept = [event(n, moment=now() - MICROSECONDS + n, uuid="") for n in range(5)]
    relay.extra = b"\x82\xea\x30\x06secret"
    server, port = relay_at(relay)
    url = f"hubble-relay://127.0.0.1:{port}"
    for _ in range(2):
        follow([url], str(tmp_path / "s"), security=PLAIN, is_endless=False)
    server.stop(None)
    assert ports(tmp_path / "s") == list(range(5))
    for file in (tmp_path / "s").rglob("*"):
        assert file.is_dir() or b"secret" not in file.read_bytes()
    kept = b"".join(lines for folder in (tmp_path / "s" / "live").iterdir()
                    for _, lines in spool.segments(open_store(tmp_path / "s"), folder.name))  # fmt: skip
    assert kept
    assert b"secret" not in kept


def test_a_message_without_a_time_does_not_say_how_far_a_source_was_read(tmp_path: Path) -> None:
    relay = Relay()
    start = now() - 3000 * MICROSECONDS
    status = hubble_pb2.GetFlowsResponse()
    status.node_status.state_change = hubble_pb2.NODE_CONNECTED
    status.time.FromMicroseconds(now())
    relay.kept = [status, *(event(n, moment=start + n * MICROSECONDS) for n in range(300))]
    server, port = relay_at(relay)
    url = f"hubble-relay://127.0.0.1:{port}"
    follow([url], str(tmp_path / "s"), security=PLAIN, is_endless=False)
    relay.kept += [event(n, moment=start + n * MICROSECONDS) for n in range(300, 310)]
    follow([url], str(tmp_path / "s"), security=PLAIN, is_endless=False)
    server.stop(None)
    assert ports(tmp_path / "s") == list(range(310))
    assert relay.asked[1].since.ToMicroseconds() == start + 239 * MICROSECONDS


def test_a_clock_that_is_ahead_neither_hides_nor_doubles_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    relay, clock = Relay(breaks=[40, 30, 50, 90]), now()
    # Every tenth comes from a node that is 50 s ahead, at the end also of the clock here.
    relay.kept = [
        event(n, moment=clock + (n if n % 10 else n + 50) * MICROSECONDS) for n in range(200)
    ]
    server, port = relay_at(relay)
    monkeypatch.setattr(ingest.live, "_now", lambda: clock + 200 * MICROSECONDS)
    follow(
        [f"hubble-relay://127.0.0.1:{port}"], str(tmp_path / "s"), security=PLAIN,
        is_endless=False, every_seconds=0.02,
    )  # fmt: skip
    server.stop(None)
    assert ports(tmp_path / "s") == list(range(200))


def test_since_is_asked_for_where_the_store_has_nothing_yet(tmp_path: Path) -> None:
    relay = Relay()
    start = now() - 100 * MICROSECONDS
    relay.kept = [event(n, moment=start + n * MICROSECONDS) for n in range(20)]
    server, port = relay_at(relay)
    url = f"hubble-relay://127.0.0.1:{port}"
    since = start + 10 * MICROSECONDS
    follow([url], str(tmp_path / "s"), security=PLAIN, is_endless=False, since=since)
    server.stop(None)
    assert ports(tmp_path / "s") == list(range(10, 20))


RUN = """
import sys
from ingest.follow import follow
from ingest.formats import FORMATS
from ingest.security import Security
follow([sys.argv[1]], sys.argv[2], security=Security(is_plaintext=True), every_seconds=0.05)
"""


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def test_a_follower_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    relay = Relay()
    server, port = relay_at(relay)
    store, url = tmp_path / "s", f"hubble-relay://127.0.0.1:{port}"
    stop = threading.Event()

    def talk() -> None:
        while not stop.is_set():
            relay.kept.append(event(len(relay.kept), moment=now()))
            time.sleep(0.002)

    talker = threading.Thread(target=talk)
    talker.start()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for pause in (0.0, 0.13, 0.31, 0.07):
        before = len(relay.asked)
        run = subprocess.Popen([sys.executable, "-c", RUN, url, str(store)], env=environment)
        until(lambda before=before: len(relay.asked) > before)
        time.sleep(pause)
        run.send_signal(signal.SIGKILL)
        run.wait()
        if (store / "flowpolicy.json").exists():
            seen = ports(store)
            assert len(seen) == len(set(seen))
    stop.set()
    talker.join()
    follow([url], str(store), security=PLAIN, is_endless=False)
    server.stop(None)
    assert ports(store) == list(range(len(relay.kept)))


def test_a_follower_comes_back_to_a_server_that_was_away(tmp_path: Path, quick: None) -> None:
    relay, stop = Relay(), threading.Event()
    start = now() - 5 * MICROSECONDS
    relay.kept = [event(n, moment=start + n) for n in range(10)]
    server, port = relay_at(relay)
    url, store = f"hubble-relay://127.0.0.1:{port}", tmp_path / "s"
    runner = threading.Thread(
        target=follow, args=([url], str(store)),
        kwargs={"security": PLAIN, "every_seconds": 0.05, "stop": stop},
    )  # fmt: skip
    runner.start()
    until(lambda: (store / "flowpolicy.json").exists() and len(ports(store)) == 10)
    relay.is_over.set()
    server.stop(None).wait()
    relay.kept += [event(n, moment=start + n) for n in range(10, 25)]
    relay.is_over.clear()
    again = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.unary_stream_rpc_method_handler(
        relay.get_flows,
        request_deserializer=hubble_pb2.GetFlowsRequest.FromString,
        response_serializer=lambda data: data,
    )
    again.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("observer.Observer", {"GetFlows": handler}),)
    )
    assert again.add_insecure_port(f"127.0.0.1:{port}") == port
    again.start()
    until(lambda: len(ports(store)) == 25)
    stop.set()
    runner.join()
    again.stop(None)
    assert ports(store) == list(range(25))


def test_what_the_server_has_forgotten_meanwhile_is_a_gap(tmp_path: Path) -> None:
    relay = Relay()
    start = now() - 1000 * MICROSECONDS
    relay.kept = [event(n, moment=start + n * 1000) for n in range(200)]
    server, port = relay_at(relay)
    url, said = f"hubble-relay://127.0.0.1:{port}", []
    for kept in (range(200), range(150, 300), range(450, 600)):
        relay.kept = [event(n, moment=start + n * 1000) for n in kept]
        said.clear()
        follow([url], str(tmp_path / "s"), security=PLAIN, is_endless=False, said=said.append)
        missing = any("no longer keeps" in sentence for sentence in said)
        assert missing == (kept.start == 450)
    server.stop(None)
    assert ports(tmp_path / "s") == [*range(300), *range(450, 600)]
    gaps = open_store(tmp_path / "s").gaps().to_pylist()
    assert [gap["reason"] for gap in gaps] == ["NODE_UNAVAILABLE", "NODE_CONNECTED"]
    assert gaps[0]["time"].timestamp() * MICROSECONDS == pytest.approx(start + 299_000)
    assert "not connected" in gaps[0]["detail"]


# --- TLS ------------------------------------------------------------------------------------------


def certificates(folder: Path) -> tuple[grpc.ServerCredentials, Security]:
    authority = trustme.CA()
    own = authority.issue_cert("relay.test")
    client = authority.issue_cert("client@relay.test")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    client.private_key_pem.write_to_path(folder / "client.key")
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    chain = b"".join(pem.bytes() for pem in own.cert_chain_pems)
    server = grpc.ssl_server_credentials(
        [(own.private_key_pem.bytes(), chain)],
        root_certificates=authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    return server, Security(
        ca=folder / "ca.pem",
        certificate=folder / "client.pem",
        key=folder / "client.key",
        server_name="relay.test",
    )


def test_a_server_that_wants_a_client_certificate_is_read_with_one(
    tmp_path: Path, quick: None
) -> None:
    relay = Relay()
    relay.kept = [event(n, moment=now()) for n in range(5)]
    credentials, security = certificates(tmp_path)
    server, port = relay_at(relay, credentials)
    url = f"hubble-relay://127.0.0.1:{port}"
    follow([url], str(tmp_path / "s"), security=security, is_endless=False)
    assert ports(tmp_path / "s") == list(range(5))
    without = Security(ca=security.ca, server_name="relay.test")
    stranger = trustme.CA()
    stranger.cert_pem.write_to_path(tmp_path / "other.pem")
    distrustful = Security(ca=tmp_path / "other.pem", server_name="relay.test")
    for bad in (without, distrustful, PLAIN, Security(ca=security.ca)):
        with pytest.raises(SourceError, match="check the address") as caught:
            follow([url], str(tmp_path / "t"), security=bad, is_endless=False)
        assert "PRIVATE KEY" not in str(caught.value)
    server.stop(None)


def test_a_server_that_does_not_know_the_method_is_given_up_at_once(tmp_path: Path) -> None:
    server, port = serve(None, "/other.Service/Method", hubble_pb2.GetFlowsRequest)
    with pytest.raises(SourceError, match="UNIMPLEMENTED"):
        follow([f"hubble-relay://127.0.0.1:{port}"], str(tmp_path / "s"), security=PLAIN)
    server.stop(None)


def test_wrong_files_and_addresses_are_one_sentence(tmp_path: Path) -> None:
    url = "hubble-relay://127.0.0.1:1"
    with pytest.raises(SourceError, match=r"nowhere\.pem: can't be read"):
        follow([url], str(tmp_path / "s"), security=Security(ca=tmp_path / "nowhere.pem"))
    with pytest.raises(SourceError, match="give both"):
        follow([url], str(tmp_path / "s"), security=Security(key=tmp_path / "key.pem"))
    for bad in ("hubble-relay://", "hubble-relay://u:p@h:1", "goldmane://h:x", "goldmane://h/x"):
        with pytest.raises(SourceError, match="HOST:PORT"):
            address(bad)
    assert address("hubble-relay://[::1]:4245")[1] == "[::1]:4245"
    assert address("goldmane://goldmane.calico-system.svc")[1] == "goldmane.calico-system.svc:7443"


# --- Goldmane -------------------------------------------------------------------------------------


def result(number: int, start: int, **changes: Any) -> Any:
    message = goldmane_pb2.FlowResult(id=number)
    flow = message.flow
    key = flow.Key
    key.source_name, key.source_namespace = "web-7d9c-*", "shop"
    key.source_type = key.dest_type = goldmane_pb2.WorkloadEndpoint
    key.dest_name, key.dest_namespace, key.dest_port = "cart-55f-*", "shop", 1000 + number
    key.proto, key.reporter, key.action = "tcp", goldmane_pb2.Dst, goldmane_pb2.Allow
    hit = key.policies.enforced_policies.add()
    hit.kind, hit.namespace, hit.name = goldmane_pb2.NetworkPolicy, "shop", "cart"
    hit.tier, hit.action = "default", goldmane_pb2.Allow
    flow.start_time, flow.end_time = start, start + 15
    flow.source_labels.append("app=web")
    flow.dest_labels.append("app=cart")
    flow.packets_in, flow.packets_out, flow.bytes_in, flow.bytes_out = 10, 9, 1000, 900
    flow.num_connections_started = 3
    for name, value in changes.items():
        setattr(flow, name, value)
    return message


def test_a_goldmane_message_is_one_event_by_key_and_bucket() -> None:
    identity = PROTOCOLS["goldmane"].identity
    assert identity(result(1, 600)) == identity(result(1, 600, packets_in=11))
    restarted = result(1, 600)
    restarted.id = 99
    assert identity(result(1, 600)) == identity(restarted)
    assert identity(result(1, 600)) != identity(result(1, 615))
    assert identity(result(1, 600)) != identity(result(2, 600))


def test_a_goldmane_message_becomes_the_line_that_grpcurl_prints() -> None:
    line = json.loads(PROTOCOLS["goldmane"].line(result(1, 600)))
    assert line["flow"]["startTime"] == "600"
    assert line["flow"]["Key"]["sourceType"] == "WorkloadEndpoint"
    assert line["flow"]["Key"]["policies"]["enforcedPolicies"][0]["kind"] == "NetworkPolicy"


def test_goldmane_is_asked_for_what_it_keeps_and_never_for_now() -> None:
    request = PROTOCOLS["goldmane"].request
    assert request(None, 10_000 * MICROSECONDS, True).start_time_gte == 6_400
    assert request(0, 10_000 * MICROSECONDS, True).start_time_gte == 1
    assert request(None, 0, True).start_time_gte == 1


class Goldmane:
    """A Goldmane that streams what it has, and then goes on for ever."""

    def __init__(self, breaks: list[int] | None = None) -> None:
        self.kept: list[Any] = []
        self.breaks = breaks or []
        self.asked: list[Any] = []

    def stream(self, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        self.asked.append(request)
        left = self.breaks.pop(0) if self.breaks else None
        sent = 0
        while context.is_active():
            while sent < len(self.kept):
                message = self.kept[sent]
                sent += 1
                if message.flow.start_time < request.start_time_gte:
                    continue
                if left == 0:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
                left = None if left is None else left - 1
                yield message.SerializeToString()
            time.sleep(0.01)


def test_goldmane_is_read_until_now_without_gap_or_double(tmp_path: Path, quick: None) -> None:
    goldmane = Goldmane(breaks=[5, 0, 12])
    second = now() // MICROSECONDS
    start = second - second % 15 - 600
    goldmane.kept = [result(n, start + 15 * (n // 2)) for n in range(60)]
    goldmane.kept.append(
        result(60, second + 15)
    )  # what comes later ends a run that does not follow
    server, port = serve(
        goldmane.stream, PROTOCOLS["goldmane"].method, goldmane_pb2.FlowStreamRequest
    )
    url = f"goldmane://127.0.0.1:{port}"
    found = follow([url], str(tmp_path / "s"), security=PLAIN, is_endless=False)
    assert (found.flows, found.rejects) == (60, {})
    again = follow([url], str(tmp_path / "s"), security=PLAIN, is_endless=False)
    server.stop(None)
    assert again.flows == 60
    rows = open_store(tmp_path / "s").flows().to_table().to_pylist()
    assert sorted(row["dst_port"] for row in rows) == list(range(1000, 1060))
    (row,) = (row for row in rows if row["dst_port"] == 1000)
    assert (row["format"], row["verdict"], row["reporter"]) == ("goldmane", "allowed", "dst")
    assert (row["src_pod_prefix"], row["dst_namespace"]) == ("web-7d9c-", "shop")
    assert row["connections"] == 3
    assert goldmane.asked[0].aggregation_interval == 15


def test_a_gap_of_goldmane_is_read_as_one() -> None:
    lines = PROTOCOLS["goldmane"].gap(1_000 * MICROSECONDS, 2_000 * MICROSECONDS)
    batch = FORMATS["goldmane"].parse(lines)
    assert (batch.lines, len(batch.rejects), len(batch.gaps)) == (1, 0, 1)
    assert "1970-01-01T00:16:40+00:00 to 1970-01-01T00:33:20" in (batch.gaps[0].detail or "")


def test_the_generated_messages_are_those_of_the_proto_files(tmp_path: Path) -> None:
    for name in ("hubble", "goldmane"):
        proto = Path("ingest", "protocols", f"{name}.proto")
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", f"--python_out={tmp_path}", str(proto)],
            cwd=ROOT, check=True,
        )  # fmt: skip
        made, kept = (
            re.search(
                r"AddSerializedFile\((.*)\)",
                (folder / "ingest" / "protocols" / f"{name}_pb2.py").read_text(),
            )
            for folder in (tmp_path, ROOT)
        )
        assert made is not None
        assert kept is not None
        assert made[1] == kept[1], "run `make protocols`"


def test_live_sources_without_their_packages_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ingest.live")
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(SourceError, match=r"flowpolicy\[live\]"):
        follow(["hubble-relay://127.0.0.1:1"], str(tmp_path / "s"))
