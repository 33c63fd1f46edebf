"""Schedules at work: the expansion of what is due, what people do to a schedule, and what it is going to do.

Each function is one short transaction or a row of them. Nothing is changed when one raises.
"""

from reportqueue.schedules.comparison import MAX_HOURS, Compared, Difference, compare
from reportqueue.schedules.expansion import Pass, Preview, enqueue_due, next_due, preview
from reportqueue.schedules.forecast import MAX_FORECAST, Forecast, forecast
from reportqueue.schedules.handovers import (
    Handover,
    Standing,
    cancel_planned,
    hand_over,
    history,
    overdue,
    pattern_at,
    standing,
)
from reportqueue.schedules.launches import queue_firing, start_firing
from reportqueue.schedules.operators import MAX_BACKFILL, Backfill, backfill, pause, resume, run_now

__all__ = [
    "MAX_BACKFILL",
    "MAX_FORECAST",
    "MAX_HOURS",
    "Backfill",
    "Compared",
    "Difference",
    "Forecast",
    "Handover",
    "Pass",
    "Preview",
    "Standing",
    "backfill",
    "cancel_planned",
    "compare",
    "enqueue_due",
    "forecast",
    "hand_over",
    "history",
    "next_due",
    "overdue",
    "pattern_at",
    "pause",
    "preview",
    "queue_firing",
    "resume",
    "run_now",
    "standing",
    "start_firing",
]
