"""The dialects that proposals are written in: `WRITERS` by name, and the form asked of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from recommender.dialects import calico, calico_render, cilium_render, kubernetes
from recommender.errors import PolicyError
from recommender.model import Policy
from recommender.words import Reach, Words

Rollout = Literal["enforced", "staged", "audit"]
Network = Literal["any", "cilium", "calico"]
# What says that an object is ours: the recommended labels of Kubernetes.
OURS = {"app.kubernetes.io/managed-by": "flowpolicy"}


@dataclass(frozen=True, slots=True)
class Form:
    """What is asked of a dialect.

    `rollout`: policies that are enforced at once, or a form that denies nothing yet: `staged`
    (Calico), `audit` (Cilium). `network` is the one that enforces NetworkPolicies, where that is
    known. `tier` and `order` place Calico's; `domains` says that they may name domains. So many
    `sibling_names` become a pattern of Cilium's (0: never).
    """

    rollout: Rollout = "enforced"
    network: Network = "any"
    tier: str = calico.DEFAULT_TIER.name
    order: float = calico_render.WORDS.order
    domains: bool = False
    sibling_names: int = 0


@dataclass(frozen=True, slots=True)
class Writer:
    """One dialect as it was asked for: its words, and the manifests that a policy makes.

    `assumed` are the manifests of what policies refer to, for an inventory that lacks it.
    """

    dialect: str
    words: Words
    render: Callable[[Policy], list[dict[str, Any]]]
    assumed: tuple[dict[str, Any], ...] = ()
    rollout: Rollout = "enforced"


def _kubernetes(form: Form) -> Writer:
    # Cilium's blocks mean no node (its policyCIDRMatchMode is off by default), Calico's do.
    reach: Reach = "outside" if form.network == "cilium" else kubernetes.WORDS.reach
    return Writer(
        "kubernetes",
        replace(kubernetes.WORDS, reach=reach),
        lambda policy: [kubernetes.render(policy)],
    )


def _cilium(form: Form) -> Writer:
    audit = form.rollout == "audit"
    return Writer(
        "cilium",
        replace(cilium_render.WORDS, sibling_names=form.sibling_names),
        lambda policy: [cilium_render.render(policy, audit=audit)],
    )


def _calico(form: Form) -> Writer:
    known = calico.FIXED_TIERS.get(form.tier) or replace(calico.DEFAULT_TIER, name=form.tier)
    words = replace(calico_render.WORDS, tier=known, order=form.order, names=form.domains)
    render = partial(calico_render.render, staged=form.rollout == "staged")
    tier = {"apiVersion": calico.API, "kind": "Tier", "metadata": {"name": form.tier}, "spec": {}}
    return Writer("calico", words, render, () if form.tier in calico.FIXED_TIERS else (tier,))


WRITERS: dict[str, Callable[[Form], Writer]] = {
    "kubernetes": _kubernetes,
    "cilium": _cilium,
    "calico": _calico,
}
# The dialect that has a form in which policies deny nothing yet.
_SOFT: dict[Rollout, str] = {"staged": "calico", "audit": "cilium"}


def writer(dialect: str, form: Form | None = None) -> Writer:
    """A dialect, as it is asked for.

    Raises:
        PolicyError: the dialect has no such form.
    """
    form = form or Form()
    needs = _SOFT.get(form.rollout, dialect)
    if needs != dialect:
        raise PolicyError(
            f"the dialect {dialect} has no {form.rollout} form, {needs} has; `flowpolicy check` "
            "tells what the enforced form would deny"
        )
    made = WRITERS[dialect](form)
    render = made.render
    return replace(
        made, render=lambda policy: [_ours(body) for body in render(policy)], rollout=form.rollout
    )


def _ours(body: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the label that says whose it is."""
    meta = body["metadata"]
    return body | {"metadata": meta | {"labels": OURS | meta.get("labels", {})}}
