"""A diff as text, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from recommender.model import CANNOT_BE_TOLD
from recommender.report.lines import many
from recommender.report.markdown import code

if TYPE_CHECKING:  # `connectivity` prints with this, and needs none of what a diff is made with
    from recommender.connectivity import Connections
    from recommender.diff import Diff, FlowChange, ObjectChange
    from recommender.listing import Connection
    from recommender.model import Interval, Remark

MOST_CONNECTIONS = 10_000  # gained, and lost, in JSON: the rest is counted
_WORDS = {True: "allowed", False: "denied", None: "cannot tell"}


def intervals(ports: Iterable[Interval]) -> str:
    """`80,443,8000-8010`; every port as `all ports`."""
    shown = ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ports)
    return "all ports" if shown == "1-65535" else shown


def lines(rows: Iterable[Connection]) -> list[str]:
    """Connections in lines.

    Protocols with the same ports between the same ends share one, and so do address ranges with
    the same other end and ports.
    """
    return list(_lines(rows).values())


def each_line(found: Connections) -> Iterator[str]:
    """The same lines, `found.lines` of them, of which those from one source are held at a time."""
    from_ranges = _lines(found.inward())
    for src, rows in groupby(found, lambda row: row.src):
        of_source = _lines(rows)
        if _is_range(src):  # other ranges, further on, may share its lines
            yield from (from_ranges.pop(key) for key in of_source if key in from_ranges)
        else:
            yield from of_source.values()


def _lines(rows: Iterable[Connection]) -> dict[tuple[str, str, str], str]:
    """The lines by what makes them one: the ends that are no range, and the ports."""
    protocols: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        protocols.setdefault((row.src, row.dst, intervals(row.ports)), []).append(row.protocol)
    together: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for (src, dst, ports), names in protocols.items():
        ends = ("" if _is_range(src) else src, "" if _is_range(dst) else dst)
        together.setdefault((*ends, f"{','.join(names)} {ports}"), []).append((src, dst))
    return {
        (src, dst, ports): f"{src or _ranges(s for s, _ in ends)} -> "
        f"{dst or _ranges(d for _, d in ends)} {ports}"
        for (src, dst, ports), ends in together.items()
    }


def _is_range(end: str) -> bool:
    return "/" not in end


def _ranges(ranges: Iterable[str]) -> str:
    found = [_one(text) for text in ranges]
    if len(found) == 1:
        return found[0]
    return f"{len(found)} address ranges ({found[0]}, ..., {found[-1]})"


def _one(text: str) -> str:
    first, _, last = text.partition("-")
    return first if first == last else text


def flow(row: FlowChange) -> str:
    """One observed edge whose verdict changes, in a line."""
    return (
        f"{row.client} -> {row.server} {row.protocol} {row.port}: {_WORDS[row.old]} before, "
        f"{_WORDS[row.new]} after; {row.class_}, {many(row.connections, 'connection')}, "
        f"last seen {row.last_seen}"
    )


def changed(objects: Iterable[ObjectChange]) -> list[ObjectChange]:
    """The objects that are not the same in both sets."""
    return [change for change in objects if change.change != "unchanged"]


def count(found: int, lines: int) -> str:
    """How many things a list tells of, and in how many lines where some share one."""
    return f"{found:,}" if found == lines else f"{found:,} in {many(lines, 'line')}"


def text(
    diff: Diff, most: int | None = None, everything: str = "--all shows them"
) -> Iterator[str]:
    """The whole diff in lines for people: objects, connections, observed flows, remarks.

    Sections are cut after `most` lines; what matters most in them comes first. `everything` says
    where the rest is.
    """
    for change in changed(diff.objects):
        yield title(change)
        yield from change.text.splitlines()
    same = len(diff.objects) - len(changed(diff.objects))
    yield f"objects unchanged: {same}"
    for way, sign, found, which, remarks in (
        ("gained", "+", diff.gained, "old", diff.old_remarks),
        ("lost", "-", diff.lost, "new", diff.new_remarks),
    ):
        yield f"connections {way}: {count(len(found), found.lines)}"
        yield from (f"  {sign} {line}" for line in islice(each_line(found), most))
        held = "-o json holds them" if len(found) <= MOST_CONNECTIONS else "in -o json as well"
        yield from _rest(found.lines, most, f"{everything}, {held}")
        if found:
            yield from _doubt(which, remarks)
    held = f"{everything}, -o json holds them"
    if diff.flows is not None:
        told = _flows(diff.flows)
        yield f"observed flows that change verdict: {count(len(diff.flows), len(told))}"
        yield from (f"  ! {line}" for line in told[:most])
        yield from _rest(len(told), most, held)
    for which, remarks in (("old", diff.old_remarks), ("new", diff.new_remarks)):
        if remarks:
            yield f"to look at in the {which} set: {len(remarks)}"
            yield from (f"  {_remark(remark)}" for remark in remarks[:most])
            yield from _rest(len(remarks), most, held)


def _rest(lines: int, most: int | None, where: str) -> Iterator[str]:
    if most is not None and lines > most:
        yield f"  and {many(lines - most, 'more line')}; {where}"


_FEW = 3


def _flows(flows: Iterable[FlowChange]) -> list[str]:
    """An edge a line; many edges of one client that change in the same way share a line.

    Wanted edges always have a line of their own.
    """
    alike: dict[tuple[object, ...], list[FlowChange]] = {}
    for row in sorted(flows, key=_weight):
        own = (row.server, row.protocol, row.port) if row.class_ == "wanted" else ()
        alike.setdefault((row.client, row.class_, row.old, row.new, *own), []).append(row)
    found: list[str] = []
    for rows in alike.values():
        if len(rows) <= _FEW:
            found.extend(flow(row) for row in rows)
            continue
        first, servers = rows[0], len({row.server for row in rows})
        change = f"{_WORDS[first.old]} before, {_WORDS[first.new]} after; {first.class_}"
        where = f"{many(servers, 'server')}, {len(rows)} edges"
        found.append(f"{first.client} -> {where}: {change}")
    return found


def _weight(row: FlowChange) -> tuple[bool, bool, int]:
    """Wanted flows that the new set denies first, then by how often they were seen."""
    return row.class_ != "wanted", row.new is True, -row.connections


def title(change: ObjectChange) -> str:
    """What becomes of an object, in a line."""
    was = f" (was {change.old_name})" if change.old_name else ""
    return f"{change.change}: {change.kind} {change.name}{was}"


def _doubt(which: str, remarks: Iterable[Remark]) -> Iterator[str]:
    """That a set may permit what is listed as beyond it, where some of its rules are unknown."""
    unknown = [remark for remark in remarks if remark.topic == CANNOT_BE_TOLD]
    if unknown:
        yield (
            f"the {which} set may permit some of these too: of {len(unknown)} of its rules it "
            f"cannot be told whom they match; the first: {_remark(unknown[0])}"
        )


def _remark(remark: Remark) -> str:
    rule = f" {remark.direction} rule {remark.rule}" if remark.rule is not None else ""
    place = f"{remark.ref.place}: " if remark.ref.place else ""
    return f"{place}{remark.ref}{rule}: {remark.topic}: {remark.message}"


def as_dict(diff: Diff, most: int = MOST_CONNECTIONS) -> dict[str, Any]:
    """The diff as JSON, as `diff.schema.json` has it.

    Of what is gained, and of what is lost, `most` are listed and the rest counted.
    """
    ways = {"gained": diff.gained, "lost": diff.lost}
    more = {f"{way}_more": len(found) - most for way, found in ways.items() if len(found) > most}
    return {
        "schema": "flowpolicy/diff/v1",
        "by": diff.by,
        "objects": [
            {
                "kind": change.kind,
                "name": change.name,
                "change": change.change,
                "old_name": change.old_name,
                "text": change.text,
            }
            for change in diff.objects
        ],
        **{way: [connection(row) for row in islice(rows, most)] for way, rows in ways.items()},
        **more,
        "flows": None if diff.flows is None else [_flow(row) for row in diff.flows],
        "findings": [
            {"set": which, **_finding(remark)}
            for which, remarks in (("old", diff.old_remarks), ("new", diff.new_remarks))
            for remark in remarks
        ],
    }


def json_of_all(diff: Diff) -> Iterator[str]:
    """The diff as JSON with all that is gained and lost, in pieces of one source at most."""
    comma = "{"
    for key, value in as_dict(diff, 0).items():
        if key.endswith("_more"):
            continue
        yield f"{comma}\n  {json.dumps(key)}: "
        found = {"gained": diff.gained, "lost": diff.lost}.get(key)
        if found:
            yield from _json_of_each(found)
        else:
            yield _indented(value, 2)
        comma = ","
    yield "\n}\n"


def _json_of_each(found: Connections) -> Iterator[str]:
    comma = "["
    for _, rows in groupby(found, lambda row: row.src):
        texts = ",".join(f"\n    {_indented(connection(row), 4)}" for row in rows)
        yield f"{comma}{texts}"
        comma = ","
    yield "\n  ]"


def _indented(value: Any, by: int) -> str:
    # Texts in JSON hold no line break.
    return json.dumps(value, indent=2).replace("\n", f"\n{' ' * by}")


def _finding(remark: Remark) -> dict[str, Any]:
    return {
        "policy": str(remark.ref),
        "place": remark.ref.place,
        "direction": remark.direction,
        "rule": remark.rule,
        "topic": remark.topic,
        "message": remark.message,
    }


def connection(row: Connection) -> dict[str, Any]:
    """A connection for JSON: `ports` are [first, last] pairs."""
    ports = [list(interval) for interval in row.ports]
    return {"src": row.src, "dst": row.dst, "protocol": row.protocol, "ports": ports}


def _flow(row: FlowChange) -> dict[str, Any]:
    return {key.rstrip("_"): value for key, value in asdict(row).items()}


_MOST = 50


def markdown(diff: Diff) -> str:
    """The diff for a pull request: counts first, then tables that are cut after some rows."""
    return "\n".join(_markdown(diff))


def _markdown(diff: Diff) -> Iterator[str]:
    yield "### Network policy changes"
    yield ""
    counts = [many(len(changed(diff.objects)), "object")]
    counts += [f"{many(len(diff.gained), 'connection')} gained", f"{len(diff.lost):,} lost"]
    if diff.flows is not None:
        flows = many(len(diff.flows), "observed flow")
        counts.append(f"{flows} {'changes' if len(diff.flows) == 1 else 'change'} verdict")
    yield ", ".join(counts)
    gained, lost = (list(islice(each_line(each), _MOST)) for each in (diff.gained, diff.lost))
    cut = {"Connections gained": diff.gained.lines, "Connections lost": diff.lost.lines}
    for head, found in (
        ("Objects", [title(change) for change in changed(diff.objects)]),
        ("Connections gained", gained),
        ("Not sure to be gained", list(_doubt("old", diff.old_remarks)) if diff.gained else []),
        ("Connections lost", lost),
        ("Not sure to be lost", list(_doubt("new", diff.new_remarks)) if diff.lost else []),
        (
            "Observed flows that change verdict",
            _flows(diff.flows or ()),
        ),
        ("To look at in the old set", [_remark(r) for r in diff.old_remarks]),
        ("To look at in the new set", [_remark(r) for r in diff.new_remarks]),
    ):
        if found:
            yield ""
            yield f"#### {head}"
            yield ""
            yield from (f"- {code(line)}" for line in found[:_MOST])
            if (lines := cut.get(head, len(found))) > _MOST:
                yield f"- and {many(lines - _MOST, 'more line')}"
