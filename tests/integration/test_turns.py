"""Turns: of a schedule that does not allow overlaps, one unfinished report is handed out and started at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.utils import timezone

from reportqueue import queue, schedules
from reportqueue.errors import InvalidTransition
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Status
from reportqueue.timing.policies import Overlap
from tests.concurrency import at_once
from tests.conftest import build_schedule, minutes_ago

pytestmark = pytest.mark.django_db
LIMITED = pytest.mark.parametrize("overlap", ["skip", "queue_one"])


def running(row: ReportQueue, run_id: str = "") -> ReportQueue:
    """The row, claimed and started."""
    claim = queue.claim(f"sensor-{row.pk}")
    assert row.pk in [one.pk for one in claim.rows]
    return queue.start(row.pk, generation=claim.rows[0].generation, run_id=run_id or f"run-{row.pk}")


def complete(row: ReportQueue) -> ReportQueue:
    return queue.complete(row.pk, lease_token=row.lease_token)


def claimable() -> list[int]:
    """The ids of the rows that a claim would hand out."""
    return list(ReportQueue.objects.claimable().values_list("pk", flat=True))


@LIMITED
@pytest.mark.parametrize("delete", [lambda one: one.delete(), lambda one: ReportSchedule.objects.all().delete()])
def test_a_deleted_schedules_waiting_report_runs_when_the_earlier_one_ends(overlap: str, delete: Callable[..., Any]):
    schedule = build_schedule(overlap=overlap)
    first = running(schedules.run_now(schedule.pk))
    second, third = schedules.run_now(schedule.pk), schedules.run_now(schedule.pk)
    delete(schedule)
    assert claimable() == []
    complete(first)
    assert claimable() == [second.pk]
    complete(running(second))
    assert claimable() == [third.pk]


@LIMITED
def test_a_requeued_report_waits_while_another_of_its_schedule_is_unfinished(overlap: str):
    schedule = build_schedule(overlap=overlap)
    first = complete(running(schedules.run_now(schedule.pk)))
    second = running(schedules.run_now(schedule.pk))
    requeued = queue.requeue(first.pk)
    assert (requeued.status, requeued.waiting, queue.turn_before(requeued)) == (Status.QUEUED, True, second.pk)
    assert claimable() == []
    with pytest.raises(InvalidTransition, match="does not allow overlaps"):
        queue.start(first.pk, generation=1, run_id="an earlier launch")
    complete(second)
    assert claimable() == [first.pk]


def test_a_requeued_report_of_a_deleted_schedule_waits_too():
    schedule = build_schedule(overlap="skip")
    first = complete(running(schedules.run_now(schedule.pk)))
    second = running(schedules.run_now(schedule.pk))
    schedule.delete()
    assert queue.requeue(first.pk).waiting
    complete(second)
    assert claimable() == [first.pk]


@LIMITED
@pytest.mark.parametrize("other", ["queued", "claimed", "running", "between two attempts"])
def test_a_re_execution_is_refused_while_another_report_of_the_schedule_is_unfinished(overlap: str, other: str):
    schedule = build_schedule(overlap=overlap)
    first = complete(running(schedules.run_now(schedule.pk)))
    second = schedules.run_now(schedule.pk)
    if other == "claimed":
        queue.claim("sensor")
    elif other != "queued":
        second = running(second)
    if other == "between two attempts":
        queue.fail(second.pk, lease_token=second.lease_token, error="no")
    with pytest.raises(InvalidTransition, match="does not allow overlaps"):
        queue.start(first.pk, generation=1, run_id="again", parent_run_id=first.run_id)
    first.refresh_from_db()
    assert first.status == Status.SUCCEEDED
    queue.cancel(second.pk, lease_token=ReportQueue.objects.get(pk=second.pk).lease_token)
    again = queue.start(first.pk, generation=1, run_id="again", parent_run_id=first.run_id)
    assert (again.status, again.waiting, again.concurrency_key) == (Status.RUNNING, False, schedule.pk)
    assert schedules.run_now(schedule.pk).waiting


def test_of_two_reports_re_executed_together_one_starts():
    schedule = build_schedule(overlap="allow")
    rows = [schedules.run_now(schedule.pk) for _ in range(2)]
    queue.claim("sensor")
    started = queue.start_many({row.pk: 1 for row in rows}, run_id="run")
    queue.complete_many({row.pk: row.lease_token for row in started.values()}, results={})
    schedule.overlap = Overlap.SKIP
    schedule.save()
    answers = queue.start_many({row.pk: 1 for row in rows}, run_id="again", parent_run_id="run")
    assert [type(answers[row.pk]) for row in rows] == [ReportQueue, InvalidTransition]


@pytest.mark.parametrize("how", ["save", "update", "around Django"])
def test_a_tightened_policy_waits_for_all_that_is_under_way(how: str):
    schedule = build_schedule(overlap="allow")
    first, second = schedules.run_now(schedule.pk), schedules.run_now(schedule.pk)
    first, second = (queue.start(row.pk, generation=1, run_id=f"run-{row.pk}") for row in queue.claim("sensor").rows)
    third = schedules.run_now(schedule.pk)
    if how == "save":
        schedule.overlap = Overlap.QUEUE_ONE
        schedule.save()
    elif how == "update":
        ReportSchedule.objects.filter(pk=schedule.pk).update(overlap=Overlap.QUEUE_ONE)
    else:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE reportqueue_reportschedule SET overlap = 'queue_one'")
        ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=timezone.now())
        schedules.enqueue_due()
    assert claimable() == []
    complete(second)
    assert claimable() == [], "the other one is still running"
    complete(first)
    assert claimable() == [third.pk]


def test_a_tightened_policy_holds_up_what_was_handed_out_and_what_is_tried_again():
    schedule = build_schedule(overlap="allow", max_attempts=2)
    for _ in range(3):
        schedules.run_now(schedule.pk)
    one, other, claimed = queue.claim("sensor").rows
    one, other = (queue.start(row.pk, generation=1, run_id=f"run-{row.pk}") for row in (one, other))
    schedule.overlap = Overlap.SKIP
    schedule.save()
    with pytest.raises(InvalidTransition, match="does not allow overlaps"):
        queue.start(claimed.pk, generation=1, run_id="launched already")
    tried_again = queue.fail(other.pk, lease_token=other.lease_token, error="no", retry_after_seconds=0)
    assert (tried_again.status, claimable()) == (Status.QUEUED, [])
    complete(one)
    assert queue.start(claimed.pk, generation=1, run_id="now").status == Status.RUNNING
    assert claimable() == []


def test_a_loosened_policy_frees_what_waits():
    schedule = build_schedule(overlap="skip")
    running(schedules.run_now(schedule.pk))
    others = [schedules.run_now(schedule.pk).pk for _ in range(2)]
    schedule.overlap = Overlap.ALLOW
    schedule.save()
    assert claimable() == others
    assert not queue.requeue(queue.cancel(others[0]).pk).waiting


def test_the_turn_goes_to_the_first_in_claim_order_that_is_available():
    schedule = build_schedule(overlap="skip")
    first = running(schedules.run_now(schedule.pk))
    late, low, high = (schedules.run_now(schedule.pk) for _ in range(3))
    ReportQueue.objects.filter(pk=late.pk).update(available_at=minutes_ago(-9), priority=9)
    ReportQueue.objects.filter(pk=high.pk).update(priority=5)
    for row in (first, high, low):
        complete(first)
        if row is not low:
            following = high if row is first else low
            assert claimable() == [following.pk]
            first = running(following)
    assert queue.turn_before(schedules.run_now(schedule.pk)) == late.pk


def test_the_database_refuses_a_second_turn():
    schedule = build_schedule(overlap="skip")
    schedules.run_now(schedule.pk)
    second = schedules.run_now(schedule.pk)
    with pytest.raises(IntegrityError, match="reportqueue_one_in_turn"):
        ReportQueue.objects.filter(pk=second.pk).update(waiting=False)


@LIMITED
def test_a_firing_that_a_person_has_queued_already_takes_no_turn(overlap: str):
    schedule = build_schedule(overlap=overlap, catch_up="all", catch_up_window_seconds=86_400, cron="0 * * * *")
    instant = timezone.now().replace(minute=0, second=0, microsecond=0)
    due = [instant - timedelta(hours=1), instant]
    ReportSchedule.objects.filter(pk=schedule.pk).update(
        next_run_at=due[0], planned_from=due[0] - timedelta(minutes=1), timing_set_at=due[0] - timedelta(minutes=1)
    )
    schedules.backfill(schedule.pk, due[0], due[0])
    queue.cancel(ReportQueue.objects.get().pk)
    schedules.enqueue_due()
    (row,) = ReportQueue.objects.unfinished()
    assert (row.trigger_time, row.waiting) == (instant, False)


def test_a_save_of_other_fields_leaves_the_turns_alone():
    schedule = build_schedule(overlap="allow")
    ReportSchedule.objects.filter(pk=schedule.pk).update(overlap="skip")
    running(schedules.run_now(schedule.pk))
    waits = schedules.run_now(schedule.pk)
    schedule.priority = 5
    schedule.save(update_fields=["priority"])
    waits.refresh_from_db()
    assert waits.waiting


@pytest.mark.django_db(transaction=True)
def test_of_two_rows_of_a_deleted_schedule_that_are_requeued_at_once_one_waits():
    for _ in range(5):
        schedule = build_schedule(overlap="skip")
        old = [complete(running(schedules.run_now(schedule.pk))) for _ in range(2)]
        schedule.delete()
        answers = at_once([lambda row=row: queue.requeue(row.pk) for row in old])
        assert not [one for one in answers if isinstance(one, Exception)], answers
        assert sorted(row.waiting for row in ReportQueue.objects.unfinished()) == [False, True]
        for row in ReportQueue.objects.unfinished():
            queue.cancel(row.pk)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("delete", [False, True])
def test_of_verbs_at_once_one_row_gets_the_turn_and_none_is_left_waiting(delete: bool):
    for _ in range(10):
        schedule = build_schedule(overlap="skip")
        old = [complete(running(schedules.run_now(schedule.pk))) for _ in range(2)]
        current = running(schedules.run_now(schedule.pk))
        calls: list[Callable[[], Any]] = [
            lambda row=old[0]: queue.requeue(row.pk),
            lambda row=old[1]: queue.start(row.pk, generation=1, run_id=f"re-{row.pk}", parent_run_id=row.run_id),
            lambda row=current: complete(row),
            (lambda one=schedule: one.delete()) if delete else (lambda one=schedule: schedules.run_now(one.pk)),
        ]
        answers = at_once(calls)
        assert not [one for one in answers if isinstance(one, Exception) and not isinstance(one, InvalidTransition)]
        while unfinished := list(ReportQueue.objects.unfinished()):
            (turn,) = [row for row in unfinished if not row.waiting]
            queue.cancel(turn.pk, lease_token=turn.lease_token)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("verb", ["update", "delete"])
def test_a_schedule_that_comes_to_match_while_others_are_locked_is_left_alone(verb: str):
    chosen, late = (build_schedule(overlap="allow", priority=priority) for priority in (5, 1))
    for _ in range(2):
        running(schedules.run_now(late.pk))
    seen: list[str] = []

    def comes_to_match() -> None:
        ReportSchedule.objects.filter(pk=late.pk).update(priority=5)

    def after_the_lock(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        done = execute(sql, params, many, context)
        if "FOR UPDATE" in sql and not seen:
            seen.append(sql)
            assert at_once([comes_to_match]) == [None]
        return done

    with connection.execute_wrapper(after_the_lock):
        found = ReportSchedule.objects.filter(priority=5)
        _ = found.update(overlap="skip") if verb == "update" else found.delete()
    assert seen
    late.refresh_from_db()
    assert (late.priority, late.overlap) == (5, "allow")
    assert ReportSchedule.objects.filter(pk=chosen.pk, overlap="allow").exists() is False
