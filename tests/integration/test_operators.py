"""What people may do to a row, and what time does."""

from __future__ import annotations

import pytest

from reportqueue import queue
from reportqueue.errors import InvalidTransition, LeaseLost
from reportqueue.models import ReportQueue
from reportqueue.states import FINAL, Outcome, Status
from tests.conftest import RowFactory, minutes_ago


@pytest.mark.parametrize("status", [Status.QUEUED, Status.CLAIMED, Status.DISPATCHED, Status.CANCELLED])
def test_cancel_ends_a_row_that_is_not_running(make_row: RowFactory, status: Status):
    row = make_row(status=status)
    assert queue.cancel(row.pk, reason="not needed").status == Status.CANCELLED
    with pytest.raises(InvalidTransition):
        queue.start(row.pk, generation=1, run_id="late")


def test_a_running_row_is_only_asked_and_its_owner_cancels_it(make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    asked = queue.cancel(row.pk, reason="wrong customer")
    assert (asked.status, asked.cancel_requested) == (Status.RUNNING, True)
    assert queue.heartbeat(row.pk, lease_token=row.lease_token).cancel_requested
    for _ in range(2):
        done = queue.cancel(row.pk, lease_token=row.lease_token)
        assert (done.status, done.cancel_requested, done.error) == (Status.CANCELLED, False, "wrong customer")
    assert [attempt.outcome for attempt in row.attempts.all()] == [Outcome.CANCELLED]


def test_an_owners_repeated_cancel_is_answered_also_after_a_requeue(make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    queue.cancel(row.pk, lease_token=row.lease_token)
    queue.requeue(row.pk)
    assert queue.cancel(row.pk, lease_token=row.lease_token).status == Status.QUEUED


def test_a_run_that_finished_before_it_heard_of_the_cancel_has_finished(make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    queue.cancel(row.pk)
    assert queue.complete(row.pk, lease_token=row.lease_token).status == Status.SUCCEEDED


@pytest.mark.parametrize("end", ["fail", "release", "rescue"])
def test_a_row_asked_to_cancel_is_not_tried_again(make_row: RowFactory, end: str):
    row = make_row(status=Status.RUNNING)
    queue.cancel(row.pk)
    if end == "fail":
        queue.fail(row.pk, lease_token=row.lease_token, error="x")
    elif end == "release":
        queue.release(row.pk, lease_token=row.lease_token)
    else:
        ReportQueue.objects.update(lease_expires_at=minutes_ago(1))
        assert queue.rescue_expired() == queue.Rescued(queued=0, ended=1)
    row.refresh_from_db()
    assert (row.status, row.cancel_requested) == (Status.CANCELLED, False)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.SKIPPED])
def test_cancel_refuses_a_row_that_has_ended(make_row: RowFactory, status: Status):
    row = make_row(status=status)
    with pytest.raises(InvalidTransition) as refusal:
        queue.cancel(row.pk)
    assert refusal.value.current_status == status


def test_a_stale_token_cannot_cancel_a_cancelled_row(make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    queue.fail(row.pk, lease_token=row.lease_token, error="x")
    queue.cancel(row.pk)
    with pytest.raises(LeaseLost):
        queue.cancel(row.pk, lease_token=row.lease_token)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED])
def test_requeue_runs_a_finished_row_again_with_all_its_attempts(make_row: RowFactory, status: Status):
    row = make_row(status=status, max_attempts=1, error="old", result={"old": 1})
    again = queue.requeue(row.pk, reason="asked by the customer")
    assert (again.status, again.attempt, again.processed) == (Status.QUEUED, 0, False)
    assert (again.error, again.result) == ("asked by the customer", None)
    (claimed,) = queue.claim("sensor").rows
    assert claimed.generation == row.generation + 1, "Dagster would drop a run key that it knows"


@pytest.mark.parametrize("status", sorted(set(Status) - FINAL | {Status.SKIPPED}))
def test_requeue_refuses_what_has_not_ended(make_row: RowFactory, status: Status):
    row = make_row(status=status)
    with pytest.raises(InvalidTransition):
        queue.requeue(row.pk)


def test_an_expired_run_is_tried_again_and_finally_failed(make_row: RowFactory, settings):
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 0}
    row = make_row(status=Status.RUNNING, max_attempts=2, lease_expires_at=minutes_ago(1))
    assert queue.rescue_expired() == queue.Rescued(queued=1, ended=0)
    queue.claim("sensor")
    queue.start(row.pk, generation=2, run_id="second")
    ReportQueue.objects.update(lease_expires_at=minutes_ago(1))
    assert queue.rescue_expired() == queue.Rescued(queued=0, ended=1)
    row.refresh_from_db()
    assert row.status == Status.FAILED
    assert "sent no more heartbeats" in row.error
    assert [attempt.outcome for attempt in row.attempts.all()] == [Outcome.EXPIRED, Outcome.EXPIRED]


def test_an_expired_dispatch_is_offered_again_after_a_delay(make_row: RowFactory):
    row = make_row(status=Status.DISPATCHED, lease_expires_at=minutes_ago(1), max_attempts=1)
    assert queue.rescue_expired().queued == 1
    assert queue.claim("sensor").rows == []
    row.refresh_from_db()
    assert (row.status, row.attempt, row.launch_failures) == (Status.QUEUED, 0, 1)


def test_rescue_leaves_live_leases_alone_and_keeps_to_its_limit(make_row: RowFactory):
    for status in (Status.CLAIMED, Status.DISPATCHED, Status.RUNNING):
        make_row(status=status)
    assert queue.rescue_expired() == queue.Rescued(0, 0)
    ReportQueue.objects.update(lease_expires_at=minutes_ago(1))
    assert queue.rescue_expired(limit=2).queued == 2
    assert queue.rescue_expired(limit=2).queued == 1
