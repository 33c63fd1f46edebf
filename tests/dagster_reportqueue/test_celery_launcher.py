"""Runs on a real Celery worker: what waits in its queue keeps its row, and a termination in Dagster is a cancel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus, instance_for_test
from dagster._core.launcher import WorkerStatus

from dagster_reportqueue.client import ReportQueueClient
from dagster_reportqueue.sensors.reconciliation import reconcile
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue import celery_app
from tests.dagster_reportqueue.conftest import allow_consumer
from tests.dagster_reportqueue.daemon import OWN_PROCESS, ROOT, daemon
from tests.dagster_reportqueue.front import Front
from tests.dagster_reportqueue.test_repair import dispatched, run_for
from tests.dagster_reportqueue.waiting import until

pytestmark = [
    pytest.mark.timeout(300),
    # Dagster's launcher registers its task with each launch.
    pytest.mark.filterwarnings("ignore:.*Task name .execute_job. is already registered"),
]
Worker = Callable[[], Any]


@pytest.fixture
def instance(
    storage: dict[str, Any], front: Front, token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[DagsterInstance]:
    """An instance that sends its runs to Celery."""
    monkeypatch.setenv("REPORTQUEUE_URL", front.url)
    monkeypatch.setenv("REPORTQUEUE_TOKEN", token)
    monkeypatch.setenv(celery_app.FOLDER, str(tmp_path))
    allow_consumer("view_reportqueue")
    launcher = {
        "module": "dagster_reportqueue.celery_launcher",
        "class": "ReportCeleryRunLauncher",
        "config": celery_app.settings(tmp_path),
    }
    with instance_for_test({**storage, "run_launcher": launcher}, synchronous_run_coordinator=True) as made:
        yield made


@contextmanager
def worker(folder: Path) -> Iterator[None]:
    """A worker that executes one run at a time."""
    app = f"{celery_app.__name__}:app"
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "--concurrency", "1", "--queues", "dagster"]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle", "--loglevel", "info"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": ROOT},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)


def test_runs_in_its_queue_keep_their_rows_and_a_termination_is_a_cancel(
    instance: DagsterInstance, client: ReportQueueClient, tmp_path: Path
):
    worked, waiting = build_row(params={"do": "wait"}), build_row()

    def status(row: ReportQueue) -> str:
        row.refresh_from_db()
        return row.status

    def run_status(run_id: str) -> DagsterRunStatus:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    with daemon(instance, target=OWN_PROCESS) as sensor:
        sensor.tick()
        sensor.tick()  # acknowledges the claim
        assert (status(worked), status(waiting)) == (Status.DISPATCHED, Status.DISPATCHED)
        first, second = (
            next(run.run_id for run in instance.get_runs() if run.tags["reportqueue/queue_id"] == str(row.pk))
            for row in (worked, waiting)
        )
        with worker(tmp_path):
            until(lambda: status(worked) == Status.RUNNING, 120, what=(tmp_path / "worker.log").read_text())
            for _ in range(2):
                ReportQueue.objects.filter(pk=waiting.pk).update(lease_expires_at=minutes_ago(-1))
                assert reconcile(instance, client, [waiting.claimed_by]).kept_waiting == 1
            assert run_status(second) == DagsterRunStatus.STARTING
            # The one waits in Celery, the other one is at work.
            assert instance.run_launcher.terminate(second)
            assert run_status(second) == DagsterRunStatus.CANCELED
            assert instance.run_launcher.terminate(first)
            until(lambda: run_status(first) == DagsterRunStatus.CANCELED, 60)
            assert (status(worked), worked.attempt) == (Status.CANCELLED, 1)
            assert not instance.run_launcher.terminate(first), "it has ended"
            # A row whose run was cancelled before it began is launched again, as with every launcher.
            assert reconcile(instance, client, [waiting.claimed_by]).launched_again == 1
            ReportQueue.objects.filter(pk=waiting.pk).update(available_at=minutes_ago(1))
            sensor.tick()
            until(lambda: status(waiting) == Status.SUCCEEDED, 120)
        assert waiting.attempts.count() == 1
        assert run_status(second) == DagsterRunStatus.CANCELED, "the worker has not executed the revoked task"


def test_a_run_of_which_no_task_was_sent_is_not_there(instance: DagsterInstance, client: ReportQueueClient):
    run = run_for(instance, dispatched(), DagsterRunStatus.STARTING)
    assert instance.run_launcher.check_run_worker_health(run).status == WorkerStatus.NOT_FOUND
    assert instance.run_launcher.terminate(run.run_id)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status == DagsterRunStatus.CANCELED
