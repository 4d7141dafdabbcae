"""Who the ends of flows are: from what a log says of an end to a workload, node or address.

A log names a workload at its own end only, if at all; so every line of the store is asked first,
and each end then gets the best answer that any line or the inventory gives:

1. the pod's name, in the inventory;
2. the workload that some line of the store names for this pod;
3. the name: what a controller appends to its own name (hash, ordinal, minute);
4. the labels, where they fit the selector of one workload only;
5. the address: of a pod, a node, a Service;
6. else the plain address, or nothing: an end that no rule can name, which is listed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from recommender.edges import END, WHO
from recommender.frames import records
from recommender.inventory import Inventory, Namespace, Pod, Workload, WorkloadKey
from recommender.kubelets import kubelets
from recommender.owners import owner_by_name
from recommender.who import Who

NODE_TYPES = frozenset({"host", "node", "hostendpoint"})
_HASH = r"[a-z0-9]{5,10}"
_SUFFIX = r"[a-z0-9]{5}"
# What a controller of each kind appends to its name in its pods' names, after the dash.
# apiserver pkg/storage/names/generate.go (5 letters), statefulset_utils.go (ordinal),
# job_controller.go (index), cronjob utils.go (scheduled minute).
_APPENDED = {
    "Deployment": rf"{_HASH}-(?:{_SUFFIX})?",
    "ReplicaSet": rf"(?:{_SUFFIX})?",
    "ReplicationController": rf"(?:{_SUFFIX})?",
    "DaemonSet": rf"(?:{_SUFFIX})?",
    "StatefulSet": r"(?:\d+)?",
    "Job": rf"(?:\d+-)?(?:{_SUFFIX})?",
    "CronJob": rf"\d{{8,11}}-(?:\d+-)?(?:{_SUFFIX})?",
}
_GENERATED_LENGTH = 58  # a generated name keeps this much of its prefix (names/generate.go)


def text_lines(text: object) -> dict[str, str]:
    """`key=value` lines as a mapping; null gives none."""
    if not isinstance(text, str):
        return {}
    return dict(line.split("=", 1) for line in text.split("\n") if "=" in line)


@dataclass(frozen=True, slots=True)
class _Said:
    """What all lines together say of one pod end."""

    workloads: Counter[tuple[str, str]]
    labels: Mapping[str, str]
    service_account: str | None


def resolve(
    sighted: pd.DataFrame,
    calls: pd.DataFrame,
    inventory: Inventory,
    api_servers: frozenset[str] = frozenset(),
) -> pa.Table:
    """Name every end that the flows mention.

    Args:
        sighted: what `edges.sighted_ends` returns.
        calls: what `edges.outside_calls` returns.
        inventory: of the flows' cluster, or `inventory_of_flows(sighted)`.
        api_servers: outside addresses of the API server.

    Returns:
        One row per distinct (`record_cluster`, END columns), with WHO columns prefixed `is_`.
        `is_type` is workload, host (a pod's own node), node, some-node (a node, perhaps the
        pod's own), apiserver, ingress, health, service, address, set (addresses that only a name
        stands for), remote (another cluster's pod), gone (a pod that nothing names any more) or
        unresolved.
    """
    rows = records(sighted)
    said = _said(rows)
    locals_ = _local_clusters(rows)
    names = _NameIndex(inventory)
    found: dict[tuple[object, ...], Who] = {}
    for row in rows:
        key = (row["record_cluster"], *(row[column] for column in END))
        if key not in found:
            found[key] = _who(row, said, locals_, inventory, names)
    workloads = {(key[3], key[4]): who for key, who in found.items() if who.type == "workload"}
    own = kubelets(records(calls), workloads, inventory)
    for key, who in found.items():
        if who.type == "address" and (who.address, key[-1]) in own:
            found[key] = Who("host", address=who.address)
        elif who.type == "address" and who.address in api_servers:
            found[key] = Who("apiserver", address=who.address)
    columns = ["record_cluster", *END, *(f"is_{name}" for name in WHO)]
    rows_ = [(*key, *(getattr(who, name) for name in WHO)) for key, who in found.items()]
    values = list(zip(*rows_, strict=True)) or [()] * len(columns)
    return pa.table(
        {name: pa.array(column, pa.string()) for name, column in zip(columns, values, strict=True)}
    )


def _said(rows: Iterable[Mapping[str, object]]) -> dict[tuple[object, object], _Said]:
    workloads: dict[tuple[object, object], Counter[tuple[str, str]]] = defaultdict(Counter)
    labels: dict[tuple[object, object], dict[str, str]] = {}
    accounts: dict[tuple[object, object], str] = {}
    for row in rows:
        if row["who"] is None:
            continue
        key = (row["namespace"], row["who"])
        if row["workload"] is not None:
            workloads[key][str(row["workload_kind"]), str(row["workload"])] += 1
        if row["labels"] is not None:
            here = text_lines(row["labels"])
            # An aggregate's labels are those that all its pods share: intersect.
            seen = labels.get(key)
            labels[key] = here if seen is None else dict(seen.items() & here.items())
        if row["service_account"] is not None:
            accounts[key] = str(row["service_account"])
    return {
        key: _Said(workloads.get(key, Counter()), labels.get(key, {}), accounts.get(key))
        for key in {*workloads, *labels, *accounts}
    }


def _local_clusters(rows: Iterable[Mapping[str, object]]) -> frozenset[object]:
    """Names that the logging cluster goes by: a log names owners at its local ends only."""
    own = {row["cluster"] for row in rows if row["workload"] is not None}
    return frozenset({None, *own, *(row["record_cluster"] for row in rows)})


def _who(
    row: Mapping[str, object],
    said: Mapping[tuple[object, object], _Said],
    locals_: frozenset[object],
    inventory: Inventory,
    names: _NameIndex,
) -> Who:
    if row["type"] == "health":
        return Who("health")
    if row["who"] is not None and row["namespace"] is not None:
        namespace, who = str(row["namespace"]), str(row["who"])
        known = said.get((namespace, who), _Said(Counter(), {}, None))
        if row["cluster"] not in locals_:
            key = _own_key(namespace, who, known)
            return Who("remote", namespace, key.kind, key.name, cluster=_text(row["cluster"]))
        found = _pod_end(namespace, who, known, inventory, names)
        if not _on_host_network(found, inventory):
            return found
    return _address_end(row, inventory)


def _on_host_network(who: Who, inventory: Inventory) -> bool:
    """Whether its pods have no address of their own, so that only their node's can be named."""
    key = WorkloadKey(str(who.namespace), str(who.kind), str(who.name))
    workload = inventory.workloads.get(key)
    return workload is not None and workload.host_network


def _pod_end(namespace: str, who: str, said: _Said, inventory: Inventory, names: _NameIndex) -> Who:
    pod = inventory.pods.get((namespace, who))
    if pod is not None and not pod.made:
        return _workload_end(pod.workload)
    for (kind, name), _ in sorted(said.workloads.items(), key=lambda item: (-item[1], item[0])):
        key = _known_key(namespace, kind, name, said.labels, inventory)
        if key is not None:
            return _workload_end(key)
    told = names.told(namespace, who, said.labels)
    if told is not None:
        return _workload_end(told)
    fitting = names.fitting(namespace, said.labels)
    if fitting is not None:
        return _workload_end(fitting)
    key = _own_key(namespace, who, said)
    return Who("gone", namespace, key.kind, key.name)


def _workload_end(key: WorkloadKey) -> Who:
    return Who("workload", key.namespace, key.kind, key.name)


def _known_key(
    namespace: str, kind: str, name: str, labels: Mapping[str, str], inventory: Inventory
) -> WorkloadKey | None:
    made_by = owner_by_name(kind, name, labels.get("pod-template-hash"))
    for a_kind, a_name in ((kind, name), *([made_by] if made_by else [])):
        key = WorkloadKey(namespace, a_kind, a_name)
        if key in inventory.workloads:
            return key
    return None


def _own_key(namespace: str, who: str, said: _Said) -> WorkloadKey:
    """The workload that the log alone tells, for a pod that no inventory knows."""
    hash_ = said.labels.get("pod-template-hash")
    for (kind, name), _ in sorted(said.workloads.items(), key=lambda item: (-item[1], item[0])):
        made_by = owner_by_name(kind, name, hash_)
        return WorkloadKey(namespace, *(made_by or (kind, name)))
    if "=" in who:
        return WorkloadKey(namespace, "Pod", _name_from_labels(said.labels))
    stem = re.sub(rf"-(?:{_SUFFIX})?$", "", who) if hash_ or who.endswith("-") else who
    if hash_ and stem.endswith(f"-{hash_}"):
        return WorkloadKey(namespace, "Deployment", stem.removesuffix(f"-{hash_}"))
    if "statefulset.kubernetes.io/pod-name" in said.labels:
        return WorkloadKey(namespace, "StatefulSet", re.sub(r"-\d+$", "", who))
    job = said.labels.get("batch.kubernetes.io/job-name") or said.labels.get("job-name")
    if job:
        return WorkloadKey(namespace, *(owner_by_name("Job", job) or ("Job", job)))
    if "controller-revision-hash" in said.labels:
        return WorkloadKey(namespace, "DaemonSet", re.sub(rf"-{_SUFFIX}$", "", who).rstrip("-"))
    return WorkloadKey(namespace, "Pod", who.rstrip("-"))


def _name_from_labels(labels: Mapping[str, str]) -> str:
    for key in ("app.kubernetes.io/name", "app", "k8s-app", "component"):
        if labels.get(key):
            return labels[key]
    return "-".join(sorted(labels.values())) or "unnamed"


class _NameIndex:
    """Workloads of an inventory by namespace, to be told from pod names and labels.

    A class for its two tables, which are made once and asked for every end.
    """

    def __init__(self, inventory: Inventory) -> None:
        self._by_namespace: dict[str, list[tuple[Workload, re.Pattern[str]]]] = defaultdict(list)
        for workload in inventory.workloads.values():
            appended = _APPENDED.get(workload.key.kind)
            name = workload.key.name
            pattern = f"{re.escape(name)}-{appended}" if appended else re.escape(name)
            if len(name) > _GENERATED_LENGTH - 12:
                pattern = f"{re.escape(name[: _GENERATED_LENGTH - 12])}.*"
            self._by_namespace[workload.key.namespace].append((workload, re.compile(pattern)))

    def told(self, namespace: str, who: str, labels: Mapping[str, str]) -> WorkloadKey | None:
        """The one workload whose pods bear such a name, the labels deciding between several."""
        found = [w for w, pattern in self._by_namespace[namespace] if pattern.fullmatch(who)]
        fitting = [w for w in found if _fits(w, labels)]
        # `web-canary-…` also reads as a pod of `web`: the longer name says more.
        longest = sorted(fitting or found, key=lambda w: len(w.key.name), reverse=True)
        return longest[0].key if longest else None

    def fitting(self, namespace: str, labels: Mapping[str, str]) -> WorkloadKey | None:
        """The one workload whose selector the labels fit; the most exact of several."""
        found = [
            w
            for w, _ in self._by_namespace[namespace]
            if w.match_labels and w.match_labels.items() <= labels.items()
        ]
        exact = [w for w in found if w.template_labels.items() <= labels.items()] or found
        best = max((len(w.template_labels) for w in exact), default=0)
        chosen = [w for w in exact if len(w.template_labels) == best]
        return chosen[0].key if len(chosen) == 1 else None


def _fits(workload: Workload, labels: Mapping[str, str]) -> bool:
    """Whether the labels, of which some may be missing, contradict none of the workload's."""
    return all(labels.get(k, v) == v for k, v in workload.match_labels.items())


def _address_end(row: Mapping[str, object], inventory: Inventory) -> Who:
    kind, address, set_ = row["type"], row["ip"], row["set"]
    if kind in {"apiserver", "ingress"}:
        return Who(str(kind), address=_text(address))
    if address is None:
        if kind in NODE_TYPES:
            return Who("some-node", name=_text(row["who"]))
        return Who("set", name=_text(set_)) if set_ is not None else Who("unresolved")
    text = str(address)
    node = inventory.node_of_address.get(text)
    if node is not None or kind in NODE_TYPES:
        return _node_end(row, text, node, inventory)
    pod = inventory.pod_of_address.get(text)
    if pod is not None:
        return _workload_end(pod.workload)
    service = inventory.service_of_address.get(text)
    if service is not None:
        return Who("service", service.namespace, "Service", service.name, text)
    named = set_ if set_ not in ("public", "private") else None
    return Who("address", name=_text(named), address=text)


def _node_end(
    row: Mapping[str, object], address: str, node: str | None, inventory: Inventory
) -> Who:
    seen_from = row["node"]  # the node of the pod at the other end, where that end reported
    if seen_from is not None:
        beside = inventory.nodes.get(str(seen_from))
        own = row["type"] == "host" or (beside is not None and address in beside.addresses)
        return Who("host" if own else "node", name=node, address=address)
    certain = row["type"] in ("host", "node")
    return Who("node" if certain else "some-node", name=node, address=address)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def inventory_of_flows(sighted: pd.DataFrame) -> Inventory:
    """The inventory that the flows alone show: their pods, with the labels that they bore.

    It misses what did not talk, and labels that the CNI does not log; so extents that are exact
    here may be wider in the cluster.
    """
    rows = records(sighted)
    said = _said(rows)
    locals_ = _local_clusters(rows)
    pods: dict[tuple[str, str], Pod] = {}
    for row in rows:
        if row["who"] is None or row["namespace"] is None or row["cluster"] not in locals_:
            continue
        namespace, who = str(row["namespace"]), str(row["who"])
        known = said.get((namespace, who), _Said(Counter(), {}, None))
        key = _own_key(namespace, who, known)
        name = who if "=" not in who else key.name
        pods[namespace, name] = Pod(
            namespace=namespace,
            name=name,
            labels=known.labels,
            workload=key,
            addresses=(),
            ports=(),
            service_account=known.service_account or "default",
            host_network=False,
        )
    return _inventory_of_pods(pods)


def _inventory_of_pods(pods: dict[tuple[str, str], Pod]) -> Inventory:
    workloads: dict[WorkloadKey, Workload] = {}
    for pod in pods.values():
        seen = workloads.get(pod.workload)
        shared = dict(pod.labels)
        if seen is not None:
            shared = dict(seen.template_labels.items() & pod.labels.items())
        workloads[pod.workload] = Workload(
            key=pod.workload,
            match_labels={},
            template_labels=shared,
            ports=(),
            service_account=pod.service_account,
            host_network=False,
        )
    spaces = {
        key.namespace: Namespace(key.namespace, {"kubernetes.io/metadata.name": key.namespace})
        for key in workloads
    }
    return Inventory(
        namespaces=dict(sorted(spaces.items())),
        workloads=dict(sorted(workloads.items())),
        pods=dict(sorted(pods.items())),
    )
