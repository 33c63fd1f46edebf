"""A run launcher for several machines: each run is a Celery task, and any worker makes it. Needs `dagster-celery`.

    run_launcher:
      module: dagster_reportqueue.celery_launcher
      class: ReportCeleryRunLauncher
      config: {broker: "redis://broker/0", backend: "redis://broker/1"}

`celery -A dagster_reportqueue.celery_worker worker` starts a worker; it reads the same dagster.yaml.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from dagster import DagsterRun, DagsterRunStatus, Field, Noneable, StringSource
from dagster._config.config_schema import UserConfigSchema
from dagster._core.events import EngineEventData
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import PRIORITY_TAG
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import pack_value
from dagster_celery.config import TASK_EXECUTE_JOB_NAME
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import (
    DAGSTER_CELERY_QUEUE_TAG,
    DAGSTER_CELERY_RUN_PRIORITY_TAG,
    DAGSTER_CELERY_TASK_ID_TAG,
)

from dagster_reportqueue.celery_engine import CeleryEngine, TaskState
from dagster_reportqueue.code_locations import origin_of

QUEUE_TAG = "reportqueue/celery_queue"
"""The tag of a run that names the Celery queue to which its task was sent."""
WAITING = ("PENDING", "RETRY")
"""Celery's states of a task that no worker has begun. A task that Celery does not know is `PENDING`, too."""
LOST_SECONDS = 120.0
"""A run is lost if its worker has not renewed the task's state for so long; a worker does this every 20 s."""
PRIVATE_BACKENDS = ("rpc", "amqp", "cache+memory", "disabled")
"""Result backends that only the process that sent a task can read, or none."""
LEVELS = 10
"""Celery's priorities, from 0 to 9."""
MIDDLE = 5
"""The level of a run with Dagster's priority 0."""
_VERSION = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
logger = logging.getLogger("dagster.celery_launcher")


class _Place(Enum):
    """Where a run is that has not started."""

    QUEUE = "the broker has its task, or a worker has it and has not begun it"
    WORKER = "a worker executes its task"
    NOWHERE = "its task is lost, or has ended: it will never start"
    UNKNOWN = "no task was sent, as far as its tags say"


class ReportCeleryRunLauncher(CeleryRunLauncher):
    """A `CeleryRunLauncher` with its options and some more, which `config_type` describes.

    Unlike Dagster's own, it refuses a result backend that does not work, says which runs wait, tells Dagster what it
    terminates, finds runs whose machine has died, and sends a run only to workers with the wanted version of the code.
    """

    def __init__(
        self,
        *,
        code_version: str | None = None,
        warm_at_start: Sequence[str] = (),
        preload: Sequence[str] = (),
        **options: Any,
    ) -> None:
        """Raises `ValueError` for options that cannot work; the text names the remedy."""
        super().__init__(**options)
        if code_version is not None and not _VERSION.fullmatch(code_version):
            raise ValueError(
                "code_version of the run launcher must have 1 to 64 letters, digits, '.', '_' and '-', and must not "
                f"begin with '.'; it is {code_version[:100]!r} in dagster.yaml."
            )
        self._refuse_private_backend()
        self.code_version = code_version
        self.warm_at_start = [origin_of(place) for place in warm_at_start]
        self.preload = tuple(preload)
        broker = str(self.broker or self.celery.conf.broker_url or "")
        self._zero_is_first = broker.startswith(("redis", "sentinel", "valkey"))
        self._configure()
        self._engine = CeleryEngine(self.celery)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """The options in dagster.yaml."""
        dagsters: Any = super().config_type()
        return {
            **dagsters,
            "code_version": Field(
                Noneable(StringSource),
                is_required=False,
                description="The version of the code, such as a commit. Only workers with the same version make the "
                "runs. Set it on every machine with each deployment, for instance by {env: CODE_VERSION}.",
            ),
            "warm_at_start": Field(
                [str],
                is_required=False,
                description="Code locations, as module:attribute, which a worker loads before it forks its processes.",
            ),
            "preload": Field(
                [str],
                is_required=False,
                description="Further modules that a worker imports before it forks its processes: those that the "
                "reports import only when they run.",
            ),
        }

    def queue_named(self, name: str) -> str:
        """The queue that workers with this launcher's version of the code read for the queue `name`."""
        return name if self.code_version is None else f"{name}.{self.code_version}"

    def launch_run(self, context: LaunchRunContext) -> None:
        """Send the run to its queue. Raises the broker's error if that fails."""
        run = context.dagster_run
        origin = context.job_code_origin
        if origin is None:
            raise ValueError(f"Run {run.run_id} has no code origin; was it created by a test?")
        queue, priority = self._queue_of(run), self._priority_of(run)
        # Set the tags before the task is sent, so that the run can be terminated from its first moment.
        self._instance.add_run_tags(run.run_id, {DAGSTER_CELERY_TASK_ID_TAG: run.run_id, QUEUE_TAG: queue})
        # Without the instance: its passwords would be in the broker, and workers have a dagster.yaml of their own.
        task = ExecuteRunArgs(job_origin=origin, run_id=run.run_id, instance_ref=None)
        result = self.celery.send_task(
            TASK_EXECUTE_JOB_NAME,
            kwargs={"execute_job_args_packed": pack_value(task)},
            task_id=run.run_id,
            queue=queue,
            priority=priority,
        )
        # Celery would keep a subscription for each result, which nobody reads here.
        self.celery.backend.remove_pending_result(result)
        where = EngineEventData({"Celery queue": queue, "Celery priority": priority})
        self._instance.report_engine_event("The run waits for a Celery worker.", run, where, cls=type(self))

    def terminate(self, run_id: str) -> bool:
        """Cancel the run; False if it has ended. Celery sends SIGTERM to a worker's process that executes it."""
        before = self._instance.get_run_by_id(run_id)
        place = None if before is None else self._place_of(before)
        run = self._instance.get_run_by_id(run_id)  # only now, since it may have ended before its task did
        if run is None or run.is_finished:
            return False
        if run.status != DagsterRunStatus.CANCELING:
            self._instance.report_run_canceling(run)
        if place is not _Place.UNKNOWN:
            self.celery.control.revoke(run_id, terminate=True)
        if run.status == DagsterRunStatus.STARTING and place is not _Place.WORKER:
            self._instance.report_run_canceled(run, "The run was cancelled before a Celery worker had begun it.")
        return True

    @property
    def supports_resume_run(self) -> bool:
        """No: the queue owns retries."""
        return False

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether a worker executes the run. Run monitoring fails a run for which the answer is `NOT_FOUND`."""
        task = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "No Celery task was sent for the run.")
        state = self._engine.state(task)
        if state.name == "FAILURE":
            return CheckRunHealthResult(WorkerStatus.FAILED, f"The Celery task has failed: {state.result}")
        if state.name == "SUCCESS":
            # The process stores the run's end first, so a run that has not ended by now will not end.
            now = self._instance.get_run_by_id(run.run_id)
            if now is not None and not now.is_finished:
                return CheckRunHealthResult(WorkerStatus.FAILED, "The Celery task has ended, and the run has not.")
            return CheckRunHealthResult(WorkerStatus.SUCCESS)
        seconds = self._engine.unchanged(task, state)
        where = f"{state.worker or 'No worker'} has not renewed it for {seconds:.0f} s."
        if seconds >= LOST_SECONDS:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"The Celery task is lost: {where}")
        return CheckRunHealthResult(WorkerStatus.RUNNING, f"The Celery task is {state.name}. {where}")

    def waits(self, run: DagsterRun) -> bool:
        """Whether the run waits for a worker; True also while the broker or the result backend does not answer."""
        return self._place_of(run) is _Place.QUEUE

    def is_lost(self, run: DagsterRun) -> bool:
        """Whether the run, which has not started, never will: its task is gone, or nobody reads its queue any more."""
        return self._place_of(run) is _Place.NOWHERE

    def get_run_worker_debug_info(self, run: DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """The state of the run's task and who reads its queue, for the message about a run that did not start."""
        task, queue = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG), run.tags.get(QUEUE_TAG)
        if task is None or queue is None:
            return "No Celery task was sent for the run."
        readers = ", ".join(self._engine.readers_of(queue)) or "no worker"
        return f"The Celery task is {self._engine.state(task).name}. Its queue is {queue}, which {readers} reads."

    def _place_of(self, run: DagsterRun) -> _Place:
        task, queue = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG), run.tags.get(QUEUE_TAG)
        if task is None or queue is None:
            return _Place.UNKNOWN
        try:
            state = self._engine.state(task)
            if state.name in WAITING:
                return _Place.QUEUE if self._can_begin(run, task, queue, state) else _Place.NOWHERE
            executed = state.name == "STARTED" and self._engine.unchanged(task, state) < LOST_SECONDS
            return _Place.WORKER if executed else _Place.NOWHERE
        except Exception as error:
            logger.warning("Celery does not say where run %s is: %s", run.run_id, error)
            return _Place.QUEUE

    def _can_begin(self, run: DagsterRun, task: str, queue: str, state: TaskState) -> bool:
        if queue != self._queue_of(run):
            # It was launched with another version of the code. It may wait only for workers that still have that one.
            return bool(self._engine.readers_of(queue))
        # A task that was lost waits for ever: its broker was emptied, or its worker died in the moment it took it.
        return (
            self._engine.unchanged(task, state) < LOST_SECONDS
            or self._engine.has_tasks(queue)
            or task in self._engine.reserved()
        )

    def _queue_of(self, run: DagsterRun) -> str:
        return self.queue_named(run.tags.get(DAGSTER_CELERY_QUEUE_TAG, self.default_queue))

    def _priority_of(self, run: DagsterRun) -> int:
        """Celery's priority of the run's task, for the broker that is used."""
        level = _number(run.tags, DAGSTER_CELERY_RUN_PRIORITY_TAG)
        if level is None:
            level = MIDDLE + (_number(run.tags, PRIORITY_TAG) or 0)
        level = min(max(level, 0), LEVELS - 1)
        return LEVELS - 1 - level if self._zero_is_first else level

    def _refuse_private_backend(self) -> None:
        backend = str(self.backend or self.celery.conf.result_backend or "disabled://")
        kind = backend.partition(":")[0]
        if kind in PRIVATE_BACKENDS:
            raise ValueError(
                f"The Celery run launcher cannot use the result backend {kind}://, because no other process could read "
                "what became of a run. Set backend in the config of run_launcher in dagster.yaml to one that every "
                "machine reads, such as redis://HOST/1 or db+postgresql://HOST/NAME."
            )

    def _configure(self) -> None:
        """Settings of Celery that runs need; `config_source` in dagster.yaml has precedence."""
        wanted: dict[str, Any] = {
            # Each run gets a process of its own, which is forked from one that has loaded the code.
            "worker_max_tasks_per_child": 1,
            # A worker takes a task only when a process is free, so that no task waits behind a long one.
            "worker_disable_prefetch": self._zero_is_first,
            # Dagster keeps what a run prints.
            "worker_redirect_stdouts": False,
            "broker_connection_retry_on_startup": True,
        }
        given = self.config_source
        conf = self.celery.conf
        conf.update({name: value for name, value in wanted.items() if name not in given})
        if self._zero_is_first:
            ranks = {"priority_steps": list(range(LEVELS)), "queue_order_strategy": "priority"}
            conf.broker_transport_options = {**ranks, **conf.broker_transport_options}
        # Dagster's own routes know one queue; a task with another one would get a key that leads nowhere.
        conf.task_queues, conf.task_routes, conf.task_default_queue = None, None, self.default_queue


def _number(tags: Mapping[str, str], name: str) -> int | None:
    try:
        return int(tags[name])
    except (KeyError, ValueError):
        return None
