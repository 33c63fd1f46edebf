"""The polling sensor in Dagster's own daemon code: one run for each row, which is marked only once that run is safe."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.scheduler.instigation import TickStatus

from dagster_reportqueue.client import ReportQueueClient
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.polling_sensor import build_polling_sensor
from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.conftest import allow_consumer
from tests.dagster_reportqueue.daemon import POINTS, Crash, Daemon, daemon
from tests.dagster_reportqueue.front import Fault, Front, Reply

SENSOR = "polling_sensor"


@pytest.fixture(autouse=True)
def may_view(token: str) -> None:
    """The consumer may view, too."""
    allow_consumer("view_reportqueue")


@pytest.fixture
def sensor(instance: DagsterInstance) -> Iterator[Daemon]:
    with daemon(instance, SENSOR) as running:
        yield running


def each_row_has_had_one_run(instance: DagsterInstance) -> bool:
    runs = instance.get_runs()
    rows = list(ReportQueue.objects.all())
    assert {run.status for run in runs} == {DagsterRunStatus.SUCCESS}
    assert sorted(run.tags["dagster/run_key"] for run in runs) == sorted(f"{row.pk}:1" for row in rows)
    assert [(row.status, row.generation, row.attempt) for row in rows] == [(Status.SUCCEEDED, 1, 0)] * len(rows)
    return True


def settle(sensor: Daemon) -> None:
    """Tick until there is nothing more to do."""
    for _ in range(6):
        # A tick whose runs are all there already is skipped too: the next one marks their rows.
        if sensor.tick().skip_reason == "No report is due.":
            return
    raise AssertionError("there is no end to it")


def test_a_row_is_launched_in_one_tick_and_marked_in_the_next(sensor: Daemon, front: Front):
    row = build_row(report_id=7, modifier_id=8, params={"year": 2026})
    assert sensor.tick().status == TickStatus.SUCCESS
    (run,) = sensor.instance.get_runs()
    assert (run.status, run.tags["dagster/run_key"]) == (DagsterRunStatus.SUCCESS, f"{row.pk}:1")
    row.refresh_from_db()
    assert row.status == Status.QUEUED, "not before the tick is known to be stored"
    assert sensor.tick().status == TickStatus.SKIPPED
    assert each_row_has_had_one_run(sensor.instance)
    front.calls.clear()
    sensor.tick()
    assert front.verbs() == ["pending-reports"], "what is marked is not marked again"


def test_the_run_reads_its_parameters_from_the_row(sensor: Daemon):
    build_row(params={"do": "raise"})
    sensor.tick()
    (run,) = sensor.instance.get_runs()
    assert run.status == DagsterRunStatus.FAILURE, "which only its parameters say"
    sensor.tick()
    row = ReportQueue.objects.get()
    assert row.status == Status.SUCCEEDED, "the queue does not follow the run"


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_a_tick_that_fails_anywhere_leaves_one_run_for_each_row(sensor: Daemon, point: str, times: int):
    for _ in range(2):
        build_row()
    for _ in range(times):
        sensor.tick(crash={point: Crash(point)})
        if not sensor.instance.get_runs():
            assert not ReportQueue.objects.filter(processed=True).exists(), "marked before its run is safe"
    settle(sensor)
    assert each_row_has_had_one_run(sensor.instance)


@pytest.mark.parametrize("point", ["TICK_CREATED", "RUN_IDS_RESERVED", "RUN_CREATED"])
def test_a_daemon_that_is_killed_leaves_one_run_for_each_row(instance: DagsterInstance, point: str):
    for _ in range(2):
        build_row()
    command = [sys.executable, "-m", "tests.dagster_reportqueue.daemon", SENSOR, point]
    assert subprocess.run(command, timeout=60, check=False).returncode == -9
    assert not ReportQueue.objects.filter(processed=True).exists()
    with daemon(instance, SENSOR) as sensor:
        settle(sensor)
    assert each_row_has_had_one_run(instance)


@pytest.mark.parametrize("verb", ["pending-reports", "mark-processed"])
@pytest.mark.parametrize(
    "fault", [Fault.DROP, Fault.LOSE, Reply(502), Reply(200, "<html>"), Reply(200, "{}")], ids=repr
)
def test_a_tick_without_the_api_fails_and_loses_nothing(sensor: Daemon, front: Front, fault: Fault | Reply, verb: str):
    build_row()
    sensor.tick()
    cursor = sensor.cursor
    build_row()
    front.fail(fault, on=verb)
    for _ in range(2):
        assert sensor.tick().status == TickStatus.FAILURE
        assert sensor.cursor == cursor
    front.heal()
    settle(sensor)
    assert each_row_has_had_one_run(sensor.instance)


def test_an_api_slower_than_the_time_out_fails_the_tick_and_loses_nothing(
    sensor: Daemon, front: Front, monkeypatch: pytest.MonkeyPatch
):
    def impatient(resource: ReportQueueResource, *, retries: int = 0) -> ReportQueueClient:
        return ReportQueueClient(resource.url, resource.token, retries=retries, read_timeout=0.3)

    monkeypatch.setattr(ReportQueueResource, "client", impatient)
    build_row()
    front.fail(Fault.HANG, on="pending-reports")
    assert sensor.tick().status == TickStatus.FAILURE
    front.heal()
    settle(sensor)
    assert each_row_has_had_one_run(sensor.instance)


def test_a_requeued_row_gets_a_new_run(sensor: Daemon):
    row = build_row()
    settle(sensor)
    queue.requeue(row.pk)
    settle(sensor)
    keys = sorted(run.tags["dagster/run_key"] for run in sensor.instance.get_runs())
    assert keys == [f"{row.pk}:1", f"{row.pk}:2"]


def test_a_row_that_was_cancelled_or_pruned_before_it_was_marked_holds_up_nobody(sensor: Daemon):
    cancelled, pruned, third = build_row(), build_row(), build_row()
    sensor.tick()
    queue.cancel(cancelled.pk)
    pruned.delete()
    settle(sensor)
    cancelled.refresh_from_db()
    third.refresh_from_db()
    assert (cancelled.status, third.status) == (Status.CANCELLED, Status.SUCCEEDED)


def test_rows_that_a_claim_holds_are_left_to_it(sensor: Daemon):
    build_row(status=Status.RUNNING)
    build_row(status=Status.CLAIMED)
    build_row(available_at=minutes_ago(-5))
    assert sensor.tick().status == TickStatus.SKIPPED
    assert sensor.instance.get_runs() == []


@pytest.mark.parametrize("cursor", ["garbage", "[]", '{"launched": ["x"]}', '{"launched": null}'])
def test_a_cursor_that_makes_no_sense_makes_no_second_run(sensor: Daemon, cursor: str):
    build_row()
    sensor.tick()
    sensor.cursor = cursor
    sensor.tick()
    settle(sensor)
    assert each_row_has_had_one_run(sensor.instance)


@pytest.mark.parametrize("limit", [0, 101])
def test_a_limit_beyond_its_bounds_is_refused(limit: int):
    with pytest.raises(ValueError, match="limit must be from 1 to 100"):
        build_polling_sensor(location.report_job, limit=limit)
