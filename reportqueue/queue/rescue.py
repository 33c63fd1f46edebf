"""What time does: leases run out, and their rows are offered again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.queue.moves import after_failed_attempt, back_to_queue, backoff, end_attempt, finish, take
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
    another follows after a delay, or the row fails. Of several rows that one run had started, only the first one in
    its order was in hand; the others are queued at once, without using up an attempt. All of them are made alone from
    then on. Every claim and every scheduler pass calls this.
    """
    queued = ended = 0
    expired = ReportQueue.objects.expired().order_by("lease_expires_at")
    if not expired.exists():
        return Rescued(0, 0)
    with transaction.atomic():
        # The condition is evaluated again for a row whose lock had to be taken over: a beat that came first wins.
        rows = take(expired.select_for_update(skip_locked=True)[:limit])
        not_begun = _not_begun([row for row in rows if row.status == Status.RUNNING])
        for row in rows:
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
                # A row that went alone has had its turn in such a run: no row is let off twice.
                if row.pk in not_begun and not row.alone:
                    _let_off(row, now, error)
                else:
                    after_failed_attempt(row, Verb.RESCUE, now, backoff(row.attempt), error, alone=True)
            if row.status == Status.QUEUED:
                queued += 1
            else:
                ended += 1
    return Rescued(queued, ended)


def _not_begun(rows: Sequence[ReportQueue]) -> set[int]:
    """Of running rows whose lease ran out, those that their run had started together with an earlier one.

    A run makes its rows in the order in which it started them. The first one without an end was in hand, or was made
    and not reported yet.
    """
    if not rows:
        return set()
    cut_off = ReportAttempt.objects.filter(
        run_id__in={row.run_id for row in rows}, outcome__in=["", Outcome.EXPIRED.value]
    )
    first: dict[str, int] = {}
    own: dict[int, int] = {}
    for pk, run_id, queue_id, outcome in cut_off.values_list("pk", "run_id", "queue_id", "outcome"):
        first[run_id] = min(pk, first.get(run_id, pk))
        if not outcome:
            own[queue_id] = pk
    return {row.pk for row in rows if own.get(row.pk, 0) > first.get(row.run_id, 0)}


def _let_off(row: ReportQueue, now: datetime, error: str) -> None:
    if row.cancel_requested:
        finish(row, Verb.RESCUE, Status.CANCELLED, now, error=error)
        return
    error = f"{error} It had several reports in hand, an earlier one first: this one goes on alone, no attempt is used."
    back_to_queue(row, Verb.RESCUE, now, attempt=row.attempt - 1, alone=True, error=error)
