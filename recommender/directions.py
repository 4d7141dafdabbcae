"""Which end really listens: answers that a log took for connections are turned around.

Where the network had forgotten a connection, the server's next packet looks like a connection from
its port to a port that the client's kernel had picked. Learned as it stands, that is a rule for
every client port. What tells: one end's port listens by the inventory or by what others call, and
the other's does not.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from recommender.edges import WHO
from recommender.frames import Row, plain, records
from recommender.inventory import Inventory
from recommender.ports import PORT_PROTOCOLS

# From here on Linux picks the ports of clients (net.ipv4.ip_local_port_range).
_PICKED = 32_768
_ENDS = ("workload", "address")  # what can be turned: the other types say a direction
_CLEAR = ("allowed_client", "allowed_server", "allowed_neither")
_SWAPPED = (
    *((f"client_{name}", f"server_{name}") for name in WHO),
    ("allowed_client", "allowed_server"),
    ("denied_client", "denied_server"),
    ("bytes_to_client", "bytes_to_server"),
)

_Port = tuple[object, ...]  # WHO of the end, protocol, port


def turned(hourly: pd.DataFrame, inventory: Inventory) -> pd.DataFrame:
    """EDGES by hour, those that are answers turned into the edge that they answer.

    An edge may be an answer where all of it goes from one port below 32,768 to one from there on.
    It is one where its client listens on the former, its server does not on the latter, and the
    log does not say which end began, or shows the edge that it answers. An answer confirms an edge
    and is no connection of its own.
    """
    odd = _odd(hourly)
    if not odd.any():
        return hourly
    rows = records(hourly[odd])
    callers = _callers(hourly, {row[name] for row in rows for name in ("port", "client_port")})
    declared = _declared(inventory)
    told = [_around(row) if _answers(row, callers, declared) else row for row in rows]
    found = pd.DataFrame(told, columns=hourly.columns, dtype=object)
    types = hourly.dtypes.to_dict()
    return pd.concat([hourly[~odd], found.astype(types)], ignore_index=True)


def _odd(hourly: pd.DataFrame) -> np.ndarray:
    """Edges that may be answers, told at once: nearly none of a large log."""
    found = (hourly["port"].fillna(0) >= _PICKED).to_numpy(bool)
    if found.any():
        found &= (hourly["client_port"].fillna(_PICKED) < _PICKED).to_numpy(bool)
        found &= hourly["protocol"].isin(PORT_PROTOCOLS).to_numpy(bool)
        for role in ("client", "server"):
            found &= hourly[f"{role}_type"].isin(_ENDS).to_numpy(bool)
    return found


def _clear(hourly: pd.DataFrame) -> np.ndarray:
    return (hourly[list(_CLEAR)].sum(axis=1) > 0).to_numpy(bool)


def _port(row: Row, role: str, port: object) -> _Port:
    return (*(row[f"{role}_{name}"] for name in WHO), row["protocol"], port)


def _callers(hourly: pd.DataFrame, ports: Iterable[object]) -> dict[_Port, set[_Port]]:
    """Who was clearly seen to call each of some ports at each server."""
    columns = [*(f"{role}_{name}" for role in ("server", "client") for name in WHO)]
    chosen = hourly[hourly["port"].isin(list(ports)).to_numpy(bool) & _clear(hourly)]
    found: dict[_Port, set[_Port]] = {}
    for line in set(plain(chosen[[*columns, "protocol", "port"]]).itertuples(index=False)):
        end, client = tuple(line[: len(WHO)]), tuple(line[len(WHO) : 2 * len(WHO)])
        found.setdefault((*end, *line[-2:]), set()).add(client)
    return found


def _declared(inventory: Inventory) -> frozenset[_Port]:
    """Container ports of the inventory, by workload."""
    return frozenset(
        ("workload", key.namespace, key.kind, key.name, protocol, port)
        for key, workload in inventory.workloads.items()
        for protocol, port, _ in workload.ports
    )


def _answers(row: Row, callers: dict[_Port, set[_Port]], declared: frozenset[_Port]) -> bool:
    """Whether the edge is an answer, by who listens."""
    own = _port(row, "client", row["client_port"])
    other = _port(row, "server", row["port"])
    # Where the log says that it is no answer, one caller more must speak against it.
    clear = any(int(row[name]) for name in _CLEAR)
    listens = _known(own, declared) or len(callers.get(own, ())) > int(clear)
    called = callers.get(own, set())
    if not listens or _known(other, declared) or len(callers.get(other, ())) > 1:
        return False
    return not clear or other[: len(WHO)] in called


def _known(end: _Port, declared: frozenset[_Port]) -> bool:
    return (*end[:4], *end[-2:]) in declared


def _around(row: Row) -> Row:
    """The edge that it answers."""
    out = row | {"port": row["client_port"], "client_port": None, "connections": 0}
    for one, other in _SWAPPED:
        out |= {one: row[other], other: row[one]}
    return out | {
        "allowed_neither": int(row["allowed_neither"]) + int(row["unclear"]),
        "unclear": 0,
    }
