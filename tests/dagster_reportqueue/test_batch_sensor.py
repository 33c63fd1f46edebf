"""When the queue sensor launches batches, and what becomes of them wherever a tick dies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus, build_sensor_context
from dagster._core.scheduler.instigation import TickStatus

from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.queue_sensor import build_queue_sensor
from dagster_reportqueue.tickets import Ticket, batch_config, tickets_of
from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.daemon import POINTS, Crash, Daemon, daemon
from tests.dagster_reportqueue.front import Front


@pytest.fixture
def sensor(instance: DagsterInstance) -> Iterator[Daemon]:
    """Batches from three rows on, of up to four; four runs a tick."""
    with daemon(instance, "batch_sensor") as running:
        yield running


def due(number: int, **fields: Any) -> list[ReportQueue]:
    return [build_row(available_at=minutes_ago(60 - n), **fields) for n in range(number)]


def rows_of_runs(instance: DagsterInstance) -> list[tuple[str, list[int]]]:
    """Job and rows of each run, the oldest first."""
    return [
        (run.job_name, [ticket.queue_id for ticket in tickets_of(run)]) for run in instance.get_runs(ascending=True)
    ]


def requests(front: Front, token: str, *, cursor: str | None = None, sensor: Any = location.batch_sensor) -> Any:
    with DagsterInstance.ephemeral() as instance, build_sensor_context(instance=instance, cursor=cursor) as context:
        return sensor(context, report_queue=ReportQueueResource(url=front.url, token=token))


def test_a_few_rows_are_a_run_each(sensor: Daemon):
    rows = due(2)
    assert sensor.tick().status == TickStatus.SUCCESS
    assert rows_of_runs(sensor.instance) == [("report_job", [row.pk]) for row in rows]


def test_rows_that_come_while_others_are_in_flight_are_made_together(front: Front, token: str):
    due(2)
    first = requests(front, token)
    assert {one.job_name for one in first.run_requests} == {"report_job"}
    late = due(2)
    second = requests(front, token, cursor=first.cursor)
    (batch,) = second.run_requests
    assert (batch.job_name, batch.run_config) == ("batch_job", batch_config(Ticket(row.pk, 1) for row in late))


def test_one_row_alone_has_a_run_of_its_own_whatever_is_in_flight(front: Front, token: str):
    due(3)
    first = requests(front, token)
    late = build_row(available_at=minutes_ago(1))
    (request,) = requests(front, token, cursor=first.cursor).run_requests
    assert (request.job_name, request.run_key) == ("report_job", f"{late.pk}:1")


def test_many_rows_are_made_in_batches_of_even_size_in_the_order_of_the_claim(sensor: Daemon):
    rows = due(9)
    assert sensor.tick().status == TickStatus.SUCCESS
    pks = [row.pk for row in rows]
    assert rows_of_runs(sensor.instance) == [("batch_job", pks[:3]), ("batch_job", pks[3:6]), ("batch_job", pks[6:])]
    assert set(ReportQueue.objects.values_list("status", "attempt")) == {(Status.SUCCEEDED, 1)}
    assert {run.status for run in sensor.instance.get_runs()} == {DagsterRunStatus.SUCCESS}


def spreading(**options: Any) -> Any:
    return build_queue_sensor(
        location.report_job,
        name="batch_sensor",
        limit=4,
        batch_job=location.batch_job,
        batch_from=3,
        batch_size=10,
        batch_runs=3,
        **{"max_in_flight": 100, **options},
    )


def sizes(result: Any) -> list[int]:
    return [len(one.run_config["ops"]["report_batch"]["config"]["rows"]) for one in result.run_requests]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param(5, [2, 3], id="runs have batch_from rows at most, so that few rows share what a run costs"),
        pytest.param(12, [4, 4, 4], id="one for each slot"),
        pytest.param(36, [9, 9, 9, 9], id="no more than batch_size in each"),
    ],
)
def test_a_claim_is_divided_among_the_slots_of_the_launcher(front: Front, token: str, number: int, expected: list[int]):
    due(number)
    assert sizes(requests(front, token, sensor=spreading())) == expected


@pytest.mark.parametrize(
    ("number", "lanes", "expected"),
    [
        pytest.param(30, 3, [10, 10], id="the other lanes make the other runs"),
        pytest.param(30, 2, [10, 10], id="half of three, rounded up"),
        pytest.param(30, 1, [6, 7, 7], id="nobody else does"),
        pytest.param(19, 3, [6, 6, 7], id="no row is left to the other lanes"),
    ],
)
def test_a_claim_that_leaves_rows_behind_is_divided_among_fewer_runs(
    front: Front, token: str, number: int, lanes: int, expected: list[int]
):
    due(number)
    assert sizes(requests(front, token, sensor=spreading(lanes=lanes, max_in_flight=20))) == expected


def test_a_claim_is_not_divided_while_other_rows_take_the_slots(front: Front, token: str):
    due(12)
    first = requests(front, token, sensor=spreading())
    due(9)
    assert sizes(requests(front, token, cursor=first.cursor, sensor=spreading())) == [9]


def test_a_tick_claims_as_many_rows_as_its_runs_can_take(front: Front, token: str):
    due(20)
    result = requests(front, token)
    assert len(result.run_requests) == 4
    assert ReportQueue.objects.filter(status=Status.CLAIMED).count() == 16
    (claim,) = [call.body for call in front.calls]
    assert claim["limit"] == 16


def test_a_batch_tells_dagster_ids_and_generations_alone(front: Front, token: str):
    rows = due(3, params={"customer": "Ms Confidential"}) + due(1, priority=7)
    (request,) = requests(front, token).run_requests
    order = [rows[3], *rows[:3]]
    assert request.run_config == {"ops": {"report_batch": {"config": {"rows": [f"{row.pk}:1" for row in order]}}}}
    assert request.job_name == "batch_job"
    assert request.tags == {
        "reportqueue/batch": "batch_sensor",
        "reportqueue/rows": "4",
        "reportqueue/report_id": "1",
        "reportqueue/modifier_id": "2",
        "dagster/priority": "7",
        "dagster/max_retries": "0",
    }


def test_a_claim_that_comes_again_has_the_same_keys(front: Front, token: str):
    due(8)
    first, again = requests(front, token), requests(front, token)
    assert [one.run_key for one in first.run_requests] == [one.run_key for one in again.run_requests]
    assert len({one.run_key for one in first.run_requests}) == 2
    assert first.cursor == again.cursor


def test_rows_that_come_again_without_those_that_have_started_are_under_no_key_that_is_known(front: Front, token: str):
    rows = due(8)
    first = requests(front, token)
    queue.start(rows[0].pk, generation=1, run_id="quick")
    again = requests(front, token)
    asked = {row for one in again.run_requests for row in one.run_config["ops"]["report_batch"]["config"]["rows"]}
    assert asked == {f"{row.pk}:1" for row in rows[1:]}
    contents = {one.run_key: one.run_config for one in first.run_requests}
    for one in again.run_requests:
        assert contents.get(one.run_key, one.run_config) == one.run_config, "one key, one set of rows"


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_a_tick_that_fails_anywhere_makes_each_row_once(sensor: Daemon, point: str, times: int):
    due(7)
    for _ in range(times):
        sensor.tick(crash={point: Crash(point)})
    for _ in range(6):
        if sensor.tick().status == TickStatus.SKIPPED:
            break
    rows = list(ReportQueue.objects.all())
    assert [(row.status, row.generation, row.attempt) for row in rows] == [(Status.SUCCEEDED, 1, 1)] * 7
    assert all(row.attempts.count() == 1 for row in rows)


def test_a_row_whose_run_config_is_no_good_is_given_back_alone_beside_batches(front: Front, token: str):
    bad, good = build_row(params={}), build_row(params={"year": 2026})
    batching = build_queue_sensor(
        location.year_job,
        name="x",
        run_config=location.year_config,
        max_in_flight=10,
        batch_job=location.batch_job,
        batch_from=3,
    )
    (request,) = requests(front, token, sensor=batching).run_requests
    bad.refresh_from_db()
    assert (request.run_key, bad.status) == (f"{good.pk}:1", Status.QUEUED)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 1}, "batch_size must be from 2 to 1,000"),
        ({"batch_size": 1_001}, "batch_size must be from 2 to 1,000"),
        ({"batch_runs": 0}, "batch_runs must be from 1 to 100"),
        ({"batch_runs": 101}, "batch_runs must be from 1 to 100"),
        ({"batch_from": 1}, "batch_from must be from 2 to 100; it is 1"),
        ({"batch_from": 26}, "batch_from must be from 2 to the limit, which is 25"),
        ({"max_in_flight": None}, "max_in_flight is needed with a batch_job"),
    ],
)
def test_a_bound_of_batches_is_held(options: dict[str, int | None], said: str):
    given: dict[str, Any] = {"max_in_flight": 100, "batch_job": location.batch_job, **options}
    with pytest.raises(ValueError, match=said):
        build_queue_sensor(location.report_job, **given)


def test_without_a_batch_job_there_are_no_batches(front: Front, token: str):
    due(30)
    result = requests(front, token, sensor=location.own_sensor)
    assert len(result.run_requests) == 25
    assert {request.job_name for request in result.run_requests} == {"own_job"}
