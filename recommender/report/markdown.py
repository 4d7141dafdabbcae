"""Markdown for forges: what a log or a person named stays in its place, and the whole is taken."""

from __future__ import annotations

from recommender.report.lines import printable

MOST_CHARACTERS = 60_000  # GitHub takes 65,536
_LONGEST = 500  # of one code span; no Kubernetes name is longer than 253
_CUT = "\n\nCut here: it is too long.\n"


def code(text: str) -> str:
    """Text in a code span that it cannot leave, in a table or elsewhere, whatever it holds.

    A pipe would end a table's cell even in a code span (github.github.com/gfm, Tables), so it is
    shown as its look-alike.
    """
    plain = printable(text).replace("`", "'").replace("|", "\N{DIVIDES}")
    shown = plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 3]}..."
    return f"`{shown}`" if plain.strip() else "` `"


def fitting(text: str) -> str:
    """The text, cut after a line where a forge would not take all of it."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return text[: MOST_CHARACTERS - len(_CUT)].rpartition("\n")[0] + _CUT
