"""A row's own page: its road as a picture, and the rows before and after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from reportqueue.admin import road
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row, build_schedule, minutes_ago
from tests.integration.test_admin_permissions import staff, text_of

pytestmark = pytest.mark.django_db
QUEUE = "/admin/reportqueue/reportqueue/"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def row_of(**fields: Any) -> ReportQueue:
    base: dict[str, Any] = {"trigger_time": NOON, "created_at": at(-60), "available_at": NOON}
    return ReportQueue(**{**base, **fields})


def shown(row: ReportQueue, now: datetime) -> list[tuple[str, str]]:
    return [(part.kind, part.took) for part in road.parts(row, now)]


def test_each_part_ends_with_what_happened():
    row = row_of(status=Status.SUCCEEDED, claimed_at=at(5), dispatched_at=at(6), started_at=at(16), finished_at=at(136))
    assert shown(row, at(500)) == [
        ("due", "1 min"),
        ("claimed", "5 s"),
        ("dispatched", "1 s"),
        ("started", "10 s"),
        ("finished", "2 min"),
    ]


def test_a_row_on_its_way_goes_on_until_now():
    row = row_of(status=Status.RUNNING, claimed_at=at(5), dispatched_at=at(5), started_at=at(10))
    assert shown(row, at(70)) == [("due", "1 min"), ("claimed", "5 s"), ("started", "5 s"), ("now", "1 min")]


def test_a_row_that_is_not_due_yet_has_no_future_in_its_picture():
    row = row_of(status=Status.QUEUED, trigger_time=at(600), available_at=at(600))
    assert shown(row, at(0)) == [("now", "1 min")]


def test_the_parts_fill_the_picture_and_none_is_too_small_to_see():
    row = row_of(
        status=Status.SUCCEEDED, claimed_at=at(0.001), dispatched_at=at(0.002), started_at=at(1), finished_at=at(9_000)
    )
    parts = road.parts(row, at(9_000))
    assert all(part.width >= road.SMALLEST for part in parts)
    assert parts[-1].x + parts[-1].width == pytest.approx(road.WIDTH, abs=1)
    assert [round(one.x + one.width, 0) for one in parts[:-1]] == pytest.approx([one.x for one in parts[1:]], abs=1)


def test_a_row_without_any_time_has_no_picture():
    assert road.picture(row_of(status=Status.SKIPPED, created_at=NOON, finished_at=NOON), NOON) == "-"


def test_the_page_shows_the_road_and_the_same_as_a_list():
    row = build_row(status=Status.SUCCEEDED, finished_at=minutes_ago(0))
    page = staff("view_reportqueue").get(f"{QUEUE}{row.pk}/change/").content.decode()
    assert "<rect" in page
    assert "finished after" in text_of(staff("view_reportqueue").get(f"{QUEUE}{row.pk}/change/"))
    assert "style=" not in page


def test_the_neighbours_are_those_of_its_schedule():
    schedule, other = build_schedule(), build_schedule()
    rows = [build_row(schedule=schedule, trigger_time=minutes_ago(minutes)) for minutes in (30, 20, 10)]
    build_row(schedule=other, trigger_time=minutes_ago(25))
    build_row(trigger_time=minutes_ago(15))
    assert road.neighbours(rows[1]) == (rows[0], rows[2])
    assert road.neighbours(rows[0]) == (None, rows[1])
    assert road.neighbours(rows[2]) == (rows[1], None)


def test_without_a_schedule_they_are_those_of_its_report_and_modifier():
    rows = [build_row(report_id=7, modifier_id=3, trigger_time=at(seconds)) for seconds in range(3)]
    build_row(report_id=7, modifier_id=4, trigger_time=NOON)
    assert road.neighbours(rows[1]) == (rows[0], rows[2])
    client: Client = staff("view_reportqueue")
    page = client.get(f"{QUEUE}{rows[1].pk}/change/").content.decode()
    for neighbour in (rows[0], rows[2]):
        assert f"{QUEUE}{neighbour.pk}/change/" in page


def test_who_queued_it_is_on_the_page():
    row = build_row(queued_by="anna (token crm)")
    assert "anna (token crm)" in text_of(staff("view_reportqueue").get(f"{QUEUE}{row.pk}/change/"))
