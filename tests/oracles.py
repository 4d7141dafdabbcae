"""What the policy engines of Cilium and Calico themselves make of policies; `make oracles`.

They are asked about packets: between pods, by `namespace/name`, and addresses, those of nodes too.
The Go programs that answer are in `oracles/`; they import the networks' own code.
"""

import copy
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from recommender.addresses import Address, address, text
from recommender.evaluate import Evaluator
from recommender.inventory import Inventory, Pod
from recommender.manifests import Manifest
from recommender.model import Labels
from recommender.ports import PORT_PROTOCOLS, Ports
from recommender.questions import protocol_number

FOLDER = Path(__file__).parent.parent / ".oracles"
ENGINES = ("cilium", "calico")
KINDS = {
    "cilium": ("cilium.io/", "networking.k8s.io/v1", "policy.networking.k8s.io/"),
    "calico": ("projectcalico.org/v3", "networking.k8s.io/v1"),
}
# Addresses of pods whose own are not known.
_MADE = ("100.127.0.0", "fd00:127::")
_UNTOUCHED = 7001  # a port that no policy is likely to name

Question = tuple[str, str, str, int]  # source, destination, protocol, port; ICMP: type * 256 + code


def needs(engine: str) -> pytest.MarkDecorator:
    """Skips a test where an engine isn't built."""
    return pytest.mark.skipif(
        not (FOLDER / engine).exists(), reason=f"{engine}'s engine is not built; run `make oracles`"
    )


class Sides(NamedTuple):
    """Whether each end's own policies let a connection pass."""

    egress: bool
    ingress: bool


@dataclass(frozen=True)
class Answer:
    """The policies that an engine refuses, with its words, and its verdicts.

    There's no verdict where the ends have no addresses of one IP version.
    """

    refused: dict[str, str]
    verdicts: dict[Question, Sides]


@dataclass(frozen=True)
class Engine:
    """A running engine."""

    dialect: str
    process: "subprocess.Popen[str]"

    def ask(
        self,
        manifests: Iterable[Manifest],
        inventory: Inventory,
        questions: Sequence[Question],
        names: Mapping[str, frozenset[str]] | None = None,
    ) -> Answer:
        """The engine's answers about the policies among `manifests`."""
        asked = _request(self.dialect, manifests, inventory, questions, names or {})
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        found = json.loads(self.process.stdout.readline())
        assert "error" not in found, found["error"]
        return Answer(
            {_name(each): each["error"] for each in found["refused"]},
            {
                question: Sides(bool(int(digit) & 1), bool(int(digit) & 2))
                for question, digit in zip(questions, found["verdicts"], strict=True)
                if digit != "-"
            },
        )


@contextmanager
def engine(dialect: str) -> Iterator[Engine]:
    """An engine for many questions."""
    with subprocess.Popen(
        [FOLDER / dialect],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield Engine(dialect, process)
        finally:
            process.communicate()


def engine_connectivity(
    dialect: str,
    manifests: Iterable[Manifest],
    inventory: Inventory,
    questions: Sequence[Question],
    names: Mapping[str, frozenset[str]] | None = None,
) -> dict[Question, Sides]:
    """An engine's verdicts on policies, none of which it may refuse."""
    with engine(dialect) as running:
        found = running.ask(manifests, inventory, questions, names)
    assert not found.refused, found.refused
    return found.verdicts


# --- what to ask -------------------------------------------------------------------------------


def questions_of(judge: Evaluator, most: int = 20_000) -> list[Question]:
    """Every pair of pods, node addresses and kinds of outside addresses, on each port concerned.

    Concerned are the first and last ports of what policies name, their neighbours, and the ports
    of containers. Where that is more than `most`, ports are left out evenly.
    """
    points = points_of(judge)
    pods = sum("/" in point for point in points)
    pairs = len(points) ** 2 - (len(points) - pods) ** 2 - pods
    probes = probes_of(judge)
    step = max(1, -(-len(probes) * pairs // most))
    return [
        (src, dst, protocol, port)
        for src in points
        for dst in points
        if src != dst and ("/" in src or "/" in dst)
        for protocol, port in probes[::step]
        if _exists(protocol, src, dst)
    ]


def _exists(protocol: str, src: str, dst: str) -> bool:
    """Whether addresses may have such packets: each IP version has its own ICMP; pods IPv4's."""
    sixes = {":" in end for end in (src, dst) if "/" not in end} or {False}
    return protocol not in ("ICMP", "ICMPv6") or sixes <= {protocol == "ICMPv6"}


def points_of(judge: Evaluator) -> list[str]:
    """The pods with addresses of their own, and one address of each atom."""
    world = judge.world
    pods = [judge.ends.name(i) for i in range(len(world.pods)) if not world.pods[i].host_network]
    taken = set(judge.ends.addresses)
    atoms = [_free(first, taken, judge, i) for i, first in enumerate(world.atoms.firsts)]
    return pods + [at for at in atoms if at]


def _free(first: Address, taken: set[Address], judge: Evaluator, i: int) -> str:
    """The first address of an atom that is no pod's; none where every one is."""
    version, number = first
    while (version, number) in taken:
        number += 1
    return text((version, number)) if number <= judge.world.atoms.last(i)[1] else ""


def probes_of(judge: Evaluator) -> list[tuple[str, int]]:
    """The ports at which some policy's meaning may change, and ports of containers."""
    found = {(protocol, _UNTOUCHED) for protocol in PORT_PROTOCOLS}
    found |= {("ICMP", 8 * 256), ("ICMPv6", 128 * 256)}
    for policy in judge.policies:
        for rule in (*policy.ingress, *policy.egress):
            found |= set(_bounds(rule.ports))
    for pod in judge.world.pods:
        found |= {(protocol, port) for protocol, port, _ in pod.ports}
    return sorted(found)


def _bounds(ports: Ports) -> Iterator[tuple[str, int]]:
    for protocol in (*PORT_PROTOCOLS, "ICMP", "ICMPv6"):
        for low, high in ports.numbers.intervals(protocol):
            # Cilium's engine cannot be asked about type 0: its port 0 stands for all.
            least, most = (1, 65535) if protocol in PORT_PROTOCOLS else (256, 65535)
            for at in (low - 1, low, high, high + 1):
                if least <= at <= most:
                    yield protocol, at


# --- requests ----------------------------------------------------------------------------------


def _request(
    dialect: str,
    manifests: Iterable[Manifest],
    inventory: Inventory,
    questions: Sequence[Question],
    names: Mapping[str, frozenset[str]],
) -> dict[str, Any]:
    ends = list(dict.fromkeys(end for question in questions for end in question[:2]))
    number = {end: i for i, end in enumerate(ends)}
    pods = [pod for _, pod in sorted(inventory.pods.items()) if not pod.host_network]
    addresses = {pod: _addresses(pod, i) for i, pod in enumerate(map(_key, pods), 1)}
    spaces = {pod.namespace for pod in pods} | set(inventory.namespaces)
    common = {
        "policies": [_own(m.body) for m in manifests if _is_policy(m.body, dialect)],
        "namespaces": [_namespace(name, inventory) for name in sorted(spaces)],
        "pods": [_pod(pod, _given(pod) or addresses[_key(pod)]) for pod in pods],
        "points": [{"pod" if "/" in end else "address": end} for end in ends],
        "questions": [
            (number[src], number[dst], protocol_number(protocol), _port(dialect, protocol, port))
            for src, dst, protocol, port in questions
        ],
    }
    if dialect == "calico":
        return common | _for_calico(pods, addresses, inventory)
    return common | _for_cilium(inventory, names)


def _for_cilium(inventory: Inventory, names: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    servers = {
        at
        for pod in inventory.pods.values()
        if pod.host_network and pod.labels.get("component") == "kube-apiserver"
        for at in pod.node_addresses or pod.addresses
    }
    return {
        "cluster": "default",
        "nodes": [
            {"name": node.name, "labels": dict(node.labels), "addresses": list(node.addresses)}
            for node in inventory.nodes.values()
        ],
        "services": [
            {
                "namespace": service.namespace,
                "name": service.name,
                "labels": dict(service.labels),
                "selector": dict(service.selector),
            }
            for service in inventory.services.values()
        ],
        "names": {name: sorted(found) for name, found in names.items()},
        "apiServers": sorted(servers),
    }


def _for_calico(
    pods: Sequence[Pod], made: Mapping[tuple[str, str], list[str]], inventory: Inventory
) -> dict[str, Any]:
    accounts = {(pod.namespace, pod.service_account) for pod in pods}
    return {
        "accounts": [
            {
                "metadata": {
                    "namespace": namespace,
                    "name": name,
                    "labels": dict(inventory.service_accounts.get((namespace, name), {})),
                }
            }
            for namespace, name in sorted(accounts)
        ],
        "slices": list(_slices(made, inventory)),
    }


def _slices(made: Mapping[tuple[str, str], list[str]], inventory: Inventory) -> Iterator[Any]:
    """What stands behind each Service: a slice for each of its pods and their addresses."""
    for service in inventory.services.values():
        for pod in inventory.backends(service):
            named = {(protocol, name): port for protocol, port, name in pod.ports if name}
            ports = [
                {"name": name or "", "protocol": protocol, "port": found}
                for protocol, _, target, name in service.ports
                if (found := target if isinstance(target, int) else named.get((protocol, target)))
            ]
            own = pod.node_addresses if pod.host_network else _given(pod) or made[_key(pod)]
            for at in own:
                version = "IPv6" if ":" in at else "IPv4"
                yield {
                    "metadata": {
                        "namespace": service.namespace,
                        "name": f"{service.name}-{pod.name}-{version.lower()}",
                        "labels": {"kubernetes.io/service-name": service.name},
                    },
                    "addressType": version,
                    "endpoints": [{"addresses": [at], "conditions": {"ready": True}}],
                    "ports": ports,
                }


def _key(pod: Pod) -> tuple[str, str]:
    return pod.namespace, pod.name


def _given(pod: Pod) -> list[str]:
    return [at for at in pod.addresses if address(at)]


def _addresses(_: tuple[str, str], number: int) -> list[str]:
    """Addresses for a pod without any, one of each IP version."""
    return [str(ip_address(first) + number) for first in _MADE]


def _pod(pod: Pod, addresses: Sequence[str]) -> dict[str, Any]:
    ports = [
        {"containerPort": port, "protocol": protocol, **({"name": name} if name else {})}
        for protocol, port, name in pod.ports
    ]
    return {
        "metadata": {"namespace": pod.namespace, "name": pod.name, "labels": dict(pod.labels)},
        "spec": {
            "nodeName": pod.node or "unknown",
            "serviceAccountName": pod.service_account,
            "containers": [{"name": "c", "ports": ports}],
        },
        "status": {
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": [{"ip": at} for at in addresses],
        },
    }


def _namespace(name: str, inventory: Inventory) -> dict[str, Any]:
    known = inventory.namespaces.get(name)
    labels: Labels = known.labels if known else {"kubernetes.io/metadata.name": name}
    return {"metadata": {"name": name, "labels": dict(labels)}}


def _is_policy(body: Mapping[str, Any], dialect: str) -> bool:
    return str(body.get("apiVersion")).startswith(KINDS[dialect])


_CLUSTERWIDE = ("Global", "CiliumClusterwide", "CiliumCIDR", "Cluster", "Tier")


def _own(body: Mapping[str, Any]) -> dict[str, Any]:
    """An object as the API server stores it: with a namespace, if it is of one."""
    metadata = dict(body["metadata"])
    if not str(body["kind"]).startswith(_CLUSTERWIDE):
        metadata["namespace"] = metadata.get("namespace") or "default"
    own = {**copy.deepcopy(dict(body)), "metadata": metadata}
    return _defaulted(own) if body["apiVersion"] == "networking.k8s.io/v1" else own


def _defaulted(policy: dict[str, Any]) -> dict[str, Any]:
    """A NetworkPolicy with what the API server writes itself (pkg/apis/networking/v1/defaults.go)."""
    spec = policy["spec"]
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for rule in (*(spec.get("ingress") or []), *(spec.get("egress") or [])):
        for port in rule.get("ports") or []:
            port.setdefault("protocol", "TCP")
    return policy


def _port(dialect: str, protocol: str, port: int) -> int:
    return port // 256 if dialect == "cilium" and protocol.startswith("ICMP") else port


def _name(found: Mapping[str, str]) -> str:
    where = found["namespace"] + "/" if found["namespace"] else ""
    return f"{found['kind']} {where}{found['name']}"
