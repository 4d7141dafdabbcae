"""Roles, window and what waits for a decision: for people, and as plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import pandas as pd

from recommender.catalogue import Role, Token
from recommender.enough import Estimate
from recommender.frames import Row, of_class, records
from recommender.patterns import Roles
from recommender.propose import named
from recommender.report.lines import many
from recommender.window import Window

_MOST = 10
_FEW = 3


def role_rows(roles: Roles) -> list[Row]:
    """One row a role: `role`, `members`, what they do (`tokens`), `bits_saved`, `odd` members."""
    return [
        {
            "role": role.number,
            "members": list(role.members),
            "tokens": [
                {"does": str(t), "members": t.members, "weight": t.weight} for t in role.tokens
            ],
            "bits_saved": role.saved,
            "odd": [{"member": member, "does": str(token)} for member, token in role.odd],
        }
        for role in roles.catalogue
    ]


def window_fields(window: Window) -> Row:
    """All of the window, plain; figures rounded to six places."""
    return {
        "word": window.word.word,
        "until": _instant(window.word.until),
        "why": list(window.word.why),
        "first": _instant(window.first),
        "last": _instant(window.last),
        "bins": [_estimate(e) for e in window.estimates],
        "correlated": window.correlated,
        "foretold_denied": round(window.foretold, 6),
        "split_denied": None if window.split is None else round(window.split, 6),
        "rolling_origin": list(window.origins),
        "longest_period_days": window.longest_period_days,
        "cronjobs_outside": list(window.unrun),
        "services_unseen": list(window.unseen),
        "silences": list(window.silences),
        "gaps": list(window.gaps.lines),
        "gaps_missed": round(window.gaps.missed, 6),
    }


def _instant(time: datetime | None) -> str | None:
    return None if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _estimate(e: Estimate) -> Row:
    return {
        "width_h": e.width_h,
        "bins": e.bins,
        "edges": e.edges,
        "uniques": e.uniques,
        "duplicates": e.duplicates,
        "edges_at_least": round(e.chao2.edges, 3),
        "edges_interval": [round(e.chao2.low, 3), round(e.chao2.high, 3)],
        "ice": None if e.ice is None else round(e.ice, 3),
        "coverage": round(e.coverage, 6),
        "coverage_low": round(e.low, 6),
        "novelty": [round(v, 6) for v in (e.novelty.chance, e.novelty.low, e.novelty.high)],
        "days_needed": round(e.days_needed, 2),
    }


def marked(edges: pd.DataFrame) -> list[Row]:
    """Wanted edges to look at: rare ones, and those that reach the control plane."""
    return [row for row in of_class(edges, "wanted") if row["pattern"] in ("rare", "ask")]


def window_line(window: Window) -> str:
    """The word and its reasons, in one line."""
    return f"{_word(window)}: {'; '.join(window.word.why)}"


def window_lines(window: Window) -> Iterator[str]:
    """The word, and each of its reasons in a line of its own."""
    yield _word(window)
    yield from (f"  {why}" for why in window.word.why)


def _word(window: Window) -> str:
    until = "" if window.word.until is None else f" until {window.word.until:%Y-%m-%d %H:%MZ}"
    return f"watched long enough: {window.word.word}{until}"


def roles_lines(roles: Roles) -> Iterator[str]:
    """The catalogue: roles with what they do and who is odd, and who is alone in theirs."""
    shared = [role for role in roles.catalogue if len(role.members) > 1]
    alone = [role for role in roles.catalogue if len(role.members) == 1]
    yield f"roles: {len(shared)} of two members or more"
    for role in shared:
        yield f"  role {role.number}, {len(role.members)} members: {_some(role.members)}"
        for token in role.tokens:
            yield f"    {_does(token, roles)} ({token.members} of {len(role.members)})"
        yield from (f"    odd: {line}" for line in _odd(role, roles))
    workloads = [role.members[0] for role in alone if role.members[0].count("/") == 2]
    if workloads:
        yield (
            f"alone in their role, so nothing shows when they misbehave from the first hour to the "
            f"last ({len(workloads)}): {_some(workloads)}"
        )


def _does(token: Token, roles: Roles) -> str:
    """What members do; a role that is not listed, since nobody shares it, by its one member."""
    members = roles.catalogue[token.peer].members
    who = members[0] if len(members) == 1 else f"role {token.peer}"
    return f"{token.direction} {who} on {token.port}"


def _odd(role: Role, roles: Roles) -> Iterator[str]:
    for member, token in role.odd[:_MOST]:
        others = len(role.members) - token.members
        yield f"{member} {_does(token, roles)}; {others} of {len(role.members)} do not"


# Headings of what `by_client` gives.
HEADS = ("client", "server", "port", "why")
Told = tuple[tuple[str, str, str, str], str]


def to_look_at(edges: pd.DataFrame) -> Iterator[tuple[str, list[Told], str]]:
    """What waits for a decision, and what was kept but is rare or reaches the control plane.

    Returns:
        Of each: a title, the first rows (see `by_client`), and a line on how many are left out.
    """
    found = of_class(edges, "review")
    # The most suspicious first; an edge without a score was never taken for wanted.
    waiting = by_client(sorted(found, key=lambda r: 99 if r["score"] is None else -r["score"]))
    yield _cut(f"waiting for a decision: {len(found)}", waiting)
    for word, what in (("rare", "seen in one hour only"), ("ask", "reaches the control plane")):
        rows = [row for row in marked(edges) if row["pattern"] == word]
        if rows:
            yield _cut(f"kept, but {what}: {len(rows)}", [_told(row, "") for row in rows])


def _cut(title: str, rows: list[Told]) -> tuple[str, list[Told], str]:
    left = len(rows) - _MOST
    more = f"  and {left} lines more (-o json)" if left > 0 else ""
    return title, [(cells, f"  {line}") for cells, line in rows[:_MOST]], more


def by_client(rows: Sequence[Row]) -> list[Told]:
    """An edge and its reason a row; many edges of one client for one reason share one.

    Returns:
        The cells under HEADS, and the line that says the same.
    """
    together: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        together.setdefault((named(row, "client"), str(row["reason"])), []).append(row)
    found: list[Told] = []
    for (client, reason), edges in together.items():
        if len(edges) <= _FEW:
            found.extend(_told(row, reason) for row in edges)
        else:
            servers = many(len({named(r, "server") for r in edges}), "server")
            count = len(edges)
            line = f"{client} -> {servers}, {count} edges: {reason}"
            found.append(((client, servers, f"{count} edges", reason), line))
    return found


def _told(row: Row, reason: str) -> Told:
    line = f"{edge_text(row)}: {reason}" if reason else edge_text(row)
    return (named(row, "client"), named(row, "server"), _port(row), reason), line


def _port(row: Row) -> str:
    return str(row["protocol"]) if row["port"] is None else f"{row['protocol']} {row['port']}"


def edge_text(row: Row) -> str:
    """An edge in one line."""
    return f"{named(row, 'client')} -> {named(row, 'server')} {_port(row)}"


def estimate_lines(window: Window) -> Iterator[str]:
    """The word and its reasons, then the figures that led to it and what they cannot show."""
    yield from window_lines(window)
    for e in window.estimates:
        withheld = window.correlated and e.width_h == 1
        shown = "withheld, bins are not independent" if withheld else f"coverage {e.coverage:.4f}"
        yield (
            f"  bins of {e.width_h} h: {shown}; {e.edges} edges seen, "
            f"{e.chao2.edges:.0f} exist at least; {e.days_needed:.1f} days until 99 % are seen"
        )
    yield f"  foretold for the next day: {window.foretold:.2%} of its edges would be denied"
    yield f"  what happens less often than every {window.longest_period_days} days may be missing"
    if window.gaps.lines and window.gaps.lines[0] not in window.word.why:
        yield f"  gaps in the log may hide {window.gaps.missed:.2%} of the traffic"
    for line in (*window.unrun, *window.silences, *window.gaps.lines):
        if line not in window.word.why:
            yield f"  {line}"
    if window.unseen:
        yield f"  declared, never called: {_some(window.unseen)}"
    alike: dict[tuple[str, str], list[str]] = {}
    for row in records(window.workloads):
        if row["word"] != window.word.word:
            alike.setdefault((row["word"], row["why"]), []).append(row["workload"])
    for (word, why), workloads in alike.items():
        yield f"  {word}: {why}: {many(len(workloads), 'workload')}: {_some(workloads)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
