"""What the NetworkPolicies in force decide, as far as the samples' policies need it.

Known: `matchLabels`, pod and namespace selectors, numbered and named ports. A pod that no policy
selects in a direction has no verdict there: everything passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster import NAMESPACES, Labels, Node, Pod

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """An end of a connection that is no pod: world, kube-apiserver, or host (a pod's own node)."""

    entity: str
    ip: str
    name: str | None = None
    node: Node | None = None


End = Pod | Peer


@dataclass(frozen=True)
class Hit:
    """The policy and rule that decided; rule -1 is the denial of all that no rule allows."""

    namespace: str
    policy: str
    rule: int

    @property
    def allows(self) -> bool:
        """Whether the connection passes."""
        return self.rule >= 0


def verdict(
    policies: list[Manifest], client: End, server: End, protocol: str, port: int | None, way: str
) -> Hit | None:
    """What decides on a connection at its client (`egress`) or its server (`ingress`)."""
    subject, other = (client, server) if way == "egress" else (server, client)
    if not isinstance(subject, Pod) or (isinstance(other, Peer) and other.entity == "host"):
        return None
    denied = None
    for policy in policies:
        spec, meta = policy["spec"], policy["metadata"]
        if meta["namespace"] != subject.workload.namespace:
            continue
        if way.capitalize() not in spec["policyTypes"] or not _matches(
            spec["podSelector"], subject.labels
        ):
            continue
        for index, rule in enumerate(spec.get(way, [])):
            peers = rule.get("from" if way == "ingress" else "to")
            if (not peers or any(_is(peer, other, meta["namespace"]) for peer in peers)) and (
                _opens(rule.get("ports"), server, protocol, port)
            ):
                return Hit(meta["namespace"], meta["name"], index)
        denied = Hit(meta["namespace"], meta["name"], -1)
    return denied


def _matches(selector: Manifest, labels: Labels) -> bool:
    wanted: Labels = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def _is(peer: Manifest, end: End, namespace: str) -> bool:
    if not isinstance(end, Pod):
        return False
    theirs = end.workload.namespace
    labels = NAMESPACES[theirs] | {"kubernetes.io/metadata.name": theirs}
    selector = peer.get("namespaceSelector")
    same = _matches(selector, labels) if selector is not None else theirs == namespace
    return same and _matches(peer.get("podSelector", {}), end.labels)


def _opens(ports: list[Manifest] | None, server: End, protocol: str, port: int | None) -> bool:
    named = (
        {item.name: item.number for item in server.workload.ports}
        if isinstance(server, Pod)
        else {}
    )
    return not ports or any(
        item["protocol"] == protocol and named.get(item["port"], item["port"]) == port
        for item in ports
    )
