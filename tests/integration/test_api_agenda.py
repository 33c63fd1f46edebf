"""The agenda over the API: the same numbers as on the page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from reportqueue import queue
from reportqueue.api.views import schedules as views
from tests.conftest import ClientFactory
from tests.integration.test_admin_permissions import ScheduleFactory
from tests.integration.test_api_endpoints import problem

ADDRESS = "/api/schedules/agenda/"


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with("view_reportschedule")


@pytest.fixture
def in_spring(monkeypatch: pytest.MonkeyPatch) -> None:
    """The night in which Berlin has no 2 o'clock."""
    monkeypatch.setattr(views, "database_now", lambda: datetime(2027, 3, 28, 0, 20, tzinfo=UTC))


def answer(api: APIClient, **query: Any) -> dict[str, Any]:
    response = api.get(ADDRESS, query)
    assert response.status_code == 200, response.content
    found: dict[str, Any] = response.json()
    return found


def test_an_answer_has_each_hour_with_its_numbers(api: APIClient, make_schedule: ScheduleFactory, in_spring: None):
    made = [make_schedule(cron="30 * * * *", modifier_id=modifier) for modifier in range(2)]
    off = make_schedule(enabled=False, report_id=5)
    queue.pause(report_id=1, by="me", note="secret")
    found = answer(api, hours=2, zone="Europe/Berlin")
    assert {name: found[name] for name in ("start", "end", "zone", "firings", "schedules", "unmeasured")} == {
        "start": "2027-03-28T00:20:00Z",
        "end": "2027-03-28T02:00:00Z",
        "zone": "Europe/Berlin",
        "firings": 4,
        "schedules": 2,
        "unmeasured": 4,
    }
    assert [hour["local"] for hour in found["hours"]] == ["2027-03-28T01:00:00+01:00", "2027-03-28T03:00:00+02:00"]
    assert found["hours"][1] == {
        "start": "2027-03-28T01:00:00Z",
        "end": "2027-03-28T02:00:00Z",
        "local": "2027-03-28T03:00:00+02:00",
        "firings": 2,
        "schedules": 2,
        "work_minutes": 0.0,
        "unmeasured": 2,
        "skipped": 0,
        "moved_away": 0,
        "moved_here": 0,
        "closures": [],
        "busiest_minute": {"instant": "2027-03-28T01:30:00Z", "local": "2027-03-28T03:30:00+02:00", "firings": 2},
    }
    named = [{"schedule_id": one.pk, "report_id": 1, "modifier_id": one.modifier_id} for one in made]
    assert found["busiest_minutes"][0]["named"] == named
    assert found["clock_changes"] == [
        {
            "instant": "2027-03-28T01:00:00Z",
            "local": "2027-03-28T03:00:00+02:00",
            "day": "2027-03-28",
            "day_hours": 23.0,
        }
    ]
    assert found["left_out"] == {"count": 0, "named": []}
    assert found["disabled"] == {
        "count": 1,
        "named": [{"schedule_id": off.pk, "report_id": 5, "modifier_id": 2}],
    }
    assert [(one["scope"], one["report_id"]) for one in found["paused"]] == [("report", 1)]
    assert "secret" not in str(found)


def test_it_begins_now_and_has_a_day_in_utc_unless_told_otherwise(api: APIClient):
    found = answer(api)
    assert (found["zone"], len(found["hours"])) == ("UTC", 24)
    start = datetime.fromisoformat(found["start"])
    assert abs(datetime.now(UTC) - start) < timedelta(minutes=1)


def test_it_may_be_of_one_report(api: APIClient, make_schedule: ScheduleFactory):
    for report_id in (3, 3, 4):
        make_schedule(cron="0 * * * *", report_id=report_id)
    assert answer(api, report_id=3)["schedules"] == 2
    assert answer(api, report_id=9)["firings"] == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *(({"hours": text}, "hours") for text in ("0", "169", "-1", "1.5", "x", "", "٣", "9" * 5000)),
        *(({"zone": text}, "zone") for text in ("", "Europe/Atlantis", "../etc/passwd", "\x00", "localtime")),
        *(({"report_id": text}, "report_id") for text in ("", "x", "-1", "9" * 30)),
        ({"schedule": "1"}, "schedule"),
    ],
)
def test_a_bad_parameter_is_400_naming_it(api: APIClient, query: dict[str, str], field: str):
    assert list(problem(api.get(ADDRESS, query), "validation", 400)["errors"]) == [field]


def test_it_is_bounded_in_statements_and_writes_nothing(api: APIClient, make_schedule: ScheduleFactory):
    costs = []
    for begin in (0, 10):
        for number in range(begin, begin + 10):
            make_schedule(cron="0 * * * *", report_id=number)
        with CaptureQueriesContext(connection) as statements:
            answer(api, hours=168)
        costs.append(len(statements))
        assert not [one["sql"] for one in statements if one["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert costs[0] == costs[1]
