"""The form of a schedule in the admin: every field, errors at their fields, and nobody else's edit undone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from reportqueue import schedules
from reportqueue.models import ReportSchedule
from tests.concurrency import at_once
from tests.conftest import minutes_ago
from tests.integration.test_admin_permissions import (
    SCHEDULES,
    ScheduleFactory,
    messages_of,
    new_calendar,
    staff,
    text_of,
)

FORM = {
    "report_id": "3",
    "modifier_id": "2014",
    "params": "{}",
    "cron": "0 8 * * MON",
    "interval_seconds": "",
    "timezone": "Europe/Paris",
    "start_at_0": "",
    "start_at_1": "",
    "end_at_0": "",
    "end_at_1": "",
    "calendar": "",
    "blackout": "skip",
    "catch_up": "all",
    "catch_up_window_seconds": "604800",
    "catch_up_limit": "1000",
    "overlap": "allow",
    "jitter_seconds": "0",
    "enabled": "on",
    "priority": "0",
    "max_attempts": "3",
}
"""A schedule as a browser posts it."""


@pytest.fixture
def editor(db: None) -> Client:
    """The browser of somebody who keeps the schedules and sees the queue."""
    return staff(
        *("view_reportschedule", "add_reportschedule", "change_reportschedule", "delete_reportschedule"),
        *("view_reportqueue", "add_reportqueue"),
    )


def errors_of(response: Any) -> dict[str, Any]:
    """The form's errors by field."""
    assert response.status_code == 200
    errors: dict[str, Any] = response.context["adminform"].form.errors
    return errors


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("cron", "61 * * * *", "minute field"),
        ("cron", "* * *", "number of fields"),
        ("cron", "0 0 31 FEB *", "never comes"),
        ("cron", "a\x00b", "Null characters"),
        ("cron", "1," * 200, "at most 200"),
        ("cron", "", "expression is empty"),
        ("timezone", "Europe/Pariss", "not a time zone"),
        ("timezone", "/etc/passwd", "not a time zone"),
        ("timezone", "", "required"),
        ("params", "{", "valid JSON"),
        ("params", "[1]", "JSON object"),
        ("params", '{"a": "\\u0000"}', "NUL"),
        ("report_id", "-1", "greater than or equal to 0"),
        ("modifier_id", "9" * 20, "less than or equal to 9223372036854775807"),
        ("priority", "101", "less than or equal to 100"),
        ("max_attempts", "0", "greater than or equal to 1"),
    ],
)
@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_what_is_wrong_is_said_at_its_field(
    editor: Client, make_schedule: ScheduleFactory, field: str, value: str, said: str, existing: bool
):
    url = f"{SCHEDULES}{make_schedule().pk}/change/" if existing else f"{SCHEDULES}add/"
    before = list(ReportSchedule.objects.values())
    errors = errors_of(editor.post(url, FORM | {field: value}))
    assert list(errors) == [field]
    assert said in str(errors[field])
    assert list(ReportSchedule.objects.values()) == before


DAILY_INTERVAL = {"cron": "", "interval_seconds": "86400"}


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"interval_seconds": "3600"}, "interval_seconds", "one of them decides"),
        ({"cron": "", "interval_seconds": "9"}, "interval_seconds", "greater than or equal to 10"),
        ({"cron": "", "interval_seconds": "9" * 300}, "interval_seconds", "less than or equal to 31622400"),
        ({"start_at_0": "2026-01-01", "start_at_1": ""}, "start_at", "Enter a valid time"),
        ({"start_at_0": "1969-12-31", "start_at_1": "23:59:59"}, "start_at", "between the years 1970 and 2999"),
        ({"start_at_0": "0001-01-01", "start_at_1": "00:00"}, "start_at", "between the years 1970 and 2999"),
        ({"end_at_0": "9999-12-31", "end_at_1": "23:59"}, "end_at", "between the years 1970 and 2999"),
        ({"end_at_0": "2026-01-01\x00", "end_at_1": "00:00"}, "end_at", "Enter a valid date"),
        (
            {"start_at_0": "2026-01-02", "start_at_1": "00:00", "end_at_0": "2026-01-01", "end_at_1": "23:59"},
            "end_at",
            "before the start",
        ),
        ({"calendar": "999999"}, "calendar", "not one of the available choices"),
        ({"calendar": "x\x00"}, "calendar", "Null characters"),
        ({"blackout": "never"}, "blackout", "not one of the available choices"),
        ({"catch_up": "\x00"}, "catch_up", "not one of the available choices"),
        ({"catch_up_window_seconds": "59"}, "catch_up_window_seconds", "greater than or equal to 60"),
        ({"catch_up_limit": "1001"}, "catch_up_limit", "less than or equal to 1000"),
        ({"overlap": ""}, "overlap", "required"),
        ({"jitter_seconds": "86401"}, "jitter_seconds", "less than or equal to 86400"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said_at_its_field(
    editor: Client, make_schedule: ScheduleFactory, given: dict[str, str], field: str, said: str
):
    for url in (f"{SCHEDULES}add/", f"{SCHEDULES}{make_schedule().pk}/change/"):
        errors = errors_of(editor.post(url, FORM | given))
        assert list(errors) == [field]
        assert said in str(errors[field])
    assert ReportSchedule.objects.get().version == 1


@pytest.mark.parametrize("interval", ["", "x", "0"])
def test_a_schedule_without_a_rule_is_refused_whatever_else_it_has(editor: Client, interval: str):
    given = {"cron": "", "interval_seconds": interval, "calendar": new_calendar().pk, "blackout": "next_open_day"}
    assert {"cron", "interval_seconds"} & set(errors_of(editor.post(f"{SCHEDULES}add/", FORM | given)))
    assert not ReportSchedule.objects.exists()


def test_every_field_can_be_edited_and_an_emptied_cron_leaves_the_interval(
    editor: Client, make_schedule: ScheduleFactory
):
    schedule, calendar = make_schedule(), new_calendar(weekdays=[6])
    given = FORM | {
        "cron": "",
        "interval_seconds": "43200",
        "calendar": calendar.pk,
        "blackout": "next_open_day",
        "start_at_0": "2026-01-05",
        "start_at_1": "06:00:00",
        "end_at_0": "2999-01-01",
        "end_at_1": "00:00",
        "catch_up": "last",
        "catch_up_window_seconds": "60",
        "catch_up_limit": "1",
        "overlap": "queue_one",
        "jitter_seconds": "30",
        "params": '{"a": 1}',
        "priority": "-5",
        "max_attempts": "7",
    }
    assert editor.post(f"{SCHEDULES}{schedule.pk}/change/", given).status_code == 302
    schedule.refresh_from_db()
    assert (schedule.cron, schedule.interval_seconds, schedule.calendar) == ("", 43_200, calendar)
    assert (schedule.start_at, schedule.end_at) == (
        datetime(2026, 1, 5, 6, tzinfo=UTC),
        datetime(2999, 1, 1, tzinfo=UTC),
    )
    assert (schedule.blackout, schedule.catch_up, schedule.catch_up_window_seconds) == ("next_open_day", "last", 60)
    assert (schedule.catch_up_limit, schedule.overlap, schedule.jitter_seconds) == (1, "queue_one", 30)
    assert (schedule.params, schedule.priority, schedule.max_attempts) == ({"a": 1}, -5, 7)
    page = text_of(editor.get(f"{SCHEDULES}{schedule.pk}/change/"))
    for part in (
        "Every 12 hours; by the clock of Europe/Paris; counted from 2026-01-05 06:00:00 UTC; until 2999-01-01 00:00:00",
        f"when the calendar {calendar.name} is closed: move it to the next open day",
        "available up to 30 s later",
    ):
        assert part in page
    assert editor.post(f"{SCHEDULES}{schedule.pk}/change/", FORM).status_code == 302
    schedule.refresh_from_db()
    assert (schedule.cron, schedule.interval_seconds, schedule.calendar_id, schedule.start_at) == (
        FORM["cron"],
        None,
        None,
        None,
    )


def test_start_and_end_are_typed_in_utc_as_their_labels_say(editor: Client, settings: Any):
    settings.TIME_ZONE = "Asia/Kolkata"
    page = text_of(editor.get(f"{SCHEDULES}add/"))
    assert "Start (in UTC):" in page
    assert "End (in UTC):" in page
    assert 'data-admin-utc-offset="0"' in page, "the buttons beside the inputs fill in the time in UTC"
    given = FORM | {"start_at_0": "2026-07-01", "start_at_1": "05:30"}
    assert editor.post(f"{SCHEDULES}add/", given).status_code == 302
    schedule = ReportSchedule.objects.get()
    assert schedule.start_at == datetime(2026, 7, 1, 5, 30, tzinfo=UTC)
    page = text_of(editor.get(f"{SCHEDULES}{schedule.pk}/change/"))
    assert 'value="05:30:00"' in page
    assert "from 2026-07-01 11:00:00+05:30 (2026-07-01 05:30:00 UTC) on" in page


@pytest.mark.parametrize(
    "instant",
    [
        *("2026-10-25T00:30:00+00:00", "2026-10-25T01:30:00+00:00"),  # 02:30 in Berlin, twice
        *("2026-03-29T00:59:59+00:00", "2026-03-29T01:00:00+00:00"),  # around the hour that Berlin leaves out
        "2026-03-29T02:30:00+00:00",
    ],
)
@pytest.mark.parametrize("field", ["start_at", "end_at"])
def test_every_instant_can_be_kept_and_typed_whatever_the_project_s_clock_does(
    editor: Client, make_schedule: ScheduleFactory, settings: Any, instant: str, field: str
):
    settings.TIME_ZONE = "Europe/Berlin"
    expected = datetime.fromisoformat(instant)
    schedule = make_schedule(**{field: expected})
    url = f"{SCHEDULES}{schedule.pk}/change/"
    typed = {f"{field}_0": f"{expected:%Y-%m-%d}", f"{field}_1": f"{expected:%H:%M:%S}"}
    shown = dict(re.findall(rf'name="({field}_[01])" value="([^"]*)"', text_of(editor.get(url))))
    assert shown == typed
    for given in ({**shown, "priority": "3"}, {f"{field}_0": "2026-01-01", f"{field}_1": "00:00:00"}, typed):
        response = editor.post(url, FORM | given)
        assert response.status_code == 302, errors_of(response)
        schedule.refresh_from_db()
        text = f"{given[f'{field}_0']}T{given[f'{field}_1']}+00:00"
        assert getattr(schedule, field) == datetime.fromisoformat(text)
    preview = text_of(editor.post(f"{SCHEDULES}{schedule.pk}/preview/", FORM | typed))
    assert "It would not be saved" not in preview
    assert f"{expected:%Y-%m-%d %H:%M:%S} UTC" in preview


def test_an_edit_of_something_else_leaves_the_start_and_the_plan_exact(editor: Client, make_schedule: ScheduleFactory):
    start = datetime(2026, 1, 1, 0, 0, 0, 500, tzinfo=UTC)
    schedule = make_schedule(cron="", interval_seconds=86_400, start_at=start, timezone="Europe/Paris")
    before = (schedule.start_at, schedule.next_run_at, schedule.planned_from)
    given = FORM | DAILY_INTERVAL | {"start_at_0": "2026-01-01", "start_at_1": "00:00:00", "priority": "9"}
    assert editor.post(f"{SCHEDULES}{schedule.pk}/change/", given).status_code == 302
    schedule.refresh_from_db()
    assert schedule.priority == 9
    assert (schedule.start_at, schedule.next_run_at, schedule.planned_from) == before


def test_a_calendar_that_leaves_no_instant_is_refused_at_its_field(editor: Client, make_schedule: ScheduleFactory):
    schedule, calendar = make_schedule(), new_calendar(weekdays=range(7))
    for url in (f"{SCHEDULES}add/", f"{SCHEDULES}{schedule.pk}/change/"):
        errors = errors_of(editor.post(url, FORM | {"calendar": calendar.pk}))
        assert list(errors) == ["calendar"]
        assert "closes 10,000 instants" in str(errors["calendar"])
    off = {name: value for name, value in FORM.items() if name != "enabled"}
    assert editor.post(f"{SCHEDULES}{schedule.pk}/change/", off | {"calendar": calendar.pk}).status_code == 302
    assert "There is no firing left." in text_of(editor.get(f"{SCHEDULES}{schedule.pk}/change/"))


def test_a_page_that_has_become_stale_undoes_nobody_s_edit(editor: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    url = f"{SCHEDULES}{schedule.pk}/change/"
    assert 'name="version" value="1"' in text_of(editor.get(url))
    schedules.pause(schedule.pk, by="anna", note="wait for me")
    response = editor.post(url, FORM | {"version": "1"})
    assert "has been changed since you opened this page" in str(errors_of(response)["__all__"])
    schedule.refresh_from_db()
    assert (schedule.enabled, schedule.pause_note, schedule.cron) == (False, "wait for me", "0 0 1 1 *")
    assert editor.post(url, FORM | {"version": "2"}).status_code == 302
    for version in ("x", "9" * 40, "-1", "\x00"):
        assert editor.post(url, FORM | {"version": version}).status_code == 200
    schedule.refresh_from_db()
    assert schedule.version == 3


def test_a_firing_makes_no_page_stale(editor: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule(next_run_at=minutes_ago(1))
    url = f"{SCHEDULES}{schedule.pk}/change/"
    version = editor.get(url).context["adminform"].form["version"].value()
    assert schedules.enqueue_due().enqueued == 1
    assert editor.post(url, FORM | {"version": version}).status_code == 302


def test_a_refused_edit_shows_the_schedule_as_it_is_beside_what_was_typed(
    editor: Client, make_schedule: ScheduleFactory
):
    schedule = make_schedule(cron="15 7 * * *", timezone="Asia/Kolkata")
    response = editor.post(f"{SCHEDULES}{schedule.pk}/change/", FORM | {"cron": "45 6 * * *", "priority": "1000"})
    assert list(errors_of(response)) == ["priority"]
    page = text_of(response)
    assert 'value="45 6 * * *"' in page
    assert "At 07:15; by the clock of Asia/Kolkata" in page
    assert "report 1, modifier 2: 15 7 * * * (Asia/Kolkata)" in page
    assert "At 06:45" not in page


def test_somebody_who_may_only_look_sees_every_field_and_the_zone_of_its_instants(
    make_schedule: ScheduleFactory, settings: Any
):
    settings.TIME_ZONE = "Asia/Kolkata"
    schedule = make_schedule(start_at=datetime(2026, 1, 1, tzinfo=UTC), overlap="queue_one")
    page = text_of(staff("view_reportschedule").get(f"{SCHEDULES}{schedule.pk}/change/"))
    assert "from 2026-01-01 05:30:00+05:30 (2026-01-01 00:00:00 UTC) on" in page
    assert "Let one wait" in page
    assert 'name="rq-preview"' not in page


def test_a_saved_schedule_says_when_it_runs(editor: Client):
    response = editor.post(f"{SCHEDULES}add/", FORM, follow=True)
    schedule = ReportSchedule.objects.get()
    assert schedule.next_run_at is not None
    assert f"The next run is at {schedule.next_run_at:%Y-%m-%d %H:%M:%S} UTC, Mon " in messages_of(response)[0]
    assert re.search(r"08:00 CES?T\.", messages_of(response)[0])
    assert LogEntry.objects.count() == 1


def test_a_saved_schedule_that_has_ended_says_so(editor: Client):
    given = FORM | {"end_at_0": "2026-01-01", "end_at_1": "00:00"}
    said = messages_of(editor.post(f"{SCHEDULES}add/", given, follow=True))
    assert said[0] == "It will not run: no firing is left before its end."


@pytest.mark.django_db(transaction=True)
def test_of_two_edits_at_once_of_the_same_version_one_is_refused():
    schedule = ReportSchedule(report_id=1, modifier_id=2, cron="0 0 1 1 *")
    schedule.save()
    url = f"{SCHEDULES}{schedule.pk}/change/"
    posts = [
        partial(staff("change_reportschedule").post, url, FORM | {"cron": cron, "version": "1"})
        for cron in ("1 1 * * *", "2 2 * * *", "3 3 * * *")
    ]
    answers = at_once(posts)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 302]
    schedule.refresh_from_db()
    assert schedule.version == 2
