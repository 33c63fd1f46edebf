"""What a run does around its report: start, heartbeat, and complete, fail, cancel or release.

The row's lease is what keeps two runs from doing one report's work at once. So a run that can no longer renew it stops
its work before the lease ends, and a run that is refused at the start ends without work.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from dagster import (
    AssetExecutionContext,
    DagsterExecutionInterruptedError,
    DagsterRunStatus,
    Failure,
    OpExecutionContext,
    RetryRequested,
)

from orchestrator.client import ApiError, ApiRefused, ApiUnreachable, ReportQueueClient, Started
from orchestrator.heart import Heart, Stop
from orchestrator.interrupts import Interrupts
from orchestrator.report_run import QUEUE_ID_TAG, FiringTicket, ReportRun, Ticket, Work

__all__ = [
    "LEASE_SECONDS",
    "QUEUE_ID_TAG",
    "FiringTicket",
    "ReportRun",
    "Ticket",
    "Work",
    "check_lease_seconds",
    "run_report",
]

LEASE_SECONDS = 60
MIN_LEASE_SECONDS, MAX_LEASE_SECONDS = 5, 86_400
"""The API's bounds."""
PATIENCE_SECONDS = 300.0
"""How long a run waits for an API that does not answer, before it gives up its start or its finished report."""
GRACE_SECONDS = 5.0
"""The same for a run that was interrupted from outside: whoever did it will soon kill it."""
MAX_DELAY_SECONDS = 30 * 86_400
ERROR_CHARACTERS = 16 * 1024
T = TypeVar("T")
_INTERRUPTS = (KeyboardInterrupt, DagsterExecutionInterruptedError)


def run_report(
    context: OpExecutionContext | AssetExecutionContext,
    client: ReportQueueClient,
    ticket: Ticket | FiringTicket,
    work: Work,
    *,
    lease_seconds: int = LEASE_SECONDS,
) -> Mapping[str, Any] | None:
    """Do `work` as the owner of the row that the ticket names; its result, or None if this run was not to do it.

    Raises what `work` raises, after reporting it: queued again after a delay or failed, as the queue decides. A
    `Failure(allow_retries=False)` is not tried again; `RetryRequested` carries its delay. A cancel ends the run as
    cancelled; a lost lease fails it, as another run has the row. Call it once in a run.
    """
    check_lease_seconds(lease_seconds)
    context = context.op_execution_context  # an asset's own warns of what an op's has
    if context.retry_number:
        raise Failure("The queue owns retries: give the op no RetryPolicy.", allow_retries=False)
    # No retries inside a call: here they are made with an eye on the clock and on signals.
    with Interrupts() as interrupts, closing(client.clone(retries=0)) as calls:
        sent = 0.0

        def start() -> Started:
            nonlocal sent
            sent = time.monotonic()
            return ticket.start(
                calls,
                run_id=context.run_id,
                parent_run_id=context.run.parent_run_id,
                worker=f"{socket.gethostname()[:80]}:{os.getpid()}",
                lease_seconds=lease_seconds,
            )

        try:
            started = _patiently(start, interrupts)
        except ApiRefused as refused:
            if not refused.moved_on:
                raise
            context.log.warning(f"Not started, this run ends without work: {refused}")
            return None
        with Heart(calls, started, lease_seconds, sent=sent, interrupt=interrupts.interrupt) as heart:
            return _Attempt(context, calls, started, heart, interrupts).make(work)


def check_lease_seconds(seconds: int) -> None:
    """Raises `ValueError` beyond the API's bounds: better now than in every run."""
    if not MIN_LEASE_SECONDS <= seconds <= MAX_LEASE_SECONDS:
        raise ValueError(
            f"lease_seconds must be from {MIN_LEASE_SECONDS} to {MAX_LEASE_SECONDS:,} seconds; it is {seconds}."
        )


@dataclass(frozen=True)
class _Attempt:
    """A started row, and the way to its end."""

    context: OpExecutionContext
    client: ReportQueueClient
    started: Started
    heart: Heart
    interrupts: Interrupts

    def make(self, work: Work) -> Mapping[str, Any]:
        item = self.started.item
        run = ReportRun(
            report_id=item.report_id,
            modifier_id=item.modifier_id,
            run_id=self.context.run_id,
            params=item.params,
            queue_id=item.queue_id,
            generation=item.generation,
            attempt=item.attempt,
            trigger_time=item.trigger_time,
            _heart=self.heart,
        )
        try:
            try:
                self.context.log.info(
                    f"Started report {item.report_id}, modifier {item.modifier_id}: "
                    f"attempt {item.attempt} of {item.max_attempts}."
                )
                self.interrupts.deliver()
                if run.stop_requested():
                    raise DagsterExecutionInterruptedError
                result = work(run)
            finally:
                self.interrupts.hold()
        except BaseException as error:
            self.interrupts.hold()
            self._end_badly(error)
            raise
        if self.heart.stop is Stop.CANCEL:
            # Work that was told to stop may well return: what it returns is not the report.
            self._cancel(None)
        return self._complete(result)

    def _tell(self, verb: Callable[..., T], patience: float | None = None, **body: Any) -> T:
        def call() -> T:
            return verb(self.started.item.queue_id, lease_token=self.started.lease_token, **body)

        return _patiently(call, self.interrupts, patience)

    def _complete(self, result: Mapping[str, Any] | None) -> Mapping[str, Any]:
        try:
            self._tell(self.client.complete, result=result)
        except ApiRefused as refused:
            if refused.moved_on:
                text = f"The report was made, but the row is no longer this run's: {refused}"
                raise Failure(text, allow_retries=False) from None
            if refused.status != 413 and not (refused.status == 400 and refused.kind):
                raise
            # The result itself: the next attempt would make the same one.
            text = f"The report was made, but the queue refused its result: {refused}"
            self._fail(text, retryable=False)
            raise Failure(text, allow_retries=False) from None
        return result or {}

    def _end_badly(self, error: BaseException) -> None:
        """Tell the queue why the work did not end well. Raises what the run should end with, if not `error` itself."""
        interrupted = isinstance(error, _INTERRUPTS)
        row = f"row {self.started.item.queue_id}"
        match self.heart.stop:
            case Stop.CANCEL:
                self._cancel(error)
            case Stop.LOST:
                text = f"Stopped: {row} is no longer this run's; another run does the work."
                raise Failure(text, allow_retries=False) from error
            case Stop.SILENT if interrupted:
                text = f"Stopped: no heartbeat got through, and the lease of {row} was about to end."
                self._fail(text, patience=GRACE_SECONDS)
                raise Failure(text, allow_retries=False) from error
        if interrupted or self.interrupts.received_at is not None:
            self._give_back()
            return
        delay = error.seconds_to_wait if isinstance(error, RetryRequested) else None
        self._fail(
            "".join(traceback.format_exception(error))[-ERROR_CHARACTERS:],
            retryable=not (isinstance(error, Failure) and not error.allow_retries),
            retry_after_seconds=None if delay is None else int(max(0, min(delay, MAX_DELAY_SECONDS))),
        )
        if isinstance(error, RetryRequested):
            # The queue owns retries: this run's attempt is over, Dagster must not run the op again within it.
            text = "The report asked for another attempt; the queue schedules it."
            raise Failure(text, allow_retries=False) from error

    def _fail(self, error: str, patience: float | None = None, **how: Any) -> None:
        try:
            status = self._tell(self.client.fail, patience, error=error, **how)
            self.context.log.warning(f"The report failed; its row is now {status}.")
        except ApiError as refused:
            self._untold(refused)

    def _cancel(self, error: BaseException | None) -> NoReturn:
        try:
            self._tell(self.client.cancel)
        except ApiError as refused:
            self._untold(refused)
        text = "Cancelled in the report queue."
        self.context.log.info(text)
        # Dagster calls an interrupted run cancelled only if it was asked to cancel it, else failed.
        self.context.instance.report_run_canceling(self.context.run, text)
        raise DagsterExecutionInterruptedError(text) from error

    def _give_back(self) -> None:
        run_id = self.context.run_id
        try:
            if self._terminated():
                reason = f"Run {run_id} was terminated in Dagster."
                self._tell(self.client.cancel, GRACE_SECONDS, reason=reason)
            else:
                reason = f"Run {run_id} was interrupted from outside; it gave the row back."
                self._tell(self.client.release, GRACE_SECONDS, reason=reason)
        except ApiError as refused:
            self._untold(refused)

    def _terminated(self) -> bool:
        """Whether a person wants the run stopped, and not a machine its processes."""
        try:
            run = self.context.instance.get_run_by_id(self.context.run_id)
        except Exception as error:
            self.context.log.warning(f"Dagster's storage does not say why the run was interrupted: {error}")
            return False
        return run is not None and run.status in (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED)

    def _untold(self, refused: ApiError) -> None:
        # Nothing is lost: the lease runs out and the row is offered again.
        self.context.log.warning(f"The queue could not be told how this run ended: {refused}")


def _patiently(call: Callable[[], T], interrupts: Interrupts, patience: float | None = None) -> T:
    """Repeat a call while the API does not answer, for about `patience` seconds; less if the run is interrupted."""
    begun = time.monotonic()
    pause = 0.5
    while True:
        try:
            return call()
        except ApiUnreachable:
            again = time.monotonic() + pause
            while time.monotonic() < again:
                until = begun + (PATIENCE_SECONDS if patience is None else patience)
                if interrupts.received_at is not None:
                    until = min(until, max(begun, interrupts.received_at) + GRACE_SECONDS)
                if again > until:
                    raise
                time.sleep(0.05)
            pause = min(2 * pause, 10.0)
