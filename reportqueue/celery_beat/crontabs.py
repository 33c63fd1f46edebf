"""Celery's crontabs: which readings of a clock match, and the cron expression that says the same here.

Celery's syntax is its own: names count by their first three letters, in any field (those of months since celery 5.5);
Sunday is 0 and never 7; a step follows `*` or a range only. A day must match the day of the month and the day of the
week. In cron that is so only if one of the two fields begins with `*`; otherwise either is enough.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property, lru_cache
from itertools import groupby

from reportcron import MAX_EXPRESSION_LENGTH
from reportqueue.celery_beat.tables import BeatCrontab

_SPAN = re.compile(r"(?:(\*)|(\w+)-(\w+))(?:/([0-9]+))?", re.ASCII)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = {name: number for number, name in enumerate(_MONTHS, 1)} | {name: n for n, name in enumerate(_WEEKDAYS)}
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAY = timedelta(days=1)


class Unreadable(ValueError):
    """Celery refuses the crontab, so that beat leaves out its tasks; or accepts it by accident."""


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int

    @property
    def all(self) -> range:
        return range(self.low, self.high + 1)

    def parse(self, text: str) -> tuple[frozenset[int], str]:
        """The numbers of a field's text, and the same field in cron's syntax."""
        numbers: set[int] = set()
        items = []
        for item in text.split(","):
            found, written = self._item(item, text)
            numbers.update(found)
            items.append(written)
        return frozenset(numbers), ",".join(items)

    def _item(self, item: str, text: str) -> tuple[Collection[int], str]:
        if (span := _SPAN.fullmatch(item)) is None:
            number = self._number(item, text)
            return [number], str(number)
        star, first, last, step = span.groups()
        if step and int(step) == 0:
            raise self._unreadable(text, "a step of 0")
        if star:
            found, written = list(self.all), "*"
        else:
            start, end = self._number(first, text), self._number(last, text)
            around = [] if start <= end else [*range(start, self.high + 1), *range(self.low, end + 1)]
            found, written = around or list(range(start, end + 1)), f"{start}-{end}"
        return (found[:: int(step)], f"{written}/{int(step)}") if step else (found, written)

    def _number(self, item: str, text: str) -> int:
        digits = item.strip()
        if digits.isascii() and digits.isdigit():
            number = int(digits)
        elif (name := item[:3].lower()) in _NAMES and item.isalpha():
            number = _NAMES[name]
        else:
            raise self._unreadable(text, f"{item!r}")
        if not self.low <= number <= self.high:
            raise self._unreadable(text, f"{item!r} is not from {self.low} to {self.high}")
        return number

    def _unreadable(self, text: str, what: str) -> Unreadable:
        return Unreadable(f"the {self.name} of its crontab, {text!r}, is not in celery's syntax ({what})")


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day_of_month", 1, 31),
    _Field("month_of_year", 1, 12),
    _Field("day_of_week", 0, 6),
)


@dataclass(frozen=True)
class Crontab:
    """A parsed crontab. It matches a reading of the clock if each of its fields does."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    expression: str
    """The equal cron expression for `reportcron`; empty if none can require both a day of the month and of the week."""

    def after(self, reading: datetime) -> datetime:
        """The first reading that matches, in a later minute than `reading`; both naive."""
        day, at = reading.date(), reading.time()
        if self._has(day) and (index := bisect_right(self._times, at)) < len(self._times):
            return datetime.combine(day, self._times[index])
        day += _DAY
        while not self._has(day):
            day = day + _DAY if day.month in self.months else (day.replace(day=1) + 31 * _DAY).replace(day=1)
        return datetime.combine(day, self._times[0])

    def _has(self, day: date) -> bool:
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    @cached_property
    def _times(self) -> list[time]:
        return [time(hour, minute) for hour in sorted(self.hours) for minute in sorted(self.minutes)]


@lru_cache(maxsize=1024)
def parse(crontab: BeatCrontab) -> Crontab:
    """Parse a crontab. Raises `Unreadable`, naming the field."""
    parsed = [field.parse(text) for field, text in zip(_FIELDS, crontab.fields, strict=True)]
    numbers = [found for found, _ in parsed]
    minutes, hours, days, months, weekdays = numbers
    if min(days) > max(_LONGEST[month - 1] for month in months):
        raise Unreadable(f"its day_of_month, {crontab.fields[2]!r}, never comes in month {crontab.fields[3]!r}")
    texts = [text for _, text in parsed]
    if len(" ".join(texts)) > MAX_EXPRESSION_LENGTH:
        texts = [text if "*" in text else _in_runs(found) for found, text in parsed]
    for index in (2, 4):
        # A day field that lists all days must be `*`: otherwise cron would let either of the two day fields match.
        if len(numbers[index]) == len(_FIELDS[index].all):
            texts[index] = "*"
    if not texts[2].startswith("*") and not texts[4].startswith("*"):
        # A field that begins with `*` makes cron require both. A large step stands for the field's first value alone,
        # which must be one of the field's own.
        if 1 in days:
            texts[2] = f"*/31,{texts[2]}"
        elif 0 in weekdays:
            texts[4] = f"*/7,{texts[4]}"
        else:
            texts = []
    return Crontab(minutes, hours, days, months, weekdays, " ".join(texts))


def _in_runs(numbers: Collection[int]) -> str:
    """`0-5,7`: as short as a list without steps can be."""
    runs = []
    for _, group in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        runs.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(runs)
