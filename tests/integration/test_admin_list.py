"""The list of the queue in the admin: how one finds rows, and what that costs over a long history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from reportqueue import triggers
from reportqueue.admin.changelists import BoundedPaginator
from reportqueue.patterns import Pattern
from reportqueue.states import FINAL, Source, Status
from tests.conftest import RowFactory
from tests.integration.test_admin_permissions import (
    QUEUE,
    ScheduleFactory,
    messages_of,
    queries_of,
    staff,
    text_of,
)


@pytest.fixture
def viewer(db: None) -> Client:
    """The browser of somebody who may look."""
    return staff("view_reportqueue")


def found(client: Client, query: str) -> set[int]:
    """The rows that the list shows for the query."""
    response = client.get(f"{QUEUE}?{query}")
    assert response.status_code == 200, response.get("Location")
    return {row.pk for row in response.context["cl"].result_list}


def test_filters_by_status_source_and_processed(viewer: Client, make_row: RowFactory):
    rows = {status: make_row(status=status).pk for status in Status}
    api = make_row(source=Source.API).pk
    assert found(viewer, "status=failed") == {rows[Status.FAILED]}
    assert found(viewer, "source=api") == {api}
    assert found(viewer, "processed=yes") == {rows[status] for status in FINAL}
    assert found(viewer, "processed=no") == {api, *rows.values()} - {rows[status] for status in FINAL}
    assert found(viewer, "status=queued&source=api") == {api}


def test_filters_by_report_modifier_schedule_and_day(
    viewer: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    a = make_row(report_id=3, modifier_id=2014, trigger_time=midnight).pk
    b = make_row(report_id=3, modifier_id=2015, trigger_time=midnight - timedelta(seconds=1)).pk
    schedule = make_schedule()
    c = make_row(report_id=4, modifier_id=2014, trigger_time=midnight + timedelta(days=1), schedule=schedule).pk
    assert found(viewer, "report_id=3") == {a, b}
    assert found(viewer, "modifier_id=2014") == {a, c}
    assert found(viewer, "report_id=3&modifier_id=2014") == {a}
    assert found(viewer, "report_id=&modifier_id=") == {a, b, c}
    assert found(viewer, f"schedule={schedule.pk}") == {c}
    assert found(viewer, "due_from=2026-03-01&due_until=2026-03-01") == {a}
    assert found(viewer, "due_until=2026-02-28") == {b}
    assert f"Schedule {schedule.pk}" in text_of(viewer.get(f"{QUEUE}?schedule={schedule.pk}"))


@pytest.mark.parametrize(
    "query",
    [
        *("report_id=x", "report_id=-1", "report_id=99999999999999999999", "modifier_id=%00", "report_id=1e3"),
        *("due_from=tomorrow", "due_until=9999-12-31", "due_from=0001-01-01", "due_from=%00"),
    ],
)
def test_a_wrong_value_in_a_filter_finds_nothing_and_says_why(viewer: Client, make_row: RowFactory, query: str):
    make_row()
    assert found(viewer, query) == set()
    assert 'class="errorlist"' in text_of(viewer.get(f"{QUEUE}?{query}"))


@pytest.mark.parametrize(
    "query",
    [
        *("status=lost", "status=%00", "source=%00", "processed=maybe", "schedule=x", "schedule=%00", "schedule="),
        *("schedule=99999999999999999999", "run_id=%00", "run_id__startswith=a", "error__contains=x", "nothing=1"),
        "params__customer=1",
    ],
)
def test_an_address_that_means_nothing_is_not_taken_for_everything(viewer: Client, make_row: RowFactory, query: str):
    make_row()
    response = viewer.get(f"{QUEUE}?{query}", follow=True)
    if response.status_code != 400:
        assert response.redirect_chain == [(f"{QUEUE}?e=1", 302)]
        assert messages_of(response) == [
            "There is no such filter or page. This is the whole list; nothing was changed."
        ]


@pytest.mark.parametrize(
    "query", ["p=999", "p=0", "p=-5", "p=x", "p=" + "9" * 30, "o=99", "o=x", "o=3.2.1", "all=", "_facets"]
)
def test_an_odd_page_or_order_shows_the_list(viewer: Client, make_row: RowFactory, query: str):
    row = make_row()
    assert found(viewer, query) == {row.pk}


def test_search_by_number_name_and_run(viewer: Client, make_row: RowFactory, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    a = make_row(report_id=70, modifier_id=2014, idempotency_key="order 7").pk
    b = make_row(report_id=70, modifier_id=2015, schedule=schedule).pk
    c = make_row(report_id=71, modifier_id=2014, status=Status.RUNNING, run_id="0b1f2c3d-x").pk
    d = make_row(report_id=72, status=Status.RUNNING, run_id="12345678-x").pk
    for text, expected in {
        "70": {a, b},
        "report:70": {a, b},
        "REPORT:70 modifier:2014": {a},
        "modifier:2014": {a, c},
        f"#{b}": {b},
        f"id:{c}": {c},
        f"schedule:{schedule.pk}": {b},
        "0b1f2c3d": {c},
        "12345678": {d},
        "run:0b1f": {c},
        "run:1f2c": set(),
        "run:": set(),
        'run:""': set(),
        '"order 7"': {a},
        'key:"order 7"': {a},
        "key:order": set(),
        "70 71": set(),
    }.items():
        assert found(viewer, f"q={text.replace('#', '%23')}") == expected, text


@pytest.mark.parametrize(
    "text",
    [
        "9" * 19,
        "9" * 5000,
        "%00",
        "a%00b",
        "%F0%28",
        '"',
        "'",
        '""',
        "%",
        "_",
        "\\",
        "٣",
        "²",
        "-1",
        "run:",
        "key:",
        ":",
        "#",
        "a:b:c",
    ],
)
def test_any_search_text_is_answered(viewer: Client, make_row: RowFactory, text: str):
    make_row(report_id=3)
    found(viewer, f"q={text.replace('#', '%23')}")


@pytest.mark.parametrize(
    "text", ["report:x", "modifier:" + "9" * 30, "id:", "schedule:-1", "report:3.0", "id:٣", "a%00b"]
)
def test_a_search_that_cannot_be_meant_finds_nothing_and_says_why(viewer: Client, make_row: RowFactory, text: str):
    make_row(report_id=3)
    response = viewer.get(f"{QUEUE}?q={text}")
    assert list(response.context["cl"].result_list) == []
    (said,) = messages_of(response)
    why = ("whole number from 0 to 9223372036854775807", "Null characters", "neither a report's number nor a part of")
    assert any(one in said for one in why)


def test_the_empty_queue_says_where_rows_come_from(viewer: Client):
    assert "The queue is empty." in text_of(viewer.get(QUEUE))


def test_nothing_found_offers_the_whole_list(viewer: Client, make_row: RowFactory):
    make_row()
    listed = text_of(viewer.get(f"{QUEUE}?status=failed"))
    assert "Nothing matches." in listed
    assert "The queue is empty." not in listed


def test_the_list_takes_the_same_queries_however_many_rows(
    viewer: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    def fill(count: int) -> None:
        for status in Status:
            for _ in range(count):
                fields = {"result": {"artifacts": {"a": "/a"}}} if status == Status.SUCCEEDED else {}
                make_row(status=status, schedule=make_schedule(timezone="Europe/Paris"), error="Traceback", **fields)

    triggers.saw(Pattern.QUEUE, "lane")
    fill(1)
    few = queries_of(viewer, QUEUE)
    fill(3)
    # Session, user, permissions (2), standstill, consumers (5), pauses, routes (3), count, ids of the page, rows,
    # names, reports to choose from.
    assert len(queries_of(viewer, QUEUE)) == len(few) == 17


def test_the_list_does_not_read_what_it_does_not_show(viewer: Client, make_row: RowFactory):
    make_row()
    counting, merging, reading = queries_of(viewer, QUEUE)[-5:-2]
    for column in ("params", "error", "result"):
        assert f', "reportqueue_reportqueue"."{column}"' not in reading
    assert "LIMIT 10001" in counting
    assert "split_part(" in reading
    assert "split_part(" not in counting + merging
    assert ', "reportqueue_reportqueue"."report_id"' not in merging


def test_no_list_filter_asks_the_table_for_its_distinct_values(viewer: Client, make_row: RowFactory):
    make_row()
    table = '"reportqueue_reportqueue"'
    assert not [sql for sql in queries_of(viewer, QUEUE) if "DISTINCT" in sql and table in sql]


def test_rows_beyond_the_counted_ones_are_said_to_be_there(
    viewer: Client, make_row: RowFactory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(BoundedPaginator, "LIMIT", 2)
    for _ in range(3):
        make_row()
    listed = text_of(viewer.get(f"{QUEUE}?status=queued"))
    assert "the first 2 of more" in listed
    assert "More than 2 match." in listed
