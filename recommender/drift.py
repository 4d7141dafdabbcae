"""What has drifted since the last proposal: new edges, rules without use, files changed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from recommender.evaluate import evaluator
from recommender.findings import remarks
from recommender.frames import of_class
from recommender.model import Remark
from recommender.policies import PolicySet
from recommender.report.tree import edges_by_namespace, hand_made, locked, read_lock
from recommender.watch import Watched

NEVER_USED = "never used"


@dataclass(frozen=True, slots=True)
class Drift:
    """New wanted edges (client, server, protocol, port), rules without use, files by hand."""

    new_edges: tuple[tuple[str, ...], ...]
    unused: tuple[Remark, ...]
    by_hand: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.new_edges or self.unused or self.by_hand)


def drift(folder: Path, policies: PolicySet, watched: Watched, unused_days: int) -> Drift:
    """What the flows and the folder show that the last proposal in the folder does not.

    Args:
        folder: in which `suggest` wrote; namespaces without its lock are passed over.
        policies: what the folder holds.
        watched: the flows.
        unused_days: days before the last flow in which a rule must have been used.
    """
    namespaces = locked(folder)
    now = edges_by_namespace(of_class(watched.edges, "wanted"))
    fresh = {
        edge
        for namespace in namespaces
        for edge in set(now.get(namespace, ())) - set(read_lock(folder, namespace).edges)
    }
    judge = evaluator(
        policies.policies, watched.inventory, told=watched.known, host_network="as nodes"
    )
    seen = of_class(recent(watched.edges, unused_days), "wanted", "review", "denied")
    return Drift(
        tuple(sorted(fresh)),
        tuple(remark for remark in remarks(judge, seen) if remark.topic == NEVER_USED),
        tuple(line for namespace in namespaces for line in hand_made(folder, namespace)),
    )


def recent(edges: pd.DataFrame, days: int) -> pd.DataFrame:
    """The edges that were seen in the last days before the last flow; the clock is not asked."""
    if not len(edges):
        return edges
    last = pd.Timestamp(edges["last_seen"].max())
    return edges[edges["last_seen"] > last - pd.Timedelta(days=days)]


def edge_lines(edges: Sequence[tuple[str, ...]]) -> list[str]:
    """Edges for people."""
    return [
        f"{client} -> {server} {protocol} {port}".rstrip()
        for client, server, protocol, port in edges
    ]
