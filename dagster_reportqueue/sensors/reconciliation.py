"""Compares the queue's dispatched rows with Dagster's runs, and repairs differences.

Running rows are not touched, whatever Dagster says about their run. Only an expired lease proves that the process does
no more work; a second run before that would work at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from dagster_reportqueue.client import ApiRefused, HeldRow, ReportQueueClient
from dagster_reportqueue.sensors.waiting_runs import WaitingRuns
from dagster_reportqueue.tickets import BATCH_TAG, QUEUE_ID_TAG, STRAY_TAG, Ticket, tickets_of

GRACE_SECONDS = 60.0
"""How long after its acknowledgement a row without a run is taken for lost."""
RUNS_ASKED_AT_ONCE = 100
BATCH_RUNS = 1_000
"""Unfinished batch runs in one question."""
BATCH_SECONDS = 15.0
"""How long they are read. If there are more, no row is reported as missing its run. A tick may take 60 s."""
UNSTARTED_RUNS = 200
"""Runs that have not started and are checked each time, oldest first."""
UNSTARTED_ROWS = 1_000
"""Rows that are requested each time to find out whether such runs are still wanted, one call each."""
FINAL = ("succeeded", "failed", "cancelled", "skipped")
_UNSTARTED = (DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING)
_ENDED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
_UNFINISHED = frozenset(DagsterRunStatus) - frozenset(_ENDED)


@dataclass
class Reconciled:
    """The results of one comparison."""

    compared: int = 0
    kept_waiting: int = 0
    """Rows whose lease was renewed, because their run waits in Dagster's queue or in that of its launcher."""
    launched_again: int = 0
    """Rows that are queued again, because their run ended before it started them or was never made."""
    runs_cancelled: int = 0
    """Runs that were cancelled before they started: the engine lost them, or no row needs them any more."""

    def __str__(self) -> str:
        return (
            f"{self.compared} dispatched rows compared: {self.kept_waiting} have a waiting run, "
            f"{self.launched_again} launched again; {self.runs_cancelled} runs that nobody needs cancelled."
        )


def reconcile(
    instance: DagsterInstance,
    client: ReportQueueClient,
    consumers: Collection[str],
    *,
    grace_seconds: float = GRACE_SECONDS,
) -> Reconciled:
    """Compare the consumers' dispatched rows with Dagster's runs, and the runs that have not started with their rows.

    Safe at any time and in several processes: the queue refuses a repair if the row has changed since.
    """
    done = Reconciled()
    grace = timedelta(seconds=grace_seconds)
    rows = list(client.rows("dispatched", claimed_by=consumers))
    done.compared = len(rows)
    # Read the runs after the rows: if a run starts a row in between, the queue refuses the repair of that row.
    batches = _Batches(instance, consumers) if rows else None
    waiting_runs = WaitingRuns(instance)
    waiting: dict[str, dict[int, int]] = {}
    lost: set[str] = set()
    for some in _chunks(rows, RUNS_ASKED_AT_ONCE):
        runs = batches.runs_of(some) if batches else {}
        runs |= _runs_of(instance, [row for row in some if _ticket(row) not in runs])
        for row in some:
            run = runs.get(_ticket(row))
            if run is not None and waiting_runs.has(run, row.dispatched_for):
                waiting.setdefault(run.run_id, {})[row.queue_id] = row.generation
            elif run is not None and run.run_id in lost:
                continue
            elif run is not None and waiting_runs.has_lost(run):
                lost.add(run.run_id)
                done.runs_cancelled += _cancel(instance, run)  # the next comparison launches its rows again
            elif run is not None or batches is None or batches.all_known:
                _repair(client, row, run, grace, done)
    for run_id, generations in waiting.items():
        answers = client.renew_dispatch_many(generations, run_id=run_id)
        done.kept_waiting += sum(answer is True for answer in answers.values())
    _cancel_unwanted(instance, client, {_ticket(row) for row in rows}, done)
    return done


def _ticket(row: HeldRow) -> Ticket:
    return Ticket(row.queue_id, row.generation)


class _Batches:
    """The unfinished runs of many rows. One that has ended is none: its rows that are still dispatched have no run."""

    def __init__(self, instance: DagsterInstance, consumers: Collection[str]) -> None:
        unfinished = RunsFilter(tags={BATCH_TAG: sorted(consumers)}, statuses=list(_UNFINISHED))
        until = time.monotonic() + BATCH_SECONDS
        self._runs: dict[Ticket, DagsterRun] = {}
        self.all_known, cursor = False, None
        while not self.all_known and time.monotonic() < until:
            runs = instance.get_runs(unfinished, cursor=cursor, limit=BATCH_RUNS)
            # The newest first; a row may be in an older one as well, whose start would be as good.
            for run in runs:
                for ticket in tickets_of(run):
                    self._runs.setdefault(ticket, run)
            self.all_known = len(runs) < BATCH_RUNS
            cursor = runs[-1].run_id if runs else None

    def runs_of(self, rows: Iterable[HeldRow]) -> dict[Ticket, DagsterRun]:
        """Those of the rows that are in one."""
        return {ticket: self._runs[ticket] for ticket in map(_ticket, rows) if ticket in self._runs}


def _repair(
    client: ReportQueueClient, row: HeldRow, run: DagsterRun | None, grace: timedelta, done: Reconciled
) -> None:
    try:
        if run is None:
            if row.dispatched_for > grace:
                # Dagster dropped the run request, as it does after a tick that failed twice.
                text = "Dagster has no run for the row."
                client.fail_launch(row.queue_id, generation=row.generation, run_id="none", error=text, counts=False)
                done.launched_again += 1
        elif run.status in _ENDED:
            text = f"Dagster shows the run as {run.status.value}."
            counts = run.status != DagsterRunStatus.CANCELED
            client.fail_launch(row.queue_id, generation=row.generation, run_id=run.run_id, error=text, counts=counts)
            done.launched_again += 1
    except ApiRefused as refused:
        if not (refused.moved_on or refused.held_by_another):
            raise
        # The row was started, ended or claimed again since the list was read: nothing to repair. Or it is that of a
        # consumer of this name with another API user: another Dagster, or this one before its user was changed.


def _runs_of(instance: DagsterInstance, rows: Sequence[HeldRow]) -> dict[Ticket, DagsterRun]:
    """The latest run of each ticket of these rows."""
    if not rows:
        return {}
    runs = instance.get_runs(RunsFilter(tags={QUEUE_ID_TAG: [str(row.queue_id) for row in rows]}))
    found: dict[Ticket, DagsterRun] = {}
    for run in runs:  # the newest first
        ticket = Ticket.of_run(run.tags)
        if ticket is not None:
            found.setdefault(ticket, run)
    return found


def _cancel_unwanted(
    instance: DagsterInstance, client: ReportQueueClient, dispatched: Collection[Ticket], done: Reconciled
) -> None:
    """Cancel runs that have not started and could start none of their rows any more. They would take slots."""
    unstarted = instance.get_runs(RunsFilter(statuses=list(_UNSTARTED)), limit=UNSTARTED_RUNS, ascending=True)
    left = UNSTARTED_ROWS
    for run in unstarted:
        tickets = tickets_of(run)
        if not tickets or any(ticket in dispatched for ticket in tickets):
            continue
        for ticket in tickets:
            left -= 1
            if left < 0:
                return
            if not _passed_over(client, ticket, run.parent_run_id):
                break
        else:
            done.runs_cancelled += _cancel(instance, run)


def _passed_over(client: ReportQueueClient, ticket: Ticket, parent: str | None) -> bool:
    """Whether a run with this ticket can start its row no more: the row has ended, or a later run was launched.

    A person may execute the last run of a row that has ended again: that run, whose `parent` it is, may start the row.
    """
    row = find_row(client, ticket.queue_id)
    if row is not None and row.status in FINAL and parent is not None and parent == row.run_id:
        return False
    return row is None or row.status in FINAL or row.generation > ticket.generation


def _cancel(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Cancel a run that has not started; whether it could be. Nobody has cancelled its report."""
    instance.add_run_tags(run.run_id, {STRAY_TAG: "true"})
    if not instance.run_coordinator.cancel_run(run.run_id):
        return False
    after = instance.get_run_by_id(run.run_id)
    if after is not None and after.status == DagsterRunStatus.STARTING:
        # Some launchers take it out of their engine's queue and tell Dagster nothing.
        instance.report_run_canceled(after, "The run was cancelled before it had started: nothing needs it any more.")
    return True


def find_row(client: ReportQueueClient, queue_id: int) -> HeldRow | None:
    """The row; None if it was deleted, as happens when it has ended long ago. Raises `ApiError`."""
    try:
        return client.row(queue_id)
    except ApiRefused as refused:
        if refused.status == 404:
            return None
        raise


def _chunks(rows: Sequence[HeldRow], size: int) -> Iterator[Sequence[HeldRow]]:
    for first in range(0, len(rows), size):
        yield rows[first : first + size]
