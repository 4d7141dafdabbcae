"""The order in which policies act: tiers, then the rules of each; and what befalls ports there.

`Fate` follows the ports of one connection that nothing has decided yet. Where it is unknown whether
a rule matches, its ports both meet the action and go on; so a port that can only be allowed is
surely allowed, and one that can be both is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from recommender.model import (
    NO_PORTS,
    Action,
    AddressPeer,
    AllOf,
    AnyOf,
    Direction,
    HostNetwork,
    NamePeer,
    NotPeer,
    Peer,
    Policy,
    PortSet,
    Rule,
    Tier,
    UnknownPeer,
)

KUBERNETES = "networking.k8s.io/v1"
NETWORK_POLICIES = Tier("networkpolicy", 1_000_000, "union", "deny")
CALICO_DEFAULT = Tier("default", 1_000_000, "first match", "deny")
CALICO_ORDER = 1000.0
Default = Literal["deny", "perhaps", "pass"]


@dataclass(frozen=True, slots=True)
class Fate:
    """What may happen to the ports of one direction: each is in some of these four sets."""

    live: PortSet
    allow: PortSet = NO_PORTS
    deny: PortSet = NO_PORTS
    passed: PortSet = NO_PORTS

    def meet(self, action: Action, ports: PortSet, *, sure: bool) -> Fate:
        """The fate after a rule that (surely, or else perhaps) matches on `ports`."""
        hit = self.live & ports
        if not hit or action == "log":
            return self
        live = self.live - ports if sure else self.live
        match action:
            case "allow":
                return replace(self, live=live, allow=self.allow | hit)
            case "deny":
                return replace(self, live=live, deny=self.deny | hit)
            case "pass":
                return replace(self, live=live, passed=self.passed | hit)

    def end(self, default: Default) -> Fate:
        """The fate after a tier, whose default decides (or may decide) what is still live."""
        if default == "deny":
            return Fate(self.passed, self.allow, self.deny | self.live)
        denied = self.live if default == "perhaps" else NO_PORTS
        return Fate(self.live | self.passed, self.allow, self.deny | denied)

    def outcome(self) -> tuple[PortSet, PortSet]:
        """The ports surely allowed and those unknown, once what no tier decided is allowed."""
        allow = self.allow | self.live
        return allow - self.deny, allow & self.deny


@dataclass(frozen=True, slots=True)
class Turn:
    """One tier's turn in one direction for one subject: the rules as they are tried.

    `together` says that rules of one action act at once: which comes first is without meaning.
    `isolating` are the policies by which the tier's default denies; with none it passes.
    """

    rules: tuple[tuple[Policy, Rule], ...]
    isolating: tuple[Policy, ...]
    together: bool

    @property
    def default(self) -> Default:
        """What becomes of what no rule decides; `perhaps` denied where no policy surely acts."""
        if any(policy.doubt is None for policy in self.isolating):
            return "deny"
        return "perhaps" if self.isolating else "pass"


def turns(policies: Iterable[Policy], direction: Direction) -> tuple[Turn, ...]:
    """The turns of the tiers of `policies`, all of which select the subject.

    1. Tiers act in ascending order. 2. A tier none of whose policies applies to the direction has
    no turn. 3. `first match`: policies by order, then name; rules top to bottom. 4. `union`: denies
    before allows. 5. What no rule decides gets the tier's default where a policy isolates.
    """
    tiers: dict[Tier, list[Policy]] = {}
    for policy in policies:
        if direction in policy.isolates or policy.rules(direction):
            tiers.setdefault(policy.tier, []).append(policy)
    out = []
    for tier in sorted(tiers, key=lambda tier: (tier.order, tier.name)):
        applying = sorted(tiers[tier], key=_place)
        rules = [(p, rule) for p in applying for rule in p.rules(direction) if rule.action != "log"]
        if tier.how == "union":
            rules.sort(key=lambda each: each[1].action != "deny")
        if not any(rule.learns for policy, rule in rules if policy.doubt is None):
            rules = [(policy, _unlearned(policy, rule)) for policy, rule in rules]
        isolating = [p for p in applying if direction in p.isolates and tier.default == "deny"]
        out.append(Turn(tuple(rules), tuple(isolating), tier.how == "union"))
    return tuple(out)


def _unlearned(policy: Policy, rule: Rule) -> Rule:
    """A rule of a subject whose DNS no rule sends through Cilium's proxy, which learns from it.

    cilium/cilium Documentation/security/policy/layer3.rst, "DNS based"
    """
    if not isinstance(rule.peer, NamePeer) or not policy.ref.api.startswith("cilium.io/"):
        return rule
    why = UnknownPeer("no DNS rule acts on the pod, so the addresses of names are not learned")
    return replace(rule, peer=AllOf((why, rule.peer)))


def _place(policy: Policy) -> tuple[float, str, str, str]:
    # Calico knows a Kubernetes policy by this name (docs: policy-tiers; felix/calc/policy_sorter).
    prefix = "knp.default." if policy.ref.api == KUBERNETES else ""
    return policy.order, prefix + policy.ref.name, policy.ref.namespace or "", policy.ref.kind


def enacted(policies: Sequence[Policy]) -> tuple[Policy, ...]:
    """The policies as if the staged ones were in force: each takes the place of its namesake.

    A staged deletion is a policy that selects nothing, so what it takes the place of is gone.
    """
    staged = {_enforced_name(policy) for policy in policies if policy.staged}
    return tuple(p for p in policies if p.staged or _enforced_name(p) not in staged)


def _enforced_name(policy: Policy) -> tuple[str | None, ...]:
    """What a policy is called once it is in force; staged kinds have the enforced kind's names."""
    ref = policy.ref
    if ref.api == KUBERNETES or ref.kind == "StagedKubernetesNetworkPolicy":
        return KUBERNETES, ref.namespace, ref.name
    kind, tier = ref.kind.removeprefix("Staged"), policy.tier.name
    return ref.api, kind, ref.namespace, tier, ref.name.removeprefix(f"{tier}.")


def usual_host_network(policies: Sequence[Policy]) -> HostNetwork:
    """What host-network pods are to a set of policies, where nobody says which network there is.

    To NetworkPolicies alone, pods: the API lets a network tell them apart, and those who read
    manifests do so. Cilium, Calico and ClusterNetworkPolicy see their nodes
    (kubernetes.io/docs/concepts/services-networking/network-policies, "NetworkPolicy and
    hostNetwork pods"; network-policy-api apis/v1alpha2, `subject`).
    """
    return "as pods" if all(p.ref.api == KUBERNETES for p in policies) else "as nodes"


def place(policies: Sequence[Policy]) -> tuple[Policy, ...]:
    """Put NetworkPolicies where the network that enforces the other policies puts them.

    With Cilium's policies they are one union, in which any deny wins, and an ipBlock means no node.
    With Calico's they act in its `default` tier at order 1000, and an ipBlock means pods too.
    """
    if any("cilium.io" in policy.ref.api for policy in policies):
        tier = next(policy.tier for policy in policies if "cilium.io" in policy.ref.api)
        return tuple(_moved(policy, tier, 0.0, "outside") for policy in policies)
    if any("projectcalico.org" in policy.ref.api for policy in policies):
        return tuple(_moved(policy, CALICO_DEFAULT, CALICO_ORDER, "all") for policy in policies)
    return tuple(policies)


Reach = Literal["outside", "nodes", "all"]


def _moved(policy: Policy, tier: Tier, order: float, reach: Reach) -> Policy:
    if policy.ref.api != KUBERNETES:
        return policy
    ingress = tuple(replace(rule, peer=_reaching(rule.peer, reach)) for rule in policy.ingress)
    egress = tuple(replace(rule, peer=_reaching(rule.peer, reach)) for rule in policy.egress)
    return replace(policy, tier=tier, order=order, ingress=ingress, egress=egress)


def _reaching(peer: Peer, reach: Reach) -> Peer:
    match peer:
        case AddressPeer():
            return replace(peer, reach=reach)
        case NotPeer(peer=inner):
            return NotPeer(_reaching(inner, reach))
        case AllOf(peers=peers):
            return AllOf(tuple(_reaching(each, reach) for each in peers))
        case AnyOf(peers=peers):
            return AnyOf(tuple(_reaching(each, reach) for each in peers))
    return peer
