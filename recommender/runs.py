"""Ports that a server gives out anew for each connection: a run of them is one range.

FTP's passive mode, RPC, Erlang and JMX do so. Ports that were never seen are opened then, so a
range is made only by the test of methods.md section 2d, and never of what a scan looks like. What
must hold is said at `runs`; the best answer is to pin the port, which the proposal says.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import kstest

from recommender.frames import numbered
from recommender.hours import SERVER
from recommender.inventory import Inventory, WorkloadKey
from recommender.ports import PORT_PROTOCOLS, Interval
from recommender.roles import Ints, named_ends

_FIRST = 1024
_FEWEST = 8  # ports below that imitate a uniform draw too easily
_UNIQUE = 0.3  # of all (port, hour): given out anew, not a set of fixed ports
_P_VALUE = 0.01
_HOURS = 3  # a scan is over sooner, and most of its ports lie in one hour
_MOST_IN_HOUR = 0.5
_OWN_PORTS = 2  # of a client, to see that it follows where the server leads
# Ranges that systems give out from: Linux's (net.ipv4.ip_local_port_range), Kubernetes' NodePorts,
# IANA's (RFC 6335). They are taken where so much of them is spanned.
_USUAL: tuple[Interval, ...] = ((32_768, 60_999), (30_000, 32_767), (49_152, 65_535))
_SPANNED = 0.8


def runs(edges: pd.DataFrame, sightings: pd.DataFrame, inventory: Inventory) -> pd.DataFrame:
    """Give the edges of each run their range.

    Ports of one server and protocol, from 1024 on, form a run where all of this holds: ports that
    two clients called in two hours each, and those that the inventory declares, are not among
    them; eight or more are left; 30 % of their (port, hour) are of ports seen in one hour only;
    they lie like a uniform draw (Kolmogorov-Smirnov, p > 0.01) without a gap that such a draw
    would not have; there is one such segment only; they were seen in three hours or more, at most
    half of them in one; and its clients met nothing else there that was refused or denied.

    Args:
        edges: what `classify.classified` returns.
        sightings: one row per (`edge`: position in `edges`, `hour`).
        inventory: what its workloads declare is a range, or a port of its own.

    Returns:
        `edges` with `run`: (first port, last port, ports seen) where the edge belongs to one, else
        null. The class stays what it was.
    """
    run = np.full(len(edges), None, object)
    for chosen, low, high in _runs(edges, sightings, inventory):
        ports = len(set(edges["port"].iloc[chosen]))
        for place in chosen:
            run[place] = low, high, ports
    return edges.assign(run=pd.Series(run, edges.index, dtype=object))


def _runs(
    edges: pd.DataFrame, sightings: pd.DataFrame, inventory: Inventory
) -> Iterator[tuple[Ints, int, int]]:
    """Places of a run's edges, and its ends."""
    known = edges["protocol"].isin(PORT_PROTOCOLS).to_numpy(bool) & edges["port"].notna().to_numpy()
    high = np.flatnonzero(known)[edges["port"].to_numpy()[known].astype(np.int64) >= _FIRST]
    server = numbered(edges.iloc[high], [*SERVER, "protocol"])
    port = edges["port"].to_numpy()[high].astype(np.int64)
    pairs = np.unique(server * 65_536 + port)
    many = np.flatnonzero(np.bincount(pairs // 65_536) >= _FEWEST)
    if not len(many):
        return
    hours = sightings.groupby("edge")["hour"].unique()
    for one in many:
        mine = high[server == one]
        rows = edges.iloc[mine].assign(client=named_ends(edges.iloc[mine], "client"), place=mine)
        failed = (rows["class"] != "wanted") | (rows["refused"].astype(int) > 0)
        rows = rows[~rows["client"].isin(set(rows["client"][failed]))]
        seen = rows[["place", "client", "port"]].assign(
            hour=hours.reindex(rows["place"]).to_numpy()
        )
        seen = seen.explode("hour").astype({"port": np.int64}).dropna()
        own = _declared(edges.iloc[mine[0]], inventory)
        segment = _segment(seen, own)
        if segment is None:
            continue
        low, last = _ends(int(segment[0]), int(segment[-1]), own)
        inside = rows[rows["port"].astype(int).isin(segment)]
        inside = inside[inside.groupby("client")["port"].transform("nunique") >= _OWN_PORTS]
        if len(inside):
            yield inside["place"].to_numpy(np.int64), low, last


def _declared(row: pd.Series, inventory: Inventory) -> list[Interval]:
    """The ports that the server's workload declares, neighbours joined."""
    if row["server_type"] != "workload":
        return []
    key = WorkloadKey(row["server_namespace"], row["server_kind"], row["server_name"])
    workload = inventory.workloads.get(key)
    ports = workload.ports if workload else ()
    found: list[Interval] = []
    for port in sorted({p for protocol, p, _ in ports if protocol == row["protocol"]}):
        if found and found[-1][1] == port - 1:
            found[-1] = found[-1][0], port
        else:
            found.append((port, port))
    return found


def _segment(seen: pd.DataFrame, declared: list[Interval]) -> Ints | None:
    """The sorted ports of a server's one run, null where it has none.

    Args:
        seen: one row per (`client`, `port`, `hour`).
        declared: runs of ports that the inventory declares.
    """
    by_port = seen.groupby("port").agg(clients=("client", "nunique"), hours=("hour", "nunique"))
    fixed = (by_port["clients"] > 1) & (by_port["hours"] > 1)
    for low, high in declared:
        if high - low + 1 < _FEWEST:
            fixed |= by_port.index.to_series().between(low, high)
    rest = by_port[~fixed]
    found = [part for part in _segments(rest.index.to_numpy(np.int64)) if _is_run(part, rest, seen)]
    return found[0] if len(found) == 1 else None


def _segments(ports: Ints) -> Iterator[Ints]:
    """Sorted ports cut at each gap that as many uniform ones would not leave."""
    if len(ports) < _FEWEST:
        return
    gaps = np.diff(ports)
    widest, spread = int(gaps.argmax()), int(ports[-1] - ports[0])
    # The chance of such a gap somewhere is (k - 1)(1 - g)^(k - 2) at most, g its share.
    chance = len(gaps) * (1 - gaps[widest] / spread) ** (len(ports) - 2)
    if chance >= _P_VALUE:
        yield ports
    else:
        yield from _segments(ports[: widest + 1])
        yield from _segments(ports[widest + 1 :])


def _is_run(ports: Ints, rest: pd.DataFrame, seen: pd.DataFrame) -> bool:
    inside = rest.loc[ports]
    if (inside["hours"] == 1).sum() < _UNIQUE * inside["hours"].sum():
        return False
    hours = seen[seen["port"].isin(ports)].groupby("hour")["port"].nunique()
    if len(hours) < _HOURS or hours.max() > _MOST_IN_HOUR * len(ports):
        return False
    low, high = int(ports[0]), int(ports[-1])
    return bool(kstest(ports, "uniform", args=(low, high - low)).pvalue > _P_VALUE)


def _ends(low: int, high: int, declared: list[Interval]) -> Interval:
    """The declared range that holds the seen ports; else a usual one if spanned; else the ports."""
    for first, last in declared:
        if first <= low and high <= last:
            return first, last
    for first, last in _USUAL:
        if first <= low and high <= last and high - low + 1 >= _SPANNED * (last - first + 1):
            return first, last
    return low, high
