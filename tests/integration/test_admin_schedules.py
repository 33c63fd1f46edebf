"""Schedules in the admin: what each does at present, what comes next, what came of the last ones, and their list."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from reportqueue import triggers
from reportqueue.models import BlackoutHours, ReportSchedule
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from tests.conftest import RowFactory, minutes_ago
from tests.integration.test_admin_permissions import (
    QUEUE,
    SCHEDULES,
    ScheduleFactory,
    messages_of,
    new_calendar,
    staff,
    text_of,
)
from tests.integration.test_admin_schedule_form import FORM


@pytest.fixture
def editor(db: None) -> Client:
    """The browser of somebody who keeps the schedules and sees the queue."""
    return staff(
        *("view_reportschedule", "add_reportschedule", "change_reportschedule", "delete_reportschedule"),
        *("view_reportqueue", "add_reportqueue"),
    )


def test_the_next_runs_are_shown_in_utc_and_in_the_schedule_s_zone(editor: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="30 9 * * *", timezone="Asia/Kolkata")
    listed, page = text_of(editor.get(SCHEDULES)), text_of(editor.get(f"{SCHEDULES}{schedule.pk}/change/"))
    for shown in (listed, page):
        assert re.search(r"\d 04:00:00", shown)
        assert re.search(r"09:30 IST, in \d", shown)
    assert page.count("04:00:00") == 6


def test_an_overdue_schedule_asks_for_the_scheduler(editor: Client, make_schedule: ScheduleFactory):
    make_schedule(next_run_at=minutes_ago(42))
    assert "by 42 min: is the scheduler running?" in text_of(editor.get(SCHEDULES))


def test_what_a_schedule_does_at_present_is_a_word_and_a_sign(editor: Client, make_schedule: ScheduleFactory):
    def state_of(schedule: ReportSchedule) -> str:
        listed = text_of(editor.get(f"{SCHEDULES}?q=id:{schedule.pk}"))
        page = text_of(editor.get(f"{SCHEDULES}{schedule.pk}/change/"))
        found = [
            re.findall(r'<span class="rq-status [\w-]*"><span aria-hidden="true">(.)</span> ([\w ]+)', text)[0]
            for text in (listed, page)
        ]
        assert found[0] == found[1]
        return " ".join(found[0])

    fine, unplanned, replanned = make_schedule(), make_schedule(), make_schedule(calendar=new_calendar())
    ended = make_schedule(end_at=minutes_ago(60))
    ReportSchedule.objects.filter(pk=unplanned.pk).update(timezone="Asia/Kolkata")
    BlackoutHours.objects.create(calendar_id=replanned.calendar_id, weekday=6)
    assert state_of(fine) == "✓ Enabled"
    assert state_of(unplanned) == "… Not planned yet"
    assert state_of(replanned) == "… Enabled"
    assert state_of(ended) == "■ Ended"
    assert state_of(make_schedule(next_run_at=minutes_ago(42))) == "! Overdue"
    assert state_of(make_schedule(enabled=False)) == "‖ Paused"


def test_a_disabled_schedule_shows_why(editor: Client, make_schedule: ScheduleFactory):
    broken, paused = make_schedule(), make_schedule(enabled=False)
    ReportSchedule.objects.filter(pk=broken.pk).update(enabled=False, next_run_at=None, error="<no> such zone")
    for url in (SCHEDULES, f"{SCHEDULES}{broken.pk}/change/"):
        assert "&lt;no&gt; such zone" in text_of(editor.get(url))
    rows = editor.get(f"{SCHEDULES}?problem=yes").context["cl"].result_list
    assert [row.pk for row in rows] == [broken.pk]
    rows = editor.get(f"{SCHEDULES}?enabled=no&problem=no").context["cl"].result_list
    assert [row.pk for row in rows] == [paused.pk]


def test_a_schedule_that_cannot_be_evaluated_can_be_opened_to_mend_it(editor: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    ReportSchedule.objects.filter(pk=schedule.pk).update(
        cron="nonsense", timezone="Mars/Olympus", next_run_at=minutes_ago(0)
    )
    assert editor.get(SCHEDULES).status_code == 200
    page = text_of(editor.get(f"{SCHEDULES}{schedule.pk}/change/"))
    assert "nonsense; by the clock of Mars/Olympus" in page
    assert "The number of fields is 1." in page
    assert editor.post(f"{SCHEDULES}{schedule.pk}/change/", FORM).status_code == 302


def test_last_outcomes_are_links_to_the_newest_rows_and_to_all(
    editor: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    schedule, other = make_schedule(report_id=5), make_schedule(report_id=6)
    rows = [
        make_row(schedule=schedule, status=status, trigger_time=minutes_ago(60 - n))
        for n, status in enumerate([Status.SKIPPED, *[Status.SUCCEEDED] * 3, Status.FAILED, Status.RUNNING])
    ]
    make_row(schedule=other, status=Status.CANCELLED)
    for url in (f"{SCHEDULES}?report_id=5", f"{SCHEDULES}{schedule.pk}/change/"):
        shown = text_of(editor.get(url))
        linked = re.findall(rf'<a class="rq-status rq-(\w+)" href="{QUEUE}(\d+)/change/" title="#\d+: (\w+)"', shown)
        assert [(int(pk), status) for status, pk, _ in linked] == [(row.pk, str(row.status)) for row in rows[1:]]
        assert f'href="{QUEUE}?schedule={schedule.pk}"' in shown
    assert len(editor.get(f"{QUEUE}?schedule={schedule.pk}").context["cl"].result_list) == 6


def test_a_skipped_outcome_says_why_where_one_points_at_it(
    editor: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    why = 'Skipped: report 5 of the schedule was "unfinished".'
    row = make_row(schedule=make_schedule(), status=Status.SKIPPED, error=why)
    make_row(schedule=row.schedule, status=Status.FAILED, error="Traceback: secret")
    for url in (SCHEDULES, f"{SCHEDULES}{row.schedule_id}/change/"):
        page = text_of(editor.get(url))
        assert f'title="#{row.pk}: Skipped. {why}"' in page
        assert "secret" not in page


def test_the_list_takes_the_same_queries_however_many_schedules(
    editor: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            editor.get(SCHEDULES)
        return len(queries)

    triggers.saw(Pattern.QUEUE, "lane")
    make_row(schedule=make_schedule())
    one = cost()
    for n in range(10):
        make_row(schedule=make_schedule(calendar=new_calendar(f"calendar {n}", weekdays=[6])))
    assert (
        cost() == one == 13
    )  # session, user, permissions (2), consumers (5), pauses, marker, zones, count, list, names


def test_search_and_filters_of_schedules(editor: Client, make_schedule: ScheduleFactory):
    a = make_schedule(report_id=3, modifier_id=2014, timezone="Europe/Paris").pk
    calendar = new_calendar()
    b = make_schedule(report_id=2014, modifier_id=1, cron="@daily", calendar=calendar).pk
    for query, expected in {
        "q=2014": {a, b},
        "q=report:2014": {b},
        "q=modifier:2014+paris": {a},
        "q=@daily": {b},
        "q=schedule:1": set(),
        "report_id=3": {a},
        "timezone=UTC": {b},
        "enabled=yes": {a, b},
        f"calendar={calendar.pk}": {b},
    }.items():
        result = editor.get(f"{SCHEDULES}?{query}").context["cl"].result_list
        assert {schedule.pk for schedule in result} == expected, query


@pytest.mark.parametrize(
    "query",
    [
        "q=%00",
        "q=" + "9" * 30,
        "q=report:x",
        "q=%25_",
        "timezone=%00",
        "timezone=Nowhere",
        "enabled=2",
        "x=1",
        "calendar=x",
        "calendar=%00",
    ],
)
def test_any_query_is_answered(editor: Client, make_schedule: ScheduleFactory, query: str):
    make_schedule()
    response = editor.get(f"{SCHEDULES}?{query}", follow=True)
    assert response.status_code == 200
    assert messages_of(response) or not response.context["cl"].result_list


def test_the_zone_can_be_completed_from_a_list(editor: Client):
    page = text_of(editor.get(f"{SCHEDULES}add/"))
    assert 'list="time-zones"' in page
    assert '<option value="Europe/Paris">' in page
    assert "localtime" not in page


def test_no_schedules_yet_says_so(editor: Client):
    assert "There are no schedules yet." in text_of(editor.get(SCHEDULES))


def test_a_deleted_schedule_leaves_its_rows(editor: Client, make_row: RowFactory, make_schedule: ScheduleFactory):
    row = make_row(schedule=make_schedule())
    editor.post(f"{SCHEDULES}{row.schedule_id}/delete/", {"post": "yes"})
    row.refresh_from_db()
    assert row.schedule_id is None
    assert editor.get(f"{QUEUE}{row.pk}/change/").status_code == 200


def test_the_pages_can_be_translated(editor: Client, make_schedule: ScheduleFactory, settings: Any):
    settings.LANGUAGE_CODE = "de"
    settings.USE_THOUSAND_SEPARATOR = True
    ReportSchedule.objects.filter(pk=(schedule := make_schedule()).pk).update(version=12_345)
    with translation.override("de"):
        assert editor.get(SCHEDULES).status_code == 200
        page = text_of(editor.get(f"{SCHEDULES}{schedule.pk}/change/"))
        assert "Sichern" in page
        assert 'name="version" value="12345"' in page
        assert "Vorschau" in text_of(editor.post(f"{SCHEDULES}{schedule.pk}/preview/", FORM))
        given = {"start": "2026-01-01T00:00", "end": "2026-01-01T00:00"}
        assert "1 Auslösung" in text_of(editor.post(f"{SCHEDULES}{schedule.pk}/backfill/", given))
