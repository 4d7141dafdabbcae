"""CronJob schedules: when a job runs next, and when it ran last.

Vixie cron's five fields as Kubernetes reads them (robfig/cron v3, standard parser), in UTC.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NAMES: tuple[dict[str, int], ...] = (
    {},
    {},
    {},
    {name.lower(): i for i, name in enumerate(calendar.month_abbr) if name},
    {name: i for i, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))},
)
_FURTHEST_DAYS = 366 * 8  # 29 February comes at least once in eight years


@dataclass(frozen=True, slots=True)
class Schedule:
    """The minutes, hours, days, months and weekdays (0 is Sunday) at which a job runs.

    Where both days and weekdays are restricted either is enough (`either_day`).
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def next_after(self, time: datetime) -> datetime | None:
        """The first run after an instant; None for a date that never comes."""
        start = time.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        for offset in range(_FURTHEST_DAYS):
            day = (start + timedelta(days=offset)).replace(hour=0, minute=0)
            if not self._on(day):
                continue
            for hour in self.hours:
                for minute in self.minutes:
                    found = day.replace(hour=hour, minute=minute)
                    if found >= start:
                        return found
        return None

    def _on(self, day: datetime) -> bool:
        by_day = day.day in self.days
        by_weekday = day.isoweekday() % 7 in self.weekdays
        fits = by_day or by_weekday if self.either_day else by_day and by_weekday
        return fits and day.month in self.months


def schedule(text: str) -> Schedule:
    """Read a schedule.

    Raises:
        ValueError: it is none that Kubernetes would take, or has a time zone in it.
    """
    fields = _MACROS.get(text.strip().lower(), text).split()
    if len(fields) != len(_BOUNDS):
        raise ValueError(f"{text!r} is no cron schedule of five fields")
    sets = [_values(fields[i], _BOUNDS[i], _NAMES[i]) for i in range(5)]
    stars = [field[0] in "*?" for field in (fields[2], fields[4])]
    return Schedule(
        minutes=tuple(sorted(sets[0])),
        hours=tuple(sorted(sets[1])),
        days=frozenset(sets[2]),
        months=frozenset(sets[3]),
        weekdays=frozenset(value % 7 for value in sets[4]),
        either_day=not any(stars),
    )


def _values(field: str, bounds: tuple[int, int], names: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for part in field.lower().split(","):
        span, slash, step_text = part.partition("/")
        low_text, dash, high_text = span.partition("-")
        if span in ("*", "?"):
            low, high = bounds
        else:
            low = _number(low_text, names)
            high = _number(high_text, names) if dash else bounds[1] if slash else low
        step = _number(step_text, {}) if slash else 1
        if not bounds[0] <= low <= high <= bounds[1] or step < 1:
            raise ValueError(f"{field!r} is out of range")
        found.update(range(low, high + 1, step))
    return found


def _number(text: str, names: dict[str, int]) -> int:
    if text in names:
        return names[text]
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no number")
    return int(text)
