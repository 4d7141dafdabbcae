"""What a value of a log must be before it is stored; what is not raises UnreadableError.

Logs are written by others: a name may hold a line break, an address may be none, a time may be
the year 1. The readers of all formats pass their values through here.
"""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import msgspec

MICROSECONDS = 1_000_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


class UnreadableError(Exception):
    """A line that cannot be understood.

    Args:
        reason: one of few fixed strings, to count by.
        detail: what exactly, for a person.
    """

    def __init__(self, reason: str, detail: str | None = None) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def check_keys(line: bytes | str) -> None:
    """Look for an object that has a key twice: readers differ in which of the values they take.

    Raises:
        UnreadableError: there is one.
    """
    # What is written again byte for byte as it was has no key twice. msgspec is ten times as fast.
    with suppress(msgspec.DecodeError):
        if msgspec.json.encode(msgspec.json.decode(line)) == line:
            return
    try:
        # Numbers stay text: a long one is not this function's to judge.
        json.loads(
            line, strict=False, object_pairs_hook=_check_pairs, parse_int=str, parse_float=str
        )
    except ValueError as error:
        raise UnreadableError("invalid JSON", str(error)[:200]) from None


def _check_pairs(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UnreadableError("duplicate key", repr(twice)[:200])


def text(value: str | None) -> str | None:
    """The value, or null where it is empty.

    Raises:
        UnreadableError: it holds a control character or line break, which no name may.
    """
    if not value:
        return None
    if _CONTROL.search(value):
        raise UnreadableError("control character", repr(value)[:200])
    return value


def lines(items: Iterable[str]) -> str | None:
    """Distinct items, sorted, one a line; null where there is none.

    Raises:
        UnreadableError: an item holds a control character or line break.
    """
    return "\n".join(sorted({item for item in items if text(item)})) or None


@lru_cache(maxsize=65_536)
def address(value: str | None) -> str | None:
    """The IP address in canonical text; null where it is empty.

    Raises:
        UnreadableError: it is no IP address, or has a zone (`fe80::1%eth0`).
    """
    if not value:
        return None
    try:
        parsed = ip_address(value)
    except ValueError:
        raise UnreadableError("bad address", repr(value)[:200]) from None
    if "%" in value:
        raise UnreadableError("bad address", repr(value)[:200])
    return str(parsed)


def port(value: int | None) -> int | None:
    """The port; null where it is 0, which no log means.

    Raises:
        UnreadableError: it is outside 0 to 65535.
    """
    if not value:
        return None
    if not 0 < value <= 65_535:
        raise UnreadableError("bad port", str(value)[:200])
    return value


def instant(value: str | None) -> int:
    """Microseconds since 1970 UTC of an RFC 3339 time; a finer fraction is cut off.

    Raises:
        UnreadableError: it is no such time, or before 1970 (Go's unset time is in the year 1).
    """
    if value is None:
        raise UnreadableError("unreadable time", "no time")
    fraction = value[20:-1]
    try:
        if value[-1:] == "Z" and value[19] in ".Z" and (fraction.isdecimal() or value[19] == "Z"):
            return second(value[:19]) * MICROSECONDS + int(fraction[:6].ljust(6, "0"))
        moment = datetime.fromisoformat(value)
        utc = moment.astimezone(UTC) if moment.tzinfo else None
        known = None if utc is None else second(f"{utc:%Y-%m-%dT%H:%M:%S}")
    except (ValueError, IndexError, OverflowError):
        known = None
    if known is None:
        raise UnreadableError("unreadable time", repr(value)[:200])
    return known * MICROSECONDS + moment.microsecond


@lru_cache(maxsize=4_096)
def second(value: str) -> int:
    """Seconds since 1970 of a time as `2026-03-02T08:00:00`, in UTC.

    Raises:
        ValueError: it is no such time, or before 1970.
    """
    # Not strptime: where few lines share a second, it would take a third of the reading.
    moment = datetime.fromisoformat(value)
    if value[10] != "T" or value[16] != ":" or moment.year < 1970:
        raise ValueError(value)
    return int(moment.replace(tzinfo=UTC).timestamp())
