"""Clusters and policies of Cilium's kinds as hypothesis draws them."""

from typing import Any

from drawn_clusters import BLOCKS, SPACES, _cluster, _kubernetes_policy, _labels, _several
from hypothesis import strategies as st

Object = dict[str, Any]

_KEYS, _VALUES = ("app", "k8s:app", "example.com/tier"), ("x", "xy", "y")
_NAMESPACE = "io.kubernetes.pod.namespace"
_PEER_KEYS = (*_KEYS, f"k8s:{_NAMESPACE}", "io.cilium.k8s.namespace.labels.team")
_PEER_VALUES = (*_VALUES, "a", "ab", *SPACES)


def _selector(keys: tuple[str, ...], values: tuple[str, ...]) -> st.SearchStrategy[Any]:
    one_of = st.fixed_dictionaries(
        {
            "key": st.sampled_from(keys),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True),
        }
    )
    is_there = st.fixed_dictionaries(
        {"key": st.sampled_from(keys), "operator": st.sampled_from(["Exists", "DoesNotExist"])}
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "matchLabels": _labels(keys, values),
            "matchExpressions": st.lists(st.one_of(one_of, is_there), max_size=2),
        },
    )


_SUBJECT = _selector(_KEYS, _VALUES)
_ENDPOINTS = _several(0, 2, _selector(_PEER_KEYS, _PEER_VALUES))
_ENTITIES = st.lists(
    st.sampled_from(["all", "world", "cluster", "host", "remote-node", "none", "ingress"]),
    min_size=1,
    max_size=2,
    unique=True,
)
_NETS = ("0.0.0.0/0", "10.0.0.0/8", "192.0.2.0/24", "192.0.2.128/25", "2001:db8::/32")
_CIDRS = _several(0, 2, st.sampled_from(_NETS))
_CIDR_SETS = _several(
    0, 2, st.sampled_from([block for block in BLOCKS if block["cidr"] != "192.0.2.77/25"])
)
_FQDNS = _several(
    1,
    2,
    st.sampled_from(
        [
            {"matchName": "api.bank.example"},
            {"matchPattern": "*.bank.example"},
            {"matchPattern": "**.example"},
            {"matchPattern": "w*.bank.example"},
            {"matchPattern": "*"},
        ]
    ),
)
NAMES = {
    "api.bank.example": frozenset({"192.0.2.1", "2001:db8:1::1"}),
    "www.bank.example": frozenset({"192.0.2.200"}),
    "bank.example": frozenset({"198.51.100.7"}),
}
_PORTS = st.sampled_from(
    [
        {"port": "80"},
        {"port": "80", "protocol": "TCP"},
        {"port": "8000", "endPort": 8100, "protocol": "TCP"},
        {"port": "1", "endPort": 65535, "protocol": "SCTP"},
        {"port": "0", "protocol": "UDP"},
        {"port": "53", "protocol": "UDP"},
        {"port": "http", "protocol": "TCP"},
        {"port": "dns", "protocol": "UDP"},
        {"port": "dns", "protocol": "ANY"},
    ]
)
_ICMP = st.sampled_from(
    [{"type": 8}, {"type": "DestinationUnreachable"}, {"family": "IPv6", "type": 128}]
)


@st.composite
def _element(draw: st.DrawFn, direction: str, *, deny: bool) -> Object:
    prefix = "from" if direction == "ingress" else "to"
    kinds = {"Endpoints": _ENDPOINTS, "Entities": _ENTITIES, "CIDR": _CIDRS, "CIDRSet": _CIDR_SETS}
    if direction == "egress" and not deny:
        kinds["FQDNs"] = _FQDNS
    kind = draw(st.sampled_from([None, *kinds]))
    found: Object = {} if kind is None else {prefix + kind: draw(kinds[kind])}
    match draw(st.integers(0, 3)):
        case 0:
            found["toPorts"] = [{"ports": draw(_several(1, 2, _PORTS))}]
        case 1:
            found["icmps"] = [{"fields": draw(_several(1, 2, _ICMP))}]
    return found


@st.composite
def _cilium_policy(draw: st.DrawFn) -> Object:
    namespaced = draw(st.booleans())
    spec: Object = {"endpointSelector": draw(_SUBJECT)}
    lists = ("ingress", "ingressDeny", "egress", "egressDeny")
    for key in draw(st.lists(st.sampled_from(lists), min_size=1, max_size=3, unique=True)):
        deny = key.endswith("Deny")
        spec[key] = draw(_several(1, 2, _element(key.removesuffix("Deny"), deny=deny)))
    if draw(st.integers(0, 3)) == 0:
        flags = st.fixed_dictionaries(
            {}, optional={"ingress": st.booleans(), "egress": st.booleans()}
        )
        spec["enableDefaultDeny"] = draw(flags)
    kind = "CiliumNetworkPolicy" if namespaced else "CiliumClusterwideNetworkPolicy"
    metadata = {"namespace": draw(st.sampled_from(SPACES))} if namespaced else {}
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}


_NODES = [
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }
    for name, address in (("one", "10.8.0.1"), ("two", "10.8.0.2"))
]


@st.composite
def cilium_folders(draw: st.DrawFn) -> list[Object]:
    """A cluster's objects and its policies, of Cilium and of Kubernetes."""
    cluster = draw(_cluster())
    for body in cluster:
        if body["kind"] == "Pod":
            body["spec"]["nodeName"] = draw(st.sampled_from(["one", "two"]))
    cilium = draw(_several(0, 3, _cilium_policy()))
    kubernetes = draw(_several(0, 2, _kubernetes_policy(BLOCKS)))
    for i, policy in enumerate([*cilium, *kubernetes]):
        policy["metadata"]["name"] = f"n{i}"
    return [*_NODES, *cluster, *cilium, *kubernetes]
