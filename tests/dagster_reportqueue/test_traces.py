"""One trace from the request that queued a row to the last line of its report."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from dagster import DagsterInstance, instance_for_test
from dagster._core.workspace.load_target import ModuleTarget
from django.contrib.auth.models import Permission, User
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dagster_reportqueue import tracing
from dagster_reportqueue.client import QueueItem
from dagster_reportqueue.execution.report import ReportRun
from dagster_reportqueue.tickets import TRACEPARENT_TAG
from reportqueue import tokens
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests import traces
from tests.conftest import build_row, build_schedule, minutes_ago
from tests.dagster_reportqueue.conftest import allow_consumer
from tests.dagster_reportqueue.daemon import MODULE, ROOT, daemon
from tests.dagster_reportqueue.runs import Runner
from tests.dagster_reportqueue.waiting import until
from tests.integration import webapp
from tests.spans import HEADER, TRACE, spans

Spans = InMemorySpanExporter
__all__ = ["spans"]


def named(spans: Spans, name: str) -> list[ReadableSpan]:
    """The spans of a name, the first to end first."""
    return [one for one in spans.get_finished_spans() if one.name == name]


def context(span: ReadableSpan) -> tuple[str, str]:
    """The ids of its trace and of itself."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def parent(span: ReadableSpan) -> str:
    """The id of its parent; empty for the first span of a trace."""
    return f"{span.parent.span_id:016x}" if span.parent else ""


def links(span: ReadableSpan) -> list[str]:
    """The ids of the traces to which it is linked."""
    return [f"{one.context.trace_id:032x}" for one in span.links]


def in_trace(number: int) -> str:
    """A context of another trace for each number."""
    return f"00-{number:032x}-{number:016x}-01"


def test_a_row_a_sensor_and_a_run_share_a_trace(spans: Spans, instance: DagsterInstance, client: Any):
    allow_consumer("add_reportqueue")
    client.post("report-queue/", {"report_id": 1, "modifier_id": 2})
    with daemon(instance) as sensor:
        sensor.tick()
    (sent,), (received,), (processed,) = (
        named(spans, f"{name} report-queue") for name in ("send", "receive", "process")
    )
    row = ReportQueue.objects.get()
    assert row.status == Status.SUCCEEDED
    assert row.traceparent == f"00-{'-'.join(context(sent))}-01"
    assert {context(one)[0] for one in (sent, received, processed)} == {context(sent)[0]}
    assert [parent(one) for one in (sent, received, processed)] == ["", context(sent)[1], context(received)[1]]
    (run,) = instance.get_runs()
    assert run.tags[TRACEPARENT_TAG] == f"00-{'-'.join(context(received))}-01"
    kinds = [one.kind.name for one in (sent, received, processed)]
    assert kinds == ["PRODUCER", "CLIENT", "CONSUMER"]
    for one, kind in ((sent, "send"), (received, "receive"), (processed, "process")):
        found = dict(one.attributes or {})
        assert found["messaging.system"] == "reportqueue"
        assert found["messaging.destination.name"] == "report-queue"
        assert found["messaging.operation.type"] == kind
        assert found["messaging.message.id"] == str(row.pk)


def test_a_failed_report_says_so_without_its_text(spans: Spans, client: Any, runner: Runner):
    build_row(traceparent=HEADER, params={"secret": 1})

    def fail(run: ReportRun) -> None:
        raise ZeroDivisionError("a secret")

    runner.make(fail)
    (processed,) = named(spans, "process report-queue")
    assert context(processed)[0] == TRACE
    assert processed.status.status_code is trace.StatusCode.ERROR
    assert dict(processed.attributes or {})["error.type"] == "ZeroDivisionError"
    assert "secret" not in (processed.to_json() or "")


def test_a_span_of_the_report_is_below_that_of_its_run(spans: Spans, runner: Runner):
    build_row(traceparent=HEADER)

    def work(run: ReportRun) -> None:
        with trace.get_tracer("report").start_as_current_span("the last line"):
            pass

    runner.make(work)
    (processed,), (line,) = named(spans, "process report-queue"), named(spans, "the last line")
    assert context(line)[0] == context(processed)[0] == TRACE
    assert parent(line) == context(processed)[1]
    assert parent(processed) == "b7ad6b7169203331"


def test_a_run_of_many_rows_is_linked_to_their_traces(spans: Spans, runner: Runner):
    rows = [build_row(available_at=minutes_ago(60 - n), traceparent=in_trace(n)) for n in range(1, 51)]
    build_row()  # queued without a trace
    result = runner.make_batch(lambda run: None)
    assert result.success
    (run,) = named(spans, "process report-queue batch")
    of_rows = named(spans, "process report-queue")
    assert parent(run) == ""
    assert links(run) == [f"{n:032x}" for n in range(1, 51)]
    assert dict(run.attributes or {})["messaging.batch.message_count"] == 51
    assert [context(one)[0] for one in of_rows[:50]] == [row.traceparent.split("-")[1] for row in rows]  # type: ignore[union-attr]
    assert {tuple(links(one)) for one in of_rows} == {(context(run)[0],)}, "each row names the run"
    assert parent(of_rows[50]) == "", "a row without a trace begins one"


def test_a_run_has_no_more_links_than_an_sdk_keeps(spans: Spans, runner: Runner, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracing, "MAX_LINKS", 3)
    for n in range(1, 6):
        build_row(traceparent=in_trace(n))
    runner.make_batch(lambda run: None)
    (run,) = named(spans, "process report-queue batch")
    assert len(links(run)) == 3
    assert len(named(spans, "process report-queue")) == 5


def test_a_claim_of_many_rows_is_in_the_trace_of_each(spans: Spans, instance: DagsterInstance):
    for n in (1, 2):
        build_row(traceparent=in_trace(n))
    with daemon(instance) as sensor:
        sensor.tick()
    received = named(spans, "receive report-queue")
    assert [context(one)[0] for one in received] == [f"{n:032x}" for n in (1, 2)]
    assert {dict(one.attributes or {})["messaging.batch.message_count"] for one in received} == {2}


def test_a_schedules_firing_begins_a_trace(spans: Spans, instance: DagsterInstance):
    schedules = [build_schedule(next_run_at=minutes_ago(0.5)) for _ in range(2)]
    with daemon(instance) as sensor:
        sensor.tick()
    sent, processed = named(spans, "send report-queue"), named(spans, "process report-queue")
    assert {dict(one.attributes or {})["reportqueue.schedule_id"] for one in sent} == {one.pk for one in schedules}
    assert {parent(one) for one in sent} == {""}
    assert len({context(one)[0] for one in sent}) == 2
    assert {context(one)[0] for one in sent} == {context(one)[0] for one in processed}


def test_without_an_sdk_the_trace_is_handed_on(instance: DagsterInstance):
    """The producer and the report may belong to a trace of which this side records nothing."""
    build_row(traceparent=HEADER)
    with daemon(instance) as sensor:
        sensor.tick()
    (run,) = instance.get_runs()
    assert run.tags[TRACEPARENT_TAG] == HEADER


def test_a_row_without_a_trace_leaves_no_tag(instance: DagsterInstance):
    build_row()
    with daemon(instance) as sensor:
        sensor.tick()
    (run,) = instance.get_runs()
    assert TRACEPARENT_TAG not in run.tags


def test_without_the_api_the_trace_is_handed_on(monkeypatch: pytest.MonkeyPatch, instance: DagsterInstance):
    monkeypatch.setattr(tracing, "trace", None)
    monkeypatch.setattr("reportqueue.tracing.trace", None)
    build_row(traceparent=HEADER)
    with daemon(instance) as sensor:
        sensor.tick()
    (run,) = instance.get_runs()
    assert run.tags[TRACEPARENT_TAG] == HEADER
    assert ReportQueue.objects.get().status == Status.SUCCEEDED


def test_a_collector_that_is_away_does_not_hold_up_a_run(spans: Spans, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.1)
    monkeypatch.setattr(trace.get_tracer_provider(), "force_flush", lambda millis: time.sleep(5), raising=False)
    began = time.monotonic()
    tracing.flush()
    assert time.monotonic() - began < 2


def test_a_forked_process_sets_up_its_own_sdk_and_exports_its_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As a run of the warm launcher: its process has no exit handlers."""
    monkeypatch.setenv(traces.FILE, str(tmp_path / "spans"))
    monkeypatch.setenv(tracing.VARIABLE, "tests.traces:set_up")
    row = QueueItem(1, 2, 3, minutes_ago(1), 1, 1, 3, "1:1", 0, {}, traceparent=HEADER)
    if (pid := os.fork()) == 0:
        try:
            with tracing.flushed(), tracing.processing(row, run_id="run"):
                pass
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    (span,) = traces.read(tmp_path / "spans")
    assert span["context"]["trace_id"] == f"0x{TRACE}"
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider), "this process has none"


def test_a_set_up_that_fails_costs_no_report(
    monkeypatch: pytest.MonkeyPatch, runner: Runner, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(tracing, "_is_set_up", False)
    monkeypatch.setenv(tracing.VARIABLE, "tests.traces:nothing")
    for _ in range(2):
        build_row()
        assert runner.make(lambda run: None).success
    assert [one.message for one in caplog.records if one.name == tracing.logger.name] == [
        "No spans are made: the function tests.traces:nothing, which REPORT_TRACES_SETUP names, failed."
    ]


@pytest.fixture
def processes(
    storage: dict[str, Any], token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[DagsterInstance, str, Path]]:
    """A web app, and an instance whose sensors and runs are processes, all with an SDK; where its spans are."""
    monkeypatch.setenv(traces.FILE, str(tmp_path / "spans"))
    monkeypatch.setenv(tracing.VARIABLE, "tests.traces:set_up")
    monkeypatch.setenv("REPORTQUEUE_TOKEN", token)
    with webapp.running("tests.traced_settings") as web:
        monkeypatch.setenv("REPORTQUEUE_URL", web.url)
        with instance_for_test(storage, synchronous_run_coordinator=True) as instance:
            yield instance, web.url, tmp_path / "spans"


def test_one_trace_through_all_processes_also_after_a_requeue(processes: tuple[DagsterInstance, str, Path]):
    """The web app, the code server with the sensor, and each run are processes of their own."""
    instance, url, file = processes
    person = User.objects.create_user("person")
    person.user_permissions.set(
        Permission.objects.filter(codename__in=["add_reportqueue", "requeue_reportqueue", "view_reportqueue"])
    )
    called = {"Authorization": f"Token {tokens.issue(person, name='test').key}"}
    again = f"00-{'5' * 32}-{'6' * 16}-01"

    def post(path: str, traceparent: str, body: Any) -> Any:
        answer = requests.post(
            f"{url}/api/report-queue/{path}", json=body, headers=called | {"traceparent": traceparent}, timeout=30
        )
        answer.raise_for_status()
        return answer.json()

    def found(name: str) -> list[dict[str, Any]]:
        return [one for one in traces.read(file) if one["name"] == name]

    target = ModuleTarget(
        module_name="tests.dagster_reportqueue.traced_location",
        attribute=None,
        working_directory=ROOT,
        location_name=MODULE,
    )
    pk = post("", HEADER, {"report_id": 1, "modifier_id": 2})["queue_id"]
    with daemon(instance, target=target) as sensor:
        for attempt in (1, 2):
            sensor.tick()
            until(lambda: ReportQueue.objects.get(pk=pk).status == Status.SUCCEEDED, 120)
            until(lambda: len(found("the last line")) == attempt, 20)  # noqa: B023
            if attempt == 1:
                post(f"{pk}/requeue/", again, {"reason": "once more"})
        instance.run_launcher.join(60)
    until(lambda: found("requeue report-queue"), 20)
    until(lambda: len(found("receive report-queue")) == 2, 20)
    until(lambda: found("send report-queue"), 20)
    spans = [one for one in traces.read(file) if one["context"]["trace_id"] == f"0x{TRACE}"]
    names = sorted(one["name"].removesuffix(" report-queue") for one in spans)
    assert names == ["process"] * 2 + ["receive"] * 2 + ["requeue", "send"] + ["the last line"] * 2
    (requeued,) = found("requeue report-queue")
    assert [one["context"]["trace_id"] for one in requeued["links"]] == [f"0x{'5' * 32}"]


def test_the_queue_is_told_of_the_trace_by_each_call_within_a_span(spans: Spans, client: Any, front: Any):
    build_row()
    with trace.get_tracer("mine").start_as_current_span("mine") as mine:
        client.claim("sensor")
    assert front.calls[-1].headers["traceparent"].split("-")[1] == f"{mine.get_span_context().trace_id:032x}"
    client.claim("sensor")
    assert "traceparent" not in {name.lower() for name in front.calls[-1].headers}
