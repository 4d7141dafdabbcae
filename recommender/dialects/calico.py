"""Calico's policies (`projectcalico.org/v3`), and their stored form (`crd.projectcalico.org/v1`).

Both groups show the same objects; one that is given in both is read once. A staged policy is read
like the enforced kind and marked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

from recommender.addresses import address
from recommender.dialects import kubernetes
from recommender.dialects.calico_rules import (
    NAME,
    NAMESPACE,
    OF_ACCOUNT,
    OF_NAMESPACE,
    AddressSet,
    Scope,
    all_of,
    domain,
    for_pods,
    rule_in,
    selector_in,
)
from recommender.dialects.calico_selector import says_global
from recommender.dialects.fields import Field, Refused, kept, object_of
from recommender.inventory import Inventory
from recommender.manifests import Manifest
from recommender.model import (
    DIRECTIONS,
    NOTHING,
    AddressPeer,
    AnyOf,
    Direction,
    Finding,
    In,
    Parsed,
    Peer,
    Policy,
    Ref,
    Rule,
    Selector,
    Tier,
)

API = "projectcalico.org/v3"
STORED_API = "crd.projectcalico.org/v1"
_NAMESPACED = {"NetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy"}
_POLICIES = {*_NAMESPACED, "GlobalNetworkPolicy", "StagedGlobalNetworkPolicy"}
_SETS = {"NetworkSet", "GlobalNetworkSet", "HostEndpoint"}
KINDS: frozenset[tuple[str, str]] = frozenset(
    (api, kind) for api in (API, STORED_API) for kind in (*_POLICIES, *_SETS, "Tier", "Profile")
)


def tier(name: str, order: float, default: Literal["deny", "pass"]) -> Tier:
    """A tier of Calico's: its policies act in order, and the first rule that matches acts."""
    return Tier(name, order, "first match", default)


DEFAULT_TIER = tier("default", 1_000_000, "deny")
# projectcalico/calico api/pkg/apis/projectcalico/v3/tier.go; the last two until 3.31
FIXED_TIERS = {
    found.name: found
    for found in (
        DEFAULT_TIER,
        tier("kube-admin", 1_000, "pass"),
        tier("kube-baseline", 10_000_000, "pass"),
        tier("adminnetworkpolicy", 1_000, "pass"),
        tier("baselineadminnetworkpolicy", 10_000_000, "pass"),
    )
}
# Read-only copies of Kubernetes' own policies (libcalico-go/lib/names/policy.go).
_COPIES = ("knp.default.", "kcnp.", "kanp.", "kbanp.")
_MOST_RULES = 1024
_KUBERNETES_ORDER = 1000.0


def parse(manifests: Sequence[Manifest], inventory: Inventory) -> Parsed:
    """The policies of these manifests, of `KINDS` only; sets and tiers among them are resolved."""
    findings: list[Finding] = []
    objects = list(_objects(manifests, findings))
    tiers = _tiers(o for o in objects if o.ref.kind == "Tier")
    sets = [_address_set(o, inventory) for o in objects if o.ref.kind in _SETS]
    policies: dict[tuple[str, str | None, str, str], Policy] = {}
    for found in objects:
        if found.ref.kind not in _POLICIES or found.ref.name.startswith(_COPIES):
            continue
        scope = Scope(found.ref.namespace, [s for s in sets if s], inventory)
        try:
            policy = _policy(found, tiers, scope)
        except Refused as refused:
            refused.noted()
            continue
        if policy:
            name = found.ref.name.removeprefix(f"{policy.tier.name}.")
            policies.setdefault(
                (found.ref.kind, found.ref.namespace, policy.tier.name, name), policy
            )
    return Parsed(kept(policies.values(), findings), tuple(dict.fromkeys(findings)))


def _objects(manifests: Iterable[Manifest], findings: list[Finding]) -> Iterable[Field]:
    """The objects, those of the v3 group first, all under its name."""
    for manifest in sorted(manifests, key=lambda m: m.body.get("apiVersion") != API):
        namespaced = manifest.body["kind"] in {*_NAMESPACED, "NetworkSet"}
        yield object_of(manifest, API, findings, namespaced=namespaced)


# --- tiers and sets ----------------------------------------------------------------------------


def _tiers(objects: Iterable[Field]) -> dict[str, Tier]:
    """Every tier by name; those that Calico makes itself keep their places."""
    found: dict[str, Tier] = {}
    for o in objects:
        try:
            found.setdefault(o.ref.name, _tier_in(o))
        except Refused as refused:
            refused.noted()
    return FIXED_TIERS | found


def _tier_in(o: Field) -> Tier:
    o["spec"].known("order", "defaultAction")
    order, action = o["spec"]["order"].number(), o["spec"]["defaultAction"].text()
    if action not in ("", "Deny", "Pass"):
        raise Refused(o["spec"]["defaultAction"], "must be Deny or Pass")
    default: Literal["deny", "pass"] = "pass" if action == "Pass" else "deny"
    fixed = FIXED_TIERS.get(o.ref.name)
    if fixed is None:
        return tier(o.ref.name, math.inf if order is None else order, default)
    if order != fixed.order:
        o["spec"]["order"].say(f"must be {fixed.order} in tier {o.ref.name}")
    if default != fixed.default:
        fixed_action = fixed.default.capitalize()
        o["spec"]["defaultAction"].say(f"must be {fixed_action} in tier {o.ref.name}")
    return fixed


def _address_set(o: Field, inventory: Inventory) -> AddressSet | None:
    """A network set or host endpoint, labelled as Felix sees it (networksetprocessor.go)."""
    try:
        spec = o["spec"]
        blocks = spec["expectedIPs" if o.ref.kind == "HostEndpoint" else "nets"]
        addresses = tuple(item.block(or_address=True) for item in blocks.items())
        names = tuple(map(domain, spec["allowedEgressDomains"].texts()))
        labels = _labels(o)
    except Refused as refused:
        refused.noted()
        return None
    if o.ref.kind == "NetworkSet" and o.ref.namespace:
        namespace = inventory.namespaces.get(o.ref.namespace)
        inherited = dict(namespace.labels) if namespace else {}
        labels |= {OF_NAMESPACE + key: value for key, value in inherited.items()}
        labels |= {OF_NAMESPACE + NAME: o.ref.namespace, NAMESPACE: o.ref.namespace}
    host = _host(spec, addresses, inventory) if o.ref.kind == "HostEndpoint" else None
    return AddressSet(labels, addresses, names, host)


def _host(spec: Field, addresses: tuple[str, ...], inventory: Inventory) -> Peer:
    """The node of a host endpoint, by its addresses; any node where none is known."""
    node = inventory.nodes.get(spec["node"].text())
    known = {*addresses, *(node.addresses if node else ())}
    blocks = tuple(sorted(at for at in known if "/" in at or address(at)))
    return AddressPeer(blocks or ("0.0.0.0/0", "::/0"), reach="nodes")


def _labels(o: Field) -> dict[str, str]:
    """An object's labels; the stored form keeps them in an annotation.

    projectcalico/calico libcalico-go/lib/backend/k8s/resources/resources.go
    """
    given = o["metadata"]["labels"]
    labels = {key: given[key].text() for key in given.mapping()}
    stored = o["metadata"]["annotations"]["projectcalico.org/metadata"].value
    try:
        inside: Any = json.loads(stored) if isinstance(stored, str) else {}
    except ValueError:
        inside = {}
    kept = inside.get("labels") if isinstance(inside, dict) else None
    kept = kept if isinstance(kept, dict) else {}
    return {**labels, **{key: str(value) for key, value in kept.items()}}


# --- policies ----------------------------------------------------------------------------------

_FIELDS = ("tier", "order", "selector", "serviceAccountSelector", "types", "ingress", "egress")
_SPEC = (*_FIELDS, "performanceHints", "stagedAction")
_GLOBAL = ("namespaceSelector", "doNotTrack", "preDNAT", "applyOnForward")


def _policy(o: Field, tiers: dict[str, Tier], scope: Scope) -> Policy | None:
    """One policy; none where it cannot concern a pod, or is not to be put in force.

    Raises:
        Refused: it has no meaning, so the API server would refuse the whole object.
    """
    staged = o.ref.kind.startswith("Staged")
    action = o["spec"]["stagedAction"].text() if staged else ""
    if action not in ("", "Set", "Delete", "Learn", "Ignore"):
        raise Refused(o["spec"]["stagedAction"], "must be Set, Delete, Learn or Ignore")
    if action == "Ignore":
        return None
    if action == "Delete":
        # In the place of the enforced policy, one that selects nothing takes it away.
        return Policy(o.ref, _tier(o, tiers), NOTHING, frozenset(), staged=True)
    if o.ref.kind == "StagedKubernetesNetworkPolicy":
        return _staged_kubernetes(o, scope.inventory)
    o["spec"].known(*_SPEC, *(_GLOBAL if scope.namespace is None else ()))
    types = _types(o["spec"])
    subject, hosts = _subject(o["spec"], scope)
    if _for_hosts_only(o["spec"]):
        if hosts is None:
            return None
        subject = NOTHING
    order = o["spec"]["order"].number()
    return Policy(
        ref=o.ref,
        tier=_tier(o, tiers),
        subject=subject,
        isolates=types,
        ingress=_rules(o["spec"], "ingress", scope) if "ingress" in types else (),
        egress=_rules(o["spec"], "egress", scope) if "egress" in types else (),
        order=math.inf if order is None else order,
        staged=staged,
        hosts=hosts,
    )


def _for_hosts_only(spec: Field) -> bool:
    """Whether the policy acts before connection tracking or DNAT, which only hosts have.

    projectcalico/calico felix/calc/event_sequencer.go; `applyOnForward` alone changes nothing for
    pods.
    """
    flags = [name for name in ("doNotTrack", "preDNAT") if spec[name].flag()]
    if flags == ["doNotTrack", "preDNAT"]:
        spec["preDNAT"].say("may not stand beside doNotTrack")
    for name in flags:
        if not spec["applyOnForward"].flag():
            spec[name].say("needs applyOnForward: true")
    if "preDNAT" in flags and (spec["egress"].value or "Egress" in spec["types"].texts()):
        spec["preDNAT"].say("is for ingress only")
    return bool(flags)


def _types(spec: Field) -> frozenset[Direction]:
    """The directions that a policy governs; said, or told from its rules."""
    said = list(spec["types"].items())
    named: dict[str, Direction] = {"Ingress": "ingress", "Egress": "egress"}
    for i, item in enumerate(said):
        if item.text() not in named:
            raise Refused(item, "must be Ingress or Egress")
        if item.text() in [before.text() for before in said[:i]]:
            item.say("is there twice")
    if said:
        types = frozenset(named[item.text()] for item in said)
        for direction in DIRECTIONS:
            if spec[direction].value and direction not in types:
                spec[direction].say(f"has no effect without {direction.capitalize()} in types")
        return types
    ruled = frozenset(direction for direction in DIRECTIONS if spec[direction].value)
    return ruled or frozenset({"ingress"})


def _tier(o: Field, tiers: dict[str, Tier]) -> Tier:
    name = o["spec"]["tier"].text() or DEFAULT_TIER.name
    if name not in tiers:
        o["spec"]["tier"].say(
            f"tier {name} is not among the manifests: taken as the last, with Deny"
        )
    return tiers.get(name, tier(name, math.inf, "deny"))


def _subject(spec: Field, scope: Scope) -> tuple[Selector, Peer | None]:
    """The pods that a policy governs (updateprocessors/{,global}networkpolicyprocessor.go).

    A global one governs host endpoints too, where its selectors match theirs.
    """
    for name in ("selector", "namespaceSelector", "serviceAccountSelector"):
        if says_global(spec[name].text()):
            spec[name].say("global() may stand in a rule's namespaceSelector only")
    terms = [selector_in(spec["selector"])]
    if scope.namespace is not None:
        terms.append(In(NAMESPACE, frozenset({scope.namespace})))
    else:
        terms.append(selector_in(spec["namespaceSelector"], prefix=OF_NAMESPACE))
    terms.append(selector_in(spec["serviceAccountSelector"], prefix=OF_ACCOUNT))
    whole = all_of(*terms)
    hosts = tuple(s.host for s in scope.sets if s.host and whole.matches(s.labels))
    return for_pods(whole), AnyOf(hosts) if hosts else None


def _rules(spec: Field, direction: Direction, scope: Scope) -> tuple[Rule, ...]:
    fields = list(spec[direction].items())
    if len(fields) > _MOST_RULES:
        spec[direction].say(f"has {len(fields)} rules; {_MOST_RULES} are the most")
    rules = (rule_in(field, direction, i, scope) for i, field in enumerate(fields))
    return tuple(rule for rule in rules if rule is not None)


def _staged_kubernetes(o: Field, inventory: Inventory) -> Policy | None:
    """A Kubernetes policy that is staged: read as that dialect does, then marked."""
    spec = {key: value for key, value in o["spec"].mapping().items() if key != "stagedAction"}
    body = {**o.mapping(), "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    manifest = Manifest(o.ref.place or "", {**body, "spec": spec})
    parsed = kubernetes.parse([manifest], inventory)
    o.findings.extend(replace(finding, ref=o.ref) for finding in parsed.findings)
    return next((_in_calico(policy, o.ref) for policy in parsed.policies), None)


def _in_calico(policy: Policy, ref: Ref) -> Policy:
    """A Kubernetes policy as Calico would convert it (conversion.go, K8sNetworkPolicyToCalico)."""
    return replace(
        policy,
        ref=ref,
        tier=DEFAULT_TIER,
        order=_KUBERNETES_ORDER,
        staged=True,
        ingress=tuple(replace(rule, peer=_with_pods(rule.peer)) for rule in policy.ingress),
        egress=tuple(replace(rule, peer=_with_pods(rule.peer)) for rule in policy.egress),
    )


def _with_pods(peer: Peer) -> Peer:
    """The peer, in which an ipBlock means pods too."""
    match peer:
        case AddressPeer():
            return replace(peer, reach="all")
        case AnyOf(peers):
            return AnyOf(tuple(_with_pods(each) for each in peers))
    return peer
