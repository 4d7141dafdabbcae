"""One end of a Hubble flow: endpoint JSON -> what it is, and its columns of FLOWS.

Cilium says what an end is three times: by numeric identity, by `reserved:` labels and by the
names from its address cache. They can disagree; the order of trust is in `_type` and `_names`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from ingest import hubble_wire as wire
from ingest.values import check_keys, lines, text

COLUMNS = (
    "type",
    "cluster",
    "namespace",
    "pod",
    "workload_kind",
    "workload",
    "labels",
    "service_account",
)


class End(NamedTuple):
    """An end of a flow.

    Args:
        values: its values of COLUMNS.
        cluster: its Kubernetes cluster.
        local: it lives on the reporting node.
        labelled: the log gave labels, be they only Cilium's own.
    """

    values: tuple[str | None, ...]
    cluster: str | None
    local: bool
    labelled: bool


# pkg/identity/numericidentity.go. In order of priority: several can sit on one end, as
# `reserved:host` beside `reserved:kube-apiserver` on a control-plane node.
_RESERVED: tuple[tuple[str, frozenset[str], frozenset[int]], ...] = (
    ("health", frozenset({"health"}), frozenset({4})),
    ("ingress", frozenset({"ingress"}), frozenset({8})),
    ("apiserver", frozenset({"kube-apiserver"}), frozenset({7})),
    ("host", frozenset({"host"}), frozenset({1})),
    ("node", frozenset({"remote-node"}), frozenset({6})),
    ("init", frozenset({"init"}), frozenset({5})),
    ("unmanaged", frozenset({"unmanaged"}), frozenset({3})),
    ("outside", frozenset({"world", "world-ipv4", "world-ipv6"}), frozenset({2, 9, 10})),
)
_FIRST_CLUSTER_IDENTITY = 100
_FIRST_CIDR_IDENTITY = 1 << 24
_FIRST_NODE_IDENTITY = 1 << 25

# Label sources whose labels are the pod's own; `gen:`, `cidr:`, `fqdn:`, `node:` are Cilium's.
_POD_SOURCES = frozenset({"k8s", "container", "any", "unspec", ""})
_NAMESPACE = "io.kubernetes.pod.namespace"
_SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
_CLUSTER = "io.cilium.k8s.policy.cluster"
_DECODER = msgspec.json.Decoder(wire.Endpoint | None, strict=False)


@lru_cache(maxsize=8_192)
def end(raw: bytes) -> End:
    """What the JSON of `source` or `destination` says; nothing at all where it is empty.

    Raises:
        UnreadableError: a name or label holds a control character, or a key stands twice.
        msgspec.DecodeError: a value has the wrong type.
    """
    said = (_DECODER.decode(raw) if raw else None) or wire.Endpoint()
    if raw:
        check_keys(raw)
    sources, own, cilium = _labels(said.labels or ())
    namespace, pod = _names(said, cilium.get(_NAMESPACE))
    kind = _type(said.identity or 0, sources, named=bool(pod and namespace), namespace=namespace)
    cluster = text(said.cluster_name or cilium.get(_CLUSTER))
    owner = said.workloads[0] if said.workloads else wire.Workload()
    values = (
        kind,
        cluster,
        namespace,
        pod,
        text(owner.kind),
        text(owner.name),
        lines(own),
        text(cilium.get(_SERVICE_ACCOUNT)),
    )
    return End(values, cluster, said.ID is not None, bool(said.labels))


def _labels(labels: list[str] | tuple[()]) -> tuple[set[str], list[str], dict[str, str]]:
    """Reserved names and other marks (`cidr:` as `cidr`), the pod's own labels, Cilium's keys."""
    marks, own, cilium = set(), [], {}
    for label in labels:
        key, _, value = label.partition("=")
        source, colon, name = key.partition(":")
        if not colon:
            source, name = "", key
        if source == "reserved":
            marks.add(name)
        elif source not in _POD_SOURCES:
            marks.add(f"{source}:")
        elif name == _NAMESPACE or name.startswith("io.cilium."):
            cilium[name] = value
        else:
            own.append(f"{name}={value}")
    return marks, own, cilium


def _names(said: wire.Endpoint, labelled: str | None) -> tuple[str | None, str | None]:
    """Namespace and pod name.

    After the proxy only labels are left, so the namespace can be theirs alone. Labels come from
    the datapath, names from a cache that can hold the last owner of an address: where the two
    name different namespaces, the pod name is somebody else's.
    """
    if labelled and said.namespace and labelled != said.namespace:
        return text(labelled), None
    return text(said.namespace or labelled), text(said.pod_name)


def _type(identity: int, marks: set[str], *, named: bool, namespace: str | None) -> str | None:
    for kind, names, numbers in _RESERVED:
        if marks & names or identity in numbers:
            # An address that Cilium knows no identity for can still be a pod by its name.
            return "pod" if kind == "outside" and named else kind
    if named:
        return "pod"
    if identity >= _FIRST_NODE_IDENTITY:
        return "node"
    if identity >= _FIRST_CIDR_IDENTITY or {"cidr:", "fqdn:", "cidrgroup:"} & marks:
        return "outside"
    return "pod" if namespace or identity >= _FIRST_CLUSTER_IDENTITY else None
