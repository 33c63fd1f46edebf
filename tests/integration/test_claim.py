"""What a consumer relies on: no row twice, the same answer again until it acknowledges."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from reportqueue import queue
from reportqueue.errors import InvalidTransition, LeaseLost
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.concurrency import at_once
from tests.conftest import RowFactory, build_row, minutes_ago


def ids(claim: queue.Claim) -> list[int]:
    return [row.pk for row in claim.rows]


@pytest.mark.django_db(transaction=True)
def test_claims_at_once_never_share_a_row():
    rows = {build_row().pk for _ in range(60)}
    calls = [lambda name=f"sensor-{n}": queue.claim(name, limit=10) for n in range(8)]
    claims = at_once(calls)
    handed_out = [pk for claim in claims for pk in ids(claim)]
    assert len(handed_out) == len(set(handed_out)) == 60
    assert set(handed_out) == rows


@pytest.mark.django_db(transaction=True)
def test_a_claim_does_not_wait_for_a_row_that_another_connection_holds():
    first, second = build_row(priority=5), build_row()
    with transaction.atomic():
        ReportQueue.objects.select_for_update().get(pk=first.pk)
        (claim,) = at_once([lambda: queue.claim("sensor", limit=10)])
    assert ids(claim) == [second.pk]


@pytest.mark.django_db(transaction=True)
def test_calls_of_one_consumer_at_once_get_the_same_claim():
    for _ in range(10):
        build_row()
    claims = at_once([lambda: queue.claim("sensor", limit=5)] * 4)
    assert len({claim.claim_id for claim in claims}) == 1
    assert len({tuple(ids(claim)) for claim in claims}) == 1


def test_a_claim_repeated_without_its_ack_returns_the_same_rows_and_keys(make_row: RowFactory):
    for _ in range(3):
        make_row()
    first = queue.claim("sensor", limit=2)
    ReportQueue.objects.filter(status=Status.CLAIMED).update(lease_expires_at=minutes_ago(-1))
    again = queue.claim("sensor", limit=2)
    assert again.claim_id == first.claim_id
    assert [row.run_key for row in again.rows] == [row.run_key for row in first.rows]
    assert all(row.lease_expires_at > minutes_ago(-1.5) for row in again.rows), "the lease was not renewed"
    stored = ReportQueue.objects.filter(status=Status.CLAIMED)
    assert {row.generation for row in stored} == {1}


def test_an_acknowledged_claim_is_dispatched_and_the_next_rows_come(make_row: RowFactory):
    for _ in range(3):
        make_row()
    first = queue.claim("sensor", limit=2)
    second = queue.claim("sensor", ack=first.claim_id, limit=2, dispatch_lease_seconds=600)
    assert len(second.rows) == 1
    for row in ReportQueue.objects.filter(pk__in=ids(first)):
        assert row.status == Status.DISPATCHED
        assert row.dispatched_at is not None
        assert row.lease_expires_at > timezone.now() + timedelta(seconds=500)


def test_an_old_or_foreign_ack_changes_nothing(make_row: RowFactory):
    make_row()
    first = queue.claim("sensor")
    assert queue.claim("other", ack=first.claim_id).rows == []
    assert queue.claim("sensor", ack=uuid4()).claim_id == first.claim_id
    assert ReportQueue.objects.get().status == Status.CLAIMED


def test_a_repeated_ack_is_harmless(make_row: RowFactory):
    make_row()
    first = queue.claim("sensor")
    queue.claim("sensor", ack=first.claim_id)
    dispatched_at = ReportQueue.objects.get().dispatched_at
    assert queue.claim("sensor", ack=first.claim_id).rows == []
    assert ReportQueue.objects.get().dispatched_at == dispatched_at


def test_an_ack_in_time_for_its_rows_wins_over_their_expiry(make_row: RowFactory):
    make_row()
    first = queue.claim("sensor")
    ReportQueue.objects.update(lease_expires_at=minutes_ago(1))
    assert queue.claim("sensor", ack=first.claim_id).rows == []
    assert ReportQueue.objects.get().status == Status.DISPATCHED


def test_rows_come_by_priority_then_by_how_long_they_have_been_available(make_row: RowFactory):
    late = make_row(available_at=minutes_ago(1))
    early = make_row(available_at=minutes_ago(9))
    urgent = make_row(available_at=minutes_ago(0.5), priority=1)
    make_row(available_at=minutes_ago(-5), priority=100)
    assert ids(queue.claim("sensor")) == [urgent.pk, early.pk, late.pk]


def test_an_expired_claim_goes_to_any_consumer_as_the_next_generation(make_row: RowFactory):
    row = make_row(status=Status.CLAIMED, claimed_by="gone", lease_expires_at=minutes_ago(1))
    claim = queue.claim("other")
    assert ids(claim) == [row.pk]
    assert claim.rows[0].run_key == f"{row.pk}:2"
    assert claim.rows[0].claimed_by == "other"


def test_a_row_of_an_open_claim_that_has_started_is_not_handed_out_again(make_row: RowFactory):
    make_row(), make_row()
    claim = queue.claim("sensor")
    queue.start(claim.rows[0].pk, generation=1, run_id="quick")
    assert ids(queue.claim("sensor")) == [claim.rows[1].pk]


def test_max_in_flight_counts_what_the_consumer_has_not_finished(make_row: RowFactory):
    for _ in range(10):
        make_row()
    first = queue.claim("sensor", limit=4, max_in_flight=5)
    assert len(first.rows) == 4
    queue.start(first.rows[0].pk, generation=1, run_id="run")
    second = queue.claim("sensor", ack=first.claim_id, limit=4, max_in_flight=5)
    assert (len(second.rows), second.in_flight) == (1, 5)
    again = queue.claim("sensor", limit=4, max_in_flight=9)
    assert (again.rows, again.in_flight) == (second.rows, 5), "and says so of a claim that comes again"
    assert queue.claim("sensor", ack=second.claim_id, max_in_flight=5).rows == []
    assert len(queue.claim("other", max_in_flight=3).rows) == 3


def test_max_unstarted_counts_what_no_run_has_started(make_row: RowFactory):
    for _ in range(10):
        make_row()
    first = queue.claim("sensor", limit=4, max_unstarted=5)
    assert (len(first.rows), first.in_flight, first.unstarted) == (4, 4, 4)
    for row in first.rows[:3]:
        queue.start(row.pk, generation=1, run_id="run")
    second = queue.claim("sensor", ack=first.claim_id, limit=9, max_unstarted=5)
    assert (len(second.rows), second.in_flight, second.unstarted) == (4, 8, 5)
    nothing = queue.claim("sensor", ack=second.claim_id, max_unstarted=5)
    assert (nothing.claim_id, nothing.in_flight, nothing.unstarted) == (None, 8, 5)
    assert queue.claim("sensor", max_in_flight=9, max_unstarted=9).in_flight == 9
    assert len(queue.claim("other", max_unstarted=1).rows) == 1


def test_nothing_due_is_an_empty_claim(make_row: RowFactory):
    make_row(status=Status.SUCCEEDED)
    assert queue.claim("sensor") == queue.Claim(None, [])


def test_a_claimed_row_can_be_given_back_by_its_claim_alone(make_row: RowFactory):
    make_row()
    claim = queue.claim("sensor")
    with pytest.raises(LeaseLost):
        queue.release_claimed(claim.rows[0].pk, claim_id=uuid4())
    row = queue.release_claimed(claim.rows[0].pk, claim_id=claim.claim_id, delay_seconds=60, reason="not now")
    assert (row.status, row.attempt, row.error) == (Status.QUEUED, 0, "not now")
    assert row.available_at > timezone.now() + timedelta(seconds=50)
    assert queue.claim("sensor").rows == []


@pytest.mark.parametrize("status", [Status.CLAIMED, Status.DISPATCHED])
def test_a_run_that_waits_keeps_its_rows_lease(make_row: RowFactory, status: Status):
    row = make_row(status=status, lease_expires_at=minutes_ago(1))
    beat = queue.renew_dispatch(row.pk, generation=1, run_id="waits", lease_seconds=500)
    assert beat.lease_expires_at > timezone.now() + timedelta(seconds=400)
    assert queue.rescue_expired() == queue.Rescued(0, 0)


def test_a_run_that_waits_too_long_does_not_keep_its_successors_row(make_row: RowFactory):
    row = make_row(status=Status.DISPATCHED, generation=2)
    with pytest.raises(LeaseLost):
        queue.renew_dispatch(row.pk, generation=1, run_id="old")
    queue.start(row.pk, generation=2, run_id="new")
    with pytest.raises(InvalidTransition):
        queue.renew_dispatch(row.pk, generation=2, run_id="new")


def test_a_launch_that_never_started_is_offered_again_later_each_time(make_row: RowFactory, settings):
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 100, "RETRY_JITTER": 0}
    row = make_row(status=Status.DISPATCHED, max_attempts=1)
    delays = []
    for generation in (1, 2, 3):
        failed = queue.fail_launch(row.pk, generation=generation, run_id="r", error="no image")
        delays.append(round((failed.available_at - timezone.now()).total_seconds(), -1))
        assert (failed.status, failed.attempt) == (Status.QUEUED, 0)
        ReportQueue.objects.update(available_at=minutes_ago(1))
        assert queue.claim("sensor").rows[0].generation == generation + 1
    assert delays == [100, 200, 400]


def test_a_report_that_no_run_ever_starts_fails_in_the_end_and_says_why(make_row: RowFactory, settings):
    settings.REPORTQUEUE = {"MAX_UNSTARTED_RUNS": 3}
    row = make_row(status=Status.DISPATCHED, max_attempts=1)

    def fail(generation: int, **how: Any) -> ReportQueue:
        return queue.fail_launch(row.pk, generation=generation, run_id="r", error="the job has partitions", **how)

    def hand_out() -> None:
        ReportQueue.objects.update(available_at=minutes_ago(1))
        assert [claimed.pk for claimed in queue.claim("sensor").rows] == [row.pk]

    for generation in (1, 2):
        assert fail(generation).status == Status.QUEUED
        hand_out()
    for generation in range(3, 9):
        # Dagster was down: that says nothing of the report.
        assert fail(generation, counts=False).status == Status.QUEUED
        hand_out()
    failed = fail(9)
    assert (failed.status, failed.attempt, failed.unstarted_runs) == (Status.FAILED, 0, 3)
    assert "the job has partitions" in failed.error
    assert "3 runs in a row have ended without starting this report (MAX_UNSTARTED_RUNS)" in failed.error
    assert fail(9).finished_at == failed.finished_at, "the answer was lost, and the call is repeated"

    requeued = queue.requeue(row.pk)
    assert (requeued.status, requeued.unstarted_runs, requeued.launch_failures) == (Status.QUEUED, 0, 0)
    hand_out()
    assert fail(10).status == Status.QUEUED
    hand_out()
    queue.start(row.pk, generation=11, run_id="at last")
    row.refresh_from_db()
    assert row.unstarted_runs == 0


def test_launches_that_are_lost_never_end_a_report(make_row: RowFactory, settings):
    settings.REPORTQUEUE = {"MAX_UNSTARTED_RUNS": 1}
    row = make_row(status=Status.DISPATCHED)
    ReportQueue.objects.update(lease_expires_at=minutes_ago(1))
    queue.rescue_expired()
    ReportQueue.objects.update(available_at=minutes_ago(1))
    (claimed,) = queue.claim("sensor").rows
    assert claimed.claim_id is not None
    queue.release_claimed(row.pk, claim_id=claimed.claim_id)
    row.refresh_from_db()
    assert (row.status, row.launch_failures, row.unstarted_runs) == (Status.QUEUED, 2, 0)


def test_late_news_of_a_launch_changes_nothing(make_row: RowFactory):
    row = make_row(status=Status.CLAIMED, generation=3)
    for generation in (1, 2):
        assert queue.fail_launch(row.pk, generation=generation, run_id="r", error="x").status == Status.CLAIMED
    with pytest.raises(InvalidTransition, match="never handed out"):
        queue.fail_launch(row.pk, generation=4, run_id="r", error="x")
    queue.fail_launch(row.pk, generation=3, run_id="r", error="x")
    again = queue.fail_launch(row.pk, generation=3, run_id="r", error="x")
    assert (again.status, again.launch_failures) == (Status.QUEUED, 1)


def analyze() -> None:
    """Have the planner know what is in the table now."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE reportqueue_reportqueue")


def bulk_create(count: int, **fields: Any) -> None:
    """So many rows that were due nine minutes ago."""
    then = minutes_ago(9)
    ReportQueue.objects.bulk_create(
        ReportQueue(report_id=1, modifier_id=n, trigger_time=then, available_at=then, **fields) for n in range(count)
    )


def hold(count: int, status: Status, consumer: str) -> None:
    """So many rows with a consumer, under a lease that lasts."""
    held = {"claimed_by": consumer, "claim_id": uuid4(), "lease_expires_at": minutes_ago(-5)}
    bulk_create(count, status=status, generation=1, **held)


def plan_of(call: Callable[[], object], part: str) -> list[str]:
    """PostgreSQL's plan for the call's statement that has this part, line by line."""
    with CaptureQueriesContext(connection) as ran:
        call()
    (statement,) = (query["sql"] for query in ran if part in query["sql"])
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + statement)
        return [line for (line,) in cursor.fetchall()]


def test_a_claim_reads_the_partial_index_alone_however_many_rows_are_finished(make_row: RowFactory):
    bulk_create(5000, status=Status.SUCCEEDED, finished_at=minutes_ago(9))
    for _ in range(50):
        make_row()
    analyze()
    plan = "\n".join(plan_of(lambda: queue.claim("sensor", limit=10), "claimed_at = "))
    assert "reportqueue_claim_order" in plan
    assert "Sort" not in plan
    assert "Seq Scan on reportqueue_reportqueue" not in plan, "the periods are a handful, read once"


def test_what_is_under_way_costs_a_claim_nothing_whatever_the_statistics_know(make_row: RowFactory):
    make_row()
    analyze()  # it has not seen a lease
    hold(3000, Status.DISPATCHED, "sensor")
    expired = ReportQueue.objects.expired().order_by("lease_expires_at").explain()
    assert "reportqueue_lease" in expired
    unacknowledged = ReportQueue.objects.unacknowledged_by("sensor").explain()
    assert "reportqueue_held" in unacknowledged
    assert "Filter" not in unacknowledged, "it reads what is dispatched, or another user's, too"


def test_what_others_hold_costs_an_acknowledgement_nothing(make_row: RowFactory):
    for _ in range(20):
        make_row()
    analyze()  # it has not seen a claim
    for n in range(10):
        hold(300, Status.CLAIMED, f"another-{n}")
    claim = queue.claim("sensor")
    plan = plan_of(lambda: queue.claim("sensor", ack=claim.claim_id), "dispatched_at = ")
    assert sum("reportqueue_held" in line for line in plan) == 1, "its own, and once more everybody's"
