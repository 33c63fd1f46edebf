"""Which runs wait to be started: in Dagster's run queue, or in that of the engine behind its run launcher.

The lease of a row is renewed while its run waits. Otherwise an engine that is busy would get a second run for the row,
and a third. A run that will never start must not be taken for one that waits: then nothing would make its report.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Protocol, runtime_checkable

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.launcher import DefaultRunLauncher, WorkerStatus

ASK_SECONDS = 20.0
"""How long the launcher is asked which runs wait. A tick may take 60 s, and each question to a stopped server some."""
UNWATCHED_SECONDS = 3_600
"""How long a run may take to start if Dagster's run monitoring is off. If it is on, its `start_timeout_seconds`."""
_QUEUED = (DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED)
_ENDED = (WorkerStatus.NOT_FOUND, WorkerStatus.FAILED, WorkerStatus.SUCCESS)
logger = logging.getLogger(__name__)


@runtime_checkable
class WaitingLauncher(Protocol):
    """A run launcher that may let a run wait until others end, and can say which runs wait."""

    def waits(self, run: DagsterRun) -> bool:
        """Whether the run waits now."""


@runtime_checkable
class LosingLauncher(Protocol):
    """A run launcher that can say which runs will never start, because its engine has nothing of them any more."""

    def is_lost(self, run: DagsterRun) -> bool:
        """Whether the run will never start."""


class WaitingRuns:
    """Asks the instance's launcher about runs, for as long as one comparison may take."""

    def __init__(self, instance: DagsterInstance) -> None:
        self._launcher = instance.run_launcher
        self._until = time.monotonic() + ASK_SECONDS
        monitored = instance.run_monitoring_enabled
        seconds = instance.run_monitoring_start_timeout_seconds if monitored else UNWATCHED_SECONDS
        self._start_timeout = timedelta(seconds=seconds)
        self._said: dict[str, bool] = {}

    def has(self, run: DagsterRun, dispatched_for: timedelta) -> bool:
        """Whether the run waits, as far as one can know; its row was dispatched so long ago."""
        if run.status in _QUEUED:
            return True
        # Dagster shows a run as starting as soon as the launcher has it. Such a run need not wait: its process may
        # hang, or its server may have died. Then the row's lease must expire, so that the row is launched again.
        if run.status != DagsterRunStatus.STARTING:
            return False
        if run.run_id not in self._said:
            self._said[run.run_id] = self._ask(run, dispatched_for)
        return self._said[run.run_id]

    def has_lost(self, run: DagsterRun) -> bool:
        """Whether the run has not started and never will, as far as the launcher can say."""
        if run.status != DagsterRunStatus.STARTING or not isinstance(self._launcher, LosingLauncher):
            return False
        return time.monotonic() < self._until and self._launcher.is_lost(run)

    def _ask(self, run: DagsterRun, dispatched_for: timedelta) -> bool:
        in_time = time.monotonic() < self._until
        if isinstance(self._launcher, WaitingLauncher):
            return in_time and self._launcher.waits(run)
        # The default launcher asks the code server for a process at once, and cannot be asked what became of it: a
        # daemon that died in between leaves a run that will never start.
        if isinstance(self._launcher, DefaultRunLauncher) or dispatched_for >= self._start_timeout:
            return False
        # The launchers for Celery, Kubernetes, Docker and ECS have a queue behind them and no word for it: a task that
        # no worker has taken, a pod that has no node yet. They know which runs have come to an end there.
        if not in_time or not self._launcher.supports_check_run_worker_health:
            return True
        try:
            return self._launcher.check_run_worker_health(run).status not in _ENDED
        except Exception as error:
            logger.warning("The run launcher does not say what run %s does: %s", run.run_id, error)
            return True
