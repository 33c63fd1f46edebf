"""Reports are named beside their numbers wherever people read of them."""

from __future__ import annotations

import logging
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.db import Error, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reportqueue import catalogue, queue
from reportqueue.models import Report
from reportqueue.states import Status
from tests.conftest import ClientFactory, build_row, build_schedule, minutes_ago
from tests.integration.test_admin_permissions import QUEUE, SCHEDULES, text_of

pytestmark = pytest.mark.django_db
PAUSES = "/admin/reportqueue/pause/"


@pytest.fixture(autouse=True)
def _weather() -> None:
    Report(report_id=7, name="Weather").save()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """The log, of commits that are immediate."""
    monkeypatch.setattr("reportqueue.database.on_commit", lambda call: call())
    caplog.set_level(logging.INFO, logger="reportqueue")
    return caplog


def test_the_log_names_the_report(lines: pytest.LogCaptureFixture):
    row = build_row(report_id=7, modifier_id=19, status=Status.FAILED)
    queue.requeue(row.pk)
    record = lines.records[-1]
    assert record.getMessage() == f"requeue: report {row.pk} (Weather (7), 19) failed -> queued"
    assert record.__dict__["report_name"] == "Weather"
    other = build_row(report_id=8, status=Status.FAILED)
    queue.requeue(other.pk)
    assert lines.messages[-1] == f"requeue: report {other.pk} (8, 2) failed -> queued"
    queue.claim(consumer="lane", limit=10)
    assert f"{row.pk} (Weather (7), 19)" in lines.messages[-1]


def test_the_log_does_not_ask_for_each_line(lines: pytest.LogCaptureFixture):
    def asked() -> int:
        with CaptureQueriesContext(connection) as captured:
            queue.cancel(build_row(report_id=7).pk)
        return sum('"reportqueue_catalogue"' in one["sql"] for one in captured)

    assert [asked(), asked()] == [1, 0]
    Report.objects.get().delete()
    assert asked() == 1, "this process has changed the catalogue"


def test_a_line_is_written_though_its_names_cannot_be_read(
    lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def fail(_: Any) -> None:
        raise Error

    monkeypatch.setattr(catalogue, "names", fail)
    row = build_row(report_id=7)
    queue.cancel(row.pk)
    assert lines.messages[-1] == f"cancel: report {row.pk} (7, 2) queued -> cancelled"


def test_titles_and_breadcrumbs_of_rows_and_schedules(admin_client: Client):
    row, schedule = build_row(report_id=7), build_schedule(report_id=7)
    for page in (f"{QUEUE}{row.pk}/change/", f"{QUEUE}{row.pk}/history/"):
        assert f"#{row.pk}: report Weather (7), modifier 2" in text_of(admin_client.get(page)), page
    for name in ("change", "history", "delete", "backfill"):
        page = text_of(admin_client.get(f"{SCHEDULES}{schedule.pk}/{name}/"))
        assert "report Weather (7), modifier 2: 0 0 1 1 *" in page, name
    refused = admin_client.post(f"{SCHEDULES}{schedule.pk}/change/", {"cron": "x"})
    assert "report Weather (7), modifier 2: 0 0 1 1 *" in text_of(refused)


def test_what_is_done_is_logged_under_the_name(admin_client: Client):
    row = build_row(report_id=7)
    admin_client.post(f"{QUEUE}{row.pk}/cancel/")
    assert LogEntry.objects.get().object_repr == f"#{row.pk}: report Weather (7), modifier 2"


def test_lists_ask_once_for_all_names(admin_client: Client):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            page = text_of(admin_client.get(QUEUE))
        assert "report Weather (7), modifier 2" in page  # the label of the box that selects the row
        return len(captured)

    build_row(report_id=7)
    one = queries()
    for _ in range(5):
        build_row(report_id=7)
    assert queries() == one


def test_the_list_of_pauses(admin_client: Client):
    queue.pause(report_id=7)
    assert "Report Weather (7)</a>" in text_of(admin_client.get(PAUSES))


def test_probes_and_the_terminal(client: Client, client_with: ClientFactory):
    queue.pause(report_id=7, by="ana")
    assert client.get("/status").json()["warnings"][0].startswith("Report Weather (7) is paused since ")
    assert client.get("/readyz").json()["paused"][0].startswith("Report Weather (7) is paused since ")
    assert "ana" not in client.get("/readyz").content.decode()
    (pause,) = client_with("view_reportqueue").get("/api/report-queue/pauses/").json()["pauses"]
    assert pause["report_name"] == "Weather"


def test_the_scheduler_says_what_it_would_queue_by_name():
    build_schedule(report_id=7, next_run_at=minutes_ago(1))
    out = StringIO()
    call_command("enqueue_due_reports", "--dry-run", stdout=out)
    assert "report Weather (7), modifier 2, schedule" in out.getvalue()


LISTS = {"report-queue/": "queue", "report-queue/?processed=any": "queue", "schedules/": "schedules"}


@pytest.mark.parametrize("asked", ["weather", "Weather", "7"])
def test_lists_of_the_api_are_filtered_by_name_or_number(client_with: ClientFactory, asked: str):
    api = client_with("view_reportqueue", "view_reportschedule")
    for report_id in (7, 8):
        build_row(report_id=report_id)
        build_row(report_id=report_id, status=Status.SUCCEEDED)
        build_schedule(report_id=report_id)
    for address, name in LISTS.items():
        found = api.get(f"/api/{address}{'&' if '?' in address else '?'}report={asked}")
        assert {one["report_id"] for one in found.json()[name]} == {7}, address


def test_a_name_that_no_report_has_is_refused(client_with: ClientFactory):
    answer = client_with("view_reportqueue").get("/api/report-queue/", {"report": "wether"})
    assert answer.status_code == 400
    assert answer.json()["errors"] == {"report": ["The catalogue has no report 'wether'."]}
    assert client_with("view_reportqueue").get("/api/report-queue/", {"report": "x\x00"}).status_code == 400


def test_the_search_box_finds_rows_by_a_part_of_the_name(admin_client: Client):
    named, other = build_row(report_id=7), build_row(report_id=8)
    page = text_of(admin_client.get(QUEUE, {"q": "weath"}))
    assert f"#{named.pk}:" in page
    assert f"#{other.pk}:" not in page
    assert "Nothing matches" in text_of(admin_client.get(QUEUE, {"q": "nothing"}))


def test_a_name_means_the_report_of_that_name_as_the_database_compares_names():
    """In capitals, a dotless i and an i are the same letter."""
    Report(report_id=8, name="s\N{LATIN SMALL LETTER DOTLESS I}x").save()
    Report(report_id=9, name="Six").save()
    assert catalogue.number_of("SIX") == 9
    assert catalogue.number_of("S\N{LATIN SMALL LETTER DOTLESS I}x") == 8
    assert catalogue.number_of("sin") is None
