"""Parse expressions field by field, for clear messages, and pass them to croniter as plain numbers.

croniter is used for one question only: which readings of a wall clock match. No other module imports it.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from croniter import croniter

from reportcron.errors import InvalidExpression

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


def fields_of(expression: str) -> str:
    """The expression, with a name such as `@daily` written out. Raises `InvalidExpression` for an unknown name."""
    name = expression.strip()
    if not name.startswith("@"):
        return expression
    if name.lower() not in _MACROS:
        raise InvalidExpression(f"{name!r} is not known. Accepted: {_SYNTAX}.")
    return _MACROS[name.lower()]


class Plan:
    """A parsed expression: which readings of a clock match, and by which rule they fire."""

    def __init__(self, wildcard: bool, plain: str, times_a_day: int) -> None:
        self.wildcard = wildcard
        self.times_a_day = times_a_day
        self._search = croniter(plain)

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
    def top(self) -> int:
        return self.high + (self.names is _WEEKDAYS)  # 7 is Sunday as well

    def refusal(self, given: str, reason: str) -> InvalidExpression:
        names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return InvalidExpression(
            f"The {self.name} field, {given!r}, is wrong: {reason}. Accepted: * or numbers {self.low} to {self.top}"
            f"{names}, also as ranges (a-b), with steps (*/n, a-b/n) and in lists (a,b); no L, W, #, ?, H or R."
        )

    def values(self, text: str) -> list[int]:
        """The numbers of the field's text, sorted."""
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


def plan_of(expression: str) -> Plan:
    """Parse an expression. Raises `InvalidExpression`, its message naming the wrong field."""
    if not isinstance(expression, str) or not expression.strip():
        raise InvalidExpression(f"The expression is empty. Accepted: {_SYNTAX}.")
    if (size := len(expression)) > MAX_EXPRESSION_LENGTH:
        raise InvalidExpression(f"The expression has {size} characters; at most {MAX_EXPRESSION_LENGTH}.")
    if not expression.isascii():
        raise InvalidExpression(f"The expression has characters other than ASCII. Accepted: {_SYNTAX}.")
    return _parse(expression)


@lru_cache(maxsize=1024)
def _parse(expression: str) -> Plan:
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
    return Plan(
        wildcard=texts[0].startswith("*") or texts[1].startswith("*"),
        plain=" ".join(plain),
        times_a_day=len(values[0]) * len(values[1]),
    )
