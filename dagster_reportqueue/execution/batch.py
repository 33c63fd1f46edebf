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

from dagster_reportqueue.client import (
    MAX_ROWS,
    Answers,
    ApiError,
    ApiRefused,
    ApiUnreachable,
    ReportQueueClient,
    Started,
)
from dagster_reportqueue.execution import retry, surroundings
from dagster_reportqueue.execution.attempt import Attempt, ReportCancelled
from dagster_reportqueue.execution.completions import Teller
from dagster_reportqueue.execution.interrupts import Interrupts
from dagster_reportqueue.execution.leases import Heart
from dagster_reportqueue.execution.report import Work, result_metadata
from dagster_reportqueue.execution.retry import patiently
from dagster_reportqueue.execution.run import LEASE_SECONDS, check_lease_seconds, op_context, run_of
from dagster_reportqueue.tickets import Ticket

BUSY_PAUSE_SECONDS = 0.5
"""Before rows that another transaction holds are tried again, if no other is left."""
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
        batch.tell_late()
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
        self._late: list[_Made] = []
        """Made, but another transaction held their rows when the queue was told."""
        self._busy_since: dict[int, float] = {}
        """Rows that another transaction held when they were to be started, and since when (`time.monotonic()`)."""

    def make(self, tickets: Sequence[Ticket], work: Work, teller: Teller[_Made], *, one_by_one: bool) -> None:
        """Raises what ends the run."""
        waiting = {ticket.queue_id: ticket.generation for ticket in tickets}
        ahead = 1
        while waiting:
            self._go_on()
            group = {pk: waiting.pop(pk) for pk in list(islice(waiting, ahead))}
            self._heart.keep_waiting(dict(waiting))
            began = time.monotonic()
            started, busy = self._start(group)
            waiting |= busy  # behind all others
            if busy and not started:
                time.sleep(BUSY_PAUSE_SECONDS)
            attempts = deque(started)
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

    def _start(self, group: Mapping[int, int]) -> tuple[list[Attempt], dict[int, int]]:
        """The rows that are started; and those to be tried again, as another transaction holds them."""
        sent = 0.0

        def start() -> Answers[Started]:
            nonlocal sent
            sent = time.monotonic()
            return self._client.start_many(group, **run_of(self._context), lease_seconds=self._lease)

        attempts, busy = [], {}
        for pk, started in patiently(start, self._interrupts).items():
            if isinstance(started, ApiUnreachable) and self._may_wait_for(pk):
                busy[pk] = group[pk]
            elif isinstance(started, ApiError):
                self.tally.not_started += 1
                self._context.log.warning(f"Row {pk} is not started, this run does no work for it: {started}")
            else:
                pulse = self._heart.add(started, sent=sent)
                attempts.append(Attempt(self._context, self._client, pulse, self._interrupts))
        return attempts, busy

    def _may_wait_for(self, pk: int) -> bool:
        """Whether a row that is busy is tried again: for as long as a run waits for an API that does not answer."""
        now = time.monotonic()
        return now - self._busy_since.setdefault(pk, now) < retry.PATIENCE_SECONDS

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
        """Tell the queue, in the teller's thread. Raises `ApiError` if it cannot be told: leases are what is left.

        A report whose row another transaction holds is told with the next ones, or at the end.
        """
        untold, self._late = [*self._late, *made], []
        for first in range(0, len(untold), MAX_ROWS):
            self._tell_together(untold[first : first + MAX_ROWS])

    def _tell_together(self, made: list[_Made]) -> None:
        rows = {one.attempt.queue_id: one for one in made}
        tokens = {pk: one.attempt.lease_token for pk, one in rows.items()}
        results = {pk: one.result for pk, one in rows.items()}
        answers: Answers[str]
        try:
            answers = patiently(lambda: self._telling.complete_many(tokens, results=results), self._interrupts)
        except ApiRefused as refused:
            if len(made) > 1:  # one that is no JSON, or all that together are too much: each goes by itself
                for one in made:
                    self._tell_together([one])
                return
            answers = {made[0].attempt.queue_id: refused}
        for pk, answer in answers.items():
            one, refusal = rows[pk], None
            if isinstance(answer, ApiUnreachable):
                self._late.append(one)
                continue
            if isinstance(answer, ApiRefused):
                try:
                    replace(one.attempt, client=self._telling).refused(answer)
                except Failure as error:
                    refusal = error
            self._end(one.attempt, "failed" if refusal else "made", one.seconds, one.result, refusal)

    def tell_late(self) -> None:
        """Tell the queue of what could not be told yet, each for as long as a run waits for the API.

        A report that cannot be told then has failed for this run: its lease ends, and it is made again.
        """
        late, self._late = self._late, []
        for one in late:
            try:
                one.attempt.complete(one.result)
            except (ApiUnreachable, Failure) as error:
                self._end(one.attempt, "failed", one.seconds, one.result, error)
            else:
                self._end(one.attempt, "made", one.seconds, one.result)

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
