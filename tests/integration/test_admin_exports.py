"""Lists as CSV: what is exported, to whom, and what it costs."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from reportqueue.admin import exports
from reportqueue.admin.exports import cell
from reportqueue.models import Report, ReportQueue
from reportqueue.states import FINAL, Source, Status
from tests.conftest import RowFactory, minutes_ago
from tests.integration.test_admin_permissions import QUEUE, SCHEDULES, ScheduleFactory, queries_of, staff, text_of


@pytest.fixture
def viewer(db: None) -> Client:
    """The browser of somebody who may look."""
    return staff("view_reportqueue", "view_reportschedule")


def table(client: Client, address: str) -> list[dict[str, str]]:
    """The lines of an export by their columns."""
    answer = client.get(address)
    assert answer.status_code == 200, answer
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    text = b"".join(answer.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def exported(client: Client, query: str = "", base: str = QUEUE) -> list[int]:
    """The ids of an export, in its order."""
    key = "queue_id" if base == QUEUE else "schedule_id"
    return [int(line[key]) for line in table(client, f"{base}export/?{query}")]


def fill(count: int) -> None:
    """Many finished rows."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ReportQueue.objects.bulk_create(
        [
            ReportQueue(
                report_id=1,
                modifier_id=number,
                trigger_time=start + timedelta(seconds=number // 3),
                available_at=start,
                status=Status.SUCCEEDED if number % 2 else Status.FAILED,
                finished_at=start,
                params={"number": number},
            )
            for number in range(count)
        ],
        batch_size=2_000,
    )


def test_a_row_has_the_names_of_the_api_and_instants_in_utc(viewer: Client, make_row: RowFactory):
    Report.objects.create(report_id=3, name="Weather")
    due = datetime(2026, 3, 1, 8, tzinfo=UTC)
    row = make_row(
        report_id=3,
        modifier_id=2014,
        status=Status.FAILED,
        trigger_time=due,
        priority=-5,
        params={"year": 2014, "name": "Zürich"},
        result=[1, None],
        error="Traceback\n  ...\nValueError: no such year\n",
    )
    (line,) = table(viewer, f"{QUEUE}export/")
    assert list(line) == list(exports.ROWS)
    assert set(line) - {"modifier_name"} <= set(viewer_fields())
    assert line["queue_id"] == str(row.pk)
    assert (line["report_id"], line["report_name"], line["modifier_id"]) == ("3", "Weather", "2014")
    assert (line["status"], line["priority"], line["trigger_time"]) == ("failed", "-5", "2026-03-01T08:00:00Z")
    assert line["error"] == "ValueError: no such year"
    assert json.loads(line["params"]) == {"year": 2014, "name": "Zürich"}
    assert json.loads(line["result"]) == [1, None]
    assert line["schedule_id"] == line["claimed_at"][:0] == ""


def viewer_fields() -> list[str]:
    """The names that the API has for the fields of a row."""
    from reportqueue.api.serializers.queue import ItemSerializer

    return list(ItemSerializer.Meta.fields)


def test_a_schedule_has_its_own_columns(viewer: Client, make_schedule: ScheduleFactory):
    from reportqueue.api.serializers.schedules import ScheduleSerializer

    schedule = make_schedule(cron="0 6 * * *", timezone="Europe/Paris", params={"a": 1})
    (line,) = table(viewer, f"{SCHEDULES}export/")
    assert set(line) - {"report_name", "modifier_name"} <= set(ScheduleSerializer.Meta.fields)
    assert (line["schedule_id"], line["cron"], line["timezone"]) == (str(schedule.pk), "0 6 * * *", "Europe/Paris")
    assert (line["enabled"], line["params"], line["calendar_id"]) == ("true", '{"a": 1}', "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("a=1", "a=1"),
        ("", ""),
        (-1, -1),
        (-1.5, -1.5),
        (None, ""),
        (True, "true"),
        (False, "false"),
        ([1, "=1"], '[1, "=1"]'),
        (datetime(2026, 3, 1, 9, tzinfo=UTC), "2026-03-01T09:00:00Z"),
    ],
)
def test_a_cell_is_no_formula(value: Any, expected: Any):
    assert cell(value) == expected


def test_texts_of_strangers_are_no_formulas(viewer: Client, make_row: RowFactory):
    make_row(status=Status.FAILED, error="Traceback\n=cmd|' /C calc'!A0", idempotency_key="@key", result="=1+1")
    (line,) = table(viewer, f"{QUEUE}export/")
    assert line["error"] == "'=cmd|' /C calc'!A0"
    assert line["idempotency_key"] == "'@key"
    assert line["result"] in ('"=1+1"', "'=1+1")


def test_the_filters_the_search_and_the_order_of_the_list_hold(
    viewer: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    rows = {status: make_row(status=status, trigger_time=minutes_ago(n)).pk for n, status in enumerate(Status)}
    api = make_row(source=Source.API, report_id=70, trigger_time=minutes_ago(60)).pk
    assert exported(viewer) == [*rows.values(), api]
    assert exported(viewer, "status=failed") == [rows[Status.FAILED]]
    assert set(exported(viewer, "processed=yes")) == {rows[status] for status in FINAL}
    assert exported(viewer, "q=report:70") == exported(viewer, "source=api") == [api]
    assert exported(viewer, "q=nothing") == exported(viewer, "q=report:x") == []
    assert exported(viewer, "o=0") == sorted([*rows.values(), api])
    assert exported(viewer, "o=-0") == sorted([*rows.values(), api], reverse=True)
    assert exported(viewer, "o=4") == [api, *reversed(rows.values())]
    schedules = [make_schedule(report_id=n % 2, priority=n).pk for n in range(4)]
    assert exported(viewer, "report_id=1", SCHEDULES) == [schedules[1], schedules[3]]
    for order in ("o=4", "o=-4", "o=3.-5", "o=0.1.2"):
        assert sorted(exported(viewer, order, SCHEDULES)) == schedules


def test_the_link_keeps_the_filters_and_leaves_the_page(viewer: Client, make_row: RowFactory):
    make_row()
    page = text_of(viewer.get(f"{QUEUE}?status=queued&p=1&o=1"))
    assert f'<a href="{QUEUE}export/?status=queued&o=1">Export as CSV</a>' in page
    assert f'<a href="{SCHEDULES}export/">Export as CSV</a>' in text_of(viewer.get(SCHEDULES))


def test_an_address_that_means_nothing_is_not_taken_for_everything(viewer: Client, make_row: RowFactory):
    make_row()
    for query in ("status=lost", "nothing=1", "schedule=x"):
        answer = viewer.get(f"{QUEUE}export/?{query}")
        assert (answer.status_code, answer["Location"]) == (302, f"{QUEUE}?e=1")


def test_an_export_needs_the_permission_of_its_list(db: None):
    assert Client().get(f"{QUEUE}export/").status_code == 302
    assert staff("view_reportschedule").get(f"{QUEUE}export/").status_code == 403
    assert staff("view_reportqueue").get(f"{SCHEDULES}export/").status_code == 403
    assert staff("view_reportqueue").post(f"{QUEUE}export/").status_code == 405


def test_the_file_has_the_date_in_its_name(viewer: Client):
    name = viewer.get(f"{QUEUE}export/")["Content-Disposition"]
    assert name == f'attachment; filename="reportqueue-{datetime.now(UTC):%Y-%m-%d}.csv"'


@pytest.mark.parametrize("most", [5, 7, 9])
def test_a_longer_list_is_cut_and_says_so(viewer: Client, monkeypatch: pytest.MonkeyPatch, most: int):
    monkeypatch.setattr(exports, "BATCH", 3)
    monkeypatch.setattr(exports, "MAX_ROWS", most)
    fill(9)
    lines = table(viewer, f"{QUEUE}export/")
    assert len(lines) == most + (most < 9)
    if most < 9:
        assert lines[-1]["queue_id"] == f"The list is longer: this file has its first {most} rows."


def test_memory_stays_flat_however_long_the_list(viewer: Client):
    fill(2_000)
    few = peak(viewer, 2_000)
    fill(20_000 - 2_000)
    assert peak(viewer, 20_000) < 1.2 * few


def peak(client: Client, expected: int) -> int:
    """The most memory that the export of so many rows needs at once."""
    answer = client.get(f"{QUEUE}export/")
    tracemalloc.start()
    lines = sum(chunk.count(b"\r\n") for chunk in answer.streaming_content)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lines == 1 + expected  # with the header
    return most


def test_rows_are_read_when_the_answer_is_sent(viewer: Client):
    fill(2_500)
    assert len(queries_of(viewer, f"{QUEUE}export/")) < 20  # those of one page
    assert exported(viewer) == list(ReportQueue.objects.order_by("-trigger_time", "-id").values_list("pk", flat=True))
