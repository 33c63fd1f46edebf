"""What a run relies on: one owner at a time, known by its token; a repeated call gets the same answer."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from reportqueue import queue
from reportqueue.errors import InvalidTransition, LeaseLost, RowNotFound
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.states import Outcome, Status
from tests.concurrency import at_once
from tests.conftest import RowFactory, build_row, minutes_ago


def outcomes(row: ReportQueue) -> list[str]:
    return [attempt.outcome for attempt in row.attempts.all()]


@pytest.fixture(autouse=True)
def _no_delay(settings) -> None:
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 0}


@pytest.mark.django_db(transaction=True)
def test_of_runs_starting_at_once_one_wins():
    row = build_row(status=Status.DISPATCHED)
    answers = at_once([lambda n=n: queue.start(row.pk, generation=1, run_id=f"run-{n}") for n in range(6)])
    winners = [answer for answer in answers if isinstance(answer, ReportQueue)]
    assert len(winners) == 1
    assert all(isinstance(answer, InvalidTransition) for answer in answers if answer not in winners)
    row.refresh_from_db()
    assert row.run_id == winners[0].run_id
    assert row.attempt == row.attempts.count() == 1


def test_a_repeated_start_gets_the_same_token_and_a_fresh_lease(make_row: RowFactory):
    row = make_row(status=Status.DISPATCHED)
    first = queue.start(row.pk, generation=1, run_id="run", lease_seconds=5)
    again = queue.start(row.pk, generation=1, run_id="run", lease_seconds=300)
    assert again.lease_token == first.lease_token
    assert again.lease_expires_at > timezone.now() + timedelta(seconds=200)
    assert (again.attempt, again.attempts.count()) == (1, 1)


def test_a_run_that_an_engine_has_delivered_twice_works_once(make_row: RowFactory):
    rows = [make_row(status=Status.DISPATCHED) for _ in range(2)]
    generations = {row.pk: 1 for row in rows}
    first = queue.start_many(generations, run_id="run", worker="one:1")
    second = queue.start_many(generations, run_id="run", worker="two:1")
    for row in rows:
        assert isinstance(first[row.pk], ReportQueue)
        refused = second[row.pk]
        assert isinstance(refused, InvalidTransition)
        assert "runs in worker one:1. This worker, two:1, must end" in str(refused)
        assert refused.current_status == Status.RUNNING
    assert ReportAttempt.objects.filter(queue__in=rows).count() == 2


@pytest.mark.parametrize("workers", [("one:1", "one:1"), ("", "one:1"), ("one:1", "")])
def test_the_same_worker_or_one_that_says_nothing_may_repeat_its_start(make_row: RowFactory, workers: tuple[str, str]):
    row = make_row(status=Status.DISPATCHED)
    first, again = (queue.start(row.pk, generation=1, run_id="run", worker=worker) for worker in workers)
    assert again.lease_token == first.lease_token


@pytest.mark.parametrize("status", [Status.QUEUED, Status.CLAIMED, Status.DISPATCHED])
def test_a_run_of_an_older_generation_may_start_a_row_that_is_not_running(make_row: RowFactory, status: Status):
    row = make_row(status=status, generation=3)
    assert queue.start(row.pk, generation=1, run_id="old").status == Status.RUNNING


def test_a_generation_that_was_never_handed_out_cannot_start(make_row: RowFactory):
    row = make_row(status=Status.CLAIMED)
    with pytest.raises(InvalidTransition, match="never handed out"):
        queue.start(row.pk, generation=2, run_id="run")


@pytest.mark.parametrize("status", [Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED])
def test_another_run_cannot_start_a_row_that_runs_or_has_ended(make_row: RowFactory, status: Status):
    row = make_row(status=status, generation=1)
    with pytest.raises(InvalidTransition) as refusal:
        queue.start(row.pk, generation=1, run_id="other", parent_run_id="unrelated")
    assert refusal.value.current_status == status


def test_a_run_has_one_attempt_at_a_row(make_row: RowFactory):
    row = make_row(status=Status.DISPATCHED)
    started = queue.start(row.pk, generation=1, run_id="run")
    queue.fail(row.pk, lease_token=started.lease_token, error="x")
    with pytest.raises(InvalidTransition, match="has had its attempt"):
        queue.start(row.pk, generation=1, run_id="run")


def test_a_persons_re_execution_of_the_last_run_starts_afresh(make_row: RowFactory):
    row = make_row(status=Status.FAILED, max_attempts=1, error="boom")
    again = queue.start(row.pk, generation=1, run_id="again", parent_run_id=row.run_id)
    assert (again.status, again.attempt, again.finished_at) == (Status.RUNNING, 1, None)
    assert queue.complete(row.pk, lease_token=again.lease_token).status == Status.SUCCEEDED


def test_a_heartbeat_renews_the_lease_and_carries_progress(make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    beat = queue.heartbeat(row.pk, lease_token=row.lease_token, lease_seconds=900, progress="half")
    row.refresh_from_db()
    assert beat.lease_expires_at == row.lease_expires_at > timezone.now() + timedelta(seconds=800)
    assert not beat.cancel_requested
    assert row.attempts.get().progress == "half"


def test_complete_stores_the_result_and_answers_a_repeat_alike(make_row: RowFactory):
    row = make_row(status=Status.RUNNING, error="of an earlier attempt")
    for _ in range(2):
        done = queue.complete(row.pk, lease_token=row.lease_token, result={"pages": 3})
        assert (done.status, done.result, done.error) == (Status.SUCCEEDED, {"pages": 3}, "")
    assert outcomes(row) == [Outcome.SUCCEEDED]


def test_a_repeated_complete_is_answered_also_after_a_requeue(make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    queue.complete(row.pk, lease_token=row.lease_token)
    queue.requeue(row.pk)
    assert queue.complete(row.pk, lease_token=row.lease_token).status == Status.QUEUED


def test_a_result_beyond_its_bound_is_refused_and_the_row_runs_on(make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    with pytest.raises(ValidationError, match="at most 65,536 bytes"):
        queue.complete(row.pk, lease_token=row.lease_token, result={"text": "x" * 70_000})
    row.refresh_from_db()
    assert row.status == Status.RUNNING


def test_a_failed_attempt_is_tried_again_until_attempts_are_used_up(make_row: RowFactory):
    row = make_row(status=Status.DISPATCHED, max_attempts=2)
    first = queue.start(row.pk, generation=1, run_id="one")
    assert queue.fail(row.pk, lease_token=first.lease_token, error="boom 1").status == Status.QUEUED
    (claimed,) = queue.claim("sensor").rows
    assert claimed.run_key == f"{row.pk}:2"
    second = queue.start(row.pk, generation=2, run_id="two")
    failed = queue.fail(row.pk, lease_token=second.lease_token, error="boom 2")
    assert (failed.status, failed.attempt, failed.error) == (Status.FAILED, 2, "boom 2")
    assert [attempt.error for attempt in row.attempts.all()] == ["boom 1", "boom 2"]
    assert outcomes(row) == [Outcome.FAILED, Outcome.FAILED]


def test_a_retry_waits_longer_each_time_up_to_the_bound(make_row: RowFactory, settings):
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 100, "RETRY_BACKOFF_MAX_SECONDS": 350, "RETRY_JITTER": 0}
    row = make_row(status=Status.DISPATCHED, max_attempts=9)
    delays = []
    for attempt in range(4):
        started = queue.start(row.pk, generation=1, run_id=f"run-{attempt}")
        failed = queue.fail(row.pk, lease_token=started.lease_token, error="x")
        delays.append(round((failed.available_at - timezone.now()).total_seconds()))
    assert delays == [100, 200, 350, 350]


def test_a_retry_that_names_its_delay_gets_it(make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    failed = queue.fail(row.pk, lease_token=row.lease_token, error="busy", retry_after_seconds=500)
    assert failed.available_at > timezone.now() + timedelta(seconds=490)


def test_a_failure_not_worth_another_attempt_is_final(make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    for _ in range(2):
        assert queue.fail(row.pk, lease_token=row.lease_token, error="x", retryable=False).status == Status.FAILED
    assert outcomes(row) == [Outcome.FAILED]


def test_an_error_is_kept_to_its_end(make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    failed = queue.fail(row.pk, lease_token=row.lease_token, error="é" * 20_000 + "\x00the end", retryable=False)
    assert failed.error.endswith("\ufffdthe end")
    assert 16_380 <= len(failed.error.encode()) <= 16_384


def test_a_released_row_has_used_no_attempt(make_row: RowFactory):
    row = make_row(status=Status.RUNNING, max_attempts=1)
    for _ in range(2):
        released = queue.release(row.pk, lease_token=row.lease_token, reason="shutting down")
        assert (released.status, released.attempt, released.error) == (Status.QUEUED, 0, "shutting down")
    assert outcomes(row) == [Outcome.RELEASED]


def test_stale_owner_cannot_touch_a_row_after_rescue(make_row: RowFactory):
    row = make_row(status=Status.RUNNING, lease_expires_at=minutes_ago(1))
    stale = row.lease_token
    queue.rescue_expired()
    queue.claim("sensor")
    queue.start(row.pk, generation=2, run_id="successor")
    before = ReportQueue.objects.values().get()
    for verb in (queue.complete, queue.heartbeat, queue.release, queue.cancel):
        with pytest.raises(LeaseLost) as refusal:
            verb(row.pk, lease_token=stale)
        assert refusal.value.current_status == Status.RUNNING
    with pytest.raises(LeaseLost):
        queue.fail(row.pk, lease_token=stale, error="too late")
    assert ReportQueue.objects.values().get() == before


def test_an_end_is_not_answered_as_another(make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    queue.fail(row.pk, lease_token=row.lease_token, error="x")
    for verb in (queue.complete, queue.release):
        with pytest.raises(LeaseLost):
            verb(row.pk, lease_token=row.lease_token)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("_", range(5))
def test_complete_cancel_and_rescue_racing_leave_one_end(_: int):
    row = build_row(status=Status.RUNNING, lease_expires_at=minutes_ago(1), max_attempts=1)
    at_once(
        [
            lambda: queue.complete(row.pk, lease_token=row.lease_token),
            lambda: queue.cancel(row.pk, lease_token=row.lease_token),
            lambda: queue.rescue_expired(),
            lambda: queue.fail(row.pk, lease_token=row.lease_token, error="x"),
        ]
    )
    row.refresh_from_db()
    ends = {
        Outcome.SUCCEEDED: Status.SUCCEEDED,
        Outcome.CANCELLED: Status.CANCELLED,
        Outcome.EXPIRED: Status.FAILED,
        Outcome.FAILED: Status.FAILED,
    }
    assert row.status == ends[Outcome(row.attempts.get().outcome)]


def test_unknown_rows_are_named(db: None):
    token = uuid4()
    calls = [
        lambda: queue.start(7, generation=1, run_id="r"),
        lambda: queue.heartbeat(7, lease_token=token),
        lambda: queue.complete(7, lease_token=token),
        lambda: queue.fail(7, lease_token=token, error="x"),
        lambda: queue.release(7, lease_token=token),
        lambda: queue.cancel(7),
        lambda: queue.requeue(7),
    ]
    for call in calls:
        with pytest.raises(RowNotFound, match="no report 7"):
            call()
    assert not ReportAttempt.objects.exists()
