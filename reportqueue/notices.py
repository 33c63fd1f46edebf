"""What the database tells those who listen, once the transaction that did it commits: NOTIFY, one channel a subject."""

from __future__ import annotations

from django.db import connection, transaction

from reportqueue import asset_events

SCHEDULES = "reportqueue_schedules"
"""A schedule has changed."""
ROWS = "reportqueue_rows"
"""A row is queued, or need not wait any longer."""


def notify(channel: str) -> None:
    """Tell it at the commit; once, however often a transaction says so. The transaction is the caller's."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [channel])


def schedules_changed() -> None:
    """Tell the schedulers, and whoever evaluates the schedules elsewhere, at the commit."""
    notify(SCHEDULES)
    transaction.on_commit(asset_events.announce)
