"""Where the two systems of record disagree, and what is done about it: rows of the queue against Dagster's runs.

Rows that are running are left alone, whatever Dagster says of their run: only the lease tells that its process can do
no more work, and a second run before that would work beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from orchestrator.client import ApiRefused, HeldRow, ReportQueueClient
from orchestrator.execution import QUEUE_ID_TAG, Ticket

GRACE_SECONDS = 60.0
"""How old an acknowledged row must be before a missing run means that there will be none."""
PAGES = 10
RUNS_ASKED_AT_ONCE = 100
QUEUED_RUNS = 200
"""Queued runs looked at each time, the oldest first."""
FINAL = ("succeeded", "failed", "cancelled", "skipped")
_WAITING = (DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED)
_ENDED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)


@dataclass
class Reconciled:
    """What one comparison found and repaired."""

    compared: int = 0
    kept_waiting: int = 0
    """Rows whose run waits in Dagster's queue: their lease was renewed."""
    launched_again: int = 0
    """Rows whose run ended without starting them, or was never made: queued again."""
    runs_cancelled: int = 0
    """Runs still waiting for a row that nobody wants any more."""

    def __str__(self) -> str:
        return (
            f"{self.compared} dispatched rows compared: {self.kept_waiting} wait in Dagster's queue, "
            f"{self.launched_again} launched again; {self.runs_cancelled} runs of ended rows cancelled."
        )


def reconcile(
    instance: DagsterInstance,
    client: ReportQueueClient,
    consumers: Collection[str],
    *,
    grace_seconds: float = GRACE_SECONDS,
) -> Reconciled:
    """Compare the consumers' dispatched rows with Dagster's runs, and the queued runs with their rows.

    Safe at any time and in several places at once: every repair is refused by the queue if the row has moved on.
    """
    done = Reconciled()
    settled = datetime.now(UTC) - timedelta(seconds=grace_seconds)
    rows = (row for row in client.rows("dispatched", pages=PAGES) if row.claimed_by in consumers)
    for some in _batches(rows, RUNS_ASKED_AT_ONCE):
        runs = _runs_of(instance, some)
        for row in some:
            done.compared += 1
            _repair(client, row, runs.get(Ticket(row.queue_id, row.generation)), settled, done)
    _cancel_unwanted(instance, client, done)
    return done


def _repair(
    client: ReportQueueClient, row: HeldRow, run: DagsterRun | None, settled: datetime, done: Reconciled
) -> None:
    try:
        if run is None:
            if row.dispatched_at is not None and row.dispatched_at < settled:
                # Dagster dropped the request: it does so with what is left of a tick that failed twice.
                text = "Dagster has no run for it."
                client.fail_launch(row.queue_id, generation=row.generation, run_id="none", error=text)
                done.launched_again += 1
        elif run.status in _WAITING:
            client.keep_waiting(row.queue_id, generation=row.generation, run_id=run.run_id)
            done.kept_waiting += 1
        elif run.status in _ENDED:
            text = f"Dagster calls the run {run.status.value}."
            client.fail_launch(row.queue_id, generation=row.generation, run_id=run.run_id, error=text)
            done.launched_again += 1
    except ApiRefused as refused:
        if not refused.moved_on:
            raise
        # It has started, ended or been claimed again since the list was read: nothing to repair.


def _runs_of(instance: DagsterInstance, rows: Sequence[HeldRow]) -> dict[Ticket, DagsterRun]:
    """Each row's latest run, of whatever generation it was made for."""
    runs = instance.get_runs(RunsFilter(tags={QUEUE_ID_TAG: [str(row.queue_id) for row in rows]}))
    found: dict[Ticket, DagsterRun] = {}
    for run in runs:  # the newest first
        ticket = Ticket.of_run(run.tags)
        if ticket is not None:
            found.setdefault(ticket, run)
    return found


def _cancel_unwanted(instance: DagsterInstance, client: ReportQueueClient, done: Reconciled) -> None:
    queued = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.QUEUED]), limit=QUEUED_RUNS, ascending=True)
    for run in queued:
        ticket = Ticket.of_run(run.tags)
        if ticket is None or not _ended(client, ticket.queue_id):
            continue
        if instance.run_coordinator.cancel_run(run.run_id):
            done.runs_cancelled += 1


def _ended(client: ReportQueueClient, queue_id: int) -> bool:
    try:
        return client.row(queue_id).status in FINAL
    except ApiRefused as refused:
        if refused.status == 404:  # finished so long ago that it was pruned
            return True
        raise


def _batches(rows: Iterable[HeldRow], size: int) -> Iterator[list[HeldRow]]:
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch
