"""Policies at work, with the database: catch-up, overlaps, calendars, jitter, ends; nothing is left out silently."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from reportqueue import queue, schedules
from reportqueue.models import BlackoutCalendar, BlackoutDays, BlackoutHours, ReportQueue, ReportSchedule
from reportqueue.schedules import expansion, replanning
from reportqueue.schedules.forecast import BUDGET
from reportqueue.signals import transitioned
from reportqueue.states import Source, Status, Verb
from reportqueue.timing import Timing, effort, jitter
from reportqueue.timing.catch_up import catch_up
from tests.concurrency import at_once
from tests.conftest import minutes_ago


def this_hour() -> datetime:
    return timezone.now().replace(minute=0, second=0, microsecond=0)


def rows(status: Status) -> list[ReportQueue]:
    return list(ReportQueue.objects.filter(status=status).order_by("trigger_time"))


@pytest.fixture
def missed(make_schedule: Any) -> Any:
    """An hourly schedule that was due four times while no scheduler ran, the last of them minutes ago at least."""

    def make(**fields: Any) -> tuple[ReportSchedule, list[datetime]]:
        schedule = make_schedule(cron="", interval_seconds=3600, start_at=minutes_ago(10_000), **fields)
        instants = list(schedule.timing().firings(minutes_ago(245), minutes_ago(5)))[-4:]
        ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=instants[0])
        return schedule, instants

    return make


def test_down_for_hours_all(missed: Any):
    _, instants = missed(catch_up="all")
    assert schedules.enqueue_due() == schedules.Pass(enqueued=4)
    assert [row.trigger_time for row in rows(Status.QUEUED)] == instants


def test_down_for_hours_last(missed: Any):
    schedule, instants = missed(catch_up="last")
    assert schedules.enqueue_due() == schedules.Pass(enqueued=1, skipped=3)
    assert [row.trigger_time for row in rows(Status.QUEUED)] == instants[3:]
    skipped = rows(Status.SKIPPED)
    assert [row.trigger_time for row in skipped] == instants[:3]
    assert {row.result["reason"] for row in skipped} == {"misfire"}
    assert all("only the last is made up for" in row.error and row.processed for row in skipped)
    schedule.refresh_from_db()
    assert schedule.next_run_at == instants[3] + timedelta(hours=1)


def test_down_for_hours_skip(missed: Any):
    _, instants = missed(catch_up="skip")
    assert schedules.enqueue_due() == schedules.Pass(skipped=4)
    assert [row.trigger_time for row in rows(Status.SKIPPED)] == instants
    assert schedules.enqueue_due() == schedules.Pass()


def test_many_skips_are_one_row_that_counts_them(make_schedule: Any):
    start = this_hour() - timedelta(hours=30)
    make_schedule(cron="0 * * * *", catch_up="last", next_run_at=start)
    done = schedules.enqueue_due()
    assert (done.enqueued, done.skipped) == (1, 1)
    (note,) = rows(Status.SKIPPED)
    assert note.result["count"] in (29, 30)
    assert note.result["first"] == f"{start:%Y-%m-%dT%H:%M:%SZ}"
    assert f"Skipped {note.result['count']} firings from" in note.error
    assert note.result["last"] == f"{note.trigger_time:%Y-%m-%dT%H:%M:%SZ}"


def test_notes_are_told_as_skips_and_not_as_reports(missed: Any, django_capture_on_commit_callbacks: Any):
    told = []

    def receive(sender: Any, transition: Any, **_: Any) -> None:
        told.append((transition.verb, transition.after))

    missed(catch_up="last")
    transitioned.connect(receive)
    try:
        with django_capture_on_commit_callbacks(using=connection.alias, execute=True):
            schedules.enqueue_due()
    finally:
        transitioned.disconnect(receive)
    assert sorted(told) == sorted([(Verb.SKIP, "skipped")] * 3 + [(Verb.ENQUEUE, "queued")])


# Overlaps.


def fire_again(schedule: ReportSchedule) -> schedules.Pass:
    """Let the schedule be due now, and run a pass."""
    ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=timezone.now())
    return schedules.enqueue_due()


def test_overlap_allow_queues_beside_an_unfinished_report(make_schedule: Any):
    schedule = make_schedule()
    fire_again(schedule)
    assert fire_again(schedule) == schedules.Pass(enqueued=1)


def test_overlap_skip_notes_what_is_skipped_and_fires_again_once_the_report_has_ended(make_schedule: Any):
    schedule = make_schedule(overlap="skip")
    fire_again(schedule)
    (first,) = rows(Status.QUEUED)
    assert fire_again(schedule) == schedules.Pass(skipped=1)
    (note,) = rows(Status.SKIPPED)
    assert note.result["reason"] == "overlap"
    assert f"report {first.pk} of the schedule was unfinished" in note.error
    queue.cancel(first.pk)
    assert fire_again(schedule) == schedules.Pass(enqueued=1)


@pytest.mark.django_db(transaction=True)
def test_passes_at_once_fire_a_schedule_once_and_do_not_take_each_other_for_an_overlap():
    for n in range(20):
        ReportSchedule(report_id=n, modifier_id=2, cron="0 0 1 1 *", overlap="skip").save()
    ReportSchedule.objects.update(next_run_at=timezone.now())
    at_once([lambda: schedules.enqueue_due(batch=3)] * 4)
    assert (len(rows(Status.QUEUED)), len(rows(Status.SKIPPED))) == (20, 0)


def test_overlap_queue_one_lets_one_wait_until_the_earlier_has_ended(make_schedule: Any):
    schedule = make_schedule(overlap="queue_one")
    fire_again(schedule)
    assert fire_again(schedule) == schedules.Pass(enqueued=1)
    assert fire_again(schedule) == schedules.Pass(skipped=1)
    first, second = rows(Status.QUEUED)
    assert (second.waiting, queue.turn_before(second)) == (True, first.pk)
    claim = queue.claim("sensor")
    assert [row.pk for row in claim.rows] == [first.pk], "the one that waits is not handed out"
    assert queue.claim("another").rows == []
    started = queue.start(first.pk, generation=1, run_id="run")
    queue.complete(first.pk, lease_token=started.lease_token)
    second.refresh_from_db()
    assert not second.waiting
    assert [row.pk for row in queue.claim("another").rows] == [second.pk]


@pytest.mark.parametrize("how", ["cancel", "fail", "rescue", "prune"])
def test_however_the_earlier_report_ends_the_waiting_one_goes_on(make_schedule: Any, how: str):
    schedule = make_schedule(overlap="queue_one", max_attempts=1)
    fire_again(schedule)
    fire_again(schedule)
    first, second = rows(Status.QUEUED)
    if how == "cancel":
        queue.cancel(first.pk)
    else:
        queue.claim("sensor")
        started = queue.start(first.pk, generation=1, run_id="run")
        if how == "fail":
            queue.fail(first.pk, lease_token=started.lease_token, error="no")
        elif how == "rescue":
            ReportQueue.objects.filter(pk=first.pk).update(lease_expires_at=minutes_ago(1))
            queue.rescue_expired()
        else:
            queue.complete(first.pk, lease_token=started.lease_token)
            ReportQueue.objects.filter(pk=first.pk).update(finished_at=minutes_ago(60))
            assert list(queue.prune(older_than=timedelta(minutes=30))) == [queue.Pruned(1)]
    second.refresh_from_db()
    assert (second.status, second.waiting) == (Status.QUEUED, False)


def test_a_retried_report_holds_up_the_waiting_one_until_its_last_attempt(make_schedule: Any):
    schedule = make_schedule(overlap="queue_one", max_attempts=2)
    fire_again(schedule)
    fire_again(schedule)
    first, second = rows(Status.QUEUED)
    queue.claim("sensor")
    started = queue.start(first.pk, generation=1, run_id="run")
    queue.fail(first.pk, lease_token=started.lease_token, error="once more")
    second.refresh_from_db()
    assert queue.turn_before(second) == first.pk


def test_missed_firings_overlap_with_each_other_too(missed: Any):
    missed(catch_up="all", overlap="queue_one")
    assert schedules.enqueue_due() == schedules.Pass(enqueued=2, skipped=2)
    first, second = rows(Status.QUEUED)
    assert (first.waiting, second.waiting) == (False, True)
    assert {row.result["reason"] for row in rows(Status.SKIPPED)} == {"overlap"}


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_is_moving_is_waited_for_by_the_next_pass_not_by_this_one():
    schedule = ReportSchedule(report_id=1, modifier_id=2, cron="0 0 1 1 *", overlap="queue_one")
    schedule.save()
    fire_again(schedule)
    (first,) = rows(Status.QUEUED)

    def passes_while_held() -> schedules.Pass:
        done = fire_again(schedule)
        connection.close()
        return done

    with transaction.atomic():
        ReportQueue.objects.select_for_update().get(pk=first.pk)
        (done,) = at_once([passes_while_held])
    assert done == schedules.Pass(put_off=1), "the pass neither waits for the lock nor guesses"
    assert schedules.enqueue_due() == schedules.Pass(enqueued=1)


@pytest.mark.django_db(transaction=True)
def test_a_report_that_ends_while_another_begins_to_wait_for_it_never_leaves_it_waiting():
    schedule = ReportSchedule(report_id=1, modifier_id=2, cron="0 0 1 1 *", overlap="queue_one")
    schedule.save()
    for _ in range(25):
        fire_again(schedule)
        (first,) = rows(Status.QUEUED)
        ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=timezone.now())
        ended = at_once([lambda pk=first.pk: queue.cancel(pk), schedules.enqueue_due])
        assert [one for one in ended if isinstance(one, Exception)] == []
        schedules.enqueue_due()
        (second,) = rows(Status.QUEUED)
        assert not second.waiting
        queue.cancel(second.pk)


# Calendars.


@pytest.fixture
def closed_today(db: None) -> BlackoutCalendar:
    calendar = BlackoutCalendar.objects.create(name="Holidays")
    today = timezone.now().date()
    BlackoutDays.objects.create(
        calendar=calendar, first_day=today - timedelta(days=1), last_day=today + timedelta(days=1), label="Fair"
    )
    return calendar


def test_what_a_calendar_closes_is_noted_when_it_opens_again(make_schedule: Any, closed_today: BlackoutCalendar):
    past = this_hour() - timedelta(hours=2)
    # At that hour: else there are hours of the day at which one more firing is due.
    schedule = make_schedule(cron=f"0 {past.hour} * * *", calendar=closed_today)
    assert schedule.next_run_at.date() == timezone.now().date() + timedelta(days=2)
    # Two days later, as it were: the anchor and the firing both moved into the past.
    BlackoutDays.objects.update(first_day=past.date() - timedelta(days=2), last_day=past.date() - timedelta(days=1))
    ReportSchedule.objects.filter(pk=schedule.pk).update(
        next_run_at=past, planned_from=past - timedelta(days=2, hours=20), plan_needed=False
    )
    assert schedules.enqueue_due().enqueued == 1
    notes = rows(Status.SKIPPED)
    assert 1 <= len(notes) <= 2
    assert {(row.result["reason"], row.error) for row in notes} == {
        ("blackout", "Skipped: closed by the calendar Holidays: Fair.")
    }


def test_a_changed_calendar_replans_what_is_to_come_and_loses_nothing_that_is_due(
    make_schedule: Any, closed_today: BlackoutCalendar
):
    waiting = make_schedule(cron="0 12 * * *", calendar=closed_today)
    due = make_schedule(report_id=9, cron="0 12 * * *", calendar=closed_today, next_run_at=minutes_ago(0))
    BlackoutDays.objects.all().first().delete()
    assert schedules.enqueue_due() == schedules.Pass(enqueued=1, planned=1)
    waiting.refresh_from_db()
    assert waiting.next_run_at <= timezone.now() + timedelta(days=1)
    assert ReportQueue.objects.get().schedule == due


CHANGED = "Skipped: the calendar Holidays was changed too late: the new time of the firing had passed."
OPENED = "Skipped: closed by the calendar Holidays until its time had passed."


def close(calendar: BlackoutCalendar, *instants: datetime) -> None:
    """Declare the days of the instants closed."""
    for instant in instants:
        BlackoutDays.objects.create(calendar=calendar, first_day=instant.date(), last_day=instant.date(), label="Late")


@pytest.fixture
def holidays(db: None) -> BlackoutCalendar:
    return BlackoutCalendar.objects.create(name="Holidays")


def test_a_holiday_entered_after_the_time_to_which_it_moves_a_firing_leaves_a_row(
    make_schedule: Any, holidays: BlackoutCalendar
):
    past = this_hour() - timedelta(hours=1)
    tomorrow = past + timedelta(days=1)
    daily = {"cron": f"0 {past.hour} * * *", "calendar": holidays}
    moved = make_schedule(**daily, blackout="previous_open_day")
    other = make_schedule(**daily, report_id=9, blackout="next_open_day")
    skipping = make_schedule(**daily, report_id=10, blackout="skip")
    assert {schedule.next_run_at for schedule in (moved, other, skipping)} == {tomorrow}
    close(holidays, tomorrow)
    assert schedules.enqueue_due() == schedules.Pass(planned=3, skipped=1)
    (note,) = rows(Status.SKIPPED)
    assert (note.schedule, note.trigger_time, note.error) == (moved, tomorrow, CHANGED)
    assert note.result["reason"] == "blackout"
    # A later change says nothing again, and an opened day fires beside the note.
    close(holidays, tomorrow + timedelta(days=20))
    assert schedules.enqueue_due() == schedules.Pass(planned=3)
    BlackoutDays.objects.filter(first_day=tomorrow.date()).delete()  # a queryset's delete sends signals, too
    assert schedules.enqueue_due() == schedules.Pass(planned=3)
    moved.refresh_from_db()
    assert (moved.next_run_at, moved.calendar_before, moved.version) == (tomorrow, None, 1)
    ReportSchedule.objects.filter(pk=moved.pk).update(next_run_at=minutes_ago(1))
    assert schedules.enqueue_due().enqueued == 1


@pytest.mark.parametrize("part", [BlackoutDays, BlackoutHours])
def test_a_part_that_is_moved_to_another_calendar_replans_the_schedules_of_both(
    make_schedule: Any, holidays: BlackoutCalendar, part: Any
):
    others = BlackoutCalendar.objects.create(name="Others")
    tomorrow = this_hour() + timedelta(days=1)
    fields = (
        {"first_day": tomorrow.date(), "last_day": tomorrow.date()}
        if part is BlackoutDays
        else {"weekday": tomorrow.weekday()}
    )
    closed = part.objects.create(calendar=holidays, **fields)
    daily = {"cron": f"0 {tomorrow.hour} * * *", "start_at": tomorrow - timedelta(minutes=1)}
    here, there = make_schedule(**daily, calendar=holidays), make_schedule(**daily, calendar=others)
    assert (here.next_run_at, there.next_run_at) == (tomorrow + timedelta(days=1), tomorrow)
    closed.calendar = others
    closed.save()
    assert schedules.enqueue_due() == schedules.Pass(planned=2)
    here.refresh_from_db()
    there.refresh_from_db()
    assert (here.next_run_at, there.next_run_at) == (tomorrow, tomorrow + timedelta(days=1))


def test_a_part_that_is_moved_keeps_both_calendars_as_they_were_for_schedules_that_move_firings(
    make_schedule: Any, holidays: BlackoutCalendar
):
    calendars = [holidays, BlackoutCalendar.objects.create(name="Others")]
    close(holidays, this_hour() + timedelta(days=2))
    moving = [make_schedule(calendar=calendar, blackout="next_open_day") for calendar in calendars]
    before = BlackoutCalendar.values_of([calendar.pk for calendar in calendars])
    closed = BlackoutDays.objects.get()
    closed.calendar = calendars[1]
    closed.save()
    for schedule in moving:
        schedule.refresh_from_db()
        assert schedule.calendar_before == before[schedule.calendar_id].json()


def moved(part: BlackoutDays) -> None:
    part.calendar = BlackoutCalendar.objects.create(name="Others")
    part.save()


CHANGES: dict[str, Callable[[BlackoutDays], Any]] = {
    "save": lambda part: part.save(),
    "create": lambda part: BlackoutHours.objects.create(calendar=part.calendar, weekday=6),
    "move": moved,
    "delete": lambda part: part.delete(),
    "delete a queryset": lambda part: BlackoutDays.objects.all().delete(),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_calendar_and_the_replanning_are_one_transaction(
    holidays: BlackoutCalendar, monkeypatch: pytest.MonkeyPatch, change: str
):
    close(holidays, this_hour())
    before = list(BlackoutDays.objects.values())

    def dies(*_: Any, **__: Any) -> None:
        raise SystemExit

    monkeypatch.setattr(replanning, "replan", dies)
    part = BlackoutDays.objects.get()
    part.label = "Fair"
    with pytest.raises(SystemExit):
        CHANGES[change](part)
    assert list(BlackoutDays.objects.values()) == before
    assert not BlackoutHours.objects.exists()


def test_a_holiday_that_is_entered_and_taken_back_before_the_next_pass_leaves_no_row(
    make_schedule: Any, holidays: BlackoutCalendar
):
    past = this_hour() - timedelta(hours=1)
    schedule = make_schedule(cron=f"0 {past.hour} * * *", calendar=holidays, blackout="previous_open_day")
    close(holidays, past + timedelta(days=1), past + timedelta(days=2))
    for day in BlackoutDays.objects.all():
        day.delete()
    assert schedules.enqueue_due() == schedules.Pass(planned=1)
    schedule.refresh_from_db()
    assert schedule.next_run_at == past + timedelta(days=1)


def test_a_day_that_is_opened_after_its_time_leaves_a_row_for_the_firing_that_it_had_moved(
    make_schedule: Any, holidays: BlackoutCalendar
):
    past = this_hour() - timedelta(hours=1)
    close(holidays, past)
    schedule = make_schedule(
        cron=f"0 {past.hour} {past.day} {past.month} *", calendar=holidays, blackout="next_open_day"
    )
    assert schedule.next_run_at == past + timedelta(days=1)
    BlackoutDays.objects.get().delete()
    assert schedules.enqueue_due() == schedules.Pass(planned=1, skipped=1)
    (note,) = rows(Status.SKIPPED)
    assert (note.trigger_time, note.error) == (past + timedelta(days=1), CHANGED)


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("due", [False, True])
def test_what_was_closed_before_a_change_of_the_calendar_leaves_its_rows(
    make_schedule: Any, closed_today: BlackoutCalendar, opened: bool, due: bool
):
    """Whether or not the change opens it, and whether the next firing has come or not, as after an outage."""
    schedule = make_schedule(cron="0 * * * *", calendar=closed_today)
    closed = [this_hour() - timedelta(hours=hours) for hours in (3, 2, 1)]
    planned = minutes_ago(0) if due else schedule.next_run_at
    ReportSchedule.objects.update(planned_from=closed[0] - timedelta(minutes=1), next_run_at=planned)
    if opened:
        BlackoutDays.objects.all().first().delete()
    else:
        close(closed_today, this_hour() + timedelta(days=20))
    done = schedules.enqueue_due()
    assert (done.enqueued, done.planned) == ((1, 0) if due else (0, 1))
    notes = {row.trigger_time: row.error for row in rows(Status.SKIPPED)}
    why = OPENED if opened else "Skipped: closed by the calendar Holidays: Fair."
    assert {instant: notes.get(instant) for instant in closed} == dict.fromkeys(closed, why)
    assert schedules.enqueue_due() == schedules.Pass()


def test_a_change_during_an_outage_loses_no_firing_beside_the_one_that_is_due(
    make_schedule: Any, holidays: BlackoutCalendar
):
    zone = f"Etc/GMT{this_hour().hour - 12:+d}"  # it is noon there: both are on one day
    noon = this_hour().astimezone(ZoneInfo(zone))
    early, late = noon - timedelta(hours=2), noon - timedelta(hours=1)
    schedule = make_schedule(cron="0 10,11 * * *", calendar=holidays, blackout="previous_open_day", timezone=zone)
    ReportSchedule.objects.update(planned_from=early, next_run_at=late)
    next_early = early + timedelta(days=1)
    close(holidays, next_early)
    assert schedules.enqueue_due().enqueued == 1
    assert rows(Status.QUEUED)[0].trigger_time == late
    assert [(row.trigger_time, row.error) for row in rows(Status.SKIPPED)] == [(next_early, CHANGED)]
    schedule.refresh_from_db()
    assert schedule.calendar_before is None


def test_a_calendar_that_closes_everything_disables_its_schedule_and_says_so(
    make_schedule: Any, closed_today: BlackoutCalendar
):
    schedule = make_schedule(cron="0 12 * * *", calendar=closed_today)
    for weekday in range(7):
        BlackoutHours.objects.create(calendar=closed_today, weekday=weekday)
    assert schedules.enqueue_due().disabled == 1
    schedule.refresh_from_db()
    assert not schedule.enabled
    assert "Holidays" in schedule.error


def test_a_calendar_in_use_cannot_be_deleted(make_schedule: Any, closed_today: BlackoutCalendar):
    make_schedule(calendar=closed_today)
    with pytest.raises(ProtectedError):
        closed_today.delete()


# Jitter, start and end, broken rows.


def test_jitter_puts_off_the_row_and_not_its_due_time_always_alike(make_schedule: Any):
    schedule = make_schedule(jitter_seconds=600)
    fire_again(schedule)
    (row,) = rows(Status.QUEUED)
    late = row.available_at - row.trigger_time
    assert late == jitter(schedule.pk, row.trigger_time, 600)
    assert timedelta(0) < late < timedelta(seconds=600)


def test_jitter_spreads_schedules_evenly():
    instant = datetime(2026, 11, 25, 9, tzinfo=UTC)
    seconds = [jitter(pk, instant, 100).total_seconds() for pk in range(1000)]
    assert all(70 < sum(low <= s < low + 10 for s in seconds) < 130 for low in range(0, 100, 10))


def test_a_schedule_that_has_ended_stays_enabled_and_costs_no_pass_anything(make_schedule: Any):
    schedule = make_schedule(end_at=timezone.now() + timedelta(hours=1), next_run_at=minutes_ago(1))
    assert schedules.enqueue_due().enqueued == 1
    schedule.refresh_from_db()
    assert (schedule.enabled, schedule.plan_needed, schedule.next_run_at) == (True, False, None)
    assert schedules.enqueue_due() == schedules.Pass()


def test_a_row_that_the_database_refuses_disables_its_schedule_alone(make_schedule: Any):
    for n in range(5):
        make_schedule(report_id=n, next_run_at=minutes_ago(0))
    with connection.cursor() as cursor:
        cursor.execute("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON reportqueue_reportqueue
            FOR EACH ROW WHEN (NEW.report_id = 3) EXECUTE FUNCTION refuse()""")
    assert schedules.enqueue_due() == schedules.Pass(enqueued=4, disabled=1)
    broken = ReportSchedule.objects.get(report_id=3)
    assert not broken.enabled
    assert "not this one" in broken.error


# What people ask for.


def test_run_now_leaves_the_plan_alone_and_works_while_paused(make_schedule: Any):
    schedule = make_schedule(params={"a": 1})
    schedules.pause(schedule.pk, by="ann")
    row = schedules.run_now(schedule.pk, source=Source.ADMIN)
    assert (row.status, row.schedule, row.source, row.params) == (Status.QUEUED, schedule, Source.ADMIN, {"a": 1})
    schedule.refresh_from_db()
    assert (schedule.enabled, schedule.next_run_at) == (False, None)


def test_run_now_waits_where_overlaps_are_not_allowed(make_schedule: Any):
    schedule = make_schedule(overlap="skip")
    first = schedules.run_now(schedule.pk)
    assert queue.turn_before(schedules.run_now(schedule.pk)) == first.pk


def test_a_backfill_is_counted_first_and_leaves_alone_what_there_is(make_schedule: Any):
    schedule = make_schedule(cron="0 * * * *")
    end = this_hour()
    start = end - timedelta(hours=4)
    queue.enqueue_firings([queue.Firing(schedule.pk, end, end)])
    queue.enqueue_firings(
        [queue.Firing(schedule.pk, start, start, skipped=queue.SkipNote("Skipped: missed.", {"reason": "misfire"}))]
    )
    counted = schedules.backfill(schedule.pk, start, end, dry_run=True)
    assert (len(counted.instants), counted.known, counted.enqueued) == (5, 1, 0)
    assert len(rows(Status.QUEUED)) == 1
    assert schedules.backfill(schedule.pk, start, end).enqueued == 4
    assert [row.trigger_time for row in rows(Status.QUEUED)] == [start + timedelta(hours=n) for n in range(5)]
    made = ReportQueue.objects.filter(source=Source.BACKFILL)
    assert all(row.available_at > end for row in made), "behind what is due today"
    assert schedules.backfill(schedule.pk, start, end).enqueued == 0


def almost_always_closed() -> BlackoutCalendar:
    """Open for a minute a week, and no more."""
    calendar = BlackoutCalendar.objects.create(name="almost always")
    for weekday in range(7):
        hours = {"end": time(23, 59)} if weekday == 6 else {}
        BlackoutHours.objects.create(calendar=calendar, weekday=weekday, **hours)
    return calendar


def test_a_backfill_does_not_look_at_a_million_closed_instants_for_a_few_open_ones(make_schedule: Any):
    schedule = make_schedule(cron="* * * * *", calendar=almost_always_closed())
    with pytest.raises(ValidationError, match="closes most of more than 10,000"):
        schedules.backfill(schedule.pk, datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))


def test_a_forecast_jumps_over_what_is_skipped_however_long_it_is(make_schedule: Any):
    schedule = make_schedule(cron="* * * * *", calendar=almost_always_closed())
    before = effort.spent()
    found = schedules.forecast(schedule, 100)
    assert sum(not one.closed for one in found.instants) == 100
    assert found.complete
    assert effort.spent() - before < 5_000


@pytest.mark.parametrize("blackout", ["next_open_day", "previous_open_day", "skip"])
@pytest.mark.parametrize("minutes", [60, 30, 15])
@pytest.mark.parametrize("length", [40, 20])
def test_a_forecast_over_many_closures_is_shorter_rather_than_slow(
    holidays: BlackoutCalendar, blackout: str, minutes: int, length: int
):
    """Closed but for an hour of every day, and for weeks again and again: 116,000 instants for a hundred firings."""
    for weekday in range(7):
        BlackoutHours.objects.create(calendar=holidays, weekday=weekday, end=time(23))
    for number in range(56):
        first = date(2027, 1, 1) + number * timedelta(days=length + 1)
        last = first + timedelta(days=length - 1)
        BlackoutDays.objects.create(calendar=holidays, first_day=first, last_day=last)
    schedule = ReportSchedule(
        report_id=1, modifier_id=1, cron=f"*/{minutes} * * * *", calendar=holidays, blackout=blackout
    )
    before = effort.spent()
    found = schedules.forecast(schedule, 100, after=datetime(2027, 1, 1, tzinfo=UTC))
    assert effort.spent() - before < 2 * BUDGET
    firings = [one for one in found.instants if not one.closed]
    assert firings
    assert found.complete == (len(firings) == 100)
    assert found.complete or blackout != "skip"


def test_a_backfill_of_a_schedule_without_overlaps_runs_one_after_the_other(make_schedule: Any):
    schedule = make_schedule(cron="0 * * * *", overlap="skip")
    end = this_hour()
    schedules.backfill(schedule.pk, end - timedelta(hours=3), end)
    made = rows(Status.QUEUED)
    assert [row.waiting for row in made] == [False, True, True, True]
    for row in made:
        (claimed,) = queue.claim("sensor").rows
        assert claimed.pk == row.pk
        queue.cancel(claimed.pk)


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        (timedelta(hours=-1), timedelta(hours=1), "end"),
        (timedelta(hours=-1), timedelta(hours=-2), "end"),
        (timedelta(days=-60), timedelta(0), "end"),
    ],
)
def test_a_backfill_out_of_bounds_is_refused_naming_the_field(
    make_schedule: Any, start: timedelta, end: timedelta, field: str
):
    schedule, now = make_schedule(cron="0 * * * *"), timezone.now()
    with pytest.raises(ValidationError) as refusal:
        schedules.backfill(schedule.pk, now + start, now + end)
    assert list(refusal.value.message_dict) == [field]
    assert not ReportQueue.objects.exists()


def test_pause_says_who_and_why_and_a_resume_starts_from_now(make_schedule: Any):
    schedule = make_schedule(cron="* * * * *", next_run_at=minutes_ago(5))
    paused = schedules.pause(schedule.pk, by="ann", note="migration")
    assert (paused.enabled, paused.next_run_at, paused.paused_by, paused.pause_note) == (
        False,
        None,
        "ann",
        "migration",
    )
    assert paused.paused_at is not None
    assert schedules.enqueue_due() == schedules.Pass()
    resumed = schedules.resume(schedule.pk)
    assert (resumed.paused_at, resumed.paused_by, resumed.pause_note) == (None, "", "")
    assert resumed.next_run_at > timezone.now() - timedelta(seconds=1)
    assert schedules.enqueue_due().enqueued == 0


def test_every_edit_counts_a_version_and_no_pass_does(make_schedule: Any):
    schedule = make_schedule(next_run_at=minutes_ago(0))
    assert schedule.version == 1
    schedule.priority = 3
    schedule.save()
    schedules.enqueue_due()
    schedule.refresh_from_db()
    assert schedule.version == 2
    ReportSchedule.objects.update(priority=4)
    schedule.refresh_from_db()
    assert schedule.version == 3


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"cron": "0 8 * * *", "interval_seconds": 60}, "interval_seconds"),
        ({"cron": "", "interval_seconds": 9}, "interval_seconds"),
        ({"cron": "", "interval_seconds": 367 * 86_400}, "interval_seconds"),
        ({"jitter_seconds": 86_401}, "jitter_seconds"),
        ({"catch_up": "some"}, "catch_up"),
        ({"catch_up_limit": 0}, "catch_up_limit"),
        ({"catch_up_limit": 1_001}, "catch_up_limit"),
        ({"catch_up_window_seconds": 59}, "catch_up_window_seconds"),
        ({"overlap": "queue_two"}, "overlap"),
        ({"blackout": "move"}, "blackout"),
        ({"start_at": datetime(2026, 1, 2, tzinfo=UTC), "end_at": datetime(2026, 1, 1, tzinfo=UTC)}, "end_at"),
        ({"start_at": datetime(1969, 1, 1, tzinfo=UTC)}, "start_at"),
        ({"end_at": datetime(3000, 1, 1, tzinfo=UTC)}, "end_at"),
    ],
)
def test_a_policy_out_of_bounds_is_refused_naming_the_field(make_schedule: Any, wrong: dict[str, Any], field: str):
    with pytest.raises(ValidationError) as refusal:
        make_schedule(**wrong)
    assert field in refusal.value.message_dict


def test_what_fires_all_day_cannot_be_moved_to_another(make_schedule: Any, closed_today: BlackoutCalendar):
    with pytest.raises(ValidationError) as refusal:
        make_schedule(cron="*/5 * * * *", calendar=closed_today, blackout="next_open_day")
    assert list(refusal.value.message_dict) == ["blackout"]
    make_schedule(cron="*/15 * * * *", calendar=closed_today, blackout="next_open_day")


def test_a_forecast_marks_clock_changes_moves_and_skips(make_schedule: Any):
    gap = ReportSchedule(report_id=1, modifier_id=1, cron="30 2 * * *", timezone="Europe/Paris")
    found = schedules.forecast(gap, 2, after=datetime(2026, 3, 28, 12, tzinfo=UTC)).instants
    assert [(f"{one.instant:%d %H:%M}", one.clock_change) for one in found] == [
        ("29 01:00", "skipped"),
        ("30 00:30", None),
    ]
    twice = ReportSchedule(report_id=1, modifier_id=1, cron="0 * * * *", timezone="Europe/Paris")
    found = schedules.forecast(twice, 4, after=datetime(2026, 10, 24, 23, 30, tzinfo=UTC)).instants
    assert [(f"{one.reading:%H:%M%z}", one.clock_change) for one in found] == [
        *(("02:00+0200", "repeated"), ("02:00+0100", "repeated"), ("03:00+0100", None), ("04:00+0100", None))
    ]
    calendar = BlackoutCalendar.objects.create(name="c")
    BlackoutDays.objects.create(calendar=calendar, first_day=date(2026, 5, 1), last_day=date(2026, 5, 2))
    closed = ReportSchedule(report_id=1, modifier_id=1, cron="0 8 * * *", calendar=calendar)
    found = schedules.forecast(closed, 1, after=datetime(2026, 5, 1, tzinfo=UTC)).instants
    assert [(one.instant.day, one.closed) for one in found] == [(1, "c"), (2, "c"), (3, "")]
    closed.blackout = "previous_open_day"
    found = schedules.forecast(closed, 1, after=datetime(2026, 4, 29, 12, tzinfo=UTC)).instants
    assert [(one.instant.day, one.moved_from) for one in found] == [(30, None)], "moved ones fall together with it"


def test_a_pass_works_out_equal_schedules_once(make_schedule: Any, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def counted(*arguments: Any) -> Any:
        asked.append(arguments)
        return catch_up(*arguments)

    monkeypatch.setattr(expansion, "catch_up", counted)
    due = this_hour()
    for n in range(12):
        make_schedule(report_id=n, cron="0 * * * *", timezone="UTC" if n % 2 else "Europe/Paris", next_run_at=due)
    assert schedules.enqueue_due(batch=5).enqueued == 12
    assert len(asked) == 2, "one for each expression, zone and instant, across batches"


def test_the_timing_of_a_schedule_is_a_value_that_equal_schedules_share(make_schedule: Any):
    assert make_schedule(report_id=1).timing() == make_schedule(report_id=2).timing()
    assert len({make_schedule().timing(), Timing(cron="0 0 1 1 *", timezone="UTC")}) == 1
