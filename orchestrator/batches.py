"""What a run does around many reports: each is started, kept and ended by itself, as if it had the run alone."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from dagster import DagsterExecutionInterruptedError, Failure, MetadataValue, OpExecutionContext
from dagster._core.events import EngineEventData
from dagster._utils.error import serializable_error_info_from_exc_info

from orchestrator import surroundings
from orchestrator.attempts import Attempt, ReportCancelled
from orchestrator.client import MAX_ROWS, Answers, ApiRefused, ApiUnreachable, ReportQueueClient, Started
from orchestrator.execution import LEASE_SECONDS, check_lease_seconds, op_context, run_of
from orchestrator.heart import Heart
from orchestrator.interrupts import Interrupts
from orchestrator.jobs import result_metadata
from orchestrator.patience import patiently
from orchestrator.report_run import Ticket, Work
from orchestrator.telling import Teller

AHEAD_SECONDS = 1.0
"""How much work is started at once. All that is started when a run is killed goes on in runs of its own."""


@dataclass
class Tally:
    """How the reports of a batch went."""

    made: int = 0
    failed: int = 0
    cancelled: int = 0
    not_started: int = 0
    """Rows that another run has or had, or that nobody wants any more."""

    def metadata(self) -> dict[str, MetadataValue]:
        """For the run."""
        return {name: MetadataValue.int(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class _Made:
    """A report of which the queue is to be told."""

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
) -> Tally:
    """Do `work` for each ticket's row, 1 to 100 of them, one after the other; each has an event in the run's log.

    A report that fails or is cancelled touches no other: the queue is told, and the next one follows. Rows are started
    shortly before their turn, in groups; with `one_by_one`, each is started once the one before it has ended, so that
    a report which ends the process uses up no attempt but its own. A run that is interrupted gives back what it has
    started (a person's termination cancels the report in hand), and leaves the rest to be launched again. Raises as
    `run_report` for a run that cannot go on: interrupted, refused as a whole, or without an API that answers.
    """
    check_lease_seconds(lease_seconds)
    if not 1 <= len(tickets) <= MAX_ROWS:
        raise ValueError(f"A batch has from 1 to {MAX_ROWS} rows; this one has {len(tickets):,}.")
    context = op_context(context)
    with (
        Interrupts() as interrupts,
        closing(client.clone(retries=0)) as calls,
        closing(client.clone(retries=0)) as telling,
        Heart(calls, lease_seconds, run_id=context.run_id, interrupt=interrupts.interrupt) as heart,
    ):
        batch = _Batch(context, calls, telling, heart, interrupts, lease_seconds)
        with Teller(batch.tell) as teller:
            batch.make(tickets, work, teller, one_by_one=one_by_one)
        return batch.tally


class _Batch:
    def __init__(
        self,
        context: OpExecutionContext,
        client: ReportQueueClient,
        telling: ReportQueueClient,
        heart: Heart,
        interrupts: Interrupts,
        lease_seconds: int,
    ) -> None:
        self.tally = Tally()
        self._context = context
        self._client = client
        self._telling = telling  # of the teller's thread
        self._heart = heart
        self._interrupts = interrupts
        self._lease = lease_seconds
        self._lock = threading.Lock()

    def make(self, tickets: Sequence[Ticket], work: Work, teller: Teller[_Made], *, one_by_one: bool) -> None:
        """Raises what ends the run."""
        waiting = {ticket.queue_id: ticket.generation for ticket in tickets}
        ahead = 1
        while waiting:
            self._go_on()
            group = {pk: waiting.pop(pk) for pk in list(islice(waiting, ahead))}
            self._heart.keep_waiting(dict(waiting))
            began = time.monotonic()
            attempts = deque(self._start(group))
            try:
                while attempts:
                    self._go_on()
                    self._make_one(attempts.popleft(), work, teller)
            except BaseException:
                self._give_back(attempts)
                raise
            if one_by_one:
                teller.flush()
                continue
            # As many as the pace of these lets expect to be made in that time.
            ahead = max(1, int(AHEAD_SECONDS * len(group) / max(time.monotonic() - began, 0.001)))

    def _go_on(self) -> None:
        """Raises if the run was interrupted from outside, though the work of that moment may have paid no heed."""
        if self._interrupts.received_at is not None:
            raise DagsterExecutionInterruptedError

    def _give_back(self, attempts: Iterable[Attempt]) -> None:
        try:
            for attempt in attempts:
                attempt.give_back()
        except ApiUnreachable as error:
            # Once is enough: whoever interrupted the run will soon kill it. Leases end by themselves.
            self._context.log.warning(f"Rows that this run had started could not be given back: {error}")

    def _start(self, group: Mapping[int, int]) -> list[Attempt]:
        sent = 0.0

        def start() -> Answers[Started]:
            nonlocal sent
            sent = time.monotonic()
            return self._client.start_many(group, **run_of(self._context), lease_seconds=self._lease)

        attempts = []
        for pk, started in patiently(start, self._interrupts).items():
            if isinstance(started, ApiRefused):
                self.tally.not_started += 1
                self._context.log.warning(f"Row {pk} is not started, this run does no work for it: {started}")
            else:
                pulse = self._heart.add(started, sent=sent)
                attempts.append(Attempt(self._context, self._client, pulse, self._interrupts))
        return attempts

    def _make_one(self, attempt: Attempt, work: Work, teller: Teller[_Made]) -> None:
        """Raises if the run is to end."""
        began = time.monotonic()
        try:
            with surroundings.kept():
                result = attempt.make(work)
        except ReportCancelled:
            self._end(attempt, "cancelled", time.monotonic() - began)
        except BaseException as error:
            if self._interrupts.received_at is not None:
                raise
            self._end(attempt, "failed", time.monotonic() - began, error=error)
        else:
            teller.put(_Made(attempt, result, time.monotonic() - began))

    def tell(self, made: list[_Made]) -> None:
        """Tell the queue, in the teller's thread. Raises `ApiError` if it cannot be told: leases are what is left."""
        rows = {one.attempt.queue_id: one for one in made}
        tokens = {pk: one.attempt.lease_token for pk, one in rows.items()}
        results = {pk: one.result for pk, one in rows.items()}
        answers: Answers[str]
        try:
            answers = patiently(lambda: self._telling.complete_many(tokens, results=results), self._interrupts)
        except ApiRefused as refused:
            if len(made) > 1:  # one that is no JSON, or all that together are too much: each goes by itself
                for one in made:
                    self.tell([one])
                return
            answers = {made[0].attempt.queue_id: refused}
        for pk, answer in answers.items():
            one, refusal = rows[pk], None
            if isinstance(answer, ApiRefused):
                try:
                    replace(one.attempt, client=self._telling).refused(answer)
                except Failure as error:
                    refusal = error
            self._end(one.attempt, "failed" if refusal else "made", one.seconds, one.result, refusal)

    def _end(
        self,
        attempt: Attempt,
        how: str,
        seconds: float,
        result: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Count and show it; from both threads."""
        self._heart.drop(attempt.pulse)
        with self._lock:
            setattr(self.tally, how, getattr(self.tally, how) + 1)
        item = attempt.pulse.started.item
        failure = None
        if error is not None:
            raised: Any = (type(error), error, error.__traceback__)
            failure = serializable_error_info_from_exc_info(raised)
        # One event a report, with its links. An op's outputs and observations cost several, and only at its end.
        self._context.instance.report_engine_event(
            f"Report {item.report_id}, modifier {item.modifier_id} (row {item.queue_id}, attempt {item.attempt} of "
            f"{item.max_attempts}): {how} after {seconds:.2f} s.",
            self._context.run,
            EngineEventData({} if failure else result_metadata(result or {}), failure),
            step_key=self._context.get_step_execution_context().step.key,
        )
