"""What the page shows, as plain values: ends, edges, policies, window, changes, review.

Columns in place of objects, texts named once, so that a page of 1,000 workloads stays small.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np

from recommender.connectivity import Connections, beyond, counted
from recommender.decisions import is_sayable
from recommender.diff import ObjectChange, evaluators, object_changes
from recommender.evaluate import Evaluator
from recommender.findings import remarks
from recommender.frames import Row, of_class, records
from recommender.model import Remark
from recommender.policies import PolicySet
from recommender.propose import Proposal, exact_name, named
from recommender.rarefaction import Curve, curve
from recommender.recommend import Recommendation
from recommender.replay import replay
from recommender.report import files
from recommender.report.changes import changed, intervals

MOST_CONNECTIONS = 2_000  # gained, and lost: the rest is counted
_MOST_TEXT = 20_000  # characters of one object's diff
_EDGE = (
    *("client", "server", "protocol", "port", "class", "pattern", "reason", "score"),
    *("connections", "hours", "days_seen", "first", "last", "before", "after"),
    *("outside_client", "outside_server", "decide", "sayable"),
)
# What a shell takes as one word without quotes, and `decide` for an end.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")


@dataclass(frozen=True)
class Judged:
    """The policies in force and the proposals as they judge the edges, and what changes.

    `objects` are without the text of those that are added; `remarks` are on the policies in force.
    """

    before: Evaluator
    after: Evaluator
    objects: tuple[ObjectChange, ...]
    gained: Connections
    lost: Connections
    remarks: tuple[Remark, ...]
    what: str


def judged(old: PolicySet, found: Recommendation, what: str) -> Judged:
    """What the proposals change against the policies in force, `what` saying which these are."""
    watched, new = found.watched, files.proposed(found)
    staged = any(policy.staged for policy in found.policies)
    before, after = evaluators(old, new, watched.inventory, told=watched.known, staged=staged)
    seen = of_class(watched.edges, "wanted", "review", "denied")
    return Judged(
        before=before,
        after=after,
        # What is added stands among the policies already.
        objects=tuple(object_changes(old, new, text_of_added=False)),
        gained=_more(after, before),
        lost=_more(before, after),
        remarks=tuple(remarks(before, seen)),
        what=what,
    )


def _more(one: Evaluator, other: Evaluator) -> Connections:
    """What one permits and the other does not."""
    return counted(beyond(one.matrix, other.matrix), one.ends, "workload")


def page_data(found: Recommendation, against: Judged) -> dict[str, Any]:
    """All of the page's data.

    Args:
        found: the proposals with the edges that they were made of.
        against: what `judged` makes of them.
    """
    rows = records(found.watched.edges)
    told, texts = files.as_dict(found), files.policy_texts(found)
    ends = _Ends(rows, found)
    first, days, masks = _days(found)
    verdicts = [_verdicts(judge, rows) for judge in (against.before, against.after)]
    reasons: dict[str, int] = {}
    lines = []
    for i, row in enumerate(rows):
        reason = reasons.setdefault(str(row["reason"]), len(reasons))
        known = (masks[i], *(verdict.get(i) for verdict in verdicts))
        lines.append(_edge(row, ends, reason, known))
    return {
        "schema": "flowpolicy/report/v1",
        "about": _about(told),
        "first_day": first,
        "days": days,
        "ends": ends.rows(),
        "edges": {"columns": list(_EDGE), "rows": lines},
        "reasons": list(reasons),
        "rule_columns": ["direction", "peers", "ports", *_EVIDENCE],
        "policies": [
            {
                **policy,
                "rules": [_rule(rule) for rule in policy["rules"]],
                "directions": sorted(proposal.policy.isolates),
                "yaml": texts.get(files.proposal_path(proposal), ""),
            }
            for policy, proposal in zip(told["policies"], found.proposals, strict=True)
        ],
        "roles": [_role(role) for role in told["roles"]],
        "window": told["window"],
        "curve": _curve(curve(found.watched.edges, found.watched.meaning.seen)),
        "replay": {"edges": told["replay"]["edges"], "allowed": told["replay"]["allowed"]},
        "surplus": told["surplus"],
        "changes": _changes(against),
    }


def _about(told: Mapping[str, Any]) -> Row:
    return {
        "cluster": told["cluster"],
        "inventory": told["inventory"],
        "first_seen": told["window"]["first_seen"],
        "last_seen": told["window"]["last_seen"],
        "word": told["window"]["word"],
        "version": version("flowpolicy"),
    }


class _Ends:
    """The ends of the map: workloads, and outside peers, of which those that do the same are one.

    A place in the list for each end of each edge.
    """

    def __init__(self, rows: Sequence[Row], found: Recommendation) -> None:
        self._found = found
        self._alike = _alike(rows)
        self._place: dict[str, int] = {}
        self._members: dict[str, dict[str, None]] = defaultdict(dict)
        self._first: dict[str, Row] = {}
        for key, workload in found.watched.inventory.workloads.items():
            name = f"{key.namespace}/{key.kind}/{key.name}"
            if not workload.host_network:
                parts = {"namespace": key.namespace, "kind": key.kind, "name": key.name}
                self._add(name, {"type": "workload", "address": None, **parts})
        for row in rows:
            for role in ("client", "server"):
                end = {part: row[f"{role}_{part}"] for part in _PARTS}
                self._add(self._name(row, role), end)

    def _add(self, name: str, end: Row) -> None:
        self._place.setdefault(name, len(self._place))
        self._first.setdefault(name, end)
        if end["type"] != "workload" and end["address"] is not None:
            self._members[name][str(end["address"])] = None

    def _name(self, row: Row, role: str) -> str:
        own = _own_name(row, role)
        return self._alike.get(own, own)

    def place(self, row: Row, role: str) -> int:
        """Where one end of the edge stands in the list."""
        return self._place[self._name(row, role)]

    def rows(self) -> list[Row]:
        """The list: one row an end."""
        found = self._found
        words = {row["workload"]: row for row in records(found.window.workloads)}
        policy = _policy_of(found.proposals)
        names = _names_of(found.watched.names)
        return [
            {
                "name": name,
                "label": self._label(name, names),
                "type": _kind(self._first[name]["type"]),
                "namespace": self._first[name]["namespace"],
                "kind": self._first[name]["kind"] or self._first[name]["type"],
                "addresses": _named_addresses(self._members[name], names),
                "role": found.watched.meaning.roles.of.get(name),
                "word": words.get(name, {}).get("word"),
                "why": words.get(name, {}).get("why"),
                "policy": policy.get(name),
            }
            for name in self._place
        ]

    def _label(self, name: str, names: Mapping[str, str]) -> str:
        first, members = self._first[name], self._members[name]
        if first["type"] == "workload":
            return str(first["name"])
        if len(members) > 1:
            return f"{len(members)} {_PLURALS.get(first['type'], 'addresses')}"
        address = next(iter(members), None)
        return str(first["name"] or names.get(str(address)) or address or first["type"])


_PARTS = ("type", "namespace", "kind", "name", "address")
_PLURALS = {"node": "nodes", "host": "nodes"}
_TYPES = ("workload", "address", "node", "apiserver", "host", "ingress")


def _kind(type_: str) -> str:
    return type_ if type_ in _TYPES else "other"


def _own_name(row: Row, role: str) -> str:
    if row[f"{role}_type"] == "workload":
        return exact_name(row, role)
    return f"{row[f'{role}_type']}:{row[f'{role}_address'] or named(row, role)}"


def _alike(rows: Sequence[Row]) -> dict[str, str]:
    """One name for outside peers of a type that are the same to the same ends, for one reason."""
    does: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    types: dict[str, str] = {}
    for row in rows:
        for role, other in (("client", "server"), ("server", "client")):
            if row[f"{role}_type"] != "workload":
                own = _own_name(row, role)
                types[own] = str(row[f"{role}_type"])
                does[own].add((role, _own_name(row, other), row["class"], row["reason"]))
    groups: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for own, what in does.items():
        groups[types[own], frozenset(what)].append(own)
    return {own: min(group) for group in groups.values() for own in group}


def _policy_of(proposals: Sequence[Proposal]) -> dict[str, int]:
    return {
        f"{key.namespace}/{key.kind}/{key.name}": i
        for i, proposal in enumerate(proposals)
        for key in proposal.workloads
    }


def _names_of(seen: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """A DNS name for each address, the first by name."""
    found: dict[str, str] = {}
    for name, addresses in sorted(seen.items()):
        for address in addresses:
            found.setdefault(address, name)
    return found


def _named_addresses(members: Iterable[str], names: Mapping[str, str]) -> list[str]:
    return [f"{one} ({names[one]})" if one in names else one for one in sorted(members)]


def _days(found: Recommendation) -> tuple[int, int, list[str]]:
    """The first day since the epoch, how many there are, and each edge's days as a bit mask."""
    seen = found.watched.meaning.seen
    day = seen["hour"].to_numpy(np.int64) // 24
    masks = [0] * len(found.watched.edges)
    if not len(day):
        return 0, 1, ["0"] * len(masks)
    first = int(day.min())
    for edge, one in zip(seen["edge"].tolist(), (day - first).tolist(), strict=True):
        masks[edge] |= 1 << one
    return first, int(day.max()) - first + 1, [f"{mask:x}" for mask in masks]


def _verdicts(judge: Evaluator, rows: Sequence[Row]) -> dict[int, bool | None]:
    """The verdict on each edge that can be judged, by its place."""
    numbered = [{**row, "place": i} for i, row in enumerate(rows) if row["class"] != "ignored"]
    return {int(r.row["place"]): r.verdict.allow for r in replay(judge, numbered)}


def _edge(row: Row, ends: _Ends, reason: int, known: tuple[object, ...]) -> list[Any]:
    mask, before, after = known
    decide = decide_words(row) if row["class"] == "review" else None
    return [
        ends.place(row, "client"),
        ends.place(row, "server"),
        row["protocol"],
        row["port"],
        row["class"],
        row["pattern"],
        reason,
        row["score"],
        row["connections"],
        row["hours"],
        mask,
        int(row["first_seen"].timestamp()),
        int(row["last_seen"].timestamp()),
        before,
        after,
        row["client_address"] if row["client_type"] != "workload" else None,
        row["server_address"] if row["server_type"] != "workload" else None,
        decide,
        is_sayable(row),
    ]


def decide_words(row: Row) -> str | None:
    """The options of `flowpolicy decide` for an edge; null where they cannot name both its ends.

    A name from a log that is more than letters, digits and `._:/-` makes no command at all: such
    names are no Kubernetes names, and what is copied goes into a shell.
    """
    words = []
    for role in ("client", "server"):
        known = row[f"{role}_type"] == "workload" or row[f"{role}_address"] is not None
        end = exact_name(row, role)
        if not known or not _PLAIN.fullmatch(end):
            return None
        words += [f"--{role}", end]
    words += ["--protocol", str(row["protocol"])] if row["protocol"] is not None else []
    words += ["--port", str(row["port"])] if row["port"] is not None else []
    return shlex.join(words)


_EVIDENCE = ("connections", "days", "hours", "first_seen", "last_seen", "reporters")


def _rule(rule: Row) -> list[Any]:
    return [rule["direction"], rule["peers"], rule["ports"], *map(rule["evidence"].get, _EVIDENCE)]


def _role(role: Mapping[str, Any]) -> Row:
    members = role["members"]
    title = members[0] if len(members) == 1 else f"{members[0]} and {len(members) - 1} more"
    tokens = [f"{t['does']} ({t['members']} of {len(members)})" for t in role["tokens"]]
    return {"role": role["role"], "members": len(members), "title": title, "tokens": tokens}


def _curve(found: Curve | None) -> Row | None:
    if found is None:
        return None
    points = [asdict(point) for point in found.points]
    for point in points:
        for name in ("edges", "low", "high"):
            point[name] = None if point[name] is None else round(point[name], 2)
    bound = found.bound
    rounded = {"bound": bound.edges, "bound_low": bound.low, "bound_high": bound.high}
    return {"points": points, **{name: round(value, 2) for name, value in rounded.items()}}


def _changes(against: Judged) -> Row:
    return {
        "what": against.what,
        "objects": [
            {"kind": one.kind, "name": one.name, "change": one.change, "text": _cut(one.text)}
            for one in changed(against.objects)
        ],
        "gained": _connections(against.gained),
        "lost": _connections(against.lost),
        "findings": [f"{one.ref}: {one.topic}: {one.message}" for one in against.remarks],
    }


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}\n(cut here)"


def _connections(found: Connections) -> Row:
    first = islice(found, MOST_CONNECTIONS)
    rows = [[row.src, row.dst, f"{row.protocol} {intervals(row.ports)}"] for row in first]
    return {"count": found.count, "rows": rows, "by_end": found.by_end}
