"""The selector that takes in exactly one workload's pods, checked over the whole inventory.

The owner's `matchLabels` come first, then the labels that all its pods share; keys that change
between pods or rollouts never serve. Where other pods of the namespace bear the same labels, what
only the others have tells them apart (`DoesNotExist`, `NotIn`). Workloads that nothing tells apart
are one unit with one policy, and the unit says so.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from recommender.inventory import Inventory, Workload, WorkloadKey
from recommender.model import And, Has, In, Labels, Not, Selector
from recommender.syntax import is_label_key, is_label_value

# Labels that a controller writes anew for each pod, revision or run, so no selector may use them:
# kubernetes/api apps/v1 and batch/v1 types.go, argo-rollouts utils/defaults.
_NEVER = re.compile(
    r"pod-template-hash|controller-revision-hash|pod-template-generation|controller-uid|job-name"
    r"|rollouts-pod-template-hash|statefulset\.kubernetes\.io/pod-name"
    r"|apps\.kubernetes\.io/pod-index|batch\.kubernetes\.io/.*|(.*\.)?projectcalico\.org/.*"
    r"|pcns\..*|pcsa\..*|io\.cilium\..*|jobset\.sigs\.k8s\.io/.*uid.*"
)
# Labels that a new release changes: they serve only where the owner itself selects by them.
_RELEASE = re.compile(
    r"version|app\.kubernetes\.io/version|helm\.sh/(chart|revision)|chart|heritage|release-revision"
    r"|app\.kubernetes\.io/managed-by|service\.istio\.io/canonical-revision|istio\.io/rev"
    r"|git-?(sha|commit|hash)|build|image-?tag|commit"
)


def is_volatile(key: str) -> bool:
    """Whether a label key changes between pods, rollouts or runs of one workload."""
    return _NEVER.fullmatch(key) is not None


def is_lasting(key: str) -> bool:
    """Whether a label key changes neither between pods nor with a release."""
    return not is_volatile(key) and _RELEASE.fullmatch(key) is None


@dataclass(frozen=True, slots=True)
class Unit:
    """Workloads that one selector stands for; more than one only where nothing tells them apart.

    `selector` sees pod labels (`pod:` keys); the namespace is `namespace`.
    """

    namespace: str
    workloads: tuple[WorkloadKey, ...]
    selector: Selector

    @property
    def name(self) -> str:
        """The name of its first workload."""
        return self.workloads[0].name


@dataclass(frozen=True, slots=True)
class _Group:
    """Workloads taken as one: the distinct label maps of their pods, and the labels all share."""

    workloads: tuple[Workload, ...]
    maps: tuple[Labels, ...]
    stable: Labels


def units(
    inventory: Inventory, hides: Callable[[str], bool] = lambda _key: False
) -> dict[WorkloadKey, Unit]:
    """The unit of every workload that a policy can select (host-network pods it cannot).

    Labels that the network `hides` from policies serve no selector.
    """
    by_namespace: dict[str, list[_Group]] = defaultdict(list)
    for key, workload in inventory.workloads.items():
        if not workload.host_network:
            by_namespace[key.namespace].append(_group(inventory, workload, hides))
    return {
        key: unit
        for namespace, groups in sorted(by_namespace.items())
        for unit in _namespace_units(namespace, groups)
        for key in unit.workloads
    }


def _group(inventory: Inventory, workload: Workload, hides: Callable[[str], bool]) -> _Group:
    pods = inventory.pods_of.get(workload.key, ())
    maps = [pod.labels for pod in pods]
    if workload.template_labels or not maps:
        maps.append(workload.template_labels)
    usable = [
        # Logs are written by anybody: what is no label cannot be selected by.
        {k: v for k, v in labels.items() if not hides(k) and is_label_key(k) and is_label_value(v)}
        for labels in maps
    ]
    return _of((workload,), usable)


def _of(workloads: Iterable[Workload], maps: Iterable[Labels]) -> _Group:
    usable = {
        tuple(sorted((k, v) for k, v in labels.items() if not is_volatile(k))) for labels in maps
    }
    shared = set.intersection(*(set(items) for items in usable))
    ordered = tuple(sorted(workloads, key=lambda workload: workload.key))
    return _Group(ordered, tuple(dict(items) for items in sorted(usable)), dict(sorted(shared)))


def _merged(groups: Iterable[_Group]) -> _Group:
    chosen = list(groups)
    return _of((w for g in chosen for w in g.workloads), (m for g in chosen for m in g.maps))


def _namespace_units(namespace: str, groups: Sequence[_Group]) -> list[Unit]:
    """An exact selector for each group; groups that nothing tells apart are joined."""
    alike: dict[tuple[tuple[tuple[str, str], ...], ...], list[_Group]] = defaultdict(list)
    for group in groups:
        alike[tuple(tuple(labels.items()) for labels in group.maps)].append(group)
    left = [_merged(same) for same in alike.values()]
    while True:
        by_label: dict[tuple[str, str], set[int]] = defaultdict(set)
        for number, group in enumerate(left):
            for labels in group.maps:
                for item in labels.items():
                    by_label[item].add(number)
        found = [_exact(number, left, by_label) for number in range(len(left))]
        clash = next((f for f in found if isinstance(f, frozenset)), None)
        if clash is None:
            return [
                Unit(namespace, tuple(w.key for w in group.workloads), selector)
                for group, selector in zip(left, found, strict=True)
                if not isinstance(selector, frozenset)
            ]
        joined = _merged(left[number] for number in sorted(clash))
        left = [*(g for number, g in enumerate(left) if number not in clash), joined]


def _exact(
    number: int, groups: Sequence[_Group], by_label: Mapping[tuple[str, str], set[int]]
) -> Selector | frozenset[int]:
    """The selector with the fewest terms found that takes in this group and no other.

    Where there is none, the numbers of the groups that cannot be told apart, its own among them.
    """
    group = groups[number]
    owner = set.intersection(*(set(w.match_labels.items()) for w in group.workloads))
    chosen = {k: v for k, v in sorted(owner) if group.stable.get(k) == v}
    lasting = {k: v for k, v in group.stable.items() if not _RELEASE.fullmatch(k)}
    chosen = chosen or _identifying(lasting)
    others = _others(chosen, number, groups, by_label)
    for pool in (lasting, group.stable):
        while others:
            gains = {
                item: len(others) - len(others & by_label[item])
                for item in pool.items()
                if item[0] not in chosen
            }
            best = min(gains, key=lambda item: (-gains[item], item), default=None)
            if best is None or gains[best] == 0:
                break
            chosen[best[0]] = best[1]
            others = _others(chosen, number, groups, by_label)
    terms, clash = _exclusions(group, {other: groups[other] for other in sorted(others)}, chosen)
    return clash | {number} if clash else _selector(chosen.items(), terms)


def _identifying(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that name an application, where it has any; else all of them."""
    keys = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component")
    named = {k: labels[k] for k in (*keys, "app", "k8s-app", "component") if k in labels}
    return named or dict(labels)


def _others(
    chosen: Mapping[str, str],
    number: int,
    groups: Sequence[_Group],
    by_label: Mapping[tuple[str, str], set[int]],
) -> set[int]:
    """Numbers of the other groups that have a pod which the chosen labels select."""
    near = set(range(len(groups)))
    for item in chosen.items():
        near &= by_label.get(item, set())
    return {
        other
        for other in near - {number}
        if any(chosen.items() <= labels.items() for labels in groups[other].maps)
    }


def _exclusions(
    group: _Group, others: Mapping[int, _Group], chosen: Mapping[str, str]
) -> tuple[list[Selector], frozenset[int]]:
    """Terms that keep the others' pods out and the group's in; and the others still in."""
    out = [(n, m) for n, other in others.items() for m in other.maps if chosen.items() <= m.items()]
    terms: list[Selector] = []
    while out:
        maps = [labels for _, labels in out]
        term = max(
            _terms(group, maps),
            key=lambda t: (sum(not t.matches(_keyed(m)) for m in maps), _spelled(t)),
            default=None,
        )
        if term is None or all(term.matches(_keyed(m)) for m in maps):
            return terms, frozenset(n for n, _ in out)
        terms.append(term)
        out = [(n, m) for n, m in out if term.matches(_keyed(m))]
    return terms, frozenset()


def _terms(group: _Group, out: Sequence[Labels]) -> Iterable[Selector]:
    keys = sorted({key for labels in out for key in labels} | {k for m in group.maps for k in m})
    usable = [key for key in keys if not is_volatile(key)]
    lasting = [key for key in usable if not _RELEASE.fullmatch(key)]
    for key in lasting or usable:
        mine = [labels.get(key) for labels in group.maps]
        theirs = frozenset(labels[key] for labels in out if key in labels)
        if theirs and all(value is None for value in mine):
            yield Not(Has(f"pod:{key}"))
        elif theirs and not theirs & set(mine):
            yield Not(In(f"pod:{key}", theirs))
        present = frozenset(value for value in mine if value is not None)
        if None not in mine and len(present) > 1:
            yield In(f"pod:{key}", present)


def _keyed(labels: Labels) -> dict[str, str]:
    return {f"pod:{key}": value for key, value in labels.items()}


def _selector(labels: Iterable[tuple[str, str]], more: Sequence[Selector]) -> Selector:
    terms = [In(f"pod:{key}", frozenset({value})) for key, value in sorted(labels)]
    return And((*terms, *sorted(more, key=_spelled)))


def _spelled(term: Selector) -> str:
    """A term as a text that is the same in every process, which that of a set is not."""
    match term:
        case Not(term=inner):
            return f"Not {_spelled(inner)}"
        case In(key=key, values=values):
            return f"In {key} {sorted(values)}"
    return str(term)
