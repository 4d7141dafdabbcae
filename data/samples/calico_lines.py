"""Connections as Calico Enterprise writes them: records of five minutes, from both ends.

node-1 and node-2 report at aggregation level 1 (with addresses), node-3 at level 2 (allowed
traffic without addresses and pod names). Denied traffic is at level 1 everywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any

from cluster import CLUSTER, NODES, SECOND, Node, Pod
from traffic import API_NAME, SEED, SHOPPERS, Connection
from verdicts import End, Hit, Manifest, Peer, verdict

Json = dict[str, Any]
Key = tuple[tuple[str, Any], ...]

INTERVAL_S = 300
COUNTERS = (
    "bytes_in",
    "bytes_out",
    "num_flows",
    "num_flows_started",
    "num_flows_completed",
    "packets_in",
    "packets_out",
)
PRIVATE = [ip_network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]


def records(connections: list[Connection], policies: list[Manifest]) -> list[Json]:
    """Every record, in the order in which a shipper would meet them."""
    rng = Random(f"{SEED} calico")
    sums: defaultdict[Key, list[int]] = defaultdict(lambda: [0] * len(COUNTERS))
    labels: dict[Key, tuple[set[str], set[str]]] = {}
    for one in connections:
        if one.outcome == "lost":
            continue
        counted = _counted(one, rng)
        for node, reporter, hit in _reports(one, policies):
            key = tuple(_key(one, node, reporter, hit, rng).items())
            ends = _labels(one.client, one.count), _labels(one.server, one.count)
            seen = labels.setdefault(key, ends)
            labels[key] = seen[0] & ends[0], seen[1] & ends[1]
            out = reporter == "src"
            swapped = counted if out else _swapped(counted)
            sums[key] = [total + more for total, more in zip(sums[key], swapped, strict=True)]
    made = [_record(dict(key), labels[key], totals) for key, totals in sums.items()]
    return sorted(made, key=lambda record: (record["end_time"], record["host"]))


def _reports(one: Connection, policies: list[Manifest]) -> Iterator[tuple[Node, str, Hit | None]]:
    """The ends that report: pods; not a pod that its own node probes past a policy."""
    egress, ingress = one.hits
    if isinstance(one.client, Pod):
        yield one.client.node, "src", egress
        if egress and not egress.allows:
            return
    past = one.why == "probe" and verdict(policies, SHOPPERS[0], one.server, "TCP", None, "ingress")
    if isinstance(one.server, Pod) and not past:
        yield one.server.node, "dst", ingress


def _key(one: Connection, node: Node, reporter: str, hit: Hit | None, rng: Random) -> Json:
    """What a record is not summed over."""
    action = "deny" if hit and not hit.allows else "allow"
    level = 2 if node is NODES[2] and action == "allow" else 1
    offset = 60 * NODES.index(node) + 7
    start = (one.time // SECOND - offset) // INTERVAL_S * INTERVAL_S + offset
    named = reporter == "src" and isinstance(one.server, Peer) and one.server.name == API_NAME
    return {
        "start_time": start,
        "end_time": start + INTERVAL_S,
        **_end("source", one.client, level),
        "source_port": None,
        **_end("dest", one.server, level),
        "dest_port": one.port,
        "dest_domains": (API_NAME,) if named else None,
        **_service(one, reporter, rng),
        "proto": one.protocol.lower(),
        "action": action,
        "reporter": reporter,
        "policies": _policies(one, reporter, hit),
        "host": node.name,
    }


def _end(side: str, end: End, level: int) -> Json:
    if isinstance(end, Pod):
        hidden = level == 2
        stable = end.workload.kind == "StatefulSet"
        named = {
            "ip": None if hidden else end.ip,
            "name": "-" if hidden else end.name,
            "name_aggr": (end.workload.name + "-" if stable else end.prefix) + "*",
            "namespace": end.workload.namespace,
            "type": "wep",
        }
    else:
        public = not any(ip_address(end.ip) in net for net in PRIVATE)
        named = {
            "ip": None if level == 2 else end.ip,
            "name": "-",
            "name_aggr": "pub" if public else "pvt",
            "namespace": "-",
            "type": "net",
        }
    return {f"{side}_{key}": value for key, value in named.items()}


def _service(one: Connection, reporter: str, rng: Random) -> Json:
    """The service that the client addressed: known at the client, and not in every interval."""
    known: Json = {"namespace": "-", "name": "-", "port": "-", "port_num": None}
    local = reporter == "src" or isinstance(one.client, Peer)
    if one.via and one.front and local and rng.random() < 0.9:
        name, port = one.front
        known = {"namespace": one.via.namespace, "name": one.via.name, "port": name or "-"}
        known["port_num"] = port
    return {f"dest_service_{key}": value for key, value in known.items()}


def _policies(one: Connection, reporter: str, hit: Hit | None) -> str:
    """The one policy hit, in the form of Enterprise and of Open Source up to 3.31."""
    if hit:
        action = "allow" if hit.allows else "deny"
        return f"0|default|{hit.namespace}/knp.default.{hit.policy}|{action}|{hit.rule}"
    end = one.client if reporter == "src" else one.server
    namespace = end.workload.namespace if isinstance(end, Pod) else "-"
    return f"0|__PROFILE__|__PROFILE__.kns.{namespace}|allow|0"


def _labels(end: End, count: int) -> set[str]:
    """A pod's labels; Felix's own keys stay where a record was never merged."""
    if isinstance(end, Peer):
        return set()
    labels = {f"{key}={value}" for key, value in end.labels.items()}
    if count == 1:
        labels.add(f"projectcalico.org/namespace={end.workload.namespace}")
        labels.add(f"projectcalico.org/serviceaccount={end.workload.service_account}")
        labels.add("projectcalico.org/orchestrator=k8s")
    return labels


def _counted(one: Connection, rng: Random) -> list[int]:
    """The counters as the client's end sees them."""
    started = 0 if one.ongoing else one.count
    if one.protocol != "TCP" or one.why == "scan" or one.outcome != "answered":
        answers = one.count * (one.outcome in ("answered", "refused"))
        tries = one.count * (2 if one.outcome == "denied" else 1)
        ended = one.count
        return [answers * 40, tries * 60, one.count, started, ended, answers, tries]
    packets_in, packets_out = (one.count * rng.randrange(4, 12) for _ in range(2))
    sizes = packets_in * rng.randrange(60, 900), packets_out * rng.randrange(60, 400)
    return [*sizes, one.count, started, started, packets_in, packets_out]


def _swapped(counted: list[int]) -> list[int]:
    """The counters as the server's end sees them."""
    bytes_in, bytes_out, *flows, packets_in, packets_out = counted
    return [bytes_out, bytes_in, *flows, packets_out, packets_in]


def _record(record: Json, labels: tuple[set[str], set[str]], totals: list[int]) -> Json:
    hits = [record["policies"]]
    kinds = ("all_policies", "enforced_policies", "pending_policies")
    record["policies"] = dict.fromkeys(kinds, hits)
    if record["dest_domains"]:
        record["dest_domains"] = list(record["dest_domains"])
    for side, own in zip(("source", "dest"), labels, strict=True):
        record[f"{side}_labels"] = {"labels": sorted(own)} if own else None
    record |= dict(zip(COUNTERS, totals, strict=True))
    record |= {"process_name": "-", "original_source_ips": None, "num_original_source_ips": 0}
    return record | {"cluster": CLUSTER, "@timestamp": record["end_time"] * 1000}
