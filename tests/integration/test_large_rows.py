"""Rows of 64 KiB: a page and a claim end once they have enough bytes, and what follows is complete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rest_framework.test import APIClient

from reportqueue import bounds, queue
from reportqueue.models import ReportAttempt, ReportQueue, ReportSchedule
from reportqueue.states import Outcome
from tests.conftest import ClientFactory, RowFactory, minutes_ago

LARGE = {"text": "x" * (bounds.MAX_JSON_BYTES - 20)}
ROWS = 350
MOST = bounds.MAX_ANSWER_BYTES + (bounds.ROWS_AT_ONCE + 1) * 2 * bounds.MAX_JSON_BYTES
"""The bytes of an answer, with the rows that were read last."""


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with("view_reportqueue", "view_reportschedule", "consume_reportqueue")


@pytest.fixture
def large_rows(db: None) -> list[int]:
    """The ids of many large rows in claim order."""
    then = minutes_ago(1)
    new = {"report_id": 1, "modifier_id": 2, "trigger_time": then, "available_at": then, "params": LARGE}
    return [row.pk for row in ReportQueue.objects.bulk_create([ReportQueue(**new) for _ in range(ROWS)])]


def walk(api: APIClient, address: str | None, direction: str) -> Iterator[dict[str, Any]]:
    """The pages from there on."""
    while address:
        answer = api.get(address)
        assert answer.status_code == 200
        assert len(answer.content) <= MOST
        yield (page := answer.json())
        address = page[direction]


def ids(page: dict[str, Any]) -> list[int]:
    return [row["queue_id"] for row in page["queue"]]


def test_a_page_of_large_rows_ends_early_and_the_pages_are_complete(api: APIClient, large_rows: list[int]):
    forwards = list(walk(api, "/api/report-queue/?limit=1000", "next"))
    assert [pk for page in forwards for pk in ids(page)] == large_rows
    assert len(forwards) > 1
    assert min(len(page["queue"]) for page in forwards[:-1]) * bounds.MAX_JSON_BYTES >= bounds.MAX_ANSWER_BYTES
    before_the_last = large_rows[: -len(forwards[-1]["queue"])]
    backwards = list(walk(api, forwards[-1]["previous"], "previous"))
    assert [pk for page in reversed(backwards) for pk in ids(page)] == before_the_last
    assert len(backwards) > 1


def test_a_list_of_large_schedules_ends_early(api: APIClient):
    schedule = {"report_id": 1, "modifier_id": 2, "cron": "0 0 1 1 *", "params": LARGE}
    ReportSchedule.objects.bulk_create([ReportSchedule(**schedule) for _ in range(ROWS)])
    answer = api.get("/api/schedules/?limit=1000")
    assert len(answer.content) <= MOST
    first = answer.json()
    following = api.get(first["next"]).json()
    found = [one["schedule_id"] for one in (*first["schedules"], *following["schedules"])]
    assert len(first["schedules"]) < ROWS
    assert found == sorted(set(found))


def test_a_page_of_small_rows_has_its_whole_limit(api: APIClient, make_row: RowFactory):
    rows = [make_row().pk for _ in range(250)]
    page = api.get("/api/report-queue/?limit=240").json()
    assert ids(page) == rows[:240]
    assert ids(api.get(page["next"]).json()) == rows[240:]
    exact = api.get("/api/report-queue/?limit=250").json()
    assert (len(exact["queue"]), exact["next"]) == (250, None)


def test_a_claim_of_large_rows_ends_early_and_the_next_one_goes_on(api: APIClient, large_rows: list[int]):
    found: list[int] = []
    ack = None
    for _ in range(10):
        body = {"consumer": "sensor", "limit": 1000, "ack": ack}
        answer = api.post("/api/report-queue/claim/", body, format="json")
        assert len(answer.content) <= MOST
        claim = answer.json()
        if ack is None:  # until it is acknowledged, the whole claim comes again
            again = api.post("/api/report-queue/claim/", body, format="json").json()
            assert ids(again) == ids(claim)
            assert len(claim["queue"]) < ROWS
        found += ids(claim)
        if (ack := claim["claim_id"]) is None:
            break
    assert found == large_rows


def test_a_claim_of_small_rows_has_its_whole_limit(make_row: RowFactory):
    rows = [make_row().pk for _ in range(250)]
    assert [row.pk for row in queue.claim("sensor", limit=240).rows] == rows[:240]


def test_a_row_shows_its_newest_attempts(api: APIClient, make_row: RowFactory):
    row = make_row()
    many = bounds.MAX_ATTEMPTS_SHOWN + 3
    ended = {"outcome": Outcome.FAILED, "started_at": minutes_ago(1), "finished_at": minutes_ago(1)}
    ReportAttempt.objects.bulk_create(
        ReportAttempt(queue=row, generation=n, attempt=1, run_id=f"run-{n}", lease_token=f"{n:032x}", **ended)
        for n in range(1, many + 1)
    )
    shown = [attempt["generation"] for attempt in api.get(f"/api/report-queue/{row.pk}/").json()["attempts"]]
    assert shown == list(range(4, many + 1))
