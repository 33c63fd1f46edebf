"""Dagster's launcher for Celery, with what the report queue needs to know of its runs. Needs `dagster-celery`."""

from __future__ import annotations

from typing import Any

from dagster import DagsterRun, DagsterRunStatus
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

PENDING = "PENDING"
"""Celery's state of a task that no worker has taken, and of one that it does not know."""


class ReportCeleryRunLauncher(CeleryRunLauncher):
    """A `CeleryRunLauncher` with the same options. Name it in `dagster.yaml` instead.

    A run that is terminated in Dagster counts as cancelled, also while its task waits for a worker: Dagster's own
    launcher revokes the task and tells nobody, so that the report would be made again, or wait for ever. Needs a result
    backend that all processes can read, such as Redis or a database; `rpc://` is none.
    """

    def terminate(self, run_id: str) -> bool:
        """Cancel the run; False if it has ended. Celery sends SIGTERM to a worker's process that executes it."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        state = self._state(run)
        # Celery forgets the state of a task that runs for longer than `result_expires`, a day.
        waited = run.status == DagsterRunStatus.STARTING and state in (None, PENDING)
        if run.status != DagsterRunStatus.CANCELING:
            self._instance.report_run_canceling(run)
        if state is not None:
            super().terminate(run_id)
        if waited:
            self._instance.report_run_canceled(run, "The run was cancelled while it waited for a Celery worker.")
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Dagster's answer; `NOT_FOUND` for a run whose task was never sent."""
        if self._state(run) is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "No Celery task was sent for the run.")
        return super().check_run_worker_health(run)

    def _state(self, run: DagsterRun) -> Any:
        """Celery's state of the run's task; None if there is none."""
        task = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        return None if task is None else self.celery.AsyncResult(task).state
