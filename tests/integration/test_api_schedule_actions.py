"""What people do to a schedule over the API: pause, resume, run now, backfill."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from rest_framework.test import APIClient

from reportqueue import schedules
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Source, Status
from tests.conftest import ClientFactory, RowFactory, minutes_ago
from tests.integration.test_api_contract import ITEM
from tests.integration.test_api_endpoints import problem, tables
from tests.integration.test_api_schedules import FIELDS

ADDRESS = "/api/schedules/"
YEAR = {"start": "2019-06-01T00:00:00Z", "end": "2021-06-01T00:00:00Z"}
"""The fixture's schedule fires twice in it."""
ScheduleFactory = Callable[..., ReportSchedule]


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with("view_reportschedule", "change_reportschedule", "add_reportqueue")


def send(api: APIClient, schedule: ReportSchedule, verb: str, body: Any) -> HttpResponse:
    return api.post(f"{ADDRESS}{schedule.pk}/{verb}/", body, format="json")


def act(api: APIClient, schedule: ReportSchedule, verb: str, code: int = 200, **body: Any) -> dict[str, Any]:
    response = send(api, schedule, verb, body)
    assert response.status_code == code, response.content
    answer: dict[str, Any] = response.json()
    return answer


# Pause and resume.


def test_a_paused_schedule_says_by_whom_and_why(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule(next_run_at=minutes_ago(1))
    paused = act(api, schedule, "pause", note="the source is down")
    assert set(paused) == FIELDS
    assert (paused["enabled"], paused["next_run_at"]) == (False, None)
    assert (paused["paused_by"], paused["pause_note"]) == (User.objects.get().username, "the source is down")
    assert parse_datetime(paused["paused_at"]) > minutes_ago(1)
    assert api.get(f"{ADDRESS}{schedule.pk}/").json() == paused
    assert schedules.enqueue_due().enqueued == 0


def test_a_schedule_that_is_paused_again_is_left_as_it_is(
    api: APIClient, client_with: ClientFactory, make_schedule: ScheduleFactory
):
    schedule = make_schedule()
    first = act(api, schedule, "pause", note="why")
    other = client_with("change_reportschedule")
    assert act(other, schedule, "pause") == first
    assert act(other, schedule, "pause", note="another's words under the first one's name") == first


def test_a_resumed_schedule_fires_from_now_on(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="* * * * *", next_run_at=minutes_ago(90))
    act(api, schedule, "pause", note="why")
    resumed = act(api, schedule, "resume")
    assert (resumed["enabled"], resumed["paused_at"], resumed["paused_by"], resumed["pause_note"]) == (
        True,
        None,
        "",
        "",
    )
    assert timezone.now() < parse_datetime(resumed["next_run_at"]) <= timezone.now() + timedelta(minutes=1)
    assert not ReportQueue.objects.exists()
    assert act(api, schedule, "resume") == resumed


def test_a_schedule_that_cannot_fire_is_not_resumed(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    ReportSchedule.objects.filter(pk=schedule.pk).update(cron="broken", enabled=False)
    before = tables()
    assert list(problem(send(api, schedule, "resume", {}), "validation", 400)["errors"]) == ["cron"]
    assert tables() == before


@pytest.mark.parametrize("verb", ["resume", "run"])
def test_a_call_without_fields_says_that_it_has_none(api: APIClient, make_schedule: ScheduleFactory, verb: str):
    document = problem(send(api, make_schedule(), verb, {"note": "x"}), "validation", 400)
    assert document["errors"] == {"note": ["There are no fields here."]}
    assert not ReportQueue.objects.exists()


# Run now.


@pytest.mark.parametrize("enabled", [True, False])
def test_a_schedule_is_run_beside_its_planned_firings(api: APIClient, make_schedule: ScheduleFactory, enabled: bool):
    schedule = make_schedule(report_id=7, params={"a": 1}, priority=3, enabled=enabled)
    row = act(api, schedule, "run", 201)
    assert set(row) == ITEM
    assert row == row | {"schedule_id": schedule.pk, "report_id": 7, "params": {"a": 1}, "priority": 3}
    assert (row["status"], row["source"]) == ("queued", "api")
    assert parse_datetime(row["trigger_time"]) > minutes_ago(1)
    after = ReportSchedule.objects.get()
    assert (after.next_run_at, after.version, after.enabled) == (schedule.next_run_at, 1, enabled)
    assert act(api, schedule, "run", 201)["queue_id"] != row["queue_id"]


# Backfill.


def test_a_backfill_counts_first(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    before = tables()
    counted = {
        "count": 2,
        "already_queued": 0,
        "enqueued": 0,
        "first": "2020-01-01T00:00:00Z",
        "last": "2021-01-01T00:00:00Z",
        "dry_run": True,
    }
    assert act(api, schedule, "backfill", **YEAR) == act(api, schedule, "backfill", **YEAR, dry_run=True) == counted
    assert tables() == before


def test_a_backfill_queues_what_has_no_row_yet(api: APIClient, make_schedule: ScheduleFactory, make_row: RowFactory):
    schedule = make_schedule(report_id=7)
    make_row(schedule=schedule, trigger_time=datetime(2020, 1, 1, tzinfo=UTC), status=Status.SUCCEEDED)
    done = act(api, schedule, "backfill", **YEAR, dry_run=False)
    assert done == done | {"count": 2, "already_queued": 1, "enqueued": 1, "dry_run": False}
    row = ReportQueue.objects.get(status=Status.QUEUED)
    assert (row.trigger_time, row.source, row.report_id) == (datetime(2021, 1, 1, tzinfo=UTC), Source.BACKFILL, 7)
    assert act(api, schedule, "backfill", **YEAR, dry_run=False) == done | {"already_queued": 2, "enqueued": 0}


def test_a_backfill_of_one_firing_or_none(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    instant = "2020-01-01T00:00:00Z"
    one = act(api, schedule, "backfill", start=instant, end="2020-01-01T01:00:00+01:00")
    assert (one["count"], one["first"], one["last"]) == (1, instant, instant)
    none = act(api, schedule, "backfill", start="2020-02-01T00:00:00Z", end="2020-03-01T00:00:00Z", dry_run=False)
    assert (none["count"], none["enqueued"], none["first"], none["last"]) == (0, 0, None, None)


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"end": "2019-01-01T00:00:00Z"}, "end", "before the start"),
        ({"end": "2999-01-01T00:00:00Z"}, "end", "future"),
        ({"start": "1969-01-01T00:00:00Z"}, "start", "1970"),
        ({"start": None}, "start", "null"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_stretch_that_makes_no_sense_is_400_naming_the_field(
    api: APIClient, make_schedule: ScheduleFactory, change: dict[str, Any], field: str, said: str, dry_run: bool
):
    schedule = make_schedule()
    document = problem(send(api, schedule, "backfill", {**YEAR, **change, "dry_run": dry_run}), "validation", 400)
    assert list(document["errors"]) == [field]
    assert said in document["detail"]
    assert not ReportQueue.objects.exists()


def test_a_stretch_of_more_firings_than_can_be_queued_at_once_is_400(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="* * * * *")
    start = datetime(2020, 1, 1, tzinfo=UTC)
    most = {"start": start.isoformat(), "end": (start + timedelta(minutes=999)).isoformat()}
    assert act(api, schedule, "backfill", **most)["count"] == 1000
    more = {**most, "end": (start + timedelta(minutes=1000)).isoformat(), "dry_run": False}
    document = problem(send(api, schedule, "backfill", more), "validation", 400)
    assert "1,000" in document["errors"]["end"][0]
    assert not ReportQueue.objects.exists()


def test_a_backfill_of_a_schedule_that_cannot_fire_is_400_naming_its_field(
    api: APIClient, make_schedule: ScheduleFactory
):
    schedule = make_schedule()
    ReportSchedule.objects.filter(pk=schedule.pk).update(timezone="Nowhere")
    assert list(problem(send(api, schedule, "backfill", YEAR), "validation", 400)["errors"]) == ["timezone"]
