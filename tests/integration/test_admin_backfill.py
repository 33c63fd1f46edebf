"""A backfill in the admin: counted, shown, confirmed, done once; what is confirmed is what was shown."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.test import Client
from django.utils import timezone

from reportqueue import schedules, triggers
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.patterns import Pattern
from reportqueue.schedules import actions
from reportqueue.states import Source, Status
from tests.conftest import RowFactory
from tests.integration.test_admin_permissions import (
    QUEUE,
    SCHEDULES,
    ScheduleFactory,
    messages_of,
    new_calendar,
    queries_of,
    staff,
    text_of,
)

DAY = {"start": "2026-01-05T00:00", "end": "2026-01-05T23:59"}


@pytest.fixture(autouse=True)
def consumer(db: None) -> None:
    """One that has just asked: the pages have no warning of a silent one."""
    triggers.saw(Pattern.QUEUE, "sensor")


@pytest.fixture
def operator(db: None) -> Client:
    """The browser of somebody who sees schedules and queue, and may queue reports."""
    return staff("view_reportschedule", "view_reportqueue", "add_reportqueue")


@pytest.fixture
def schedule(make_schedule: ScheduleFactory) -> ReportSchedule:
    """Every six hours by the clock of Kolkata."""
    return make_schedule(cron="0 */6 * * *", timezone="Asia/Kolkata")


def address(schedule: ReportSchedule) -> str:
    """Of the page."""
    return f"{SCHEDULES}{schedule.pk}/backfill/"


def confirm(client: Client, counted: Any, schedule: ReportSchedule) -> Any:
    """Press the button of the page that has counted; the page that follows."""
    form = re.findall(r'<input type="hidden" name="(start|end|confirmed)" value="(.*?)"', text_of(counted))
    assert len(form) == 3, "there is no button"
    return client.post(address(schedule), dict(form), follow=True)


def test_what_would_be_queued_is_counted_and_shown_first_and_queued_when_confirmed(
    operator: Client, schedule: ReportSchedule, make_row: RowFactory
):
    there = make_row(schedule=schedule, trigger_time=datetime(2026, 1, 5, 6, 30, tzinfo=UTC))
    make_row(
        schedule=schedule, status=Status.SKIPPED, trigger_time=datetime(2026, 1, 5, 12, 30, tzinfo=UTC), error="closed"
    )
    counted = operator.post(address(schedule), DAY)
    page = text_of(counted)
    assert "<h2>4 firings</h2>" in page
    assert "2026-01-05 00:30:00" in page
    assert "Mon 2026-01-05 06:00 IST" in page
    assert "2026-01-05 18:30:00" in page
    assert "Tue 2026-01-06 00:00 IST" in page
    assert "1 of them is in the queue already, and is left alone." in page
    assert "They may run at the same time" in page
    assert 'value="Yes, queue 3 reports"' in page
    assert ReportQueue.objects.count() == 2
    assert not LogEntry.objects.exists()
    response = confirm(operator, counted, schedule)
    assert response.redirect_chain == [(f"{SCHEDULES}{schedule.pk}/change/", 302)]
    (said,) = messages_of(response)
    assert said.startswith(f'3 reports queued. <a href="{QUEUE}?schedule={schedule.pk}">')
    made = ReportQueue.objects.filter(source=Source.BACKFILL).order_by("trigger_time")
    assert [f"{row.trigger_time:%H:%M}" for row in made] == ["00:30", "12:30", "18:30"]
    assert {row.status for row in made} == {Status.QUEUED}
    there.refresh_from_db()
    assert there.source == Source.CODE
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.action_flag) == (str(schedule.pk), CHANGE)
    assert entry.change_message == (
        "Backfilled from 2026-01-05 00:00:00 to 2026-01-05 23:59:00 UTC in the admin: 3 reports queued"
    )


def test_a_second_confirmation_of_the_same_page_queues_nothing_twice(operator: Client, schedule: ReportSchedule):
    counted = operator.post(address(schedule), DAY)
    confirm(operator, counted, schedule)
    again = confirm(operator, counted, schedule)
    assert "There is nothing to queue." in text_of(again)
    assert ReportQueue.objects.count() == 4


@pytest.mark.parametrize("change", [{"cron": "0 */4 * * *"}, {"timezone": "UTC"}, {"cron": "0 0 1 1 *"}])
def test_after_an_edit_the_new_count_is_shown_and_asked_again(
    operator: Client, schedule: ReportSchedule, change: dict[str, str]
):
    counted = operator.post(address(schedule), DAY)
    ReportSchedule.objects.filter(pk=schedule.pk).update(**change)
    again = confirm(operator, counted, schedule)
    assert again.status_code == 200
    assert not ReportQueue.objects.exists()


@pytest.mark.parametrize("confirmed", ["1", "", "\x00", "4 0 2026"])
def test_a_made_up_confirmation_is_none(operator: Client, schedule: ReportSchedule, confirmed: str):
    assert operator.post(address(schedule), DAY | {"confirmed": confirmed}).status_code == 200
    assert not ReportQueue.objects.exists()


def test_without_overlaps_they_run_one_after_the_other_and_the_page_says_so(
    operator: Client, make_schedule: ScheduleFactory, make_row: RowFactory
):
    schedule = make_schedule(cron="0 */12 * * *", overlap="skip")
    make_row(schedule=schedule, status=Status.RUNNING)
    counted = operator.post(address(schedule), DAY)
    assert "They run one after the other" in text_of(counted)
    confirm(operator, counted, schedule)
    first, second = ReportQueue.objects.filter(source=Source.BACKFILL).order_by("trigger_time")
    assert (first.waiting, second.waiting) == (True, True)


def test_the_calendar_is_kept_to(operator: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="0 8 * * *", calendar=new_calendar(weekdays=[0]))
    assert "There is nothing to queue." in text_of(operator.post(address(schedule), DAY))
    page = text_of(operator.post(address(schedule), DAY | {"end": "2026-01-06T23:59"}))
    assert "<h2>1 firing</h2>" in page


def test_the_time_range_is_typed_in_utc_as_the_labels_say(operator: Client, schedule: ReportSchedule, settings: Any):
    settings.TIME_ZONE = "Asia/Kolkata"
    page = text_of(operator.get(address(schedule)))
    assert "From (in UTC):" in page
    assert "To (in UTC):" in page
    page = text_of(operator.post(address(schedule), {"start": "2026-01-05T00:30", "end": "2026-01-05T00:30"}))
    assert "<h2>1 firing</h2>" in page
    assert "2026-01-05 00:30:00" in page


def test_a_time_range_may_begin_in_an_hour_that_the_project_s_clock_shows_twice(
    operator: Client, schedule: ReportSchedule, settings: Any
):
    settings.TIME_ZONE = "Europe/Berlin"
    given = {"start": "2025-10-26T00:30", "end": "2025-10-26T01:30"}  # 02:30 in Berlin, both times
    page = text_of(operator.post(address(schedule), given))
    assert "<h2>1 firing</h2>" in page
    assert "2025-10-26 00:30:00" in page


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"start": ""}, "start", "required"),
        ({"start": "yesterday"}, "start", "Enter a valid date/time"),
        ({"start": "a\x00b"}, "start", "Enter a valid date/time"),
        ({"start": "2026-02-30T00:00"}, "start", "Enter a valid date/time"),
        ({"start": "0001-01-01T00:00"}, "start", "between the years 1970 and 2999"),
        ({"end": "9999-12-31T23:59"}, "end", "between the years 1970 and 2999"),
        ({"end": "2026-01-04T23:59"}, "end", "before the start"),
        ({"end": "2999-01-01T00:00"}, "end", "future"),
        ({"start": "2020-01-01T00:00"}, "end", "more than 1,000 firings"),
    ],
)
def test_what_is_wrong_with_the_stretch_is_said_at_its_field(
    operator: Client, schedule: ReportSchedule, given: dict[str, str], field: str, said: str
):
    for more in ({}, {"confirmed": "4 0"}):
        response = operator.post(address(schedule), DAY | given | more)
        assert response.status_code == 200
        errors = response.context["form"].errors
        assert list(errors) == [field]
        assert said in str(errors[field])
    assert not ReportQueue.objects.exists()


def test_a_schedule_that_cannot_be_evaluated_says_why(operator: Client, schedule: ReportSchedule):
    ReportSchedule.objects.filter(pk=schedule.pk).update(cron="nonsense", timezone="Mars/Olympus")
    response = operator.post(address(schedule), DAY)
    assert "number of fields" in str(response.context["form"].errors["__all__"])


def test_the_bound_is_held_and_named(operator: Client, schedule: ReportSchedule, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(actions, "MAX_BACKFILL", 3)
    monkeypatch.setattr(schedules, "MAX_BACKFILL", 3)
    assert "at most 3 firings at once" in text_of(operator.get(address(schedule)))
    assert "more than 3 firings" in str(operator.post(address(schedule), DAY).context["form"].errors["end"])


def test_a_recent_stretch_ends_now_at_the_latest(operator: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="* * * * *")
    now = timezone.now()
    given = {
        "start": f"{now - timedelta(minutes=5):%Y-%m-%dT%H:%M}",
        "end": f"{now - timedelta(minutes=1):%Y-%m-%dT%H:%M}",
    }
    assert re.search(r"<h2>[45] firings</h2>", text_of(operator.post(address(schedule), given)))


def test_a_look_changes_nothing_and_other_verbs_are_refused(operator: Client, schedule: ReportSchedule):
    page = text_of(operator.get(address(schedule), DAY | {"confirmed": "1"}))
    assert "firings</h2>" not in page
    assert operator.put(address(schedule)).status_code == 405
    assert not ReportQueue.objects.exists()


def test_it_needs_the_permission_to_queue_and_to_see_the_schedule(schedule: ReportSchedule):
    for lacking in (
        staff("view_reportschedule", "change_reportschedule", "view_reportqueue"),
        staff("add_reportqueue", "view_reportqueue"),
    ):
        assert lacking.get(address(schedule)).status_code == 403
        assert lacking.post(address(schedule), DAY).status_code == 403
    blind = staff("view_reportschedule", "add_reportqueue")
    blind.handler.enforce_csrf_checks = True
    assert blind.post(address(schedule), DAY).status_code == 403
    blind.handler.enforce_csrf_checks = False
    (said,) = messages_of(confirm(blind, blind.post(address(schedule), DAY), schedule))
    assert said == "4 reports queued."


@pytest.mark.parametrize("pk", ["999999", "9" * 30])
def test_of_a_schedule_that_is_gone_there_is_nothing_to_backfill(pk: str, db: None):
    client = staff("view_reportschedule", "add_reportqueue")
    for response in (
        client.get(f"{SCHEDULES}{pk}/backfill/", follow=True),
        client.post(f"{SCHEDULES}{pk}/backfill/", DAY, follow=True),
    ):
        assert response.redirect_chain == [(SCHEDULES, 302)]
        assert messages_of(response) == ["There is no such schedule."]


def test_a_schedule_that_is_deleted_meanwhile_says_so(
    operator: Client, schedule: ReportSchedule, monkeypatch: pytest.MonkeyPatch
):
    def late(pk: int, *instants: datetime, dry_run: bool = False) -> schedules.Backfill:
        ReportSchedule.objects.filter(pk=pk).delete()
        return actions.backfill(pk, *instants, dry_run=dry_run)

    monkeypatch.setattr(schedules, "backfill", late)
    response = operator.post(address(schedule), DAY, follow=True)
    assert response.redirect_chain == [(SCHEDULES, 302)]
    assert messages_of(response) == [f"There is no schedule {schedule.pk}."]


def test_the_page_costs_few_queries(operator: Client, schedule: ReportSchedule):
    assert len(queries_of(operator, address(schedule))) <= 7
