"""The one clock: the database's. Callers' clocks differ, and a lease is only as good as the clock it is read by."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import models

from reportqueue import database


class ClockTimestamp(models.Func):
    """The instant at which the expression is evaluated, for values that are written.

    Django's `Now()` is the statement's start. That is right in a condition, where an index can use it. But it lies
    before the wait for a row's lock: a row could seem to have started before it was dispatched.
    """

    template = "clock_timestamp()"
    output_field = models.DateTimeField()


def database_now(using: str | None = None) -> datetime:
    """The time of the queue's database, or of the one with the alias `using`, aware UTC."""
    with database.connection(using).cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now.astimezone(UTC)  # in the zone of the connection, if the project has set one


def minute(instant: datetime) -> str:
    """An instant for people, such as `2026-12-01 08:00 UTC`, in whatever zone the database has returned it."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
