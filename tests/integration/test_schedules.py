"""From schedules to rows: every instant once, edits never fire the past, one broken schedule stops nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

import reportcron
from reportqueue import schedules
from reportqueue.errors import ScheduleNotFound
from reportqueue.models import BlackoutCalendar, ReportQueue, ReportSchedule
from reportqueue.schedules import expansion
from reportqueue.states import Source, Status
from tests.concurrency import at_once
from tests.conftest import minutes_ago


def this_minute() -> datetime:
    return timezone.now().replace(second=0, microsecond=0)


def save_schedule(**fields: Any) -> ReportSchedule:
    schedule = ReportSchedule(**({"report_id": 1, "modifier_id": 2, "cron": "0 0 1 1 *"} | fields))
    schedule.save()
    return schedule


def due_since(schedule: ReportSchedule, instant: datetime) -> None:
    ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=instant)


def test_a_due_schedule_becomes_one_row_with_its_content(make_schedule):
    schedule = make_schedule(priority=7, params={"a": 1}, max_attempts=5, next_run_at=this_minute())
    assert schedules.enqueue_due().enqueued == 1
    row = ReportQueue.objects.get()
    assert (row.report_id, row.modifier_id, row.priority, row.params, row.max_attempts) == (1, 2, 7, {"a": 1}, 5)
    assert (row.status, row.source, row.schedule) == (Status.QUEUED, Source.SCHEDULE, schedule)
    assert row.trigger_time == row.available_at == schedule.next_run_at
    schedule.refresh_from_db()
    assert schedule.next_run_at > timezone.now() - timedelta(seconds=1)
    assert schedules.enqueue_due().enqueued == 0


def test_missed_instants_are_all_enqueued_each_once(make_schedule):
    start = this_minute() - timedelta(minutes=250)
    schedule = make_schedule(cron="* * * * *", next_run_at=start)
    done = schedules.enqueue_due()
    instants = list(ReportQueue.objects.order_by("trigger_time").values_list("trigger_time", flat=True))
    assert instants == [start + timedelta(minutes=n) for n in range(len(instants))]
    assert len(instants) == done.enqueued >= 251
    schedule.refresh_from_db()
    assert schedule.next_run_at == instants[-1] + timedelta(minutes=1)


@pytest.mark.django_db(transaction=True)
def test_passes_at_once_make_one_row_for_each_schedule_and_instant():
    start = this_minute() - timedelta(minutes=3)
    for n in range(20):
        due_since(save_schedule(report_id=n, cron="* * * * *"), start)
    passes = at_once([lambda: schedules.enqueue_due(batch=3)] * 4)
    assert [error for error in passes if isinstance(error, Exception)] == []
    pairs = list(ReportQueue.objects.values_list("schedule_id", "trigger_time"))
    assert len(pairs) == len(set(pairs)) == sum(done.enqueued for done in passes)
    assert {sum(1 for pair in pairs if pair[0] == pk) for pk, _ in pairs} <= {4, 5}


def test_an_instant_that_was_enqueued_before_is_not_enqueued_again(make_schedule):
    due = this_minute()
    schedule = make_schedule(next_run_at=due)
    schedules.enqueue_due()
    due_since(schedule, due)
    schedules.enqueue_due()
    assert ReportQueue.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_pass_that_dies_before_its_commit_is_repeated_in_full(monkeypatch: pytest.MonkeyPatch):
    due_since(save_schedule(), this_minute())

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(expansion, "_write_plans", die)
        with pytest.raises(KeyboardInterrupt):
            schedules.enqueue_due()
    assert not ReportQueue.objects.exists()
    assert schedules.enqueue_due().enqueued == 1


@pytest.mark.django_db(transaction=True)
def test_an_edit_waits_for_a_pass_under_way_and_keeps_its_next_firing():
    schedule = save_schedule()
    due_since(schedule, this_minute())
    stale = ReportSchedule.objects.get()
    schedules.enqueue_due()
    stale.priority = 9
    stale.save()
    stale.refresh_from_db()
    assert stale.priority == 9
    assert stale.next_run_at > timezone.now() - timedelta(seconds=1), "the edit brought the fired instant back"


def test_an_edit_of_the_timing_counts_from_now(make_schedule):
    schedule = make_schedule(next_run_at=minutes_ago(600))
    schedule.cron = "*/2 * * * *"
    schedule.save()
    assert schedule.next_run_at > timezone.now()
    assert schedules.enqueue_due().enqueued == 0


def test_an_edit_of_anything_else_keeps_the_next_firing(make_schedule):
    planned = this_minute() - timedelta(minutes=1)
    schedule = make_schedule(next_run_at=planned)
    schedule.params = {"new": True}
    schedule.save(update_fields=["params"])
    schedule.refresh_from_db()
    assert (schedule.next_run_at, schedule.params) == (planned, {"new": True})


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"start_at": datetime(2027, 1, 1), "end_at": datetime(2028, 1, 1, tzinfo=UTC)}, "start_at"),  # noqa: DTZ001
        ({"start_at": datetime(2027, 1, 1, tzinfo=UTC), "end_at": datetime(2028, 1, 1)}, "end_at"),  # noqa: DTZ001
        ({"start_at": "soon", "end_at": datetime(2028, 1, 1, tzinfo=UTC)}, "start_at"),
        ({"cron": None}, "cron"),
        ({"interval_seconds": "often", "cron": "", "blackout": "next_open_day"}, "interval_seconds"),
        ({"timezone": None}, "timezone"),
    ],
)
@pytest.mark.django_db
def test_a_value_of_another_kind_is_refused_with_its_field(fields: dict[str, Any], wrong: str):
    calendar = BlackoutCalendar.objects.create(name="Holidays")
    with pytest.raises(ValidationError) as error:
        save_schedule(calendar=calendar, **fields)
    assert wrong in error.value.message_dict


def test_a_disabled_schedule_does_not_fire_and_a_resumed_one_starts_from_now(make_schedule):
    schedule = make_schedule(next_run_at=minutes_ago(60))
    schedule.enabled = False
    schedule.save()
    assert schedule.next_run_at is None
    assert schedules.enqueue_due() == schedules.Pass()
    schedule.enabled = True
    schedule.save()
    assert schedule.next_run_at > timezone.now()


def test_a_change_around_save_is_planned_anew_and_never_fires_the_past(make_schedule):
    make_schedule(next_run_at=minutes_ago(60))
    ReportSchedule.objects.update(cron="0 0 2 1 *")
    assert schedules.enqueue_due() == schedules.Pass(planned=1)
    assert ReportSchedule.objects.get().next_run_at > timezone.now()
    assert not ReportQueue.objects.exists()


def test_a_broken_schedule_is_disabled_with_its_error_and_stops_nobody(make_schedule):
    due = this_minute()
    broken = make_schedule(report_id=66, next_run_at=due - timedelta(minutes=1))
    ReportSchedule.objects.filter(pk=broken.pk).update(cron="every day", next_run_at=due)
    elsewhere = make_schedule(report_id=67)
    ReportSchedule.objects.filter(pk=elsewhere.pk).update(timezone="Mars/Olympus", next_run_at=due)
    make_schedule(next_run_at=due)
    done = schedules.enqueue_due()
    assert (done.enqueued, done.disabled) == (1, 2)
    broken.refresh_from_db()
    assert (broken.enabled, broken.next_run_at) == (False, None)
    assert broken.error
    broken.cron, broken.enabled = "0 8 * * *", True
    broken.save()
    assert broken.error == ""


def test_the_schedules_time_zone_decides_the_instant(make_schedule):
    schedule = make_schedule(cron="0 8 * * MON", timezone="Europe/Paris")
    assert schedule.next_run_at == reportcron.next_after("0 8 * * MON", "Europe/Paris", datetime.now(UTC))
    assert schedule.next_run_at.hour in (6, 7)


def test_a_schedule_that_was_deleted_meanwhile_does_not_come_back(make_schedule):
    edited = make_schedule()
    ReportSchedule.objects.get(pk=edited.pk).delete()
    with pytest.raises(ScheduleNotFound, match="deleted meanwhile"):
        edited.save()
    assert not ReportSchedule.objects.exists()


def test_deleting_a_schedule_keeps_what_it_has_enqueued(make_schedule):
    schedule = make_schedule(next_run_at=this_minute())
    schedules.enqueue_due()
    schedule.delete()
    assert ReportQueue.objects.get().schedule is None


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": ""}, "cron"),
        ({"cron": "* * * * * *"}, "cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": ""}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"report_id": -1}, "report_id"),
        ({"priority": 101}, "priority"),
        ({"params": []}, "params"),
        ({"params": {"t": "x" * 70_000}}, "params"),
        ({"max_attempts": 0}, "max_attempts"),
    ],
)
def test_what_cannot_fire_is_refused_on_save_naming_the_field(db: None, wrong: dict[str, Any], field: str):
    with pytest.raises(ValidationError) as refusal, transaction.atomic():
        save_schedule(**wrong)
    assert field in refusal.value.message_dict
    assert not ReportSchedule.objects.exists()


def test_an_idle_pass_asks_the_same_whatever_the_number_of_schedules(make_schedule, django_assert_max_num_queries):
    for n in range(5):
        make_schedule(report_id=n, cron="0 0 1 1 *")
    with django_assert_max_num_queries(6):
        assert schedules.enqueue_due() == schedules.Pass()


def test_next_due_is_the_earliest_enabled_firing(make_schedule):
    assert schedules.next_due() is None
    soon = make_schedule(next_run_at=minutes_ago(-1))
    make_schedule(next_run_at=minutes_ago(-2))
    make_schedule(enabled=False)
    assert schedules.next_due() == soon.next_run_at
