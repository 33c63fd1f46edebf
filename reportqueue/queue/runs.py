"""What a run does: start its row, beat, and end its attempt; everything after the start needs the lease token."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.core.exceptions import ValidationError

from reportqueue import bounds
from reportqueue.conf import conf
from reportqueue.errors import InvalidTransition
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.queue.moves import (
    Beat,
    after_failed_attempt,
    back_to_queue,
    backoff,
    end_attempt,
    finish,
    locked,
    move,
    refusal,
    repeated,
    require_owner,
    write_all,
)
from reportqueue.states import FINAL, Outcome, Status, Verb


def start(
    pk: int,
    *,
    generation: int,
    run_id: str,
    parent_run_id: str = "",
    worker: str = "",
    lease_seconds: int | None = None,
) -> ReportQueue:
    """Make `run_id` the row's owner: running, with a `lease_token` for every later call of the run.

    The first run wins, of whatever generation; a repeat by the same run gets the same answer
    and a fresh lease. A final row starts
    only as a person's re-execution: `parent_run_id` is the row's last run; its attempts are counted afresh.
    Raises `InvalidTransition` for any other run, which must end without work.
    """
    lease = timedelta(seconds=lease_seconds or conf().run_lease_seconds)
    with locked(pk) as (row, now):
        if row.status == Status.RUNNING and row.run_id == run_id:
            write_all([row], lease_expires_at=now + lease)
            return row
        if not 1 <= generation <= row.generation:
            raise InvalidTransition(
                f"Generation {generation} was never handed out; the row is at {row.generation}.",
                current_status=row.status,
            )
        again = row.status in FINAL and bool(parent_run_id) and parent_run_id == row.run_id
        if row.status == Status.RUNNING or (row.status in FINAL and not again):
            raise refusal(row, f"started by run {run_id}")
        if row.attempts.filter(run_id=run_id).exists():
            raise InvalidTransition(f"Run {run_id} has had its attempt.", current_status=row.status)
        token = uuid4()
        move(
            row,
            Verb.START,
            Status.RUNNING,
            attempt=1 if again else row.attempt + 1,
            launch_failures=0,
            run_id=run_id,
            lease_token=token,
            lease_expires_at=now + lease,
            started_at=now,
            finished_at=None,
            result=None,
        )
        ReportAttempt.objects.create(
            queue=row,
            generation=generation,
            attempt=row.attempt,
            run_id=run_id,
            parent_run_id=parent_run_id,
            worker=worker,
            lease_token=token,
            started_at=now,
        )
        return row


def heartbeat(pk: int, *, lease_token: UUID, lease_seconds: int | None = None, progress: str | None = None) -> Beat:
    """Renew the owner's lease. Raises `LeaseLost` if the row has gone to somebody else: stop working on it."""
    lease = timedelta(seconds=lease_seconds or conf().run_lease_seconds)
    with locked(pk) as (row, now):
        require_owner(row, lease_token)
        write_all([row], lease_expires_at=now + lease)
        if progress is not None:
            row.attempts.filter(lease_token=lease_token).update(progress=progress)
        return Beat(now + lease, row.cancel_requested)


def complete(pk: int, *, lease_token: UUID, result: Mapping[str, Any] | None = None) -> ReportQueue:
    """Finish a running row with its result; a repeat is answered alike.

    Raises `LeaseLost` if another owner or the rescuer has it, `ValidationError` for a result beyond its bounds.
    """
    if result is not None:
        try:
            bounds.validate_json_object(result)
        except ValidationError as error:
            raise ValidationError({"result": error.messages}) from None
    with locked(pk) as (row, now):
        if repeated(row, lease_token, Outcome.SUCCEEDED):
            return row
        require_owner(row, lease_token)
        end_attempt(row, Outcome.SUCCEEDED, now)
        return finish(row, Verb.COMPLETE, Status.SUCCEEDED, now, result=result, error="")


def fail(
    pk: int,
    *,
    lease_token: UUID,
    error: str,
    retryable: bool = True,
    retry_after_seconds: int | None = None,
) -> ReportQueue:
    """End a run's attempt with its error: queued again after a growing delay, or failed when attempts are used up.

    A run that was asked to cancel is not tried again. A repeat is answered alike. Raises `LeaseLost` if another
    owner or the rescuer has the row.
    """
    error = bounds.last_bytes(error)
    with locked(pk) as (row, now):
        if repeated(row, lease_token, Outcome.FAILED):
            return row
        require_owner(row, lease_token)
        end_attempt(row, Outcome.FAILED, now, error)
        delay = backoff(row.attempt) if retry_after_seconds is None else timedelta(seconds=retry_after_seconds)
        return after_failed_attempt(row, Verb.FAIL, now, delay, error, retryable=retryable)


def release(pk: int, *, lease_token: UUID, delay_seconds: int = 0, reason: str = "") -> ReportQueue:
    """Give a running row back unharmed: queued (cancelled, if that was asked for), no attempt used.

    A repeat is answered alike. Raises `LeaseLost` if another owner or the rescuer has the row.
    """
    with locked(pk) as (row, now):
        if repeated(row, lease_token, Outcome.RELEASED):
            return row
        require_owner(row, lease_token)
        end_attempt(row, Outcome.RELEASED, now, reason)
        if row.cancel_requested:
            return finish(row, Verb.RELEASE, Status.CANCELLED, now)
        available_at = now + timedelta(seconds=delay_seconds)
        return back_to_queue(row, Verb.RELEASE, available_at, attempt=row.attempt - 1, error=reason)
