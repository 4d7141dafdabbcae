"""Answers that a log took for connections are turned around, and nothing else is."""

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from recommender.directions import turned
from recommender.edges import WHO
from recommender.frames import records
from recommender.inventory import Inventory, Workload, WorkloadKey

TEXT = [f"{role}_{name}" for role in ("client", "server") for name in WHO]
COUNTS = (
    "connections", "allowed_client", "allowed_server", "allowed_neither", "denied_client",
    "denied_server", "unclear", "bytes_to_client", "bytes_to_server", "port", "client_port",
)  # fmt: skip


def edge(
    client: str, server: str, port: int, client_port: int | None = None, **counts: int
) -> dict[str, Any]:
    row: dict[str, Any] = {**dict.fromkeys(TEXT), **dict.fromkeys(COUNTS, 0), "protocol": "TCP"}
    for role, name in (("client", client), ("server", server)):
        outside = name[0].isdigit()
        row |= {f"{role}_type": "address", f"{role}_address": name} if outside else {
            f"{role}_type": "workload", f"{role}_namespace": "shop", f"{role}_kind": "Deployment",
            f"{role}_name": name,
        }  # fmt: skip
    return row | {"port": port, "client_port": client_port} | (counts or {"allowed_client": 2})


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    types = dict.fromkeys((*TEXT, "protocol"), pa.string()) | dict.fromkeys(COUNTS, pa.int64())
    schema = pa.schema(list(types.items()))
    return pa.Table.from_pylist(list(rows), schema).to_pandas(types_mapper=pd.ArrowDtype)


def listening(name: str, *ports: int) -> Inventory:
    key = WorkloadKey("shop", "Deployment", name)
    given = tuple(("TCP", port, None) for port in ports)
    return Inventory(workloads={key: Workload(key, {}, {}, given, "default", False)})


def ends(rows: pd.DataFrame) -> list[tuple[str, str, int]]:
    return [
        (
            row["client_name"] or row["client_address"],
            row["server_name"] or row["server_address"],
            row["port"],
        )
        for row in records(rows)
    ]


CALL = edge("web", "db", 5432, 41_000)
ANSWER = {"allowed_client": 3, "bytes_to_server": 70}


@pytest.mark.parametrize("objects", [listening("db", 5432), Inventory()])
def test_an_unclear_answer_of_a_listening_port_is_turned(objects: Inventory) -> None:
    # Without an inventory, others that clearly call the port say that it listens.
    late = edge("db", "api", 50_123, 5432, unclear=2)
    found = turned(table(CALL, late), objects)
    assert ends(found) == [("web", "db", 5432), ("api", "db", 5432)]
    row = records(found)[1]
    assert (row["allowed_neither"], row["unclear"], row["connections"]) == (2, 0, 0)


def test_a_clear_record_is_turned_where_the_edge_that_it_answers_was_seen() -> None:
    late = edge("db", "web", 41_777, 5432, **ANSWER)
    found = turned(table(CALL, late), listening("db", 5432))
    assert ends(found) == [("web", "db", 5432)] * 2
    row = records(found)[1]
    assert (row["allowed_client"], row["allowed_server"]) == (0, 3)
    assert (row["bytes_to_client"], row["bytes_to_server"]) == (70, 0)


@pytest.mark.parametrize(
    ("late", "objects"),
    [
        # Nobody is known to listen there.
        (edge("db", "web", 41_777, 9999, unclear=2), Inventory()),
        # Its own port is no one port.
        (edge("db", "web", 41_777, None, unclear=2), listening("db", 5432)),
        # The other end listens.
        (edge("db", "web", 41_777, 5432, unclear=2), listening("web", 41_777)),
        # Clear, and no edge that it would answer.
        (edge("db", "api", 50_123, 5432, **ANSWER), listening("db", 5432)),
        # Clear, and one caller alone says that the port listens: it may be that very answer's end.
        (edge("db", "web", 41_777, 5432, **ANSWER), Inventory()),
        # A port that no kernel picks.
        (edge("db", "web", 8080, 5432, unclear=2), listening("db", 5432)),
    ],
)
def test_what_may_be_a_connection_stays_one(late: dict[str, Any], objects: Inventory) -> None:
    given = table(CALL, late)
    assert ends(turned(given, objects)) == ends(given)


def test_a_port_that_two_clients_call_listens_however_high_it_is() -> None:
    busy = [edge(client, "web", 41_777, 40_000) for client in ("api", "cart")]
    late = edge("db", "web", 41_777, 5432, unclear=2)
    given = table(CALL, *busy, late)
    assert ends(turned(given, listening("db", 5432))) == ends(given)


def test_outside_servers_are_turned_too() -> None:
    call = edge("web", "203.0.113.9", 443, 50_000)
    late = edge("203.0.113.9", "web", 50_001, 443, unclear=1)
    assert ends(turned(table(call, late), Inventory())) == [("web", "203.0.113.9", 443)] * 2
