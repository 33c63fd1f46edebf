"""Stray runs: they still run although they no longer own their rows, or although their report was cancelled.

A report that hangs in C code, or whose process is frozen, reacts neither to its heartbeat nor to a signal. Its lease
expires and another run makes the report. The old process would keep its slot in the launcher for ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from enum import Enum, auto

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from dagster_reportqueue.client import HeldRow, ReportQueueClient
from dagster_reportqueue.sensors.reconciliation import FINAL, find_row
from dagster_reportqueue.tickets import (
    MAX_RUN_ROWS,
    MODIFIER_ID_TAG,
    REPORT_ID_TAG,
    STRAY_TAG,
    FiringTicket,
    tickets_of,
)

RUNS = 500
"""Started runs that are checked each time, oldest first."""
ROWS = MAX_RUN_ROWS
"""Rows that are requested each time, one call each. Most runs are known after one."""
STUBBORN_SECONDS = 60.0
"""How long a report may continue after its cancel was requested; a heartbeat has told its run by then."""
TOO_LATE_SECONDS = 120
"""How long a run may go on although another run owns or has made its rows; it notices when it wants to start them."""


class StrayRuns:
    """Finds and terminates stray runs; remembers since when it has seen each cancel request and each late run.

    It measures with its own monotonic clock: the clocks of workers may differ from this one.
    """

    def __init__(self) -> None:
        self._cancels: dict[tuple[int, str], float] = {}
        self._late: dict[str, float] = {}

    def end(self, instance: DagsterInstance, client: ReportQueueClient) -> int:
        """Terminate stray runs and return their number. The launcher kills a run that does not end in time.

        Raises `ApiError`. Needs the permission to view.
        """
        records = instance.get_run_records(
            RunsFilter(statuses=[DagsterRunStatus.STARTED]), limit=RUNS, order_by="update_timestamp", ascending=True
        )
        ours = [record for record in records if _is_ours(record.dagster_run)]
        if not ours:
            return 0
        running = list(client.rows("running"))
        owners = {row.run_id for row in running}
        stubborn = self._stubborn(running)
        check = _Check(client)
        seen_late, self._late = self._late, {}
        ended = 0
        for record in ours:
            run = record.dagster_run
            if run.run_id in stubborn:
                reason = "Its report was cancelled in the queue, and the run has not ended since."
            elif run.run_id in owners or (relation := check.relation(run)) not in (_Relation.LOST, _Relation.TOO_LATE):
                continue
            else:
                reason = "It no longer owns any of its reports: their leases have expired, or other runs own them."
                if relation is _Relation.TOO_LATE:
                    now = time.monotonic()
                    self._late[run.run_id] = since = seen_late.get(run.run_id, now)
                    if now - since < TOO_LATE_SECONDS:
                        continue
            # Its other reports are to be made: the run returns them to the queue, where a person's termination cancels.
            instance.add_run_tags(run.run_id, {STRAY_TAG: "true"})
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


class _Relation(Enum):
    """How a run is related to one of its rows. For all of its rows the first one counts."""

    OWN = auto()
    WAITS = auto()
    """The run may still start the row."""
    LOST = auto()
    """The run had started the row, and its lease expired."""
    ENDED = auto()
    """The run has made or released the row. Its job may have more to do."""
    TOO_LATE = auto()
    """Another run owns or has made the row, or the row was deleted."""


class _Check:
    """Reads the rows of runs that own none; at most `ROWS` of them."""

    def __init__(self, client: ReportQueueClient) -> None:
        self._client = client
        self._left = ROWS

    def relation(self, run: DagsterRun) -> _Relation | None:
        """How the run is related to its rows: the first of `_Relation` that holds for one; None if that is unknown."""
        found = set()
        for row, generation in self._rows_of(run):
            found.add(relation := _relation(row, generation, run.run_id))
            if relation in (_Relation.OWN, _Relation.WAITS):
                break
        return next((relation for relation in _Relation if relation in found), None)

    def _rows_of(self, run: DagsterRun) -> Iterator[tuple[HeldRow | None, int]]:
        """The run's rows, each with the generation of its launch; None for a deleted row. None at all if too many."""
        firing = FiringTicket.of_run(run.tags)
        wanted = [(ticket.queue_id, ticket.generation) for ticket in tickets_of(run)]
        if firing is not None and self._left > 0 and {REPORT_ID_TAG, MODIFIER_ID_TAG} <= run.tags.keys():
            self._left -= 1
            ids = int(run.tags[REPORT_ID_TAG]), int(run.tags[MODIFIER_ID_TAG])
            wanted = [(row.queue_id, row.generation) for row in self._client.rows_at(*ids, firing.trigger_time)]
        if len(wanted) > self._left:
            return
        for pk, generation in wanted:
            self._left -= 1
            yield find_row(self._client, pk), generation


def _relation(row: HeldRow | None, generation: int, run_id: str) -> _Relation:
    outcome = None if row is None else row.outcomes.get(run_id)
    if row is None or (outcome is None and (row.status in FINAL or row.status == "running")):
        return _Relation.TOO_LATE
    if outcome is None:
        return _Relation.WAITS if row.generation <= generation else _Relation.TOO_LATE
    return {"": _Relation.OWN, "expired": _Relation.LOST}.get(outcome, _Relation.ENDED)
