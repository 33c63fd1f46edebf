"""`dagster_reportqueue.testing`: a job and a sensor, tested with a queue in memory."""

import gc
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import dagster as dg
import pytest
from dagster import DagsterInstance, SensorResult, build_sensor_context

from dagster_reportqueue import (
    ReportQueueClient,
    ReportQueueResource,
    ReportRun,
    Ticket,
    build_batch_job,
    build_queue_sensor,
    build_report_job,
    run_report,
)
from dagster_reportqueue.client import ApiRefused
from dagster_reportqueue.testing import InMemoryQueue, Row
from reportqueue.models import ReportQueue
from tests.conftest import ClientFactory, build_row
from tests.documents import blocks
from tests.unit.test_doc_code import execute


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
    batched = {"batch_job": job, "batch_from": 2, "batch_runs": 1, "max_in_flight": 9}
    sensor = build_queue_sensor(build_report_job(make), name="rows", **batched)
    (request,) = evaluated(sensor, queue).run_requests or []
    done = job.execute_in_process(
        run_config=request.run_config,
        tags=request.tags,
        resources={"report_queue": queue.resource()},
        raise_on_error=False,
    )
    assert not done.success  # one of its reports has failed
    assert [row.status for row in rows] == ["succeeded", "succeeded", "failed"]


def nested(depth: int) -> dict[str, Any]:
    return {} if depth == 1 else {"a": nested(depth - 1)}


REFUSED: list[dict[str, Any]] = [
    {"report_id": -1},
    {"report_id": 2**63, "modifier_id": -1},
    {"modifier_id": "seventeen"},
    {"modifier_id": True},
    {"priority": 101},
    {"priority": -101},
    {"max_attempts": 0},
    {"max_attempts": 101},
    {"trigger_time": datetime(1969, 12, 31, tzinfo=UTC)},
    {"trigger_time": datetime(3000, 1, 1, tzinfo=UTC)},
    {"params": []},
    {"params": "text"},
    {"params": {"a": "b\x00"}},
    {"params": {"a": "\ud800"}},
    {"params": {"a": "é" * 32_769}},
    {"params": nested(100)},
]


@pytest.mark.parametrize("wrong", REFUSED, ids=lambda wrong: str(wrong)[:40])
def test_a_report_that_the_api_refuses_is_refused_in_its_words(client_with: ClientFactory, wrong: dict[str, Any]):
    fields: dict[str, Any] = {"report_id": 1, "modifier_id": 1} | wrong
    with pytest.raises(ValueError) as error:  # noqa: PT011
        InMemoryQueue().add(**fields)
    body = json.dumps(fields, default=datetime.isoformat)
    answer = client_with("add_reportqueue").post("/api/report-queue/", body, content_type="application/json")
    assert (answer.status_code, answer.json()["detail"]) == (400, str(error.value))


def test_a_report_within_the_bounds_is_taken_and_kept_as_json():
    queue, given = InMemoryQueue(), {"a": (1, {2: "é" * 32_000})}
    row = queue.add(0, 2**63 - 1, given, priority=-100, max_attempts=100)
    given["a"] = ()
    assert row.params == {"a": [1, {"2": "é" * 32_000}]}
    assert queue.add(1, 1, nested(99)).params == nested(99)


def test_what_code_alone_can_give_is_refused_too():
    for wrong, said in (
        ({"a": float("nan")}, "NaN, infinity"),
        ({"a": {1}}, "Must be plain JSON"),
        ([], "a JSON object"),
    ):
        with pytest.raises(ValueError, match=rf"^params: .*{said}"):
            InMemoryQueue().add(1, 1, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^trigger_time: .* with its time zone"):
        InMemoryQueue().add(1, 1, trigger_time=datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("result", [[1], "text", {"text": "x" * 70_000}, {"a": "\x00"}, {"a": float("nan")}])
def test_a_result_that_the_queue_refuses_fails_its_row(result: Any):
    queue = InMemoryQueue()
    row = queue.add(1, 1)
    job = build_report_job(lambda run: result)
    resources = {"report_queue": queue.resource()}
    done = job.execute_in_process(
        run_config=row.run_config(), tags=row.tags(), resources=resources, raise_on_error=False
    )
    assert not done.success
    assert (row.status, row.result) == ("failed", None)
    assert "the queue refused its result" in row.error


Call = Callable[[ReportQueueClient, int], Any]
CALLS: dict[str, Call] = {
    "an unknown row": lambda client, pk: client.start(pk + 1, generation=1, run_id="run"),
    "a generation never handed out": lambda client, pk: client.start(pk, generation=7, run_id="run"),
    "no generation": lambda client, pk: client.start(pk, generation=0, run_id="run"),
    "a lease too short": lambda client, pk: client.start(pk, generation=1, run_id="run", lease_seconds=4),
    "a run without a name": lambda client, pk: client.start(pk, generation=1, run_id=""),
    "a long name": lambda client, pk: client.claim("c" * 101),
    "nothing wanted": lambda client, pk: client.claim("c", limit=0),
    "too much wanted": lambda client, pk: client.claim("c", limit=1_001, max_in_flight=0),
    "many rows": lambda client, pk: client.post("report-queue/start/", {"run_id": "run", "rows": handed_out(101)}),
    "no rows": lambda client, pk: client.post("report-queue/start/", {"run_id": "run", "rows": []}),
    "many rows, one wrong": lambda client, pk: client.start_many({pk: 1, pk + 1: 0}, run_id="run"),
    "the lease of another": lambda client, pk: client.complete(pk, lease_token=uuid4()),
    "the lease of another, late": lambda client, pk: client.release(pk, lease_token=uuid4(), delay_seconds=-1),
    "a list": lambda client, pk: client.complete(pk, lease_token=started(client, pk), result=[1]),  # type: ignore[arg-type]
    "a NUL": lambda client, pk: client.complete(pk, lease_token=started(client, pk), result={"a": "\x00"}),
    "a deep result": lambda client, pk: client.complete(pk, lease_token=started(client, pk), result=nested(100)),
    "a long progress": lambda client, pk: client.heartbeat(pk, lease_token=uuid4(), progress="p" * 201),
    "a run again": lambda client, pk: (failed(client, pk), client.start(pk, generation=1, run_id="run")),
    "a row that is done": lambda client, pk: (failed(client, pk, retryable=False), started(client, pk, run="other")),
}


def handed_out(number: int) -> list[dict[str, int]]:
    return [{"queue_id": pk, "generation": 1} for pk in range(number)]


def started(client: ReportQueueClient, pk: int, run: str = "run") -> UUID:
    return client.start(pk, generation=1, run_id=run).lease_token


def failed(client: ReportQueueClient, pk: int, **how: Any) -> None:
    client.fail(pk, lease_token=started(client, pk), error="no data", **how)


def refusal(call: Call, client: ReportQueueClient, pk: int) -> tuple[Any, ...]:
    """What the call is told, without the address and the row's number."""
    with pytest.raises(ApiRefused) as error:
        call(client, pk)
    said = str(error.value).partition(" answered ")[2] or str(error.value)
    return error.value.status, error.value.kind, said, getattr(error.value, "current_status", None)


def test_both_queues_refuse_a_call_in_the_same_words(client: ReportQueueClient):
    for name, call in CALLS.items():
        row = build_row(status="claimed")
        memory = InMemoryQueue()
        memory.rows[row.pk] = replace(memory.add(1, 2), queue_id=row.pk)  # the messages name the rows
        del memory.rows[1]
        resource = memory.resource()
        resource.client().claim("sensor")
        assert refusal(call, resource.client(), row.pk) == refusal(call, client, row.pk), name
        ReportQueue.objects.all().delete()


def test_the_resource_works_without_the_queue_that_made_it():
    def made() -> tuple[ReportQueueResource, Row]:
        queue = InMemoryQueue()
        return queue.resource(), queue.add(1, 1)

    resource, row = made()
    gc.collect()
    resource.client().start(row.queue_id, generation=1, run_id="run")
    assert row.status == "running"


def test_a_resource_without_its_queue_says_what_to_do():
    resource = type(InMemoryQueue().resource())(url="http://in-memory", token="of-another-process")
    with pytest.raises(RuntimeError, match="is in another process: run the job in the process of the test"):
        resource.client().claim("sensor")


def test_a_cancel_is_seen_within_a_short_lease():
    def waits(run: ReportRun) -> None:
        row.cancel_requested = True
        threading.Event().wait(15)  # with the default lease, the next heartbeat is sent after 20 s

    queue = InMemoryQueue()
    row = queue.add(3, 17)
    job = build_report_job(waits, lease_seconds=5)
    resources = {"report_queue": queue.resource()}
    job.execute_in_process(run_config=row.run_config(), tags=row.tags(), resources=resources, raise_on_error=False)
    assert row.status == "cancelled"


def test_the_tests_of_the_page_pass():
    (code,) = [block.text for block in blocks("docs/testing.md", "python") if "InMemoryQueue" in block.text]
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
