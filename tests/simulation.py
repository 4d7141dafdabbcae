"""Traffic over a cluster, written as Hubble and as Calico Enterprise logs would show it.

A simulation has a truth, so that proposals can be judged: every wanted (client, server, protocol,
port) between pods and addresses, and attacks that must not be learned. Pods are dicts as in
`brute_force.Judge`, with `workload` ("Kind/name"), `node`, `owner_labels` besides.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Pod = dict[str, Any]
START = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)


@dataclass
class Connection:
    """One connection: ends are pods or addresses; `kind` is wanted, scan, or denied."""

    time: datetime
    src: Pod | str
    dst: Pod | str
    protocol: str
    port: int
    kind: str = "wanted"
    service_port: int | None = None


@dataclass
class Simulation:
    """A cluster, its truth, and the connections that realise it."""

    pods: list[Pod]
    spaces: dict[str, dict[str, str]]
    nodes: dict[str, str]
    seed: int = 1
    hours: int = 48
    with_host: bool = True
    names: dict[str, str] = field(default_factory=dict)  # of outside addresses
    wanted: set[tuple[str, str, str, int]] = field(default_factory=set)
    connections: list[Connection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def of(self, workload: str) -> list[Pod]:
        """The pods of `namespace/Kind/name`."""
        return [p for p in self.pods if f"{p['namespace']}/{p['workload']}" == workload]

    def want(self, client: str, server: str, protocol: str, port: int, times: int = 6) -> None:
        """Make a wanted edge: `namespace/Kind/name` or an address at each end."""
        self.wanted.add((client, server, protocol, port))
        clients = self.of(client) or [client]
        servers = self.of(server) or [server]
        for _ in range(times):
            src, dst = self.random.choice(clients), self.random.choice(servers)
            if src is dst:
                dst = next((pod for pod in servers if pod is not src), dst)
            if src is dst:
                continue
            at = START + timedelta(seconds=self.random.randrange(self.hours * 3600))
            self.connections.append(Connection(at, src, dst, protocol, port))

    def probes(self, workload: str, port: int) -> None:
        """The kubelet of each pod's own node asks whether it is well; no rule is needed."""
        for pod in self.of(workload):
            for hour in range(self.hours):
                at = START + timedelta(hours=hour, minutes=7)
                address = self.nodes[pod["node"]]
                self.connections.append(Connection(at, address, pod, "TCP", port))

    def from_node(self, node: str, server: str, protocol: str, port: int) -> None:
        """A process on one node calls the pods on the other nodes."""
        address = self.nodes[node]
        self.wanted.add((address, server, protocol, port))
        for pod in self.of(server):
            if pod["node"] != node:
                at = START + timedelta(seconds=self.random.randrange(self.hours * 3600))
                self.connections.append(Connection(at, address, pod, protocol, port))

    def scan(self, client: str, targets: int = 40) -> None:
        """One pod tries many ports of many pods within a minute; nobody answers."""
        src = self.of(client)[0]
        at = START + timedelta(hours=self.random.randrange(1, self.hours), minutes=30)
        for number in range(targets):
            dst = self.random.choice([p for p in self.pods if p is not src and not p.get("host")])
            port = self.random.choice([21, 22, 23, 25, 110, 445, 1433, 3306, 5900, 6379, 9200])
            kind = "denied" if number % 3 == 0 else "scan"
            self.connections.append(
                Connection(at + timedelta(seconds=number), src, dst, "TCP", port, kind)
            )

    def hubble(self) -> list[str]:
        """The log as `hubble observe -o jsonpb` prints it, not in order of time."""
        lines = [json.dumps(line) for c in self.connections for line in self._hubble(c)]
        self.random.shuffle(lines)
        return lines

    def calico(self) -> list[str]:
        """The log as Calico Enterprise's flow-log files hold it."""
        lines = [json.dumps(line) for c in self.connections for line in self._calico(c)]
        self.random.shuffle(lines)
        return lines

    # --- Hubble ---------------------------------------------------------------------------------

    def _hubble(self, c: Connection) -> Iterator[dict[str, Any]]:
        client_port = self.random.randrange(32768, 60999)
        here, there = self._node(c.src), self._node(c.dst)
        flags: dict[str, bool] = {"SYN": True}
        if c.kind == "denied":
            yield self._event(c, client_port, there, "dst", flags, verdict="DROPPED")
            return
        if here is not None:
            yield self._event(c, client_port, here, "src", flags, point="TO_OVERLAY", code=4)
        if there is not None:
            yield self._event(c, client_port, there, "dst", flags, point="TO_ENDPOINT", code=0)
        if c.kind == "scan":
            if there is not None:
                yield self._event(
                    c,
                    client_port,
                    there,
                    "dst",
                    {"RST": True, "ACK": True},
                    reply=True,
                    point="TO_STACK",
                    code=3,
                )
            return
        done = {"ACK": True, "PSH": True}
        if here is not None:
            yield self._event(
                c, client_port, here, "src", done, reply=True, point="TO_ENDPOINT", code=0
            )
        if there is not None:
            yield self._event(c, client_port, there, "dst", done, point="TO_ENDPOINT", code=0)

    @staticmethod
    def _node(end: Pod | str) -> str | None:
        return None if isinstance(end, str) else str(end["node"])

    def _event(
        self,
        c: Connection,
        client_port: int,
        node: str | None,
        at: str,
        flags: dict[str, bool],
        *,
        reply: bool = False,
        verdict: str = "FORWARDED",
        point: str | None = None,
        code: int = 0,
    ) -> dict[str, Any]:
        src = self._end(c.src, local=at == "src", node=node)
        dst = self._end(c.dst, local=at == "dst", node=node)
        ips = [e if isinstance(e, str) else e["ip"] for e in (c.src, c.dst)]
        ports = [client_port, c.port]
        if reply:
            src, dst = dst, src
            ips.reverse()
            ports.reverse()
        layer: dict[str, Any] = {"source_port": ports[0], "destination_port": ports[1]}
        if c.protocol == "TCP":
            layer["flags"] = flags
        if c.protocol == "ICMP":  # the port of a connection is its type, 8; 0 is left out
            layer = {} if reply else {"type": c.port}
        flow: dict[str, Any] = {
            "time": c.time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "verdict": verdict,
            "IP": {"source": ips[0], "destination": ips[1], "ipVersion": "IPv4"},
            "l4": {"ICMPv4" if c.protocol == "ICMP" else c.protocol: layer},
            "source": src,
            "destination": dst,
            "Type": "L3_L4",
            "node_name": f"sim/{node}",
            "traffic_direction": "EGRESS" if at == "src" else "INGRESS",
        }
        if verdict == "DROPPED":
            flow |= {
                "drop_reason": 133,
                "drop_reason_desc": "POLICY_DENIED",
                "event_type": {"type": 1, "sub_type": 133},
            }
        else:
            flow |= {
                "event_type": {"type": 4, **({"sub_type": code} if code else {})},
                "trace_observation_point": point,
                "trace_reason": "REPLY" if reply else "NEW" if "SYN" in flags else "ESTABLISHED",
                "is_reply": reply,
            }
        for side, address in zip(("source", "destination"), ips, strict=True):
            if address in self.names:
                flow[f"{side}_names"] = [self.names[address]]
        return {"flow": flow, "node_name": f"sim/{node}", "time": flow["time"]}

    def _end(self, end: Pod | str, *, local: bool, node: str | None) -> dict[str, Any]:
        if isinstance(end, str):
            if end in self.nodes.values():
                own = node is not None and self.nodes[node] == end
                return (
                    {"identity": 1, "labels": ["reserved:host"]}
                    if own
                    else {"identity": 6, "labels": ["reserved:remote-node"]}
                )
            return {"identity": 2, "labels": ["reserved:world"]}
        kind, name = end["workload"].split("/")
        labels = [
            *(f"k8s:{k}={v}" for k, v in end["labels"].items()),
            f"k8s:io.kubernetes.pod.namespace={end['namespace']}",
            "k8s:io.cilium.k8s.policy.cluster=sim",
            "k8s:io.cilium.k8s.policy.serviceaccount=default",
        ]
        found = {
            "identity": 1000 + hash_of(end["namespace"] + name) % 50000,
            "cluster_name": "sim",
            "namespace": end["namespace"],
            "labels": sorted(labels),
            "pod_name": end["name"],
        }
        if local:
            found["ID"] = 1 + hash_of(end["name"]) % 4000
            if kind != "Pod":
                found["workloads"] = [{"name": name, "kind": kind}]
        return found

    # --- Calico ---------------------------------------------------------------------------------

    def _calico(self, c: Connection) -> Iterator[dict[str, Any]]:
        start = int(c.time.timestamp()) // 300 * 300
        for reporter, node in (("src", self._node(c.src)), ("dst", self._node(c.dst))):
            if node is None:
                continue
            action = "deny" if c.kind == "denied" and reporter == "dst" else "allow"
            answered = c.kind == "wanted"
            out, back = (5, 4) if answered else (1, 0)
            if reporter == "dst":
                out, back = back, out
            yield {
                "start_time": start,
                "end_time": start + 300,
                **self._calico_end("source", c.src),
                "source_port": None,
                **self._calico_end("dest", c.dst),
                "dest_port": None if c.protocol == "ICMP" else c.port,
                "dest_service_namespace": "-", "dest_service_name": "-",
                "dest_service_port": "-", "dest_service_port_num": None,
                "dest_domains": self.names.get(str(c.dst)),
                "proto": c.protocol.lower(),
                "action": action,
                "reporter": reporter,
                "policies": {"all_policies": ["0|__PROFILE__|__PROFILE__.kns.x|allow|0"]},
                "bytes_in": back * 100, "bytes_out": out * 100,
                "packets_in": back, "packets_out": out,
                "num_flows": 1, "num_flows_started": 1, "num_flows_completed": 1,
                **({"host": node} if self.with_host else {}),
            }  # fmt: skip

    def _calico_end(self, which: str, end: Pod | str) -> dict[str, Any]:
        if isinstance(end, str):
            private = end.startswith(("10.", "192.168."))
            return {
                f"{which}_type": "net",
                f"{which}_namespace": "-",
                f"{which}_name": "-",
                f"{which}_name_aggr": "pvt" if private else "pub",
                f"{which}_ip": end,
                f"{which}_labels": None,
            }
        prefix = end.get("prefix")
        return {
            f"{which}_type": "wep",
            f"{which}_namespace": end["namespace"],
            f"{which}_name": "-" if prefix else end["name"],
            f"{which}_name_aggr": f"{prefix}*" if prefix else end["name"],
            f"{which}_ip": None,
            f"{which}_labels": {"labels": [f"{k}={v}" for k, v in end["labels"].items()]},
        }


def hash_of(text: str) -> int:
    """A hash that is the same in every process."""
    return sum(ord(char) * 31**i for i, char in enumerate(text)) % 1_000_003
