"""Previews: when a schedule is going to fire, by both clocks, before it is saved and after."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from rest_framework.test import APIClient

from reportqueue.models import BlackoutCalendar, BlackoutHours, ReportSchedule
from tests.conftest import ClientFactory, minutes_ago
from tests.integration.test_api_endpoints import SCHEDULE, problem, tables

ADDRESS = "/api/schedules/"
FIELDS = {"instant", "local", "fires", "clock_change", "moved_from", "closed"}
ScheduleFactory = Callable[..., ReportSchedule]


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with("view_reportschedule")


def preview(api: APIClient, **fields: Any) -> dict[str, Any]:
    """Of a schedule that is not saved."""
    response = api.post(f"{ADDRESS}preview/", {**SCHEDULE, **fields}, format="json")
    assert response.status_code == 200, response.content
    answer: dict[str, Any] = response.json()
    assert all(set(occurrence) == FIELDS for occurrence in answer["occurrences"])
    return answer


def shown(api: APIClient, schedule: ReportSchedule, **query: Any) -> dict[str, Any]:
    response = api.get(f"{ADDRESS}{schedule.pk}/preview/", query)
    assert response.status_code == 200, response.content
    answer: dict[str, Any] = response.json()
    return answer


def column(answer: dict[str, Any], name: str) -> list[Any]:
    return [occurrence[name] for occurrence in answer["occurrences"]]


def test_a_preview_shows_the_next_firings_by_both_clocks(api: APIClient):
    answer = preview(api, timezone="Asia/Tokyo", start_at="2030-05-01T00:00:00Z")
    assert answer["words"] == "At 08:00, only on Monday"
    assert answer["occurrences"][0] == {
        "instant": "2030-05-05T23:00:00Z",
        "local": "2030-05-06T08:00:00+09:00",
        "fires": True,
        "clock_change": None,
        "moved_from": None,
        "closed": "",
    }
    assert column(answer, "instant") == [
        f"2030-{day}T23:00:00Z" for day in ("05-05", "05-12", "05-19", "05-26", "06-02")
    ]


@pytest.mark.parametrize("count", [1, 7, 100])
def test_a_preview_has_as_many_firings_as_are_asked_for(api: APIClient, make_schedule: ScheduleFactory, count: int):
    assert len(preview(api, count=count)["occurrences"]) == count
    assert len(shown(api, make_schedule(), count=count)["occurrences"]) == count


def test_a_preview_has_five_firings_unless_told_otherwise(api: APIClient, make_schedule: ScheduleFactory):
    assert len(preview(api)["occurrences"]) == len(shown(api, make_schedule())["occurrences"]) == 5


def test_a_preview_marks_the_days_when_the_clocks_change(api: APIClient):
    spring = preview(api, cron="30 2 * * *", timezone="Europe/Paris", start_at="2030-03-30T12:00:00Z", count=2)
    assert column(spring, "clock_change") == ["skipped", None]
    assert column(spring, "local") == ["2030-03-31T03:00:00+02:00", "2030-04-01T02:30:00+02:00"]
    autumn = preview(api, cron="30 * * * *", timezone="Europe/Paris", start_at="2030-10-26T23:59:00Z", count=4)
    assert column(autumn, "clock_change") == ["repeated", "repeated", None, None]
    assert column(autumn, "local")[:2] == ["2030-10-27T02:30:00+02:00", "2030-10-27T02:30:00+01:00"]


def test_a_preview_says_what_the_calendar_closes_and_moves(api: APIClient):
    calendar = BlackoutCalendar.objects.create(name="Holidays")
    calendar.days.create(first_day="2030-12-25", last_day="2030-12-26", label="Christmas")
    fields = {"calendar_id": calendar.pk, "start_at": "2030-12-24T12:00:00Z", "count": 2}
    skipped = preview(api, **fields, cron="0 8 * * *")
    assert column(skipped, "instant") == [f"2030-12-{day}T08:00:00Z" for day in (25, 26, 27, 28)]
    assert column(skipped, "fires") == [False, False, True, True]
    assert column(skipped, "closed") == ["Holidays: Christmas"] * 2 + ["", ""]
    moved = preview(api, **fields, cron="0 8 25 12 *", blackout="next_open_day")
    assert moved["occurrences"][0] == {
        "instant": "2030-12-27T08:00:00Z",
        "local": "2030-12-27T08:00:00+00:00",
        "fires": True,
        "clock_change": None,
        "moved_from": "2030-12-25T08:00:00Z",
        "closed": "",
    }


def test_a_preview_says_by_which_rule_two_day_fields_are_combined(api: APIClient, make_schedule: ScheduleFactory):
    first_monday = "0 7 */100,1-7 * MON"
    stored = make_schedule(cron=first_monday)
    for answer in (preview(api, cron=first_monday, timezone="UTC"), shown(api, stored)):
        assert answer["words"] == "At 07:00, on days 1 to 7 of the month, but only on Monday"
        assert "must match both day fields" in answer["note"]
        assert all(int(instant[8:10]) <= 7 for instant in column(answer, "instant"))
    assert preview(api, cron="0 7 13 * FRI")["note"] == ""


def test_a_preview_says_when_its_search_ended_early(api: APIClient):
    calendar = BlackoutCalendar.objects.create(name="c")
    for weekday in range(7):
        BlackoutHours.objects.create(calendar=calendar, weekday=weekday, end=None if weekday else time(23, 45))
    given = {"cron": "*/15 * * * *", "calendar_id": calendar.pk, "blackout": "next_open_day"}
    answer = preview(api, **given, count=100)
    assert not answer["complete"]
    assert 1 <= sum(column(answer, "fires")) < 100
    assert preview(api, cron="@daily")["complete"]


def test_a_preview_of_an_interval(api: APIClient):
    body = {"report_id": 1, "modifier_id": 2, "interval_seconds": 5400, "start_at": "2030-01-01T00:00:00Z"}
    answer = api.post(f"{ADDRESS}preview/", body, format="json").json()
    assert answer["words"] == "Every 90 minutes"
    assert column(answer, "instant")[:2] == ["2030-01-01T00:00:00Z", "2030-01-01T01:30:00Z"]


def test_a_preview_with_no_firing_left_is_empty(api: APIClient, make_schedule: ScheduleFactory):
    nothing = {"words": "At 08:00, only on Monday", "note": "", "occurrences": [], "complete": True}
    assert preview(api, end_at="2020-01-01T00:00:00Z") == nothing
    assert shown(api, make_schedule(cron=SCHEDULE["cron"], end_at=minutes_ago(5))) == nothing


def test_a_preview_ends_with_the_schedule(api: APIClient):
    answer = preview(api, cron="@daily", start_at="2030-01-01T00:00:00Z", end_at="2030-01-03T00:00:00Z")
    assert column(answer, "instant") == [f"2030-01-0{day}T00:00:00Z" for day in (1, 2, 3)]


def test_a_preview_writes_nothing(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="* * * * *", next_run_at=minutes_ago(5))
    before = tables()
    with CaptureQueriesContext(connection) as queries:
        preview(api, cron="* * * * *")
        shown(api, schedule)
    assert not [query for query in queries if re.match("INSERT|UPDATE|DELETE|SELECT pg_notify", query["sql"])]
    assert tables() == before


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cron": "0 25 * * *"}, "cron"),
        ({"cron": ""}, "cron"),
        ({"timezone": "Europe/Atlantis"}, "timezone"),
        ({"interval_seconds": 60}, "interval_seconds"),
        ({"start_at": "2030-01-01T00:00:00Z", "end_at": "2029-01-01T00:00:00Z"}, "end_at"),
        ({"calendar_id": 1}, "calendar_id"),
        ({"report_id": None}, "report_id"),
        ({"params": []}, "params"),
        ({"next_run_at": None}, "next_run_at"),
    ],
)
def test_a_preview_is_refused_as_a_save_would_be(client_with: ClientFactory, change: dict[str, Any], field: str):
    api = client_with("view_reportschedule", "add_reportschedule")
    previewed = problem(api.post(f"{ADDRESS}preview/", {**SCHEDULE, **change}, format="json"), "validation", 400)
    saved = problem(api.post(ADDRESS, {**SCHEDULE, **change}, format="json"), "validation", 400)
    assert list(previewed["errors"]) == list(saved["errors"]) == [field]
    if field != "next_run_at":  # the text lists the fields, of which a preview has one more
        assert previewed == saved


def test_a_preview_of_what_the_calendar_never_lets_fire_is_refused_as_a_save_would_be(client_with: ClientFactory):
    always = BlackoutCalendar.objects.create(name="Always")
    for weekday in range(7):
        always.hours.create(weekday=weekday)
    api = client_with("view_reportschedule", "add_reportschedule")
    body = {**SCHEDULE, "cron": "* * * * *", "calendar_id": always.pk}
    previewed, saved = (api.post(address, body, format="json") for address in (f"{ADDRESS}preview/", ADDRESS))
    assert problem(previewed, "validation", 400) == problem(saved, "validation", 400)
    # One that is disabled need not fire, neither saved nor shown.
    previewed = preview(api, **body, enabled=False, count=1)
    assert not any(column(previewed, "fires"))


# Of a schedule that there is.


def test_the_preview_of_a_schedule_begins_with_its_planned_firing(api: APIClient, make_schedule: ScheduleFactory):
    due = minutes_ago(3).replace(second=0, microsecond=0)
    assert parse_datetime(column(shown(api, make_schedule(cron="* * * * *", next_run_at=due)), "instant")[0]) == due


def test_the_preview_of_a_paused_schedule_begins_now(api: APIClient, make_schedule: ScheduleFactory):
    first = parse_datetime(column(shown(api, make_schedule(cron="* * * * *", enabled=False)), "instant")[0])
    assert timezone.now() - timedelta(seconds=5) < first <= timezone.now() + timedelta(minutes=1)


@pytest.mark.parametrize(("field", "value"), [("cron", "broken"), ("timezone", "Nowhere")])
def test_the_preview_of_a_schedule_that_cannot_fire_is_400_naming_its_field(
    api: APIClient, make_schedule: ScheduleFactory, field: str, value: str
):
    schedule = make_schedule()
    ReportSchedule.objects.filter(pk=schedule.pk).update(enabled=False, **{field: value})
    assert list(problem(api.get(f"{ADDRESS}{schedule.pk}/preview/"), "validation", 400)["errors"]) == [field]


def test_the_preview_of_a_schedule_that_starts_after_all_time_is_empty(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    ReportSchedule.objects.filter(pk=schedule.pk).update(start_at=datetime(9950, 1, 1, tzinfo=UTC))
    assert shown(api, schedule)["occurrences"] == []


@pytest.mark.parametrize("count", ["0", "101", "-1", "1.5", "x", "", "٣", "9" * 5000])
def test_a_bad_count_is_400_naming_it(api: APIClient, make_schedule: ScheduleFactory, count: str):
    response = api.get(f"{ADDRESS}{make_schedule().pk}/preview/", {"count": count})
    assert list(problem(response, "validation", 400)["errors"]) == ["count"]


def test_times_are_utc_whatever_the_project_has_set(api: APIClient, settings: Any):
    settings.TIME_ZONE = "Europe/Paris"
    settings.REST_FRAMEWORK = {"DATETIME_FORMAT": "%d.%m.%Y"}
    answer = preview(api, start_at=datetime(2030, 5, 1, tzinfo=UTC).isoformat())
    assert column(answer, "instant")[0] == "2030-05-06T08:00:00Z"
