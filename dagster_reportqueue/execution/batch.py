"""How a run makes many reports: each row is started, renewed and ended separately, as in a run of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Any

from dagster import DagsterExecutionInterruptedError, Failure, OpExecutionContext
from dagster._core.events import EngineEventData
from dagster._utils.error import serializable_error_info_from_exc_info

from dagster_reportqueue import counters, tracing
from dagster_reportqueue.client import (
    MAX_BATCH_ROWS,
    ApiError,
    ApiRefused,
    ApiUnreachable,
    ReportQueueClient,
    Results,
    Started,
)
from dagster_reportqueue.execution import retry, surroundings
from dagster_reportqueue.execution.attempt import Attempt, ReportCancelled
from dagster_reportqueue.execution.completions import CompletionSender
from dagster_reportqueue.execution.events import ReportEvent, store
from dagster_reportqueue.execution.interrupts import Interrupts
from dagster_reportqueue.execution.leases import LeaseKeeper
from dagster_reportqueue.execution.report import Work, result_metadata
from dagster_reportqueue.execution.retry import retry_while_unreachable
from dagster_reportqueue.execution.run import LEASE_SECONDS, check_lease_seconds, op_context, run_of
from dagster_reportqueue.tickets import MAX_RUN_ROWS, Ticket

BUSY_PAUSE_SECONDS = 0.5
"""How long to wait before rows that another transaction has locked are tried again, if no other row is left."""
AHEAD_SECONDS = 1.0
"""Rows are started for about this much work at once. If the run is killed, each started row gets its own run."""


class Outcome(StrEnum):
    """How one row of a batch ended for the run."""

    MADE = "made"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_STARTED = "not_started"
    """Another run has or had the row, or the report is no longer wanted."""


@dataclass(frozen=True)
class _Made:
    """A finished report that is to be sent to the queue."""

    attempt: Attempt
    result: Mapping[str, Any] | None
    seconds: float


def run_reports(
    context: OpExecutionContext,
    client: ReportQueueClient,
    tickets: Sequence[Ticket],
    work: Work,
    *,
    lease_seconds: int = LEASE_SECONDS,
    one_by_one: bool = False,
) -> Counter[Outcome]:
    """Do `work` for the rows of 1 to 1,000 tickets, one after the other; each report has an event in the run's log.

    A report that fails or is cancelled does not affect the others: the queue is told, and the next report follows.
    Rows are started in groups, shortly before their turn. With `one_by_one`, a row is started only after the report
    before it has ended, so a report that ends the process uses up only its own attempt.

    An interrupted run returns its started rows to the queue; its other rows are launched again. If a person terminated
    the run, the report under way is cancelled. Raises as `run_report` if the run cannot continue: it was interrupted or
    refused as a whole, or the API does not answer.
    """
    check_lease_seconds(lease_seconds)
    if not 1 <= len(tickets) <= MAX_RUN_ROWS:
        raise ValueError(f"A batch has from 1 to {MAX_RUN_ROWS:,} rows; this one has {len(tickets):,}.")
    context = op_context(context)
    with (
        counters.saved(),
        Interrupts() as interrupts,
        closing(client.clone(retries=0)) as calls,
        closing(client.clone(retries=0)) as sender_client,
        LeaseKeeper(calls, lease_seconds, run_id=context.run_id, interrupt=interrupts.interrupt) as keeper,
        tracing.flushed(),
        tracing.batch(len(tickets), run_id=context.run_id),
    ):
        batch = _Batch(context, calls, sender_client, keeper, interrupts, lease_seconds)
        try:
            with CompletionSender(batch.send) as sender:
                batch.make(tickets, work, sender, one_by_one=one_by_one)
        except BaseException:
            batch.send_late(retry.GRACE_SECONDS)
            raise
        batch.send_late()
        return batch.outcomes


class _Batch:
    def __init__(
        self,
        context: OpExecutionContext,
        client: ReportQueueClient,
        sender_client: ReportQueueClient,
        keeper: LeaseKeeper,
        interrupts: Interrupts,
        lease_seconds: int,
    ) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self._context = context
        self._client = client
        self._sender_client = sender_client  # used by the sender's thread only
        self._keeper = keeper
        self._interrupts = interrupts
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._late: list[_Made] = []
        """Finished reports whose rows another transaction had locked when they were sent."""
        self._busy_since: dict[int, float] = {}
        """Rows that another transaction had locked at their start, and since when (`time.monotonic()`)."""

    def make(self, tickets: Sequence[Ticket], work: Work, sender: CompletionSender[_Made], *, one_by_one: bool) -> None:
        """Make all reports. Raises the error that ends the run."""
        waiting = {ticket.queue_id: ticket.generation for ticket in tickets}
        ahead = 1
        while waiting:
            self._go_on()
            group = {pk: waiting.pop(pk) for pk in list(islice(waiting, ahead))}
            self._keeper.set_waiting(dict(waiting))
            began = time.monotonic()
            started, busy = self._start(group)
            tracing.join(attempt.lease.started.item for attempt in started)
            waiting |= busy  # after all others
            self._keeper.set_waiting(dict(waiting))
            if busy and not started:
                time.sleep(BUSY_PAUSE_SECONDS)
            attempts = deque(started)
            try:
                while attempts:
                    self._go_on()
                    self._make_one(attempts.popleft(), work, sender)
            except BaseException:
                self._give_back(attempts)
                raise
            if one_by_one:
                sender.flush()
                self.send_late()  # the sender is idle
                continue
            # As many rows as this group's pace would make in that time; at most those of one call.
            pace = len(group) / max(time.monotonic() - began, 0.001)
            ahead = min(max(1, int(AHEAD_SECONDS * pace)), MAX_BATCH_ROWS)

    def _go_on(self) -> None:
        """Raises if the run was interrupted from outside, also if the work ignored the interrupt."""
        if self._interrupts.received_at is not None:
            raise DagsterExecutionInterruptedError

    def _give_back(self, attempts: Iterable[Attempt]) -> None:
        try:
            for attempt in attempts:
                attempt.give_back()
        except ApiUnreachable as error:
            # Do not try the others: the interrupted run is probably killed soon, and the leases expire anyway.
            self._context.log.warning(f"Rows that this run had started could not be returned to the queue: {error}")

    def _start(self, group: Mapping[int, int]) -> tuple[list[Attempt], dict[int, int]]:
        """Start rows; return the started ones, and those to try again because another transaction has locked them."""
        sent = 0.0

        def start() -> Results[Started]:
            nonlocal sent
            sent = time.monotonic()
            return self._client.start_many(group, **run_of(self._context), lease_seconds=self._lease_seconds)

        attempts, busy = [], {}
        for pk, started in retry_while_unreachable(start, self._interrupts).items():
            if isinstance(started, ApiUnreachable) and self._may_wait_for(pk):
                busy[pk] = group[pk]
            elif isinstance(started, ApiError):
                self.outcomes[Outcome.NOT_STARTED] += 1
                self._context.log.warning(f"Row {pk} is not started; this run does not make its report: {started}")
            else:
                lease = self._keeper.add(started, sent=sent)
                attempts.append(Attempt(self._context, self._client, lease, self._interrupts))
        return attempts, busy

    def _may_wait_for(self, pk: int) -> bool:
        """Whether a locked row is tried again: for as long as a run waits for an unreachable API."""
        now = time.monotonic()
        return now - self._busy_since.setdefault(pk, now) < retry.UNREACHABLE_SECONDS

    def _make_one(self, attempt: Attempt, work: Work, sender: CompletionSender[_Made]) -> None:
        """Make one report. Raises if the run must end."""
        began = time.monotonic()
        try:
            with (
                surroundings.kept(),
                tracing.processing(attempt.lease.started.item, run_id=self._context.run_id),
            ):
                result = attempt.make(work)
        except ReportCancelled:
            self._show(self._end(attempt, Outcome.CANCELLED, time.monotonic() - began))
        except BaseException as error:
            if self._interrupts.received_at is not None:
                raise
            self._show(self._end(attempt, Outcome.FAILED, time.monotonic() - began, error=error))
        else:
            sender.put(_Made(attempt, result, time.monotonic() - began))

    def send(self, made: list[_Made]) -> None:
        """Complete finished reports in the queue; called in the sender's thread. Raises `ApiError`.

        A report whose row another transaction has locked is sent again with the next reports, or at the end.
        """
        unsent, self._late = [*self._late, *made], []
        for first in range(0, len(unsent), MAX_BATCH_ROWS):
            self._send_together(unsent[first : first + MAX_BATCH_ROWS])

    def _send_together(self, made: list[_Made]) -> None:
        rows = {one.attempt.queue_id: one for one in made}
        tokens = {pk: one.attempt.lease_token for pk, one in rows.items()}
        results = {pk: one.result for pk, one in rows.items()}
        answers: Results[str]
        try:
            answers = retry_while_unreachable(
                lambda: self._sender_client.complete_many(tokens, results=results), self._interrupts
            )
        except ApiRefused as refused:
            if len(made) > 1:  # one result is not JSON, or all are too large together: send each alone
                for one in made:
                    self._send_together([one])
                return
            answers = {made[0].attempt.queue_id: refused}
        events = []
        for pk, answer in answers.items():
            one, refusal = rows[pk], None
            if isinstance(answer, ApiUnreachable):
                self._late.append(one)
                continue
            if isinstance(answer, ApiRefused):
                try:
                    replace(one.attempt, client=self._sender_client).refused(answer)
                except Failure as error:
                    refusal = error
            outcome = Outcome.FAILED if refusal else Outcome.MADE
            events.append(self._end(one.attempt, outcome, one.seconds, one.result, refusal))
        self._show(*events)

    def send_late(self, seconds: float | None = None) -> None:
        """Send the reports whose rows were locked; try each for `seconds`, or as long as a run waits for the API.

        A report that still cannot be sent has failed for this run. Its lease expires, and the report is made again.
        """
        late, self._late = self._late, []
        for one in late:
            try:
                one.attempt.complete(one.result, seconds)
            except (ApiError, Failure) as error:
                self._show(self._end(one.attempt, Outcome.FAILED, one.seconds, one.result, error))
            else:
                self._show(self._end(one.attempt, Outcome.MADE, one.seconds, one.result))

    def _end(
        self,
        attempt: Attempt,
        outcome: Outcome,
        seconds: float,
        result: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
    ) -> ReportEvent:
        """Count the row's outcome, and return its event for the run's log; called by both threads."""
        self._keeper.drop(attempt.lease)
        with self._lock:
            self.outcomes[outcome] += 1
        item = attempt.lease.started.item
        failure = None
        if error is not None:
            raised: Any = (type(error), error, error.__traceback__)
            failure = serializable_error_info_from_exc_info(raised)
        # One event for each report, with its links. An op's outputs would cost several, and show only at the op's end.
        text = (
            f"Report {item.label}, modifier {item.modifier_id} (row {item.queue_id}, attempt {item.attempt} of "
            f"{item.max_attempts}): {outcome} after {seconds:.2f} s."
        )
        return ReportEvent(text, EngineEventData({} if failure else result_metadata(result or {}), failure))

    def _show(self, *events: ReportEvent) -> None:
        """Show ended reports in the run's log; called by both threads."""
        step = self._context.get_step_execution_context().step.key
        store(self._context.instance, self._context.run, step, events)
