"""Lines for people: whatever a name holds, it begins no line and moves no cursor."""

from __future__ import annotations

import textwrap

_DEEPER = "  "


def printable(line: str) -> str:
    """One line in which control characters, line breaks among them, are written as escapes."""
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in line)


def many(number: int, one: str, more: str = "") -> str:
    """`1 edge`, `1,234 edges`; `more` is the plural where it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else more or f'{one}s'}"


def folded(line: str, width: int) -> str:
    """The line in lines of at most this many characters, the further ones deeper; no name is cut.

    Lines of a difference stay whole: they are read with the file beside them.
    """
    if len(line) <= width or line.startswith(("+", "-", "@")):
        return line
    indent = line[: len(line) - len(line.lstrip())] + _DEEPER
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
