"""Cilium's policies: CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy of `cilium.io/v2`.

An object holds rules (`spec`, `specs`), and each is one `Policy`: what it selects, what it denies
and allows. All policies of a cluster are one set: allows add up, and any deny wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from recommender.dialects.cilium_peers import (
    FROM,
    TO,
    CidrGroup,
    Scope,
    nodes_in,
    peer_in,
)
from recommender.dialects.cilium_ports import traffic_in
from recommender.dialects.cilium_selectors import subject_in
from recommender.dialects.fields import Field, Refused, kept, object_of
from recommender.inventory import Inventory
from recommender.manifests import Manifest
from recommender.model import (
    DIRECTIONS,
    NOTHING,
    Action,
    AnyPeer,
    Direction,
    Finding,
    Parsed,
    Peer,
    Policy,
    Rule,
    Selector,
    Tier,
)

API = "cilium.io/v2"
KIND, CLUSTERWIDE = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"
_GROUP = "CiliumCIDRGroup"
KINDS: frozenset[tuple[str, str]] = frozenset(
    {(API, KIND), (API, CLUSTERWIDE), (API, _GROUP), ("cilium.io/v2alpha1", _GROUP)}
)
TIER = Tier("cilium", 1_000_000, "union", "deny")
_LISTS: tuple[tuple[str, Direction, Action], ...] = (
    ("ingress", "ingress", "allow"),
    ("ingressDeny", "ingress", "deny"),
    ("egress", "egress", "allow"),
    ("egressDeny", "egress", "deny"),
)
_SELECTORS = ("endpointSelector", "nodeSelector")
_SPEC = (*_SELECTORS, *(key for key, _, _ in _LISTS), "enableDefaultDeny", "labels", "log")


def parse(manifests: Sequence[Manifest], inventory: Inventory) -> Parsed:
    """The policies of these manifests, of `KINDS` only; CIDR groups among them are resolved."""
    findings: list[Finding] = []
    objects = [
        object_of(m, str(m.body["apiVersion"]), findings, namespaced=m.body["kind"] == KIND)
        for m in manifests
    ]
    groups = dict(_groups(o for o in objects if o.ref.kind == _GROUP))
    policies: list[Policy] = []
    for found in objects:
        if found.ref.kind == _GROUP:
            continue
        scope = Scope(found.ref.namespace, groups, inventory)
        try:
            specs = list(_specs(found))
        except Refused as refused:
            refused.noted()
            continue
        for spec in specs:
            try:
                policies.append(_policy(spec, scope))
            except Refused as refused:
                refused.noted()
    # The agent takes an object whole or not at all (cilium.io/v2/cnp_types.go, Parse).
    return Parsed(kept(policies, findings), tuple(dict.fromkeys(findings)))


def _groups(objects: Iterable[Field]) -> Iterator[tuple[str, CidrGroup]]:
    for o in objects:
        try:
            labels = o["metadata"]["labels"]
            named = {key: labels[key].text() for key in labels.mapping()}
            blocks = tuple(item.block() for item in o["spec"]["externalCIDRs"].items())
            yield o.ref.name, CidrGroup(named, blocks)
        except Refused as refused:
            refused.noted()


def _specs(o: Field) -> Iterator[Field]:
    """Every rule of an object; it may have one `spec`, a list of `specs`, or both."""
    if not o["spec"].value and not o["specs"].value:
        raise Refused(o, "needs spec or specs")
    if o["spec"].value:
        yield o["spec"]
    yield from o["specs"].items()


def _policy(spec: Field, scope: Scope) -> Policy:
    """One rule of an object.

    Raises:
        Refused: it has no meaning, so the agent would refuse the whole object.
    """
    spec.known(*_SPEC, "description")
    subject, hosts = _subject(spec, scope)
    if not any(spec[key].value for key, _, _ in _LISTS):
        raise Refused(spec, "needs a rule: ingress, ingressDeny, egress or egressDeny")
    rules: dict[Direction, tuple[Rule, ...]] = dict.fromkeys(DIRECTIONS, ())
    for key, direction, action in _LISTS:
        for i, element in enumerate(spec[key].items()):
            rules[direction] += _rules(element, direction, action, i, scope)
    return Policy(
        ref=spec.ref,
        tier=TIER,
        subject=subject,
        isolates=_isolates(spec),
        ingress=rules["ingress"],
        egress=rules["egress"],
        hosts=hosts,
    )


def _subject(spec: Field, scope: Scope) -> tuple[Selector, Peer | None]:
    """The pods that a rule governs, or the nodes: a host policy governs no pod."""
    given = [key for key in _SELECTORS if spec[key].given]
    if len(given) != 1:
        raise Refused(spec, "needs exactly one of endpointSelector and nodeSelector")
    if given == ["endpointSelector"]:
        return subject_in(spec["endpointSelector"], scope.namespace), None
    if scope.namespace is not None:
        raise Refused(spec["nodeSelector"], f"may stand in a {CLUSTERWIDE} only")
    return NOTHING, nodes_in(spec["nodeSelector"])


def _isolates(spec: Field) -> frozenset[Direction]:
    """The directions in which default deny is turned on: those with rules, unless it is said.

    cilium/cilium pkg/policy/api/rule_validation.go, and from 1.19 pkg/policy/utils/parserules.go,
    where each rule carries it, so that without one nothing does; an empty list counts as none.
    """
    said = spec["enableDefaultDeny"]
    said.known(*DIRECTIONS)
    ruled = {direction for key, direction, _ in _LISTS if spec[key].value}
    flags = {direction: said[direction].flag() for direction in DIRECTIONS}
    for direction, flag in flags.items():
        if flag and direction not in ruled:
            said[direction].say("has no effect without rules of that direction since Cilium 1.19")
    return frozenset(d for d, flag in flags.items() if d in ruled and flag is not False)


def _rules(
    element: Field, direction: Direction, action: Action, index: int, scope: Scope
) -> tuple[Rule, ...]:
    """One element of a rule list: a rule for each layer 7 restriction on its ports.

    An element that the agent would refuse is noted, and reading goes on for more of them.
    """
    try:
        _check(element, direction, action)
        peer = peer_in(element, direction, scope)
        traffic = traffic_in(element, direction)
        authentication = _authentication(element["authentication"])
    except Refused as refused:
        refused.noted()
        return ()
    if peer is None:
        if not element["toPorts"].value and not element["icmps"].value:
            return ()  # `{}` turns default deny on and allows nobody
        peer = AnyPeer()
    learns = any(entry["rules"]["dns"].value for entry in element["toPorts"].items())
    return tuple(
        Rule(
            peer,
            ports,
            action,
            index,
            restricted="; ".join(text for text in (layer7, authentication) if text) or None,
            learns=learns,
        )
        for ports, layer7 in traffic
    )


def _check(element: Field, direction: Direction, action: Action) -> None:
    """Say which fields do not belong; a deny rule knows addresses and ports only."""
    kinds = [f"from{kind}" for kind in FROM] if direction == "ingress" else [f"to{k}" for k in TO]
    allows = ["authentication", *(["toFQDNs"] if direction == "egress" else [])]
    element.known(*kinds, "toPorts", "icmps", *allows)
    if action == "allow":
        return
    for key in allows:
        if element[key].given:
            raise Refused(element[key], "may not stand in a deny rule")
    for entry in element["toPorts"].items():
        for key in sorted(set(entry.mapping()) - {"ports"}):
            raise Refused(entry[key], "may not stand in a deny rule")


def _authentication(field: Field) -> str | None:
    mode = field["mode"].text()
    return f"authentication {mode}" if mode not in ("", "disabled") else None
