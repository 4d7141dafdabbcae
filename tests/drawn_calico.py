"""Clusters and policies of Calico's kinds in several tiers, with blocks that mean pods."""

from typing import Any

from drawn_clusters import folders
from hypothesis import strategies as st

Object = dict[str, Any]

_TIERS = {"audit": (5, "Pass"), "security": (10, "Deny"), "last": (None, "Deny")}
_BLOCKS = ("0.0.0.0/0", "10.0.0.0/24", "10.0.0.1/32", "10.0.0.2/31")


def _policies(objects: list[Object]) -> list[Object]:
    return [
        body
        for body in objects
        if str(body["apiVersion"]).startswith("projectcalico") and body["kind"].endswith("Policy")
    ]


def _tier(name: str) -> Object:
    order, action = _TIERS[name]
    spec = {"defaultAction": action} | ({"order": order} if order else {})
    metadata = {"name": name}
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "Tier",
        "metadata": metadata,
        "spec": spec,
    }


@st.composite
def calico_folders(draw: st.DrawFn) -> list[Object]:
    """A folder of `drawn_clusters`, its policies in tiers, and more of their blocks and accounts.

    Orders differ, and one policy at most has none: equals stand by name, which changed after 3.28.
    """
    objects = draw(folders())
    orders = draw(st.permutations(range(100, 110)))
    last = False
    for i, policy in enumerate(_policies(objects)):
        spec = policy["spec"]
        if tier := draw(st.sampled_from([None, *_TIERS])):
            spec["tier"] = tier
        if "order" in spec or last:
            spec["order"] = orders[i]
        last = last or "order" not in spec
        for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
            for side in ("source", "destination"):
                if ":" not in str(rule.get(side, {}).get("nets", ":")) and draw(st.booleans()):
                    rule[side]["nets"] = draw(st.lists(st.sampled_from(_BLOCKS), min_size=1))
    return [*map(_tier, _TIERS), *objects]
