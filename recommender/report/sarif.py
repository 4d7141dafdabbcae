"""What a review finds as SARIF 2.1.0, which code scanning shows at the lines of the files.

https://docs.oasis-open.org/sarif/sarif/v2.1.0; GitHub takes at most 5,000 results a run
(docs.github.com: SARIF support for code scanning).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from recommender.model import Remark
from recommender.replay import Replayed
from recommender.report.lines import printable

_MOST = 5000
_RULES = {
    "wanted-traffic-denied": ("error", "Wanted traffic would be denied"),
    "finding": ("warning", "A policy to look at"),
}


def sarif(denied: Sequence[Replayed], remarks: Sequence[Remark], root: Path) -> dict[str, Any]:
    """One run: an error for each wanted edge that would be denied, a warning for each remark.

    Args:
        denied: with the rules that decide.
        remarks: of the new set.
        root: of the repository, to which paths are relative.
    """
    results = [_denied(one, root) for one in denied] + [_remark(one, root) for one in remarks]
    rules = [
        {
            "id": name,
            "shortDescription": {"text": words},
            "defaultConfiguration": {"level": level},
        }
        for name, (level, words) in _RULES.items()
    ]
    driver = {"name": "flowpolicy", "rules": rules}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results[:_MOST]}],
    }


def _denied(one: Replayed, root: Path) -> dict[str, Any]:
    places = [reason.policy.place for reason in one.verdict.because if reason.policy is not None]
    words = f"{one} would be denied; it was seen {int(one.row['connections']):,} times"
    return _result("wanted-traffic-denied", words, next(filter(None, places), None), root)


def _remark(one: Remark, root: Path) -> dict[str, Any]:
    rule = f" {one.direction} rule {one.rule}" if one.rule is not None else ""
    return _result("finding", f"{one.ref}{rule}: {one.topic}: {one.message}", one.ref.place, root)


def _result(rule: str, words: str, place: str | None, root: Path) -> dict[str, Any]:
    text = printable(words)
    path, line = _where(place, root)
    return {
        "ruleId": rule,
        "level": _RULES[rule][0],
        "message": {"text": text},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": path},
                    "region": {"startLine": line},
                }
            }
        ],
        "partialFingerprints": {
            "flowpolicy/v1": hashlib.sha256(f"{rule} {text}".encode()).hexdigest()
        },
    }


def _where(place: str | None, root: Path) -> tuple[str, int]:
    """A place (`file:line`) as a path in the repository and a line; its top where it has none."""
    name, _, line = (place or "").rpartition(":")
    path = Path(name)
    if not name or not path.is_relative_to(root):
        return ".", 1
    return PurePath(path.relative_to(root)).as_posix(), int(line) if line.isdigit() else 1
