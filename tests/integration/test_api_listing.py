"""`GET report-queue/`: filters, claim order, and pages that stay right while rows are claimed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.states import FINAL, Source, Status
from tests.conftest import ClientFactory, RowFactory, minutes_ago
from tests.integration.test_api_endpoints import problem

ADDRESS = "/api/report-queue/"


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with("view_reportqueue")


def ids(page: dict[str, Any]) -> list[int]:
    return [item["queue_id"] for item in page["queue"]]


def listed(api: APIClient, **query: Any) -> list[int]:
    response = api.get(ADDRESS, query)
    assert response.status_code == 200, response.content
    return ids(response.json())


def pages(api: APIClient, address: str, direction: str = "next") -> Iterator[dict[str, Any]]:
    """The pages from there on."""
    following: str | None = address
    while following:
        page: dict[str, Any] = api.get(following).json()
        yield page
        following = page[direction]


def test_unprocessed_rows_are_listed_unless_told_otherwise(api: APIClient, make_row: RowFactory):
    rows = {status: make_row(status=status).pk for status in Status}
    final = [pk for status, pk in rows.items() if status in FINAL]
    rest = [pk for status, pk in rows.items() if status not in FINAL]
    assert sorted(listed(api)) == sorted(listed(api, processed="false")) == sorted(listed(api, processed="")) == rest
    assert sorted(listed(api, processed="true")) == sorted(final)
    assert sorted(listed(api, processed="any")) == sorted(rows.values())


def test_a_status_is_listed_whether_processed_or_not_unless_both_are_asked_for(api: APIClient, make_row: RowFactory):
    rows = {status: make_row(status=status).pk for status in Status}
    for status, pk in rows.items():
        assert listed(api, status=status.value) == [pk]
    assert sorted(listed(api, status=["failed", "queued"])) == sorted([rows[Status.FAILED], rows[Status.QUEUED]])
    assert listed(api, status=["failed", "queued"], processed="false") == [rows[Status.QUEUED]]
    assert listed(api, status="failed", processed="false") == []


def test_each_filter_keeps_the_rows_that_it_names(api: APIClient, make_row: RowFactory):
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    largest = make_row(report_id=2**63 - 1, modifier_id=0, trigger_time=noon, source=Source.SCHEDULE).pk
    other = make_row(report_id=7, modifier_id=8, source=Source.ADMIN, trigger_time=noon.replace(hour=13)).pk
    assert listed(api, report_id=2**63 - 1) == listed(api, modifier_id=0) == listed(api, source="schedule") == [largest]
    assert listed(api, report_id=7, modifier_id=8, source="admin") == [other]
    assert listed(api, report_id=7, modifier_id=0) == []
    assert sorted(listed(api, source=["admin", "schedule"])) == [largest, other]
    assert listed(api, trigger_time_after="2026-11-23T12:00:00Z", processed="any") == [largest, other]
    assert listed(api, trigger_time_after="2026-11-23T14:00:00.000001+02:00") == [other]
    assert listed(api, trigger_time_before="2026-11-23T13:00:00Z") == [largest]
    assert listed(api, trigger_time_before="2026-11-23T12:00:00Z") == []


def test_rows_of_consumers_are_listed_while_they_are_not_finished(api: APIClient, make_row: RowFactory):
    held = {name: make_row(status=Status.DISPATCHED, claimed_by=name).pk for name in ("one", "two, or more", "a & b")}
    make_row(status=Status.SUCCEEDED, claimed_by="one")
    make_row()
    for name, pk in held.items():
        assert listed(api, claimed_by=name) == listed(api, claimed_by=name, status="dispatched") == [pk]
    assert sorted(listed(api, claimed_by=["one", "a & b"])) == [held["one"], held["a & b"]]
    assert listed(api, claimed_by="one", status="running") == listed(api, claimed_by="nobody") == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"claimed_by": "one", "processed": "any"}, "Only a list of unfinished rows can be filtered by it."),
        ({"claimed_by": "one", "status": "failed"}, "Only a list of unfinished rows can be filtered by it."),
        ({"claimed_by": "x" * 101}, "Must be a name of at most 100 characters."),
        ({"claimed_by": "a\x00b"}, "Must be a name of at most 100 characters."),
    ],
)
def test_a_consumer_that_cannot_be_listed_is_refused(api: APIClient, query: dict[str, str], said: str):
    answer = api.get(ADDRESS, query)
    assert answer.status_code == 400
    assert said in answer.json()["errors"]["claimed_by"][0]


def test_rows_are_listed_in_claim_order(api: APIClient, make_row: RowFactory):
    late = make_row(available_at=minutes_ago(1)).pk
    future = make_row(available_at=minutes_ago(-9)).pk
    early = make_row(available_at=minutes_ago(9)).pk
    least = make_row(available_at=minutes_ago(99), priority=-100).pk
    urgent = make_row(available_at=minutes_ago(0), priority=100).pk
    assert listed(api) == [urgent, early, late, future, least]
    assert [row.pk for row in queue.claim("sensor").rows] == [urgent, early, late, least]


def many(make_row: RowFactory) -> list[int]:
    """Rows in claim order, with ties of priority and of time."""
    instants = [minutes_ago(9), minutes_ago(5)]
    rows = [make_row(priority=n % 3 - 1, available_at=instants[n % 2]) for n in range(23)]
    return [row.pk for row in sorted(rows, key=lambda row: (-row.priority, row.available_at, row.pk))]


@pytest.mark.parametrize("limit", [1, 4, 22, 23, 24])
def test_pages_are_complete_in_both_directions(api: APIClient, make_row: RowFactory, limit: int):
    rows = many(make_row)
    forwards = list(pages(api, f"{ADDRESS}?limit={limit}"))
    assert [pk for page in forwards for pk in ids(page)] == rows
    assert all(len(page["queue"]) == limit for page in forwards[:-1])
    assert forwards[0]["previous"] is None
    if len(forwards) > 1:
        backwards = list(pages(api, forwards[-1]["previous"], "previous"))
        earlier = [pk for page in reversed(backwards) for pk in ids(page)]
        assert earlier + ids(forwards[-1]) == rows
        assert [pk for page in pages(api, backwards[-1]["next"]) for pk in ids(page)] == rows[len(ids(backwards[-1])) :]


def test_pages_stay_complete_while_rows_are_claimed_and_finished(api: APIClient, make_row: RowFactory):
    rows = many(make_row)
    seen: list[int] = []
    finished: set[int] = set()
    for number, page in enumerate(pages(api, f"{ADDRESS}?limit=4")):
        seen += ids(page)
        claim = queue.claim(f"sensor-{number}", limit=3)
        for row in claim.rows[:1]:
            token = queue.start(row.pk, generation=1, run_id="run").lease_token
            queue.complete(row.pk, lease_token=token)
            finished.add(row.pk)
        make_row(priority=100)  # before everything: not a reason to see anything twice
    assert len(seen) == len(set(seen))
    assert set(seen) >= set(rows) - finished
    assert seen == [pk for pk in rows if pk in seen]
    assert finished


def test_going_back_stays_complete_while_rows_are_claimed(api: APIClient, make_row: RowFactory):
    rows = many(make_row)
    *_, last = pages(api, f"{ADDRESS}?limit=5")
    seen = ids(last)
    for page in pages(api, last["previous"], "previous"):
        seen = ids(page) + seen
        queue.claim("sensor", limit=2)
        ReportQueue.objects.filter(pk=ids(page)[0]).delete()  # the place of a row outlives the row
    assert seen == rows


def test_a_page_keeps_the_filters_and_the_limit(api: APIClient, make_row: RowFactory):
    wanted = [make_row(status=Status.FAILED, report_id=7).pk for _ in range(3)]
    make_row(status=Status.FAILED, report_id=8), make_row(report_id=7)
    query = "status=failed&status=succeeded&report_id=7&limit=1&trigger_time_before=2999-01-01T00:00:00%2B05:00"
    found = list(pages(api, f"{ADDRESS}?{query}"))
    assert [ids(page) for page in found] == [[pk] for pk in wanted]
    assert [ids(page) for page in pages(api, found[-1]["previous"], "previous")] == [[pk] for pk in wanted[1::-1]]


def test_a_page_has_a_hundred_rows_unless_told_otherwise(api: APIClient, make_row: RowFactory):
    then = minutes_ago(1)
    ReportQueue.objects.bulk_create(
        ReportQueue(report_id=1, modifier_id=n, trigger_time=then, available_at=then) for n in range(1001)
    )
    assert len(listed(api)) == 100
    assert len(listed(api, limit=1)) == 1
    assert len(listed(api, limit=1000)) == 1000
    for limit in (0, 1001):
        assert list(problem(api.get(ADDRESS, {"limit": limit}), "validation", 400)["errors"]) == ["limit"]


def test_an_empty_list_is_a_page(api: APIClient):
    assert api.get(ADDRESS).json() == {"queue": [], "next": None, "previous": None}


def test_a_page_costs_one_query_however_many_rows_it_has(api: APIClient, make_row: RowFactory):
    def cost() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            listed(api, status=["queued", "running"])
        (selected,) = [query["sql"] for query in queries if "LIMIT 101" in query["sql"]]
        assert "DISTINCT" not in selected, "a sort of the whole table"
        return len(queries)

    make_row(status=Status.RUNNING)
    before = cost()
    for _ in range(5):
        make_row(status=Status.RUNNING)
    assert cost() == before
