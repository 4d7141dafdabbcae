"""Edges that must not silently become rules: gates, each with one sentence, and a score.

In a short window frequency says nothing, so a rare edge that was delivered is kept and marked; it
waits for a decision only where a gate gives a reason. What no statistic catches: a beacon that was
there the whole window, from a workload that is alone in its role. The catalogue names those.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binom

from recommender.roles import Calls, Floats, Ints, calls, named_ends, sorted_set

Bools = npt.NDArray[np.bool_]

# One client that meets so many targets in one hour and never again is looking around.
_SCAN_TARGETS = 10
_SCAN_TIMES = 3  # and so many times what its role does at its busiest
_ONE_OFF_CONNECTIONS = 10
_ONE_OFF_DAYS = 7  # a week holds each hour of the working week once
_BEFORE_SCAN_H = 72
_SUPPORT = 2.0  # bins of others: one alone may be another attack
# A role does what half of it does: roles are found, not given, and may hold strangers.
_USUAL = 0.5
# Levels of the tests that a role passes to vouch for who never did it otherwise: that most do it is
# to be shown, of clients as two of two others show it; that all would is to be refuted, which one
# honest block in a hundred is by chance.
_MOST_DO, _TWO_DO, _ALL_WOULD = 0.05, 0.25, 0.01
# So much of the window's hours, and of the nodes, is what a metrics server does and a probe is not.
_REGULAR = 0.5
_EXFILTRATION_Z, _LEAST_SPREAD, _COMPARED = 6.0, 0.25, 5
_RUNS_SELDOM = ("CronJob", "Job")
# Ports that rule a cluster, where a node listens on them (kubernetes.io/docs/reference/
# networking/ports-and-protocols).
_CONTROL = {
    10250: "the kubelet's port runs commands in every pod of its node",
    2379: "etcd holds the cluster's state, secrets included",
    2380: "etcd holds the cluster's state, secrets included",
}
_API_PORT = 6443
_OUTSIDE = -1


@dataclass(frozen=True)
class _Seen:
    """Wanted edges as numbers, one value an edge: what the gates look at."""

    rows: pd.DataFrame
    calls: Calls
    span_h: int  # hours of the whole window
    hours: Ints
    first: Ints
    scanned: Bools
    others: Floats  # what supports the edge; scans support nothing
    alike: Floats  # the same, each outside server by itself
    usual: Bools  # enough of its client's role do it, to enough of its server's role
    steady: Bools  # the client is no new one: it calls or is called in more than one bin


def judged(
    edges: pd.DataFrame,
    sightings: pd.DataFrame,
    roles: Mapping[str, int],
    *,
    contradicted: Collection[int] = (),
    nodes: int = 0,
) -> pd.DataFrame:
    """Give every edge its pattern and score, and take from the wanted those that a gate stops.

    Args:
        edges: what `classify.classified` returns.
        sightings: one row per (`edge`: position in `edges`, `hour`: hours since the epoch).
        roles: the role of each end by name, learnt from edges seen in two bins or more.
        contradicted: positions of edges that a policy in force denies, whatever the log says.
        nodes: of the cluster; 0 where unknown, then those that the edges name.

    Returns:
        `edges` with `class` review and a `reason` where a gate stops an edge, and the columns
        `pattern`: `core`, `rare` (few bins, nothing against it), `ask` (learned, but it reaches
        the control plane), null where the class is not wanted; and `score`: large is suspicious,
        null where the class was not wanted.
    """
    out = edges.copy()
    wanted = np.flatnonzero((edges["class"] == "wanted").to_numpy())
    pattern = np.full(len(edges), None, object)
    score = np.full(len(edges), None, object)
    if len(wanted):
        seen = _seen(edges, sightings, wanted, roles)
        score[wanted] = np.round(scores(seen.calls.client, seen.hours, seen.alike), 4)
        reasons = _reasons(edges, sightings, seen, np.isin(wanted, list(contradicted)), nodes)
        stopped = np.array([reason is not None for reason in reasons])
        out.loc[out.index[wanted[stopped]], "class"] = "review"
        out.loc[out.index[wanted[stopped]], "reason"] = [r for r in reasons if r is not None]
        pattern[wanted[~stopped]] = _patterns(seen)[~stopped]
    # As objects: pandas would make texts a string column with NaN for null.
    out["pattern"] = pd.Series(pattern, out.index, dtype=object)
    out["score"] = pd.Series(score, out.index, dtype=object)
    return out


def support(found: Calls, hours: Ints, roles: Ints, vouching: Bools) -> Floats:
    """Bins in which others do what an edge does: its block, without what says nothing of it.

    Left out are the edge itself, the edges of its client that were seen in one bin only, and
    those that are not `vouching`. Source: methods.md section 2b.
    """
    ports = max(len(found.ports), 1)
    _, code = np.unique(roles, return_inverse=True)
    block = (code[found.client] * (code.max() + 1) + code[found.server]) * ports + found.port
    _, block = np.unique(block, return_inverse=True)
    told = hours * vouching
    alone = (hours == 1) & vouching
    _, own = np.unique(block * len(found.ends) + found.client, return_inverse=True)
    once = np.bincount(own, weights=alone)[own] - alone
    return np.asarray(np.bincount(block, weights=told)[block] - told - once, np.float64)


def usual(found: Calls, roles: Ints, vouching: Bools, seldom: float) -> Bools:
    """Whether what an edge does is usual for both roles, told by vouching edges of its block.

    At each end, this very one must take part in the block with enough of its role. Who never did
    so needs a role that does it as one: two others, and no more that lack it than the `seldom`
    share of all edges, those that are seen in one bin only, makes of chance (a binomial test).
    Else the role is of two minds, and this end may be a stranger in it; as may one that does
    only what everybody does. Few refute nothing, so most must be shown to do so (a sign test); a
    new server is what an intruder would choose: for it that must be sure.
    """
    ports, ends = max(len(found.ports), 1), len(found.ends)
    named, code = np.unique(roles, return_inverse=True)
    size = np.bincount(code)
    key = (code[found.client] * len(size) + code[found.server]) * ports + found.port
    blocks, block = np.unique(key, return_inverse=True)
    enough, faceless = np.ones(len(found), bool), _does_what_all_do(found, code, vouching)
    for end, level in ((found.client, _TWO_DO), (found.server, _MOST_DO)):
        place, whole = block * ends + end, size[code[end]]
        taking = sorted_set(place[vouching])
        members = np.bincount(taking // ends, minlength=len(blocks))[block]
        itself = np.isin(place, taking) & (members >= _USUAL * whole)
        most = binom.sf(members - 1, whole - 1, 0.5) <= level
        others = (
            (members > 1) & most & (binom.sf(whole - members - 2, whole - 1, seldom) >= _ALL_WOULD)
        )
        enough &= itself | (others & ~faceless[end]) | (named[code[end]] == _OUTSIDE)
    return enough


def _does_what_all_do(found: Calls, code: Ints, vouching: Bools) -> Bools:
    """Which ends do nothing but what most ends of other roles do: their role is a guess.

    Args:
        found: calls.
        code: the role of each end, from 0 on.
        vouching: which calls count.
    """
    ports, ends, size = max(len(found.ports), 1), len(found.ends), np.bincount(code)
    does, telling = np.zeros(ends, bool), np.zeros(ends, bool)
    for end, other in ((found.client, found.server), (found.server, found.client)):
        done = sorted_set(((code[other] * ports + found.port) * ends + end)[vouching])
        deed, doer = done // ends, done % ends
        _, same, all_ = np.unique(deed, return_inverse=True, return_counts=True)
        own = deed * len(size) + code[doer]
        _, alike, of_role = np.unique(own, return_inverse=True, return_counts=True)
        strangers = all_[same] - of_role[alike]
        does[doer] = True
        telling[doer[strangers < _USUAL * (ends - size[code[doer]])]] = True
    return does & ~telling


def scores(client: Ints, hours: Ints, others: Floats) -> Floats:
    """Fan-out of the client's one-bin edges, less what supports the edge: large is suspicious."""
    fan = np.bincount(client, weights=hours == 1)[client]
    found: Floats = np.log1p(fan) - np.log1p(others) - np.log1p(hours)
    return found


def _seen(
    edges: pd.DataFrame, sightings: pd.DataFrame, wanted: Ints, roles: Mapping[str, int]
) -> _Seen:
    rows = edges.iloc[wanted]
    found = calls(rows)
    span_h = int(sightings["hour"].max() - sightings["hour"].min()) + 1
    when = sightings.groupby("edge")["hour"].agg(["size", "min"]).reindex(wanted, fill_value=0)
    hours = when["size"].to_numpy(np.int64, copy=True)
    first = when["min"].to_numpy(np.int64, copy=True)
    for mine in _runs(rows, found):  # a run of ports is one thing that a client does
        hours[mine] = sightings["hour"][sightings["edge"].isin(wanted[mine])].nunique()
        first[mine] = first[mine].min()
    more = np.zeros(len(found.ends), bool)
    for end in (found.client, found.server):
        more[end[hours > 1]] = True
    parts = _parts(rows, found, roles)
    # Two scanners of one role would vouch for each other, so one-bin edges wait their turn.
    scanned = _scans(found, hours, first, support(found, hours, parts, hours > 1), span_h)
    apart = _apart(rows, found, parts)
    return _Seen(
        rows,
        found,
        span_h,
        hours,
        first,
        scanned,
        support(found, hours, parts, ~scanned),
        support(found, hours, apart, ~scanned),
        usual(
            found,
            parts,
            ~scanned & (hours > 1),
            float((hours == 1)[~scanned].sum() / max((~scanned).sum(), 1)),
        ),
        more[found.client] | (rows["client_type"] != "workload").to_numpy(bool),
    )


def _runs(rows: pd.DataFrame, found: Calls) -> Iterator[Ints]:
    """The rows of each client's run of ports at a server."""
    within = np.flatnonzero(rows["run"].notna().to_numpy())
    keys = list(zip(found.client[within], found.server[within], found.port[within], strict=True))
    for mine in pd.Series(within).groupby(pd.Series(keys, dtype=object)).indices.values():
        yield within[mine]


def _parts(rows: pd.DataFrame, found: Calls, roles: Mapping[str, int]) -> Ints:
    """The role of each end; one for all that is no workload, and ends never met each their own."""
    known = max(roles.values(), default=0) + 1
    parts = [roles.get(end, known + i) for i, end in enumerate(found.ends)]
    labels = np.array(parts, np.int64)
    for role, codes in (("client", found.client), ("server", found.server)):
        labels[codes[(rows[f"{role}_type"] != "workload").to_numpy()]] = _OUTSIDE
    return labels


def _apart(rows: pd.DataFrame, found: Calls, parts: Ints) -> Ints:
    """The parts, but each outside server its own: nothing shows that two addresses are of a kind.

    Else two beacons of one role, each to an address of its own, would speak for each other.
    """
    outside = sorted_set(found.server[(rows["server_type"] == "address").to_numpy(bool)])
    labels = parts.copy()
    labels[outside] = parts.max() + 1 + np.arange(len(outside))
    return labels


def _reasons(
    edges: pd.DataFrame, sightings: pd.DataFrame, seen: _Seen, contradicted: Bools, nodes: int
) -> list[str | None]:
    """The first gate that stops each edge, as a sentence; null where none does."""
    reasons: list[str | None] = [None] * len(seen.rows)
    gates = (
        (contradicted, "a policy in force denies it, though the log shows it delivered"),
        *(
            (
                _at_node(seen, port) & ~_everywhere(seen, port, nodes),
                f"{why}; and it is seldom done",
            )
            for port, why in _CONTROL.items()
        ),
        (seen.scanned, "its client met ten or more targets in this hour, and none of them again"),
        (
            _after_scan(edges, sightings, seen),
            "it began after its client had scanned, and hardly anybody of its role does it",
        ),
        (
            _one_offs(seen),
            "seen in one hour only, and hardly anybody of its client's role does it",
        ),
        (_exfiltration(seen), "far more bytes a day go there than its role sends anywhere else"),
    )
    for stopped, reason in gates:
        for i in np.flatnonzero(stopped):
            reasons[i] = reasons[i] or reason
    return reasons


def _at_node(seen: _Seen, port: int) -> Bools:
    inside = seen.rows["server_type"].isin(["node", "host", "apiserver"])
    there = inside & (seen.rows["port"] == port) & (seen.rows["protocol"] == "TCP")
    found: Bools = there.to_numpy(bool)
    return found


def _everywhere(seen: _Seen, port: int, nodes: int) -> Bools:
    """Edges of clients that ask most nodes on this port in most hours, as a metrics server does.

    Policy must not break what a cluster runs on; such edges are kept and marked. A day at least
    must have been watched.
    """
    there = _at_node(seen, port)
    every = nodes or len(
        set(seen.rows["server_address"][seen.rows["server_type"].isin(["node", "host"])])
    )
    steadily = there & (seen.hours >= max(_REGULAR * seen.span_h, 24 * _REGULAR))
    met = np.bincount(seen.calls.client[steadily], minlength=len(seen.calls.ends))
    found: Bools = steadily & (met >= _REGULAR * max(every, 1))[seen.calls.client]
    return found


def _scans(found: Calls, hours: Ints, first: Ints, steady: Floats, span_h: int) -> Bools:
    """One-bin edges of clients that met too many such targets in one hour for themselves."""
    once = (hours == 1) & (steady == 0)
    _, group = np.unique(np.stack([found.client, first]), axis=1, return_inverse=True)
    targets = np.bincount(group, weights=once)[group]
    usual = np.zeros(len(found.ends))
    for client in np.unique(found.client[once & (targets >= _SCAN_TARGETS)]):
        each = np.bincount(group[(found.client == client) & (hours == 1)])
        each = np.sort(each[each > 0])[::-1]
        # The 99th percentile of its hours, those without a new target included.
        busier = int(span_h * 0.01) + 1
        usual[client] = each[busier] if busier < len(each) else 0
    # A scan may also meet what its role calls anyway; that is part of it all the same.
    many = targets >= np.maximum(_SCAN_TARGETS, _SCAN_TIMES * usual[found.client])
    scans: Bools = (hours == 1) & many
    return scans


def _after_scan(edges: pd.DataFrame, sightings: pd.DataFrame, seen: _Seen) -> Bools:
    """Edges without support that began once their client had scanned, three days or more in."""
    flagged = np.flatnonzero((edges["quiet_hours"] == 0).to_numpy())
    when = sightings.groupby("edge")["hour"].min().reindex(flagged).dropna()
    names = named_ends(edges.iloc[when.index.to_numpy(np.int64)], "client")
    began = pd.Series(when.to_numpy(), index=names).groupby(level=0).min().to_dict()
    scan = np.array([began.get(end, np.inf) for end in seen.calls.ends])[seen.calls.client]
    late = (seen.first >= scan) & (scan - int(sightings["hour"].min()) >= _BEFORE_SCAN_H)
    found: Bools = late & (seen.others < _SUPPORT)
    return found


def _one_offs(seen: _Seen) -> Bools:
    """One hour, few connections, nobody else; not in a short window, nor of what runs seldom."""
    if seen.span_h < _ONE_OFF_DAYS * 24:
        return np.zeros(len(seen.rows), bool)
    few = (seen.rows["connections"] <= _ONE_OFF_CONNECTIONS).to_numpy(bool)
    often = ~seen.rows["client_kind"].isin(_RUNS_SELDOM).to_numpy(bool)
    alone = (seen.others < _SUPPORT) | ~seen.usual
    found: Bools = (seen.hours == 1) & alone & seen.steady & few & often
    return found


def _exfiltration(seen: _Seen) -> Bools:
    """Outside addresses that one workload alone sends to, beyond a robust z of six on log bytes.

    z = 0.6745 (x - median) / MAD, x the log of bytes a day (methods.md section 2b; on logs, for
    volumes are heavy-tailed), against all outside addresses that the client sends to.
    """
    sent = pd.to_numeric(seen.rows["bytes_to_server"]).to_numpy(float, na_value=np.nan)
    got = pd.to_numeric(seen.rows["bytes_to_client"]).to_numpy(float, na_value=np.nan)
    days = seen.rows["days"].to_numpy(float)
    users = np.bincount(seen.calls.server, minlength=len(seen.calls.ends))[seen.calls.server]
    outside = (seen.rows["server_type"] == "address").to_numpy(bool) & ~np.isnan(sent)
    x = np.log1p(np.nan_to_num(sent) / days)
    found = np.zeros(len(seen.rows), bool)
    order = np.flatnonzero(outside)
    for mine in pd.Series(order).groupby(seen.calls.client[order]).indices.values():
        chosen = order[mine]
        if len(chosen) < _COMPARED:
            continue
        off = x[chosen] - np.median(x[chosen])
        spread = max(float(np.median(np.abs(off))), _LEAST_SPREAD)
        found[chosen] = 0.6745 * off / spread > _EXFILTRATION_Z
    uploads: Bools = found & (users == 1) & (np.nan_to_num(sent) > np.nan_to_num(got))
    return uploads


def _patterns(seen: _Seen) -> npt.NDArray[np.object_]:
    """`ask` for what rules the cluster, `rare` for edges of one hour, else `core`."""
    found = np.where(seen.hours == 1, "rare", "core").astype(object)
    apart = (seen.rows["server_type"] != "workload").to_numpy(bool)
    api = (seen.rows["port"] == _API_PORT) | (seen.rows["server_type"] == "apiserver")
    found[apart & api.to_numpy(bool)] = "ask"
    for port in _CONTROL:
        found[_at_node(seen, port)] = "ask"
    return found
