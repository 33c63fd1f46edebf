"""What the database tells those who listen, once the transaction that did it commits: NOTIFY, one channel a subject."""

from __future__ import annotations

from django.db import connection
from django.dispatch import Signal

SCHEDULES = "reportqueue_schedules"
"""A schedule has changed."""
ROWS = "reportqueue_rows"
"""A row is queued, or need not wait any longer."""
schedules_edited = Signal()
"""Sent within the transaction of an edit of schedules, or of a hand-over between patterns; sender is None."""


def notify(channel: str) -> None:
    """Notify the listeners at the commit of the caller's transaction; once, however often it is called in it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [channel])


def schedules_changed() -> None:
    """Notify the schedulers at the commit, and tell the receivers of `schedules_edited` now."""
    notify(SCHEDULES)
    schedules_edited.send(sender=None)
