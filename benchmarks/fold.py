"""One step of `benchmarks.scale` in a process of its own: flows folded into edges.

    python -m benchmarks.fold flowpolicy|sql|days STORE [--engine duckdb|spark://HOST:PORT]
        [--memory 1GiB]

`flowpolicy` is the fold as it is done where nothing is kept, `days` all that a command asks of the
flows, with what is kept of each day; `sql` is what an analyst would write for the same counts in
DuckDB, column by column, in the faster of two forms, and without any question of who an end is but
the workload that the line itself names.
Prints JSON: rows, seconds.
"""

from __future__ import annotations

import argparse
import json
import time

from ingest.store import open_store
from recommender import days, engines
from recommender.edges import edges
from recommender.endpoints import inventory_of_flows, resolve

# Flows of one connection are told by two reporters, so the larger of their counts is its count.
# Naming the ends before grouping takes a third less than grouping by pod first.
SQL = """
WITH owners AS (
  SELECT namespace, pod, any_value(workload) AS workload, any_value(kind) AS kind FROM (
    SELECT src_namespace AS namespace, src_pod AS pod, src_workload AS workload,
      src_workload_kind AS kind FROM read_parquet('{glob}')
    UNION SELECT dst_namespace, dst_pod, dst_workload, dst_workload_kind
      FROM read_parquet('{glob}')
  ) GROUP BY ALL
), summed AS (
  SELECT cluster, src_type, src_namespace, c.kind AS client_kind, c.workload AS client,
    dst_type, dst_namespace, s.kind AS server_kind, s.workload AS server, protocol, dst_port,
    date_trunc('hour', time) AS hour, verdict, reporter,
    coalesce(observation, event) AS sighting, is_reply IS NULL AS unclear,
    sum(CASE WHEN is_reply THEN 0 ELSE connections END)::BIGINT AS connections,
    count(*) AS records, sum((established)::INT)::BIGINT AS answered,
    sum((NOT established)::INT)::BIGINT AS refused, sum(bytes_to_dst)::BIGINT AS bytes_to_server,
    sum(bytes_to_src)::BIGINT AS bytes_to_client, min(src_port) AS lowest,
    max(src_port) AS highest, min(time) AS first_seen, max(coalesce(end_time, time)) AS last_seen
  FROM read_parquet('{glob}', hive_partitioning = true)
  JOIN owners c ON c.namespace = src_namespace AND c.pod = src_pod
  JOIN owners s ON s.namespace = dst_namespace AND s.pod = dst_pod GROUP BY ALL
)
SELECT cluster, src_type, src_namespace, client_kind, client, dst_type, dst_namespace,
  server_kind, server, protocol, dst_port, hour, max(connections) AS connections,
  sum(records) FILTER (verdict = 'allowed' AND reporter = 'src' AND NOT unclear) AS allowed_client,
  sum(records) FILTER (verdict = 'allowed' AND reporter = 'dst' AND NOT unclear) AS allowed_server,
  sum(records) FILTER (verdict = 'allowed' AND reporter IS NULL AND NOT unclear)
    AS allowed_neither,
  sum(records) FILTER (verdict = 'denied' AND reporter = 'src') AS denied_client,
  sum(records) FILTER (verdict = 'denied' AND reporter IS DISTINCT FROM 'src') AS denied_server,
  sum(records) FILTER (verdict = 'audited') AS audited,
  sum(records) FILTER (verdict = 'pending') AS pending,
  sum(records) FILTER (verdict = 'dropped') AS dropped,
  sum(records) FILTER (verdict = 'allowed' AND unclear) AS unclear, sum(answered) AS answered,
  sum(refused) AS refused, max(bytes_to_server) AS bytes_to_server,
  max(bytes_to_client) AS bytes_to_client,
  CASE WHEN min(lowest) = max(highest) THEN min(lowest) END AS client_port,
  min(first_seen) AS first_seen, max(last_seen) AS last_seen
FROM summed GROUP BY ALL
ORDER BY cluster, src_type, src_namespace, client_kind, client, dst_type, dst_namespace,
  server_kind, server, protocol, dst_port, hour
"""


def by_flowpolicy(store: str, engine: str, *, keep: bool = False) -> int:
    """Who the ends are and the edges by hour; where days are kept, all that commands ask."""
    opened = open_store(store)
    with engines.connected(engine) as backend:
        parts = days.parts(opened, opened.clusters[0], backend, keep=keep)
        sighted = engines.fetch(parts("sighted"), backend)
        who = resolve(sighted, sighted.iloc[:0], inventory_of_flows(sighted))
        ends = engines.table_of(who, backend)
        for name in ("calls", "servers", "reports", "names", "asked") if keep else ():
            engines.fetch(parts(name), backend)
        return len(engines.fetch(edges(parts("counts"), ends), backend))


def by_sql(store: str) -> int:
    """The same counts in SQL that knows less."""
    with engines.connected(engines.DUCKDB) as backend:
        found = backend.con.sql(SQL.format(glob=open_store(store).glob))
        return int(found.to_arrow_table().num_rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", choices=["flowpolicy", "sql", "days"])
    parser.add_argument("store")
    parser.add_argument("--engine", default=engines.DUCKDB)
    parser.add_argument("--memory", default=engines.MEMORY)
    given = parser.parse_args()
    engines.MEMORY = given.memory
    started = time.perf_counter()
    if given.how == "sql":
        rows = by_sql(given.store)
    else:
        rows = by_flowpolicy(given.store, given.engine, keep=given.how == "days")
    print(json.dumps({"rows": rows, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
