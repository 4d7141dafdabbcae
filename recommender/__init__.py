"""Parquet of flows -> edges -> policies -> diff.

For analysts: `from recommender import open_store, edges, roles, window, propose, diff`, which
`recommender/face.py` describes. These names are the functions; the modules of the same names are
imported from, as in `from recommender.edges import reports`.

manifests   objects as dicts with the place they were read from
inventory   namespaces, nodes, workloads, pods, services
objects     Kubernetes objects -> inventory
owners      pod -> workload
endpoints   who the ends of flows are (who, kubelets beside it)
edges       flows -> edges by hour, one ibis expression
engines     what runs it: DuckDB in this process, or a cluster of Apache Spark
hours       who is behind Service addresses; edges over all hours
classify    which edges are wanted, and why the others are not
roles       a grouping of ends and the bits that it needs (moves betters one)
patterns    the grouping that needs the fewest bits
outliers    edges that must not silently become rules
decisions   what people decided of edges
meaning     classes, roles, outliers and decisions, one after the other
window      was it watched long enough (incidence: estimators, cron: schedules, enough: the word)
selectors   the selector that takes in exactly one workload
propose     wanted edges -> policies with evidence
ports       PortSet, and what a rule says of ports
model       Selector, Peer, Rule, Policy, Verdict
dialects    policy APIs: parse and render, one file each
evaluate    what a set of policies permits, and why (universe, tiers, acting, matrix, ends below it)
replay      observed edges through policies
rarefaction how many edges so many days would have shown
diff        what changes between two sets of policies
recommend   the whole way from a store to checked policies
report      results as text, JSON and a page
face        what analysts import
commands    the command line, one file a command
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recommender.face import diff, edges, open_store, propose, roles, window  # noqa: TC004

__all__ = ["diff", "edges", "open_store", "propose", "roles", "window"]


class _Package(ModuleType):
    """The package, whose face is imported when it is first asked for: `--help` never does."""

    def __getattribute__(self, name: str) -> Any:
        # Before all else, for importing a module of that name would take the function's place.
        if name in __all__:
            return getattr(import_module("recommender.face"), name)
        return super().__getattribute__(name)


sys.modules[__name__].__class__ = _Package
