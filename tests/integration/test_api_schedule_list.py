"""`GET schedules/`: filters, and pages by id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from reportqueue.models import BlackoutCalendar, ReportSchedule
from tests.conftest import ClientFactory
from tests.integration.test_api_bad_input import cursor_of
from tests.integration.test_api_endpoints import problem
from tests.integration.test_api_listing import pages

ADDRESS = "/api/schedules/"
ScheduleFactory = Callable[..., ReportSchedule]


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with("view_reportschedule")


def ids(page: dict[str, Any]) -> list[int]:
    return [schedule["schedule_id"] for schedule in page["schedules"]]


def listed(api: APIClient, **query: Any) -> list[int]:
    response = api.get(ADDRESS, query)
    assert response.status_code == 200, response.content
    return ids(response.json())


def many(make_schedule: ScheduleFactory, count: int) -> list[int]:
    """Schedules whose order by report is not that by id."""
    return [make_schedule(report_id=count - n).pk for n in range(count)]


def test_each_filter_keeps_the_schedules_that_it_names(api: APIClient, make_schedule: ScheduleFactory):
    one = make_schedule(report_id=2**63 - 1, modifier_id=0).pk
    other = make_schedule(report_id=7, modifier_id=8, enabled=False).pk
    assert listed(api) == listed(api, enabled="") == [one, other]
    assert listed(api, report_id=2**63 - 1) == listed(api, modifier_id=0) == listed(api, enabled="true") == [one]
    assert listed(api, report_id=7, modifier_id=8, enabled="false") == listed(api, enabled="false") == [other]
    assert listed(api, report_id=7, enabled="true") == []


@pytest.mark.parametrize("limit", [1, 2, 6, 7, 8])
def test_pages_are_complete_in_both_directions(api: APIClient, make_schedule: ScheduleFactory, limit: int):
    made = many(make_schedule, 7)
    forwards = list(pages(api, f"{ADDRESS}?limit={limit}"))
    assert [pk for page in forwards for pk in ids(page)] == made
    assert all(len(page["schedules"]) == limit for page in forwards[:-1])
    assert forwards[0]["previous"] is None
    if len(forwards) > 1:
        backwards = list(pages(api, forwards[-1]["previous"], "previous"))
        assert [pk for page in reversed(backwards) for pk in ids(page)] + ids(forwards[-1]) == made


def test_pages_stay_complete_while_schedules_come_and_go(api: APIClient, make_schedule: ScheduleFactory):
    made = many(make_schedule, 6)
    seen: list[int] = []
    for page in pages(api, f"{ADDRESS}?limit=2"):
        seen += ids(page)
        ReportSchedule.objects.filter(pk=seen[-1]).delete()  # the place of a schedule outlives it
        if len(seen) < 6:
            made.append(make_schedule(report_id=0).pk)
    assert seen == made


def test_a_page_keeps_the_filters_and_the_limit(api: APIClient, make_schedule: ScheduleFactory):
    wanted = [make_schedule(report_id=7, enabled=False).pk for _ in range(3)]
    make_schedule(report_id=7), make_schedule(enabled=False)
    found = list(pages(api, f"{ADDRESS}?enabled=false&report_id=7&limit=1"))
    assert [ids(page) for page in found] == [[pk] for pk in wanted]
    assert [ids(page) for page in pages(api, found[-1]["previous"], "previous")] == [[pk] for pk in wanted[1::-1]]


def test_a_page_has_a_hundred_schedules_unless_told_otherwise(api: APIClient):
    ReportSchedule.objects.bulk_create(
        ReportSchedule(report_id=1, modifier_id=n, cron="@daily", enabled=False) for n in range(1001)
    )
    assert len(listed(api)) == 100
    assert len(listed(api, limit=1)) == 1
    assert len(listed(api, limit=1000)) == 1000


def test_an_empty_list_is_a_page(api: APIClient):
    assert api.get(ADDRESS).json() == {"schedules": [], "next": None, "previous": None}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("limit", ["0", "1001", "-1", "x", ""]),
        ("report_id", ["-1", "1.5", "x", str(2**63), "\0"]),
        ("modifier_id", ["-1", "x", "9" * 5000]),
        ("enabled", ["maybe", "True", "1", "any", "\0"]),
        ("processed", ["any"]),
        (
            "cursor",
            [
                *("x", "é", "\0", "A" * 10_000, "bnVsbA=="),
                *map(
                    cursor_of, [None, 1, "text", {}, [], [False], [False, -1], [False, 2**63], [False, "x"], [1, 2, 3]]
                ),
                *map(cursor_of, [[False, None], [False, [1]], [False, float("inf")], [False, float("nan")]]),
                cursor_of([False, 0, "2026-11-23T08:00:00+00:00", 1]),  # of the queue
            ],
        ),
    ],
)
def test_a_bad_parameter_is_400_naming_it(api: APIClient, make_schedule: ScheduleFactory, name: str, values: list[str]):
    make_schedule()
    for value in values:
        refused = problem(api.get(ADDRESS, {name: value}), "validation", 400)
        assert list(refused["errors"]) == [name], value


def test_a_page_costs_the_same_queries_however_many_schedules_it_has(api: APIClient, make_schedule: ScheduleFactory):
    calendar = BlackoutCalendar.objects.create(name="Holidays")

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            listed(api, enabled="true")
        assert not [query for query in queries if "COUNT(" in query["sql"].upper()]
        return len(queries)

    make_schedule(calendar=calendar)
    before = cost()
    for _ in range(5):
        make_schedule(calendar=calendar)
    assert cost() == before
