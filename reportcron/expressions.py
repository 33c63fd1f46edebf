"""Parse expressions field by field, for clear messages, and pass them to croniter as plain numbers.

croniter is used for one question only: which readings of a wall clock match. No other module imports it.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache

from croniter import croniter

from reportcron.errors import InvalidExpression
from reportcron.remedies import remedy_for_expression, remedy_for_item, remedy_for_name

MAX_EXPRESSION_LENGTH = 200
TICK = timedelta(microseconds=1)
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


class DayRule(StrEnum):
    """How day of month and day of week work together (R4), if neither of them is open."""

    EITHER = "either"
    """A day fires if one of the two fields matches it."""
    BOTH = "both"
    """A day fires only if both fields match it: one of them begins with `*`, as in `*/2`."""


@dataclass(frozen=True)
class Fields:
    """What an expression's fields stand for: numbers, sorted."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    """0 is Sunday."""
    day_rule: DayRule | None
    """None if a day field begins with `*` and has every day: then the other one decides alone."""

    @property
    def any_day(self) -> bool:
        """Whether the days of the month leave no day out."""
        return len(self.days) == _FIELDS[2].size

    @property
    def any_weekday(self) -> bool:
        """Whether the days of the week leave no day out."""
        return len(self.weekdays) == _FIELDS[4].size


class Plan:
    """A parsed expression: which readings of a clock match, and by which rule they fire."""

    def __init__(self, wildcard: bool, fields: Fields) -> None:
        self.wildcard = wildcard
        self.fields = fields
        self._search = croniter(_plain(fields), day_or=fields.day_rule is not DayRule.BOTH)

    def after(self, wall: datetime) -> datetime:
        """The first match after `wall`; both naive."""
        # In a copy: croniter stores its position in itself, and threads share the plan.
        minute = wall.replace(second=0, microsecond=0)
        found: datetime = copy.copy(self._search).get_next(datetime, minute)
        return found

    def before(self, wall: datetime) -> datetime:
        """The last match before `wall`; both naive."""
        # From a whole minute: croniter computes with floats, which have no microseconds in distant years.
        minute = (wall + timedelta(minutes=1) - TICK).replace(second=0, microsecond=0)
        found: datetime = copy.copy(self._search).get_prev(datetime, minute)
        return found


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return self.high - self.low + 1

    @property
    def top(self) -> int:
        return self.high + (self.names is _WEEKDAYS)  # 7 is Sunday as well

    def refusal(self, given: str, reason: str) -> InvalidExpression:
        names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return InvalidExpression(
            f"The {self.name} field, {given!r}, is wrong: {reason}. Accepted: * or numbers {self.low} to {self.top}"
            f"{names}, also as ranges (a-b), with steps (*/n, a-b/n) and in lists (a,b)."
        )

    def values(self, text: str) -> tuple[int, ...]:
        """The numbers of the field's text, sorted."""
        cycle = self.size
        found: set[int] = set()
        for item in text.split(","):
            if (match := _ITEM.fullmatch(item)) is None:
                raise self.refusal(text, self._unreadable(item) if item else "it has an empty item")
            star, first, last, step = match.groups()
            if step and int(step) == 0:
                raise self.refusal(text, "a step of 0 leads nowhere")
            start = self.low if star else self._number(first, text)
            end = self._number(last, text) if last else self.high if star or step else start
            # SAT-SUN goes around the end. croniter 7.0.0 miscounts steps there, and reads 5-5 as everything.
            end += cycle if end < start else 0
            found.update((n - self.low) % cycle + self.low for n in range(start, end + 1, int(step or 1)))
        return tuple(sorted(found))

    def _number(self, text: str, given: str) -> int:
        if text.upper() in self.names:
            return self.low + self.names.index(text.upper())
        if not text.isdigit():
            raise self.refusal(given, self._unreadable(text))
        if not self.low <= int(text) <= self.top:
            hint = "; midnight is 0" if self.name == "hour" and int(text) == 24 else ""
            raise self.refusal(given, f"{text} is out of range{hint}")
        return int(text)

    def _unreadable(self, item: str) -> str:
        remedy = remedy_for_item(item, self.names)
        return f"{item!r} cannot be read" + (f"; {remedy}" if remedy else "")


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _WEEKDAYS),
)


def plan_of(expression: str) -> Plan:
    """Parse an expression. Raises `InvalidExpression`, its message naming the wrong field."""
    if not isinstance(expression, str) or not expression.strip():
        raise InvalidExpression(f"The expression is empty. Accepted: {_SYNTAX}.")
    if (size := len(expression)) > MAX_EXPRESSION_LENGTH:
        raise InvalidExpression(f"The expression has {size} characters; at most {MAX_EXPRESSION_LENGTH}.")
    if not expression.isascii():
        found = next(character for character in expression if not character.isascii())
        raise InvalidExpression(f"The expression has a character other than ASCII, {found!r}. Accepted: {_SYNTAX}.")
    return _parse(expression)


@lru_cache(maxsize=1024)
def _parse(expression: str) -> Plan:
    texts = _written_out(expression).split()
    if (count := len(texts)) != len(_FIELDS):
        remedy = remedy_for_expression(expression, len(_FIELDS))
        raise InvalidExpression(
            f"The number of fields is {count}{f'; {remedy}' if remedy else ''}. Accepted: {_SYNTAX}; no seconds, "
            "no years."
        )
    minutes, hours, days, months, weekdays = (field.values(text) for field, text in zip(_FIELDS, texts, strict=True))
    fields = Fields(minutes, hours, days, months, weekdays, _day_rule(texts, days, weekdays))
    if _day_never_comes(fields) and fields.day_rule is not DayRule.EITHER:
        raise _FIELDS[2].refusal(texts[2], f"that day never comes in month {texts[3]!r}")
    return Plan(wildcard=texts[0].startswith("*") or texts[1].startswith("*"), fields=fields)


def _written_out(expression: str) -> str:
    """The expression, with a name such as `@daily` as five fields."""
    name = expression.strip()
    if not name.startswith("@"):
        return expression
    if name.lower() not in _MACROS:
        remedy = remedy_for_name(name)
        raise InvalidExpression(f"{name!r} is not known{f'; {remedy}' if remedy else ''}. Accepted: {_SYNTAX}.")
    return _MACROS[name.lower()]


def _day_rule(texts: list[str], days: tuple[int, ...], weekdays: tuple[int, ...]) -> DayRule | None:
    """R4, as in Debian's cron: the first character of the two fields decides, whatever follows it."""
    starred = [
        len(values) == _FIELDS[index].size
        for index, values in ((2, days), (4, weekdays))
        if texts[index].startswith("*")
    ]
    if any(starred):
        return None
    return DayRule.BOTH if starred else DayRule.EITHER


def _day_never_comes(fields: Fields) -> bool:
    return fields.days[0] > max(_LONGEST[month - 1] for month in fields.months)


def _plain(fields: Fields) -> str:
    """The expression in numbers, as croniter needs it: a field that leaves nothing out is `*`."""
    any_day, any_weekday = fields.any_day, fields.any_weekday
    if fields.day_rule is DayRule.EITHER:
        # Every day matches a list of all days. And if no month has the days, the weekdays remain: croniter would search
        # 50 years for the day in vain.
        any_day, any_weekday = (any_day or any_weekday,) * 2
        any_day = any_day or _day_never_comes(fields)
    days = "*" if any_day else _list(fields.days)
    weekdays = "*" if any_weekday else _list(fields.weekdays)
    return f"{_list(fields.minutes)} {_list(fields.hours)} {days} {_list(fields.months)} {weekdays}"


def _list(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
