"""How a row is moved: locked, checked against `states.TRANSITIONS`, written. Nothing else writes a `status`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F
from django.db.models.sql import UpdateQuery

from reportqueue import notices
from reportqueue.clock import ClockTimestamp
from reportqueue.conf import conf
from reportqueue.errors import InvalidTransition, LeaseLost, RowNotFound
from reportqueue.models import ReportQueue
from reportqueue.models.queue import ReportQueueQuerySet
from reportqueue.signals import announce
from reportqueue.states import FINAL, TRANSITIONS, Outcome, Status, Verb

_UNHELD: dict[str, Any] = {
    "claim_id": None,
    "claimed_by": "",
    "claimed_at": None,
    "dispatched_at": None,
    "started_at": None,
    "lease_token": None,
    "lease_expires_at": None,
    "cancel_requested": False,
}
"""A queued row is nobody's."""


@dataclass(frozen=True)
class Beat:
    """A renewed lease: until when its holder may be silent, and whether somebody wants its run to stop."""

    lease_expires_at: datetime
    cancel_requested: bool


@contextmanager
def locked(pk: int) -> Iterator[tuple[ReportQueue, datetime]]:
    """The row, locked until the end of the transaction, and the database's time after the lock was had."""
    with transaction.atomic():
        for row in take(ReportQueue.objects.filter(pk=pk).select_for_update()):
            yield row, row.now
            return
        raise RowNotFound(f"There is no report {pk} in the queue.")


def take(rows: Any) -> list[Any]:
    """Locked rows, each with the database's time `now`."""
    return list(rows.annotate(now=ClockTimestamp()))


def move(row: ReportQueue, verb: Verb, to: Status, **changes: Any) -> ReportQueue:
    """Bring a locked row to another status."""
    before, consumer = row.status, row.claimed_by
    _require_allowed(verb, before, to)
    write_all([row], status=to, **changes)
    announce(verb, [row], before, claimed_by=consumer)
    return row


def move_found(
    found: ReportQueueQuerySet, verb: Verb, before: Status, to: Status, *, needed: Sequence[str] = (), **changes: Any
) -> list[ReportQueue]:
    """Bring whatever a query of rows of one status finds to another, in one statement; the rows as they then are.

    A claim also opens their next generation. For many rows at once, as consumers ask for them: a look and a write would
    cost twice as much. `needed` are the columns that are read; all of them, if none is named.
    """
    _require_allowed(verb, before, to)
    if verb is Verb.CLAIM:
        changes["generation"] = F("generation") + 1
    update = cast(UpdateQuery, found.filter(status=before).query.chain(UpdateQuery))
    update.add_update_values({"status": to, **changes})
    statement, values = update.get_compiler(connection=connection).as_sql()
    rows = list(ReportQueue.objects.raw(f"{statement} RETURNING {', '.join(needed) or '*'}", values))
    announce(verb, rows, before)
    return rows


def _require_allowed(verb: Verb, before: str, to: Status) -> None:
    if to not in TRANSITIONS[verb].get(Status(before), ()):
        raise InvalidTransition(f"{verb} cannot bring a {before} row to {to}.", current_status=before)


def write_all(rows: Sequence[ReportQueue], **changes: Any) -> None:
    """Write the same changes to locked rows, in the table and in memory."""
    ReportQueue.objects.filter(pk__in=[row.pk for row in rows]).update(**changes)
    for row in rows:
        for name, value in changes.items():
            setattr(row, name, value)
        row.processed = row.status in FINAL


def back_to_queue(row: ReportQueue, verb: Verb, available_at: datetime, **changes: Any) -> ReportQueue:
    return move(row, verb, Status.QUEUED, **_UNHELD, available_at=available_at, **changes)


def finish(row: ReportQueue, verb: Verb, to: Status, now: datetime, **changes: Any) -> ReportQueue:
    """End the row, and let the schedule's next report go that waits for it."""
    # Whoever makes a row wait holds this one's lock meanwhile: none can begin to wait for it unseen.
    waiting = ReportQueue.objects.filter(waits_for=row)
    if row.schedule_id is not None and waiting.update(waits_for=None, error=""):
        notices.notify(notices.ROWS)
    return move(
        row,
        verb,
        to,
        finished_at=now,
        waits_for=None,
        lease_token=None,
        lease_expires_at=None,
        cancel_requested=False,
        **changes,
    )


def after_failed_attempt(
    row: ReportQueue, verb: Verb, now: datetime, delay: timedelta, error: str, *, retryable: bool = True
) -> ReportQueue:
    if row.cancel_requested:
        return finish(row, verb, Status.CANCELLED, now, error=error)
    if not retryable or row.attempt >= row.max_attempts:
        return finish(row, verb, Status.FAILED, now, error=error)
    return back_to_queue(row, verb, now + delay, error=error)


def end_attempt(row: ReportQueue, outcome: Outcome, now: datetime, error: str = "") -> None:
    """Close the row's one open attempt."""
    row.attempts.filter(outcome="").update(outcome=outcome, finished_at=now, error=error)


def require_owner(row: ReportQueue, lease_token: UUID) -> None:
    if row.status != Status.RUNNING or row.lease_token != lease_token:
        raise LeaseLost(current_status=row.status)


def repeated(row: ReportQueue, lease_token: UUID, outcome: Outcome) -> bool:
    """Whether this owner has already ended its attempt in this way: its answer was lost and it asks again."""
    return row.lease_token != lease_token and row.attempts.filter(lease_token=lease_token, outcome=outcome).exists()


def refusal(row: ReportQueue, done: str) -> InvalidTransition:
    return InvalidTransition(f"A {row.status} report cannot be {done}.", current_status=row.status)


def backoff(times: int) -> timedelta:
    """The delay after the `times`-th failure in a row: doubling, bounded, with jitter."""
    settings = conf()
    seconds = min(settings.retry_backoff_seconds * 2.0 ** min(times - 1, 40), float(settings.retry_backoff_max_seconds))
    return timedelta(seconds=seconds * (1 + settings.retry_jitter * random.random()))  # noqa: S311
