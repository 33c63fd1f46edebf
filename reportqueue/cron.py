"""When a cron expression fires: the rules of `reportcron`, which the orchestrator's sensors go by too.

`between(expression, timezone, start, end)` gives the instants in `(start, end]`, aware, in UTC and in order.
"""

from reportcron import (
    FIRST,
    LAST,
    MAX_EXPRESSION_LENGTH,
    ClockChange,
    CronError,
    InvalidExpression,
    UnknownTimezone,
    between,
    clock_change,
    fields_of,
    instant_of,
    local,
    meant_reading,
    next_after,
    previous_before,
    reading_of,
    times_a_day,
    validate,
    zone_names,
)

__all__ = [
    "FIRST",
    "LAST",
    "MAX_EXPRESSION_LENGTH",
    "ClockChange",
    "CronError",
    "InvalidExpression",
    "UnknownTimezone",
    "between",
    "clock_change",
    "fields_of",
    "instant_of",
    "local",
    "meant_reading",
    "next_after",
    "previous_before",
    "reading_of",
    "times_a_day",
    "validate",
    "zone_names",
]
