"""Reports whose runs end with them: what they cost themselves, and what others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from reportqueue import queue
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.states import Outcome, Status
from tests.conftest import RowFactory, minutes_ago


def started(rows: Sequence[ReportQueue], run_id: str = "run", **options: Any) -> list[ReportQueue]:
    """Claimed and started together, in this order."""
    queue.claim("sensor", limit=1000)
    generations = dict(ReportQueue.objects.values_list("pk", "generation"))
    answers = queue.start_many({row.pk: generations[row.pk] for row in rows}, run_id=run_id, **options)
    assert all(isinstance(answer, ReportQueue) for answer in answers.values())
    return [row for row in answers.values() if isinstance(row, ReportQueue)]


def die(*rows: ReportQueue) -> queue.Rescued:
    ReportQueue.objects.filter(pk__in=[row.pk for row in rows]).update(lease_expires_at=minutes_ago(1))
    return queue.rescue_expired()


def found(rows: Sequence[ReportQueue]) -> list[tuple[str, int, bool]]:
    now = ReportQueue.objects.in_bulk()
    return [(now[row.pk].status, now[row.pk].attempt, now[row.pk].alone) for row in rows]


def test_of_a_dead_run_the_report_in_hand_alone_is_charged(make_row: RowFactory):
    rows = [make_row() for _ in range(4)]
    started([rows[2], rows[0], rows[3], rows[1]])
    assert die(*rows) == queue.Rescued(queued=4, ended=0)
    assert found(rows) == [(Status.QUEUED, attempt, True) for attempt in (0, 0, 1, 0)]
    assert set(ReportAttempt.objects.values_list("outcome", flat=True)) == {Outcome.EXPIRED}


def test_a_charged_report_waits_and_the_others_go_on_at_once(make_row: RowFactory):
    rows = [make_row() for _ in range(3)]
    started(rows)
    die(*rows)
    assert {row.pk for row in queue.claim("other").rows} == {rows[1].pk, rows[2].pk}


def test_reports_that_were_made_before_are_none_of_it(make_row: RowFactory):
    rows = [make_row() for _ in range(4)]
    first, second, *_ = started(rows)
    for row in (first, second):
        assert row.lease_token is not None
        queue.complete(row.pk, lease_token=row.lease_token)
    die(*rows[2:])
    assert found(rows[2:]) == [(Status.QUEUED, 1, True), (Status.QUEUED, 0, True)]


def test_rows_whose_leases_end_later_than_the_first_ones_are_not_charged_either(make_row: RowFactory):
    rows = [make_row() for _ in range(3)]
    started(rows)
    die(rows[0])
    assert found(rows)[0] == (Status.QUEUED, 1, True)
    die(rows[1])
    die(rows[2])
    assert found(rows) == [(Status.QUEUED, attempt, True) for attempt in (1, 0, 0)]


def test_rows_of_several_groups_of_a_run_are_in_the_order_of_their_starts(make_row: RowFactory):
    rows = [make_row() for _ in range(4)]
    queue.claim("sensor")
    queue.start_many({rows[3].pk: 1, rows[2].pk: 1}, run_id="run")
    queue.start_many({rows[1].pk: 1, rows[0].pk: 1}, run_id="run")
    die(*rows)
    assert [attempt for _, attempt, _ in found(rows)] == [0, 0, 0, 1]


def test_no_row_is_let_off_twice(make_row: RowFactory):
    """A consumer that puts rows together which should go alone gets no loop without an end."""
    rows = [make_row(max_attempts=1) for _ in range(2)]
    started(rows)
    die(*rows)
    assert found(rows) == [(Status.FAILED, 1, True), (Status.QUEUED, 0, True)]
    queue.requeue(rows[0].pk)
    started(rows, "again")
    assert die(*rows) == queue.Rescued(queued=0, ended=2)
    assert found(rows) == [(Status.FAILED, 1, True)] * 2


def test_a_row_that_was_let_off_and_is_to_be_cancelled_is_cancelled(make_row: RowFactory):
    rows = [make_row() for _ in range(2)]
    started(rows)
    queue.cancel(rows[1].pk)
    die(*rows)
    assert found(rows)[1] == (Status.CANCELLED, 1, True)


def test_dead_runs_are_told_apart(make_row: RowFactory):
    rows = [make_row() for _ in range(4)]
    started(rows[:2], "one")
    started(rows[2:], "two")
    die(*rows)
    assert [attempt for _, attempt, _ in found(rows)] == [1, 0, 1, 0]


def test_the_attempts_of_dead_runs_are_found_by_an_index(make_row: RowFactory):
    attempt = make_row(status=Status.SUCCEEDED).attempts.get()
    many = ReportAttempt.objects.values("queue_id", "generation", "started_at", "finished_at", "outcome").get()
    ReportAttempt.objects.bulk_create(
        ReportAttempt(**many, attempt=number, run_id=f"run {number}", lease_token=uuid4()) for number in range(2, 500)
    )
    assert attempt.outcome == Outcome.SUCCEEDED
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {ReportAttempt._meta.db_table}")
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = ReportAttempt.objects.filter(run_id__in=["a", "b"], outcome__in=["", Outcome.EXPIRED.value]).explain()
    assert "reportqueue_attempt_cut_off" in plan


def released(row: ReportQueue, times: int, **options: Any) -> list[tuple[str, int, int]]:
    """Claim, start and give back so many times: status, attempt and delay in whole seconds after each."""
    seen = []
    for _ in range(times):
        ReportQueue.objects.filter(pk=row.pk).update(available_at=minutes_ago(1))
        (claimed,) = queue.claim("sensor", ack=ReportQueue.objects.get(pk=row.pk).claim_id).rows
        run = queue.start(row.pk, generation=claimed.generation, run_id=f"run-{claimed.generation}")
        assert run.lease_token is not None
        assert run.started_at is not None
        back = queue.release(row.pk, lease_token=run.lease_token, reason="SIGTERM", **options)
        delay = round((back.available_at - run.started_at).total_seconds(), -1) if back.status == Status.QUEUED else 0
        seen.append((str(back.status), back.attempt, delay))
    return seen


@pytest.fixture
def doubling(settings: Any) -> None:
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 100, "RETRY_JITTER": 0, "MAX_RELEASES": 4}


def test_a_report_that_interrupts_its_run_each_time_comes_to_its_end(make_row: RowFactory, doubling: None):
    row = make_row(max_attempts=2)
    assert released(row, 6) == [
        ("queued", 0, 0),
        ("queued", 0, 100),
        ("queued", 0, 200),
        ("queued", 0, 400),
        ("queued", 1, 800),
        ("failed", 2, 0),
    ]
    row.refresh_from_db()
    assert row.error == "Its runs were interrupted 6 times. SIGTERM"
    assert set(row.attempts.values_list("outcome", flat=True)) == {Outcome.RELEASED}
    assert (queue.requeue(row.pk).releases, row.alone) == (0, True)


def test_a_longer_delay_that_was_asked_for_is_kept(make_row: RowFactory, doubling: None):
    assert released(make_row(), 3, delay_seconds=150) == [("queued", 0, 150), ("queued", 0, 150), ("queued", 0, 200)]


def test_a_report_that_was_not_begun_may_be_given_back_as_often_as_runs_are_interrupted(
    make_row: RowFactory, doubling: None
):
    row = make_row(max_attempts=1)
    assert released(row, 7, begun=False) == [("queued", 0, 0)] * 7
    row.refresh_from_db()
    assert (row.releases, row.alone) == (0, False)


def test_a_consumer_that_gives_a_row_back_each_time_gets_it_later_each_time(make_row: RowFactory, doubling: None):
    row, delays = make_row(), []
    for _ in range(4):
        ReportQueue.objects.update(available_at=minutes_ago(1))
        claim = queue.claim("sensor")
        assert claim.claim_id is not None
        back = queue.release_claimed(row.pk, claim_id=claim.claim_id)
        assert claim.rows[0].claimed_at is not None
        delays.append(round((back.available_at - claim.rows[0].claimed_at).total_seconds(), -1))
    assert delays == [0, 100, 200, 400]
