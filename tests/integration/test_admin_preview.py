"""The preview of a schedule's form: what a save would do, with what clock and calendar change, and nothing written."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reportqueue.models import BlackoutDays, ReportQueue, ReportSchedule
from tests.conftest import minutes_ago
from tests.integration.test_admin_permissions import SCHEDULES, ScheduleFactory, new_calendar, staff, text_of
from tests.integration.test_admin_schedule_form import FORM

NEW = f"{SCHEDULES}add/preview/"


@pytest.fixture
def editor(db: None) -> Client:
    """The browser of somebody who keeps the schedules."""
    return staff("view_reportschedule", "add_reportschedule", "change_reportschedule")


def starting(day: str, **fields: Any) -> dict[str, Any]:
    """A form whose firings begin on that day, in UTC."""
    return FORM | {"start_at_0": day, "start_at_1": "00:00:00"} | fields


def lines_of(response: Any) -> list[tuple[str, str, str, str]]:
    """The table: number, UTC, the schedule's own clock, remarks."""
    rows = re.findall(r"<tr[^>]*>((?:<td.*?</td>)+)</tr>", text_of(response))
    cells = [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row)] for row in rows]
    return [(line[0], line[1], line[2] if len(line) > 3 else "", line[-1]) for line in cells]


def test_the_form_s_firings_are_shown_by_both_clocks_and_nothing_is_written(
    editor: Client, make_schedule: ScheduleFactory
):
    schedule = make_schedule(next_run_at=minutes_ago(5))
    before = ReportSchedule.objects.values().get()
    for url in (NEW, f"{SCHEDULES}{schedule.pk}/preview/"):
        with CaptureQueriesContext(connection) as queries:
            response = editor.post(url, starting("2027-07-01"))
        assert "At 08:00, only on Monday; by the clock of Europe/Paris; from 2027-07-01" in text_of(response)
        assert lines_of(response)[:2] == [
            ("1", "2027-07-05 06:00:00", "Mon 2027-07-05 08:00 CEST", ""),
            ("2", "2027-07-12 06:00:00", "Mon 2027-07-12 08:00 CEST", ""),
        ]
        assert len(lines_of(response)) == 5
        verbs = {query["sql"].split()[0] for query in queries.captured_queries}
        assert verbs <= {"SELECT", "SAVEPOINT", "RELEASE"}
        assert not [query["sql"] for query in queries.captured_queries if "FOR UPDATE" in query["sql"]]
    assert ReportSchedule.objects.values().get() == before
    assert not ReportQueue.objects.exists()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(("asked", "shown"), [("5", 5), ("20", 20), ("50", 50), ("51", 5), ("x", 5), ("\x00", 5)])
def test_one_may_ask_for_more_firings(editor: Client, asked: str, shown: int):
    assert len(lines_of(editor.post(NEW, FORM | {"preview_count": asked}))) == shown


def test_the_rule_for_two_day_fields_is_said_before_and_when_it_is_saved(editor: Client):
    first_monday = FORM | {"cron": "0 7 */100,1-7 * MON"}
    page = text_of(editor.post(NEW, first_monday))
    assert "At 07:00, on days 1 to 7 of the month, but only on Monday" in page
    assert "A day must match both day fields" in page
    saved = editor.post(f"{SCHEDULES}add/", first_monday, follow=True)
    assert "A day must match both day fields" in text_of(saved)
    url = f"{SCHEDULES}{ReportSchedule.objects.get().pk}/change/"
    again = editor.post(url, first_monday | {"priority": "3"}, follow=True)
    assert "A day must match both day fields" not in text_of(again), "its timing has not changed"
    plain = editor.post(url, FORM | {"cron": "0 7 13 * FRI"}, follow=True)
    assert "both day fields" not in text_of(plain)


def test_a_reading_that_the_clock_leaves_out_is_marked(editor: Client):
    lines = lines_of(editor.post(NEW, starting("2027-03-27", cron="30 2 * * *")))
    assert lines[:3] == [
        ("1", "2027-03-27 01:30:00", "Sat 2027-03-27 02:30 CET", ""),
        (
            "2",
            "2027-03-28 01:00:00",
            "Sun 2027-03-28 03:00 CEST",
            "02:30 does not exist that day: runs at the first instant after the gap",
        ),
        ("3", "2027-03-29 00:30:00", "Mon 2027-03-29 02:30 CEST", ""),
    ]


def test_a_reading_that_comes_twice_says_whether_it_runs_twice(editor: Client):
    once = lines_of(editor.post(NEW, starting("2027-10-30", cron="30 2 * * *")))
    assert once[1] == (
        "2",
        "2027-10-31 00:30:00",
        "Sun 2027-10-31 02:30 CEST",
        "02:30 comes twice that day: runs once, the first time",
    )
    for rule in ({"cron": "30 * * * *"}, {"cron": "", "interval_seconds": "3600"}):
        both = lines_of(editor.post(NEW, starting("2027-10-31", **rule)))
        twice = [line for line in both if line[3]]
        assert [line[3].partition(": ")[2] for line in twice] == [
            "this is the first of the two",
            "this is the second of the two",
        ]
        assert [line[2][-4:].strip() for line in twice] == ["CEST", "CET"]


def test_what_the_calendar_closes_is_shown_as_skipped_with_its_reason(editor: Client):
    calendar = new_calendar(weekdays=[6], days=[(date(2027, 5, 1), date(2027, 5, 1))])
    lines = lines_of(editor.post(NEW, starting("2027-04-30", cron="0 8 * * *", calendar=calendar.pk)))
    assert [(number, own[:14], remark) for number, _, own, remark in lines[:4]] == [
        ("1", "Fri 2027-04-30", ""),
        ("»", "Sat 2027-05-01", "skipped: closed by the calendar Holidays: feast"),
        ("»", "Sun 2027-05-02", "skipped: closed by the calendar Holidays: weekly"),
        ("2", "Mon 2027-05-03", ""),
    ]


def test_what_the_calendar_moves_says_from_when(editor: Client):
    calendar = new_calendar(days=[(date(2027, 5, 1), date(2027, 5, 2))])
    given = starting("2027-05-01", cron="0 8 1 * *", calendar=calendar.pk, blackout="next_open_day")
    assert lines_of(editor.post(NEW, given))[0] == (
        "1",
        "2027-05-03 06:00:00",
        "Mon 2027-05-03 08:00 CEST",
        "moved by the calendar, from Sat 2027-05-01 08:00 CEST",
    )
    assert lines_of(editor.post(NEW, given | {"timezone": "UTC"}))[0] == (
        "1",
        "2027-05-03 08:00:00",
        "",
        "moved by the calendar, from Sat 2027-05-01 08:00 UTC",
    )


def test_a_closure_of_thousands_of_instants_hides_no_firing(editor: Client):
    calendar = new_calendar(days=[(date(2027, 5, 1), date(2027, 5, 9))])
    given = starting("2027-05-01", cron="* * * * *", calendar=calendar.pk, timezone="UTC")
    response = editor.post(NEW, given)
    lines = lines_of(response)
    assert [line[1] for line in lines if line[0] != "»"] == [f"2027-05-10 00:0{n}:00" for n in range(5)]
    assert len(lines) == 25
    assert "Skipped ones are shown up to 20; there may be more." in text_of(response)


def test_a_calendar_that_closes_everything_is_refused_as_a_save_would_be(editor: Client):
    given = FORM | {"calendar": new_calendar(weekdays=range(7)).pk}
    page = text_of(editor.post(NEW, given))
    assert "It would not be saved:" in page
    assert "closes 10,000 instants" in page
    del given["enabled"]
    page = text_of(editor.post(NEW, given))
    assert "There is no firing left." in page
    assert "It is not enabled: it would run at these times if it were." in page


def test_an_end_leaves_as_many_firings_as_there_are(editor: Client):
    given = starting("2027-07-01", end_at_0="2027-07-13", end_at_1="00:00")
    response = editor.post(NEW, given)
    assert len(lines_of(response)) == 2
    assert "There are no further ones." in text_of(response)
    page = text_of(editor.post(NEW, given | {"end_at_0": "2027-07-02"}))
    assert "There is no firing left." in page


@pytest.mark.parametrize(
    ("given", "label", "said"),
    [
        ({"cron": "61 * * * *"}, "Cron", "minute field"),
        ({"cron": ""}, "Cron", "expression is empty"),
        ({"interval_seconds": "3600"}, "Interval (seconds)", "one of them decides"),
        ({"cron": "a\x00b"}, "Cron", "Null characters"),
        ({"start_at_0": "0001-01-01", "start_at_1": "00:00"}, "Start (in UTC)", "between the years"),
        ({"timezone": "<b>"}, "Time zone", "'&lt;b&gt;' is not a time zone"),
        ({"calendar": "999999"}, "Blackout calendar", "not one of the available choices"),
    ],
)
def test_what_is_wrong_is_said_with_the_field_s_name(
    editor: Client, make_schedule: ScheduleFactory, given: dict[str, str], label: str, said: str
):
    for url in (NEW, f"{SCHEDULES}{make_schedule().pk}/preview/"):
        page = text_of(editor.post(url, FORM | given))
        assert f"<dt>{label}</dt>" in page
        assert said in page
        assert "<b>" not in page


def test_nothing_at_all_is_answered_with_what_is_missing(editor: Client):
    assert "<dt>Report</dt>" in text_of(editor.post(NEW))


def test_a_preview_of_an_edit_begins_now_and_of_no_edit_with_what_is_planned(
    editor: Client, make_schedule: ScheduleFactory
):
    overdue = minutes_ago(60).replace(second=0, microsecond=0)
    schedule = make_schedule(cron="* * * * *", timezone="Europe/Paris", next_run_at=overdue)
    url = f"{SCHEDULES}{schedule.pk}/preview/"
    same = lines_of(editor.post(url, FORM | {"cron": "* * * * *"}))
    assert same[0][1] == f"{overdue:%Y-%m-%d %H:%M:%S}"
    changed = lines_of(editor.post(url, FORM | {"cron": "*/1 * * * *"}))
    assert changed[0][1] > f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}", "an edit never fires the past"


def test_a_stale_form_is_refused_by_the_preview_as_by_the_save(editor: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    page = text_of(editor.post(f"{SCHEDULES}{schedule.pk}/preview/", FORM | {"version": "7"}))
    assert "has been changed since you opened this page" in page


def test_the_permission_to_look_is_not_enough(make_schedule: ScheduleFactory):
    schedule = make_schedule()
    change = f"{SCHEDULES}{schedule.pk}/preview/"
    for client, allowed in (
        (staff("view_reportschedule"), set()),
        (staff("view_reportschedule", "add_reportschedule"), {NEW}),
        (staff("change_reportschedule"), {change}),
        (staff(), set()),
    ):
        for url in (NEW, change):
            wanted = 200 if url in allowed else 403
            assert client.post(url, FORM).status_code == client.get(url).status_code == wanted, url
    assert Client().post(NEW, FORM).status_code == 302


def test_a_preview_needs_the_form_s_token(editor: Client):
    editor.handler.enforce_csrf_checks = True
    assert editor.post(NEW, FORM).status_code == 403


def test_only_this_page_may_stand_in_a_frame_of_the_same_site(editor: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    for url in (NEW, f"{SCHEDULES}{schedule.pk}/preview/"):
        assert editor.get(url)["X-Frame-Options"] == editor.post(url, FORM)["X-Frame-Options"] == "SAMEORIGIN"
    for url in (SCHEDULES, f"{SCHEDULES}add/", f"{SCHEDULES}{schedule.pk}/change/"):
        assert editor.get(url)["X-Frame-Options"] == "DENY"


def test_the_frame_first_says_what_it_is_for_and_keeps_the_page_s_messages(editor: Client):
    response = editor.post(f"{SCHEDULES}add/", FORM | {"_continue": "1"})
    assert "Nothing is saved." in text_of(editor.get(NEW))
    assert "The next run is at" in text_of(editor.get(response["Location"]))


@pytest.mark.parametrize("pk", ["999999", "9" * 30])
def test_a_schedule_that_is_gone_says_so(editor: Client, pk: str):
    response = editor.post(f"{SCHEDULES}{pk}/preview/", FORM)
    assert response.status_code == 404
    assert "This schedule has been deleted." in response.content.decode()
    assert response["X-Frame-Options"] == "SAMEORIGIN"


def test_enter_in_the_form_still_saves_and_the_preview_goes_into_its_frame(
    editor: Client, make_schedule: ScheduleFactory
):
    schedule = make_schedule()
    for page_url, address in (
        (f"{SCHEDULES}add/", NEW),
        (f"{SCHEDULES}{schedule.pk}/change/", f"{SCHEDULES}{schedule.pk}/preview/"),
    ):
        page = text_of(editor.get(page_url))
        form = page[page.index('id="reportschedule_form"') :]
        button = f'<button type="submit" class="button" formaction="{address}" formtarget="rq-preview" formnovalidate>'
        assert form.index('name="_save"') < form.index(button)
        assert f'<iframe name="rq-preview" title="Preview" src="{address}">' in form


def test_the_cost_does_not_grow_with_the_firings(editor: Client):
    calendar = new_calendar(weekdays=[6])
    costs = []
    for count in ("5", "50"):
        for day in range(1, 10):
            BlackoutDays.objects.create(calendar=calendar, first_day=date(2027, 1, day), last_day=date(2027, 1, day))
        with CaptureQueriesContext(connection) as queries:
            editor.post(NEW, FORM | {"cron": "0 * * * *", "calendar": calendar.pk, "preview_count": count})
        costs.append(len(queries))
    assert costs[0] == costs[1]
