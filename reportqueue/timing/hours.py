"""The hours of a clock: a time range cut where a zone's clock shows a full hour or is set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import reportcron

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class ClockSet:
    """A change of the zone's clock."""

    instant: datetime
    """The first instant of the new offset, aware UTC."""
    by: timedelta
    """How far it is set forward; negative if it is set back."""
    day: date
    """The day that is longer or shorter because of it."""
    day_length: timedelta
    """From its first instant to the first one of the next day."""


@dataclass(frozen=True)
class ClockHour:
    """One hour of the clock; shorter if the clock is set within it, or if the time range ends."""

    start: datetime
    """Aware UTC."""
    end: datetime
    """The first instant after it, aware UTC."""
    clock_set: ClockSet | None
    """The change at its start."""


def hours_of(timezone: str, instant: datetime, count: int) -> list[ClockHour]:
    """The hours of the zone's clock from the one that has `instant` (aware) on, for `count` hours of elapsed time.

    Raises `reportcron.UnknownTimezone`.
    """
    start = _begin(timezone, instant.astimezone(UTC))
    end = start + count * HOUR
    found: list[ClockHour] = []
    clock_set = None
    while start < end:
        reading = reportcron.reading_of(timezone, start)
        until = min(start + HOUR - _past_the_hour(reading), end)
        change = reportcron.nearest_clock_change(timezone, start, until)
        until = until if change is None else change
        found.append(ClockHour(start, until, clock_set))
        clock_set = None if change is None else _clock_set(timezone, change)
        start = until
    return found


def _begin(timezone: str, instant: datetime) -> datetime:
    """When the clock last showed a full hour, or was set."""
    begin = instant - _past_the_hour(reportcron.reading_of(timezone, instant))
    return reportcron.nearest_clock_change(timezone, instant, begin) or begin


def _past_the_hour(reading: datetime) -> timedelta:
    return reading - reading.replace(minute=0, second=0, microsecond=0)


def _clock_set(timezone: str, instant: datetime) -> ClockSet:
    before, after = (reportcron.local(timezone, one) for one in (instant - timedelta(microseconds=1), instant))
    # A clock that is set at midnight changes the length of the day that it then shows.
    day = after.date()
    first, following = (
        reportcron.instant_of(timezone, datetime.combine(one, time())) for one in (day, day + timedelta(days=1))
    )
    by = (after.utcoffset() or timedelta()) - (before.utcoffset() or timedelta())
    return ClockSet(instant, by, day, following - first)
