"""A timing in words, for people who do not read cron.

The words are made from the values of the fields, not from their text: `*/90` in the minute field fires every hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import reportcron
from reportcron import DayRule, Fields

_UNITS = ((604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_MAX_TIMES = 6
"""Up to this many times of a day are listed."""
_LONG_RUN = 3
"""So many successive values are said as a range."""


def describe(expression: str) -> str:
    """A cron expression in English: `At 08:00, only on Monday`. Raises `reportcron.CronError`."""
    fields = reportcron.fields_of(expression)
    months = "" if len(fields.months) == len(_MONTHS) else f", only in {_list(fields.months, _month)}"
    return _times(fields.minutes, fields.hours) + _days(fields) + months


def day_note(expression: str) -> str:
    """What to know where cron implementations disagree about the days; empty for most expressions.

    Raises `reportcron.CronError`.
    """
    fields = reportcron.fields_of(expression)
    restricted = not (fields.any_day or fields.any_weekday)
    if fields.day_rule is DayRule.BOTH and restricted:
        return (
            "A day must match both day fields, because one of them begins with *. This is the rule of Debian's cron; "
            "in some other programs either field is enough."
        )
    if fields.day_rule is DayRule.EITHER and not restricted:
        return (
            "It fires every day, because one of the day fields lists all days, and either of the two fields is enough. "
            "Write * in that field to let the other one decide."
        )
    return ""


def describe_interval(seconds: int) -> str:
    """`Every 15 minutes`, `Every day`: in the largest unit that divides it."""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    count = seconds // size
    return f"Every {unit}" if count == 1 else f"Every {count:,} {unit}s"


def _times(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """The times of a day: `Every 15 minutes from 09:00 to 17:45`."""
    all_day = len(hours) == 24
    if len(minutes) == 1:
        if all_day:
            return "Every hour" if minutes[0] == 0 else f"At {_past(minutes)} past every hour"
        if len(hours) > _MAX_TIMES and minutes[0] == 0 and (step := _step(hours, 24)) is not None:
            return f"Every {step} hours"
        if len(hours) > _MAX_TIMES and len(_runs(hours)) == 1:
            return f"Every hour{_between(minutes, hours)}"
    if len(minutes) == 1 or len(minutes) * len(hours) <= _MAX_TIMES:
        return "At " + _joined(f"{hour:02}:{minute:02}" for hour in hours for minute in minutes)
    when = "" if all_day else _between(minutes, hours)
    step = _step(minutes, 60)
    if step is None:
        return f"At {_past(minutes)} past {'every hour' if all_day or len(hours) > 1 else 'the hour'}{when}"
    return ("Every minute" if step == 1 else f"Every {step} minutes") + when


def _between(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """` from 09:00 to 17:45`: the first and the last time."""
    runs = _runs(hours)
    if len(runs) > 2:
        return f" in the hours {_list(hours, str)}"
    return " and".join(f" from {run[0]:02}:{minutes[0]:02} to {run[-1]:02}:{minutes[-1]:02}" for run in runs)


def _past(minutes: Sequence[int]) -> str:
    return "1 minute" if list(minutes) == [1] else f"{_list(minutes, str)} minutes"


def _days(fields: Fields) -> str:
    days = f"day{'' if len(fields.days) == 1 else 's'} {_list(fields.days, str)} of the month"
    # A week begins on Monday for people, and on Sunday for cron.
    weekdays = _list(sorted((number - 1) % 7 for number in fields.weekdays), _WEEKDAYS.__getitem__)
    if fields.any_day and fields.any_weekday:
        return ""
    if fields.any_day or fields.any_weekday:
        if fields.day_rule is DayRule.EITHER:
            return ""
        return f", only on {weekdays if fields.any_day else days}"
    joined = "and also" if fields.day_rule is DayRule.EITHER else "but only"
    return f", on {days}, {joined} on {weekdays}"


def _month(number: int) -> str:
    return _MONTHS[number - 1]


def _step(values: Sequence[int], size: int) -> int | None:
    """The step, if the values begin at 0 and are evenly spaced across the end too."""
    step, rest = divmod(size, len(values))
    return step if rest == 0 and list(values) == list(range(0, size, step)) else None


def _runs(values: Iterable[int]) -> list[list[int]]:
    """The sorted values, as runs of successive ones."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return runs


def _list(values: Iterable[int], name: Callable[[int], str]) -> str:
    """`Monday to Friday and Sunday`."""
    parts: list[str] = []
    for run in _runs(values):
        named = [name(value) for value in run]
        parts += [f"{named[0]} to {named[-1]}"] if len(run) >= _LONG_RUN else named
    return _joined(parts)


def _joined(parts: Iterable[str]) -> str:
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last
