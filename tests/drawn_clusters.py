"""Clusters and policies as hypothesis draws them, of the kinds that network-config-analyzer knows.

What is left out of a field is said beside it, and kept as a case in `cases/agreement`.
"""

from typing import Any

from hypothesis import strategies as st

Object = dict[str, Any]

SPACES = ("red", "blue", "green")
_KEYS, _VALUES = ("app", "example.com/tier"), ("x", "xy", "y")
_SPACE_KEYS, _SPACE_VALUES = ("team",), ("a", "ab")
# Pods have addresses in 10.0.0.0/24.
BLOCKS_WITH_PODS = (
    {"cidr": "0.0.0.0/0"},
    {"cidr": "0.0.0.0/0", "except": ["192.0.2.0/25", "198.51.100.7/32"]},
)
BLOCKS = (
    {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/24"]},
    {"cidr": "192.0.2.128/25"},
    {"cidr": "192.0.2.77/25"},
    {"cidr": "203.0.113.5/32"},
    {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]},
)
CALICO_NETS = ("10.8.0.0/16", "192.0.2.0/24", "192.0.2.128/25", "198.51.100.7/32")
CALICO_NETS_6 = ("2001:db8::/32", "2001:db8:1::/48")
SET_NETS = ("10.8.0.0/16", "192.0.2.128/25", "198.51.100.7/32", "2001:db8:1::/48")
POINTS = (
    *("0.0.0.0", "9.255.255.255", "10.0.1.0", "10.7.255.255", "10.8.0.0", "10.8.255.255"),
    *("10.9.0.0", "192.0.1.255", "192.0.2.0", "192.0.2.127", "192.0.2.128", "192.0.2.255"),
    *("192.0.3.0", "198.51.100.6", "198.51.100.7", "203.0.113.5", "255.255.255.255"),
    *("2001:db7::1", "2001:db8::1", "2001:db8:1::1", "2001:db9::1"),
)


def _labels(keys: tuple[str, ...], values: tuple[str, ...]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(keys), st.sampled_from(values), max_size=2)


@st.composite
def _several(draw: st.DrawFn, least: int, most: int, each: st.SearchStrategy[Any]) -> list[Any]:
    """A list whose lengths are all as likely: hypothesis's own are mostly short."""
    return [draw(each) for _ in range(draw(st.integers(least, most)))]


# --- who there is ------------------------------------------------------------------------------

_CONTAINER_PORTS = st.sampled_from(
    [
        [],
        [{"name": "http", "containerPort": 80}],
        [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
        [{"name": "dns", "containerPort": 53}, {"containerPort": 90}],
    ]
)  # fmt: skip


@st.composite
def _workload(draw: st.DrawFn, number: int) -> Object:
    metadata = {"name": f"p{number}", "namespace": draw(st.sampled_from(SPACES))}
    labels = draw(_labels(_KEYS, _VALUES))
    spec: Object = {"containers": [{"name": "c", "ports": draw(_CONTAINER_PORTS)}]}
    if draw(st.booleans()):
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**metadata, "labels": labels},
            "spec": spec,
            "status": {"podIP": f"10.0.0.{number}", "phase": "Running"},
        }
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": draw(st.sampled_from(["Deployment", "StatefulSet"])),
        "metadata": metadata,
        "spec": {
            "replicas": draw(st.integers(1, 3)),
            "selector": {"matchLabels": labels},
            "template": template,
        },
    }


@st.composite
def _cluster(draw: st.DrawFn) -> list[Object]:
    spaces = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": draw(_labels(_SPACE_KEYS, _SPACE_VALUES))},
        }
        for name in SPACES
    ]
    return spaces + [draw(_workload(i)) for i in range(draw(st.integers(2, 5)))]


# --- Kubernetes policies -----------------------------------------------------------------------


def _selector(
    keys: tuple[str, ...], values: tuple[str, ...], *, existence: bool = True
) -> st.SearchStrategy[Any]:
    term = st.fixed_dictionaries(
        {
            "key": st.sampled_from(keys),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(st.sampled_from(values), min_size=1, max_size=2),
        }
    )
    if existence:
        is_there = st.sampled_from(["Exists", "DoesNotExist"])
        term |= st.fixed_dictionaries({"key": st.sampled_from(keys), "operator": is_there})
    return st.one_of(
        st.just({}),
        st.fixed_dictionaries(
            {},
            optional={
                "matchLabels": _labels(keys, values),
                "matchExpressions": st.lists(term, max_size=2),
            },
        ),
    )


_PODS = _selector(_KEYS, _VALUES)
_NAMESPACES = st.one_of(
    _selector(_SPACE_KEYS, _SPACE_VALUES),
    st.builds(
        lambda name: {"matchLabels": {"kubernetes.io/metadata.name": name}},
        st.sampled_from([*SPACES, "gone"]),
    ),
)
# Beside a namespaceSelector, Exists would mean the own namespace's pods only.
_PODS_ANYWHERE = _selector(_KEYS, _VALUES, existence=False)
_SELECTED = st.one_of(
    st.fixed_dictionaries({"podSelector": _PODS}),
    st.fixed_dictionaries({"namespaceSelector": _NAMESPACES}),
    st.fixed_dictionaries({"namespaceSelector": _NAMESPACES, "podSelector": _PODS_ANYWHERE}),
)
_PORTS = st.sampled_from(
    [
        {},
        {"port": 80},
        {"port": 8000, "endPort": 8100},
        {"port": 1, "endPort": 65535, "protocol": "SCTP"},
        {"protocol": "UDP"},
        {"port": 53, "protocol": "UDP"},
        {"port": "http"},
        {"port": "http", "protocol": "UDP"},
        {"port": "dns", "protocol": "UDP"},
        {"port": "dns", "protocol": "TCP"},
    ]
)


def _with_rules(
    draw: st.DrawFn, types: str, rules: dict[str, st.SearchStrategy[Any]]
) -> dict[str, Any]:
    """Directions with rules, said in `types` where they must be.

    Rules of a direction that `types` leaves out are not drawn, nor an empty list of rules without
    `types`.
    """
    said = draw(st.sampled_from([None, ["Ingress"], ["Egress"], ["Ingress", "Egress"]]))
    given: dict[str, Any] = {}
    for direction, rule in rules.items():
        if said is None or direction.capitalize() in said:
            found = draw(_several(0, 3, rule))
            if found or (said and draw(st.booleans())):
                given[direction] = found
    return given | ({types: said} if said else {})


@st.composite
def _kubernetes_policy(draw: st.DrawFn, blocks: tuple[Any, ...]) -> Object:
    peers = st.one_of(_SELECTED, st.fixed_dictionaries({"ipBlock": st.sampled_from(blocks)}))
    rules = {
        direction: st.fixed_dictionaries(
            {},
            optional={key: _several(0, 2, peers), "ports": _several(0, 2, _PORTS)},
        )
        for direction, key in (("ingress", "from"), ("egress", "to"))
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": draw(st.sampled_from(SPACES))},
        "spec": {"podSelector": draw(_PODS), **_with_rules(draw, "policyTypes", rules)},
    }


# --- Calico policies ---------------------------------------------------------------------------


def _expression(keys: tuple[str, ...], values: tuple[str, ...]) -> st.SearchStrategy[str]:
    key, value = st.sampled_from(keys), st.sampled_from(values)
    term = st.one_of(
        st.just("all()"),
        st.builds("has({})".format, key),
        st.builds(
            "{} {} '{}'".format,
            key,
            st.sampled_from(["==", "!=", "contains", "starts with", "ends with"]),
            value,
        ),
        st.builds(
            lambda key, how, values: f"{key} {how} {{{', '.join(map(repr, values))}}}",
            key,
            st.sampled_from(["in", "not in"]),
            st.lists(value, min_size=1, max_size=2),
        ),
    )
    return st.recursive(
        term,
        lambda inner: st.one_of(
            st.builds("!({})".format, inner),
            st.builds("({}) && ({})".format, inner, inner),
            st.builds("{} || {}".format, inner, inner),
            st.builds("{} && {}".format, term, term),
        ),
        max_leaves=4,
    )


_POD_TEXTS = _expression(_KEYS, _VALUES)
_SPACE_TEXTS = _expression((*_SPACE_KEYS, "kubernetes.io/metadata.name"), (*_SPACE_VALUES, "red"))
_PORT_LISTS = st.lists(
    st.sampled_from([80, 53, "8000:8100", "1:1023", "http", "dns"]), min_size=1, max_size=2
)
_NAMES = st.lists(st.sampled_from(["http", "dns"]), min_size=1, max_size=2)
_NUMBERED = st.lists(st.sampled_from([80, 53, "8000:8100"]), min_size=1, max_size=2)
_ICMP = st.sampled_from([{"type": 8}, {"type": 8, "code": 1}, {"type": 3, "code": 4}])


@st.composite
def _nets(draw: st.DrawFn) -> dict[str, Any]:
    """Blocks without a pod's address: pods have none for network-config-analyzer.

    For the same reason `notNets` is drawn beside `nets` only.
    """
    family = st.sampled_from(draw(st.sampled_from([CALICO_NETS, CALICO_NETS_6])))
    found = {"nets": draw(st.lists(family, min_size=1, max_size=2))}
    return found | ({"notNets": draw(st.lists(family, max_size=2))} if draw(st.booleans()) else {})


@st.composite
def _entity(draw: st.DrawFn, *, namespaced: bool, local: bool) -> dict[str, Any]:
    who = st.fixed_dictionaries(
        {},
        optional={
            "selector": _POD_TEXTS,
            "namespaceSelector": _SPACE_TEXTS,
            "notSelector": _POD_TEXTS,
        },
    )
    found: dict[str, Any] = draw(who if local else st.one_of(who, _nets()))
    if namespaced and not found.keys() & {"selector", "namespaceSelector"}:
        # A namespaced `notSelector` alone means the own namespace's pods; there, everybody.
        found.pop("notSelector", None)
    return found


@st.composite
def _calico_rule(draw: st.DrawFn, direction: str, *, namespaced: bool) -> Object:
    rule: Object = {"action": draw(st.sampled_from(["Allow", "Deny", "Pass", "Log"]))}
    source = draw(_entity(namespaced=namespaced, local=direction == "egress"))
    destination = draw(_entity(namespaced=namespaced, local=direction == "ingress"))
    protocol = draw(st.sampled_from([None, "TCP", "UDP", "SCTP", "ICMP", "ICMPv6", 47, "UDPLite"]))
    if protocol is not None:
        rule["protocol"] = protocol
    elif draw(st.booleans()):
        rule["notProtocol"] = draw(st.sampled_from(["TCP", "ICMP", 47]))
    if protocol in ("TCP", "UDP", "SCTP"):
        if draw(st.booleans()):
            destination["ports"] = draw(_PORT_LISTS)
        if draw(st.integers(0, 3)) == 0:
            by_name = {"http", "dns"} & set(destination.get("ports", ()))
            destination["notPorts"] = draw(_NAMES if by_name else _PORT_LISTS)
        if draw(st.integers(0, 5)) == 0:
            source[draw(st.sampled_from(["ports", "notPorts"]))] = draw(_NUMBERED)
    if protocol in ("ICMP", "ICMPv6") and draw(st.booleans()):
        rule[draw(st.sampled_from(["icmp", "notICMP"]))] = draw(_ICMP)
    return rule | ({"source": source} if source else {}) | (
        {"destination": destination} if destination else {}
    )  # fmt: skip


@st.composite
def _calico_policy(draw: st.DrawFn) -> Object:
    namespaced = draw(st.booleans())
    rules = {
        direction: _calico_rule(direction, namespaced=namespaced)
        for direction in ("ingress", "egress")
    }
    spec = _with_rules(draw, "types", rules)
    if draw(st.booleans()):
        # No fractions; Kubernetes policies have 1000.
        spec["order"] = draw(st.sampled_from([-1, 0, 1, 999, 1000, 1001]))
    if draw(st.booleans()):
        spec["selector"] = draw(_POD_TEXTS)
    if not namespaced and draw(st.booleans()):
        spec["namespaceSelector"] = draw(_SPACE_TEXTS)
    metadata = {"namespace": draw(st.sampled_from(SPACES))} if namespaced else {}
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "NetworkPolicy" if namespaced else "GlobalNetworkPolicy",
        "metadata": metadata,
        "spec": spec,
    }


@st.composite
def _network_sets(draw: st.DrawFn) -> list[Object]:
    """Sets that do not overlap: those that do would lend each other their labels."""
    found = []
    for i, net in enumerate(draw(st.lists(st.sampled_from(SET_NETS), unique=True, max_size=2))):
        metadata = {"name": f"s{i}", "labels": draw(_labels(_KEYS, _VALUES))}
        namespaced = draw(st.booleans())
        if namespaced:
            metadata["namespace"] = draw(st.sampled_from(SPACES))
        found.append(
            {
                "apiVersion": "projectcalico.org/v3",
                "kind": "NetworkSet" if namespaced else "GlobalNetworkSet",
                "metadata": metadata,
                "spec": {"nets": [net]},
            }
        )
    return found


def _takes_in_what_is_in_no_namespace(policy: Object) -> bool:
    rules = [*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())]
    ends = [rule.get(end, {}) for rule in rules for end in ("source", "destination")]
    texts = [end.get("namespaceSelector", "") for end in ends]
    return any("!" in text or "not in" in text for text in texts)


@st.composite
def folders(draw: st.DrawFn) -> list[Object]:
    """The objects of one folder, policies last.

    Policies of the same order stand in the order of their names, for network-config-analyzer takes
    equals as they come. In Calico an ipBlock means pods too, so beside its policies none with a
    pod's address is drawn. Nor are network sets beside Kubernetes policies, which mean pods only, nor
    global ones beside a rule whose `namespaceSelector` is true of what is in no namespace.
    """
    calico = draw(_several(0, 3, _calico_policy()))
    blocks = BLOCKS if calico else BLOCKS + BLOCKS_WITH_PODS
    kubernetes = draw(_several(0, 3, _kubernetes_policy(blocks)))
    for i, policy in enumerate([*kubernetes, *calico]):
        policy["metadata"]["name"] = f"n{i}"
    sets = draw(_network_sets()) if calico and not kubernetes else []
    if any(map(_takes_in_what_is_in_no_namespace, calico)):
        sets = [each for each in sets if each["kind"] != "GlobalNetworkSet"]
    return [*draw(_cluster()), *sets, *kubernetes, *calico]
