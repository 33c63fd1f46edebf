"""The overview, on the admin's first page of the app: its numbers, its links, and what it costs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.db.models.functions import Now
from django.test import Client, RequestFactory

from project import demo_history
from reportqueue import measures, overview, queue, triggers
from reportqueue.admin import overview_page
from reportqueue.clock import database_now
from reportqueue.models import Depth, Report, ReportConsumer, ReportQueue, ReportSchedule
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from tests.conftest import build_row, build_schedule, minutes_ago
from tests.integration.test_admin_permissions import queries_of, staff, text_of

pytestmark = pytest.mark.django_db
PAGE = "/admin/reportqueue/"
QUEUE = f"{PAGE}reportqueue/"
STATEMENTS = 20


@pytest.fixture
def viewer() -> Client:
    return staff("view_reportqueue", "view_reportschedule", "view_report")


def tiles_of(client: Client) -> dict[str, tuple[str, str]]:
    """Each number of the page with the address of its list, by its label."""
    text = client.get(PAGE).content.decode()
    found = re.findall(
        r'<li><a href="([^"]+)"><span class="rq-tile-label">([^<]+)</span>\s*<strong[^>]*>([^<]+)</strong>', text
    )
    return {label: (count, address.replace("&amp;", "&")) for address, label, count in found}


def test_each_number_counts_the_rows_of_its_list(viewer: Client):
    build_row()
    build_row(available_at=minutes_ago(-5))
    build_row(generation=1, available_at=minutes_ago(-5))
    for status in (Status.CLAIMED, Status.DISPATCHED, Status.RUNNING):
        build_row(status=status)
    build_row(status=Status.RUNNING, deadline_at=minutes_ago(1))
    build_row(status=Status.RUNNING, deadline_at=minutes_ago(-5))
    build_row(status=Status.SUCCEEDED, deadline_at=minutes_ago(1))
    build_row(status=Status.FAILED, finished_at=minutes_ago(59))
    build_row(status=Status.FAILED, finished_at=minutes_ago(61))
    tiles = tiles_of(viewer)
    counts = {label: count for label, (count, _address) in tiles.items()}
    assert counts == {
        "Waiting": "1",
        "In flight": "5",
        "Late": "1",
        "Waiting for another try": "1",
        "Failed in the last hour": "1",
    }
    for count, address in tiles.values():
        response = viewer.get(address)
        assert len(response.context["cl"].result_list) == int(count), address


def test_the_rows_that_have_waited_for_long_are_a_list_of_their_own(viewer: Client):
    build_row(available_at=minutes_ago(0.5))
    late = build_row(available_at=minutes_ago(1.5))
    found = viewer.get(QUEUE, {"now": "long"}).context["cl"].result_list
    assert [row.pk for row in found] == [late.pk]
    assert "There is no such filter" in text_of(viewer.get(QUEUE, {"now": "yesterday"}, follow=True))


def test_it_says_for_how_long_the_oldest_has_waited(viewer: Client):
    build_row(available_at=minutes_ago(90), trigger_time=minutes_ago(95))
    build_row(available_at=minutes_ago(5))
    assert "the oldest for 1 h 30 min" in text_of(viewer.get(PAGE))


def test_what_is_wrong_and_what_is_paused_comes_first(viewer: Client):
    build_schedule()
    queue.pause(by="anna", note="wrong totals")
    text = text_of(viewer.get(PAGE))
    assert "Nobody claims reports, although schedules are enabled." in text
    assert re.search(r"The queue is paused since [-0-9: ]+ UTC by anna: wrong totals\.", text)
    queue.resume()
    triggers.saw(Pattern.QUEUE, "sensor-1", routes=["finance"])
    text = text_of(viewer.get(PAGE))
    assert "What is wrong or paused" not in text
    assert "sensor-1" in text
    assert "finance" in text


def test_a_consumer_that_has_gone_is_marked(viewer: Client):
    for name, minutes in (("here", 1), ("gone", 11)):
        triggers.saw(Pattern.QUEUE, name)
        ReportConsumer.objects.filter(name=name).update(seen_at=Now() - timedelta(minutes=minutes))
    page = viewer.get(PAGE).content.decode()
    assert len(re.findall(r'class="rq-time rq-late"', page)) == 1
    assert [one.gone for one in overview.overview().consumers] == [False, True]


def test_overdue_schedules_are_named_and_those_to_come_are_counted(viewer: Client):
    build_schedule(report_id=7, next_run_at=minutes_ago(10))
    for minutes in (-30, -31, -23 * 60):
        build_schedule(next_run_at=minutes_ago(minutes))
    build_schedule(next_run_at=minutes_ago(-25 * 60))
    seen = overview.overview()
    assert [one.report_id for one in seen.overdue] == [7]
    ahead = [(hour, count) for hour, count in seen.coming if hour > minutes_ago(61)]
    assert sum(count for _hour, count in ahead) >= 3
    assert all(hour.minute == 0 and hour.tzinfo == UTC for hour, _count in seen.coming)
    assert "10 min ago" in text_of(viewer.get(PAGE))


def test_without_the_permission_there_are_neither_rows_nor_schedules():
    assert "rq-overview" not in staff("view_report").get(PAGE).content.decode()
    build_schedule(next_run_at=minutes_ago(10))
    text = staff("view_reportqueue").get(PAGE).content.decode()
    assert "rq-now" in text
    assert "rq-overdue" not in text
    assert "rq-coming" not in text
    assert Client().get(PAGE).status_code == 302


def test_a_day_of_history_fills_the_charts_and_the_table(viewer: Client):
    Report(report_id=1, name="Weather").save()
    assert demo_history.fill(200) == 200
    page = viewer.get(PAGE, {"span": "24h"})
    text = text_of(page)
    assert "Weather (1)" in text
    failed = ReportQueue.objects.filter(status=Status.FAILED).count()
    assert failed >= 4
    assert f"{200 - failed} succeeded, {failed} failed" in text
    seen = page.content.decode()
    assert seen.count("<polyline") >= 1
    assert seen.count('class="rq-chart-good"') > 5
    for span in ("1h", "6h", "7d", "next year", ""):
        assert viewer.get(PAGE, {"span": span}).status_code == 200


def test_a_gap_in_the_counts_is_a_gap_in_the_line(viewer: Client):
    from reportqueue.admin import charts

    begin = datetime(2026, 6, 1, tzinfo=UTC)
    depths = [
        Depth(start=begin + timedelta(minutes=5 * place), waiting=count, in_flight=count, late=0)
        for place, count in enumerate([1, 2, None, 4, 5, None, 3])
    ]
    drawn = charts.lines(depths, begin, begin + timedelta(minutes=35))
    assert len(drawn.waiting) == 2  # a point alone is no line
    assert drawn.highest == 5


def test_the_page_says_so_if_the_database_is_too_slow(viewer: Client, monkeypatch: pytest.MonkeyPatch):
    def too_slow() -> None:
        raise OperationalError("canceling statement due to statement timeout")

    monkeypatch.setattr(overview, "overview", too_slow)
    page = viewer.get(PAGE)
    assert page.status_code == 200
    assert "The database does not answer in time. canceling statement" in text_of(page)
    assert "Report queue" in text_of(page)


def test_it_costs_the_same_number_of_statements_however_much_there_is(admin_client: Client):
    empty = queries_of(admin_client, PAGE)
    demo_history.fill(300)
    for number in range(30):
        Report(report_id=number, name=f"report {number}").save()
        build_row(report_id=number, modifier_id=number)
        build_row(report_id=number, status=Status.FAILED, fingerprint=f"{number:016x}", error="Error")
        build_schedule(next_run_at=minutes_ago(10 - number))
        triggers.saw(Pattern.QUEUE, f"sensor-{number}", routes=[f"route-{number}"])
    ReportConsumer.objects.update(seen_at=minutes_ago(30))
    full = queries_of(admin_client, PAGE)
    assert "Nobody claims reports" in text_of(admin_client.get(PAGE))
    assert len(full) <= len(empty) + 4  # names, groups of failures, why a consumer is expected
    # The test's own transaction needs one more, which ends the page's settings.
    assert len(full) - 1 <= STATEMENTS, "\n".join(full)


def test_another_admin_site_has_links_of_its_own():
    site = AdminSite(name="other")
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root")
    request.current_app = site.name  # type: ignore[attr-defined]
    shown = overview_page.context(request)
    assert shown is not None
    assert shown["tiles"][0].address.startswith(QUEUE)  # the default site, since the other has no such pages


def test_the_numbers_are_bounded(viewer: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(overview, "COUNTED", 2)
    for _ in range(3):
        build_row()
    assert tiles_of(viewer)["Waiting"][0] == "2 or more"


def test_no_statement_of_the_page_reads_the_whole_queue(viewer: Client):
    """With sequential scans made very expensive, every plan goes by an index."""
    from django.test.utils import CaptureQueriesContext

    demo_history.fill(100)
    with CaptureQueriesContext(connection) as seen:
        viewer.get(PAGE)
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        for one in seen.captured_queries:
            if "reportqueue_reportqueue" in one["sql"] and one["sql"].startswith("SELECT"):
                cursor.execute(f"EXPLAIN {one['sql']}")
                plan = "\n".join(line for (line,) in cursor.fetchall())
                assert "Seq Scan on reportqueue_reportqueue" not in plan, plan


def test_measures_are_those_of_the_span(viewer: Client):
    demo_history.fill(300)
    counted = {
        span.name: sum(one.total for one in overview.history(span, database_now()).reports) for span in measures.SPANS
    }
    assert 0 < counted["1h"] <= counted["6h"] < counted["24h"] <= counted["7d"] == 300


def test_the_history_is_for_an_empty_queue():
    from io import StringIO

    from django.core.management import CommandError, call_command

    out = StringIO()
    call_command("fill_history", "--rows", "20", stdout=out)
    assert "20 reports of the last 24 hours were made up." in out.getvalue()
    with pytest.raises(CommandError, match="has rows already"):
        call_command("fill_history")
    call_command("fill_history", "--if-empty")
    assert ReportQueue.objects.count() == 20
    assert not ReportSchedule.objects.exists()
