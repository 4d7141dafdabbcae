"""A second, independent reading of NetworkPolicy: pod by pod, port by port, straight from YAML.

It shares no code with the project, and is written to be read beside the API documentation: slow,
plain, without sets or classes.
"""

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


def load(folder: Path) -> list[Object]:
    """Every object in the YAML files below a folder."""
    found = []
    for path in sorted(folder.rglob("*.yaml")):
        for body in yaml.safe_load_all(path.read_text()):
            found.extend(
                body["items"] if body and body["kind"] == "List" else [body] if body else []
            )
    return found


def selector_matches(selector: Object | None, labels: dict[str, str]) -> bool:
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in (selector or {}).get("matchExpressions") or []:
        key, values = term["key"], term.get("values") or []
        match term["operator"]:
            case "In":
                good = labels.get(key) in values
            case "NotIn":
                good = labels.get(key) not in values
            case "Exists":
                good = key in labels
            case "DoesNotExist":
                good = key not in labels
        if not good:
            return False
    return True


class Judge:
    """Pods are dicts: name, namespace, labels, ip, ports {name: (protocol, number)}, host."""

    def __init__(
        self, policies: Iterable[Object], pods: list[Object], spaces: dict[str, dict[str, str]]
    ) -> None:
        self.policies = [p for p in policies if p["kind"] == "NetworkPolicy"]
        self.pods = pods
        self.spaces = spaces

    def allowed(self, src: Object | str, dst: Object | str, protocol: str, port: int) -> bool:
        """Whether a connection passes; an end is a pod, or an address outside."""
        return self._side("Egress", src, dst, dst, protocol, port) and self._side(
            "Ingress", dst, src, dst, protocol, port
        )

    def _side(
        self,
        type_: str,
        subject: Object | str,
        peer: Object | str,
        server: Object | str,
        protocol: str,
        port: int,
    ) -> bool:
        if isinstance(subject, str) or subject.get("host"):
            return True
        isolated = False
        for policy in self.policies:
            spec = policy["spec"]
            types = spec.get("policyTypes") or [
                "Ingress",
                *(["Egress"] if spec.get("egress") else []),
            ]
            if type_ not in types:
                continue
            if policy["metadata"]["namespace"] != subject["namespace"]:
                continue
            if not selector_matches(spec.get("podSelector"), subject["labels"]):
                continue
            isolated = True
            for rule in spec.get(type_.lower()) or []:
                peers = rule.get("from" if type_ == "Ingress" else "to")
                if peers and not any(self._peer(p, peer, policy) for p in peers):
                    continue
                ports = rule.get("ports")
                if ports and not any(self._port(p, server, protocol, port) for p in ports):
                    continue
                return True
        return not isolated

    def _peer(self, spec: Object, end: Object | str, policy: Object) -> bool:
        if "ipBlock" in spec:
            if not isinstance(end, str) and not end.get("host"):
                return False
            address = ipaddress.ip_address(end if isinstance(end, str) else end["ip"])
            block = spec["ipBlock"]
            return address in ipaddress.ip_network(block["cidr"]) and not any(
                address in ipaddress.ip_network(cut) for cut in block.get("except") or []
            )
        if isinstance(end, str) or end.get("host"):
            return False
        if "namespaceSelector" in spec:
            if not selector_matches(spec["namespaceSelector"], self.spaces[end["namespace"]]):
                return False
        elif end["namespace"] != policy["metadata"]["namespace"]:
            return False
        return selector_matches(spec.get("podSelector"), end["labels"])

    @staticmethod
    def _port(spec: Object, server: Object | str, protocol: str, port: int) -> bool:
        if (spec.get("protocol") or "TCP") != protocol:
            return False
        asked = spec.get("port")
        if asked is None:
            return True
        if isinstance(asked, str):
            # A host-network pod is its node here, and nodes have no named ports.
            ports = {} if isinstance(server, str) or server.get("host") else server["ports"]
            return ports.get(asked) == (protocol, port)
        return asked <= port <= (spec.get("endPort") or asked)
