"""What changes between two sets of policies: objects, connections, observed flows.

Two sets are compared by what they permit, over the same ends and the same cuts of the address
space; the text of objects is only the first of the views.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import pandas as pd
import yaml

from recommender.alike import Alike, alike
from recommender.connectivity import Connections, beyond, counted
from recommender.essence import essence
from recommender.evaluate import Evaluator, evaluator
from recommender.findings import remarks
from recommender.frames import Row, of_class
from recommender.inventory import Inventory
from recommender.known import Known
from recommender.listing import By
from recommender.manifests import Manifest
from recommender.model import HostNetwork, Policy, Remark
from recommender.policies import PolicySet
from recommender.propose import exact_name, instant
from recommender.replay import asked, judged, replay
from recommender.report.lines import printable
from recommender.usage import RuleKey

Change = Literal["added", "removed", "changed", "rewritten", "renamed", "unchanged"]


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """One object of either set: `old_name` where it was renamed, `text` a unified diff.

    A policy is `rewritten` where its text changed and its meaning did not.
    """

    kind: str
    name: str
    change: Change
    text: str = ""
    old_name: str | None = None


@dataclass(frozen=True, slots=True)
class FlowChange:
    """An observed edge whose verdict changes; verdicts are null where they cannot be told."""

    client: str
    server: str
    protocol: str
    port: int
    connections: int
    last_seen: str
    class_: str
    old: bool | None
    new: bool | None


@dataclass(frozen=True)
class Diff:
    """The four views of a change; `by` says what an end is, `flows` is None without edges."""

    by: By
    objects: tuple[ObjectChange, ...]
    gained: Connections
    lost: Connections
    flows: tuple[FlowChange, ...] | None
    old_remarks: tuple[Remark, ...]
    new_remarks: tuple[Remark, ...]

    def __bool__(self) -> bool:
        same = "unchanged", "rewritten"
        changed = any(change.change not in same for change in self.objects)
        return bool(changed or self.gained or self.lost or self.flows)


def diff(
    old: PolicySet,
    new: PolicySet,
    inventory: Inventory,
    edges: pd.DataFrame | None = None,
    *,
    told: Known | None = None,
    by: By = "workload",
    staged: bool = False,
    host_network: HostNetwork = "as nodes",
) -> Diff:
    """Compare two sets of policies over one inventory, and over observed edges where given.

    Args:
        old: the set before.
        new: the set after.
        inventory: of the cluster.
        edges: what `classify.classified` returns; every edge that policies can decide is judged
            by both sets.
        told: as `evaluator` takes it, like `staged` and `host_network`.
        by: what an end of a connection is. By workload, connections are gained or lost where some
            pod of the one may reach some pod of the other.
        staged: see there.
        host_network: see there.
    """
    before, after = evaluators(
        old, new, inventory, told=told, staged=staged, host_network=host_network
    )
    seen = None if edges is None else of_class(edges, "wanted", "review", "denied")
    same, of_before = alike(before, after), cache(before.acting_rules)

    def of_after(client: str, server: str, protocol: str, port: int) -> set[RuleKey]:
        judge = of_before if same(client, server, protocol) else after.acting_rules
        return judge(client, server, protocol, port)

    return Diff(
        by=by,
        objects=tuple(object_changes(old, new)),
        gained=counted(beyond(after.matrix, before.matrix), after.ends, by),
        lost=counted(beyond(before.matrix, after.matrix), before.ends, by),
        flows=None if seen is None else tuple(flow_changes(before, after, seen, same)),
        old_remarks=tuple(remarks(before, seen, of_before)),
        new_remarks=tuple(remarks(after, seen, of_after)),
    )


def evaluators(
    old: PolicySet,
    new: PolicySet,
    inventory: Inventory,
    *,
    told: Known | None = None,
    staged: bool = False,
    host_network: HostNetwork = "as nodes",
) -> tuple[Evaluator, Evaluator]:
    """An evaluator of each set, over the same ends and the same cuts of the address space."""
    before, after = (
        evaluator(
            one.policies,
            inventory,
            told=told,
            staged=staged,
            host_network=host_network,
            beside=other.policies,
        )
        for one, other in ((old, new), (new, old))
    )
    return before, after


# --- objects -----------------------------------------------------------------------------------

# What the API server writes beside what people write.
_SERVER_SET = frozenset(
    {
        "creationTimestamp",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def object_changes(
    old: PolicySet, new: PolicySet, *, text_of_added: bool = True
) -> Iterator[ObjectChange]:
    """Each object of either set, by kind and name; equal content under a new name is renamed."""
    placed = {p.ref.kind for p in (*old.policies, *new.policies) if p.ref.namespace}
    before, after = _by_name(old.manifests, placed), _by_name(new.manifests, placed)
    meant, means = _meanings(old.policies), _meanings(new.policies)
    renamed = _renamed(before, after)
    olds = set(renamed.values())
    for name in sorted(before.keys() | after.keys()):
        kind, shown = name.kind, name.shown
        if name in olds:
            continue  # told at its new name
        if name in renamed:
            was = renamed[name]
            yield ObjectChange(kind, shown, "renamed", _text(was, before, name, after), was.shown)
        elif name not in after:
            yield ObjectChange(kind, shown, "removed", _text(name, before, None, after))
        elif name not in before:
            text = _text(None, before, name, after) if text_of_added else ""
            yield ObjectChange(kind, shown, "added", text)
        elif before[name] != after[name]:
            equal = name in meant and meant[name] == means.get(name)
            change: Change = "rewritten" if equal else "changed"
            yield ObjectChange(kind, shown, change, _text(name, before, name, after))
        else:
            yield ObjectChange(kind, shown, "unchanged")


class Name(NamedTuple):
    """What tells an object from the others, in the order that they are listed in."""

    kind: str
    namespace: str
    name: str
    group: str

    @property
    def shown(self) -> str:
        """The name for people."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


Bodies = Mapping[Name, dict[str, Any]]


def _by_name(manifests: Sequence[Manifest], placed: set[str]) -> dict[Name, dict[str, Any]]:
    """The objects; those of kinds that are `placed` in a namespace are in some, if in `default`."""
    found: dict[Name, dict[str, Any]] = {}
    for manifest in manifests:
        body = _plain(manifest.body)
        meta = body["metadata"]
        group = _group(str(body.get("apiVersion") or ""))
        kind = str(body["kind"])
        namespace = str(meta.get("namespace") or ("default" if kind in placed else ""))
        found[Name(kind, namespace, str(meta["name"]), group)] = body
    return found


def _group(api: str) -> str:
    # Calico's API and the resources behind it are the same objects.
    return api.partition("/")[0].removeprefix("crd.")


def _meanings(policies: Iterable[Policy]) -> dict[Name, Hashable]:
    found: dict[Name, list[Policy]] = {}
    for policy in policies:
        ref = policy.ref
        name = Name(ref.kind, ref.namespace or "", ref.name, _group(ref.api))
        found.setdefault(name, []).append(policy)
    return {name: essence(each) for name, each in found.items()}


def _plain(body: Mapping[str, Any]) -> dict[str, Any]:
    meta = {k: v for k, v in body["metadata"].items() if k not in _SERVER_SET}
    notes = {k: v for k, v in (meta.pop("annotations", None) or {}).items() if k != _LAST_APPLIED}
    if notes:
        meta["annotations"] = notes
    return {**{k: v for k, v in body.items() if k != "status"}, "metadata": meta}


def _renamed(before: Bodies, after: Bodies) -> dict[Name, Name]:
    """From the new name of a policy to the old name of one with an equal spec."""
    gone: dict[Hashable, list[Name]] = {}
    for name in sorted(before.keys() - after.keys()):
        gone.setdefault(_signature(name, before[name].get("spec")), []).append(name)
    found: dict[Name, Name] = {}
    for name in sorted(after.keys() - before.keys()):
        if spec := after[name].get("spec"):
            olds = gone.get(_signature(name, spec), [])
            if was := next((each for each in olds if before[each].get("spec") == spec), None):
                found[name] = was
                olds.remove(was)
    return found


def _signature(name: Name, spec: Any) -> Hashable:
    """Equal for objects that may be one under two names, so that few need be compared."""
    # Equal values are written with the same characters, be their keys in another order.
    return name._replace(name=""), "".join(sorted(str(spec)))


def _text(old_name: Name | None, before: Bodies, new_name: Name | None, after: Bodies) -> str:
    def lines(name: Name | None, bodies: Bodies) -> list[str]:
        if name is None:
            return []
        return yaml.dump(
            bodies[name], Dumper=yaml.CSafeDumper, sort_keys=False, width=4096
        ).splitlines(keepends=True)

    def label(name: Name | None) -> str:
        return printable(f"{name.kind}/{name.shown}") if name else "/dev/null"

    return "".join(
        difflib.unified_diff(
            lines(old_name, before), lines(new_name, after), label(old_name), label(new_name)
        )
    )


# --- observed flows ----------------------------------------------------------------------------


def flow_changes(
    before: Evaluator, after: Evaluator, rows: Sequence[Row], same: Alike
) -> Iterator[FlowChange]:
    """Observed edges on which the two sets do not agree, in the order of the edges.

    What one set only can judge (ICMP, of which NetworkPolicies say nothing) is null by the other.
    `same` is what `alike` returns.
    """
    rows = [
        row
        for row in rows
        if judged(row)
        and not same(exact_name(row, "client"), exact_name(row, "server"), str(row["protocol"]))
    ]
    olds, news = ({id(r.row): r for r in replay(judge, rows)} for judge in (before, after))
    for row in rows:
        old, new = olds.get(id(row)), news.get(id(row))
        either = old or new
        if either is None:
            continue
        was, is_ = (None if one is None else one.verdict.allow for one in (old, new))
        if was is not is_:
            protocol, port = asked(row)
            yield FlowChange(
                client=either.client,
                server=either.server,
                protocol=protocol,
                port=port,
                connections=int(row["connections"]),
                last_seen=instant(row["last_seen"]),
                class_=str(row["class"]),
                old=was,
                new=is_,
            )
