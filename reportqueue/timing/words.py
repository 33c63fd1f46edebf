"""A timing in words, for people who do not read cron."""

from __future__ import annotations

from functools import lru_cache

from cron_descriptor import FormatError, Options, get_description

import reportcron

_UNITS = ((604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


@lru_cache(maxsize=1024)
def describe(expression: str) -> str:
    """A cron expression in English: `At 08:00, only on Monday`; empty for the few that the library has no words for.

    Memoised, since it takes half a millisecond. Raises `reportcron.CronError`.
    """
    reportcron.validate(expression)  # the library describes what could never fire, too
    options = Options()
    options.use_24hour_time_format = True
    try:
        return str(get_description(reportcron.fields_of(expression), options))
    except FormatError:  # `1,*`, for one, which is valid
        return ""


def describe_interval(seconds: int) -> str:
    """`Every 15 minutes`, `Every day`: in the largest unit that divides it."""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    count = seconds // size
    return f"Every {unit}" if count == 1 else f"Every {count:,} {unit}s"
