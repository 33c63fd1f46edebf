"""`schedules/`: edited by whoever may, planned from now, and never by the client."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from rest_framework.test import APIClient

from reportqueue import schedules
from reportqueue.models import ReportQueue, ReportSchedule
from tests.conftest import ClientFactory, minutes_ago
from tests.integration.test_api_endpoints import problem, tables

ADDRESS = "/api/schedules/"
SCHEDULE = {"report_id": 7, "modifier_id": 8, "cron": "0 8 * * MON"}
FIELDS = {*SCHEDULE, "schedule_id", "timezone", "enabled", "priority", "max_attempts", "params", "next_run_at", "error"}
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
    assert answer == answer | SCHEDULE | {"enabled": True, "priority": 0, "max_attempts": 3, "params": {}, "error": ""}
    planned = parse_datetime(answer["next_run_at"])
    assert timezone.now() < planned <= timezone.now() + timedelta(days=7)
    assert (planned.weekday(), planned.hour) in ((0, 6), (0, 7)), "8 o'clock in Paris"
    assert api.get(f"{ADDRESS}{answer['schedule_id']}/").json() == answer
    assert api.get(ADDRESS).json() == {"schedules": [answer]}


def test_a_new_schedule_may_start_disabled(api: APIClient):
    made = api.post(ADDRESS, {**SCHEDULE, "enabled": False}, format="json").json()
    assert (made["enabled"], made["next_run_at"]) == (False, None)


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


@pytest.mark.parametrize("field", ["schedule_id", "id", "next_run_at", "error", "created_at", "crom"])
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
