"""DNS names joined to patterns, by one stated rule and only where it is asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

_FEWEST_LABELS = 3  # `*.example.com`, never `*.com`


def joined(names: Iterable[str], at_least: int) -> dict[str, tuple[str, ...]]:
    """Names and patterns that stand for `names`, each with the names that it stands for.

    Where `at_least` names or more differ in their first label only, and have three labels or
    more, `*.` and the rest stands for them: one label in the place of the first, whatever it is.
    At 0 no names are joined.
    """
    siblings: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        siblings[name.partition(".")[2]].append(name)
    found: dict[str, tuple[str, ...]] = {}
    for rest, alike in siblings.items():
        # The rest of `a.example.com` has one label less.
        enough = 0 < at_least <= len(alike) and rest.count(".") >= _FEWEST_LABELS - 2
        found.update({f"*.{rest}": tuple(alike)} if enough else {name: (name,) for name in alike})
    return dict(sorted(found.items()))
