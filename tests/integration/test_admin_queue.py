"""The queue in the admin: what the list and a row's own page show."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import translation

from reportqueue.admin.queue import ATTEMPTS_SHOWN
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.states import Outcome, Source, Status
from tests.conftest import RowFactory, minutes_ago
from tests.integration.test_admin_permissions import QUEUE, ScheduleFactory, queries_of, staff, text_of

TRACEBACK = "Traceback (most recent call last):\n" + "  File x\n" * 500 + "ValueError: no <year> 1800"


@pytest.fixture
def viewer(db: None) -> Client:
    """The browser of somebody who may look."""
    return staff("view_reportqueue")


def page_of(client: Client, row: ReportQueue) -> str:
    """The row's own page."""
    return text_of(client.get(f"{QUEUE}{row.pk}/change/"))


@pytest.mark.parametrize("status", Status)
def test_every_status_has_a_word_and_a_sign_in_the_list(viewer: Client, make_row: RowFactory, status: Status):
    make_row(status=status)
    (badge,) = re.findall(
        r'<span class="rq-status rq-(\w+)"><span aria-hidden="true">(.+?)</span> (\w+)', text_of(viewer.get(QUEUE))
    )
    assert badge[0] == status
    assert badge[1] != "•", "every status has its own sign"
    assert badge[2] == status.label


def test_the_list_shows_utc_and_the_schedule_s_own_clock(
    viewer: Client, make_row: RowFactory, make_schedule: ScheduleFactory, settings: Any
):
    settings.TIME_ZONE = "Asia/Kolkata"  # the project's display zone is neither
    due = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    row = make_row(trigger_time=due, schedule=make_schedule(timezone="America/New_York"))
    for page in (text_of(viewer.get(QUEUE)), page_of(viewer, row)):
        assert "2026-07-01 12:00:00" in page
        assert "Wed 2026-07-01 08:00 EDT" in page


def test_a_zone_that_this_machine_lacks_does_not_take_the_list_down(
    viewer: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    schedule = make_schedule()
    type(schedule).objects.filter(pk=schedule.pk).update(timezone="Mars/Olympus")
    row = make_row(schedule=schedule)
    assert viewer.get(QUEUE).status_code == 200
    assert viewer.get(f"{QUEUE}{row.pk}/change/").status_code == 200


def test_lateness_is_readable_and_a_late_row_stands_out(viewer: Client, make_row: RowFactory):
    make_row(trigger_time=minutes_ago(2.09), available_at=minutes_ago(2.09))
    listed = text_of(viewer.get(QUEUE))
    assert re.search(r'<strong class="rq-late" title="[^"]+">2 min [5-9] s late</strong>', listed)
    assert "Bold: it has been due for more than a minute and has not started" in listed


def test_a_row_that_is_not_due_yet_says_when(viewer: Client, make_row: RowFactory):
    make_row(trigger_time=minutes_ago(-3.5), available_at=minutes_ago(-3.5))
    assert re.search(r"due in 3 min \d+ s", text_of(viewer.get(QUEUE)))


def test_params_are_on_the_row_s_page_alone(viewer: Client, make_row: RowFactory):
    row = make_row(params={"customer": "Ünique & Söhne"}, result={"note": "secretish"}, idempotency_key="order-7")
    listed = text_of(viewer.get(QUEUE))
    assert "Ünique" not in listed
    assert "secretish" not in listed
    page = page_of(viewer, row)
    assert '"customer": "Ünique & Söhne"' in page
    assert "secretish" in page
    assert "order-7" in page


def test_the_lease_token_is_on_no_page(viewer: Client, make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    assert str(row.lease_token) not in text_of(viewer.get(QUEUE)) + page_of(viewer, row)


def test_an_error_shows_its_last_line_in_the_list_and_all_of_it_on_the_page(viewer: Client, make_row: RowFactory):
    row = make_row(status=Status.FAILED, error=TRACEBACK)
    listed, page = text_of(viewer.get(QUEUE)), page_of(viewer, row)
    assert "ValueError: no &lt;year&gt; 1800" in listed
    assert "Traceback" not in listed
    assert "Traceback (most recent call last):" in page
    assert "<year>" not in page


@pytest.mark.parametrize("ending", ["", "\n", "\n  \r\n"])
def test_the_list_shows_the_begin_of_a_long_last_line_in_whole_words(viewer: Client, make_row: RowFactory, ending: str):
    make_row(status=Status.FAILED, error=f"Traceback:\n  File x\nSourceError: the ledger {'of November ' * 40}{ending}")
    listed = text_of(viewer.get(QUEUE))
    (shown,) = re.findall(r"SourceError: [^<]*", listed)
    assert re.fullmatch(r"SourceError: the ledger (of November )+of( November)?…", shown)
    assert len(shown) <= 120


def test_routes_are_shown_unless_they_are_the_default_and_filter_the_list(viewer: Client, make_row: RowFactory):
    make_row()
    assert "By route" not in text_of(viewer.get(QUEUE)), "there is one"
    row = make_row(route="finance", priority=5)
    listed = text_of(viewer.get(QUEUE))
    assert 'Code<span class="rq-below">route finance</span><span class="rq-below">priority 5</span>' in listed
    assert "route default" not in listed
    assert re.search(r"By route.*\?route=default.*\?route=finance", listed, re.DOTALL)
    response = viewer.get(f"{QUEUE}?route=finance")
    assert [found.pk for found in response.context["cl"].result_list] == [row.pk]
    assert "Nothing matches" in text_of(viewer.get(f"{QUEUE}?route=gone")), "a link may name one that has no rows now"
    assert viewer.get(f"{QUEUE}?route=A").status_code == 302


def test_reports_are_counted_below_the_list_of_the_report_queue(viewer: Client, make_row: RowFactory):
    make_row()
    assert re.search(r"1 queued report\s", text_of(viewer.get(QUEUE)))
    make_row()
    page = text_of(viewer.get(QUEUE))
    assert "2 queued reports" in page
    assert "<h1>Report queue</h1>" in page
    assert "queued reports</" not in page, "neither the title nor the breadcrumbs are changed"


def test_the_api_user_is_shown_if_there_is_one(viewer: Client, make_row: RowFactory):
    assert "API user" not in page_of(viewer, make_row())
    assert "API user" in page_of(viewer, make_row(status=Status.RUNNING, api_user="4711"))


def test_the_list_has_the_attempts_with_the_run(viewer: Client, make_row: RowFactory):
    make_row(status=Status.FAILED)
    assert "attempt 1 of 3" in text_of(viewer.get(QUEUE))


def test_a_row_that_waits_for_another_says_so_with_a_link_and_is_not_called_late(
    viewer: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    schedule = make_schedule(overlap="queue_one")
    earlier = make_row(schedule=schedule, status=Status.RUNNING)
    then = {"trigger_time": minutes_ago(30), "available_at": minutes_ago(30)}
    row = make_row(schedule=schedule, waiting=True, **then)
    for page in (text_of(viewer.get(f"{QUEUE}?q=id:{row.pk}")), page_of(viewer, row)):
        assert f'waits until <a href="{QUEUE}{earlier.pk}/change/">#{earlier.pk}</a> has ended' in page
        assert '<strong class="rq-late"' not in page
    assert text_of(viewer.get(QUEUE)).count("waits until") == 1


@pytest.mark.parametrize(
    ("result", "counted"),
    [
        ({"reason": "misfire", "count": 1234, "complete": True}, "Skipped, 1,234 firings<"),
        ({"reason": "misfire", "count": 10000, "complete": False}, "Skipped, 10,000 firings or more<"),
        ({"reason": "overlap", "count": 1}, "Skipped<"),
        ({"count": "<b>"}, "Skipped<"),
        ({"count": True}, "Skipped<"),
        ({"count": None}, "Skipped<"),
        ([1], "Skipped<"),
        (None, "Skipped<"),
    ],
)
def test_a_skipped_row_says_how_many_firings_it_stands_for_and_why(
    viewer: Client, make_row: RowFactory, result: Any, counted: str
):
    why = "Skipped 1,234 firings from 2026-01-05T00:00:00Z to 2026-01-05T20:33:00Z: missed while no scheduler ran."
    row = make_row(status=Status.SKIPPED, result=result, error=why)
    for page in (text_of(viewer.get(QUEUE)), page_of(viewer, row)):
        assert f"»</span> {counted}" in page
        assert why in page


def test_a_count_in_the_result_of_a_row_that_ran_is_its_own_affair(viewer: Client, make_row: RowFactory):
    row = make_row(status=Status.SUCCEEDED, result={"count": 7})
    for page in (text_of(viewer.get(QUEUE)), page_of(viewer, row)):
        assert "7 firings" not in page


def test_backfills_are_a_source_to_filter_by(viewer: Client, make_row: RowFactory):
    make_row()
    row = make_row(source=Source.BACKFILL)
    response = viewer.get(f"{QUEUE}?source=backfill")
    assert [found.pk for found in response.context["cl"].result_list] == [row.pk]
    assert "Backfill" in page_of(viewer, row)


def test_a_row_s_page_tells_its_attempts_latest_first(viewer: Client, make_row: RowFactory):
    row = make_row(status=Status.FAILED)
    first = row.attempts.get()
    ReportAttempt.objects.filter(pk=first.pk).update(
        outcome=Outcome.EXPIRED, error=TRACEBACK, progress="step 2 of 5", run_id="first", worker="host-7:123"
    )
    ReportAttempt.objects.create(
        queue=row, generation=2, attempt=2, run_id="second", lease_token=uuid4(), started_at=minutes_ago(0)
    )
    page = page_of(viewer, row)
    assert page.index("second") < page.index("first")
    for part in (
        "Lease expired",
        "step 2 of 5",
        "host-7:123",
        "<details><summary>ValueError: no &lt;year&gt; 1800",
        "Running",
        "<td>2</td><td>2</td>",
        '<tr><td></td><td colspan="6"><details>',
    ):
        assert part in page


def test_a_long_history_of_attempts_is_bounded(viewer: Client, make_row: RowFactory):
    row = make_row(status=Status.FAILED)
    then = minutes_ago(1)
    ReportAttempt.objects.bulk_create(
        ReportAttempt(
            queue=row, generation=1, attempt=1, run_id=f"old-{n}-", lease_token=uuid4(), started_at=then,
            finished_at=then, outcome=Outcome.FAILED,
        )
        for n in range(ATTEMPTS_SHOWN + 1)
    )  # fmt: skip
    page = page_of(viewer, row)
    assert page.count('title="old-') == ATTEMPTS_SHOWN
    assert "Older attempts are not shown." in page


def test_the_timeline_names_every_instant_once_it_has_come(viewer: Client, make_row: RowFactory):
    assert "claimed</th>" not in page_of(viewer, make_row())
    page = page_of(viewer, make_row(status=Status.RUNNING))
    for name in ("due", "enqueued", "available", "claimed by sensor", "dispatched", "started", "lease until"):
        assert f'<th scope="row">{name}</th>' in page


def test_a_run_is_a_link_to_dagster(viewer: Client, make_row: RowFactory, settings: Any):
    settings.REPORTQUEUE = {"RUN_URL": "https://dagster.example.com/runs/{run_id}"}
    row = make_row(status=Status.RUNNING, run_id="0b1f2c3d-1111")
    for page in (text_of(viewer.get(QUEUE)), page_of(viewer, row)):
        assert 'href="https://dagster.example.com/runs/0b1f2c3d-1111"' in page


def test_the_link_may_name_the_consumer(viewer: Client, make_row: RowFactory, settings: Any):
    settings.REPORTQUEUE = {"RUN_URL": "https://{consumer}.example.com/runs/{run_id}"}
    row = make_row(status=Status.RUNNING, run_id="{consumer}", claimed_by="eu/{run_id}")
    for page in (text_of(viewer.get(QUEUE)), page_of(viewer, row)):
        assert 'href="https://eu%2F%7Brun_id%7D.example.com/runs/%7Bconsumer%7D"' in page


def test_a_run_id_cannot_leave_its_place_in_the_link(viewer: Client, make_row: RowFactory, settings: Any):
    settings.REPORTQUEUE = {"RUN_URL": "https://dagster.example.com/runs/{run_id}"}
    make_row(status=Status.RUNNING, run_id='../../x?y#"><script>')
    listed = text_of(viewer.get(QUEUE))
    assert 'href="https://dagster.example.com/runs/..%2F..%2Fx%3Fy%23%22%3E%3Cscript%3E"' in listed


def test_without_a_run_url_the_id_is_text(viewer: Client, make_row: RowFactory, settings: Any):
    settings.REPORTQUEUE = {}
    make_row(status=Status.RUNNING, run_id="some-run")
    listed = text_of(viewer.get(QUEUE))
    assert "some-run" in listed
    assert "some-run</a>" not in listed


TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_a_row_shows_its_trace_as_a_link_if_there_is_an_address(viewer: Client, make_row: RowFactory, settings: Any):
    row = make_row(traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    settings.REPORTQUEUE = {}
    page = page_of(viewer, row)
    assert TRACE in page
    assert f"{TRACE}</a>" not in page
    settings.REPORTQUEUE = {"TRACE_URL": "https://traces.example.com/trace/{trace_id}?from=queue"}
    assert f'<a href="https://traces.example.com/trace/{TRACE}?from=queue">{TRACE}</a>' in page_of(viewer, row)


def test_a_row_without_a_trace_says_nothing_of_it(viewer: Client, make_row: RowFactory):
    assert "field-trace" not in page_of(viewer, make_row())
    assert "field-trace" in page_of(viewer, make_row(traceparent=f"00-{TRACE}-b7ad6b7169203331-01"))


def test_artifacts_are_links_only_where_that_is_safe(viewer: Client, make_row: RowFactory):
    artifacts = {"page": "/artifacts/1/report.html", "elsewhere": "https://example.com/x", "evil": "//evil.example"}
    row = make_row(status=Status.SUCCEEDED, result={"artifacts": artifacts | {"script": "javascript:alert(1)"}})
    for page in (text_of(viewer.get(QUEUE)), page_of(viewer, row)):
        assert '<a href="/artifacts/1/report.html" rel="noopener">page</a>' in page
        assert '<a href="https://example.com/x" rel="noopener">elsewhere</a>' in page
        assert 'href="//evil' not in page
        assert 'href="javascript' not in page
        assert "evil" in page


@pytest.mark.parametrize("result", [None, {}, {"artifacts": None}, {"artifacts": ["x"]}, {"artifacts": {"a": 1}}])
def test_a_result_of_any_shape_can_be_shown(viewer: Client, make_row: RowFactory, result: Any):
    row = make_row(status=Status.SUCCEEDED, result=result)
    assert viewer.get(QUEUE).status_code == 200
    assert viewer.get(f"{QUEUE}{row.pk}/change/").status_code == 200


@pytest.mark.parametrize("pk", ["999999", "9" * 30, "x", "%00", "-1"])
def test_a_row_that_is_not_there_leads_back(viewer: Client, pk: str):
    assert viewer.get(f"{QUEUE}{pk}/change/").status_code == 302


def test_a_row_s_page_takes_the_same_queries_however_many_attempts(viewer: Client, make_row: RowFactory):
    row = make_row(status=Status.FAILED)
    url = f"{QUEUE}{row.pk}/change/"
    one = queries_of(viewer, url)
    for n in range(5):
        then = minutes_ago(1)
        ReportAttempt.objects.create(
            queue=row, generation=1, attempt=1, run_id=f"r{n}", lease_token=uuid4(), started_at=then,
            finished_at=then, outcome=Outcome.FAILED,
        )  # fmt: skip
    assert len(queries_of(viewer, url)) == len(one)


def test_the_pages_can_be_translated(viewer: Client, make_row: RowFactory, settings: Any):
    settings.LANGUAGE_CODE = "de"
    row = make_row(status=Status.RUNNING, cancel_requested=True)
    with translation.override("de"):
        assert viewer.get(QUEUE).status_code == 200
        assert viewer.get(f"{QUEUE}{row.pk}/change/").status_code == 200
