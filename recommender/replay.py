"""Observed edges replayed through policies: what would they deny."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from recommender.evaluate import Evaluator
from recommender.frames import Row, workload_of
from recommender.model import PORT_PROTOCOLS, Verdict
from recommender.needs import ECHO
from recommender.propose import exact_name, named
from recommender.tiers import KUBERNETES
from recommender.tracked import tracked


@dataclass(frozen=True, slots=True)
class Replayed:
    """An edge and what the policies say of it, with reasons where they don't allow it.

    `row` is one of `classify.classified`.
    """

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
        port = "" if self.row["port"] is None else f" {self.row['port']}"
        return f"{self.client} -> {self.server} {self.row['protocol']}{port}"


def replay(judge: Evaluator, rows: Collection[Row]) -> Iterator[Replayed]:
    """The verdict on each edge that policies can decide, in the order of the rows.

    Edges with an end that has no name or address, without a port, or of a protocol without ports
    are passed over: `judged` tells them. So is ICMP where all policies are NetworkPolicies, whose
    API leaves it open.
    """
    tell_icmp = any(policy.ref.api != KUBERNETES for policy in judge.policies)
    for row in tracked("replaying edges", rows):
        if judged(row) and (tell_icmp or row["protocol"] in PORT_PROTOCOLS):
            verdict = _verdict(judge, row)
            if verdict is not None:
                yield Replayed(row, verdict)


def judged(row: Row) -> bool:
    """Whether both ends, the protocol and the port of an edge are known well enough to judge it."""
    known = all(
        row[f"{role}_type"] == "workload" or row[f"{role}_address"] is not None
        for role in ("client", "server")
    )
    if row["protocol"] in ECHO:
        return known
    return known and row["protocol"] in PORT_PROTOCOLS and row["port"] is not None


def asked(row: Row) -> tuple[str, int]:
    """The protocol and port of an edge as a question; of ICMP the type, an echo where not known."""
    protocol = str(row["protocol"])
    return protocol, int(ECHO[protocol] if row["port"] is None else row["port"])


def _verdict(judge: Evaluator, row: Row) -> Verdict | None:
    """The verdict on one edge; null where it is of a pod to its own node that is not known."""
    clients = [exact_name(row, "client")]
    key = workload_of(row, "client")
    if key is not None and row["server_type"] == "host":
        pods = judge.world.inventory.pods_of.get(key, ())
        beside = [pod for pod in pods if row["server_address"] in pod.node_addresses]
        clients = [f"{pod.namespace}/{pod.name}" for pod in beside]
    server = exact_name(row, "server")
    if clients and all(judge.permits(client, server, *asked(row)) for client in clients):
        return Verdict(True, ())
    verdicts = [judge.verdict(client, server, *asked(row)) for client in clients]
    return next((v for v in verdicts if v.allow is not True), next(iter(verdicts), None))
