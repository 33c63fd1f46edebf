"""Hand-overs between patterns: at an instant, every earlier firing is the one's and every later one the other's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from reportqueue import queue, schedules, triggers
from reportqueue.clock import database_now
from reportqueue.errors import FiringRefused, FiringTooEarly, HandoverRefused, InvalidTransition, ScheduleNotFound
from reportqueue.models import BlackoutCalendar, ReportQueue, ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern
from reportqueue.states import Source, Status
from reportqueue.triggers import handovers
from tests.conftest import build_row, minutes_ago

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


def this_minute() -> datetime:
    return database_now().replace(second=0, microsecond=0)


def periods(*stretches: tuple[Pattern, datetime | None, datetime | None]) -> None:
    """As if the hand-overs had been made then."""
    for pattern, since, until in stretches:
        TriggerPeriod.objects.create(pattern=pattern, since=since, until=until)


def due_since(minutes: int, **fields: Any) -> ReportSchedule:
    """Every minute, unfired for so many minutes."""
    schedule = ReportSchedule(**({"report_id": 1, "modifier_id": 2, "cron": "* * * * *"} | fields))
    schedule.save()
    first = this_minute() - minutes * MINUTE
    schedule.next_run_at = first
    schedule.planned_from = schedule.timing_set_at = first - timedelta(seconds=1)
    ReportSchedule.objects.bulk_update([schedule], ["next_run_at", "planned_from", "timing_set_at"])
    return schedule


def fired() -> list[datetime]:
    return list(ReportQueue.objects.order_by("trigger_time").values_list("trigger_time", flat=True))


def start(schedule: ReportSchedule, instant: datetime, run: str = "run", **more: Any) -> ReportQueue:
    return triggers.start_firing(schedule.pk, instant, run_id=run, **more)


def test_without_periods_everything_is_the_queue_s():
    due_since(2)
    assert triggers.current().pattern == Pattern.QUEUE
    schedules.enqueue_due()
    assert fired() == [this_minute() - n * MINUTE for n in (2, 1, 0)]


def test_what_sensors_fire_is_not_queued_and_not_overdue():
    due_since(60)
    periods((Pattern.CRON, None, None))
    assert schedules.enqueue_due().enqueued == 0
    assert fired() == []
    assert not triggers.overdue(300).exists()
    assert schedules.next_due() is None, "the scheduler has nothing to wake for"


def test_the_scheduler_queues_what_was_its_own_before_the_hand_over():
    due_since(4)
    at = this_minute() - 2 * MINUTE
    periods((Pattern.QUEUE, None, at), (Pattern.ASSET, at, None))
    assert triggers.overdue(60).count() == 1
    assert schedules.next_due() == this_minute() - 4 * MINUTE
    schedules.enqueue_due()
    schedules.enqueue_due()
    assert fired() == [this_minute() - n * MINUTE for n in (4, 3)]
    assert schedules.next_due() is None
    assert ReportSchedule.objects.get().next_run_at == at, "from where on sensors fire"


def test_the_scheduler_passes_over_what_was_the_sensors_before_the_hand_over():
    due_since(4)
    at = this_minute() - 2 * MINUTE
    periods((Pattern.CRON, None, at), (Pattern.QUEUE, at, None))
    assert schedules.preview(10).firings[0].trigger_time == at
    schedules.enqueue_due()
    assert fired() == [this_minute() - n * MINUTE for n in (2, 1, 0)]
    assert not ReportQueue.objects.filter(status=Status.SKIPPED).exists(), "nobody missed them"


def test_a_schedule_whose_next_firing_is_after_the_hand_over_is_planned_for_it():
    schedule = due_since(4, cron="0 0 1 1 *")
    periods((Pattern.CRON, None, this_minute()), (Pattern.QUEUE, this_minute(), None))
    schedules.enqueue_due()
    schedule.refresh_from_db()
    assert fired() == []
    assert schedule.next_run_at == datetime(this_minute().year + 1, 1, 1, tzinfo=UTC)


def test_the_scheduler_wakes_for_a_hand_over_to_it():
    due_since(4)
    at = this_minute() + 10 * MINUTE
    periods((Pattern.CRON, None, at), (Pattern.QUEUE, at, None))
    assert schedules.next_due() == at


def test_periods_of_queue_and_polling_are_one_to_the_scheduler():
    due_since(4)
    one, two = this_minute() - 3 * MINUTE, this_minute() - 1 * MINUTE
    periods((Pattern.CRON, None, one), (Pattern.POLLING, one, two), (Pattern.QUEUE, two, None))
    schedules.enqueue_due()
    assert fired() == [this_minute() - n * MINUTE for n in (3, 2, 1, 0)]


def test_a_hand_over_divides_at_its_instant_and_can_be_taken_back_until_then():
    at = database_now() + timedelta(hours=1)
    made = triggers.hand_over(Pattern.CRON, at=at, by="ada")
    assert (made.before, made.after, made.at) == (Pattern.QUEUE, Pattern.CRON, at)
    assert triggers.pattern_at(at - timedelta(microseconds=1)) == Pattern.QUEUE
    assert triggers.pattern_at(at) == Pattern.CRON
    assert triggers.current().planned == made
    assert triggers.history() == [made]
    assert TriggerPeriod.objects.last().switched_by == "ada"
    assert triggers.cancel_planned() == made
    assert triggers.pattern_at(at) == Pattern.QUEUE
    with pytest.raises(HandoverRefused, match="No hand-over is planned"):
        triggers.cancel_planned()


def test_a_dry_run_changes_nothing():
    triggers.hand_over(Pattern.CRON, dry_run=True)
    assert not TriggerPeriod.objects.exists()


@pytest.mark.parametrize(
    ("to", "at", "text"),
    [
        (Pattern.QUEUE, None, "belong to queue already"),
        (Pattern.CRON, minutes_ago(1), "has passed"),
    ],
)
def test_a_hand_over_that_makes_no_sense_is_refused(to: Pattern, at: datetime | None, text: str):
    with pytest.raises(HandoverRefused, match=text):
        triggers.hand_over(to, at=at)
    assert not TriggerPeriod.objects.exists()


def test_one_hand_over_at_a_time():
    triggers.hand_over(Pattern.CRON, at=database_now() + timedelta(hours=1))
    with pytest.raises(HandoverRefused, match=r"to cron at .* is planned already"):
        triggers.hand_over(Pattern.ASSET)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cron": "", "interval_seconds": 60}, "interval_seconds"),
        ({"end_at": datetime(2999, 1, 1, tzinfo=UTC)}, "end_at"),
        ({"overlap": "skip"}, "overlap"),
        ({"jitter_seconds": 5}, "jitter_seconds"),
    ],
)
def test_sensors_get_no_schedule_that_they_would_fire_wrongly(fields: dict[str, Any], named: str):
    schedule = ReportSchedule.objects.create(**({"report_id": 1, "modifier_id": 2, "cron": "0 0 1 1 *"} | fields))
    with pytest.raises(HandoverRefused, match=rf"schedule {schedule.pk} \({named}\)"):
        triggers.hand_over(Pattern.CRON)
    schedule.enabled = False
    schedule.save()
    triggers.hand_over(Pattern.CRON)
    schedule.enabled = True
    with pytest.raises(ValidationError) as refused:
        schedule.save()
    assert list(refused.value.message_dict) == [named]


def test_a_calendar_is_not_for_sensors():
    calendar = BlackoutCalendar.objects.create(name="closed")
    ReportSchedule.objects.create(report_id=1, modifier_id=2, cron="0 0 1 1 *", calendar=calendar)
    with pytest.raises(HandoverRefused, match="calendar"):
        triggers.hand_over(Pattern.ASSET)


def test_the_queue_does_not_take_over_again_before_it_has_queued_its_own():
    due_since(4)
    at = this_minute() - 2 * MINUTE
    periods((Pattern.QUEUE, None, at), (Pattern.CRON, at, None))
    with pytest.raises(HandoverRefused, match="still to be queued: 1"):
        triggers.hand_over(Pattern.QUEUE)
    schedules.enqueue_due()
    assert triggers.hand_over(Pattern.QUEUE).after == Pattern.QUEUE


def test_a_firing_has_one_owner_in_the_database():
    periods((Pattern.CRON, None, this_minute()))
    with pytest.raises(IntegrityError), transaction.atomic():
        periods((Pattern.QUEUE, this_minute() - MINUTE, None))


def test_the_first_run_of_a_sensor_s_firing_brings_the_row_and_owns_it():
    schedule = due_since(3, params={"year": 2026}, priority=5, max_attempts=7)
    periods((Pattern.CRON, None, None))
    instant = this_minute() - MINUTE
    row = start(schedule, instant, "first", worker="here:1", lease_seconds=30)
    assert (row.status, row.run_id, row.params, row.priority) == (Status.RUNNING, "first", {"year": 2026}, 5)
    assert (row.source, row.generation, row.attempt, row.max_attempts) == (Source.SCHEDULE, 1, 1, 1)
    assert start(schedule, instant, "first").lease_token == row.lease_token, "a repeat is answered alike"
    with pytest.raises(InvalidTransition):
        start(schedule, instant, "second")
    queue.complete(row.pk, lease_token=row.lease_token)
    with pytest.raises(InvalidTransition):
        start(schedule, instant, "second")
    again = start(schedule, instant, "second", parent_run_id="first")
    assert (again.pk, again.status) == (row.pk, Status.RUNNING), "a person's re-execution"
    assert ReportQueue.objects.count() == 1


def test_a_failed_firing_is_not_queued_again_as_nobody_would_claim_it():
    schedule = due_since(3)
    periods((Pattern.CRON, None, None))
    row = start(schedule, this_minute())
    assert queue.fail(row.pk, lease_token=row.lease_token, error="no").status == Status.FAILED


def test_a_firing_that_the_queue_has_is_no_sensor_s():
    schedule = due_since(3)
    schedules.enqueue_due()
    periods((Pattern.QUEUE, None, this_minute() - 2 * MINUTE), (Pattern.CRON, this_minute() - 2 * MINUTE, None))
    with pytest.raises(InvalidTransition):
        start(schedule, this_minute() - MINUTE)
    with pytest.raises(FiringRefused, match="belongs to the pattern queue"):
        start(schedule, this_minute() - 10 * MINUTE)


def test_a_firing_whose_run_never_began_is_queued_once_and_is_then_the_queue_s():
    schedule = due_since(3)
    periods((Pattern.CRON, None, None))
    row = triggers.queue_firing(schedule.pk, this_minute())
    assert (row.status, row.trigger_time, row.source) == (Status.QUEUED, this_minute(), Source.SCHEDULE)
    assert triggers.queue_firing(schedule.pk, row.trigger_time) == row, "told twice"
    with pytest.raises(InvalidTransition):
        start(schedule, row.trigger_time)
    (claimed,) = queue.claim("lane").rows
    assert claimed == row


def test_a_firing_whose_run_has_its_row_is_not_queued():
    schedule = due_since(3)
    periods((Pattern.CRON, None, None))
    row = start(schedule, this_minute())
    assert triggers.queue_firing(schedule.pk, row.trigger_time).status == Status.RUNNING
    assert ReportQueue.objects.count() == 1
    with pytest.raises(FiringTooEarly, match="still to come"):
        triggers.queue_firing(schedule.pk, this_minute() + 5 * MINUTE)


def test_a_row_that_a_run_brought_is_not_queued_a_second_time():
    schedule = due_since(3)
    periods((Pattern.CRON, None, None))
    start(schedule, this_minute())
    TriggerPeriod.objects.update(pattern=Pattern.QUEUE)
    schedules.enqueue_due()
    assert fired() == [this_minute() - n * MINUTE for n in (3, 2, 1, 0)]


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (lambda: this_minute() - 20 * MINUTE, "was changed or resumed after"),
        (lambda: this_minute() - timedelta(seconds=30), "does not fire at"),
        (lambda: this_minute() + timedelta(seconds=330), "does not fire at"),
    ],
)
def test_no_run_starts_for_what_is_no_firing(instant: Any, text: str):
    schedule = due_since(3)
    periods((Pattern.CRON, None, None))
    with pytest.raises(FiringRefused, match=text):
        start(schedule, instant())
    assert not ReportQueue.objects.exists()


def test_a_firing_that_is_still_to_come_is_not_refused_for_good():
    schedule = due_since(3)
    periods((Pattern.CRON, None, None))
    for minutes in (1, 5):
        with pytest.raises(FiringTooEarly, match="still to come by the database's clock"):
            start(schedule, this_minute() + minutes * MINUTE)
    assert not ReportQueue.objects.exists()


def test_no_run_starts_for_a_paused_or_deleted_schedule():
    schedule = due_since(3)
    periods((Pattern.CRON, None, None))
    schedules.pause(schedule.pk, by="ada")
    with pytest.raises(FiringRefused, match="is paused"):
        start(schedule, this_minute())
    schedule.delete()
    with pytest.raises(ScheduleNotFound):
        start(ReportSchedule(pk=987_654), this_minute())


def test_rows_that_polling_may_have_launched_are_not_claimed():
    at = minutes_ago(5)
    periods((Pattern.POLLING, None, at), (Pattern.QUEUE, at, None))
    old, new = build_row(available_at=minutes_ago(10)), build_row(available_at=minutes_ago(1))
    assert list(ReportQueue.objects.pending()) == [old]
    assert [row.pk for row in queue.claim("sensor").rows] == [new.pk]
    queue.mark_processed(old.pk)
    queue.requeue(old.pk)
    assert [row.pk for row in queue.claim("sensor", ack=None, limit=5).rows] == [new.pk], "still unacknowledged"
    assert list(ReportQueue.objects.claimable()) == [old], "wanted again now, it is the queue's"


def test_the_window_is_of_the_newest_stretch_that_has_begun():
    at = this_minute()
    periods((Pattern.QUEUE, None, at), (Pattern.CRON, at, at + MINUTE), (Pattern.QUEUE, at + MINUTE, None))
    before_sensors = at - timedelta(microseconds=1)
    assert handovers.window(at - MINUTE) == handovers.Window(None, at - MINUTE)
    assert handovers.window(at + timedelta(seconds=30)) == handovers.Window(None, before_sensors)
    assert handovers.window(at + 2 * MINUTE) == handovers.Window(at + MINUTE, at + 2 * MINUTE)


def test_a_launched_firing_stays_in_the_queue_if_the_schedule_allows_no_overlaps_any_more():
    periods((Pattern.CRON, None, None))
    schedule, instant = due_since(2), this_minute() - MINUTE
    earlier = schedules.run_now(schedule.pk)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE reportqueue_reportschedule SET overlap = 'skip'")
    with pytest.raises(InvalidTransition, match="does not allow overlaps"):
        start(schedule, instant)
    row = ReportQueue.objects.get(trigger_time=instant)
    assert (row.status, row.waiting) == (Status.QUEUED, True)
    queue.cancel(earlier.pk)
    assert start(schedule, instant).status == Status.RUNNING


def test_a_firing_whose_run_failed_waits_for_its_turn():
    periods((Pattern.CRON, None, None))
    schedule = due_since(2)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE reportqueue_reportschedule SET overlap = 'skip'")
    earlier = schedules.run_now(schedule.pk)
    assert queue.turn_before(triggers.queue_firing(schedule.pk, this_minute() - MINUTE)) == earlier.pk
