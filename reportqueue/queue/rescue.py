"""What time does: leases run out, and their rows are offered again."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction

from reportqueue.models import ReportQueue
from reportqueue.queue.moves import after_failed_attempt, back_to_queue, backoff, end_attempt, take
from reportqueue.states import Outcome, Status, Verb

RESCUE_BATCH = 500


@dataclass(frozen=True)
class Rescued:
    """How many expired rows went back to the queue, and how many were final (attempts used up, or cancelled)."""

    queued: int
    ended: int


def rescue_expired(limit: int = RESCUE_BATCH) -> Rescued:
    """Take rows back from whoever has let the lease run out; at most `limit`, locked ones are left alone.

    Claimed and dispatched rows are queued again, the latter later each time; a running row's attempt is over:
    another follows after a delay, or the row fails. Every claim and every scheduler pass calls this.
    """
    queued = ended = 0
    expired = ReportQueue.objects.expired().order_by("lease_expires_at")
    if not expired.exists():
        return Rescued(0, 0)
    with transaction.atomic():
        # The condition is evaluated again for a row whose lock had to be taken over: a beat that came first wins.
        for row in take(expired.select_for_update(skip_locked=True)[:limit]):
            now = row.now
            if row.status == Status.CLAIMED:
                back_to_queue(row, Verb.RESCUE, row.available_at)
            elif row.status == Status.DISPATCHED:
                failures = row.launch_failures + 1
                error = f"No run started within the lease; launches that failed so far: {failures}."
                available_at = now + backoff(failures)
                back_to_queue(row, Verb.RESCUE, available_at, launch_failures=failures, error=error)
            else:
                error = f"Run {row.run_id} stopped beating; its lease expired at {row.lease_expires_at:%FT%TZ}."
                end_attempt(row, Outcome.EXPIRED, now, error)
                after_failed_attempt(row, Verb.RESCUE, now, backoff(row.attempt), error)
            if row.status == Status.QUEUED:
                queued += 1
            else:
                ended += 1
    return Rescued(queued, ended)
