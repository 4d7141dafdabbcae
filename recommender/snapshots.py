"""Snapshots of a cluster that add up in a store: what lived in the window stays known.

    STORE/inventory/<cluster>.json    every object, with the first and last snapshot it was in

The last snapshot is what the cluster is. Of earlier ones stay nodes, Jobs, and those pods that came
and went with no Deployment or the like behind them: so a Job's pod of last Tuesday is known in the
flows of last Tuesday. A replica of a Deployment needs no memory, its name and labels tell; and what
was removed for good is not remembered, for no policy could select it. What has gone has no address
any more, where another may have it now.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ingest.store import Store, open_store
from recommender.errors import InventoryError
from recommender.manifests import Manifest
from recommender.owners import fields, owners_of, rows, workload_of

SCHEMA = "flowpolicy/inventory/1"
_STAYS = frozenset({"Pod", "Job", "Node"})
_REPLICATED = frozenset(
    {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController"}
)
Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """An object and the instants (UTC, ISO 8601) of the first and last snapshot that it was in."""

    first: str
    last: str
    body: dict[str, Any]

    @property
    def key(self) -> Key:
        """API group, kind, namespace and name."""
        meta = self.body["metadata"]
        group = str(self.body["apiVersion"]).rpartition("/")[0]
        return group, str(self.body["kind"]), str(meta.get("namespace") or ""), str(meta["name"])


def added(
    earlier: Iterable[Seen], manifests: Sequence[Manifest], now: datetime, keep_days: int
) -> tuple[Seen, ...]:
    """The objects of a snapshot taken `now`, and what stays of earlier ones; sorted by key."""
    at = _text(now)
    before = {seen.key: seen for seen in earlier}
    living = {seen.key: seen for seen in (Seen(at, at, m.body) for m in manifests)}
    for key, seen in living.items():
        if key in before:
            living[key] = Seen(before[key].first, at, seen.body)
    oldest = _text(now - timedelta(days=keep_days))
    gone = {
        key: seen
        for key, seen in before.items()
        if key not in living and key[1] in _STAYS and seen.last >= oldest
    }
    taken = frozenset(at for seen in living.values() for at in _addresses(seen.body))
    for key in gone.keys() - _forgotten(living, gone):
        seen = gone[key]
        living[key] = Seen(seen.first, seen.last, _departed(seen.body, taken))
    return tuple(seen for _, seen in sorted(living.items()))


def _forgotten(living: Mapping[Key, Seen], gone: Mapping[Key, Seen]) -> set[Key]:
    """Pods and Jobs that have gone and are not remembered: replicas, and what was removed."""
    by_kind: dict[str, list[Manifest]] = {}
    for seen in (*living.values(), *gone.values()):
        by_kind.setdefault(str(seen.body["kind"]), []).append(Manifest("", seen.body))
    owners = owners_of(by_kind)
    alive = {key[1:] for key in living}
    found = set()
    for key, seen in gone.items():
        if key[1] == "Node":
            continue
        top = workload_of(seen.body, owners)
        removed = top.kind == "CronJob" and (top.kind, top.namespace, top.name) not in alive
        if removed or top.kind in _REPLICATED:
            found.add(key)
    return found


def _addresses(body: Mapping[str, Any]) -> set[str]:
    """Addresses of a pod or node, as written."""
    status = fields(body, "status")
    own = {status.get("podIP"), *(row.get("ip") for row in rows(status, "podIPs"))}
    return {str(a) for a in own | {row.get("address") for row in rows(status, "addresses")} if a}


def _departed(body: dict[str, Any], taken: frozenset[str]) -> dict[str, Any]:
    """An object that has gone: a pod without addresses, a node without those of the living."""
    if body["kind"] == "Pod":
        status = {k: v for k, v in fields(body, "status").items() if k not in ("podIP", "podIPs")}
        return {**body, "status": status}
    if body["kind"] == "Node":
        left = [row for row in rows(body, "status", "addresses") if row.get("address") not in taken]
        meta = {k: v for k, v in fields(body, "metadata").items() if k != "annotations"}
        return {**body, "metadata": meta, "status": {"addresses": left}}
    return body


def read_snapshots(store: Store, cluster: str) -> tuple[Seen, ...]:
    """What the snapshots in a store say of a cluster; nothing where there is none.

    Raises:
        InventoryError: the file is damaged.
    """
    path = _path(cluster)
    data = store.read(path)
    if data is None:
        return ()
    try:
        found = json.loads(data)
        if found["schema"] != SCHEMA:
            raise InventoryError(
                f"{store.path}/{path}: of the schema {found['schema']!r}, which this flowpolicy "
                "does not read; install a newer one"
            )
        return tuple(Seen(one["first"], one["last"], one["body"]) for one in found["objects"])
    except (ValueError, KeyError, TypeError) as error:
        raise InventoryError(
            f"{store.path}/{path}: damaged; remove it and take a snapshot again"
        ) from error


def write_snapshots(store: Store, cluster: str, seen: Sequence[Seen]) -> None:
    """Keep them in the store, in place of what was there."""
    objects = [{"first": one.first, "last": one.last, "body": one.body} for one in seen]
    lines = ",\n".join(json.dumps(one, sort_keys=True) for one in objects)
    text = f'{{"schema": "{SCHEMA}", "objects": [\n{lines}\n]}}\n'
    store.write(_path(cluster), text.encode())


def add_snapshot(
    store: Store, cluster: str, manifests: Sequence[Manifest], now: datetime, keep_days: int
) -> int:
    """Add the objects of a snapshot taken `now` to what a store knows; how many it knows then.

    Raises:
        InventoryError: what the store has is damaged.
    """
    seen = added(read_snapshots(store, cluster), manifests, now, keep_days)
    write_snapshots(store, cluster, seen)
    return len(seen)


def snapshot_objects(path: str | Path, cluster: str | None = None) -> list[Manifest]:
    """The objects that the snapshots in a store know, of the one cluster that it has them of.

    Raises:
        StoreError: no store.
        InventoryError: it has no snapshot, or of several clusters and none is named.
    """
    store = open_store(path)
    names = [unquote(name.removesuffix(".json")) for name in store.names("inventory")]
    if cluster is None and len(names) > 1:
        raise InventoryError(
            f"{path}: has snapshots of the clusters {', '.join(names)}; choose one, as in "
            f"snapshots:{path}#{names[0]}"
        )
    data = read_snapshots(store, cluster or (names[0] if names else "default"))
    if not data:
        raise InventoryError(
            f"{path}: has no snapshot of this cluster; take one with `flowpolicy snapshot --store`"
        )
    return [Manifest(f"snapshot {seen.last} {'/'.join(seen.key[1:])}", seen.body) for seen in data]


def _path(cluster: str) -> str:
    return f"inventory/{quote(cluster, safe='')}.json"


def _text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
