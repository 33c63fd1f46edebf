"""When a cron expression fires, as instants in UTC: rules that the queue and the sensors of Dagster share.

The rules for zones and daylight saving, in which cron implementations differ, follow Debian's cron: nothing is lost,
nothing runs twice. `expressions` says which readings of a clock match, `clocks` when a clock shows them, and `walks`
puts both together.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from itertools import takewhile

from reportcron.clocks import first_instant, nearest_change, wall_of, zone_names, zone_of
from reportcron.errors import CronError, InvalidExpression, UnknownTimezone
from reportcron.expressions import MAX_EXPRESSION_LENGTH, TICK, DayRule, Fields, plan_of
from reportcron.walks import firings, last_elapsed, last_fixed

__all__ = [
    "FIRST",
    "LAST",
    "MAX_EXPRESSION_LENGTH",
    "ClockChange",
    "CronError",
    "DayRule",
    "Fields",
    "InvalidExpression",
    "UnknownTimezone",
    "between",
    "clock_change",
    "fields_of",
    "instant_of",
    "local",
    "meant_reading",
    "nearest_clock_change",
    "next_after",
    "previous_before",
    "reading_of",
    "times_a_day",
    "validate",
    "zone_names",
]

FIRST, LAST = datetime(100, 1, 1, tzinfo=UTC), datetime(9900, 1, 1, tzinfo=UTC)
"""The bounds of accepted instants: within them, every firing lies within the years of Python's datetime."""


def validate(expression: str, timezone: str = "UTC") -> None:
    """Raise `InvalidExpression`, its message naming the wrong one of the five fields, or `UnknownTimezone`.

    The syntax is crontab(5)'s, and croniter's `start/step` and ranges around the end (`FRI-MON`, `22-2`).
    """
    plan_of(expression)
    zone_of(timezone)


def next_after(expression: str, timezone: str, instant: datetime) -> datetime:
    """The first firing strictly after `instant` (aware), in UTC; memoised, since schedules share it.

    Raises `CronError`, and `ValueError` for an instant that is naive or not from `FIRST` to `LAST`.
    """
    # Converted to UTC for the memo: in its own zone, an instant equals the other one of the repeated hour.
    return _next_after(expression, timezone, _utc(instant))


def previous_before(expression: str, timezone: str, instant: datetime) -> datetime:
    """The last firing strictly before `instant` (aware), in UTC; raises as `next_after` does."""
    plan, zone, instant = plan_of(expression), zone_of(timezone), _utc(instant)
    return last_elapsed(plan, zone, instant) if plan.wildcard else last_fixed(plan, zone, instant)


def between(expression: str, timezone: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """The firings in `(start, end]` (both aware), in order and in UTC.

    An iterator, computed as it is read: a long range costs no more than the firings that are taken. The call itself
    raises the errors of `next_after`.
    """
    start, end = _utc(start), _utc(end)
    return takewhile(lambda fired: fired <= end, firings(plan_of(expression), zone_of(timezone), start))


def fields_of(expression: str) -> Fields:
    """What the expression's fields stand for. Raises `InvalidExpression`."""
    return plan_of(expression).fields


def times_a_day(expression: str) -> int:
    """How many times it fires on a matching day without a clock change. Raises `InvalidExpression`."""
    fields = fields_of(expression)
    return len(fields.minutes) * len(fields.hours)


class ClockChange(StrEnum):
    """What a change of the clock does to a firing."""

    SKIPPED = "skipped"
    """The clock skips the reading of the expression that day: it fires at the first instant after the gap."""
    REPEATED = "repeated"
    """The clock shows the reading twice that day; the firing is at one of the two."""


def clock_change(expression: str, timezone: str, fired: datetime) -> ClockChange | None:
    """The clock change at one of the expression's own firings (aware); None on an ordinary day.

    An empty expression is for instants that no expression decides: none of them is a skipped reading.
    """
    zone = zone_of(timezone)
    local = fired.astimezone(zone)
    if expression and plan_of(expression).after(wall_of(local) - TICK) != wall_of(local):
        return ClockChange.SKIPPED
    early, late = (wall_of(local).replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return ClockChange.REPEATED if early < late else None


def meant_reading(expression: str, timezone: str, fired: datetime) -> datetime:
    """The reading (naive) of the expression at a firing; in a gap, the clock never shows it."""
    reading = reading_of(timezone, fired)
    if clock_change(expression, timezone, fired) is ClockChange.SKIPPED:
        return plan_of(expression).before(reading)
    return reading


def nearest_clock_change(timezone: str, near: datetime, far: datetime) -> datetime | None:
    """When the zone's clock is set between two instants (aware), in UTC: the change that is nearest to `near`.

    It is the first instant of the new offset. `far` may be before `near`. Of the two, the later one is included.
    """
    return nearest_change(zone_of(timezone), _utc(near), _utc(far))


def instant_of(timezone: str, reading: datetime) -> datetime:
    """When the zone's clock first shows `reading` (naive), or is set past it, in UTC (rule R2)."""
    return first_instant(zone_of(timezone), reading)


def local(timezone: str, instant: datetime) -> datetime:
    """The instant (aware) in the zone, with its offset."""
    return instant.astimezone(zone_of(timezone))


def reading_of(timezone: str, instant: datetime) -> datetime:
    """The reading (naive) of the zone's clock at an instant (aware)."""
    return wall_of(instant.astimezone(zone_of(timezone)))


@lru_cache(maxsize=4096)
def _next_after(expression: str, timezone: str, instant: datetime) -> datetime:
    return next(firings(plan_of(expression), zone_of(timezone), instant))


def _utc(instant: datetime) -> datetime:
    if instant.utcoffset() is None:
        raise ValueError(f"{instant.isoformat()} has no time zone.")
    if not FIRST <= instant <= LAST:
        raise ValueError(f"{instant.isoformat()} is not within the years {FIRST.year} to {LAST.year}.")
    return instant.astimezone(UTC)
