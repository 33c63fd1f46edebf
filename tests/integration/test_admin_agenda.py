"""The agenda's page: hours by the viewer's clock, what is marked, and who may see it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.test import Client

from reportqueue import queue
from reportqueue.admin import agenda as page_module
from reportqueue.admin.viewer_zone import COOKIE
from reportqueue.models import Report, ReportSchedule
from reportqueue.schedules import agenda_counting
from reportqueue.states import Status
from tests.conftest import RowFactory, minutes_ago
from tests.integration.test_admin_permissions import (
    SCHEDULES,
    ScheduleFactory,
    messages_of,
    new_calendar,
    queries_of,
    staff,
    text_of,
)

AGENDA = f"{SCHEDULES}agenda/"


@pytest.fixture
def viewer(db: None) -> Client:
    """The browser of somebody who may look."""
    return staff("view_reportschedule")


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """A Monday morning; a test may write another time into it."""
    held = [datetime(2027, 6, 7, 6, 20, tzinfo=UTC)]
    monkeypatch.setattr(page_module, "database_now", lambda: held[0])
    return held


def rows_of(page: str) -> list[list[str]]:
    """The cells of the hours, as text."""
    table = page[page.index('class="rq-table rq-agenda"') :]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)[1:]
    return [
        [re.sub(r"<.*?>", " ", cell, flags=re.DOTALL).strip() for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)]
        for row in rows
    ]


def test_hours_are_shown_by_the_viewer_s_clock_and_in_utc(viewer: Client, make_schedule: ScheduleFactory):
    Report.objects.create(report_id=1, name="Weather")
    for modifier in range(2):
        make_schedule(cron="30 9 * * *", timezone="Europe/London", modifier_id=modifier)
    page = text_of(viewer.get(AGENDA, {"zone": "Europe/Berlin"}))
    day, before, hour, after = rows_of(page)
    assert day == ["Mon 2027-06-07"]
    assert before == ["08:00 CEST", "2027-06-07 06:00", "No firings from 08:00 CEST to 10:00 CEST."]
    assert hour[:6] == [
        "10:00 CEST",
        "2027-06-07 08:00",
        "Firings  2",
        "",
        "Work (min)  unknown",
        "Busiest minute  10:30 (2)",
    ]
    assert "2 schedules" in hour[6]
    assert hour[6].count("09:30 Europe/London") == 2
    assert "report Weather (1), modifier 0" in hour[6]
    assert after[2] == "No firings from 11:00 CEST to Tue 2027-06-08 08:00 CEST."
    assert "2 firings" in page
    assert "Mon 2027-06-07 10:30 CEST" in page, "the busiest minute"


def test_the_list_links_to_it(viewer: Client, make_schedule: ScheduleFactory):
    make_schedule()
    assert f'<a href="{AGENDA}">Agenda</a>' in text_of(viewer.get(SCHEDULES))


@pytest.mark.parametrize(("asked", "days"), [("24", 1), ("72", 3), ("168", 7), ("25", 1), ("x", 1), ("\x00", 1)])
def test_one_may_choose_the_period(viewer: Client, make_schedule: ScheduleFactory, asked: str, days: int):
    make_schedule(cron="0 12 * * *")
    page = text_of(viewer.get(AGENDA, {"hours": asked}))
    assert f"{days} firing" in page


def test_the_zone_is_the_viewer_s_unless_the_address_has_another(viewer: Client, make_schedule: ScheduleFactory):
    make_schedule(cron="0 12 * * *")
    viewer.cookies[COOKIE] = "Asia/Kolkata"
    assert "17:00 IST" in text_of(viewer.get(AGENDA))
    response = viewer.get(AGENDA, {"zone": "Europe/Paris"})
    assert "14:00 CEST" in text_of(response)
    assert COOKIE not in response.cookies, "a link to an agenda changes no other page"
    assert "17:00 IST" in text_of(viewer.get(AGENDA))


def test_without_a_choice_it_is_django_s_zone(viewer: Client, make_schedule: ScheduleFactory, settings: Any):
    settings.TIME_ZONE = "Europe/Paris"
    make_schedule(cron="0 12 * * *")
    assert "14:00 CEST" in text_of(viewer.get(AGENDA))


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../../etc/passwd", "<b>", "\x00", "localtime", "x" * 5_000])
def test_an_unknown_zone_is_said_and_is_utc(viewer: Client, make_schedule: ScheduleFactory, zone: str):
    make_schedule(cron="0 12 * * *")
    response = viewer.get(AGENDA, {"zone": zone})
    (message,) = messages_of(response)
    assert "is not a time zone" in message
    assert len(message) < 250
    assert "12:00 UTC" in text_of(response)
    assert "<b>" not in text_of(response)
    assert COOKIE not in response.cookies


@pytest.mark.parametrize("value", ["Europe/Atlantis", "../x", "x" * 3_000])
def test_a_cookie_with_an_unknown_zone_is_ignored(viewer: Client, make_schedule: ScheduleFactory, value: str):
    make_schedule(cron="0 12 * * *")
    viewer.cookies[COOKIE] = value
    response = viewer.get(AGENDA)
    assert "12:00 UTC" in text_of(response)
    assert messages_of(response) == []


def test_clock_changes_are_said(viewer: Client, make_schedule: ScheduleFactory, now: list[datetime]):
    make_schedule(cron="0 * * * *", timezone="Europe/Berlin")
    now[0] = datetime(2027, 3, 28, 0, 10, tzinfo=UTC)
    page = text_of(viewer.get(AGENDA, {"zone": "Europe/Berlin"}))
    said = "he clock is set forward by 1 h at 03:00 CEST: Sun 2027-03-28 has 23 hours"
    assert page.count(said) == 2, "above, and in its hour"
    now[0] = datetime(2027, 10, 31, 0, 10, tzinfo=UTC)
    page = text_of(viewer.get(AGENDA, {"zone": "Europe/Berlin"}))
    assert "he clock is set back by 1 h at 02:00 CET: Sun 2027-10-31 has 25 hours" in page
    assert [row[0] for row in rows_of(page)[1:4]] == ["02:00 CEST", "02:00 CET", "03:00 CET"]


def test_closures_are_marked_with_the_calendar_s_name(viewer: Client, make_schedule: ScheduleFactory):
    calendar = new_calendar(days=[(date(2027, 6, 8), date(2027, 6, 8))])
    make_schedule(cron="0 12 * * *", calendar=calendar)
    make_schedule(cron="0 13 8 * *", calendar=calendar, blackout="next_open_day")
    page = text_of(viewer.get(AGENDA, {"hours": "72"}))
    assert "1 firing skipped" in page
    assert "1 moved to another day: closed by the calendar Holidays: feast" in page
    assert "1 moved here by a calendar" in page
    assert "moved by its calendar" in page


def test_closures_are_said_where_nothing_fires(viewer: Client, make_schedule: ScheduleFactory):
    make_schedule(cron="0 12 * * *", calendar=new_calendar(weekdays=range(2)))
    page = text_of(viewer.get(AGENDA))
    assert "No schedule fires in this period." in page
    assert "1 firing skipped: closed by the calendar Holidays: weekly" in page


def test_without_firings_it_offers_what_one_may_do(viewer: Client):
    assert "No schedule fires in this period." in text_of(viewer.get(AGENDA))
    assert f"{SCHEDULES}add/" not in text_of(viewer.get(AGENDA))
    adder = staff("view_reportschedule", "add_reportschedule")
    assert f'<a href="{SCHEDULES}add/">' in text_of(adder.get(AGENDA))


def test_it_may_be_of_one_report_by_number_or_name(viewer: Client, make_schedule: ScheduleFactory):
    Report.objects.create(report_id=3, name="Weather")
    make_schedule(cron="0 12 * * *", report_id=3)
    make_schedule(cron="0 13 * * *", report_id=4)
    for text in ("3", "weath"):
        page = text_of(viewer.get(AGENDA, {"report": text}))
        assert "12:00 UTC" in page
        assert "13:00 UTC (" not in page
        assert "Schedules counted: 1." in page
    response = viewer.get(AGENDA, {"report": "<i>nothing"})
    assert "neither a report's number nor a part of a name" in messages_of(response)[0]
    assert "No schedule fires in this period." in text_of(response)
    assert "<i>" not in text_of(response)


def test_what_is_paused_or_disabled_or_left_out_is_said(
    viewer: Client, make_schedule: ScheduleFactory, monkeypatch: pytest.MonkeyPatch
):
    make_schedule(cron="0 12 * * *")
    off = make_schedule(cron="0 12 * * *", enabled=False)
    broken = make_schedule(cron="0 12 * * *")
    ReportSchedule.objects.filter(pk=broken.pk).update(cron="broken")
    queue.pause(report_id=1, by="somebody", note="secret")
    page = text_of(viewer.get(AGENDA))
    assert "Report 1 is paused since" in page
    content = page.partition('id="content"')[2]  # a banner above it says who paused what, on every page
    assert "secret" not in content
    assert "somebody" not in content
    assert "‖ paused" in page
    assert "Disabled schedules, which do not fire: 1: <a" in page
    assert f"{SCHEDULES}{off.pk}/change/" in page
    assert "Schedules that are not in the numbers: 1 (it cannot be evaluated: 1): <a" in page
    monkeypatch.setattr(agenda_counting, "MAX_EXAMINED", 0)
    page = text_of(viewer.get(AGENDA, {"hours": "72"}))
    assert "there are more firings than are counted at once" in page


def test_the_work_is_shown_in_minutes(viewer: Client, make_row: RowFactory, make_schedule: ScheduleFactory):
    make_row(status=Status.SUCCEEDED, started_at=minutes_ago(9), finished_at=minutes_ago(6), report_id=1)
    make_schedule(cron="*/10 12 * * *", report_id=1)
    make_schedule(cron="0 12 * * *", report_id=2)
    page = text_of(viewer.get(AGENDA))
    assert "about 18 minutes of work" in page
    assert "firings without a typical duration: 1" in page
    assert rows_of(page)[2][3] == "Work (min)  18 +"


def test_only_who_may_see_schedules_sees_it(make_schedule: ScheduleFactory):
    make_schedule(cron="0 12 * * *")
    assert staff("view_reportqueue").get(AGENDA).status_code == 403
    assert staff("change_reportschedule").get(AGENDA).status_code == 200
    assert Client().get(AGENDA).status_code == 302
    assert staff("view_reportschedule").post(AGENDA).status_code == 405


def test_the_statements_do_not_grow_with_the_schedules(viewer: Client, make_schedule: ScheduleFactory):
    costs = []
    for begin in (0, 10):
        for number in range(begin, begin + 10):
            make_schedule(cron="0 * * * *", report_id=number, calendar=new_calendar(f"Calendar {number}"))
        statements = queries_of(viewer, f"{AGENDA}?hours=168&zone=Europe/Paris")
        assert not [one for one in statements if one.startswith(("INSERT", "UPDATE", "DELETE"))]
        costs.append(len(statements))
    assert costs[0] == costs[1] <= 25
