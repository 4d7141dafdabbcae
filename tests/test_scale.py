"""What grows with a cluster grows no faster than the cluster."""

from pathlib import Path

import big_cluster
import ibis

from ingest.load import load
from ingest.store import open_store
from recommender.edges import counts, edges, sighted_ends
from recommender.endpoints import inventory_of_flows, resolve
from recommender.engines import DUCKDB, connected, fetch, flows_of, table_of


def test_the_fold_looks_ends_up_and_never_pairs_them_with_each_other(tmp_path: Path) -> None:
    log, _ = big_cluster.write(tmp_path, workloads=60, namespaces=3, calls=200)
    load([str(log)], tmp_path / "store", workers=1)
    with connected(DUCKDB) as backend:
        flows = flows_of(open_store(tmp_path / "store"), "big", backend)
        sighted = fetch(sighted_ends(flows), backend)
        who = resolve(sighted, sighted.iloc[:0], inventory_of_flows(sighted), frozenset())
        expression = edges(counts(flows), table_of(who, backend))
        assert isinstance(backend, ibis.backends.duckdb.Backend)
        plan = backend.con.execute(f"explain {backend.compile(expression)}").fetchall()[0][1]
    # Both ends of a call, the numbers of the ends, and the names of both numbers.
    assert plan.count("Hash Join") == 2 + 1 + 2
    assert "record_cluster = record_cluster" not in plan
