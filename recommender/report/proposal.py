"""A proposal as Markdown, for a pull request: what it changes, what waits for whom, the proof."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from recommender.diff import Diff
from recommender.frames import Row, of_class
from recommender.propose import named
from recommender.recommend import Recommendation
from recommender.report.beside import hole_text, uses_text
from recommender.report.changes import count, each_line, title
from recommender.report.files import port_texts, window
from recommender.report.lines import many
from recommender.report.markdown import MOST_CHARACTERS, code, fitting
from recommender.report.page_data import decide_words
from recommender.report.patterns import window_line
from recommender.report.text import surplus_lines

_BY_DIFF = "; `flowpolicy diff --all` shows all"
_BY_FILE = ", in what `flowpolicy recommend` writes"
_ROWS = (200, 50, 20, 5)  # of each table, tried in this order until the text fits
DECISIONS = "decisions.yaml"


def body(found: Recommendation, diff: Diff, by_hand: Sequence[str]) -> str:
    """The Markdown, 60,000 characters at most: tables are cut until it fits."""
    for most in _ROWS:
        text = "\n".join(_body(found, diff, by_hand, most)) + "\n"
        if len(text) <= MOST_CHARACTERS:
            break
    return fitting(text)


def _body(found: Recommendation, diff: Diff, by_hand: Sequence[str], most: int) -> Iterator[str]:
    watched = window(found.watched.edges)
    objects = [change for change in diff.objects if change.change not in ("unchanged", "rewritten")]
    yield "### Network policies proposed from flow logs"
    yield ""
    yield (
        f"{many(len(objects), 'object')} changed, {many(len(diff.gained), 'connection')} gained "
        f"and {len(diff.lost):,} lost. {many(found.replayed, 'wanted edge')} replayed through the "
        f"proposals: all allowed. Watched from {watched['first_seen']} to {watched['last_seen']}."
    )
    yield ""
    yield f"**Readiness:** {code(window_line(found.window))}"
    yield from _list("Objects", list(map(title, objects)), most, _BY_DIFF)
    for head, some in (("Connections gained", diff.gained), ("Connections lost", diff.lost)):
        shown = list(islice(each_line(some), most))
        yield from _list(head, shown, most, _BY_DIFF, len(some), some.lines)
    yield from _review(of_class(found.watched.edges, "review"), most)
    yield from _list("Changed by people, and left as it is", by_hand, most)
    lost = [
        f"{named(loss.row, 'client')} -> {named(loss.row, 'server')} {loss.row['protocol']} "
        f"{loss.row['port']}: {loss.why}"
        for loss in found.lost
    ]
    yield from _list(f"Lost: {found.writer.dialect} has no words for it", lost, most, _BY_FILE)
    beyond = surplus_lines(found.surplus)
    yield from _list(
        "Permitted beyond what was seen",
        beyond[:most],
        most,
        _BY_FILE,
        len(found.surplus),
        len(beyond),
    )
    if found.beside:
        holes = [f"{hole_text(hole)}; {uses_text(hole)}" for hole in found.beside.holes]
        yield from _list(
            "Rules in force that keep connections open beside it", holes, most, _BY_FILE
        )
    yield from _evidence(found, most)


def _list(
    head: str,
    found: Sequence[str],
    most: int,
    rest: str = "",
    told: int | None = None,
    lines: int | None = None,
) -> Iterator[str]:
    """A list cut after `most` lines; `rest` says where the others are.

    It has `lines` lines and tells of so many things; unless given, as many as are `found`.
    """
    if found:
        lines = len(found) if lines is None else lines
        yield from ("", f"#### {head}: {count(lines if told is None else told, lines)}", "")
        yield from (f"- {code(line)}" for line in found[:most])
        if lines > most:
            yield f"- and {many(lines - most, 'more line')}{rest}"


def _review(rows: Sequence[Row], most: int) -> Iterator[str]:
    if not rows:
        return
    yield from ("", f"#### Waiting for a decision: {len(rows)}", "")
    yield from ("| client | server | port | seen | why |", "| --- | --- | --- | --- | --- |")
    for row in rows[:most]:
        ends = (code(named(row, "client")), code(named(row, "server")))
        port = code(f"{row['protocol']} {row['port']}")
        seen = f"{int(row['connections']):,} on {many(int(row['days']), 'day')}"
        yield f"| {' | '.join((*ends, port, seen, code(str(row['reason']))))} |"
    if len(rows) > most:
        yield from ("", f"And {len(rows) - most} more; `flowpolicy patterns` shows all.")
    yield from ("", "Nothing is learned from these until somebody decides, once each:", "", "```sh")
    for row in rows[:most]:
        if words := decide_words(row):  # `accept` in place of `reject` accepts it
            yield f"flowpolicy decide reject --file {DECISIONS} {words} --who NAME --why REASON"
    yield "```"


def _evidence(found: Recommendation, most: int) -> Iterator[str]:
    rows = [
        (proposal, direction, rule)
        for proposal, _ in found.written
        for direction, rules in (
            ("ingress", proposal.policy.ingress),
            ("egress", proposal.policy.egress),
        )
        for rule in rules
    ]
    if not rows:
        return
    yield from ("", f"<details><summary>Evidence of {many(len(rows), 'rule')}</summary>", "")
    yield "| policy | direction | peers | ports | connections | days | last seen |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for proposal, direction, rule in rows[:most]:
        evidence = rule.evidence
        assert evidence is not None, "every proposed rule has evidence"
        peers = evidence.clients if direction == "ingress" else evidence.servers
        more = f" and {len(peers) - 3} more" if len(peers) > 3 else ""
        cells = (
            code(f"{proposal.namespace}/{proposal.policy.ref.name}"),
            direction,
            code(", ".join(peers[:3]) + more),
            code(", ".join(port_texts(rule.ports))),
            f"{evidence.connections:,}",
            str(evidence.days),
            str(evidence.last_seen),
        )
        yield f"| {' | '.join(cells)} |"
    if len(rows) > most:
        yield from ("", f"And {len(rows) - most} more, in what `flowpolicy recommend` writes.")
    yield from ("", "</details>")
