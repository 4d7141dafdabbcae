"""How far a long computation is, told to whoever listens; pure functions stay pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str, int, int], None]

_MOST_WORDS = 200  # to the listener, however many items there are
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Tell the listener what is being done, how many items of it are, and how many there are."""
    before = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(before)


def tracked(what: str, items: Collection[T]) -> Iterable[T]:
    """The items, told of as they are taken; as they are where nobody listens.

    Args:
        what: is done with them, for people.
        items: as many as will be taken.
    """
    listener = _LISTENER.get()
    return items if listener is None else _told(listener, what, items)


def _told(listener: Listener, what: str, items: Collection[T]) -> Iterator[T]:
    every = len(items) // _MOST_WORDS + 1
    for done, item in enumerate(items):
        if done % every == 0:
            listener(what, done, len(items))
        yield item
    listener(what, len(items), len(items))
