"""Flows in a warehouse: its SQL gives DuckDB's edges, which every later command takes from a file."""

import json
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from click.testing import CliRunner, Result

from ingest.load import load
from ingest.store import open_store
from recommender.cli import group
from recommender.warehouse import WAREHOUSES, WarehouseError, read_edges, script
from recommender.watch import watch

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
INVENTORY = str(SAMPLES / "inventory.yaml")
LOGS = {
    "hubble": SAMPLES / "hubble" / "node-1.jsonl.gz",
    "calico": SAMPLES / "calico" / "flows.log.gz",
}


def run(*words: str) -> Result:
    return CliRunner().invoke(group, list(words))


@pytest.fixture(scope="module", params=LOGS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("warehouse") / "store"
    load([str(LOGS[request.param])], path, workers=1)
    return path


@pytest.fixture(scope="module")
def edges(store: Path) -> pa.Table:
    """One edge of the store by hour."""
    return pa.Table.from_pandas(watch(store, [INVENTORY]).hourly.iloc[:1], preserve_index=False)


def selects(warehouse: str) -> list[str]:
    found = run("edges", "--sql", warehouse)
    assert found.exit_code == 0
    return [one.strip() for one in re.sub(r"(?m)^--.*\n", "", found.output).split(";")[:-1]]


@pytest.mark.parametrize("warehouse", WAREHOUSES)
def test_the_sql_parses_in_its_dialect_and_names_all_columns(warehouse: str) -> None:
    for select in selects(warehouse):
        assert sqlglot.parse_one(select, dialect=warehouse)
    said = script(warehouse)
    assert max(map(len, re.findall("(?m)^--.*", said))) <= 100
    for column in ("src_pod_prefix", "bytes_to_dst", "record_cluster", "is_address"):
        assert re.search(rf"(?m)^--   {column} ", said)


def test_clickhouse_gives_the_edges_of_duckdb(store: Path, tmp_path: Path) -> None:
    chdb = pytest.importorskip("chdb.session")
    flows, ends, edges = (tmp_path / f"{name}.parquet" for name in ("flows", "ends", "edges"))
    pq.write_table(open_store(store).flows().to_table(), flows)
    *first, last = selects("clickhouse")
    with chdb.Session() as session:

        def answer(select: str, file: Path) -> None:
            session.query(f"{select} INTO OUTFILE '{file}' FORMAT Parquet")

        session.query("CREATE DATABASE w ENGINE = Memory")
        session.query("USE w")
        session.query(f"CREATE VIEW flows AS SELECT * FROM file('{flows}', Parquet)")
        for name, select in zip(("sighted", "calls", "servers"), first, strict=True):
            answer(select, tmp_path / f"{name}.parquet")
        found = run(
            "edges", "--ends-of", str(tmp_path), "--inventory", INVENTORY, "--out", str(ends)
        )
        assert found.exit_code == 0, found.output
        session.query(f"CREATE VIEW ends AS SELECT * FROM file('{ends}', Parquet)")
        answer(last, edges)
    pd.testing.assert_frame_equal(read_edges(edges), watch(store, [INVENTORY]).hourly)


def test_a_file_of_edges_stands_for_the_store_in_every_later_command(
    store: Path, tmp_path: Path
) -> None:
    edges = tmp_path / "edges.parquet"
    given = ("--inventory", INVENTORY)
    out = ("--hourly", "-o", "parquet", "--out", str(edges))
    assert run("edges", "--store", str(store), *given, *out).exit_code == 0
    both = []
    for source in (("--store", str(store)), ("--edges", str(edges))):
        folder = tmp_path / source[0]
        found = run("recommend", *source, *given, "--out", str(folder))
        assert found.exit_code == 0, found.output
        both.append({p.relative_to(folder): p.read_text() for p in folder.rglob("*.yaml")})
        for words in (
            ("patterns", *source, "-o", "json"),
            ("check", str(SAMPLES / "policies"), *source),
            ("report", *source, "--out", str(tmp_path / "report.html")),
            ("explain", "shop/catalog", *source),
            ("drift", str(folder), *source),
        ):
            found = run(*words, *given)
            assert found.exit_code in (0, 10, 11), (words, found.output)
    assert both[0] == both[1]
    diff = run("diff", str(SAMPLES / "policies"), str(tmp_path / "--store"), *given,
               "--store", str(edges), "-o", "json")  # fmt: skip
    assert diff.exit_code == 10
    assert json.loads(diff.output)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--edges", "{text}", "--inventory", INVENTORY), "no Parquet file that can be read"),
        (
            ("--edges", "{other}", "--inventory", INVENTORY),
            "lacks the columns cluster, client_type",
        ),
        (("--edges", "{other}"), "give the cluster's objects with --inventory"),
        (("--edges", "{other}", "--store", "x"), "give one of --store STORE and --edges FILE"),
        ((), "give one of --store STORE and --edges FILE"),
    ],
)
def test_what_is_no_file_of_edges_is_told(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    text, other = tmp_path / "text", tmp_path / "other.parquet"
    text.write_text("no parquet")
    pq.write_table(pa.table({"a": [1]}), other)
    found = run("patterns", *(word.format(text=text, other=other) for word in words))
    assert found.exit_code in (1, 2)
    assert said in " ".join(found.output.split())


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("client_type", pa.array([["a"]]), "values of another type"),
        ("hour", pa.array([True]), "values of another type"),
        ("port", pa.array(["x"]), "values of another type"),
        ("cluster", pa.array([None], pa.string()), "null in cluster"),
        ("connections", pa.array([None], pa.int64()), "null in connections"),
        ("hour", pa.array([None], pa.timestamp("us", "UTC")), "null in hour"),
        (None, None, "no edge of cluster other; it holds shop-prod"),
    ],
)
def test_edges_with_other_values_than_asked_for_are_told(
    edges: pa.Table, tmp_path: Path, column: str | None, values: pa.Array, said: str
) -> None:
    if column is not None:
        edges = edges.set_column(edges.schema.get_field_index(column), column, values)
    pq.write_table(edges, tmp_path / "edges.parquet")
    with pytest.raises(WarehouseError, match=said):
        read_edges(tmp_path / "edges.parquet", "other")
    pq.write_table(edges.slice(0, 0), tmp_path / "edges.parquet")
    with pytest.raises(WarehouseError, match=r"parquet: no edge; ask|values of another type"):
        read_edges(tmp_path / "edges.parquet")


def test_edges_reads_a_store_or_speaks_of_a_warehouse() -> None:
    assert run("edges").exit_code == 2
    assert run("edges", "--store", "x", "--sql", "trino").exit_code == 2
    assert "--ends-of needs --out FILE" in run("edges", "--ends-of", str(SAMPLES)).output
