"""`schedules/`: edited by whoever may, planned from now, and never by the client."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from rest_framework.test import APIClient

from reportqueue import schedules
from reportqueue.models import BlackoutCalendar, ReportQueue, ReportSchedule
from tests.conftest import ClientFactory, minutes_ago
from tests.integration.test_api_endpoints import problem, tables

ADDRESS = "/api/schedules/"
SCHEDULE = {"report_id": 7, "modifier_id": 8, "cron": "0 8 * * MON"}
DEFAULTS = {
    "interval_seconds": None,
    "timezone": "UTC",
    "start_at": None,
    "end_at": None,
    "calendar_id": None,
    "blackout": "skip",
    "enabled": True,
    "catch_up": "all",
    "catch_up_window_seconds": 604_800,
    "catch_up_limit": 1_000,
    "overlap": "allow",
    "jitter_seconds": 0,
    "unique": False,
    "priority": 0,
    "max_attempts": 3,
    "params": {},
}
GIVEN = {"paused_at": None, "paused_by": "", "pause_note": "", "error": "", "version": 1}
FIELDS = {*SCHEDULE, *DEFAULTS, *GIVEN, "schedule_id", "words", "next_run_at"}
ScheduleFactory = Callable[..., ReportSchedule]


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with(*(f"{verb}_reportschedule" for verb in ("view", "add", "change", "delete")))


def patch(api: APIClient, schedule: ReportSchedule, **changes: Any) -> Any:
    response = api.patch(f"{ADDRESS}{schedule.pk}/", changes, format="json")
    assert response.status_code == 200, response.content
    return response.json()


def test_a_new_schedule_is_planned_from_now(api: APIClient):
    made = api.post(ADDRESS, {**SCHEDULE, "timezone": "Europe/Paris"}, format="json")
    assert made.status_code == 201
    answer = made.json()
    assert set(answer) == FIELDS
    assert answer == answer | DEFAULTS | GIVEN | SCHEDULE | {"timezone": "Europe/Paris"}
    assert answer["words"] == "At 08:00, only on Monday"
    planned = parse_datetime(answer["next_run_at"])
    assert timezone.now() < planned <= timezone.now() + timedelta(days=7)
    assert (planned.weekday(), planned.hour) in ((0, 6), (0, 7)), "8 o'clock in Paris"
    assert api.get(f"{ADDRESS}{answer['schedule_id']}/").json() == answer
    assert api.get(ADDRESS).json()["schedules"] == [answer]


def test_a_new_schedule_may_start_disabled_and_is_paused_then(client_with: ClientFactory):
    api = client_with("add_reportschedule")
    made = api.post(ADDRESS, {**SCHEDULE, "enabled": False}, format="json").json()
    assert (made["enabled"], made["next_run_at"]) == (False, None)
    assert made["paused_at"]
    assert made["paused_by"] == User.objects.get().username


def test_every_field_can_be_written(api: APIClient, make_schedule: ScheduleFactory):
    calendar = BlackoutCalendar.objects.create(name="Holidays")
    fields = {
        "report_id": 3,
        "modifier_id": 4,
        "cron": "30 6 * * *",
        "timezone": "Asia/Tokyo",
        "start_at": "2026-11-23T08:00:00Z",
        "end_at": "2999-12-31T23:59:59.999999Z",
        "calendar_id": calendar.pk,
        "blackout": "next_open_day",
        "enabled": True,
        "catch_up": "last",
        "catch_up_window_seconds": 3_600,
        "catch_up_limit": 7,
        "overlap": "queue_one",
        "jitter_seconds": 60,
        "unique": True,
        "priority": -5,
        "max_attempts": 1,
        "params": {"a": [1]},
    }
    assert {*fields, "interval_seconds"} == {*SCHEDULE, *DEFAULTS}
    made = api.post(ADDRESS, fields, format="json")
    assert made.status_code == 201
    assert made.json() == made.json() | fields
    changed = patch(api, make_schedule(), **fields)
    assert changed == changed | fields
    assert parse_datetime(changed["next_run_at"]).hour == 21, "half past six in Tokyo"


def test_times_are_read_with_their_offset(api: APIClient, make_schedule: ScheduleFactory):
    changed = patch(api, make_schedule(), start_at="2026-11-23T09:00:00+01:00", end_at="2027-01-01T00:00:00-05:00")
    assert (changed["start_at"], changed["end_at"]) == ("2026-11-23T08:00:00Z", "2027-01-01T05:00:00Z")


# Expression or interval: one of them.


@pytest.mark.parametrize("without", [{}, {"cron": ""}])
def test_an_interval_takes_the_place_of_the_expression(api: APIClient, without: dict[str, str]):
    body = {"report_id": 7, "modifier_id": 8, "interval_seconds": 900, **without}
    made = api.post(ADDRESS, body, format="json").json()
    assert (made["cron"], made["interval_seconds"], made["words"]) == ("", 900, "Every 15 minutes")
    assert parse_datetime(made["next_run_at"]) <= timezone.now() + timedelta(minutes=15)


def test_a_schedule_with_both_or_neither_is_400_naming_the_field(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    before = tables()
    both = api.post(ADDRESS, {**SCHEDULE, "interval_seconds": 900}, format="json")
    added = api.patch(f"{ADDRESS}{schedule.pk}/", {"interval_seconds": 900}, format="json")
    neither = api.post(ADDRESS, {"report_id": 7, "modifier_id": 8}, format="json")
    for refused, field in ((both, "interval_seconds"), (added, "interval_seconds"), (neither, "cron")):
        assert list(problem(refused, "validation", 400)["errors"]) == [field]
    assert "leave the cron expression empty" in problem(added, "validation", 400)["detail"]
    assert tables() == before


def test_an_expression_gives_way_to_an_interval_and_back(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    changed = patch(api, schedule, interval_seconds=900, cron="")
    assert (changed["cron"], changed["interval_seconds"]) == ("", 900)
    changed = patch(api, schedule, interval_seconds=None, cron="@daily")
    assert (changed["cron"], changed["interval_seconds"]) == ("@daily", None)


def test_a_schedule_that_cannot_be_described_has_no_words(api: APIClient, make_schedule: ScheduleFactory):
    broken = make_schedule()
    ReportSchedule.objects.filter(pk=broken.pk).update(cron="broken")
    assert api.get(f"{ADDRESS}{broken.pk}/").json()["words"] == ""
    assert [schedule["words"] for schedule in api.get(ADDRESS).json()["schedules"]] == [""]


# The calendar.


def test_a_calendar_is_set_and_taken_away_by_its_id(api: APIClient, make_schedule: ScheduleFactory):
    schedule, calendar = make_schedule(), BlackoutCalendar.objects.create(name="Holidays")
    assert patch(api, schedule, calendar_id=calendar.pk)["calendar_id"] == calendar.pk
    assert patch(api, schedule, calendar_id=None)["calendar_id"] is None


def test_what_the_calendar_makes_impossible_is_400_naming_calendar_id(api: APIClient, make_schedule: ScheduleFactory):
    always = BlackoutCalendar.objects.create(name="Always")
    for weekday in range(7):
        always.hours.create(weekday=weekday)
    schedule = make_schedule()
    before = tables()
    for calendar_id, said in ((always.pk, "'Always' closes"), (always.pk + 1, "calendar")):
        body = {"calendar_id": calendar_id, "cron": "* * * * *"}
        for refused in (
            api.post(ADDRESS, {**SCHEDULE, **body}, format="json"),
            api.patch(f"{ADDRESS}{schedule.pk}/", body, format="json"),
        ):
            document = problem(refused, "validation", 400)
            assert list(document["errors"]) == ["calendar_id"]
            assert said in document["detail"]
    assert tables() == before


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("cron", "0 25 * * *", "The hour field"),
        ("cron", "0 0 31 2 *", "never"),
        ("cron", "0 8 * *", "number of fields"),
        ("timezone", "Europe/Atlantis", "not a time zone"),
    ],
)
def test_what_cannot_fire_is_400_naming_the_field(
    api: APIClient, make_schedule: ScheduleFactory, field: str, value: str, said: str
):
    schedule = make_schedule()
    before = tables()
    for refused in (
        api.post(ADDRESS, {**SCHEDULE, field: value}, format="json"),
        api.patch(f"{ADDRESS}{schedule.pk}/", {field: value, "priority": 5}, format="json"),
    ):
        document = problem(refused, "validation", 400)
        assert list(document["errors"]) == [field]
        assert said in document["detail"]
    assert tables() == before


@pytest.mark.parametrize(
    "field",
    [
        *("schedule_id", "id", "next_run_at", "error", "created_at", "version", "words", "calendar", "count"),
        *("paused_at", "paused_by", "pause_note", "planned_from", "plan_needed", "crom"),
    ],
)
def test_fields_that_are_the_schedulers_or_nobodys_are_refused(
    api: APIClient, make_schedule: ScheduleFactory, field: str
):
    schedule = make_schedule()
    before = tables()
    for value in (None, "2026-11-23T08:00:00Z"):
        for refused in (
            api.post(ADDRESS, {**SCHEDULE, field: value}, format="json"),
            api.patch(f"{ADDRESS}{schedule.pk}/", {field: value}, format="json"),
        ):
            assert list(problem(refused, "validation", 400)["errors"]) == [field]
    assert tables() == before


@pytest.mark.parametrize("change", [{"cron": "30 * * * *"}, {"timezone": "Asia/Tokyo"}])
def test_a_change_of_the_timing_counts_from_now(api: APIClient, make_schedule: ScheduleFactory, change: dict[str, str]):
    schedule = make_schedule(next_run_at=minutes_ago(90))
    answer = patch(api, schedule, **change)
    assert parse_datetime(answer["next_run_at"]) > timezone.now()
    assert schedules.enqueue_due().enqueued == 0
    schedule.refresh_from_db()
    assert schedule.next_run_at == parse_datetime(answer["next_run_at"])


def test_a_schedule_that_is_enabled_again_does_not_fire_the_past(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule(next_run_at=minutes_ago(90))
    assert patch(api, schedule, enabled=False)["next_run_at"] is None
    assert parse_datetime(patch(api, schedule, enabled=True)["next_run_at"]) > timezone.now()
    assert schedules.enqueue_due().enqueued == 0


@pytest.mark.parametrize("change", [{}, {"priority": 5, "params": {"a": 1}, "report_id": 9}, {"cron": "0 0 1 1 *"}])
def test_another_change_leaves_the_planned_firing(
    api: APIClient, make_schedule: ScheduleFactory, change: dict[str, Any]
):
    schedule = make_schedule(next_run_at=minutes_ago(3))
    answer = patch(api, schedule, **change)
    assert answer == answer | change
    assert parse_datetime(answer["next_run_at"]) == schedule.next_run_at
    assert schedules.enqueue_due().enqueued == 1


def test_to_disable_a_schedule_is_to_pause_it(
    api: APIClient, client_with: ClientFactory, make_schedule: ScheduleFactory
):
    schedule = make_schedule()
    name = User.objects.get().username
    paused = patch(api, schedule, enabled=False)
    assert (paused["paused_by"], paused["pause_note"]) == (name, "")
    assert parse_datetime(paused["paused_at"]) > minutes_ago(1)
    for change in ({"enabled": False}, {"enabled": False, "cron": "@daily"}, {"priority": 3}):
        again = patch(client_with("change_reportschedule"), schedule, **change)
        assert (again["paused_at"], again["paused_by"]) == (paused["paused_at"], name), "still the first one's pause"
    resumed = patch(api, schedule, enabled=True)
    assert (resumed["paused_at"], resumed["paused_by"]) == (None, "")


def test_a_schedule_that_the_scheduler_disabled_is_nobodys_pause(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    ReportSchedule.objects.filter(pk=schedule.pk).update(enabled=False, error="why")
    answer = patch(api, schedule, enabled=False)
    assert (answer["paused_at"], answer["paused_by"], answer["error"]) == (None, "", "why")


def test_a_repaired_schedule_loses_its_error(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    ReportSchedule.objects.filter(pk=schedule.pk).update(cron="broken", error="why", enabled=False)
    assert api.get(f"{ADDRESS}{schedule.pk}/").json()["error"] == "why"
    answer = patch(api, schedule, cron="@daily", enabled=True)
    assert (answer["error"], answer["enabled"]) == ("", True)
    assert answer["next_run_at"]


def test_a_deleted_schedule_leaves_its_rows(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule(next_run_at=minutes_ago(1))
    schedules.enqueue_due()
    response = api.delete(f"{ADDRESS}{schedule.pk}/")
    assert (response.status_code, response.content) == (204, b"")
    assert ReportQueue.objects.get().schedule_id is None
    problem(api.delete(f"{ADDRESS}{schedule.pk}/"), "not-found", 404)
