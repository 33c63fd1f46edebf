"""Where the two systems of record disagree, and what is done about it: rows of the queue against Dagster's runs.

Rows that are running are left alone, whatever Dagster says of their run: only the lease tells that its process can do
no more work, and a second run before that would work beside it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from dagster_reportqueue.client import ApiRefused, HeldRow, ReportQueueClient
from dagster_reportqueue.tickets import BATCH_TAG, QUEUE_ID_TAG, Ticket, tickets_of

GRACE_SECONDS = 60.0
"""How old an acknowledged row must be before a missing run means that there will be none."""
PAGES = 10
RUNS_ASKED_AT_ONCE = 100
BATCH_RUNS = 1_000
"""Unfinished runs of many rows that are looked at. Were there more, no row would be taken for one without a run."""
ASK_SECONDS = 20.0
"""How long a launcher is asked for what waits: a tick may take 60 s, and a process that is asked may be stopped."""
QUEUED_RUNS = 200
"""Queued runs looked at each time, the oldest first."""
FINAL = ("succeeded", "failed", "cancelled", "skipped")
_WAITING = (DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED)
_ENDED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
_UNFINISHED = frozenset(DagsterRunStatus) - frozenset(_ENDED)


@dataclass
class Reconciled:
    """What one comparison found and repaired."""

    compared: int = 0
    kept_waiting: int = 0
    """Rows whose run waits, in Dagster's queue or in its launcher: their lease was renewed."""
    launched_again: int = 0
    """Rows whose run ended without starting them, or was never made: queued again."""
    runs_cancelled: int = 0
    """Runs still waiting for a row that nobody wants any more."""

    def __str__(self) -> str:
        return (
            f"{self.compared} dispatched rows compared: {self.kept_waiting} have a run that waits, "
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
    rows = [row for row in client.rows("dispatched", pages=PAGES) if row.claimed_by in consumers]
    done.compared = len(rows)
    # After the rows: a run that begins meanwhile has moved its rows on, and no repair of them is accepted.
    batches = _Batches(instance, consumers) if rows else None
    waits = _Waits(instance)
    waiting: dict[str, dict[int, int]] = {}
    for some in _chunks(rows, RUNS_ASKED_AT_ONCE):
        runs = batches.runs_of(some) if batches else {}
        runs |= _runs_of(instance, [row for row in some if _ticket(row) not in runs])
        for row in some:
            run = runs.get(_ticket(row))
            if run is not None and waits.does(run):
                waiting.setdefault(run.run_id, {})[row.queue_id] = row.generation
            elif run is not None or batches is None or batches.all_known:
                _repair(client, row, run, settled, done)
    for run_id, generations in waiting.items():
        answers = client.keep_waiting_many(generations, run_id=run_id)
        done.kept_waiting += sum(answer is True for answer in answers.values())
    _cancel_unwanted(instance, client, {row.queue_id for row in rows}, done)
    return done


def _ticket(row: HeldRow) -> Ticket:
    return Ticket(row.queue_id, row.generation)


@runtime_checkable
class _LetsRunsWait(Protocol):
    """A run launcher that may hold a run back until others end, and says which."""

    def waits(self, run: DagsterRun) -> bool:
        """Whether it holds the run back now."""


class _Waits:
    """Which runs wait to be started."""

    def __init__(self, instance: DagsterInstance) -> None:
        self._launcher = instance.run_launcher
        self._until = time.monotonic() + ASK_SECONDS
        self._said: dict[str, bool] = {}

    def does(self, run: DagsterRun) -> bool:
        """Whether that is known of the run."""
        if run.status in _WAITING:
            return True
        # To Dagster it is starting from the moment that the launcher has it. Not every such run waits: the process of
        # one may hang, or its server be gone, and then the end of the row's lease is what gets it launched again.
        if run.status != DagsterRunStatus.STARTING or not isinstance(self._launcher, _LetsRunsWait):
            return False
        if run.run_id not in self._said and time.monotonic() < self._until:
            self._said[run.run_id] = self._launcher.waits(run)
        return self._said.get(run.run_id, False)


class _Batches:
    """The unfinished runs of many rows. One that has ended is none: its rows that are still dispatched have no run."""

    def __init__(self, instance: DagsterInstance, consumers: Collection[str]) -> None:
        unfinished = RunsFilter(tags={BATCH_TAG: sorted(consumers)}, statuses=list(_UNFINISHED))
        runs = instance.get_runs(unfinished, limit=BATCH_RUNS)
        self.all_known = len(runs) < BATCH_RUNS
        # The newest first; a row may be in an older one as well, whose start would be as good.
        self._runs = {ticket: run for run in reversed(runs) for ticket in tickets_of(run)}

    def runs_of(self, rows: Iterable[HeldRow]) -> dict[Ticket, DagsterRun]:
        """Those of the rows that are in one."""
        return {ticket: self._runs[ticket] for ticket in map(_ticket, rows) if ticket in self._runs}


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
    instance: DagsterInstance, client: ReportQueueClient, dispatched: Collection[int], done: Reconciled
) -> None:
    queued = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.QUEUED]), limit=QUEUED_RUNS, ascending=True)
    for run in queued:
        rows = [ticket.queue_id for ticket in tickets_of(run)]
        if not rows or any(pk in dispatched for pk in rows) or not all(_ended(client, pk) for pk in rows):
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


def _chunks(rows: Sequence[HeldRow], size: int) -> Iterator[Sequence[HeldRow]]:
    for first in range(0, len(rows), size):
        yield rows[first : first + size]
