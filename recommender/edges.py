"""Flows -> edges: one ibis expression that runs where the flows are.

An edge is all flows between a client and a server on one protocol and server port, by hour. The
expression joins flows with the small table of who their ends are (`recommender/endpoints.py`) and
groups them by client and server. What is kept of a day is grouped before, as is what a warehouse
holds, by what the log says of both ends. Counts of one connection that several reporters and
observation points saw are never added up: they are summed inside one kind of sighting, and the
largest kind counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ibis
import ibis.expr.types as ir
from ibis import _

# What the log says of one end, as far as it tells ends apart. `who` is the pod's name, else the
# prefix that its siblings share (it ends in a dash), else its label lines (they hold a `=`).
END = ("type", "cluster", "namespace", "who", "ip", "set", "node")
WHO = ("type", "namespace", "kind", "name", "address", "cluster")
_IS = tuple(f"is_{name}" for name in WHO)
_COUNTED = (
    "connections",
    "records",
    "answered",
    "refused",
    "bytes_to_server",
    "bytes_to_client",
    "lowest_port",
    "highest_port",
    "first_seen",
    "last_seen",
)
_KEY = ("protocol", "port", "hour")
_ENDS = ("src", "dst")
_ROLES = {"src": "client", "dst": "server"}


def _end(flows: ir.Table, end: str) -> dict[str, ir.Value]:
    who = ibis.coalesce(flows[f"{end}_pod"], flows[f"{end}_pod_prefix"], _pod_labels(flows, end))
    is_pod = flows[f"{end}_type"].isin(["pod", "init", "unmanaged"]) & who.notnull()
    nothing = ibis.null("string")
    return {
        f"{end}_type": flows[f"{end}_type"],
        f"{end}_cluster": flows[f"{end}_cluster"],
        f"{end}_namespace": flows[f"{end}_namespace"],
        f"{end}_who": ibis.ifelse(is_pod, who, nothing),
        f"{end}_ip": ibis.ifelse(is_pod, nothing, flows[f"{end}_ip"]),
        f"{end}_set": flows[f"{end}_set"],
        # Whose node saw it tells a pod's own node from the others; needed for those ends only.
        f"{end}_node": ibis.ifelse(
            ~is_pod & (flows.reporter == ("dst" if end == "src" else "src")), flows.node, nothing
        ),
    }


def _pod_labels(flows: ir.Table, end: str) -> ir.Value:
    labels = flows[f"{end}_labels"]
    return ibis.ifelse(flows[f"{end}_type"] == "pod", labels, ibis.null("string"))


def sighted_ends(flows: ir.Table) -> ir.Table:
    """Every end that the flows mention, with all that any line says of it.

    Returns:
        One row per distinct (END columns, cluster of the record, workload_kind, workload,
        labels, service_account, names); `listens` is null or a port seen as server port.
    """
    sides = []
    for end in _ENDS:
        keys = {name.removeprefix(f"{end}_"): value for name, value in _end(flows, end).items()}
        more = {
            "record_cluster": flows.cluster,
            "workload_kind": flows[f"{end}_workload_kind"],
            "workload": flows[f"{end}_workload"],
            "labels": flows[f"{end}_labels"],
            "service_account": flows[f"{end}_service_account"],
            "names": flows[f"{end}_names"],
        }
        sides.append(flows.select(**keys, **more).distinct())
    return ibis.union(*sides, distinct=True)


def outside_calls(flows: ir.Table) -> ir.Table:
    """Calls that came to pods from addresses that the log cannot tell from nodes.

    That is Calico's log; Hubble's knows its own node by identity.

    Returns:
        One row per distinct (`ip` of the client, `node` that reported or null, `namespace` and
        `who` of the server as in END, `port`), and the `hours` in which it was seen.
    """
    server = _end(flows, "dst")
    chosen = flows.select(
        ip=flows.src_ip,
        node=flows.node,
        namespace=server["dst_namespace"],
        who=server["dst_who"],
        port=flows.dst_port,
        hour=flows.time.truncate("h"),
        chosen=(flows.format == "calico")
        & (flows.src_type == "outside")
        & (flows.dst_type == "pod")
        & (flows.reporter == "dst")
        & (flows.protocol == "TCP"),
    ).filter(_.chosen, _.ip.notnull())
    return chosen.group_by(["ip", "node", "namespace", "who", "port"]).aggregate(
        hours=_.hour.nunique()
    )


def looked_up(flows: ir.Table) -> ir.Table:
    """The addresses that DNS names were seen to have.

    Returns:
        One row per distinct (`names`, `addresses`), both lines: every name has every address.
    """
    answers = flows.select(names=flows.dns_query, addresses=flows.dns_ips)
    ends = (flows.select(names=flows[f"{e}_names"], addresses=flows[f"{e}_ip"]) for e in _ENDS)
    found = ibis.union(answers, *ends, distinct=True)
    return found.filter(found.names.notnull(), found.addresses.notnull())


def reports(flows: ir.Table) -> ir.Table:
    """When each node reported anything: one row per distinct (`node`, `hour`)."""
    named = flows.filter(flows.node.notnull())
    return named.select(node=named.node, hour=named.time.truncate("h")).distinct()


def edges(counted: ir.Table, ends: ir.Table) -> ir.Table:
    """Fold flows into edges, by hour.

    Args:
        counted: what `sightings` or, in fewer rows, `counts` returns of all flows, or of parts of
            them one below the other.
        ends: one row per distinct END columns (beside `record_cluster`), with who that is:
            WHO columns prefixed `is_`. An end without a row is left out of every edge.

    Returns:
        EDGES: one row per (cluster, client, server, protocol, port, hour); client and server
        are six columns each (`client_type`, `client_namespace`, ...: see `endpoints.py`).
        `port` is the server port; of ICMP, the type of the message.
        `client_port` is the one port that all of it came from, null where there are more.
        `connections` counts from the end that saw more, never the sum; `allowed_client`,
        `allowed_server`, `denied_client`, `denied_server`, `audited`, `pending`, `dropped`,
        `unclear` count records by verdict and reporting end; `answered` and `refused` count
        records that show so; `bytes_to_server` and `bytes_to_client` are bytes, null where not
        logged; `first_seen`, `last_seen` are UTC instants, microseconds.
    """
    return _by_who(counted, ends)


def counts(flows: ir.Table) -> ir.Table:
    """Counts by what the log says of both ends, by hour, verdict and kind of sighting."""
    rows = sightings(flows)
    return _summed(rows, [name for name in rows.columns if name not in _COUNTED])


def sightings(flows: ir.Table) -> ir.Table:
    """What each flow counts by itself: the columns of `counts`, before they are grouped."""
    keys = {
        "cluster": flows.cluster,
        **_end(flows, "src"),
        **_end(flows, "dst"),
        "protocol": flows.protocol,
        "port": _asked_port(flows),
        "hour": flows.time.truncate("h"),
        "verdict": flows.verdict,
        "reporter": flows.reporter,
        # A trace, a verdict and an L7 record of one connection are three sightings of it.
        "sighting": ibis.coalesce(flows.observation, flows.event),
        "unclear": flows.is_reply.isnull(),
    }
    one = ibis.literal(1, "int64")
    return flows.select(
        **keys,
        # A reply confirms a connection and is not another one.
        connections=ibis.ifelse(flows.is_reply.fill_null(False), 0, flows.connections),
        records=one,
        answered=ibis.ifelse(flows.established.fill_null(False), one, 0),
        refused=ibis.ifelse(flows.established.fill_null(True), 0, one),
        bytes_to_server=flows.bytes_to_dst,
        bytes_to_client=flows.bytes_to_src,
        lowest_port=flows.src_port,
        highest_port=flows.src_port,
        first_seen=flows.time,
        last_seen=ibis.coalesce(flows.end_time, flows.time),
    )


def _asked_port(flows: ir.Table) -> ir.Value:
    """The server port; of ICMP the type of the message, that of the question for an echo's reply.

    RFC 792 (8 and 0), RFC 4443 (128 and 129).
    """
    # Signed: of the engines DuckDB alone knows unsigned integers.
    kind = flows.icmp_type.cast("int32")
    return ibis.cases(
        ((flows.protocol == "ICMP") & (kind == 0), ibis.literal(8, "int32")),
        ((flows.protocol == "ICMPv6") & (kind == 129), ibis.literal(128, "int32")),
        (flows.protocol.isin(["ICMP", "ICMPv6"]), kind),
        else_=flows.dst_port,
    )


def _who_is(
    table: ir.Table, ends: ir.Table, end: str, role: str, wanted: Sequence[str] = WHO
) -> ir.Table:
    """The table with one end named: columns of its role in the place of END columns."""
    who = ends.rename({f"{role}_{name}": f"is_{name}" for name in wanted})
    # Null means "not given" and must find its like, hence identical_to; of the cluster too, or an
    # engine would conclude that both tables of ends have it in common, and pair all with all.
    joined = table.join(
        who,
        [
            table.cluster.identical_to(who.record_cluster),
            *(table[f"{end}_{name}"].identical_to(who[name]) for name in END),
        ],
    )
    kept = [name for name in table.columns if not name.startswith(f"{end}_")]
    return joined.select(*kept, *(f"{role}_{name}" for name in wanted))


def asked(flows: ir.Table) -> ir.Table:
    """The names by which clients asked for addresses: distinct (client as END, both lines)."""
    said = []
    for names, addresses in ((flows.dns_query, flows.dns_ips), (flows.dst_names, flows.dst_ip)):
        found = flows.select(
            cluster=flows.cluster, **_end(flows, "src"), names=names, addresses=addresses
        )
        said.append(found.filter(found.names.notnull(), found.addresses.notnull()))
    return ibis.union(*said, distinct=True)


def asked_names(asked: ir.Table, ends: ir.Table) -> ir.Table:
    """The names by which each workload asked for outside addresses.

    Args:
        asked: what `asked` returns of all flows, or of parts of them one below the other.
        ends: as for `edges`.

    Returns:
        One row per distinct (`namespace`, `kind`, `name` of the client, `names`, `addresses`), the
        last two lines: every name has every address.
    """
    named = _who_is(asked, ends, "src", "client")
    of_pods = named.filter(named.client_type == "workload")
    who = {name: of_pods[f"client_{name}"] for name in ("namespace", "kind", "name")}
    return of_pods.select(**who, names=of_pods.names, addresses=of_pods.addresses).distinct()


def api_servers(flows: ir.Table) -> ir.Table:
    """Where calls to the Service `kubernetes` in `default` went: distinct `address`."""
    called = flows.filter(
        flows.service_namespace == "default",
        flows.service == "kubernetes",
        flows.dst_type != "pod",
        flows.dst_ip.notnull(),
    )
    return called.select(address=called.dst_ip).distinct()


def _numbered(ends: ir.Table) -> ir.Table:
    """Who there is, WHO columns prefixed `is_`; `is_number` is the place in its cluster's order."""
    who = ends.select("record_cluster", *_IS).distinct()
    # Of distinct rows: ClickHouse ranks like ones apart in the frame that ibis asks for.
    number = ibis.row_number().over(group_by=who.record_cluster, order_by=[who[n] for n in _IS])
    return who.mutate(is_number=number)


def _with_numbers(ends: ir.Table, who: ir.Table) -> ir.Table:
    """The ends with the number of who it is."""
    same = [ends[name].identical_to(who[name]) for name in ("record_cluster", *_IS)]
    return ends.join(who, same).select(ends, who.is_number)


def _with_names(table: ir.Table, who: ir.Table, role: str) -> ir.Table:
    """The table with WHO columns of a role beside the number that `_numbered` gave it."""
    named = who.rename({f"{role}_{name}": f"is_{name}" for name in WHO})
    same = [
        table.cluster.identical_to(named.record_cluster),
        table[f"{role}_number"] == named.is_number,
    ]
    return table.join(named, same).drop("record_cluster", "is_number")


def _by_who(table: ir.Table, ends: ir.Table) -> ir.Table:
    # By a number for who it is: to group and to sort by twelve names takes twice the time.
    who = _numbered(ends)
    numbered = _with_numbers(ends, who)
    for end, role in _ROLES.items():
        table = _who_is(table, numbered, end, role, ["number"])
    numbers = ["cluster", *(f"{role}_number" for role in _ROLES.values()), *_KEY]
    table = _by_number(table, numbers)
    counted = [name for name in table.columns if name not in numbers]
    for role in _ROLES.values():
        table = _with_names(table, who, role)
    names = [f"{role}_{name}" for role in _ROLES.values() for name in WHO]
    return table.order_by(numbers).select("cluster", *names, *_KEY, *counted)


def _by_number(table: ir.Table, keys: list[str]) -> ir.Table:
    inside = _summed(table, [*keys, "verdict", "reporter", "sighting", "unclear"])
    clear = ~inside.unclear
    return inside.group_by(keys).aggregate(
        connections=_.connections.max(),
        allowed_client=_count(_.records, (_.verdict == "allowed") & _is(_.reporter, "src") & clear),
        allowed_server=_count(_.records, (_.verdict == "allowed") & _is(_.reporter, "dst") & clear),
        allowed_neither=_count(_.records, (_.verdict == "allowed") & _.reporter.isnull() & clear),
        denied_client=_count(_.records, (_.verdict == "denied") & _is(_.reporter, "src")),
        denied_server=_count(_.records, (_.verdict == "denied") & ~_is(_.reporter, "src")),
        audited=_count(_.records, _.verdict == "audited"),
        pending=_count(_.records, _.verdict == "pending"),
        dropped=_count(_.records, _.verdict == "dropped"),
        unclear=_count(_.records, (_.verdict == "allowed") & _.unclear),
        answered=_sum(_.answered),
        refused=_sum(_.refused),
        bytes_to_server=_.bytes_to_server.max(),
        bytes_to_client=_.bytes_to_client.max(),
        client_port=_only(_.lowest_port.min(), _.highest_port.max()),
        first_seen=_.first_seen.min(),
        last_seen=_.last_seen.max(),
    )


def _summed(table: ir.Table, keys: list[str]) -> ir.Table:
    return table.group_by(keys).aggregate(
        connections=_sum(_.connections),
        records=_sum(_.records),
        answered=_sum(_.answered),
        refused=_sum(_.refused),
        bytes_to_server=_sum(_.bytes_to_server),
        bytes_to_client=_sum(_.bytes_to_client),
        lowest_port=_.lowest_port.min(),
        highest_port=_.highest_port.max(),
        first_seen=_.first_seen.min(),
        last_seen=_.last_seen.max(),
    )


def _sum(value: Any) -> Any:
    # DuckDB widens sums of integers; int64 on every engine.
    return value.sum().cast("int64")


def _only(lowest: Any, highest: Any) -> Any:
    return ibis.ifelse(lowest == highest, lowest, ibis.null("int32"))


def _is(column: Any, value: str) -> Any:
    return column.fill_null("") == value


def _count(records: Any, where: Any) -> Any:
    return _sum(ibis.ifelse(where, records, 0))
