"""What people do: cancel a report, or requeue one that has ended."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from reportqueue import audit
from reportqueue.models import ReportQueue
from reportqueue.queue import turns
from reportqueue.queue.transitions import (
    already_ended,
    end_attempt,
    finish,
    invalid,
    locked,
    require_owner,
    return_to_queue,
    write_all,
)
from reportqueue.states import FINAL, TRANSITIONS, Outcome, Status, Verb


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
            audit.record_rows("ask to cancel", [row], reason=reason)
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
    `InvalidTransition` if the row is not final, or was skipped.
    """
    with turns.entry([pk]) as entry, locked(pk) as (row, now):
        if row.status not in TRANSITIONS[Verb.REQUEUE]:
            raise invalid(row, "requeued")
        audit.record_rows(Verb.REQUEUE, [row], reason=reason)
        return return_to_queue(
            row,
            Verb.REQUEUE,
            now,
            attempt=0,
            launch_failures=0,
            unstarted_runs=0,
            releases=0,
            finished_at=None,
            expires_at=None,
            result=None,
            error=reason,
            concurrency_key=entry.key(row),
            waiting=entry.must_wait(row),
        )
