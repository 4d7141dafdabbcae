"""Hubble lines and objects of a made cluster of any size, for what must hold at 1,000 workloads."""

import json
import random
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def end(namespace: str, name: str) -> Json:
    return {
        "identity": 1000,
        "cluster_name": "big",
        "namespace": namespace,
        "labels": [f"k8s:app={name}", f"k8s:io.kubernetes.pod.namespace={namespace}"],
        "pod_name": f"{name}-6b746f74dc-9rcxx",
        "workloads": [{"name": name, "kind": "Deployment"}],
    }


def line(time: str, client: Json, server: Json, port: int, addresses: tuple[str, str]) -> Json:
    flow = {
        "time": time,
        "verdict": "FORWARDED",
        "IP": {"source": addresses[0], "destination": addresses[1], "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 41000, "destination_port": port, "flags": {"SYN": True}}},
        "source": client,
        "destination": server,
        "Type": "L3_L4",
        "node_name": "big/node-1",
        "event_type": {"type": 4, "sub_type": 3},
        "traffic_direction": "EGRESS",
        "trace_observation_point": "TO_STACK",
        "is_reply": False,
    }
    return {"flow": flow, "node_name": "big/node-1", "time": time}


def deployment(namespace: str, name: str) -> Json:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


def write(folder: Path, workloads: int, namespaces: int, calls: int) -> tuple[Path, Path]:
    """The paths of a log and an inventory: most calls stay in a namespace, some ask `shared`."""
    rng = random.Random(7)
    per = workloads // namespaces
    ends = [(f"team-{n:02}", f"svc-{n:02}-{i:02}") for n in range(namespaces) for i in range(per)]
    address = {one: f"10.{i >> 8}.{i & 255}.7" for i, one in enumerate(ends, 256)}
    lines = []
    for number in range(calls):
        client = ends[rng.randrange(len(ends))]
        near = client[0] if rng.random() < 0.8 else "team-00"
        server = (near, f"svc-{near[5:]}-{rng.randrange(per):02}")
        for day in (2, 3, 5):
            time = f"2026-03-{day:02}T{number % 24:02}:00:00.000000001Z"
            both = address[client], address[server]
            lines.append(line(time, end(*client), end(*server), 8000 + number % 3, both))
    log, inventory = folder / "flows.jsonl", folder / "inventory.yaml"
    log.write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    objects = [deployment(*one) for one in ends]
    inventory.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    return log, inventory
