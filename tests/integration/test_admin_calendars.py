"""Blackout calendars in the admin: edited on one page, shown with their schedules, not deleted while in use."""

from __future__ import annotations

from datetime import date, time
from typing import Any

import pytest
from django.test import Client

from reportqueue.admin.calendars import MAX_PARTS
from reportqueue.models import BlackoutCalendar, BlackoutDays, BlackoutHours, ReportSchedule
from tests.integration.test_admin_permissions import (
    CALENDARS,
    SCHEDULES,
    ScheduleFactory,
    act,
    messages_of,
    new_calendar,
    queries_of,
    staff,
    text_of,
)

EVERYTHING = [
    f"{verb}_{model}"
    for verb in ("view", "add", "change", "delete")
    for model in ("blackoutcalendar", "blackoutdays", "blackouthours")
]


@pytest.fixture
def keeper(db: None) -> Client:
    """The browser of somebody who keeps the calendars, and sees the schedules."""
    return staff(*EVERYTHING, "view_reportschedule")


def form(calendar: BlackoutCalendar | None = None, *, name: str = "Holidays", **more: str) -> dict[str, str]:
    """A calendar as a browser posts it: three empty lines of each kind below what there is."""
    data = {"name": name}
    for prefix, model in (("days", BlackoutDays), ("hours", BlackoutHours)):
        rows: list[Any] = list(model.objects.filter(calendar=calendar)) if calendar else []
        total, initial = str(len(rows) + 3), str(len(rows))
        data |= {f"{prefix}-TOTAL_FORMS": total, f"{prefix}-INITIAL_FORMS": initial}
        for place, row in enumerate(rows):
            data |= {f"{prefix}-{place}-id": str(row.pk), f"{prefix}-{place}-calendar": str(row.calendar_id)}
            fields = ("first_day", "last_day") if prefix == "days" else ("weekday", "start")
            data |= {f"{prefix}-{place}-{field}": str(getattr(row, field)) for field in fields}
            data[f"{prefix}-{place}-label"] = row.label
        if prefix == "hours":
            data |= {f"hours-{place}-start": "00:00:00" for place in range(len(rows), len(rows) + 3)}
    return data | more


def test_days_and_hours_are_entered_on_one_page_and_empty_lines_are_none(keeper: Client):
    given = form(
        **{"days-0-first_day": "2026-12-24", "days-0-last_day": "2027-01-01", "days-0-every_year": "on"},
        **{"days-0-label": "Christmas", "hours-0-weekday": "4", "hours-0-start": "18:00", "hours-0-end": ""},
    )
    assert keeper.post(f"{CALENDARS}add/", given).status_code == 302
    calendar = BlackoutCalendar.objects.get()
    (days,) = BlackoutDays.objects.filter(calendar=calendar)
    assert (days.first_day, days.last_day, days.every_year) == (date(2026, 12, 24), date(2027, 1, 1), True)
    (hours,) = BlackoutHours.objects.filter(calendar=calendar)
    assert (hours.weekday, hours.start, hours.end) == (4, time(18), None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": ""}, "required"),
        ({"name": "a\x00b"}, "Null characters"),
        ({"name": "x" * 101}, "at most 100"),
        ({"name": "Taken"}, "already exists"),
        ({"days-0-first_day": "2026-01-02", "days-0-last_day": "2026-01-01"}, "before the first day"),
        ({"days-0-first_day": "2026-01-02"}, "required"),
        ({"days-0-first_day": "2026-02-30", "days-0-last_day": "2026-03-01"}, "Enter a valid date"),
        (
            {"days-0-first_day": "2026-01-01", "days-0-last_day": "2027-01-01", "days-0-every_year": "on"},
            "shorter than a year",
        ),
        ({"hours-0-weekday": "7", "hours-0-start": "00:00"}, "not one of the available choices"),
        ({"hours-0-weekday": "1", "hours-0-start": "22:00", "hours-0-end": "06:00"}, "across midnight"),
        ({"hours-0-weekday": "1", "hours-0-start": "", "hours-0-end": "06:00"}, "required"),
        ({"hours-0-weekday": "1", "hours-0-start": "25:00", "hours-0-end": "06:00"}, "Enter a valid time"),
        ({"hours-0-weekday": "1", "hours-0-start": "a\x00", "hours-0-label": "\x00"}, "Enter a valid time"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_saved(keeper: Client, given: dict[str, str], said: str):
    new_calendar("Taken")
    response = keeper.post(f"{CALENDARS}add/", form() | given)
    assert said in text_of(response)
    assert BlackoutCalendar.objects.count() == 1
    assert not BlackoutDays.objects.exists()
    assert not BlackoutHours.objects.exists()


def test_the_list_counts_and_links_the_schedules_that_use_each(keeper: Client, make_schedule: ScheduleFactory):
    used, unused = new_calendar("Used", weekdays=[5, 6]), new_calendar("Unused", days=[(date(2026, 1, 1),) * 2])
    for _ in range(2):
        make_schedule(calendar=used)
    rows = {row.pk: row for row in keeper.get(CALENDARS).context["cl"].result_list}
    assert [(row.days_count, row.hours_count, row.uses) for row in (rows[used.pk], rows[unused.pk])] == [
        (0, 2, 2),
        (1, 0, 0),
    ]
    link = f'<a href="{SCHEDULES}?calendar={used.pk}">2 schedules</a>'
    assert link in text_of(keeper.get(CALENDARS))
    assert link in text_of(keeper.get(f"{CALENDARS}{used.pk}/change/"))
    assert len(keeper.get(f"{SCHEDULES}?calendar={used.pk}").context["cl"].result_list) == 2
    assert "0 schedules" in text_of(keeper.get(f"{CALENDARS}{unused.pk}/change/"))


def test_the_list_takes_the_same_queries_however_many_calendars(keeper: Client, make_schedule: ScheduleFactory):
    make_schedule(calendar=new_calendar())
    few = queries_of(keeper, CALENDARS)
    for n in range(5):
        make_schedule(calendar=new_calendar(f"calendar {n}", weekdays=[n], days=[(date(2026, 1, 1),) * 2]))
    assert (
        len(queries_of(keeper, CALENDARS)) == len(few) == 7
    )  # session, user, permissions (2), pauses, count, calendars


def test_a_change_replans_the_schedules_and_says_how_many(keeper: Client, make_schedule: ScheduleFactory):
    calendar = new_calendar(weekdays=[6])
    schedule, paused = make_schedule(calendar=calendar), make_schedule(calendar=calendar, enabled=False)
    url = f"{CALENDARS}{calendar.pk}/change/"
    assert "planned anew" in text_of(keeper.get(url))
    renamed = keeper.post(url, form(calendar, name="Feasts"), follow=True)
    assert not [said for said in messages_of(renamed) if "anew" in said]
    schedule.refresh_from_db()
    assert not schedule.plan_needed
    given = form(calendar, **{"days-0-first_day": "2027-01-01", "days-0-last_day": "2027-01-01"})
    assert "1 schedule is planned anew." in messages_of(keeper.post(url, given, follow=True))
    schedule.refresh_from_db()
    paused.refresh_from_db()
    assert schedule.plan_needed
    assert not paused.plan_needed
    ReportSchedule.objects.filter(pk=schedule.pk).update(plan_needed=False)
    given = form(calendar, **{"hours-0-DELETE": "on"})
    assert "1 schedule is planned anew." in messages_of(keeper.post(url, given, follow=True))
    assert not BlackoutHours.objects.exists()


def test_a_calendar_in_use_is_not_deleted_and_the_page_says_why(keeper: Client, make_schedule: ScheduleFactory):
    used, unused = new_calendar("<Used>", weekdays=[6]), new_calendar("Unused", weekdays=[6])
    for _ in range(3):
        make_schedule(calendar=used)
    text = "&lt;Used&gt; is used by"
    for response in (
        keeper.get(f"{CALENDARS}{used.pk}/delete/"),
        keeper.post(f"{CALENDARS}{used.pk}/delete/", {"post": "yes"}),
        act(keeper, "delete_selected", [used, unused], CALENDARS),
        act(keeper, "delete_selected", [used, unused], CALENDARS, post="yes"),
    ):
        page = text_of(response)
        assert text in page
        assert f'<a href="{SCHEDULES}?calendar={used.pk}">3 schedules</a>' in page
        assert "give them another calendar, or none, first" in page
        assert 'name="post"' not in page
    assert BlackoutCalendar.objects.count() == 2
    ReportSchedule.objects.update(calendar=None)
    assert act(keeper, "delete_selected", [used, unused], CALENDARS, post="yes").status_code == 200
    assert not BlackoutCalendar.objects.exists()


def test_the_refusal_speaks_of_no_deletion_of_schedules(keeper: Client, make_schedule: ScheduleFactory):
    calendar = new_calendar()
    make_schedule(calendar=calendar)
    page = text_of(keeper.get(f"{CALENDARS}{calendar.pk}/delete/"))
    assert "Cannot delete blackout calendar" in page
    assert "require deleting" not in page


def test_the_refusal_of_a_deletion_does_not_read_the_schedules(keeper: Client, make_schedule: ScheduleFactory):
    calendar = new_calendar()
    make_schedule(calendar=calendar)
    url = f"{CALENDARS}{calendar.pk}/delete/"
    one = queries_of(keeper, url)
    for _ in range(20):
        make_schedule(calendar=calendar)
    assert len(queries_of(keeper, url)) == len(one)
    assert not [sql for sql in one if '"reportqueue_reportschedule"."params"' in sql]


def test_more_parts_than_the_form_takes_are_shown_but_not_edited(keeper: Client):
    calendar = new_calendar(days=[(date(2000 + n, 1, 1),) * 2 for n in range(MAX_PARTS + 1)])
    url = f"{CALENDARS}{calendar.pk}/change/"
    page = text_of(keeper.get(url))
    assert 'name="days-0-first_day"' not in page
    assert "2060-01-01" in page
    assert 'name="hours-0-weekday"' in page
    given = {"days-TOTAL_FORMS": str(MAX_PARTS + 1), "days-INITIAL_FORMS": str(MAX_PARTS + 1)}
    hours = {name: value for name, value in form().items() if name.startswith("hours")}
    assert keeper.post(url, {"name": "Renamed", **given, **hours}).status_code == 302
    calendar.refresh_from_db()
    assert (calendar.name, calendar.days.count()) == ("Renamed", MAX_PARTS + 1)


def test_more_lines_than_the_form_takes_are_refused(keeper: Client):
    given = {"days-TOTAL_FORMS": str(MAX_PARTS + 1)}
    for n in range(MAX_PARTS + 1):
        given |= {f"days-{n}-first_day": "2026-01-01", f"days-{n}-last_day": "2026-01-01"}
    assert f"at most {MAX_PARTS}" in text_of(keeper.post(f"{CALENDARS}add/", form() | given))
    assert not BlackoutCalendar.objects.exists()


def test_the_largest_form_that_is_offered_can_be_posted(keeper: Client):
    calendar = new_calendar(days=[(date(2000 + n, 1, 1),) * 2 for n in range(MAX_PARTS)])
    BlackoutHours.objects.bulk_create(
        BlackoutHours(calendar=calendar, weekday=n % 7, start=time(n % 24, n)) for n in range(MAX_PARTS)
    )
    posted = text_of(keeper.get(f"{CALENDARS}{calendar.pk}/change/")).count(' name="')
    assert posted < 1_000, "Django refuses more fields"


def test_permissions_are_django_s_own(make_schedule: ScheduleFactory):
    calendar = new_calendar(weekdays=[6])
    url = f"{CALENDARS}{calendar.pk}/change/"
    nobody, viewer = staff(), staff("view_blackoutcalendar", "view_blackouthours")
    assert nobody.get(CALENDARS).status_code == nobody.get(url).status_code == 403
    page = text_of(viewer.get(url))
    assert "Sunday" in page
    assert 'name="_save"' not in page
    assert viewer.post(url, form(calendar)).status_code == 403
    assert (
        viewer.get(f"{CALENDARS}add/").status_code == viewer.get(f"{CALENDARS}{calendar.pk}/delete/").status_code == 403
    )
    renamer = staff("change_blackoutcalendar")
    assert renamer.post(url, {"name": "Renamed"}).status_code == 302
    calendar.refresh_from_db()
    assert calendar.name == "Renamed"
    assert calendar.hours.count() == 1


@pytest.mark.parametrize("query", ["q=holi", "q=HOLI+days", "q=%00", "q=nothing", "q=%25", "o=4.-2", "x=1"])
def test_any_query_is_answered(keeper: Client, query: str):
    new_calendar()
    response = keeper.get(f"{CALENDARS}?{query}", follow=True)
    found = list(response.context["cl"].result_list)
    assert len(found) == (0 if query in ("q=%00", "q=nothing", "q=%25") else 1)


def test_no_calendars_yet_says_so(keeper: Client):
    assert "There are no blackout calendars yet." in text_of(keeper.get(CALENDARS))


@pytest.mark.parametrize("pk", ["999999", "9" * 30, "x", "%00", "-1"])
def test_a_calendar_that_is_not_there_leads_back(keeper: Client, pk: str):
    assert keeper.get(f"{CALENDARS}{pk}/change/").status_code == 302
