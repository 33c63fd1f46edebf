"""Runs that go on although they may not: their rows are no longer theirs, or somebody cancelled them long ago.

A report that hangs in C code, or whose process is frozen, hears neither its heartbeat nor a signal. Its lease ends and
another run makes the report; the old process would hold its place in the launcher for ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.storage.dagster_run import RunRecord

from orchestrator.batch_jobs import tickets_of
from orchestrator.client import ApiRefused, HeldRow, ReportQueueClient
from orchestrator.reconciliation import FINAL
from orchestrator.report_run import FiringTicket

RUNS = 500
"""Started runs that are looked at each time, the oldest first."""
ROWS = 300
"""Rows that are asked about each time, one call each."""
PAGES = 10
STUBBORN_SECONDS = 60.0
"""How long a report may go on after its cancel was asked for: its run has heard of it with a heartbeat by then."""
TOO_LATE_SECONDS = 120
"""How long a run that came too late for its rows may take to notice."""
REPORT_ID_TAG, MODIFIER_ID_TAG = "reportqueue/report_id", "reportqueue/modifier_id"


class StrayRuns:
    """Finds such runs and has them terminated; it remembers since when it has seen a cancel that nobody heeded."""

    def __init__(self) -> None:
        self._cancels: dict[tuple[int, str], float] = {}

    def end(self, instance: DagsterInstance, client: ReportQueueClient) -> int:
        """Ask for the termination of each; how many. The launcher kills what does not end within its time.

        Raises `ApiError`. It needs the permission to view.
        """
        records = instance.get_run_records(
            RunsFilter(statuses=[DagsterRunStatus.STARTED]), limit=RUNS, order_by="update_timestamp", ascending=True
        )
        ours = [record for record in records if _is_ours(record.dagster_run)]
        if not ours:
            return 0
        running = list(client.rows("running", pages=PAGES))
        owners = {row.run_id for row in running}
        stubborn = self._stubborn(running)
        looked = _Look(client)
        ended = 0
        for record in ours:
            run = record.dagster_run
            if run.run_id in stubborn:
                reason = "Its report was cancelled in the queue, and it has not ended since."
            elif run.run_id in owners or not looked.is_stray(record):
                continue
            else:
                reason = "None of its reports is its own any more: their leases have expired, or other runs have them."
            instance.report_engine_event(f"The run is terminated. {reason}", run)
            ended += bool(instance.run_coordinator.cancel_run(run.run_id))
        return ended

    def _stubborn(self, running: Iterable[HeldRow]) -> set[str]:
        now = time.monotonic()
        asked = {(row.queue_id, row.run_id) for row in running if row.cancel_requested}
        self._cancels = {cancel: self._cancels.get(cancel, now) for cancel in asked}
        return {run_id for (_, run_id), since in self._cancels.items() if now - since >= STUBBORN_SECONDS}


def _is_ours(run: DagsterRun) -> bool:
    return bool(tickets_of(run)) or FiringTicket.of_run(run.tags) is not None


class _Standing(Enum):
    """How a run stands to one of its rows."""

    OWN = auto()
    WAITS = auto()
    """It may still start it."""
    ENDED = auto()
    """It has made it, or given it back. Its job may have more to do."""
    LOST = auto()
    """It had begun it, and its lease expired."""
    TOO_LATE = auto()
    """Another run has or had it, or it is gone."""


class _Look:
    """One look at the rows of runs that own none; bounded."""

    def __init__(self, client: ReportQueueClient) -> None:
        self._client = client
        self._left = ROWS

    def is_stray(self, record: RunRecord) -> bool:
        """Whether the run has lost its rows, and none waits for it; not if that cannot be said."""
        run_id = record.dagster_run.run_id
        found = {_standing(row, generation, run_id) for row, generation in self._rows_of(record.dagster_run)}
        if found & {_Standing.OWN, _Standing.WAITS}:
            return False
        return _Standing.LOST in found or (found == {_Standing.TOO_LATE} and _age(record) > TOO_LATE_SECONDS)

    def _rows_of(self, run: DagsterRun) -> list[tuple[HeldRow | None, int]]:
        """Its rows with the generations it was made for; None for a row that is gone. Empty if too many."""
        firing = FiringTicket.of_run(run.tags)
        wanted = [(ticket.queue_id, ticket.generation) for ticket in tickets_of(run)]
        if firing is not None and self._left > 0 and {REPORT_ID_TAG, MODIFIER_ID_TAG} <= run.tags.keys():
            self._left -= 1
            ids = int(run.tags[REPORT_ID_TAG]), int(run.tags[MODIFIER_ID_TAG])
            wanted = [(row.queue_id, row.generation) for row in self._client.rows_at(*ids, firing.trigger_time)]
        if len(wanted) > self._left:
            return []
        self._left -= len(wanted)
        return [(self._row(pk), generation) for pk, generation in wanted]

    def _row(self, pk: int) -> HeldRow | None:
        try:
            return self._client.row(pk)
        except ApiRefused as refused:
            if refused.status == 404:  # finished so long ago that it was pruned
                return None
            raise


def _standing(row: HeldRow | None, generation: int, run_id: str) -> _Standing:
    outcome = None if row is None else row.outcomes.get(run_id)
    if row is None or (outcome is None and (row.status in FINAL or row.status == "running")):
        return _Standing.TOO_LATE
    if outcome is None:
        return _Standing.WAITS if row.generation <= generation else _Standing.TOO_LATE
    return {"": _Standing.OWN, "expired": _Standing.LOST}.get(outcome, _Standing.ENDED)


def _age(record: RunRecord) -> float:
    began = datetime.fromtimestamp(record.start_time, UTC) if record.start_time else record.update_timestamp
    return (datetime.now(UTC) - began.astimezone(UTC)) / timedelta(seconds=1)
