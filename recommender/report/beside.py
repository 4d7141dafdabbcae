"""What stays open beside the proposals, for people; and the changes that would close it, as files.

The changes go into a folder of their own, never into that of the proposals: whoever applies the
proposals applies none of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ingest.errors import FlowpolicyError
from recommender.beside import Beside, Change, Hole
from recommender.manifests import document_text
from recommender.model import Reason, Ref
from recommender.report.changes import connection, lines
from recommender.report.lines import many, printable
from recommender.report.patterns import edge_text

_MOST = 3
INDEX = "changes.json"
SCHEMA = "flowpolicy/changes/1"


def told(found: Beside) -> Iterator[str]:
    """The outcome in some lines, most important first."""
    standing = len(found.theirs.policies)
    replaced = f", {found.replaced} that the proposals replace" if found.replaced else ""
    yield f"beside {many(standing, 'policy', 'policies')} in force{replaced}:"
    if found.denied:
        yield f"  they deny {many(len(found.denied), 'wanted edge')}, whatever is proposed"
        for each in found.denied[:_MOST]:
            why = each.verdict.because[0]
            yield f"    {each}: {_named(why)}"
        yield from _more(found.denied)
    yield f"  rules that keep connections open which nobody was seen to make: {len(found.holes)}"
    for hole in found.holes:
        yield f"    {hole_text(hole)}"
        yield f"      {uses_text(hole)}"
        for line in lines(hole.shown)[:_MOST]:
            yield f"      open: {line}"
        if hole.left:
            yield f"      no change closes it: {hole.left}"
    for line in found.voided:
        yield f"  {line}"
    if found.doubts:
        yield f"  rules of which it cannot be told whom they match: {len(found.doubts)}"
        for why in found.doubts[:_MOST]:
            yield f"    {_named(why)}"
        yield from _more(found.doubts)


def _more(found: Iterable[object]) -> Iterator[str]:
    rest = len(list(found)) - _MOST
    if rest > 0:
        yield f"    and {rest} more in recommendation.json"


def _named(why: Reason) -> str:
    rule = "" if why.rule is None else f" {why.direction} rule {why.rule}"
    place = f"{why.policy.place}: " if why.policy and why.policy.place else ""
    detail = f" ({why.detail})" if why.detail else ""
    return f"{place}{why.policy or 'no policy'}{rule}: {why.action}{detail}"


def _placed(ref: Ref) -> str:
    return f"{ref.place}: {ref}" if ref.place else str(ref)


def hole_text(hole: Hole) -> str:
    """The rule and how much it keeps open, in a line."""
    return (
        f"{_placed(hole.ref)} {hole.at}: {many(hole.pairs, 'pair')} "
        f"{'stays' if hole.pairs == 1 else 'stay'} open"
    )


def uses_text(hole: Hole) -> str:
    """What came through the rule, in a line."""
    found = (
        f"{many(hole.edges, 'wanted edge')} ({many(hole.connections, 'connection')}) came through "
        f"it; the proposals hold {'it' if hole.edges == 1 else 'them'}"
    )
    if not hole.edges:
        found = "no wanted edge came through it"
    if hole.waiting:
        found += (
            f"; {len(hole.waiting)} that wait for a decision would be denied without it, "
            f"as {edge_text(hole.waiting[0])}"
        )
    return found


def as_dict(found: Beside) -> dict[str, Any]:
    """The same for `recommendation.json`."""
    closing = {id(hole): change for change in found.changes for hole in change.closes}
    return {
        "policies": len(found.theirs.policies),
        "replaced": found.replaced,
        "holes": [
            {
                "policy": str(hole.ref),
                "place": hole.ref.place,
                "field": hole.at,
                "pairs": hole.pairs,
                "open": [connection(each) for each in hole.shown],
                "edges": hole.edges,
                "connections": hole.connections,
                "waiting": [edge_text(row) for row in hole.waiting],
                "closed_by": list(closing[id(hole)].says) if id(hole) in closing else [],
                "left": hole.left or None,
            }
            for hole in found.holes
        ],
        "denied": [
            {"edge": str(each), "because": [_named(why) for why in each.verdict.because]}
            for each in found.denied
        ],
        "voided": list(found.voided),
        "doubts": [_named(why) for why in found.doubts],
    }


def change_path(change: Change) -> Path:
    """Where a change stands in its folder."""
    return Path(change.ref.namespace or "cluster-wide", f"{change.ref.kind}-{change.ref.name}.yaml")


def change_text(change: Change) -> str:
    """The changed object, below what it closes and whom it was of use to."""
    said = [
        f"{_placed(change.ref)} with less in it, written by others: apply it only if you agree.",
        *(f"{one}." for one in change.says),
    ]
    for hole in change.closes:
        said += [f"Closes {hole.at}, where {hole.pairs:,} pairs stay open; {uses_text(hole)}."]
        said += [f"  closed: {line}" for line in lines(hole.shown)]
    said.append("Apply the proposals first: they hold what is wanted.")
    comments = "".join(f"# {printable(line)}\n" for line in said)
    return comments + document_text(change.body)


def write(found: Beside, folder: Path) -> list[Path]:
    """Write a file for each change, `FOLDER/<namespace>/<kind>-<name>.yaml`; their paths.

    What an earlier run wrote there and this one does not is removed.

    Raises:
        FlowpolicyError: the folder holds other files, or cannot be written.
    """
    texts = {str(change_path(change)): change_text(change) for change in found.changes}
    try:
        for name in _earlier(folder) - texts.keys():
            (folder / name).unlink(missing_ok=True)
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        index = {"schema": SCHEMA, "files": sorted(texts)}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise FlowpolicyError(f"{folder}: {error.strerror}; choose another --changes") from error
    return [folder / name for name in sorted(texts)]


def _earlier(folder: Path) -> set[str]:
    """The files that an earlier run wrote; the index may have been edited, and leads nowhere."""
    if not folder.exists() or not any(folder.iterdir()):
        return set()
    try:
        listed = json.loads((folder / INDEX).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FlowpolicyError(
            f"{folder}: holds other files and no {INDEX} of an earlier run; choose an empty or new "
            "folder for --changes"
        ) from error
    inside = {str(p.relative_to(folder)) for p in folder.glob("*/*.yaml")}
    return inside & set(map(str, listed))
