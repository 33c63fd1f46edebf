"""`dagster_reportqueue.testing`: a job and a sensor, tested with a queue in memory."""

from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInstance, SensorResult, build_sensor_context

from dagster_reportqueue import (
    ReportQueueResource,
    ReportRun,
    Ticket,
    build_batch_job,
    build_queue_sensor,
    build_report_job,
    run_report,
)
from dagster_reportqueue.testing import InMemoryQueue, Row
from tests.unit.test_doc_code import blocks, execute


def make(run: ReportRun) -> dict[str, Any]:
    if run.params.get("breaks"):
        raise ValueError("no data")
    run.progress("half done")
    return {"title": f"Report {run.report_id} of {run.modifier_id}"}


def run_of(queue: InMemoryQueue, row: Row, **options: Any) -> dg.ExecuteInProcessResult:
    return build_report_job(make).execute_in_process(
        run_config=row.run_config(), tags=row.tags(), resources={"report_queue": queue.resource()}, **options
    )


def test_a_report_job_succeeds_with_its_result():
    queue = InMemoryQueue()
    row = queue.add(3, 17)
    assert run_of(queue, row).success
    assert (row.status, row.attempt, row.result) == ("succeeded", 1, {"title": "Report 3 of 17"})
    assert list(row.outcomes.values()) == ["succeeded"]


def test_a_report_that_raises_is_queued_again_until_its_attempts_are_used_up():
    queue = InMemoryQueue()
    row = queue.add(3, 17, {"breaks": True}, max_attempts=2)
    assert not run_of(queue, row, raise_on_error=False).success
    assert (row.status, row.attempt) == ("queued", 1)
    assert "no data" in row.error
    run_of(queue, row, raise_on_error=False)
    assert (row.status, row.attempt) == ("failed", 2)


def test_a_run_of_a_row_that_has_ended_ends_without_work():
    queue = InMemoryQueue()
    row = queue.add(3, 17)
    run_of(queue, row)
    assert run_of(queue, row).success
    assert (row.status, row.attempt) == ("succeeded", 1)


def test_a_job_of_ones_own_works_with_it():
    @dg.op
    def my_op(context: dg.OpExecutionContext, report_queue: ReportQueueResource) -> None:
        ticket = Ticket.of_run(context.run.tags)
        assert ticket is not None
        run_report(context, report_queue.client(), ticket, make)

    @dg.job
    def my_job() -> None:
        my_op()

    queue = InMemoryQueue()
    row = queue.add(3, 17)
    assert my_job.execute_in_process(tags=row.tags(), resources={"report_queue": queue.resource()}).success
    assert row.status == "succeeded"


def test_a_sensor_claims_its_rows_once_in_their_order():
    queue = InMemoryQueue()
    first, urgent, later = queue.add(3, 1), queue.add(3, 2, priority=5), queue.add(3, 3)
    sensor = build_queue_sensor(build_report_job(make), name="rows", limit=2)
    found = evaluated(sensor, queue)
    assert [request.run_key for request in found.run_requests or []] == ["2:1", "1:1"]
    assert (urgent.status, first.status, later.status) == ("claimed", "claimed", "queued")
    again = evaluated(sensor, queue, found.cursor)
    assert [request.run_key for request in again.run_requests or []] == ["3:1"]
    assert (first.status, later.status) == ("dispatched", "claimed")


def test_a_batch_makes_each_row():
    queue = InMemoryQueue()
    rows = [queue.add(3, number, {"breaks": number == 2}, max_attempts=1) for number in range(3)]
    job = build_batch_job(make)
    sensor = build_queue_sensor(build_report_job(make), name="rows", batch_job=job, batch_from=2, max_in_flight=9)
    (request,) = evaluated(sensor, queue).run_requests or []
    done = job.execute_in_process(
        run_config=request.run_config,
        tags=request.tags,
        resources={"report_queue": queue.resource()},
        raise_on_error=False,
    )
    assert not done.success  # one of its reports has failed
    assert [row.status for row in rows] == ["succeeded", "succeeded", "failed"]


def test_what_the_queue_would_refuse_is_refused():
    queue = InMemoryQueue()
    with pytest.raises(ValueError, match="at most 65,536 bytes"):
        queue.add(1, 1, {"text": "x" * 70_000})
    row = queue.add(1, 1)

    def too_much(run: ReportRun) -> dict[str, Any]:
        return {"text": "x" * 70_000}

    job = build_report_job(too_much)
    resources = {"report_queue": queue.resource()}
    done = job.execute_in_process(
        run_config=row.run_config(), tags=row.tags(), resources=resources, raise_on_error=False
    )
    assert not done.success
    assert row.status == "failed"


def test_the_tests_of_the_page_pass():
    (code,) = [block for block in blocks("docs/testing.md") if "InMemoryQueue" in block]
    found: dict[str, Any] = {}
    execute(code, found)
    tests = [function for name, function in found.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def evaluated(sensor: dg.SensorDefinition, queue: InMemoryQueue, cursor: str | None = None) -> SensorResult:
    with DagsterInstance.ephemeral() as instance:
        resources = {"report_queue": queue.resource()}
        result = sensor(build_sensor_context(cursor=cursor, instance=instance, resources=resources))
    assert isinstance(result, SensorResult)
    return result
