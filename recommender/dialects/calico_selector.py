"""Calico's selector language, read into `model.Selector`; an error shows the place with a caret.

The grammar is small enough to be read straight from the text. Keys stay as written unless the
caller gives a `key` function: whose label a key is depends on where the selector stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from recommender.model import EVERYTHING, And, Has, In, Not, Or, Selector, Text

# projectcalico/calico libcalico-go/lib/selector/tokenizer/tokenizer.go
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"[A-Za-z0-9_./-]+")
_STRING = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_OPERATOR = re.compile(
    r"==|!=|contains|starts[ \t]*with|ends[ \t]*with|not[ \t]*in|in", flags=re.ASCII
)
_LONGEST_KEY = 512
_DEEPEST = 100  # nesting that this reader follows; Calico sets no limit


class SelectorError(ValueError):
    """A selector that Calico refuses: why, and the text with a caret under `column` (from 1)."""

    def __init__(self, text: str, column: int, reason: str) -> None:
        self.text, self.column, self.reason = text, column, reason
        shown = text.translate({ord("\t"): " ", ord("\n"): "␤", ord("\r"): "␤"})
        super().__init__(f"column {column}: {reason}\n    {shown}\n    {' ' * (column - 1)}^")


def parse_selector(
    text: str,
    *,
    key: Callable[[str], str] = str,
    everything: Selector = EVERYTHING,
    outside: Selector = EVERYTHING,
) -> Selector:
    """Read one selector; an empty one is `all()`.

    Args:
        text: the selector as written.
        key: what to call each label.
        everything: what `all()` stands for.
        outside: what `global()` stands for.

    Raises:
        SelectorError: Calico would refuse the selector.
    """
    reader = _Reader(text, key, everything, outside)
    reader.space()
    if reader.ended():
        return everything
    selector = reader.disjunction(0)
    if not reader.ended():
        reader.fail("expected '&&', '||' or the end of the selector")
    return selector


def is_global(text: str) -> bool:
    """Whether a selector is `global()` and nothing else."""
    return re.fullmatch(r"[ \t]*global\([ \t]*\)[ \t]*", text) is not None


def says_global(text: str) -> bool:
    """Whether `global()` stands anywhere in a selector."""
    return re.search(r"global\([ \t]*\)", _STRING.sub("", text)) is not None


@dataclass(slots=True)
class _Reader:
    """A place in the text, moved on by each method that finds what it looks for."""

    text: str
    key: Callable[[str], str]
    everything: Selector
    outside: Selector
    at: int = 0

    def fail(self, reason: str, at: int | None = None) -> NoReturn:
        raise SelectorError(self.text, (self.at if at is None else at) + 1, reason)

    def ended(self) -> bool:
        return self.at == len(self.text)

    def space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        assert match
        self.at = match.end()

    def take(self, what: str) -> bool:
        """Pass over `what` and the space behind it, if it stands here."""
        found = self.text.startswith(what, self.at)
        if found:
            self.at += len(what)
            self.space()
        return found

    def disjunction(self, depth: int) -> Selector:
        terms = [self.conjunction(depth)]
        while self.take("||"):
            terms.append(self.conjunction(depth))
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def conjunction(self, depth: int) -> Selector:
        terms = [self.term(depth)]
        while self.take("&&"):
            terms.append(self.term(depth))
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def term(self, depth: int) -> Selector:
        negated = False
        while self.take("!"):
            negated = not negated
        found = self.call() or self.bracket(depth) or self.comparison()
        return Not(found) if negated else found

    def bracket(self, depth: int) -> Selector | None:
        opened = self.at
        if not self.take("("):
            return None
        if depth == _DEEPEST:
            self.fail(f"nested deeper than {_DEEPEST} parentheses")
        found = self.disjunction(depth + 1)
        if not self.take(")"):
            self.fail(f"expected ')' for the '(' in column {opened + 1}")
        return found

    def call(self) -> Selector | None:
        """`all()`, `global()` or `has(key)`; the parenthesis is part of the word."""
        found: Selector
        if self.take("all("):
            found = self.everything
        elif self.take("global("):
            found = self.outside
        elif self.take("has("):
            found = Has(self.label())
        else:
            return None
        if not self.take(")"):
            self.fail("expected ')'")
        return found

    def comparison(self) -> Selector:
        key = self.label()
        match = _OPERATOR.match(self.text, self.at)
        if not match:
            self.fail(
                "expected ==, !=, in, not in, contains, starts with or ends with after the label"
            )
        self.at = match.end()
        self.space()
        how = match[0].replace("\t", " ")
        if how in ("==", "!="):
            equal = In(key, frozenset({self.string()}))
            return equal if how == "==" else Not(equal)
        if how == "in":
            return In(key, self.strings())
        if how.startswith("not"):
            return Not(In(key, self.strings()))
        if how == "contains":
            return Text(key, "contains", self.string())
        return Text(key, "starts with" if how.startswith("starts") else "ends with", self.string())

    def label(self) -> str:
        match = _KEY.match(self.text, self.at)
        if not match:
            self.fail("expected a label, has(), all(), global(), '!' or '('")
        if len(match[0]) > _LONGEST_KEY:
            self.fail(f"a label is longer than {_LONGEST_KEY} characters", self.at + _LONGEST_KEY)
        self.at = match.end()
        self.space()
        return self.key(match[0])

    def string(self) -> str:
        match = _STRING.match(self.text, self.at)
        if not match:
            unended = self.text[self.at : self.at + 1] in ("'", '"')
            self.fail("this string has no end" if unended else "expected a string in quotes")
        self.at = match.end()
        self.space()
        return match[1] if match[1] is not None else match[2]

    def strings(self) -> frozenset[str]:
        if not self.take("{"):
            self.fail("expected '{'")
        found = []
        while not self.take("}"):
            found.append(self.string())
            if not self.take(",") and not self.text.startswith("}", self.at):
                self.fail("expected ',' or '}'")
        return frozenset(found)
