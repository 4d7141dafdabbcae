"""Connections as Hubble's exporter writes them, one file a node.

Lines are a thinned choice: the first packet of a connection and its answer always, later packets
and packets on their way between nodes sometimes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any

from cluster import (
    CLUSTER,
    DAYS,
    HOUR,
    NAMESPACES,
    NODES,
    PODS,
    SECOND,
    SERVICES,
    START,
    Node,
    Pod,
    digest,
    number,
    uid,
)
from traffic import API_NAME, APIS, EDGES, MINUTE, SCAN, SEED, Connection
from verdicts import End, Hit, Peer

Json = dict[str, Any]
Line = tuple[int, Node, Json]

UPGRADE = START + 6 * HOUR
# The exporter writes fields as Cilium's flow.proto declares them.
FIELDS = (
    "time", "uuid", "emitter", "verdict", "drop_reason", "auth_type", "ethernet", "IP", "l4",
    "tunnel", "source", "destination", "Type", "node_name", "node_labels", "source_names",
    "destination_names", "l7", "reply", "event_type", "source_service", "destination_service",
    "traffic_direction", "policy_match_type", "trace_observation_point", "trace_reason",
    "drop_reason_desc", "is_reply", "debug_capture_point", "interface", "proxy_port",
    "trace_context", "sock_xlate_point", "socket_cookie", "cgroup_id", "Summary",
    "egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by",
)  # fmt: skip
POINTS = {"TO_STACK": 3, "TO_OVERLAY": 4, "TO_NETWORK": 11}
IDENTITIES = {"host": 1, "world": 2, "kube-apiserver": 16777217}
RESERVED = {
    "host": ["reserved:host"],
    "world": ["reserved:world"],
    "kube-apiserver": ["reserved:kube-apiserver", "reserved:world"],
}
LEAVES_BY = {"host": "TO_STACK", "world": "TO_NETWORK", "kube-apiserver": "TO_NETWORK"}
NODE_ONLY_LABELS = (
    "pod-template-hash",
    "pod-template-generation",
    "controller-revision-hash",
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
)


def lines(connections: list[Connection]) -> Iterator[Line]:
    """Every line with its time and node, in no order."""
    rng = Random(f"{SEED} hubble")
    for one in connections:
        yield from _traces(one, rng)
        yield from _policy_events(one, rng)
        if one.protocol == "UDP" and rng.random() < 0.4:
            yield from _dns(one, rng)
        if one.front and isinstance(one.client, Pod) and rng.random() < 0.04:
            yield from _socket(one, one.client, rng)
    yield from _losses(rng)


def wrapped(line: Line) -> Json:
    """The line as the exporter writes it."""
    time, node, body = line
    if "lost_events" in body:
        event = body
    else:
        event = {"flow": dict(sorted(body.items(), key=lambda field: FIELDS.index(field[0])))}
    return event | {"node_name": f"{CLUSTER}/{node.name}", "time": stamp(time)}


def _traces(one: Connection, rng: Random) -> Iterator[Line]:
    """What the nodes' datapaths saw pass."""
    if one.outcome == "lost":
        return
    stages = [("open", 0)]
    if one.outcome == "denied" or (one.outcome == "silent" and rng.random() < 0.3):
        stages.append(("open", SECOND))
    elif one.protocol == "TCP" and one.outcome == "answered" and one.why != "scan":
        stages += [("data", SECOND // 50), ("close", 2 * SECOND)]
    for stage, delay in stages[1:] if one.ongoing else stages:
        time = one.time + delay + rng.randrange(SECOND // 1000)
        for node, point, reply in _sights(one):
            time += rng.randrange(20_000, 400_000)
            if one.outcome == "denied" and point == "TO_ENDPOINT":
                continue
            if reply and one.outcome == "silent":
                continue
            if rng.random() < _chance(one, stage, point, reply):
                yield time, node, _trace(one, node, time, stage, point, reply, rng)


def _sights(one: Connection) -> Iterator[tuple[Node, str, bool]]:
    """(node, observation point, is reply) wherever a packet and its answer pass."""
    client, server = one.client, one.server
    near = isinstance(client, Pod) and isinstance(server, Pod) and client.node is server.node
    if isinstance(client, Pod) and not near:
        yield client.node, _way_out(server), False
    if isinstance(server, Pod):
        yield server.node, "TO_ENDPOINT", False
        if not near:
            yield server.node, _way_out(client), True
    if isinstance(client, Pod):
        yield client.node, "TO_ENDPOINT", True


def _way_out(end: End) -> str:
    return "TO_OVERLAY" if isinstance(end, Pod) else LEAVES_BY[end.entity]


def _chance(one: Connection, stage: str, point: str, reply: bool) -> float:
    if point == "TO_OVERLAY":
        return 0.08 if reply or stage != "open" else 0.4
    if stage == "open" or one.ongoing:
        return 1.0
    return 0.2 if reply else 0.35


def _trace(
    one: Connection, node: Node, time: int, stage: str, point: str, reply: bool, rng: Random
) -> Json:
    flow = _flow(one, node, time, reply, _flags(one, stage, reply), rng)
    at_client = isinstance(one.client, Pod) and one.client.node is node
    flow["event_type"] = {"type": 4} | ({"sub_type": POINTS[point]} if point in POINTS else {})
    flow["traffic_direction"] = "EGRESS" if at_client else "INGRESS"
    flow["trace_observation_point"] = point
    flow["trace_reason"] = "REPLY" if reply else "NEW" if stage == "open" else "ESTABLISHED"
    flow["is_reply"] = reply
    if point == "TO_ENDPOINT":
        end = one.client if reply else one.server
        name = digest(_address(end, reply)).hex()[:12]
        flow["interface"] = {"index": number(name, 10, 90), "name": f"lxc{name}"}
    elif point != "TO_STACK":
        overlay = point == "TO_OVERLAY"
        flow["interface"] = (
            {"index": 5, "name": "cilium_vxlan"}
            if overlay
            else {
                "index": 2,
                "name": "eth0",
            }
        )
    return _aged(flow, node, time)


def _aged(flow: Json, node: Node, time: int) -> Json:
    """The flow as the agent before the upgrade wrote it: node-3, until 06:00 of the first day."""
    if node is NODES[2] and time < UPGRADE:
        for key in ("emitter", "trace_reason", "is_reply"):
            flow.pop(key, None)
    return flow


def _flags(one: Connection, stage: str, reply: bool) -> tuple[str, ...]:
    if stage == "open":
        if not reply:
            return ("SYN",)
        return ("SYN", "ACK") if one.outcome == "answered" else ("ACK", "RST")
    return ("ACK", "PSH") if stage == "data" else ("ACK", "FIN")


def _policy_events(one: Connection, rng: Random) -> Iterator[Line]:
    """Policy verdicts of the ends that a policy selects, and drops."""
    forward = _flow(one, NODES[0], one.time, False, ("SYN",), rng)
    if one.outcome == "lost" and isinstance(one.client, Pod):
        forward |= _drop(151, "STALE_OR_UNROUTABLE_IP", "EGRESS")
        yield one.time, one.client.node, _at(forward, one, one.client.node, one.time, rng)
        return
    for end, hit, way in zip(
        (one.client, one.server), one.hits, ("egress", "ingress"), strict=True
    ):
        if hit is None or not isinstance(end, Pod) or one.ongoing:
            continue
        direction = {"event_type": {"type": 5}, "traffic_direction": way.upper()}
        if hit.allows:
            if rng.random() < 0.5:
                match = {"policy_match_type": 4 if way == "egress" else 2}
                by = {f"{way}_allowed_by": [_policy(hit)], "is_reply": False}
                event = forward | direction | match | by
                yield one.time, end.node, _at(event, one, end.node, one.time, rng)
            continue
        for time in (one.time + SECOND // 1000, one.time + SECOND + SECOND // 500):
            drop = _drop(133, "POLICY_DENIED", way.upper())
            event = forward | drop | direction | {"is_reply": False}
            yield time, end.node, _at(event, one, end.node, time, rng)
            yield time + 9_000, end.node, _at(forward | drop, one, end.node, time + 9_000, rng)


def _drop(code: int, reason: str, way: str) -> Json:
    return {
        "verdict": "DROPPED",
        "drop_reason": code,
        "drop_reason_desc": reason,
        "event_type": {"type": 1, "sub_type": code},
        "traffic_direction": way,
    }


def _at(flow: Json, one: Connection, node: Node, time: int, rng: Random) -> Json:
    """The same flow as another node tells it at another time."""
    return _aged(flow | _place(one, node, time, False, rng), node, time)


def _policy(hit: Hit) -> Json:
    derived = {
        "derived-from": "NetworkPolicy",
        "name": hit.policy,
        "namespace": hit.namespace,
        "uid": uid(f"NetworkPolicy {hit.namespace}/{hit.policy}"),
    }
    labels = [f"k8s:io.cilium.k8s.policy.{key}={value}" for key, value in derived.items()]
    return {
        "name": hit.policy,
        "namespace": hit.namespace,
        "labels": labels,
        "revision": "7",
        "kind": "NetworkPolicy",
    }


def _dns(one: Connection, rng: Random) -> Iterator[Line]:
    """The DNS proxy's lines for a question and its answer; some questions are search-list noise."""
    if not isinstance(one.client, Pod):
        return
    answers = _lookups(one.client.workload.key)
    name = rng.choice(sorted(answers))
    answer: Json = {"ips": answers[name], "ttl": 30}
    if rng.random() < 0.2:
        short = name.removesuffix(".svc.cluster.local")
        name, answer = f"{short}.{one.client.workload.namespace}.svc.cluster.local", {"rcode": 3}
    for reply, time in ((False, one.time + 200_000), (True, one.time + 2_300_000)):
        flow: Json = _flow(one, one.client.node, time, reply, (), rng)
        del flow["ethernet"]
        dns: Json = {"query": f"{name}."} | (answer if reply else {})
        dns |= {"observation_source": "proxy", "qtypes": ["A"]}
        kind = "RESPONSE" if reply else "REQUEST"
        flow |= {"Type": "L7", "l7": {"type": kind, "dns": dns}, "event_type": {"type": 129}}
        flow |= {"traffic_direction": "EGRESS", "is_reply": reply, "Summary": f"DNS {kind} {name}."}
        yield time, one.client.node, _aged(flow, one.client.node, time)


@cache
def _lookups(client: str) -> dict[str, list[str]]:
    """The names that a workload looks up, with their addresses."""
    found = {}
    vias = {edge.via for edge in EDGES if edge.client == client and edge.port != 53}
    for service in SERVICES:
        if f"{service.namespace}/{service.name}" in vias:
            pods = [pod.ip for pod in PODS if service.selector.items() <= pod.labels.items()]
            found[service.host] = [service.ip] if service.ip else pods
    if any(edge.client == client and edge.server == API_NAME for edge in EDGES):
        found[API_NAME] = [api.ip for api in APIS]
    return found


def _socket(one: Connection, client: Pod, rng: Random) -> Iterator[Line]:
    """Socket load balancing: the connection before and after service translation."""
    if one.via is None or one.front is None:
        return
    for point, time in (("PRE", one.time - 90_000), ("POST", one.time - 60_000)):
        flow = _flow(one, client.node, time, False, (), rng)
        del flow["ethernet"]
        pre = point == "PRE"
        port = one.front[1] if pre else one.port
        flow["l4"] = {one.protocol: {"destination_port": port}}
        if pre:
            flow["IP"]["destination"] = one.via.ip
            flow["destination"] = {"identity": 2, "labels": RESERVED["world"]}
            service = {"name": one.via.name, "namespace": one.via.namespace}
            flow["destination_service"] = service
        flow |= {"verdict": "TRACED" if pre else "TRANSLATED", "Type": "SOCK"}
        flow |= {"event_type": {"type": 7, "sub_type": 1 if pre else 2}}
        flow |= {"sock_xlate_point": f"SOCK_XLATE_POINT_{point}_DIRECTION_FWD"}
        flow |= {"socket_cookie": str(number(f"{one.time}", 1000, 900000)), "Summary": one.protocol}
        flow["cgroup_id"] = str(number(client.name, 4000, 90000))
        yield time, client.node, _aged(flow, client.node, time)


def _losses(rng: Random) -> Iterator[Line]:
    """Events that a node could not keep: now and then, and on every node during the scan."""
    for node in NODES:
        for time in [
            SCAN + MINUTE // 2,
            *(START + rng.randrange(DAYS * 24 * HOUR) for _ in range(4)),
        ]:
            lost = {"source": "HUBBLE_RING_BUFFER", "num_events_lost": str(rng.randrange(1, 400))}
            yield time, node, {"lost_events": lost}


def _flow(
    one: Connection, node: Node, time: int, reply: bool, flags: tuple[str, ...], rng: Random
) -> Json:
    """What every flow says of a packet of a connection, or of its answer."""
    flow: Json = {"verdict": "FORWARDED", "Type": "L3_L4"}
    flow |= _place(one, node, time, reply, rng)
    first, second = (one.server, one.client) if reply else (one.client, one.server)
    addresses = _address(first, not reply), _address(second, reply)
    macs = [digest(address).hex()[:10] for address in addresses]
    macs = ["06:" + ":".join(mac[i : i + 2] for i in range(0, 10, 2)) for mac in macs]
    flow["ethernet"] = {"source": macs[0], "destination": macs[1]}
    flow["IP"] = {"source": addresses[0], "destination": addresses[1], "ipVersion": "IPv4"}
    if one.protocol == "ICMP":
        flow["l4"] = {"ICMPv4": {} if reply else {"type": 8}}
        return flow | {"Summary": "ICMPv4 EchoReply" if reply else "ICMPv4 EchoRequest"}
    ports = [one.client_port, one.port]
    l4: Json = {"source_port": ports[reply], "destination_port": ports[not reply]}
    if one.protocol == "TCP" and flags:
        l4["flags"] = dict.fromkeys(flags, True)
        flow["Summary"] = f"TCP Flags: {', '.join(flags)}"
    else:
        flow["Summary"] = one.protocol
    return flow | {"l4": {one.protocol: l4}}


def _place(one: Connection, node: Node, time: int, reply: bool, rng: Random) -> Json:
    """What depends on who tells it and when: local ends are told in full."""
    first, second = (one.server, one.client) if reply else (one.client, one.server)
    place: Json = {
        "time": stamp(time),
        "uuid": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "emitter": {"name": "Hubble", "version": "1.19.1+g4c1f0a92"},
        "source": _endpoint(first, node),
        "destination": _endpoint(second, node),
        "node_name": f"{CLUSTER}/{node.name}",
        "node_labels": [
            "kubernetes.io/arch=amd64",
            f"kubernetes.io/hostname={node.name}",
            "kubernetes.io/os=linux",
        ],
    }
    if reply:
        place["reply"] = True
    if isinstance(one.server, Peer) and one.server.name:
        place["source_names" if reply else "destination_names"] = [one.server.name]
    return place


def _address(end: End, client: bool) -> str:
    """The kubelet speaks from the node's address on the pod network."""
    if isinstance(end, Peer) and end.node and client:
        return f"{end.node.pod_net}.1"
    return end.ip


@cache
def _endpoint(end: End, node: Node) -> Json:
    if isinstance(end, Peer):
        return {"identity": IDENTITIES[end.entity], "labels": RESERVED[end.entity]}
    workload, namespace = end.workload, end.workload.namespace
    label = "io.cilium.k8s.namespace.labels."
    labels = {key: value for key, value in end.labels.items() if key not in NODE_ONLY_LABELS}
    labels |= {label + key: value for key, value in NAMESPACES[namespace].items()}
    labels |= {
        f"{label}kubernetes.io/metadata.name": namespace,
        "io.cilium.k8s.policy.cluster": CLUSTER,
        "io.cilium.k8s.policy.serviceaccount": workload.service_account,
        "io.kubernetes.pod.namespace": namespace,
    }
    listed = sorted(f"k8s:{key}={value}" for key, value in labels.items())
    endpoint: Json = {"ID": number(end.name, 20, 4000)} if end.node is node else {}
    endpoint |= {"identity": number(" ".join(listed), 1024, 65536), "cluster_name": CLUSTER}
    endpoint |= {"namespace": namespace, "labels": listed, "pod_name": end.name}
    if end.node is node:
        endpoint["workloads"] = [{"name": workload.name, "kind": workload.kind}]
    return endpoint


def stamp(time: int) -> str:
    """RFC 3339 with nanoseconds."""
    whole = datetime.fromtimestamp(time // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{time % SECOND:09d}Z"
