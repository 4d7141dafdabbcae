"""What the edges mean: classes, roles, outliers and people's decisions, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recommender.classify import classified
from recommender.decisions import Decision, decided
from recommender.dialects import parse_policies
from recommender.directions import turned
from recommender.evaluate import evaluator
from recommender.frames import records
from recommender.hours import folded, resolved
from recommender.inventory import Inventory
from recommender.outliers import judged
from recommender.patterns import Roles, roles
from recommender.replay import replay
from recommender.runs import runs


@dataclass(frozen=True)
class Meaning:
    """Edges with their last word, and what led to it.

    `edges` is what `classify.classified` returns with `run` (see `runs.runs`), `pattern` and
    `score` (see `outliers.judged`), decisions followed; `seen` one row per (`edge`, `hour`);
    `roles` those learnt from edges seen in two hours or more; `notes` what could not be followed.
    """

    edges: pd.DataFrame
    seen: pd.DataFrame
    roles: Roles
    notes: tuple[str, ...]


def meaning(
    hourly: pd.DataFrame,
    inventory: Inventory,
    *,
    audited: bool = False,
    decisions: Sequence[Decision] = (),
    in_force: bool = False,
) -> Meaning:
    """Give every edge its class, pattern and reason.

    Args:
        hourly: EDGES by hour, as `edges.edges` returns them.
        inventory: of the same cluster.
        audited: take traffic that policy would have denied (audit mode) as wanted.
        decisions: of people; held against the last day of the log.
        in_force: let an edge wait for review where a policy of the inventory denies it. Not where
            policies are to be judged by the edges: what they deny must stay wanted.
    """
    told = folded(turned(resolved(hourly, inventory), inventory))
    edges, seen = classified(told.edges, inventory, audited=audited), told.seen
    edges = runs(edges, seen, inventory)
    learnt = roles(
        edges[(edges["class"] == "wanted") & ((edges["hours"] > 1) | edges["run"].notna())]
    )
    against = _contradicted(edges, inventory) if in_force and not audited else frozenset()
    edges = judged(edges, seen, learnt.of, contradicted=against, nodes=len(inventory.nodes))
    notes: list[str] = []
    if decisions and len(edges):
        today = pd.Timestamp(edges["last_seen"].max()).date()
        edges, notes = decided(edges, decisions, inventory, today)
    return Meaning(edges, seen, learnt, tuple(notes))


def _contradicted(edges: pd.DataFrame, inventory: Inventory) -> frozenset[int]:
    """Positions of wanted edges that the policies of the inventory deny for sure."""
    policies = parse_policies(inventory.manifests, inventory).policies
    if not policies:
        return frozenset()
    judge = evaluator(policies, inventory)
    wanted = np.flatnonzero((edges["class"] == "wanted").to_numpy())
    rows = [
        row | {"place": int(i)} for i, row in zip(wanted, records(edges.iloc[wanted]), strict=True)
    ]
    return frozenset(r.row["place"] for r in replay(judge, rows) if r.verdict.allow is False)
