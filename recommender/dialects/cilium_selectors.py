"""Cilium's label selectors, read into `model.Selector` and `model.Peer`.

A selector is a list of requirements on labels, each of a source. Pods carry labels of source
`k8s`; everything that is no pod carries `reserved:` ones, which `model` calls entities.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from recommender.dialects.fields import Field, Refused
from recommender.model import (
    EVERYTHING,
    AllOf,
    And,
    AnyOf,
    AnyPeer,
    EntityPeer,
    Has,
    In,
    LabelPeer,
    Not,
    NotPeer,
    Peer,
    Selector,
    UnknownPeer,
)

NOBODY = AnyOf(())
NAMESPACE = "meta:namespace"
_NAMESPACE_LABEL = "io.cilium.k8s.namespace.labels."
# cilium/cilium pkg/k8s/apis/cilium.io/const.go
_RENAMED = {
    "io.kubernetes.pod.namespace": NAMESPACE,
    "io.cilium.k8s.policy.serviceaccount": "meta:service-account",
    "io.cilium.k8s.policy.cluster": "meta:cluster",
}
# Labels that agents leave out of a pod's identity unless they are configured otherwise:
# Documentation/operations/performance/scalability/identity-relevant-labels.rst
_HIDDEN = re.compile(
    r"io\.kubernetes|kubernetes\.io|statefulset\.kubernetes\.io/pod-name|beta\.kubernetes\.io"
    r"|apps\.kubernetes\.io/pod-index|batch\.kubernetes\.io/(job-completion-index|controller-uid)"
    r"|k8s\.io|pod-template-(generation|hash)|controller-revision-hash|annotation|controller-uid"
    r"|etcd_node"
)


def is_hidden(name: str) -> bool:
    """Whether agents leave a label out of identities by default, so that no policy sees it."""
    return _HIDDEN.match(name) is not None


# Labels of these sources are made by the agent, for addresses that policies name.
_AGENT_SOURCES = ("cidr", "cidrgroup", "fqdn")


@dataclass(frozen=True, slots=True)
class _Requirement:
    """One requirement of a label selector: `term`, or the want of it; as written, and on what."""

    source: str
    name: str
    values: frozenset[str] | None
    wanted: bool

    def selector(self, key: Callable[[str, str], str]) -> Selector:
        """What is required; the key as the caller calls it."""
        term = self.term(key)
        return term if self.wanted else Not(term)

    def term(self, key: Callable[[str, str], str]) -> Selector:
        """What is required, or must not be."""
        at = key(self.source, self.name)
        return Has(at) if self.values is None else In(at, self.values)


def requirements_in(selector: Field) -> Iterator[_Requirement]:
    """The requirements that a selector is the conjunction of."""
    selector.known("matchLabels", "matchExpressions")
    labels = selector["matchLabels"]
    for key in sorted(labels.mapping()):
        yield _Requirement(*_sourced(key), frozenset({labels[key].text()}), wanted=True)
    for expression in selector["matchExpressions"].items():
        expression.known("key", "operator", "values")
        operator, values = expression["operator"].text(), expression["values"].texts()
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            raise Refused(expression["operator"], "must be In, NotIn, Exists or DoesNotExist")
        listed = operator in ("In", "NotIn")
        if listed != bool(values):
            raise Refused(expression["values"], f"must {'' if listed else 'not '}be given")
        source, name = _sourced(expression["key"].text())
        wanted = operator in ("In", "Exists")
        yield _Requirement(source, name, frozenset(values) if listed else None, wanted=wanted)


def _pod_requirements(selector: Field) -> Iterator[_Requirement]:
    for r in requirements_in(selector):
        if _pod_key(r.source, r.name).startswith("hidden:"):
            selector.say(f"agents hide the label {r.name} from policies by default")
        yield r


def _sourced(key: str) -> tuple[str, str]:
    """A label's source and name; one without source may be of any (pkg/labels/labels.go)."""
    source, colon, name = key.partition(":")
    return (source, name) if colon else ("any", key)


def _pod_key(source: str, name: str) -> str:
    if source not in ("any", "k8s"):
        return f"source:{source}:{name}"  # no pod has such a label
    if name.startswith(_NAMESPACE_LABEL):
        return "ns:" + name.removeprefix(_NAMESPACE_LABEL)
    return _RENAMED.get(name) or f"{'hidden' if is_hidden(name) else 'pod'}:{name}"


def plain_key(_source: str, name: str) -> str:
    """A label's name as its key, for objects that are no endpoints."""
    return name


def subject_in(selector: Field, namespace: str | None) -> Selector:
    """The pods that an `endpointSelector` selects; only of the policy's own namespace, if any.

    cilium/cilium pkg/k8s/apis/cilium.io/utils/utils.go, ParseToCiliumRule
    """
    requirements = list(_pod_requirements(selector))
    terms: list[Selector] = []
    if namespace is not None:
        terms.append(In(NAMESPACE, frozenset({namespace})))
        for r in requirements:
            if _pod_key(r.source, r.name) == NAMESPACE and not r.selector(_pod_key).matches(
                {NAMESPACE: namespace}
            ):
                selector.say(f"names another namespace than the policy's own, {namespace}")
        # The agent overwrites this one key, and no other way of writing it.
        requirements = [r for r in requirements if not _overwritten(r)]
    return And((*terms, *(r.selector(_pod_key) for r in requirements)))


def _overwritten(r: _Requirement) -> bool:
    named = r.source == "k8s" and _pod_key(r.source, r.name) == NAMESPACE
    return named and r.wanted and r.values is not None and len(r.values) == 1


def endpoints_in(selector: Field, namespace: str | None) -> Peer:
    """Whom a peer selector selects.

    Without a namespace it means the policy's own, or in a clusterwide policy whoever has one;
    with a `reserved:` key neither is added (utils.go, getEndpointSelector).
    """
    requirements = list(_pod_requirements(selector))
    keys = {_pod_key(r.source, r.name) for r in requirements}
    if any(r.source == "reserved" for r in requirements):
        return _unscoped(requirements)
    for r in requirements:
        if r.source in _AGENT_SOURCES:
            return UnknownPeer(f"labels of source {r.source} are known to the agent only")
    terms = [r.selector(_pod_key) for r in requirements]
    if NAMESPACE not in keys:
        if namespace is None:
            terms.insert(0, Has(NAMESPACE))
        elif not any(key.startswith("ns:") for key in keys):
            terms.insert(0, In(NAMESPACE, frozenset({namespace})))
    pods = LabelPeer(And(tuple(terms)))
    if any(not isinstance(term, Not) for term in terms):
        return pods
    # Not to have a label is true of nodes and of the world too, unless the agent adds its own
    # cluster's (https://github.com/cilium/cilium/issues/46949).
    reason = "a selector of NotIn and DoesNotExist only may match what is no pod, by agent settings"
    return AnyOf((pods, AllOf((NotPeer(LabelPeer(EVERYTHING)), UnknownPeer(reason)))))


def _unscoped(requirements: Sequence[_Requirement]) -> Peer:
    """Whoever meets requirements that name entities: pods, nodes and the world alike."""
    peers: list[Peer] = []
    for r in requirements:
        peer: Peer = LabelPeer(r.term(_pod_key))
        if r.source == "reserved":
            bare = r.values is None or "" in r.values  # reserved labels have no value
            peer = entity(r.name) if bare else NOBODY
        peers.append(peer if r.wanted else NotPeer(peer))
    return peers[0] if len(peers) == 1 else AllOf(tuple(peers))


def entity(name: str) -> Peer:
    """An entity as a peer."""
    if name == "all":
        return AnyPeer()
    return NOBODY if name == "none" else EntityPeer(name)
