"""The line of evidence above each rule of a policy's file, as a YAML comment.

A comment holds only what stays as it is while nothing new is seen, so that the file of tomorrow has
the bytes of today's: who, since when, told by which ends. What grows (connections, days, last
seen) stands in `recommendation.json`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from recommender.manifests import manifests_text, rule_lines
from recommender.model import DIRECTIONS, Direction, Evidence, Policy, Rule

_MOST_NAMED, _LONGEST = 3, 200
# What `comment` writes, as a line of a file.
EVIDENCE = re.compile(
    r"\s*# (from|to) .*; (never seen|seen since the window began|first seen \d{4}-\d\d-\d\d)"
    r"(, told by the [a-z ]+)?"
)
Render = Callable[[Policy], list[dict[str, Any]]]


def manifest_text(
    manifests: Sequence[dict[str, Any]], policy: Policy, render: Render, since: str
) -> str:
    """The manifests of a policy as YAML, each rule below a line of its evidence.

    Args:
        manifests: what `render` made of the policy; the policy itself is the last.
        policy: with the evidence of its rules.
        render: of the dialect.
        since: the day on which the window begins, as 2026-11-01.
    """
    text = manifests_text(manifests)
    lines = text.splitlines(keepends=True)
    begun: dict[str, list[int]] = {}
    for direction, line in rule_lines(text, DIRECTIONS):
        begun.setdefault(direction, []).append(line)
    above = {
        begun[direction][at]: comment(rule.evidence, direction, since)
        for direction in DIRECTIONS
        for at, rule in _places(policy, direction, render)
        if rule.evidence is not None
    }
    for line in sorted(above, reverse=True):
        lines.insert(line, f"  # {above[line]}\n")
    return "".join(lines)


def _places(policy: Policy, direction: Direction, render: Render) -> Iterator[tuple[int, Rule]]:
    """Where each rule begins in the list that is written: some dialects make several of one."""
    at = 0
    for rule in policy.rules(direction):
        yield at, rule
        one = {each: (rule,) if each == direction else () for each in DIRECTIONS}
        alone = replace(policy, ingress=one["ingress"], egress=one["egress"])
        at += len(render(alone)[-1]["spec"][direction])


def comment(evidence: Evidence, direction: Direction, since: str) -> str:
    """One line on a rule: peers, since when they were seen, and which ends told of it.

    Names are of the logs, so whatever is not printable ASCII is written as an escape.
    """
    peers = evidence.clients if direction == "ingress" else evidence.servers
    more = [f"{len(peers) - _MOST_NAMED} more"] if len(peers) > _MOST_NAMED else []
    names = ", ".join([*(_short(name) for name in peers[:_MOST_NAMED]), *more])
    day = evidence.first_seen[:10]
    if evidence.pairs:
        unseen = ", ".join(map(_short, evidence.pairs))
        names = f"{names or 'nobody'}; opened, not seen: {unseen}"
    when = "seen since the window began" if day <= since else f"first seen {day}"
    if not evidence.connections and evidence.pairs:
        when = "never seen"
    ends = " and ".join(evidence.reporters)
    told = f", told by the {ends}" if ends else ""
    return f"{'from' if direction == 'ingress' else 'to'} {names}; {when}{told}"


def _short(name: str) -> str:
    safe = "".join(one if " " <= one <= "~" else ascii(one)[1:-1] for one in name)
    return safe if len(safe) <= _LONGEST else f"{safe[: _LONGEST - 3]}..."
