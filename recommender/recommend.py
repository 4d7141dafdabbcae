"""From edges to checked policies: propose, replay every wanted edge, list what else opens."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recommender.beside import Beside, beside
from recommender.classify import METADATA
from recommender.dialects import parse_policies
from recommender.dialects.writers import Writer
from recommender.enough import Thresholds
from recommender.errors import PolicyError
from recommender.evaluate import Evaluator, evaluator
from recommender.fewest import By
from recommender.frames import Row, of_class, records
from recommender.inventory import Inventory
from recommender.limits import too_large, unnamed
from recommender.manifests import Manifest
from recommender.minimise import Minimised, minimised
from recommender.model import Policy
from recommender.needs import Basis, Loss
from recommender.openings import Budget, Opening, opening, openings
from recommender.policies import PolicySet, supporting
from recommender.propose import Proposal, Scope, propose
from recommender.replay import Replayed, replay
from recommender.rollout import audited
from recommender.selectors import units
from recommender.surplus import Surplus, surplus
from recommender.watch import Watched, window_of
from recommender.window import Window


@dataclass(frozen=True)
class Recommendation:
    """Proposals with the proof: how many wanted edges were replayed, and what else opens.

    `manifests` are those of each proposal, in their order; none where `refusals` says why the API
    server would not take them. `policies` are what is read back from them, as they will enforce.
    `lost` are wanted edges for which the dialect has no words. `shortest` says how much shorter the
    proposals became, where that was asked for. `window` says whether it was watched long enough.
    `beside` is what policies in force do beside them, where these were given. `opened` are the
    pairs that were opened for shorter policies, where a budget for it was given.
    """

    watched: Watched
    window: Window
    scope: Scope
    writer: Writer
    proposals: tuple[Proposal, ...]
    shortest: Minimised | None
    refusals: tuple[str, ...]
    manifests: tuple[tuple[dict[str, Any], ...], ...]
    policies: tuple[Policy, ...]
    lost: tuple[Loss, ...]
    replayed: int
    denied: tuple[Replayed, ...]
    surplus: tuple[Surplus, ...]
    beside: Beside | None = None
    opened: tuple[Opening, ...] = ()

    @property
    def written(self) -> list[tuple[Proposal, tuple[dict[str, Any], ...]]]:
        """The proposals that have manifests, with these."""
        pairs = zip(self.proposals, self.manifests, strict=True)
        return [(proposal, found) for proposal, found in pairs if found]


def recommendation(
    watched: Watched,
    scope: Scope,
    writer: Writer,
    thresholds: Thresholds | None = None,
    by: By | None = None,
    given: PolicySet | None = None,
    budget: Budget | None = None,
) -> Recommendation:
    """Propose for the watched cluster and check what is to be written against what was wanted.

    Args:
        watched: the cluster.
        scope: which namespaces and directions.
        writer: of the dialect.
        thresholds: of the window.
        by: makes the policies as short as they can be: one a `workload`, or shared by `role`.
        given: policies in force to propose beside.
        budget: of pairs that may be opened for shorter policies; none without `by`.

    Raises:
        PolicyError: the API server would refuse what is to be written.
    """
    words, inventory = writer.words, watched.inventory
    parts = (inventory, units(inventory, words.hides), words, watched.asked, watched.mesh)
    basis = Basis(*parts, _closed(watched))
    wanted = of_class(watched.edges, "wanted")
    unseen = _openings(watched, wanted, scope, basis, by, budget)
    opened = {opening(row): None for row in unseen}
    found, lost = propose([*wanted, *unseen], scope, basis, apart=by is not None)
    shortest = minimised(found, basis, by=by) if by else None
    proposals = shortest.proposals if shortest else tuple(found)
    rendered = [_rendered(proposal, writer) for proposal in proposals]
    refusals = tuple(why for why, _ in rendered)
    manifests = tuple(bodies for _, bodies in rendered)
    policies = _read_back(proposals, manifests, inventory, writer.assumed)
    judge = evaluator(policies, inventory, told=watched.known, staged=True)
    lost_rows = [loss.row for loss in lost]
    unsaid = set(map(id, lost_rows))
    replayed = list(replay(judge, [row for row in wanted if id(row) not in unsaid]))
    bodies = [body for some in manifests for body in some]
    return Recommendation(
        watched=watched,
        window=window_of(watched, thresholds),
        scope=scope,
        writer=writer,
        proposals=proposals,
        shortest=shortest,
        refusals=refusals,
        manifests=manifests,
        policies=tuple(policies),
        lost=tuple(lost),
        replayed=len(replayed),
        denied=tuple(r for r in replayed if r.verdict.allow is not True),
        surplus=_surplus(
            judge, watched, proposals, [r.row for r in replayed], opened, words.protocols
        ),
        beside=beside(policies, bodies, given, watched, wanted, lost_rows) if given else None,
        opened=tuple(opened),
    )


def _openings(
    watched: Watched,
    wanted: Sequence[Row],
    scope: Scope,
    basis: Basis,
    by: By | None,
    budget: Budget | None,
) -> list[Row]:
    """Rows of the pairs to open; none where nobody asked."""
    if by is None or budget is None or not budget.pairs:
        return []
    others = records(watched.edges[watched.edges["class"] != "wanted"])
    return openings(wanted, others, scope, basis, by, budget)


def _surplus(
    judge: Evaluator,
    watched: Watched,
    proposals: Sequence[Proposal],
    wanted: Sequence[Row],
    opened: Collection[Opening],
    protocols: Iterable[str],
) -> tuple[Surplus, ...]:
    """What else is permitted, with the reason where a pair was opened."""
    found = []
    for one in surplus(judge, watched, proposals, wanted, protocols):
        ends, ports = (one.client, one.server, one.protocol), one.ports
        asked = all(low == high and Opening(*ends, low) in opened for low, high in ports)
        found.append(replace(one, why="opened for shorter policies") if asked else one)
    return tuple(found)


def _closed(watched: Watched) -> frozenset[str]:
    """Addresses that are known to be somebody whom no joined block may open."""
    edges = watched.edges[watched.edges["class"] != "wanted"]
    named = [edges[f"{role}_address"].dropna() for role in ("client", "server")]
    inside = watched.inventory.node_of_address.keys()
    return frozenset({*METADATA, *inside, *(str(one) for some in named for one in some)})


def _rendered(proposal: Proposal, writer: Writer) -> tuple[str, tuple[dict[str, Any], ...]]:
    """Why a proposal is not written, or else its manifests."""
    if why := unnamed(proposal.namespace, proposal.policy.ref.name):
        return why, ()
    bodies = tuple(writer.render(proposal.policy))
    why = too_large(bodies)
    return why, () if why else bodies


def _read_back(
    proposals: Sequence[Proposal],
    manifests: Sequence[Sequence[dict[str, Any]]],
    inventory: Inventory,
    assumed: Sequence[dict[str, Any]],
) -> list[Policy]:
    """The policies as the manifests will enforce them; the proposal's own where it has none.

    Raises:
        PolicyError: the API server would refuse one.
    """
    own = [
        Manifest(str(body["metadata"]["name"]), audited(body))
        for some in manifests
        for body in some
    ]
    around = list(supporting(own, inventory))
    there = {(m.body["kind"], m.body["metadata"]["name"]) for m in around}
    lacking = [body for body in assumed if (body["kind"], body["metadata"]["name"]) not in there]
    around += [Manifest("assumed", body) for body in lacking]
    found = parse_policies([*around, *own], inventory)
    for finding in found.findings:
        raise PolicyError(f"the API server would refuse what was proposed: {finding}; report this")
    rest = [p.policy for p, some in zip(proposals, manifests, strict=True) if not some]
    return [*found.policies, *rest]
