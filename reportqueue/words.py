"""A timing in words, for people who do not read cron."""

from __future__ import annotations

from cron_descriptor import Options, get_description

from reportqueue import cron

_UNITS = ((604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def describe(expression: str) -> str:
    """A cron expression in English: `At 08:00, only on Monday`. Raises `cron.CronError`."""
    cron.validate(expression)  # the library describes what could never fire, too
    options = Options()
    options.use_24hour_time_format = True
    return str(get_description(cron.fields_of(expression), options))


def describe_interval(seconds: int) -> str:
    """`Every 15 minutes`, `Every day`: in the largest unit that divides it."""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    count = seconds // size
    return f"Every {unit}" if count == 1 else f"Every {count:,} {unit}s"
