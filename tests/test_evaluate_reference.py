"""Random small clusters and policies, judged pod by pod and port by port by another reading."""

import ipaddress
from collections import Counter
from dataclasses import replace
from itertools import product
from typing import Any

from brute_force import Judge, selector_matches
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evaluate import inventory, judge

from recommender.alike import alike
from recommender.connectivity import beyond, connections, counted
from recommender.evaluate import Evaluator, evaluator
from recommender.listing import By
from recommender.model import (
    AddressPeer,
    AllOf,
    And,
    AnyOf,
    AnyPeer,
    In,
    LabelPeer,
    NotPeer,
    Peer,
    Policy,
    Ports,
    PortSet,
    Ref,
    Rule,
    Tier,
    UnknownPeer,
)
from recommender.report.changes import each_line, lines

SPACES = {"red": {"team": "a"}, "blue": {"team": "b"}}
NODES = {"one": ["192.168.0.1"], "two": ["192.168.0.2"]}
OUTSIDE = ["10.9.9.9", "192.0.2.0", "192.0.2.127", "192.0.2.128", "198.51.100.1", "2001:db8::1"]
ASKED = [("TCP", 79), ("TCP", 80), ("TCP", 81), ("TCP", 90), ("UDP", 80), ("UDP", 53)]

labels = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["x", "y"]))
terms = st.one_of(
    st.fixed_dictionaries(
        {"key": st.sampled_from(["app", "tier", "team"]), "operator": st.sampled_from(["In", "NotIn"]),
         "values": st.lists(st.sampled_from(["x", "y", "a"]), min_size=1, max_size=2)}
    ),
    st.fixed_dictionaries(
        {"key": st.sampled_from(["app", "team"]), "operator": st.sampled_from(["Exists", "DoesNotExist"])}
    ),
)  # fmt: skip
pod_selectors = st.one_of(
    st.just({}),
    st.builds(lambda found: {"matchLabels": found}, labels),
    st.builds(lambda found: {"matchExpressions": found}, st.lists(terms, max_size=2)),
)
space_selectors = st.one_of(
    st.just({}),
    st.builds(lambda team: {"matchLabels": {"team": team}}, st.sampled_from(["a", "b"])),
    st.builds(lambda term: {"matchExpressions": [term]}, terms),
)
blocks = st.sampled_from(
    [
        {"cidr": "0.0.0.0/0"},
        {"cidr": "0.0.0.0/0", "except": ["192.0.2.0/25"]},
        {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/24"]},
        {"cidr": "192.168.0.1/32"},
        {"cidr": "192.0.2.128/25"},
        {"cidr": "2001:db8::/32"},
    ]
)
peers = st.one_of(
    st.fixed_dictionaries({"podSelector": pod_selectors}),
    st.fixed_dictionaries({"namespaceSelector": space_selectors}),
    st.fixed_dictionaries({"namespaceSelector": space_selectors, "podSelector": pod_selectors}),
    st.fixed_dictionaries({"ipBlock": blocks}),
)
ports = st.sampled_from(
    [
        {"port": 80},
        {"port": 80, "endPort": 89},
        {"protocol": "UDP"},
        {"port": "http"},
        {"port": "dns", "protocol": "UDP"},
        {},
    ]
)


def rules(key: str) -> st.SearchStrategy[Any]:
    found = {key: st.lists(peers, max_size=2), "ports": st.lists(ports, max_size=2)}
    return st.lists(st.fixed_dictionaries({}, optional=found), max_size=2)


network_policies = st.builds(
    lambda space, spec: {"kind": "NetworkPolicy", "metadata": {"namespace": space}, "spec": spec},
    st.sampled_from(sorted(SPACES)),
    st.fixed_dictionaries(
        {"podSelector": pod_selectors},
        optional={
            "policyTypes": st.lists(st.sampled_from(["Ingress", "Egress"]), unique=True),
            "ingress": rules("from"),
            "egress": rules("to"),
        },
    ),
)

pods_of = st.one_of(
    st.fixed_dictionaries({"namespaces": space_selectors}),
    st.fixed_dictionaries(
        {"pods": st.fixed_dictionaries({"namespaceSelector": space_selectors, "podSelector": pod_selectors})}
    ),
)  # fmt: skip
networks = st.fixed_dictionaries(
    {
        "networks": st.lists(
            st.sampled_from(["10.0.0.2/31", "192.0.2.0/24", "0.0.0.0/0"]), min_size=1, max_size=3
        )
    }
)
protocols = st.lists(
    st.sampled_from(
        [
            {"tcp": {}},
            {"tcp": {"destinationPort": {"number": 80}}},
            {"udp": {"destinationPort": {"range": {"start": 50, "end": 80}}}},
        ]
    ),
    max_size=2,
)


def tier_rules(key: str, peer: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(
        st.fixed_dictionaries(
            {
                "action": st.sampled_from(["Accept", "Deny", "Pass"]),
                key: st.lists(peer, min_size=1, max_size=2),
                "protocols": protocols,
            }
        ),
        max_size=3,
    )


cluster_policies = st.builds(
    lambda spec: {"kind": "ClusterNetworkPolicy", "metadata": {}, "spec": spec},
    st.fixed_dictionaries(
        {
            "tier": st.sampled_from(["Admin", "Baseline"]),
            "priority": st.integers(0, 2),
            "subject": pods_of,
            "ingress": tier_rules("from", pods_of),
            "egress": tier_rules("to", st.one_of(pods_of, networks)),
        }
    ),
)


@st.composite
def worlds(draw: Any, policies: st.SearchStrategy[Any]) -> tuple[dict[str, Any], list[Any]]:
    """A cluster as the cases write it, and policies with names."""
    pods = {}
    for i in range(draw(st.integers(2, 5))):
        host = draw(st.integers(0, 5)) == 0
        pods[f"{draw(st.sampled_from(sorted(SPACES)))}/p{i}"] = {
            "labels": draw(labels),
            "ports": draw(st.sampled_from([{}, {"http": 80}, {"http": 81, "dns": "UDP/53"}])),
            "address": None if host else f"10.0.0.{i}",
            "node": draw(st.sampled_from(sorted(NODES))),
            "host": host,
            "owner": f"Deployment/{draw(st.sampled_from(['a', 'b']))}",
        }
    found = draw(st.lists(policies, max_size=4))
    for i, policy in enumerate(found):
        policy["metadata"] = {**policy["metadata"], "name": f"n{i}"}
    return {"namespaces": SPACES, "nodes": NODES, "pods": pods}, found


class Tiers(Judge):
    """The reading of NetworkPolicies, with the tiers of ClusterNetworkPolicies around it."""

    def __init__(self, cluster: dict[str, Any], policies: list[Any]) -> None:
        pods = [
            {
                "name": name,
                "namespace": name.split("/")[0],
                "labels": given["labels"],
                "ip": NODES[given["node"]][0] if given["host"] else given["address"],
                "host": given["host"],
                "node": NODES[given["node"]][0],
                "ports": {
                    n: (str(p).rpartition("/")[0] or "TCP", int(str(p).rpartition("/")[2]))
                    for n, p in given["ports"].items()
                },
            }
            for name, given in cluster["pods"].items()
        ]
        spaces = {
            name: {"kubernetes.io/metadata.name": name, **found} for name, found in SPACES.items()
        }
        super().__init__(policies, pods, spaces)
        self.tiers = sorted(
            (p for p in policies if p["kind"] == "ClusterNetworkPolicy"),
            key=lambda p: (p["spec"]["priority"], p["metadata"]["name"]),
        )

    def _side(
        self, type_: str, subject: Any, peer: Any, server: Any, protocol: str, port: int
    ) -> bool:
        if isinstance(subject, str) or subject["host"]:
            return True
        decided = self._tier("Admin", type_, subject, peer, protocol, port)
        if decided is None and self._isolated(type_, subject):
            decided = super()._side(type_, subject, peer, server, protocol, port)
        if decided is None:
            decided = self._tier("Baseline", type_, subject, peer, protocol, port)
        return decided is not False

    def _isolated(self, type_: str, subject: Any) -> bool:
        return any(
            p["metadata"]["namespace"] == subject["namespace"]
            and selector_matches(p["spec"]["podSelector"], subject["labels"])
            and type_
            in (
                p["spec"].get("policyTypes")
                or ["Ingress"] + ["Egress"] * bool(p["spec"].get("egress"))
            )
            for p in self.policies
        )

    def _tier(
        self, tier: str, type_: str, subject: Any, peer: Any, protocol: str, port: int
    ) -> bool | None:
        for policy in self.tiers:
            spec = policy["spec"]
            if spec["tier"] != tier or not self._selected(spec["subject"], subject):
                continue
            for rule in spec[type_.lower()]:
                if not any(
                    self._selected(p, peer) for p in rule["from" if type_ == "Ingress" else "to"]
                ):
                    continue
                if rule["protocols"] and not any(
                    hits(p, protocol, port) for p in rule["protocols"]
                ):
                    continue
                return {"Accept": True, "Deny": False, "Pass": None}[rule["action"]]
        return None

    def _selected(self, spec: Any, end: Any) -> bool:
        if "networks" in spec:
            address = ipaddress.ip_address(end if isinstance(end, str) else end["ip"])
            return any(address in ipaddress.ip_network(block) for block in spec["networks"])
        if isinstance(end, str) or end["host"]:
            return False
        space = self.spaces[end["namespace"]]
        if "namespaces" in spec:
            return selector_matches(spec["namespaces"], space)
        pods = spec["pods"]
        return selector_matches(pods["namespaceSelector"], space) and selector_matches(
            pods["podSelector"], end["labels"]
        )


def hits(spec: Any, protocol: str, port: int) -> bool:
    name = protocol.lower()
    if name not in spec:
        return False
    asked = spec[name].get("destinationPort", {"range": {"start": 1, "end": 65535}})
    if "number" in asked:
        return bool(asked["number"] == port)
    return bool(asked["range"]["start"] <= port <= asked["range"]["end"])


def ends(reference: Judge) -> list[tuple[str, Any]]:
    addresses = [*OUTSIDE, *(a for found in NODES.values() for a in found)]
    return [(pod["name"], pod) for pod in reference.pods] + [(a, a) for a in addresses]


def exempt(src: Any, dst: Any) -> bool:
    """A pod to itself, a node (or what shares its network) to the pods on it."""
    if isinstance(dst, str):
        return False
    return src is dst or (
        not dst["host"]
        and dst["node"] == (src if isinstance(src, str) else src["host"] and src["ip"])
    )


def agrees(found: Evaluator, reference: Judge) -> None:
    listed = {(row.src, row.dst, row.protocol): row.ports for row in found.connectivity("pod")}
    for (src, s), (dst, d) in product(ends(reference), ends(reference)):
        if "/" not in src and "/" not in dst:
            continue
        allowed, unknown = found.permitted(src, dst)
        assert not unknown
        for protocol, port in ASKED:
            expected = reference.allowed(s, d, protocol, port)
            verdict = found.verdict(src, dst, protocol, port)
            assert verdict.allow is (expected or exempt(s, d)), (src, dst, protocol, port, verdict)
            assert found.permits(src, dst, protocol, port) is verdict.allow
            assert exempt(s, d) or ((protocol, port) in allowed) is expected
            if "/" in src and "/" in dst and src != dst:
                intervals = listed.get((src, dst, protocol), ())
                assert any(low <= port <= high for low, high in intervals) is expected


def covers(name: str, address: str) -> bool:
    low, high = map(ipaddress.ip_address, name.split("-"))
    at = ipaddress.ip_address(address)
    return low.version == at.version and low <= at <= high  # type: ignore[operator]


def ranges_agree(found: Evaluator, reference: Judge) -> None:
    rows = found.connectivity("pod")
    fours = [(a, a) for a in OUTSIDE if ":" not in a]
    for (name, pod), (address, _) in product([e for e in ends(reference) if "/" in e[0]], fours):
        for protocol, port in ASKED:
            out = [r for r in rows if r.src == name and "/" not in r.dst and covers(r.dst, address)]
            into = [
                r for r in rows if r.dst == name and "/" not in r.src and covers(r.src, address)
            ]
            for listed, pair in ((out, (pod, address)), (into, (address, pod))):
                hit = [
                    r
                    for r in listed
                    if r.protocol == protocol and any(a <= port <= b for a, b in r.ports)
                ]
                assert bool(hit) is reference.allowed(*pair, protocol, port)
                assert len(hit) <= 1


@given(worlds(network_policies))
@settings(max_examples=25, deadline=None)
def test_network_policies_are_judged_like_by_the_reference(world: tuple[Any, Any]) -> None:
    cluster, policies = world
    agrees(judge({"cluster": cluster, "policies": policies}), Tiers(cluster, policies))


@given(worlds(st.one_of(network_policies, cluster_policies)))
@settings(max_examples=25, deadline=None)
def test_tiers_are_judged_like_by_the_reference(world: tuple[Any, Any]) -> None:
    cluster, policies = world
    agrees(judge({"cluster": cluster, "policies": policies}), Tiers(cluster, policies))


@given(worlds(st.one_of(network_policies, cluster_policies)))
@settings(max_examples=12, deadline=None)
def test_ranges_of_addresses_are_those_of_the_reference(world: tuple[Any, Any]) -> None:
    cluster, policies = world
    ranges_agree(judge({"cluster": cluster, "policies": policies}), Tiers(cluster, policies))


def points(rows: Any, of: dict[str, str] | None = None) -> set[Any]:
    """Each asked port of each connection between pods, or between what `of` says owns them."""
    name = of or {}
    return {
        (name.get(row.src, row.src), name.get(row.dst, row.dst), *asked)
        for row in rows
        if "/" in row.src and "/" in row.dst
        for asked in ASKED
        if asked[0] == row.protocol and any(low <= asked[1] <= high for low, high in row.ports)
    }


@given(worlds(st.one_of(network_policies, cluster_policies)))
@settings(max_examples=20, deadline=None)
def test_by_workload_is_the_union_of_its_pods(world: tuple[Any, Any]) -> None:
    cluster, policies = world
    found = judge({"cluster": cluster, "policies": policies})
    owner = {
        name: f"{name.split('/')[0]}/{pod['owner'].split('/')[1]}"
        for name, pod in cluster["pods"].items()
    }
    assert points(found.connectivity("pod"), owner) == points(found.connectivity())


@given(worlds(network_policies), st.lists(network_policies, max_size=3))
@settings(max_examples=20, deadline=None)
def test_what_is_gained_is_what_only_the_new_set_permits(
    world: tuple[Any, Any], more: list[Any]
) -> None:
    cluster, old = world
    new = old[1:] + [
        {**p, "metadata": {**p["metadata"], "name": f"m{i}"}} for i, p in enumerate(more)
    ]
    a, b = (judge({"cluster": cluster, "policies": p}) for p in (old, new))
    before = judge({"cluster": cluster, "policies": old}, beside=b.policies)
    after = judge({"cluster": cluster, "policies": new}, beside=a.policies)
    gained = points(after.connectivity("pod", beyond_those_of=before))
    assert gained == points(after.connectivity("pod")) - points(before.connectivity("pod"))


tiers = st.one_of(network_policies, cluster_policies)


@given(worlds(tiers), tiers, st.integers(0, 3), st.booleans())
@settings(max_examples=100, deadline=None)
def test_ends_that_equal_policies_select_are_judged_alike(
    world: tuple[Any, Any], other: Any, place: int, gone: bool
) -> None:
    cluster, old = world
    instead = [] if gone else [{**other, "metadata": p["metadata"]} for p in old[place:][:1]]
    new = [*old[:place], *instead, *old[place + 1 :]]
    a, b = (judge({"cluster": cluster, "policies": p}) for p in (old, new))
    before = judge({"cluster": cluster, "policies": old}, beside=b.policies)
    after = judge({"cluster": cluster, "policies": new}, beside=a.policies)
    same = alike(before, after)
    assert alike(before, before)(*OUTSIDE[:2], "TCP")
    assert not same(*OUTSIDE[:2], "ICMP")
    for src, dst in product([*before.ends.workloads, OUTSIDE[0]], repeat=2):
        if same(src, dst, "TCP"):
            for protocol, port in ASKED:
                asked = src, dst, protocol, port
                assert before.verdict(*asked) == after.verdict(*asked)
                assert before.acting_rules(*asked) == after.acting_rules(*asked)


@given(worlds(network_policies), st.sampled_from(["workload", "pod"]))
@settings(max_examples=30, deadline=None)
def test_connections_are_counted_as_they_are_listed(world: tuple[Any, Any], by: By) -> None:
    cluster, policies = world
    other = judge({"cluster": cluster, "policies": policies[1:]})
    found = judge({"cluster": cluster, "policies": policies}, beside=other.policies)
    other = judge({"cluster": cluster, "policies": policies[1:]}, beside=found.policies)
    for grid in (found.matrix, beyond(other.matrix, found.matrix)):
        rows = connections(grid, found.ends, by)
        ends = Counter(end for row in rows for end in {row.src, row.dst} if "/" in end)
        told = counted(grid, found.ends, by)
        assert (len(told), list(told)) == (len(rows), rows)
        assert list(told.inward()) == [row for row in rows if "/" not in row.src]
        assert list(each_line(told)) == lines(rows)
        assert told.lines == len(lines(rows))
        assert list(told.by_end.items()) == sorted(ends.items())


known_peers: st.SearchStrategy[Peer] = st.one_of(
    st.just(AnyPeer()),
    st.builds(lambda v: LabelPeer(In("pod:app", frozenset({v}))), st.sampled_from(["x", "y"])),
    st.builds(
        lambda b, excepts, reach: AddressPeer((b,), excepts, reach=reach),
        st.sampled_from(["0.0.0.0/0", "10.0.0.0/31", "192.0.2.0/25"]),
        st.sampled_from([(), ("10.0.0.1/32", "192.0.2.0/26")]),
        st.sampled_from(["outside", "nodes", "all"]),
    ),
)
doubtful_peers: st.SearchStrategy[Any] = st.recursive(
    st.one_of(known_peers, st.sampled_from([UnknownPeer("a"), UnknownPeer("b")])),
    lambda inner: st.one_of(
        st.builds(NotPeer, inner),
        st.builds(AllOf, st.lists(inner, max_size=2).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=2).map(tuple)),
    ),
    max_leaves=4,
)
TIERS = [
    Tier("one", 1, "first match", "pass"),
    Tier("two", 2, "union", "deny"),
    Tier("three", 3, "first match", "deny"),
]
model_rules = st.lists(
    st.builds(
        Rule,
        doubtful_peers,
        st.sampled_from([Ports(), Ports(PortSet.one("TCP", 80)), Ports(named=(("TCP", "http"),))]),
        st.sampled_from(["allow", "deny", "pass", "log"]),
        local=st.one_of(st.none(), doubtful_peers),
    ),
    max_size=3,
).map(tuple)
model_policies = st.builds(
    Policy,
    st.builds(Ref, st.just("test/v1"), st.just("Policy"), st.none(), st.sampled_from("abcd")),
    st.sampled_from(TIERS),
    st.sampled_from([And(()), In("pod:app", frozenset({"x"}))]),
    st.frozensets(st.sampled_from(["ingress", "egress"])),
    model_rules,
    model_rules,
    st.sampled_from([1.0, 2.0]),
)


def resolved(peer: Peer, values: dict[str, Peer]) -> Peer:
    match peer:
        case UnknownPeer(reason=reason):
            return values[reason]
        case NotPeer(peer=inner):
            return NotPeer(resolved(inner, values))
        case AllOf(peers=peers):
            return AllOf(tuple(resolved(each, values) for each in peers))
        case AnyOf(peers=peers):
            return AnyOf(tuple(resolved(each, values) for each in peers))
    return peer


def with_all_known(policy: Policy, values: dict[str, Peer]) -> Policy:
    def known(rule: Rule) -> Rule:
        local = None if rule.local is None else resolved(rule.local, values)
        return replace(rule, peer=resolved(rule.peer, values), local=local)

    return replace(
        policy, ingress=tuple(map(known, policy.ingress)), egress=tuple(map(known, policy.egress))
    )


@given(worlds(network_policies), st.lists(model_policies, max_size=4))
@settings(max_examples=40, deadline=None)
def test_what_is_told_holds_whatever_the_unknown_turns_out_to_be(
    world: tuple[Any, Any], policies: list[Policy]
) -> None:
    objects = inventory(world[0])
    found = evaluator(policies, objects)
    sure = [
        evaluator([with_all_known(p, {"a": a, "b": b}) for p in policies], objects)
        for a in (AnyPeer(), AnyOf(()))
        for b in (AnyPeer(), AnyOf(()), LabelPeer(In("pod:app", frozenset({"x"}))))
    ]
    names = [*world[0]["pods"], "192.0.2.1"]
    listed = {(row.src, row.dst, row.protocol): row.ports for row in found.connectivity("pod")}
    for src, dst, port in product(names, names, (80, 81)):
        told = found.verdict(src, dst, "TCP", port).allow
        allowed, unknown = found.permitted(src, dst)
        if "/" in src and "/" in dst and src != dst:
            assert allowed.intervals("TCP") == listed.get((src, dst, "TCP"), ())
        if src != dst and told is not None:
            assert {one.verdict(src, dst, "TCP", port).allow for one in sure} == {told}
        for one in sure:
            permitted, doubt = one.permitted(src, dst)
            assert not doubt
            assert allowed <= permitted <= allowed | unknown
