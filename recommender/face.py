"""What analysts import: a store, and frames of what it shows.

    from recommender import open_store, edges, roles, window, propose, diff

    store = open_store("out/store", inventory="inventory.yaml")
    edges(store)            # who talks to whom
    roles(store)            # who behaves alike
    window(store).bins      # was it watched long enough
    proposals = propose(store)
    diff(store, proposals).lost

Frames are Arrow-backed: what is missing is null, counts are whole numbers, instants are UTC. Names
come from logs; pandas shows them as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa

from recommender.decisions import read_decisions
from recommender.dialects.writers import Form, writer
from recommender.diff import diff as compare
from recommender.frames import Row, records
from recommender.policies import PolicySet, in_force, read_policies
from recommender.propose import Scope, named
from recommender.rarefaction import Curve
from recommender.rarefaction import curve as curve_of
from recommender.recommend import Recommendation, recommendation
from recommender.report import files, patterns
from recommender.report.changes import changed, intervals
from recommender.watch import Watched, watch, window_of

Paths = str | Path | Sequence[str | Path]


def open_store(
    path: str | Path,
    *,
    inventory: Paths = (),
    cluster: str | None = None,
    decisions: str | Path | None = None,
) -> Watched:
    """Read a store that `flowpolicy ingest` wrote, and judge its edges.

    Args:
        path: folder or object-store address of the store.
        inventory: files or folders of Kubernetes objects; without any, what the flows tell.
        cluster: which one, where the store holds several.
        decisions: the file that `flowpolicy decide` writes.

    Returns:
        What the other functions here take.

    Raises:
        StoreError: there is no store, it is damaged, or holds several clusters and none is named.
        InventoryError: an inventory path cannot be read.
        DecisionError: the decisions cannot be read.
    """
    chosen = () if decisions is None else read_decisions(decisions)
    return watch(path, _paths(inventory), cluster=cluster, decisions=chosen, in_force=True)


def edges(store: Watched) -> pd.DataFrame:
    """Who talks to whom: one row per client, server, protocol and server port, over all hours.

    Returns:
        `client`, `server`: `namespace/name`, or an address; `client_type`, `server_type`: workload,
        node, apiserver, address, ...; `protocol`; `port`: null where the protocol has none;
        `class`: wanted, review, denied, rejected or ignored; `pattern`: core, rare or ask, null
        where not wanted; `reason`: one sentence; `score`: large is suspicious, null where it was
        never taken for wanted; `connections`: from one end only; `hours`, `days`: in which it was
        seen; `first_seen`, `last_seen`: instants.
    """
    rows = [
        {
            "client": named(row, "client"),
            "server": named(row, "server"),
            **{name: row[name] for name in _EDGE},
        }
        for row in records(store.edges)
    ]
    return _frame(rows, ("client", "server", *_EDGE))


_EDGE = (
    *("client_type", "server_type", "protocol", "port", "class", "pattern", "reason", "score"),
    *("connections", "hours", "days", "first_seen", "last_seen"),
)


def roles(store: Watched) -> pd.DataFrame:
    """Who behaves alike: one row per end.

    Returns:
        `role`: its number; `member`: `namespace/Kind/name`, or an address; `members`: how many
        play the role, 1 for who is alone; `does`: what explains the role, null where nothing does;
        `odd`: what this member does and most of its role do not, null where there is no such thing.
    """
    rows = []
    for role in patterns.role_rows(store.meaning.roles):
        does = "; ".join(token["does"] for token in role["tokens"]) or None
        odd: dict[str, list[str]] = {}
        for one in role["odd"]:
            odd.setdefault(one["member"], []).append(one["does"])
        rows += [
            {
                "role": role["role"],
                "member": member,
                "members": len(role["members"]),
                "does": does,
                "odd": "; ".join(odd.get(member, ())) or None,
            }
            for member in role["members"]
        ]
    return _frame(rows, ("role", "member", "members", "does", "odd"))


class _Shown:
    """Frames with a name each, shown one below the other in a notebook."""

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{escape(str(self).splitlines()[0])}</b></p>"]
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, pd.DataFrame):
                parts.append(f"<p>{field.name}: {len(value):,} rows</p>")
                parts.append(value.head(20).to_html(index=False))
        return "\n".join(parts)


@dataclass(frozen=True)
class WindowShown(_Shown):
    """Was it watched long enough: `ready`, `wait` (`until` then) or `can't tell`, and `why`.

    bins: one row per width: `width_h`, `bins`, `edges`, `uniques` and `duplicates` (edges seen in
        one and two bins), `edges_at_least` with `edges_low` and `edges_high`, `coverage` with
        `coverage_low`, `novelty` (chance of a new edge in the next bin), `days_needed`.
    curve: one row per number of days: `days`, `edges` seen on average, `low` and `high` (95 %, null
        beyond the window), `foretold` (beyond it). No row where fewer than two days have traffic.
    workloads: one row each: `workload`, `edges`, `days`, `uniques`, `coverage`, `word`, `why`,
        `until` (null unless it is to wait for something).
    """

    word: str
    why: tuple[str, ...]
    until: datetime | None
    bins: pd.DataFrame
    curve: pd.DataFrame
    workloads: pd.DataFrame

    def __str__(self) -> str:
        until = "" if self.until is None else f" until {self.until:%Y-%m-%d %H:%M} UTC"
        return f"watched long enough: {self.word}{until}: {'; '.join(self.why)}"


def window(store: Watched) -> WindowShown:
    """Whether it was watched long enough, with the figures behind the word."""
    found = window_of(store)
    bins = []
    for one in patterns.window_fields(found)["bins"]:
        low, high = one["edges_interval"]
        told = {name: one[name] for name in _BIN[:6]}
        rest = {name: one[name] for name in ("coverage", "coverage_low", "days_needed")}
        bins.append(
            {**told, "edges_low": low, "edges_high": high, **rest, "novelty": one["novelty"][0]}
        )
    return WindowShown(
        word=found.word.word,
        why=found.word.why,
        until=found.word.until,
        bins=_frame(bins, _BIN),
        curve=_curve(curve_of(store.edges, store.meaning.seen)),
        workloads=_frame(records(found.workloads), list(found.workloads.columns)),
    )


_BIN = (
    *("width_h", "bins", "edges", "uniques", "duplicates", "edges_at_least"),
    *("edges_low", "edges_high", "coverage", "coverage_low", "novelty", "days_needed"),
)


def _curve(found: Curve | None) -> pd.DataFrame:
    points = () if found is None else found.points
    names = ("days", "edges", "low", "high", "foretold")
    return _frame([asdict(point) for point in points], names)


@dataclass(frozen=True)
class Proposals(_Shown):
    """Policies with their evidence.

    rules: one row per rule: `namespace`, `policy`, `direction`, `peers`, `ports`, `connections`
        (from one end only), `days` and `hours` (of the edge that has most), `first_seen`,
        `last_seen`, `reporters`. A direction without a row is isolated without exception.
    surplus: what is permitted beyond what was seen: `client`, `server`, `protocol`, `ports`, `why`.
    review: the edges that wait for a decision, as `edges` has them.
    yaml: the text of each policy, by its file name.
    """

    rules: pd.DataFrame
    surplus: pd.DataFrame
    review: pd.DataFrame
    yaml: dict[str, str]
    found: Recommendation

    def __str__(self) -> str:
        replayed, denied = self.found.replayed, len(self.found.denied)
        return (
            f"{len(self.yaml)} policies with {len(self.rules)} rules; {replayed - denied} of "
            f"{replayed} wanted edges replayed and allowed"
        )


def propose(
    store: Watched,
    *,
    dialect: Literal["kubernetes", "cilium", "calico"] = "kubernetes",
    namespaces: Iterable[str] = (),
) -> Proposals:
    """The least policies that keep the wanted edges working, checked by replaying these.

    Args:
        store: what `open_store` returns.
        dialect: of the policies.
        namespaces: propose for these only; for all where none is named.
    """
    found = recommendation(store, Scope(frozenset(namespaces)), writer(dialect, Form()))
    rules = [
        {
            "namespace": policy["namespace"],
            "policy": policy["name"],
            "direction": rule["direction"],
            "peers": ", ".join(rule["peers"]),
            "ports": ", ".join(rule["ports"]),
            **{name: rule["evidence"][name] for name in _EVIDENCE[:-1]},
            "reporters": ", ".join(rule["evidence"]["reporters"]),
        }
        for policy in files.as_dict(found)["policies"]
        for rule in policy["rules"]
    ]
    surplus = [
        {
            "client": one.client,
            "server": one.server,
            "protocol": one.protocol,
            "ports": intervals(one.ports),
            "why": one.why,
        }
        for one in found.surplus
    ]
    all_edges = edges(store)
    return Proposals(
        rules=_frame(rules, ("namespace", "policy", "direction", "peers", "ports", *_EVIDENCE)),
        surplus=_frame(surplus, ("client", "server", "protocol", "ports", "why")),
        review=all_edges[all_edges["class"] == "review"].reset_index(drop=True),
        yaml={str(path): text for path, text in files.policy_texts(found).items()},
        found=found,
    )


_EVIDENCE = ("connections", "days", "hours", "first_seen", "last_seen", "reporters")


@dataclass(frozen=True)
class Changes(_Shown):
    """What changes between two sets of policies.

    objects: `change` (added, removed, changed, rewritten, renamed), `kind`, `name`.
    gained, lost: connections that become possible, or are closed: `client`, `server`, `protocol`,
        `ports`.
    flows: observed edges whose verdict changes: `client`, `server`, `protocol`, `port`, `class`,
        `before`, `after` (true, false, null where it cannot be told), `connections`.
    """

    objects: pd.DataFrame
    gained: pd.DataFrame
    lost: pd.DataFrame
    flows: pd.DataFrame

    def __str__(self) -> str:
        return (
            f"{len(self.objects)} objects, {len(self.gained)} connections gained, "
            f"{len(self.lost)} lost, {len(self.flows)} observed edges change their verdict"
        )


Policies = Paths | Proposals


def diff(store: Watched, new: Policies, old: Policies | None = None) -> Changes:
    """What changes from the old policies to the new ones, over the store's cluster and edges.

    Args:
        store: what `open_store` returns.
        new: what `propose` returns, or files or folders of policies.
        old: likewise; the policies of the inventory unless given.

    Raises:
        InventoryError: a path cannot be read.
        PolicyError: a path holds nothing but broken documents.
    """
    before = in_force(store.inventory) if old is None else _policies(store, old)
    found = compare(before, _policies(store, new), store.inventory, store.edges, told=store.known)
    ends = ("client", "server", "protocol")
    gained, lost = (
        [
            {"client": r.src, "server": r.dst, "protocol": r.protocol, "ports": intervals(r.ports)}
            for r in rows
        ]
        for rows in (found.gained, found.lost)
    )
    flows = [
        {
            **{name: getattr(flow, name) for name in (*ends, "port", "connections")},
            "class": flow.class_,
            "before": flow.old,
            "after": flow.new,
        }
        for flow in found.flows or ()
    ]
    objects = [
        {"change": one.change, "kind": one.kind, "name": one.name} for one in changed(found.objects)
    ]
    return Changes(
        objects=_frame(objects, ("change", "kind", "name")),
        gained=_frame(gained, (*ends, "ports")),
        lost=_frame(lost, (*ends, "ports")),
        flows=_frame(flows, (*ends, "port", "class", "before", "after", "connections")),
    )


def _policies(store: Watched, given: Policies) -> PolicySet:
    if isinstance(given, Proposals):
        return files.proposed(given.found)
    return read_policies(_paths(given), store.inventory, may_be_empty=True)


def _paths(given: Paths) -> list[str | Path]:
    return [given] if isinstance(given, str | Path) else list(given)


def _frame(rows: Sequence[Row], columns: Iterable[str]) -> pd.DataFrame:
    """Arrow-backed, so that a missing number stays missing and the others stay whole."""
    arrays = {name: pa.array([row[name] for row in rows]) for name in columns}
    return pd.DataFrame({k: pd.arrays.ArrowExtensionArray(v) for k, v in arrays.items()})
