"""Runs that wait in an engine behind Dagster's launcher: their rows keep their leases, and get no second run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.test_utils import instance_for_test
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from pytest_django.live_server_helper import LiveServer

from dagster_reportqueue.client import ReportQueueClient
from dagster_reportqueue.sensors import reconciliation, waiting_runs
from dagster_reportqueue.sensors.reconciliation import reconcile
from dagster_reportqueue.tickets import STRAY_TAG, Ticket
from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue.conftest import ClientFactory, allow_consumer
from tests.dagster_reportqueue.test_repair import SENSOR, batch_for, dispatched, lease_left, make_run, run_for

STARTING = DagsterRunStatus.STARTING
RENEWED = timedelta(minutes=10)


class EngineLauncher(RunLauncher, ConfigurableClass):
    """A launcher of which this test says what its engine does. As Celery's, it tells Dagster of no termination."""

    answer: WorkerStatus | Exception | None = None
    terminated: list[str]

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        self.terminated = []
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> EngineLauncher:
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        raise NotImplementedError

    def terminate(self, run_id: str) -> bool:
        self.terminated.append(run_id)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return self.answer is not None

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return CheckRunHealthResult(self.answer)


@pytest.fixture
def monitoring() -> dict[str, Any]:
    """Dagster's settings for run monitoring."""
    return {"enabled": True, "start_timeout_seconds": 3_000}


@pytest.fixture
def instance(monitoring: dict[str, Any]) -> Iterator[DagsterInstance]:
    launcher = {"module": __name__, "class": "EngineLauncher"}
    with instance_for_test(overrides={"run_launcher": launcher, "run_monitoring": monitoring}) as made:
        yield made


@pytest.fixture
def client(make_client: ClientFactory, live_server: LiveServer, token: str) -> ReportQueueClient:
    allow_consumer("view_reportqueue")
    return make_client(url=live_server.url)


def engine(instance: DagsterInstance) -> EngineLauncher:
    assert isinstance(instance.run_launcher, EngineLauncher)
    return instance.run_launcher


def late(**fields: Any) -> ReportQueue:
    """A row whose lease ends soon."""
    return dispatched(lease_expires_at=minutes_ago(-1), **fields)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        # A pod that has no node yet counts as running, and of a task that no worker has taken nothing is known.
        (WorkerStatus.RUNNING, True),
        (WorkerStatus.UNKNOWN, True),
        (None, True),
        (OSError("away"), True),
        (WorkerStatus.NOT_FOUND, False),
        (WorkerStatus.FAILED, False),
        (WorkerStatus.SUCCESS, False),
    ],
    ids=str,
)
def test_a_row_is_kept_unless_its_run_has_ended_in_the_engine(
    instance: DagsterInstance, client: ReportQueueClient, answer: Any, kept: bool
):
    engine(instance).answer = answer
    row = late()
    run_for(instance, row, STARTING)
    assert reconcile(instance, client, [SENSOR]).kept_waiting == kept
    assert (lease_left(row) > RENEWED) == kept


@pytest.mark.parametrize(
    ("monitoring", "minutes", "kept"),
    [
        ({"enabled": True, "start_timeout_seconds": 3_000}, 49, 1),
        ({"enabled": True, "start_timeout_seconds": 3_000}, 51, 0),
        ({"enabled": False, "start_timeout_seconds": 300}, 59, 1),
        ({"enabled": False, "start_timeout_seconds": 300}, 61, 0),
    ],
)
def test_it_may_take_as_long_as_a_run_may_take_to_start(
    instance: DagsterInstance, client: ReportQueueClient, minutes: int, kept: int
):
    engine(instance).answer = WorkerStatus.UNKNOWN
    row = late(dispatched_at=minutes_ago(minutes), claimed_at=minutes_ago(minutes))
    run_for(instance, row, STARTING)
    assert reconcile(instance, client, [SENSOR]).kept_waiting == kept


def test_no_run_waits_behind_the_default_launcher(client: ReportQueueClient):
    """A daemon that died in the launcher leaves such a run, and only the lease's end gives its row another."""
    with instance_for_test() as instance:
        assert isinstance(instance.run_launcher, DefaultRunLauncher)
        row = late()
        run_for(instance, row, STARTING)
        assert reconcile(instance, client, [SENSOR]).kept_waiting == 0
        assert lease_left(row) < RENEWED


def test_what_there_is_no_time_to_ask_counts_as_waiting(
    instance: DagsterInstance, client: ReportQueueClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(waiting_runs, "ASK_SECONDS", 0.0)
    engine(instance).answer = WorkerStatus.NOT_FOUND
    run_for(instance, late(), STARTING)
    assert reconcile(instance, client, [SENSOR]).kept_waiting == 1


def test_sixteen_rows_whose_runs_wait_get_sixteen_runs(instance: DagsterInstance, client: ReportQueueClient):
    """Each lease would have ended three times meanwhile."""
    engine(instance).answer = WorkerStatus.UNKNOWN
    rows = [late() for _ in range(16)]
    for row in rows[:8]:
        run_for(instance, row, STARTING)
    batch_for(instance, rows[8:], STARTING)
    for _ in range(3):
        assert reconcile(instance, client, [SENSOR]).kept_waiting == 16
        ReportQueue.objects.update(lease_expires_at=minutes_ago(-0.1))
    assert queue.claim(SENSOR, limit=100).rows == []


@pytest.mark.parametrize("status", [DagsterRunStatus.QUEUED, STARTING])
def test_a_run_whose_row_has_a_later_one_is_ended(
    instance: DagsterInstance, client: ReportQueueClient, status: DagsterRunStatus
):
    engine(instance).answer = WorkerStatus.UNKNOWN
    row = late(generation=3)
    passed_over, wanted = run_for(instance, row, status, generation=2), run_for(instance, row, status)
    assert reconcile(instance, client, [SENSOR]).runs_cancelled == 1
    by_id = {run.run_id: run for run in instance.get_runs()}
    assert by_id[passed_over.run_id].status == DagsterRunStatus.CANCELED
    assert STRAY_TAG in by_id[passed_over.run_id].tags, "no person has cancelled the report"
    assert by_id[wanted.run_id].status == status
    assert reconcile(instance, client, [SENSOR]).runs_cancelled == 0
    row.refresh_from_db()
    assert (row.status, row.generation) == (Status.DISPATCHED, 3)


@pytest.mark.parametrize("status", [DagsterRunStatus.QUEUED, STARTING])
def test_a_run_that_a_person_executes_again_may_wait_for_its_start(
    instance: DagsterInstance, client: ReportQueueClient, status: DagsterRunStatus
):
    """Its row has ended until it starts: nothing but its parent tells it from a run that nobody needs."""
    engine(instance).answer = WorkerStatus.UNKNOWN
    row = build_row(status=Status.SUCCEEDED, run_id="parent", generation=1)
    again = make_run(instance, status, Ticket(row.pk, 1).tags(), parent="parent")
    anothers = make_run(instance, status, Ticket(row.pk, 1).tags(), parent="older")
    assert reconcile(instance, client, [SENSOR]).runs_cancelled == 1
    by_id = {run.run_id: run.status for run in instance.get_runs()}
    assert by_id == {again.run_id: status, anothers.run_id: DagsterRunStatus.CANCELED}


def test_a_batch_is_ended_only_if_it_can_start_none_of_its_rows(instance: DagsterInstance, client: ReportQueueClient):
    rows = [late(), late(), late()]
    run = batch_for(instance, rows, STARTING)
    for row, status in ((rows[0], Status.SUCCEEDED), (rows[1], Status.CANCELLED)):
        ReportQueue.objects.filter(pk=row.pk).update(
            status=status, finished_at=minutes_ago(0), lease_expires_at=None, generation=2
        )
    assert reconcile(instance, client, [SENSOR]).runs_cancelled == 0
    ReportQueue.objects.filter(pk=rows[2].pk).update(generation=2)
    assert reconcile(instance, client, [SENSOR]).runs_cancelled == 1
    assert engine(instance).terminated == [run.run_id]


def test_only_so_many_rows_are_asked_for(
    instance: DagsterInstance, client: ReportQueueClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reconciliation, "UNSTARTED_ROWS", 3)
    rows = [late(generation=3) for _ in range(5)]
    for row in rows:
        run_for(instance, row, STARTING, generation=2)
    assert reconcile(instance, client, [SENSOR]).runs_cancelled == 3
    assert reconcile(instance, client, [SENSOR]).runs_cancelled == 2
    assert len(instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.CANCELED]))) == 5
