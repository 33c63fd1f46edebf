"""A timing in words, for people who do not read cron."""

from __future__ import annotations

from functools import lru_cache

from cron_descriptor import FormatException, Options, get_description

import reportcron

# Before 2.1 the library says "on day 1 of the month, only on Monday", as if both had to match.
_SAYS_EITHER_DAY = " or " in get_description("0 0 1 * 1")
_UNITS = ((604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


@lru_cache(maxsize=1024)
def describe(expression: str) -> str:
    """A cron expression in English: `At 08:00, only on Monday`; empty for the few that the library has no words for.

    Works with each version of the library since 1.2.32, as other packages hold it back. Memoised, since it takes half a
    millisecond. Raises `reportcron.CronError`.
    """
    reportcron.validate(expression)  # the library describes what could never fire, too
    fields = reportcron.fields_of(expression)
    _, _, day, _, weekday = fields.split()
    if "*" not in (day, weekday) and not _SAYS_EITHER_DAY:
        return ""
    if any("*" in field.split(",") for field in fields.split() if field != "*"):
        return ""  # `1,*`, which is valid: the library refuses it, or says "At 1 and * minutes"
    options = Options()
    options.use_24hour_time_format = True
    try:
        return str(get_description(fields, options))
    except FormatException:
        return ""


def describe_interval(seconds: int) -> str:
    """`Every 15 minutes`, `Every day`: in the largest unit that divides it."""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    count = seconds // size
    return f"Every {unit}" if count == 1 else f"Every {count:,} {unit}s"
