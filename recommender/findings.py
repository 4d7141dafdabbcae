"""What is odd about policies that the API server takes: selectors that select nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from recommender.evaluate import Evaluator
from recommender.inventory import Pod
from recommender.model import DIRECTIONS, And, AnyOf, In, LabelPeer, Peer, Ref, Selector


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing about one policy that a person should look at."""

    ref: Ref
    topic: str
    message: str


def remarks(judge: Evaluator) -> Iterator[Remark]:
    """What a person should look at in these policies, in their order."""
    for policy in judge.policies:
        if not judge.selects(policy):
            near = _nearest(policy.subject, judge)
            yield Remark(policy.ref, "selects nothing", f"its selector matches no pod{near}")
        for direction in DIRECTIONS:
            for rule in policy.rules(direction):
                for peer in _label_peers(rule.peer):
                    if not judge.world.selected(peer.selector).may:
                        near = _nearest(peer.selector, judge)
                        message = f"{direction} rule {rule.index}: a peer matches no pod{near}"
                        yield Remark(policy.ref, "peer selects nothing", message)


def _label_peers(peer: Peer) -> Iterator[LabelPeer]:
    if isinstance(peer, LabelPeer):
        yield peer
    elif isinstance(peer, AnyOf):
        for each in peer.peers:
            yield from _label_peers(each)


def _nearest(selector: Selector, judge: Evaluator) -> str:
    """The nearest label that would match, as the end of a sentence; empty where there is none."""
    terms = selector.terms if isinstance(selector, And) else (selector,)
    wanted = [t for t in terms if isinstance(t, In) and t.key.startswith("pod:")]
    spaces = [t for t in terms if isinstance(t, In) and t.key == "meta:namespace"]
    inside = [
        pod
        for pod in judge.world.pods
        if not pod.host_network and all(pod.namespace in t.values for t in spaces)
    ]
    if not inside:
        return "; there is no pod in its namespace"
    for term in wanted:
        key = term.key.removeprefix("pod:")
        if not any(pod.labels.get(key) in term.values for pod in inside):
            found = _nearest_label(key, sorted(term.values), inside)
            asked = f"{key}={','.join(sorted(term.values))}"
            if found is None:
                return f"; no pod has a label like {asked}"
            return f"; no pod has {asked}, the nearest label is {found}"
    return "; no pod has all of its labels together" if wanted else ""


def _nearest_label(key: str, values: list[str], pods: list[Pod]) -> str | None:
    labels = sorted({item for pod in pods for item in pod.labels.items()})
    same_key = [value for k, value in labels if k == key]
    for value in values:
        if near := difflib.get_close_matches(value, same_key, 1, 0.5):
            return f"{key}={near[0]}"
    for value in values:
        for k, v in labels:
            if v == value:
                return f"{k}={v}"
    return None
