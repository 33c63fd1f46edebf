"""The trace context of a row: where it comes from, and what is refused."""

from __future__ import annotations

import timeit
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reportqueue import queue, schedules, tracing
from reportqueue.errors import IdempotencyKeyReused
from reportqueue.models import ReportQueue
from reportqueue.queue import NewReport
from reportqueue.states import Status
from tests.conftest import ClientFactory, build_row, build_schedule, minutes_ago
from tests.spans import HEADER, TRACE, spans

pytestmark = pytest.mark.django_db
__all__ = ["spans"]


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (HEADER, HEADER),
        (f"00-{TRACE}-b7ad6b7169203331-00", f"00-{TRACE}-b7ad6b7169203331-00"),
        (f"00-{TRACE}-b7ad6b7169203331-ff", HEADER),  # of the flags, only one is known
        (f"01-{TRACE}-b7ad6b7169203331-01-what-comes-later", HEADER),
        (f"00-{TRACE}-b7ad6b7169203331-01-what-comes-later", None),
        (f"00-{TRACE}-b7ad6b7169203331-01-", None),
        (f"ff-{TRACE}-b7ad6b7169203331-01", None),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (HEADER.upper(), None),
        (f"{HEADER}0", None),
        (f"{HEADER}\n", None),
        ("", None),
        (None, None),
        ("x" * 100_000, None),
        (f"{HEADER}-{'x' * 100_000}", None),
    ],
)
def test_a_header_is_checked(header: str | None, kept: str | None):
    assert tracing.checked(header) == kept
    assert len(kept or "") <= ReportQueue._meta.get_field("traceparent").max_length


@pytest.mark.parametrize("with_api", [True, False])
def test_the_callers_trace_is_kept_without_an_sdk(
    client_with: ClientFactory, monkeypatch: pytest.MonkeyPatch, with_api: bool
):
    if not with_api:
        monkeypatch.setattr(tracing, "trace", None)
    api = client_with("add_reportqueue", "view_reportqueue", "consume_reportqueue")
    body = {"report_id": 1, "modifier_id": 2}
    made = api.post("/api/report-queue/", body, format="json", headers={"traceparent": HEADER}).json()
    assert made["traceparent"] == HEADER == ReportQueue.objects.get().traceparent
    claim = api.post("/api/report-queue/claim/", {"consumer": "lane"}, format="json").json()
    assert claim["queue"][0]["traceparent"] == HEADER
    start = {"generation": 1, "run_id": "run"}
    path = f"/api/report-queue/{made['queue_id']}/start/"
    assert api.post(path, start, format="json").json()["traceparent"] == HEADER
    other = api.post("/api/report-queue/", body, format="json", headers={"traceparent": "00-1-2-3"}).json()
    assert other["traceparent"] is None
    assert api.post("/api/report-queue/", body, format="json").json()["traceparent"] is None


def test_a_report_belongs_to_the_current_span(spans: InMemorySpanExporter):
    with trace.get_tracer("mine").start_as_current_span("mine") as mine:
        row = queue.enqueue(report_id=1, modifier_id=2)
    (sent, _) = spans.get_finished_spans()
    assert sent.name == "send report-queue"
    assert sent.parent == mine.get_span_context()
    assert row.traceparent is not None
    assert row.traceparent.split("-")[1:3] == [f"{sent.context.trace_id:032x}", f"{sent.context.span_id:016x}"]


def test_the_callers_span_is_the_parent_of_that_of_an_api_call(spans: InMemorySpanExporter, client_with: ClientFactory):
    api = client_with("add_reportqueue")
    api.post("/api/report-queue/", {"report_id": 1, "modifier_id": 2}, format="json", headers={"traceparent": HEADER})
    (sent,) = spans.get_finished_spans()
    assert f"{sent.context.trace_id:032x}" == TRACE
    assert sent.parent is not None
    assert f"{sent.parent.span_id:016x}" == "b7ad6b7169203331"


def test_several_reports_are_sent_by_one_span(spans: InMemorySpanExporter):
    rows = queue.enqueue_many([NewReport(report_id=1, modifier_id=number) for number in range(3)])
    (sent,) = spans.get_finished_spans()
    assert dict(sent.attributes or {})["messaging.batch.message_count"] == 3
    assert len({one.row.traceparent for one in rows}) == 1


def test_a_refused_report_says_so_without_its_text(spans: InMemorySpanExporter):
    queue.enqueue(report_id=1, modifier_id=2, idempotency_key="secret")
    with pytest.raises(IdempotencyKeyReused):
        queue.enqueue(report_id=2, modifier_id=2, idempotency_key="secret")
    refused = spans.get_finished_spans()[-1]
    assert dict(refused.attributes or {})["error.type"] == "IdempotencyKeyReused"
    assert "secret" not in (refused.to_json() or "")


def test_a_firing_that_is_skipped_or_due_begins_its_own_trace(spans: InMemorySpanExporter):
    build_schedule(next_run_at=minutes_ago(0.5))
    with trace.get_tracer("mine").start_as_current_span("mine") as mine:
        schedules.enqueue_due()
    row = ReportQueue.objects.get()
    assert row.traceparent is not None
    assert row.traceparent.split("-")[1] != f"{mine.get_span_context().trace_id:032x}"


def test_a_report_that_a_person_runs_now_belongs_to_the_request(spans: InMemorySpanExporter):
    schedule = build_schedule()
    with tracing.of_request(HEADER):
        schedules.run_now(schedule.pk)
    assert ReportQueue.objects.get().traceparent == HEADER


def test_a_requeue_is_in_the_trace_of_the_row_and_linked_to_its_request(spans: InMemorySpanExporter):
    row = build_row(status=Status.FAILED, traceparent=HEADER)
    build_row(status=Status.FAILED)
    with trace.get_tracer("mine").start_as_current_span("mine") as mine:
        for one in ReportQueue.objects.all():
            queue.requeue(one.pk)
    requeued, *others = (one for one in spans.get_finished_spans() if one.name.startswith("requeue"))
    assert others == []
    assert f"{requeued.context.trace_id:032x}" == TRACE
    assert [one.context for one in requeued.links] == [mine.get_span_context()]
    row.refresh_from_db()
    assert row.traceparent == HEADER


def test_without_an_sdk_it_costs_next_to_nothing():
    firings: list[Any] = [(1, minutes_ago(0))] * 1_000
    row = build_row()

    def work() -> None:
        with tracing.of_request(None), tracing.sending([row]):
            tracing.fired(firings, own=True)

    assert min(timeit.repeat(work, number=10, repeat=5)) / 10 < 0.001
