"""When a cron expression fires, as instants in UTC.

croniter answers one question only: which readings of a wall clock match. It never sees a time zone. The
rules for zones and daylight saving, in which cron implementations differ, are here and follow Debian's cron:
nothing is lost, nothing runs twice. Nothing else imports croniter.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import takewhile
from zoneinfo import ZoneInfo, available_timezones

from croniter import croniter

MAX_EXPRESSION_LENGTH = 200
FIRST, LAST = datetime(100, 1, 1, tzinfo=UTC), datetime(9900, 1, 1, tzinfo=UTC)
"""The instants accepted: from there, no expression's firing lies beyond the years that Python knows."""

_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_SYNTAX = f"five fields (minute, hour, day of month, month, day of week) or one of {' '.join(_MACROS)}"
_ITEM = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/([0-9]+))?", re.ASCII)
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SECOND, _TICK = timedelta(seconds=1), timedelta(microseconds=1)
# Shorter than any stretch of constant offset in the zone database (95 hours: Freetown, 1939), so that no two
# changes hide between two probes.
_PROBE = timedelta(days=3)


class CronError(ValueError):
    """The schedule cannot fire as written; `str()` tells a person what to change."""

    field: str
    """The schedule's field at fault, "cron" or "timezone"."""


class InvalidExpression(CronError):
    """The expression is not of the five-field syntax, or never fires."""

    field = "cron"


class UnknownTimezone(CronError):
    """The name is not an IANA time zone's."""

    field = "timezone"


def validate(expression: str, timezone: str = "UTC") -> None:
    """Raise `InvalidExpression`, its message naming the wrong one of the five fields, or `UnknownTimezone`.

    The syntax is crontab(5)'s, and croniter's `start/step` and ranges around the end (`FRI-MON`, `22-2`).
    """
    _plan(expression)
    _zone(timezone)


def next_after(expression: str, timezone: str, instant: datetime) -> datetime:
    """The first firing strictly after `instant` (aware), in UTC; memoised, since schedules share it.

    Raises `CronError`, and `ValueError` for an instant that is naive or not from `FIRST` to `LAST`.
    """
    # In UTC before it becomes a key: in its own zone, an instant equals its double in the repeated hour.
    return _next_after(expression, timezone, _utc(instant))


def previous_before(expression: str, timezone: str, instant: datetime) -> datetime:
    """The last firing strictly before `instant` (aware), in UTC; raises as `next_after` does."""
    plan, zone, instant = _plan(expression), _zone(timezone), _utc(instant)
    return _last_elapsed(plan, zone, instant) if plan.wildcard else _last_fixed(plan, zone, instant)


def between(expression: str, timezone: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """The firings in `(start, end]` (both aware), in order and in UTC.

    An iterator, evaluated as it is read: a long window costs no more than what is taken of it. The errors are
    those of `next_after`, raised by the call itself.
    """
    start, end = _utc(start), _utc(end)
    return takewhile(lambda fired: fired <= end, _firings(_plan(expression), _zone(timezone), start))


def times_a_day(expression: str) -> int:
    """How many minutes of a matching day fire, on a clock that is not set meanwhile. Raises `InvalidExpression`."""
    return _plan(expression).times_a_day


def fields_of(expression: str) -> str:
    """The expression, with a name such as `@daily` written out. Raises `InvalidExpression` for an unknown name."""
    name = expression.strip()
    if not name.startswith("@"):
        return expression
    if name.lower() not in _MACROS:
        raise InvalidExpression(f"{name!r} is not known. Accepted: {_SYNTAX}.")
    return _MACROS[name.lower()]


class ClockChange(StrEnum):
    """What a change of the clock does to a firing."""

    SKIPPED = "skipped"
    """The reading that was meant is left out that day: it fires at the first instant after the gap."""
    REPEATED = "repeated"
    """The clock shows that reading twice that day; this is one of the two."""


def clock_change(expression: str, timezone: str, fired: datetime) -> ClockChange | None:
    """What the clock does at one of the expression's own firings (aware); None on an ordinary day.

    An empty expression stands for instants that no reading of a clock decides, which cannot be left out.
    """
    zone = _zone(timezone)
    local = fired.astimezone(zone)
    if expression and _plan(expression).after(_wall(local) - _TICK) != _wall(local):
        return ClockChange.SKIPPED
    early, late = (_wall(local).replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return ClockChange.REPEATED if early < late else None


def meant_reading(expression: str, timezone: str, fired: datetime) -> datetime:
    """The reading (naive) of the clock for which the expression fired: in a gap, one that it never showed."""
    reading = reading_of(timezone, fired)
    if clock_change(expression, timezone, fired) is ClockChange.SKIPPED:
        return _plan(expression).before(reading)
    return reading


def instant_of(timezone: str, reading: datetime) -> datetime:
    """When the zone's clock first shows `reading` (naive), or is set past it, in UTC (rule R2)."""
    return _first_instant(_zone(timezone), reading)


def local(timezone: str, instant: datetime) -> datetime:
    """The instant (aware) by the zone's clock, with its offset."""
    return instant.astimezone(_zone(timezone))


def reading_of(timezone: str, instant: datetime) -> datetime:
    """What the zone's clock shows at an instant (aware): naive."""
    return _wall(instant.astimezone(_zone(timezone)))


@lru_cache(maxsize=4096)
def _next_after(expression: str, timezone: str, instant: datetime) -> datetime:
    return next(_firings(_plan(expression), _zone(timezone), instant))


def _utc(instant: datetime) -> datetime:
    if instant.utcoffset() is None:
        raise ValueError(f"{instant.isoformat()} has no time zone.")
    if not FIRST <= instant <= LAST:
        raise ValueError(f"{instant.isoformat()} is not within the years {FIRST.year} to {LAST.year}.")
    return instant.astimezone(UTC)


# Two kinds of job, on a clock that is set now and then. Each walk is a function of the instant alone: begun
# anew anywhere, it goes on as the old one would have (R3).


def _firings(plan: _Plan, zone: ZoneInfo, instant: datetime) -> Iterator[datetime]:
    return _elapsed(plan, zone, instant) if plan.wildcard else _fixed(plan, zone, instant)


def _elapsed(plan: _Plan, zone: ZoneInfo, instant: datetime) -> Iterator[datetime]:
    """R1: every matching minute of elapsed time, one stretch of constant offset after the other."""
    offset = _offset(zone, instant)
    wall = _wall(instant + offset)
    while True:
        wall = plan.after(wall)
        fired = wall.replace(tzinfo=UTC) - offset
        if (change := _nearest_change(zone, instant, fired)) is None:
            yield fired
            instant = fired
        else:
            # The clock is set before that: go on from just before its new reading, which may match too.
            offset = _offset(zone, change)
            instant, wall = change, _wall(change + offset - _TICK)


def _last_elapsed(plan: _Plan, zone: ZoneInfo, instant: datetime) -> datetime:
    while True:
        offset = _offset(zone, instant - _TICK)
        fired = plan.before(_wall(instant + offset)).replace(tzinfo=UTC) - offset
        if (change := _nearest_change(zone, instant - _TICK, fired)) is None:
            return fired
        instant = change


def _fixed(plan: _Plan, zone: ZoneInfo, instant: datetime) -> Iterator[datetime]:
    """R2: every matching reading of the clock once, at its first instant; both are in the same order."""
    wall = _wall(instant.astimezone(zone))
    while True:
        wall = plan.after(wall)
        # Not later: a repeated reading whose first copy has passed, or one more reading lost in the same gap.
        if (fired := _first_instant(zone, wall)) > instant:
            yield fired
            instant = fired


def _last_fixed(plan: _Plan, zone: ZoneInfo, instant: datetime) -> datetime:
    wall = _wall(instant.astimezone(zone))
    # In a second copy, later readings have passed too: start from what the clock would read, never set back.
    wall += instant - _first_instant(zone, wall)
    while True:
        wall = plan.before(wall)
        if (fired := _first_instant(zone, wall)) < instant:
            return fired


def _first_instant(zone: ZoneInfo, wall: datetime) -> datetime:
    """When the clock first reads `wall`, or is set past it."""
    # PEP 495: fold tells the copies of a repeated reading apart; a skipped one, it puts after the gap by the
    # old offset (0) and before it by the new one (1).
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _change(zone, second, first) if second < first else first


def _nearest_change(zone: ZoneInfo, near: datetime, far: datetime) -> datetime | None:
    """The change of offset nearest to `near`, between it and `far` (before or after): its first instant."""
    step = _PROBE if near < far else -_PROBE
    offset = _offset(zone, near)
    while near != far:
        probe = far if abs(far - near) < _PROBE else near + step
        if _offset(zone, probe) != offset:
            return _change(zone, min(near, probe), max(near, probe))
        near = probe
    return None


def _change(zone: ZoneInfo, start: datetime, end: datetime) -> datetime:
    """The first instant of the other offset in `(start, end]`, by bisection, since zoneinfo does not tell."""
    # All changes fall on whole seconds.
    start, end = start.replace(microsecond=0), end.replace(microsecond=0)
    before = _offset(zone, start)
    while end - start > _SECOND:
        middle = start + (end - start) // _SECOND // 2 * _SECOND
        if _offset(zone, middle) == before:
            start = middle
        else:
            end = middle
    return end


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    return _wall(instant.astimezone(zone)) - _wall(instant)


def _wall(time: datetime) -> datetime:
    """What a clock reads: naive, on purpose."""
    return time.replace(tzinfo=None)


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    # Without the setting of this one machine, and the placeholder for "not set".
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _zone(name: str) -> ZoneInfo:
    # By the list: ZoneInfo opens a file of that name, and fails in many ways for paths, folders, long names.
    if not isinstance(name, str) or name not in _zone_names():
        given = str(name)[:64]
        raise UnknownTimezone(f"{given!r} is not a time zone. Accepted: an IANA name such as Europe/Paris.")
    return ZoneInfo(name)


# Expressions are understood here, field by field, for clear messages; croniter gets them in plain numbers.


class _Plan:
    """An expression, understood: which readings of a clock match, and by which rule they fire."""

    def __init__(self, wildcard: bool, plain: str, times_a_day: int) -> None:
        self.wildcard = wildcard
        self.times_a_day = times_a_day
        self._search = croniter(plain)

    def after(self, wall: datetime) -> datetime:
        """The first match after `wall`; both naive."""
        # In a copy, since croniter keeps its position in itself and threads share the plan.
        minute = wall.replace(second=0, microsecond=0)
        found: datetime = copy.copy(self._search).get_next(datetime, minute)
        return found

    def before(self, wall: datetime) -> datetime:
        """The last match before `wall`; both naive."""
        # From a whole minute: croniter reckons in floats, which do not resolve microseconds in distant years.
        minute = (wall + timedelta(minutes=1) - _TICK).replace(second=0, microsecond=0)
        found: datetime = copy.copy(self._search).get_prev(datetime, minute)
        return found


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    @property
    def top(self) -> int:
        return self.high + (self.names is _WEEKDAYS)  # 7 is Sunday as well

    def refusal(self, given: str, reason: str) -> InvalidExpression:
        names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return InvalidExpression(
            f"The {self.name} field, {given!r}, is wrong: {reason}. Accepted: * or numbers {self.low} to {self.top}"
            f"{names}, also as ranges (a-b), with steps (*/n, a-b/n) and in lists (a,b); no L, W, #, ?, H or R."
        )

    def values(self, text: str) -> list[int]:
        """The numbers that the field's text stands for, sorted."""
        cycle = self.high - self.low + 1
        found: set[int] = set()
        for item in text.split(","):
            if (match := _ITEM.fullmatch(item)) is None:
                raise self.refusal(text, f"{item!r} cannot be read" if item else "it has an empty item")
            star, first, last, step = match.groups()
            if step and int(step) == 0:
                raise self.refusal(text, "a step of 0 leads nowhere")
            start = self.low if star else self._number(first, text)
            end = self._number(last, text) if last else self.high if star or step else start
            # SAT-SUN goes around the end. croniter 7.0.0 miscounts steps there, and reads 5-5 as everything.
            end += cycle if end < start else 0
            found.update((n - self.low) % cycle + self.low for n in range(start, end + 1, int(step or 1)))
        return sorted(found)

    def _number(self, text: str, given: str) -> int:
        if text.upper() in self.names:
            return self.low + self.names.index(text.upper())
        if not text.isdigit():
            raise self.refusal(given, f"{text!r} cannot be read")
        if not self.low <= int(text) <= self.top:
            raise self.refusal(given, f"{text} is out of range")
        return int(text)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _WEEKDAYS),
)


def _plan(expression: str) -> _Plan:
    if not isinstance(expression, str) or not expression.strip():
        raise InvalidExpression(f"The expression is empty. Accepted: {_SYNTAX}.")
    if (size := len(expression)) > MAX_EXPRESSION_LENGTH:
        raise InvalidExpression(f"The expression has {size} characters; at most {MAX_EXPRESSION_LENGTH}.")
    if not expression.isascii():
        raise InvalidExpression(f"The expression has characters other than ASCII. Accepted: {_SYNTAX}.")
    return _parse(expression)


@lru_cache(maxsize=1024)
def _parse(expression: str) -> _Plan:
    texts = fields_of(expression).split()
    if (count := len(texts)) != len(_FIELDS):
        raise InvalidExpression(f"The number of fields is {count}. Accepted: {_SYNTAX}; no seconds, no years.")
    values = [field.values(text) for field, text in zip(_FIELDS, texts, strict=True)]
    plain = [",".join(map(str, numbers)) for numbers in values]
    # R4: a day field with a bare * leaves the choice to the other one, and croniter knows it by that.
    any_day, any_weekday = ("*" in texts[index].split(",") for index in (2, 4))
    plain[2], plain[4] = "*" if any_day else plain[2], "*" if any_weekday else plain[4]
    if values[2][0] > max(_LONGEST[month - 1] for month in values[3]):
        if any_weekday:
            raise _FIELDS[2].refusal(texts[2], f"that day never comes in month {texts[3]!r}")
        plain[2] = "*"  # The weekdays alone remain, without a vain search for the day through 50 years.
    return _Plan(
        wildcard=texts[0].startswith("*") or texts[1].startswith("*"),
        plain=" ".join(plain),
        times_a_day=len(values[0]) * len(values[1]),
    )
