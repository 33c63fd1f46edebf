"""Schedules at work: the expansion of what is due, what people do to a schedule, and what it is going to do.

Each function is one short transaction or a row of them. Nothing is changed when one raises.
"""

from reportqueue.schedules.expansion import Pass, Preview, enqueue_due, next_due, preview
from reportqueue.schedules.forecast import MAX_FORECAST, Forecast, forecast
from reportqueue.schedules.operators import MAX_BACKFILL, Backfill, backfill, pause, resume, run_now

__all__ = [
    "MAX_BACKFILL",
    "MAX_FORECAST",
    "Backfill",
    "Forecast",
    "Pass",
    "Preview",
    "backfill",
    "enqueue_due",
    "forecast",
    "next_due",
    "pause",
    "preview",
    "resume",
    "run_now",
]
