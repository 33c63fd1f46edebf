"""What people do: cancel a report, or requeue one that has ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from reportqueue import audit, tracing
from reportqueue.errors import ReportQueueError, RowErased
from reportqueue.models import ReportQueue
from reportqueue.queue import turns
from reportqueue.queue.transitions import (
    Results,
    already_ended,
    end_attempt,
    finish,
    finish_all,
    invalid,
    locked,
    locked_many,
    require_owner,
    return_all_to_queue,
    write_all,
)
from reportqueue.states import FINAL, TRANSITIONS, Outcome, Status, Verb

Objection = Callable[[ReportQueue], ReportQueueError | None]
"""Looks at a locked row, and returns why it is to be left as it is; None if nothing is against its change."""
ASK = "ask to cancel"
"""What the audit calls a cancel of a running row."""
_AFRESH: dict[str, Any] = {
    "attempt": 0,
    "launch_failures": 0,
    "unstarted_runs": 0,
    "releases": 0,
    "finished_at": None,
    "expires_at": None,
    "result": None,
}
"""What a requeued row has forgotten."""


def cancel(pk: int, *, reason: str = "", lease_token: UUID | None = None) -> ReportQueue:
    """Cancel a row; a cancelled row is returned as it is.

    A running row is asked to cancel: its run learns of it with its next heartbeat, and cancels the row with its
    `lease_token`. Raises `InvalidTransition` for a row with another final status, `LeaseLost` for a stale token.
    """
    with locked(pk) as (row, now):
        if lease_token is not None:
            if already_ended(row, lease_token, Outcome.CANCELLED):
                return row
            require_owner(row, lease_token)
        elif row.status == Status.CANCELLED:
            return row
        elif row.status == Status.RUNNING:
            said: dict[str, Any] = {"error": reason} if reason else {}
            write_all([row], cancel_requested=True, **said)
            audit.record_rows(ASK, [row], reason=reason)
            return row
        elif row.status in FINAL:
            raise invalid(row, "cancelled")
        else:
            audit.record_rows(Verb.CANCEL, [row], reason=reason)
            return finish(row, Verb.CANCEL, Status.CANCELLED, now, error=reason)
        reason = reason or row.error
        end_attempt(row, Outcome.CANCELLED, now, reason)
        return finish(row, Verb.CANCEL, Status.CANCELLED, now, error=reason)


def requeue(pk: int, *, reason: str = "") -> ReportQueue:
    """Queue a final row again, due now; its attempts are counted afresh.

    If its schedule does not allow overlaps and another of its reports is unfinished, it waits for its turn. Raises
    `InvalidTransition` if the row is not final, or was skipped; `RowErased` if its data were erased.
    """
    with turns.entry([pk]) as entry, locked(pk) as (row, now):
        if row.status not in TRANSITIONS[Verb.REQUEUE]:
            raise invalid(row, "requeued")
        if row.erased_at is not None:
            raise RowErased
        audit.record_rows(Verb.REQUEUE, [row], reason=reason)
        _queue_again([row], entry, now, reason)
        return row


def cancel_together(
    pks: Collection[int], *, reason: str = "", objection: Objection | None = None
) -> Results[ReportQueue]:
    """Cancel several rows in one transaction, as a person does with `cancel`; each row or why it was refused.

    A row that is cancelled already is refused: so the caller knows which ones it has cancelled. Raises `RowBusy`, or
    an error of the database, if a change of one row prevents those of the others: repeat the call with fewer rows.
    """
    results: Results[ReportQueue] = {}
    with locked_many(pks, results) as (rows, now):
        for (status, _), alike in _fit(rows, Verb.CANCEL, "cancelled", objection, results).items():
            audit.record_rows(ASK if status == Status.RUNNING else Verb.CANCEL, alike, reason=reason)
            if status == Status.RUNNING:
                said: dict[str, Any] = {"error": reason} if reason else {}
                write_all(alike, cancel_requested=True, **said)
            else:
                finish_all(alike, Verb.CANCEL, Status.CANCELLED, now, error=reason)
    return results


def requeue_together(
    pks: Collection[int], *, reason: str = "", objection: Objection | None = None, when_due: bool = False
) -> Results[ReportQueue]:
    """Requeue several rows in one transaction, as `requeue` does; each row or why it was refused.

    With `when_due`, a row that was not available yet when it ended waits until then, and is not due now. Raises as
    `cancel_together` does.
    """
    results: Results[ReportQueue] = {}
    with turns.entry(pks) as entry, locked_many(pks, results) as (rows, now):
        for alike in _fit(rows, Verb.REQUEUE, "requeued", objection, results).values():
            audit.record_rows(Verb.REQUEUE, alike, reason=reason)
            available = {row.pk: max(now, row.available_at) if when_due else now for row in alike}
            # Rows that take turns enter one by one: the first gets the turn, and the others find it taken.
            for row in (row for row in alike if entry.key(row) is not None):
                _queue_again([row], entry, available[row.pk], reason)
            overlapping: dict[datetime, list[ReportQueue]] = defaultdict(list)
            for row in (row for row in alike if row.status != Status.QUEUED):
                overlapping[available[row.pk]].append(row)
            for at, several in overlapping.items():
                _queue_again(several, entry, at, reason)
    return results


def _fit(
    rows: Collection[ReportQueue], verb: Verb, done: str, objection: Objection | None, results: Results[ReportQueue]
) -> dict[tuple[str, str], list[ReportQueue]]:
    """The rows that may be changed, by their status and consumer; the results of all rows are added."""
    alike: dict[tuple[str, str], list[ReportQueue]] = defaultdict(list)
    for row in rows:
        refused = None if objection is None else objection(row)
        if refused is None and row.status not in TRANSITIONS[verb]:
            refused = invalid(row, done)
        if refused is None and row.erased_at is not None:
            refused = RowErased()
        results[row.pk] = refused or row
        if refused is None:
            alike[row.status, row.claimed_by].append(row)
    return alike


def _queue_again(rows: list[ReportQueue], entry: turns.Entry, available_at: datetime, reason: str) -> None:
    """Requeue one locked row; or several that are alike, of which none takes turns."""
    first = rows[0]
    tracing.requeued(rows)
    return_all_to_queue(
        rows,
        Verb.REQUEUE,
        available_at,
        **_AFRESH,
        error=reason,
        concurrency_key=entry.key(first),
        waiting=entry.must_wait(first),
    )
