"""`GET reports/`: the whole plan and its version, which moves with every edit and not with the scheduler."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from reportqueue import bounds, schedules
from reportqueue.models import ReportSchedule, TriggerPeriod
from tests.conftest import ClientFactory, minutes_ago
from tests.integration.test_api_endpoints import problem

ADDRESS = "/api/reports/"
ScheduleFactory = Callable[..., ReportSchedule]


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with("view_reportschedule")


def read(api: APIClient, **headers: str) -> dict[str, Any]:
    response = api.get(ADDRESS, headers=headers)
    assert response.status_code == 200, response.content
    answer: dict[str, Any] = response.json()
    assert response["ETag"] == f'W/"{answer["version"]}"'
    return answer


def version(api: APIClient) -> str:
    answer: str = read(api)["version"]
    return answer


def test_the_plan_has_the_fields_of_the_contract(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule(
        report_id=2**63 - 1,
        modifier_id=0,
        cron="0 8 1 1 *",
        timezone="Asia/Tokyo",
        priority=3,
        params={"ä": [1.5, None]},
    )
    answer = read(api)
    assert re.fullmatch("[0-9a-f]{16}", answer["version"])
    assert answer["reports"] == [
        {
            "schedule_id": schedule.pk,
            "report_id": 2**63 - 1,
            "modifier_id": 0,
            "cron": "0 8 1 1 *",
            "timezone": "Asia/Tokyo",
            "enabled": True,
            "priority": 3,
            "params": {"ä": [1.5, None]},
            "next_run_at": f"{schedule.next_run_at:%Y}-12-31T23:00:00Z",
        }
    ]


def test_the_plan_has_every_schedule_with_an_expression_by_id(api: APIClient, make_schedule: ScheduleFactory):
    made = [make_schedule(report_id=9 - n, enabled=n != 1).pk for n in range(3)]
    make_schedule(cron="", interval_seconds=60)
    reports = read(api)["reports"]
    assert [report["schedule_id"] for report in reports] == made
    assert [report["enabled"] for report in reports] == [True, False, True]
    assert reports[1]["next_run_at"] is None


def test_a_plan_without_schedules_has_a_version_too(api: APIClient, make_schedule: ScheduleFactory):
    empty = read(api)
    assert (empty["reports"], read(api)["version"]) == ([], empty["version"])
    make_schedule(cron="", interval_seconds=60)
    assert read(api)["reports"] == []
    assert version(api) != empty["version"]


def test_every_edit_changes_the_version_and_no_two_cancel_out(api: APIClient, make_schedule: ScheduleFactory):
    one, two = make_schedule(), make_schedule()
    every = ReportSchedule.objects.all()
    seen = [version(api)]

    def note() -> None:
        seen.append(version(api))

    one.save(), note()
    every.filter(pk=one.pk).update(priority=1), note()
    every.update(params={"a": 1}), note()
    ReportSchedule.objects.bulk_update([two], ["priority"]), note()
    schedules.pause(one.pk, by="somebody"), note()
    schedules.resume(one.pk), note()
    three = make_schedule()
    note()
    # One goes and one comes: the count is the same, and so is the sum of the versions.
    three.delete(), make_schedule(), note()
    every.filter(pk=two.pk).delete(), note()
    every.delete(), note()
    assert len(seen) == len(set(seen)) == 11


def test_the_version_tells_which_schedule_was_edited(api: APIClient, make_schedule: ScheduleFactory):
    one, two = make_schedule(), make_schedule()
    with transaction.atomic():
        one.save()
        first = version(api)
        transaction.set_rollback(True)
    two.save()
    assert version(api) != first


def test_the_scheduler_moves_the_next_run_and_leaves_the_version(api: APIClient, make_schedule: ScheduleFactory):
    make_schedule(cron="* * * * *", next_run_at=minutes_ago(0))
    ReportSchedule.objects.bulk_create([ReportSchedule(report_id=1, modifier_id=2, cron="@daily")])
    before = read(api)
    done = schedules.enqueue_due()
    assert (done.enqueued, done.planned) == (1, 1)
    after = read(api)
    assert after["reports"] != before["reports"]
    assert after["version"] == before["version"]


@pytest.mark.parametrize("header", ['W/"{}"', '"{}"', "*", '"x", W/"{}"', '"x" ,"{}"'])
def test_a_plan_that_the_caller_has_is_304(api: APIClient, make_schedule: ScheduleFactory, header: str):
    make_schedule()
    known = version(api)
    with CaptureQueriesContext(connection) as queries:
        response = api.get(ADDRESS, headers={"If-None-Match": header.format(known)})
    assert (response.status_code, response.content, response["ETag"]) == (304, b"", f'W/"{known}"')
    assert not [query for query in queries if "params" in query["sql"]], "the list was read"


@pytest.mark.parametrize("header", ['W/"{}x"', "{}", "", '""', "W/{}", '"{}'])
def test_a_plan_that_the_caller_does_not_have_is_answered_in_full(
    api: APIClient, make_schedule: ScheduleFactory, header: str
):
    make_schedule()
    assert len(read(api, **{"If-None-Match": header.format(version(api))})["reports"]) == 1


def test_the_plan_and_its_version_are_read_together(api: APIClient, make_schedule: ScheduleFactory):
    for _ in range(3):
        make_schedule()
    with CaptureQueriesContext(connection) as queries:
        read(api)
    assert len([query for query in queries if ReportSchedule._meta.db_table in query["sql"]]) == 1


def test_the_plan_has_no_parameters(api: APIClient):
    assert list(problem(api.get(ADDRESS, {"limit": 5}), "validation", 400)["errors"]) == ["limit"]


def test_times_are_utc_whatever_the_project_has_set(api: APIClient, make_schedule: ScheduleFactory, settings: Any):
    settings.TIME_ZONE = "Europe/Paris"
    settings.REST_FRAMEWORK = {"DATETIME_FORMAT": "%d.%m.%Y"}
    schedule = make_schedule()
    assert read(api)["reports"][0]["next_run_at"] == f"{schedule.next_run_at:%Y}-01-01T00:00:00Z"


@pytest.mark.parametrize("pattern", ["cron", "asset"])
def test_a_sensor_s_plan_has_its_instants_as_the_contract_writes_them(
    api: APIClient, make_schedule: ScheduleFactory, pattern: str
):
    """In JSON that PostgreSQL writes; an older one than 18 forgives nothing in these statements."""
    schedule = make_schedule(cron="0 8 1 1 *")
    instant = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
    ReportSchedule.objects.filter(pk=schedule.pk).update(timing_set_at=instant, next_run_at=instant)
    TriggerPeriod.objects.create(pattern=pattern, until=instant)
    with CaptureQueriesContext(connection) as queries:
        answer = api.get(ADDRESS, {"pattern": pattern})
    assert answer.status_code == 200, answer.content
    assert answer.json()["periods"] == [{"since": None, "until": "2026-01-02T03:04:05.6Z"}]
    (told,) = answer.json()["reports"]
    assert (told["fires_after"], told["next_run_at"]) == ("2026-01-02T03:04:05.6Z", "2026-01-02T03:04:05.6Z")
    (statement,) = [query["sql"] for query in queries if "json_agg" in query["sql"]]
    assert not re.search("{{|}}", statement)


@pytest.mark.parametrize("query", ["", "?pattern=cron"])
def test_a_plan_whose_parameters_are_too_large_is_refused_with_the_remedy(
    api: APIClient, make_schedule: ScheduleFactory, monkeypatch: pytest.MonkeyPatch, query: str
):
    schedule = make_schedule(params={"text": "x" * 2_000})
    make_schedule(params={"text": "y" * 2_000})
    monkeypatch.setattr(bounds, "MAX_FEED_BYTES", 4_000)
    refused = problem(api.get(f"{ADDRESS}{query}"), "feed-too-large", 409)
    assert "schedules/ page by page" in refused["detail"]
    schedule.delete()
    assert api.get(f"{ADDRESS}{query}").status_code == 200
