"""Rules that HTTP and the like narrow, where proposals let the same through unnarrowed.

Flows tell no paths and methods, so a proposal allows ports. Where it allows what such a rule allows
in part, the rule narrows nothing any more (cilium/cilium
Documentation/security/policy/layer7.rst: L4 beside L7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_

import numpy as np

from recommender.evaluate import Evaluator
from recommender.matrix import Numbers
from recommender.model import DIRECTIONS, NO_PORTS, Direction, PortSet, Rule
from recommender.universe import Mask, bits


def voided(
    judge: Evaluator, alone: Evaluator, first: int, concerned: Mapping[Direction, Mask]
) -> Iterator[str]:
    """A sentence on each narrowed rule that the proposals make void.

    Args:
        judge: of the proposals and, from the place `first` on, the policies in force.
        alone: of the proposals, with the same ends.
        first: see above.
        concerned: the pods that the proposals isolate.
    """
    told: dict[str, None] = {}
    for policy in judge.policies[first:]:
        for direction in DIRECTIONS:
            subjects = judge.world.selected(policy.subject).sure & concerned[direction]
            for rule in policy.rules(direction):
                if rule.restricted and _is_let_through(judge, alone, subjects, direction, rule):
                    place = f"{policy.ref.place}: " if policy.ref.place else ""
                    told[
                        f"{place}{policy.ref} {direction} rule {rule.index} allows only "
                        f"{rule.restricted}; the proposals let the same through without that"
                    ] = None
    yield from told


def _is_let_through(
    judge: Evaluator, alone: Evaluator, subjects: Mask, direction: Direction, rule: Rule
) -> bool:
    size, classes = alone.world.size, alone.matrix.classes
    seen: set[int] = set()
    for subject in np.flatnonzero(bits(subjects, size)).tolist():
        if int(classes[subject]) in seen:
            continue
        seen.add(int(classes[subject]))
        ports: Numbers[PortSet] = Numbers()
        side = alone.matrix.let_through(subject, direction, ports)[classes]
        peers = bits(judge.acting.peers(rule, subject).sure, size)
        meant = judge.acting.ports_at(rule.ports, subject)
        if direction == "egress":
            meant = reduce(or_, (at for at, _ in judge.acting.served(rule.ports)), NO_PORTS)
        if any(ports.values[number] & meant for number in np.unique(side[peers]).tolist()):
            return True
    return False
