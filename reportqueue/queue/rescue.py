"""Rows whose lease has run out are queued again, or fail."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from reportqueue import bounds, locks
from reportqueue.errors import RowBusy
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.models.queue import ReportQueueQuerySet
from reportqueue.queue.fetching import fetch_locked
from reportqueue.queue.transitions import (
    after_failed_attempt,
    backoff,
    end_attempt,
    finish,
    one_more,
    return_to_queue,
)
from reportqueue.states import Outcome, Status, Verb

logger = logging.getLogger("reportqueue")
RESCUE_BATCH = 500
BUSY_SECONDS = 0.1
"""How long it waits for a lock that a row's end needs; the next rescue tries again."""


@dataclass(frozen=True)
class Rescued:
    """What became of the expired rows."""

    queued: int
    """Rows that were queued again."""
    ended: int
    """Rows that failed, since their attempts are used up, or were cancelled."""


def rescue_expired(limit: int = RESCUE_BATCH) -> Rescued:
    """Take back rows whose lease has run out, at most `limit`; rows that are locked are left alone.

    A claimed row is queued again. A dispatched row is queued again after a delay, which grows each time. A running
    row's attempt ends: another follows after a delay, or the row fails. If a run had started several rows, it was
    making only the first of them: the others are queued at once, and no attempt is used. From then on each of them has
    a run of its own. Every claim and every scheduler pass calls this. A row that cannot be taken back is logged, and
    the others are.
    """
    bounds.validate_numbers(limit=limit)
    expired = ReportQueue.objects.expired().order_by("lease_expires_at")
    if not expired.exists():
        return Rescued(0, 0)
    taken: list[int] = []
    try:
        return _rescue(expired, limit, taken)
    except Exception as error:
        if locks.is_away(error):
            raise
        # One row made the whole batch fail. Each gets a transaction of its own, to find out which.
        done = [_rescue_alone(pk) for pk in taken]
        return Rescued(sum(each.queued for each in done), sum(each.ended for each in done))


def _rescue_alone(pk: int) -> Rescued:
    try:
        return _rescue(ReportQueue.objects.expired().filter(pk=pk), 1, [])
    except RowBusy:
        logger.warning("Report %s: its lease has run out, but another transaction holds a lock that it needs.", pk)
    except Exception as error:
        if locks.is_away(error):
            raise
        logger.exception("Report %s: its lease has run out, but it cannot be taken back.", pk)
    return Rescued(0, 0)


def _rescue(expired: ReportQueueQuerySet, limit: int, taken: list[int]) -> Rescued:
    queued = ended = 0
    with locks.bounded(BUSY_SECONDS):
        # PostgreSQL checks the condition again once it has the lock: a heartbeat that came first wins.
        rows = fetch_locked(expired.select_for_update(skip_locked=True)[:limit])
        taken += [row.pk for row in rows]
        not_begun = _not_begun([row for row in rows if row.status == Status.RUNNING])
        for row in rows:
            now = row.now
            if row.status == Status.CLAIMED:
                return_to_queue(row, Verb.RESCUE, row.available_at)
            elif row.status == Status.DISPATCHED:
                failures = one_more(row.launch_failures)
                error = f"No run started within the lease; launches that failed so far: {failures}."
                available_at = now + backoff(failures)
                return_to_queue(row, Verb.RESCUE, available_at, launch_failures=failures, error=error)
            else:
                error = f"Run {row.run_id} sent no more heartbeats; its lease expired at {row.lease_expires_at:%FT%TZ}."
                end_attempt(row, Outcome.EXPIRED, now, error)
                # A row that had a run of its own was let off once already.
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
    """The ids of those running rows whose run had not begun them: it had started an earlier row that has not ended.

    A run makes its rows in the order in which it started them. So the first row without an end was being made, or was
    made and not reported yet.
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
        finish(row, Verb.RESCUE, Status.CANCELLED, now, error=error, alone=True)
        return
    error = f"{error} It was making an earlier report: this one gets a run of its own, and no attempt is used."
    return_to_queue(row, Verb.RESCUE, now, attempt=row.attempt - 1, alone=True, error=error)
