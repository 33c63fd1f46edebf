"""Rows that have not started in time are skipped: their report says how long it is worth to be run late."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from reportqueue import bounds, locks
from reportqueue.errors import InvalidTransition
from reportqueue.models import ReportQueue
from reportqueue.queue.fetching import fetch_locked
from reportqueue.queue.transitions import finish_all
from reportqueue.states import Status, Verb
from reportqueue.timing.policies import SkipReason

EXPIRY_BATCH = 1_000
BUSY_SECONDS = 0.1
"""How long it waits for a lock that a row's end needs; the next claim or pass tries again."""


def skip_too_late(limit: int = EXPIRY_BATCH) -> int:
    """Skip queued rows that should have started by now, at most `limit`; returns how many.

    Rows that are locked are left alone. Every claim and every scheduler pass calls this.
    """
    bounds.validate_numbers(limit=limit)
    late = ReportQueue.objects.too_late().order_by("expires_at")
    if not late.exists():
        return 0
    with locks.bounded(BUSY_SECONDS):
        rows = fetch_locked(late.select_for_update(skip_locked=True)[:limit])
        if rows:
            skip(rows, rows[0].now)
    return len(rows)


def skip(rows: Sequence[ReportQueue], now: datetime) -> None:
    """Skip locked rows of one status that should have started by now."""
    errors = {row.pk: _why(row) for row in rows}
    result = {"reason": SkipReason.EXPIRED.value, "count": 1}
    finish_all(rows, Verb.EXPIRE, Status.SKIPPED, now, {"error": errors}, result=result)


def refusal(row: ReportQueue) -> InvalidTransition:
    """Why a run may not start a row that it has come too late for."""
    return InvalidTransition(f"The run comes too late. {_why(row)}", current_status=row.status)


def _why(row: ReportQueue) -> str:
    until = row.expires_at.astimezone(UTC) if row.expires_at is not None else row.trigger_time
    return f"Expired: it was due at {row.trigger_time.astimezone(UTC):%FT%TZ} and had not started by {until:%FT%TZ}."
