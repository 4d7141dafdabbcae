"""What a person should look at in policies that the API server takes.

Each remark has a topic:

    selects nothing        its selector matches no pod
    peer selects nothing   a peer of a rule matches nobody
    absent label           a selector names a label, or a value of one, that no pod bears
    absent namespace       a selector names a namespace that the inventory does not hold
    absent port            a rule names a port that no pod has
    isolates without DNS   pods are isolated in egress and may reach no DNS server
    shadowed               a rule never acts: others decide first (`overlaps`)
    redundant              a rule allows what others allow as well (`overlaps`)
    cannot be told         whom a rule matches is not known from the files
    never used             no observed flow came through a rule (`usage`)
    wider than its use     a rule allows pairs, ports or addresses never seen (`usage`)
"""

from __future__ import annotations

import difflib
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence

from recommender.dns import cut_off
from recommender.evaluate import Evaluator
from recommender.frames import Row
from recommender.inventory import Pod
from recommender.model import (
    CANNOT_BE_TOLD,
    DIRECTIONS,
    NOTHING,
    AllOf,
    And,
    AnyOf,
    Has,
    In,
    LabelPeer,
    Or,
    Peer,
    Policy,
    Remark,
    Rule,
    Selector,
)
from recommender.overlaps import overlaps
from recommender.universe import is_local
from recommender.usage import ActingRules, usage

_NAMESPACE = frozenset({"meta:namespace", "ns:kubernetes.io/metadata.name"})


def remarks(
    judge: Evaluator, rows: Sequence[Row] | None = None, acting_rules: ActingRules | None = None
) -> Iterator[Remark]:
    """What a person should look at in these policies.

    Args:
        judge: of the policies.
        rows: observed edges that policies can decide, where there are any; without them nothing is
            said of use, and every workload is taken to need DNS.
        acting_rules: as `usage` takes it.
    """
    for policy in judge.policies:
        yield from _subject(policy, judge)
        for direction in DIRECTIONS:
            for rule in policy.rules(direction):
                for topic, message in _rule(policy, rule, judge):
                    yield Remark(policy.ref, topic, message, direction, rule.index)
    for why in judge.doubts():
        if why.policy is not None:
            yield Remark(why.policy, CANNOT_BE_TOLD, why.detail or "", why.direction, why.rule)
    yield from cut_off(judge, rows)
    yield from overlaps(judge)
    if rows is not None:
        yield from usage(judge, rows, acting_rules)


def _subject(policy: Policy, judge: Evaluator) -> Iterator[Remark]:
    if policy.subject == NOTHING:  # a staged deletion says so of itself
        return
    if not judge.world.selected(policy.subject).may:
        near = _nearest(policy.subject, judge)
        if policy.ref.kind == "GlobalNetworkPolicy":
            near += "; host endpoints are not looked at"
        yield Remark(policy.ref, "selects nothing", f"its selector matches no pod{near}")
        return
    for topic, message in _absent(policy.subject, judge):
        yield Remark(policy.ref, topic, message)


def _rule(policy: Policy, rule: Rule, judge: Evaluator) -> Iterator[tuple[str, str]]:
    # One selector of Calico's is several peers: the pods and the sets of addresses that it matches.
    apart = isinstance(rule.peer, AnyOf) and "projectcalico.org" not in policy.ref.api
    for peer in rule.peer.peers if isinstance(rule.peer, AnyOf) and apart else (rule.peer,):
        selectors = list(_selectors(peer))
        if selectors and not is_local(peer) and not judge.world.matched(peer).may:
            near = next((near for one in selectors if (near := _nearest(one, judge))), "")
            yield "peer selects nothing", f"a peer matches no pod{near}"
        else:
            for selector in selectors:
                yield from _absent(selector, judge)
    for protocol, name in rule.ports.named:
        if not any((protocol, name) == (p, n) for pod in judge.world.pods for p, _, n in pod.ports):
            yield "absent port", f"no pod has a {protocol} port named {name}"


def _selectors(peer: Peer) -> Iterator[Selector]:
    match peer:
        case LabelPeer(selector=selector):
            yield selector
        case AnyOf(peers=peers) | AllOf(peers=peers):
            for each in peers:
                yield from _selectors(each)


def _absent(selector: Selector, judge: Evaluator) -> Iterator[tuple[str, str]]:
    """Labels and namespaces that a selector asks for and nobody bears."""
    for term in _asked(selector):
        if term.key == "meta:cluster":  # which no inventory tells
            continue
        borne = judge.world.labels(term.key)
        # Not `values - borne.keys()`: that goes through all that pods bear.
        values = term.values if isinstance(term, In) else ()
        lacking = sorted(value for value in values if value not in borne)
        if isinstance(term, In) and term.key in _NAMESPACE:
            known = judge.world.inventory.namespaces
            for name in lacking:
                if name not in known:
                    yield "absent namespace", f"there is no namespace {name}{_like(name, known)}"
        elif isinstance(term, In):
            for value in lacking:
                yield "absent label", _lacks(term.key, f"={value}")
        elif not borne:
            yield "absent label", _lacks(term.key)


def _asked(selector: Selector) -> Iterator[In | Has]:
    """The terms that a selector asks for, those under a `Not` left out."""
    match selector:
        case In() | Has():
            yield selector
        case And(terms=terms) | Or(terms=terms):
            for term in terms:
                yield from _asked(term)


_OWNERS = {"ns": "pod's namespace", "sa": "pod's service account"}


def _lacks(key: str, value: str = "") -> str:
    kind, _, name = key.partition(":")
    what = f"{name}{value}" if value else f"a label {name}"
    return f"no {_OWNERS.get(kind, 'pod')} bears {what}"


_MOST_COMPARED = 400


def _closest(name: str, known: Iterable[str]) -> str | None:
    """The most similar of some names; of very many, only those that are sorted near it count."""
    names = sorted(known)
    first = max(0, bisect(names, name) - _MOST_COMPARED // 2)
    near = difflib.get_close_matches(name, names[first : first + _MOST_COMPARED], 1, 0.5)
    return near[0] if near else None


def _like(name: str, known: Iterable[str]) -> str:
    near = _closest(name, known)
    return f", the nearest is {near}" if near else ""


def _nearest(selector: Selector, judge: Evaluator) -> str:
    """The nearest label that would match, as the end of a sentence; empty where there is none."""
    asked = [term for term in _asked(selector) if isinstance(term, In)]
    known = judge.world.inventory.namespaces
    spaces = [term for term in asked if term.key in _NAMESPACE]
    for name in sorted(name for term in spaces for name in term.values - known.keys()):
        return f"; there is no namespace {name}{_like(name, known)}"
    there = [
        pod for pod in judge.world.pods if all(pod.namespace in term.values for term in spaces)
    ]
    if any(pod.host_network and selector.matches(_labels(pod, judge)) for pod in there):
        return "; the pod with its labels is host-network, and policies do not select such pods"
    inside = [pod for pod in there if not pod.host_network]
    if not inside:
        return "; there is no pod in its namespace"
    wanted = [term for term in asked if term.key.startswith("pod:")]
    for term in wanted:
        key = term.key.removeprefix("pod:")
        if not any(pod.labels.get(key) in term.values for pod in inside):
            found = _nearest_label(key, sorted(term.values), inside)
            asked_for = f"{key}={','.join(sorted(term.values))}"
            if found is None:
                return f"; no pod has a label like {asked_for}"
            return f"; no pod has {asked_for}, the nearest label is {found}"
    return "; no pod has all of its labels together" if wanted else ""


def _labels(pod: Pod, judge: Evaluator) -> dict[str, str]:
    """The labels of a pod and of its namespace, by the keys that selectors have for them."""
    namespace = judge.world.inventory.namespaces.get(pod.namespace)
    return {
        **{f"pod:{key}": value for key, value in pod.labels.items()},
        **{f"ns:{key}": value for key, value in (namespace.labels if namespace else {}).items()},
        "meta:namespace": pod.namespace,
    }


def _nearest_label(key: str, values: list[str], pods: list[Pod]) -> str | None:
    same_key = {pod.labels[key] for pod in pods if key in pod.labels}
    for value in values:
        if near := _closest(value, same_key):
            return f"{key}={near}"
    for value in values:
        keys = [k for pod in pods for k, v in pod.labels.items() if v == value]
        if keys:
            return f"{min(keys)}={value}"
    return None
