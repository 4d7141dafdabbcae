"""Lines for people: whatever a name holds, it begins no line and moves no cursor."""

from __future__ import annotations


def printable(line: str) -> str:
    """One line in which control characters, line breaks among them, are written as escapes."""
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in line)
