"""Dagster's storage, its run queue and its launcher, as far as the product's sensors and runs use them.

Run keys are remembered for ever. A run's process may die without a word; the storage then shows it as started until
the launcher notices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from dagster import DagsterRunStatus, RunRequest, RunsFilter
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

from tools.simulator.history import History
from tools.simulator.machine import instant
from tools.simulator.world import Process, World

ENDED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
WAITING = (DagsterRunStatus.NOT_STARTED, DagsterRunStatus.QUEUED)


@dataclass(frozen=True)
class Run:
    """The fields of a `DagsterRun` that the product reads. The real one needs a code location."""

    job_name: str | None
    run_id: str
    run_config: Mapping[str, Any]
    tags: Mapping[str, str]
    status: DagsterRunStatus = DagsterRunStatus.NOT_STARTED
    parent_run_id: str | None = None


@dataclass
class Record:
    """A run as the storage has it."""

    dagster_run: Run
    sensor: str
    run_key: str | None
    request: RunRequest
    update_timestamp: datetime
    start_time: float | None = None
    process: Process | None = None


class Instance:
    """One Dagster: its runs, in the order in which they were created."""

    def __init__(self, world: World, history: History, name: str, skew: float, *, tells_who_waits: bool) -> None:
        self._world, self._history, self._name, self._skew = world, history, name, skew
        self.records: dict[str, Record] = {}
        self.ended: list[str] = []
        """The runs that failed or were cancelled, in order: what run status sensors are told of."""
        self.run_coordinator = SimpleNamespace(cancel_run=self.cancel_run)
        self.run_launcher: Any = _TellingLauncher() if tells_who_waits else _AskedLauncher(self)
        self.run_monitoring_enabled = False
        self.terminate: Callable[[Process], None] = lambda process: None
        self.event_log_storage = None
        self.run_storage = None  # none of Dagster's own: the name of the deployment is that of its settings

    # What the product calls

    def get_ref(self) -> Any:
        """What names the deployment."""
        return SimpleNamespace(run_storage_data=self._name)

    def get_runs(
        self, filters: RunsFilter, cursor: str | None = None, limit: int | None = None, ascending: bool = False
    ) -> list[Run]:
        """The newest first, unless told otherwise; with a `cursor`, those behind the run of that id."""
        found = [record.dagster_run for record in self._found(filters)]
        ordered = found if ascending else found[::-1]
        ids = [run.run_id for run in ordered]
        return ordered[ids.index(cursor) + 1 if cursor in ids else 0 :][:limit]

    def get_run_records(
        self, filters: RunsFilter, limit: int | None = None, order_by: str | None = None, ascending: bool = False
    ) -> list[Record]:
        """In the order of their last change."""
        found = sorted(self._found(filters), key=lambda record: record.update_timestamp, reverse=not ascending)
        return [replace(record) for record in found[:limit]]

    def get_run_by_id(self, run_id: str) -> Run | None:
        """The run as it is now."""
        record = self.records.get(run_id)
        return None if record is None else record.dagster_run

    def add_run_tags(self, run_id: str, tags: dict[str, str]) -> None:
        """Add tags to a run."""
        record = self.records[run_id]
        record.dagster_run = replace(record.dagster_run, tags={**record.dagster_run.tags, **tags})

    def report_engine_event(self, *_: Any, **__: Any) -> None:
        """Events are not kept."""

    def report_run_canceling(self, run: Run, message: str | None = None) -> None:
        """The run is about to be cancelled."""
        self.to(run.run_id, DagsterRunStatus.CANCELING)

    def report_run_canceled(self, run: Run, message: str | None = None) -> None:
        """The run is cancelled."""
        self.to(run.run_id, DagsterRunStatus.CANCELED)

    def cancel_run(self, run_id: str) -> bool:
        """Cancel a run that waits; tell the process of another one to end."""
        record = self.records[run_id]
        if record.dagster_run.status in WAITING:
            self.to(run_id, DagsterRunStatus.CANCELED)
            return True
        if record.dagster_run.status in ENDED:
            return False
        self.to(run_id, DagsterRunStatus.CANCELING)
        if record.process is not None:
            self.terminate(record.process)
        return True

    # What the simulated Dagster does

    def create(self, run_id: str, sensor: str, request: RunRequest) -> Record:
        """Create the run of a request; it has not started."""
        run = Run(request.job_name, run_id, request.run_config, request.tags)
        record = Record(run, sensor, request.run_key, request, self._now())
        self.records[run_id] = record
        self._history.tell(self._name, f"run {run_id} is created for {request.run_key}")
        return record

    def known(self, sensor: str) -> dict[str, Record]:
        """The sensor's runs by their run keys."""
        return {
            record.run_key: record
            for record in self.records.values()
            if record.sensor == sensor and record.run_key is not None
        }

    def to(self, run_id: str, status: DagsterRunStatus) -> None:
        """Set a run's status; an ended run stays as it is."""
        record = self.records[run_id]
        caller = self._world.current
        if record.dagster_run.status in ENDED or (caller is not None and caller.process.dead):
            return
        record.dagster_run = replace(record.dagster_run, status=status)
        record.update_timestamp = self._now()
        if status == DagsterRunStatus.STARTED:
            record.start_time = self._now().timestamp()
        if status in (DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED):
            self.ended.append(run_id)
        self._history.tell(self._name, f"run {run_id} is {status.value}")

    def unfinished(self, *statuses: DagsterRunStatus) -> Sequence[Record]:
        """Runs with one of the statuses, oldest first."""
        return [record for record in self.records.values() if record.dagster_run.status in statuses]

    def age(self, record: Record) -> float:
        """Seconds since the run's last change."""
        return (self._now() - record.update_timestamp).total_seconds()

    def _now(self) -> datetime:
        return instant(self._world.now + self._skew)

    def _found(self, filters: RunsFilter) -> list[Record]:
        return [record for record in self.records.values() if _matches(record, filters)]


class _TellingLauncher:
    """A launcher that says which runs wait; here none does once it was started."""

    def waits(self, run: Run) -> bool:
        """Whether the run waits now."""
        return False


class _AskedLauncher:
    """A launcher that knows only which runs have a process, as those for Celery or Kubernetes."""

    supports_check_run_worker_health = True

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def check_run_worker_health(self, run: Run) -> CheckRunHealthResult:
        """Whether the run's process is alive."""
        process = self._instance.records[run.run_id].process
        alive = process is not None and not process.dead
        return CheckRunHealthResult(WorkerStatus.RUNNING if alive else WorkerStatus.NOT_FOUND)


def _matches(record: Record, filters: RunsFilter) -> bool:
    run = record.dagster_run
    if filters.statuses and run.status not in filters.statuses:
        return False
    if filters.updated_after is not None and record.update_timestamp <= filters.updated_after:
        return False
    if filters.updated_before is not None and record.update_timestamp >= filters.updated_before:
        return False
    for name, wanted in (filters.tags or {}).items():
        values = [wanted] if isinstance(wanted, str) else wanted
        if run.tags.get(name) not in values:
            return False
    return True
