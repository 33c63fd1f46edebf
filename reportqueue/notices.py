"""NOTIFY: PostgreSQL tells listening processes at the commit that schedules, rows or bulk actions have changed."""

from __future__ import annotations

from django.dispatch import Signal

from reportqueue import database

SCHEDULES = "reportqueue_schedules"
"""Channel: a schedule has changed."""
ROWS = "reportqueue_rows"
"""Channel: a row is queued, or its wait for an earlier report is over."""
BULK = "reportqueue_bulk"
"""Channel: there is work on a bulk action."""
schedules_edited = Signal()
"""Sent within the transaction of an edit of schedules, or of a hand-over between patterns; sender is None."""

schedule_disabled = Signal()
"""Sent within the transaction that pauses or disables a schedule, with it as `schedule`; sender is None."""


def notify(channel: str) -> None:
    """Notify the listeners at the commit of the caller's transaction, once however often this is called in it."""
    with database.connection().cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [channel])


def schedules_changed() -> None:
    """Notify the schedulers at the commit, and call the receivers of `schedules_edited` now."""
    notify(SCHEDULES)
    schedules_edited.send(sender=None)
