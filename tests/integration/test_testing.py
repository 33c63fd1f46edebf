"""`reportqueue.testing`: what a project's tests use."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any, cast

import pytest
from django.core.exceptions import FieldDoesNotExist

from reportqueue import queue, schedules
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Status
from reportqueue.testing import assert_queued, run_queue, travel_to_next_firing
from tests.documents import blocks
from tests.unit.test_doc_code import execute

ScheduleFactory = Callable[..., ReportSchedule]
pytestmark = pytest.mark.django_db


def test_what_a_block_queues_is_found():
    queue.enqueue(report_id=3, modifier_id=17)
    with assert_queued(report_id=3, modifier_id=17) as rows:
        queue.enqueue(report_id=3, modifier_id=17, params={"order": 1})
        queue.enqueue(report_id=4, modifier_id=17)
    assert [row.params for row in rows] == [{"order": 1}]
    with assert_queued(count=0):
        pass


@pytest.mark.parametrize("count", [None, 2])
def test_what_a_block_does_not_queue_is_missed_with_what_it_queued_instead(count: int | None):
    with pytest.raises(AssertionError, match=r"modifier_id=17; 0 queued.*report_id=3 modifier_id=18"):  # noqa: SIM117
        with assert_queued(count=count, report_id=3, modifier_id=17):
            queue.enqueue(report_id=3, modifier_id=18)


@pytest.mark.parametrize("name", ["reportid", "attempts", "pk", "save"])
def test_a_name_that_is_no_field_is_refused(name: str):
    with pytest.raises(FieldDoesNotExist, match=rf"no field '{name}'.* report_id,"), assert_queued(**{name: 3}):
        queue.enqueue(report_id=3, modifier_id=17)


def test_a_relation_is_a_field_by_its_object_and_by_its_id(make_schedule: ScheduleFactory):
    schedule = make_schedule()
    for given in ({"schedule": schedule}, {"schedule_id": schedule.pk}):
        with assert_queued(**given):
            schedules.run_now(schedule.pk)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (lambda: assert_queued(count=-1).__enter__(), ValueError, "`count` must be at least 0; it is -1"),
        (
            lambda: assert_queued(count=cast(int, "1")).__enter__(),
            TypeError,
            "`count` must be a whole number; it is '1'",
        ),
        (lambda: run_queue(lambda row: None, limit=-1), ValueError, "`limit` must be at least 1; it is -1"),
        (lambda: run_queue(lambda row: None, limit=0), ValueError, "`limit` must be at least 1; it is 0"),
        (
            lambda: run_queue(lambda row: None, limit=cast(int, None)),
            TypeError,
            "`limit` must be a whole number; it is None",
        ),
        (
            lambda: run_queue(lambda row: None, limit=cast(int, 1.5)),
            TypeError,
            "`limit` must be a whole number; it is 1.5",
        ),
        (lambda: run_queue(lambda row: None, limit=True), TypeError, "`limit` must be a whole number; it is True"),
        (lambda: run_queue(cast(Any, None)), TypeError, "`make` must be a function of a row; it is None"),
        (lambda: travel_to_next_firing(cast(Any, 1)), TypeError, "`schedule` must be a ReportSchedule.*; it is 1"),
        (
            lambda: travel_to_next_firing(cast(Any, None)),
            TypeError,
            "`schedule` must be a ReportSchedule.*; it is None",
        ),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(wrong: Callable[[], Any], error: type[Exception], said: str):
    row = queue.enqueue(report_id=3, modifier_id=17)
    with pytest.raises(error, match=said):
        wrong()
    row.refresh_from_db()
    assert row.status == Status.QUEUED


@pytest.mark.parametrize("make", [lambda row: [1], lambda row: ReportQueue.objects.raw("SELECT 1/0 AS id")[0]])
def test_what_the_queue_or_the_database_refuses_fails_the_attempt_alone(make: Callable[[ReportQueue], Any]):
    rows = [queue.enqueue(report_id=3, modifier_id=number, max_attempts=1) for number in (0, 1)]
    made = run_queue(lambda row: make(row) if row.pk == rows[0].pk else None, raises=False)
    assert [(row.pk, row.status) for row in made] == [(rows[0].pk, "failed"), (rows[1].pk, "succeeded")]


def test_an_error_in_the_block_is_not_hidden():
    with pytest.raises(KeyError), assert_queued(report_id=3):
        raise KeyError


def test_the_queue_is_run_in_place_in_its_order():
    first = queue.enqueue(report_id=3, modifier_id=1)
    urgent = queue.enqueue(report_id=3, modifier_id=2, priority=5)
    later = queue.enqueue(report_id=3, modifier_id=3, trigger_time=datetime.now(UTC) + timedelta(hours=1))
    made = run_queue(lambda row: {"modifier": row.modifier_id})
    assert [(row.pk, row.status, row.result) for row in made] == [
        (urgent.pk, "succeeded", {"modifier": 2}),
        (first.pk, "succeeded", {"modifier": 1}),
    ]
    later.refresh_from_db()
    assert later.status == Status.QUEUED


def test_a_report_that_raises_fails_its_attempt_and_the_test():
    row = queue.enqueue(report_id=3, modifier_id=1)
    with pytest.raises(ZeroDivisionError):
        run_queue(lambda row: {"half": 1 / 0})
    row.refresh_from_db()
    assert (row.status, row.attempt) == ("queued", 1)
    assert "ZeroDivisionError" in row.error


def test_others_follow_a_report_that_raises_if_the_test_wants_that():
    rows = [queue.enqueue(report_id=3, modifier_id=number, max_attempts=1) for number in (0, 1)]
    made = run_queue(lambda row: {"half": 1 / row.modifier_id}, raises=False)
    assert [(row.pk, row.status) for row in made] == [(rows[0].pk, "failed"), (rows[1].pk, "succeeded")]


def test_no_more_than_the_limit_are_made():
    for number in range(3):
        queue.enqueue(report_id=3, modifier_id=number)
    assert len(run_queue(lambda row: None, limit=2)) == 2
    assert ReportQueue.objects.filter(status=Status.QUEUED).count() == 1


def test_the_next_firings_come_one_after_the_other_and_are_due(make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="0 8 * * 1", timezone="Europe/Paris")
    other = make_schedule(cron="* * * * *")
    planned = schedule.next_run_at
    (row,) = travel_to_next_firing(schedule)
    assert (row.trigger_time, row.status) == (planned, "queued")
    assert planned is not None
    assert schedule.next_run_at == planned + timedelta(days=7)
    assert run_queue(lambda row: None)[0].pk == row.pk
    assert travel_to_next_firing(schedule)[0].trigger_time == planned + timedelta(days=7)
    assert not ReportQueue.objects.filter(schedule=other).exists()


def test_a_firing_that_waits_for_its_turn_is_queued_too(make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="0 8 * * *", overlap="queue_one")
    (first,), (second,) = travel_to_next_firing(schedule), travel_to_next_firing(schedule)
    assert (first.waiting, second.waiting) == (False, True)


def test_an_edited_schedule_is_planned_first(make_schedule: ScheduleFactory):
    schedule = make_schedule()
    ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=None, planned_from=None, plan_needed=True)
    (row,) = travel_to_next_firing(schedule)
    assert row.schedule_id == schedule.pk


def test_a_schedule_without_a_next_firing_says_why(make_schedule: ScheduleFactory):
    schedule = make_schedule()
    schedules.pause(schedule.pk, by="a test")
    with pytest.raises(AssertionError, match="it is paused"):
        travel_to_next_firing(schedule)


def test_a_schedule_that_is_not_saved_is_refused(make_schedule: ScheduleFactory):
    deleted = make_schedule()
    ReportSchedule.objects.filter(pk=deleted.pk).delete()
    for schedule in (ReportSchedule(report_id=1, modifier_id=2, cron="0 8 * * *"), deleted):
        with pytest.raises(ValueError, match=r"^Save the schedule first: .* is not in the database\.$"):
            travel_to_next_firing(schedule)


@pytest.mark.parametrize(
    ("field", "value"),
    [("cron", "0 9 * * *"), ("params", {"a": 2}), ("enabled", False), ("calendar_id", 7), ("priority", 5)],
)
def test_changes_that_are_not_saved_are_refused_and_kept(make_schedule: ScheduleFactory, field: str, value: Any):
    schedule = make_schedule(params={"a": 1})
    setattr(schedule, field, value)
    with pytest.raises(ValueError, match=rf"unsaved changes of {field.removesuffix('_id')}\.$"):
        travel_to_next_firing(schedule)
    assert getattr(schedule, field) == value
    assert not ReportQueue.objects.exists()


def test_what_was_changed_elsewhere_is_no_unsaved_change(make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="0 8 * * *")
    elsewhere = ReportSchedule.objects.get(pk=schedule.pk)
    elsewhere.cron = "0 9 * * *"
    elsewhere.save()
    (row,) = travel_to_next_firing(schedule)
    assert (row.trigger_time.hour, schedule.cron) == (9, "0 9 * * *")


def test_the_tests_of_the_page_pass(monkeypatch: pytest.MonkeyPatch):
    def place_order(customer: int) -> None:
        queue.enqueue(report_id=3, modifier_id=customer, params={"order": 1})

    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.orders", ModuleType("shop.orders"))
    monkeypatch.setattr(sys.modules["shop.orders"], "place_order", place_order, raising=False)
    (code,) = [block.text for block in blocks("docs/testing.md", "python") if "TestCase" in block.text]
    found: dict[str, object] = {"__name__": "their_tests"}
    execute(code, found)
    tests = unittest.TestLoader().loadTestsFromTestCase(cast(type[unittest.TestCase], found["OrderTests"]))
    assert tests.countTestCases() == 3
    done = tests.run(unittest.TestResult())
    assert not done.failures
    assert not done.errors
    assert done.testsRun == 3
