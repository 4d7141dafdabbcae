"""Policies that others wrote for the clusters of `drawn_traffic`, as hypothesis draws them."""

from typing import Any

from drawn_traffic import SPACES
from hypothesis import strategies as st

Object = dict[str, Any]

_SPACE = st.sampled_from(sorted(SPACES))
_LABELS = st.sampled_from([{}, {}, {"app": "w0"}, {"app": "w1"}, {"role": "a"}, {"zone": "x"}])
_BLOCKS = st.sampled_from(["0.0.0.0/0", "192.0.2.0/24", "10.0.0.0/8"])
_PORT = st.sampled_from([("TCP", 80), ("TCP", 443), ("UDP", 53), ("TCP", 9090)])


def _rules(rule: Any) -> Any:
    return st.lists(rule, max_size=3)


@st.composite
def _kubernetes(draw: st.DrawFn) -> Object:
    def rule(key: str) -> Any:
        pods = st.builds(lambda labels: {"podSelector": {"matchLabels": labels}}, _LABELS)
        spaces = st.builds(
            lambda name: {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}
            },
            _SPACE,
        )
        block = st.builds(lambda cidr: {"ipBlock": {"cidr": cidr}}, _BLOCKS)
        everywhere = st.just({"namespaceSelector": {}})
        ports = st.builds(lambda p: [{"protocol": p[0], "port": p[1]}], _PORT)
        peers = st.lists(st.one_of(pods, spaces, everywhere, block), min_size=1, max_size=2)
        return st.fixed_dictionaries({}, optional={key: peers, "ports": ports})

    spec: Object = {"podSelector": {"matchLabels": draw(_LABELS)}}
    if draw(st.booleans()):
        spec["ingress"] = draw(_rules(rule("from")))
    if draw(st.booleans()):
        spec["egress"] = draw(_rules(rule("to")))
    if draw(st.booleans()):
        spec["policyTypes"] = ["Ingress", "Egress"]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": draw(_SPACE)},
        "spec": spec,
    }


@st.composite
def _calico(draw: st.DrawFn) -> Object:
    texts = st.sampled_from(["all()", "app == 'w0'", "role == 'a'", "has(zone)"])
    spaces = st.sampled_from([{}, {"namespaceSelector": "all()"}])

    @st.composite
    def rule(draw: st.DrawFn, side: str) -> Object:
        found: Object = {"action": draw(st.sampled_from(["Allow", "Allow", "Deny", "Pass"]))}
        entity = draw(
            st.one_of(
                st.builds(lambda text, more: {"selector": text} | more, texts, spaces),
                st.builds(lambda net: {"nets": [net]}, _BLOCKS),
                st.just({}),
            )
        )
        if draw(st.booleans()):
            protocol, port = draw(_PORT)
            found["protocol"] = protocol
            if side == "source":
                found["destination"] = {"ports": [port]}
            else:
                entity = {**entity, "ports": [port]}
        return found | ({side: entity} if entity else {})

    space = draw(st.one_of(st.none(), _SPACE))
    spec: Object = {
        "order": draw(st.sampled_from([1, 100, 2000])),
        "selector": draw(texts),
        "ingress": draw(_rules(rule("source"))),
        "egress": draw(_rules(rule("destination"))),
        "types": draw(st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]])),
    }
    if tier := draw(st.sampled_from([None, "early", "lenient"])):
        spec["tier"] = tier
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "NetworkPolicy" if space else "GlobalNetworkPolicy",
        "metadata": {"namespace": space} if space else {},
        "spec": spec,
    }


def _tier(name: str, order: int, action: str) -> Object:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "Tier",
        "metadata": {"name": name},
        "spec": {"order": order, "defaultAction": action},
    }


@st.composite
def _cilium(draw: st.DrawFn) -> Object:
    peers = st.one_of(
        st.builds(lambda labels: ("Endpoints", [{"matchLabels": labels}]), _LABELS),
        st.builds(
            lambda name: (
                "Endpoints",
                [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": name}}],
            ),
            _SPACE,
        ),
        st.sampled_from(
            [("Entities", ["all"]), ("Entities", ["cluster"]), ("Entities", ["world"])]
        ),
        st.builds(lambda net: ("CIDR", [net]), _BLOCKS),
    )

    @st.composite
    def element(draw: st.DrawFn, way: str) -> Object:
        kind, values = draw(peers)
        found: Object = {way + kind: values}
        if draw(st.booleans()):
            protocol, port = draw(_PORT)
            found["toPorts"] = [{"ports": [{"port": str(port), "protocol": protocol}]}]
        return found

    def spec() -> Object:
        keys = {"ingress": "from", "egress": "to", "ingressDeny": "from", "egressDeny": "to"}
        body: Object = {"endpointSelector": {"matchLabels": draw(_LABELS)}}
        for key in draw(st.sets(st.sampled_from(["ingress", "egress", *keys]), min_size=1)):
            body[key] = draw(st.lists(element(keys[key]), min_size=1, max_size=2))
        return body

    space = draw(st.one_of(st.none(), _SPACE))
    rules = {"spec": spec()} if draw(st.booleans()) else {"specs": [spec(), spec()]}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy" if space else "CiliumClusterwideNetworkPolicy",
        "metadata": {"namespace": space} if space else {},
        **rules,
    }


_OF = {"kubernetes": _kubernetes(), "calico": _calico(), "cilium": _cilium()}


@st.composite
def theirs(draw: st.DrawFn, *dialects: str) -> list[Object]:
    """Up to four policies of these dialects, and Calico's tiers before the default one."""
    kinds = st.one_of(*(_OF[name] for name in dialects))
    found = draw(st.lists(kinds, min_size=1, max_size=4))
    for at, body in enumerate(found):
        body["metadata"]["name"] = f"theirs-{at}"
    tiers = [_tier("early", 10, "Deny"), _tier("lenient", 20, "Pass")]
    return [*(tiers if "calico" in dialects else []), *found]
