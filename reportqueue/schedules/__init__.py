"""Schedules at work: queue due firings, the actions of people on a schedule, and its next firings.

Each function is one short transaction, or several in turn. When a function raises, nothing was changed.
"""

from reportqueue.schedules.actions import MAX_BACKFILL, Backfill, backfill, pause, resume, run_now
from reportqueue.schedules.agenda import MAX_AGENDA_HOURS, agenda
from reportqueue.schedules.agenda_numbers import Agenda
from reportqueue.schedules.comparison import MAX_HOURS, Compared, Difference, compare
from reportqueue.schedules.expansion import Pass, Preview, enqueue_due, enqueue_next, next_due, preview
from reportqueue.schedules.forecast import MAX_FORECAST, Forecast, Outlook, forecast

__all__ = [
    "MAX_AGENDA_HOURS",
    "MAX_BACKFILL",
    "MAX_FORECAST",
    "MAX_HOURS",
    "Agenda",
    "Backfill",
    "Compared",
    "Difference",
    "Forecast",
    "Outlook",
    "Pass",
    "Preview",
    "agenda",
    "backfill",
    "compare",
    "enqueue_due",
    "enqueue_next",
    "forecast",
    "next_due",
    "pause",
    "preview",
    "resume",
    "run_now",
]
