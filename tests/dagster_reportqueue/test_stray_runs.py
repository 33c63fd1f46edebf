"""Runs that go on although their rows are no longer theirs: which are terminated, and which are left alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.test_utils import create_run_for_test, instance_for_test
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from dagster_reportqueue.client import ReportQueueClient
from dagster_reportqueue.sensors import stray_runs
from dagster_reportqueue.sensors.stray_runs import StrayRuns
from dagster_reportqueue.tickets import BATCH_TAG, STRAY_TAG, FiringTicket, Ticket, batch_config
from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue.conftest import ClientFactory, allow_consumer


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with instance_for_test() as made:
        yield made


@pytest.fixture
def terminated(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs whose termination was asked for: here, which they are is the question."""
    asked: list[str] = []

    def cancel(run_id: str) -> bool:
        asked.append(run_id)
        return True

    monkeypatch.setattr(instance.run_coordinator, "cancel_run", cancel)
    return asked


@pytest.fixture
def client(make_client: ClientFactory, live_server: LiveServer, token: str) -> ReportQueueClient:
    allow_consumer("view_reportqueue")
    return make_client(url=live_server.url)


def run_of(
    instance: DagsterInstance,
    *rows: ReportQueue,
    status: DagsterRunStatus = DagsterRunStatus.STARTED,
    tags: dict[str, str] | None = None,
) -> DagsterRun:
    tickets = [Ticket(row.pk, row.generation) for row in rows]
    if tags is None:
        tags = tickets[0].tags() if len(rows) == 1 else {BATCH_TAG: "sensor"}
    config: dict[str, Any] = batch_config(tickets) if len(rows) > 1 else {}
    return create_run_for_test(instance, job_name="report_job", status=status, tags=tags, run_config=config)


def start(run: DagsterRun, *rows: ReportQueue) -> None:
    answers = queue.start_many({row.pk: row.generation for row in rows}, run_id=run.run_id)
    assert all(isinstance(answer, ReportQueue) for answer in answers.values())


def expire(*rows: ReportQueue) -> None:
    ReportQueue.objects.filter(pk__in=[row.pk for row in rows]).update(lease_expires_at=minutes_ago(1))
    queue.rescue_expired()


def dispatched(**fields: Any) -> ReportQueue:
    return build_row(**({"status": Status.DISPATCHED, "lease_expires_at": minutes_ago(-9)} | fields))


def test_a_run_whose_lease_has_expired_is_terminated_and_told_why(
    instance: DagsterInstance, client: ReportQueueClient, terminated: list[str]
):
    row = dispatched()
    run = run_of(instance, row)
    start(run, row)
    assert (StrayRuns().end(instance, client), terminated) == (0, [])
    expire(row)
    assert (StrayRuns().end(instance, client), terminated) == (1, [run.run_id])
    assert any("It no longer owns any of its reports" in entry.message for entry in instance.all_logs(run.run_id))


@pytest.mark.parametrize("end", ["complete", "fail", "release", "cancel"])
def test_a_run_that_ended_its_report_itself_may_go_on(
    instance: DagsterInstance, client: ReportQueueClient, terminated: list[str], end: str
):
    """Its job may have more to do."""
    row = dispatched()
    run = run_of(instance, row)
    start(run, row)
    row.refresh_from_db()
    getattr(queue, end)(row.pk, lease_token=row.lease_token, **({"error": "x"} if end == "fail" else {}))
    assert (StrayRuns().end(instance, client), terminated) == (0, [])


def test_a_batch_is_terminated_once_it_has_lost_all_that_it_had(
    instance: DagsterInstance, client: ReportQueueClient, terminated: list[str]
):
    rows = [dispatched() for _ in range(4)]
    run = run_of(instance, *rows)
    start(run, *rows[:2])
    rows[0].refresh_from_db()
    assert rows[0].lease_token is not None
    queue.complete(rows[0].pk, lease_token=rows[0].lease_token)
    expire(rows[1])
    assert StrayRuns().end(instance, client) == 0, "two of its rows wait for it"
    expire(*rows[2:])
    assert StrayRuns().end(instance, client) == 0, "it may still start those, while nobody else has them"
    ReportQueue.objects.filter(status=Status.QUEUED).update(available_at=minutes_ago(1))
    assert len(queue.claim("another").rows) == 3
    assert (StrayRuns().end(instance, client), terminated) == (1, [run.run_id])


def test_a_batch_that_still_owns_a_row_goes_on(
    instance: DagsterInstance, client: ReportQueueClient, terminated: list[str]
):
    rows = [dispatched() for _ in range(2)]
    run = run_of(instance, *rows)
    start(run, *rows)
    expire(rows[0])
    assert (StrayRuns().end(instance, client), terminated) == (0, [])


def test_a_run_that_is_about_to_start_its_row_is_left_alone(
    instance: DagsterInstance, client: ReportQueueClient, terminated: list[str]
):
    row = dispatched()
    run_of(instance, row)
    expire(row)
    assert (StrayRuns().end(instance, client), terminated) == (0, [])


def test_a_run_that_came_too_late_is_terminated_when_it_does_not_notice(
    instance: DagsterInstance, client: ReportQueueClient, terminated: list[str], monkeypatch: pytest.MonkeyPatch
):
    row = dispatched()
    run = run_of(instance, row)
    queue.start(row.pk, generation=1, run_id="quicker")
    assert StrayRuns().end(instance, client) == 0
    monkeypatch.setattr(stray_runs, "TOO_LATE_SECONDS", -1)
    assert (StrayRuns().end(instance, client), terminated) == (1, [run.run_id])


def test_a_run_whose_row_was_pruned_is_too_late(
    instance: DagsterInstance, client: ReportQueueClient, terminated: list[str], monkeypatch: pytest.MonkeyPatch
):
    row = dispatched()
    run = run_of(instance, row)
    row.delete()
    monkeypatch.setattr(stray_runs, "TOO_LATE_SECONDS", -1)
    assert (StrayRuns().end(instance, client), terminated) == (1, [run.run_id])


def test_the_run_of_a_sensors_firing_is_terminated_too(
    instance: DagsterInstance, client: ReportQueueClient, terminated: list[str]
):
    row = dispatched(trigger_time=timezone.now().replace(microsecond=0))
    firing = FiringTicket(7, row.trigger_time).tags()
    run = run_of(instance, row, tags={**firing, "reportqueue/report_id": "1", "reportqueue/modifier_id": "2"})
    start(run, row)
    assert StrayRuns().end(instance, client) == 0
    expire(row)
    assert (StrayRuns().end(instance, client), terminated) == (1, [run.run_id])


@pytest.mark.parametrize("status", [DagsterRunStatus.SUCCESS, DagsterRunStatus.CANCELING, DagsterRunStatus.STARTING])
def test_runs_that_have_ended_or_are_ending_or_wait_are_not_asked_about(
    instance: DagsterInstance, client: ReportQueueClient, terminated: list[str], status: DagsterRunStatus
):
    row = dispatched()
    run = run_of(instance, row, status=status)
    start(run, row)
    expire(row)
    assert (StrayRuns().end(instance, client), terminated) == (0, [])


def test_somebody_elses_runs_are_left_alone(
    instance: DagsterInstance, client: ReportQueueClient, terminated: list[str]
):
    create_run_for_test(instance, job_name="other", status=DagsterRunStatus.STARTED, tags={})
    assert (StrayRuns().end(instance, client), terminated) == (0, [])


def test_a_report_that_does_not_heed_its_cancel_is_terminated_after_a_while(
    instance: DagsterInstance, client: ReportQueueClient, terminated: list[str], monkeypatch: pytest.MonkeyPatch
):
    row = dispatched()
    run = run_of(instance, row)
    start(run, row)
    queue.cancel(row.pk)
    looking = StrayRuns()
    assert (looking.end(instance, client), looking.end(instance, client)) == (0, 0)
    monkeypatch.setattr(stray_runs, "STUBBORN_SECONDS", 0.0)
    assert (looking.end(instance, client), terminated) == (1, [run.run_id])
    stopped = instance.get_run_by_id(run.run_id)
    assert stopped is not None
    assert stopped.tags[STRAY_TAG] == "true", "its other reports are not cancelled"


def test_no_more_rows_are_asked_about_than_a_tick_has_time_for(
    instance: DagsterInstance, client: ReportQueueClient, terminated: list[str], monkeypatch: pytest.MonkeyPatch
):
    rows = [dispatched() for _ in range(3)]
    runs = [run_of(instance, row) for row in rows]
    for run, row in zip(runs, rows, strict=True):
        start(run, row)
    expire(*rows)
    monkeypatch.setattr(stray_runs, "ROWS", 2)
    assert (StrayRuns().end(instance, client), terminated) == (2, [run.run_id for run in runs[:2]])
