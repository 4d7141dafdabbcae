"""Observed edges replayed through policies: what would they deny."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from recommender.evaluate import Evaluator
from recommender.frames import Row
from recommender.model import PORT_PROTOCOLS, Verdict
from recommender.propose import exact_name, named


@dataclass(frozen=True, slots=True)
class Replayed:
    """An edge and what the policies say of it; `row` is one of `classify.classified`."""

    row: Row
    verdict: Verdict

    @property
    def client(self) -> str:
        """The client, for people."""
        return named(self.row, "client")

    @property
    def server(self) -> str:
        """The server, for people."""
        return named(self.row, "server")

    def __str__(self) -> str:
        return f"{self.client} -> {self.server} {self.row['protocol']} {self.row['port']}"


def replay(judge: Evaluator, rows: Iterable[Row]) -> Iterator[Replayed]:
    """The verdict on each edge that policies can decide, in the order of the rows.

    Edges with an end that has no name or address, without a port, or of a protocol without ports
    are passed over: `judged` tells them.
    """
    for row in rows:
        if judged(row):
            protocol, port = str(row["protocol"]), int(row["port"])
            ends = exact_name(row, "client"), exact_name(row, "server")
            yield Replayed(row, judge.verdict(*ends, protocol, port))


def judged(row: Row) -> bool:
    """Whether both ends, the protocol and the port of an edge are known well enough to judge it."""
    known = all(
        row[f"{role}_type"] == "workload" or row[f"{role}_address"] is not None
        for role in ("client", "server")
    )
    return known and row["protocol"] in PORT_PROTOCOLS and row["port"] is not None
