"""One started row of a run: does the work, and reports to the queue how it ended."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from dagster import (
    DagsterExecutionInterruptedError,
    DagsterRunStatus,
    Failure,
    OpExecutionContext,
    RetryRequested,
)

from dagster_reportqueue.bounds import MAX_DELAY_SECONDS, MAX_ERROR_BYTES
from dagster_reportqueue.client import ApiError, ApiRefused, ReportQueueClient
from dagster_reportqueue.execution import retry
from dagster_reportqueue.execution.interrupts import Interrupts
from dagster_reportqueue.execution.leases import HeldLease, Stop
from dagster_reportqueue.execution.report import ReportRun, Work, partition_of
from dagster_reportqueue.tickets import STRAY_TAG

INTERRUPTS = (KeyboardInterrupt, DagsterExecutionInterruptedError)
T = TypeVar("T")


class ReportCancelled(DagsterExecutionInterruptedError):
    """The report was cancelled in the queue."""


@dataclass(frozen=True)
class Attempt:
    """A started row, from the work to the report of its end."""

    context: OpExecutionContext
    client: ReportQueueClient
    lease: HeldLease
    interrupts: Interrupts

    @property
    def queue_id(self) -> int:
        """The row's id."""
        return self.lease.started.item.queue_id

    @property
    def lease_token(self) -> UUID:
        """Proves that this run owns the row."""
        return self.lease.started.lease_token

    def make(self, work: Work) -> Mapping[str, Any] | None:
        """Do the work and return its result; the caller reports it with `complete`.

        If the work raises, the failure is reported to the queue and the error is raised again. Exceptions: a cancelled
        report raises `ReportCancelled`; a lost lease, and an interrupt or exit raised by the report itself, raise
        `Failure`.
        """
        item = self.lease.started.item
        run = ReportRun(
            report_id=item.report_id,
            modifier_id=item.modifier_id,
            run_id=self.context.run_id,
            params=item.params,
            queue_id=item.queue_id,
            generation=item.generation,
            attempt=item.attempt,
            trigger_time=item.trigger_time,
            schedule_id=item.schedule_id,
            source=item.source,
            report_name=item.report_name,
            partition_key=partition_of(self.context),
            _lease=self.lease,
        )
        begun = False
        try:
            try:
                self.interrupts.deliver(self.lease)
                if run.stop_requested():
                    raise DagsterExecutionInterruptedError
                begun = True
                result = work(run)
            finally:
                self.interrupts.hold()
        except BaseException as error:
            self.interrupts.hold()
            self._end_badly(error, begun=begun)
            raise
        if self.lease.stop is Stop.CANCEL:
            # Work that was asked to stop may return something. That is not a complete report.
            self._cancel(None)
        return result

    def complete(self, result: Mapping[str, Any] | None, seconds: float | None = None) -> None:
        """Report success. Raises `Failure` if the queue does not accept it, `ApiError` if the API does not answer."""
        try:
            self._call(self.client.complete, seconds, result=result)
        except ApiRefused as refused:
            self.refused(refused)

    def refused(self, refused: ApiRefused) -> NoReturn:
        """Handle a completion that the queue refused: always raises."""
        if refused.moved_on:
            text = f"The report was made, but the row is no longer this run's: {refused}"
            raise Failure(text, allow_retries=False) from None
        if refused.status != 413 and not (refused.status == 400 and refused.kind):
            raise refused
        # The result itself is invalid. The next attempt would make the same result.
        text = f"The report was made, but the queue refused its result: {refused}"
        self._fail(text, retryable=False)
        raise Failure(text, allow_retries=False) from None

    def give_back(self) -> None:
        """Return the row to the queue without using an attempt, because the run ends before its turn.

        Raises `ApiUnreachable` if the queue does not answer.
        """
        try:
            self._release(f"Run {self.context.run_id} ended before it began this report.", begun=False)
        except ApiRefused as refused:
            self._not_reported(refused)

    def _call(self, verb: Callable[..., T], seconds: float | None = None, **body: Any) -> T:
        self.lease.ending = True

        def call() -> T:
            return verb(self.queue_id, lease_token=self.lease_token, **body)

        return retry.retry_while_unreachable(call, self.interrupts, seconds)

    def _end_badly(self, error: BaseException, *, begun: bool) -> None:
        """Report why the work failed. Raises the error with which the run should end, if it is not `error` itself."""
        interrupted = isinstance(error, INTERRUPTS)
        row = f"row {self.queue_id}"
        match self.lease.stop:
            case Stop.CANCEL:
                self._cancel(error)
            case Stop.LOST:
                text = f"Stopped: {row} is no longer this run's; another run makes the report."
                raise Failure(text, allow_retries=False) from error
            case Stop.UNREACHABLE if interrupted:
                text = f"Stopped: no heartbeat reached the queue, and the lease of {row} was about to end."
                if begun:
                    self._fail(text, retry.GRACE_SECONDS)
                else:
                    try:
                        self._release(text, begun=False)
                    except ApiError as refused:
                        self._not_reported(refused)
                raise Failure(text, allow_retries=False) from error
        if self.interrupts.received_at is not None:
            self._give_back(begun=begun)
            return
        delay = error.seconds_to_wait if isinstance(error, RetryRequested) else None
        self._fail(
            "".join(traceback.format_exception(error))[-MAX_ERROR_BYTES:],
            retryable=not (isinstance(error, Failure) and not error.allow_retries),
            retry_after_seconds=None if delay is None else int(max(0, min(delay, MAX_DELAY_SECONDS))),
        )
        if isinstance(error, RetryRequested):
            # The queue owns retries: Dagster must not run the op again in this run, whose attempt is over.
            text = "The report asked for another attempt; the queue schedules it."
            raise Failure(text, allow_retries=False) from error
        if not isinstance(error, Exception):
            # Dagster and Python treat KeyboardInterrupt, SystemExit or CancelledError as a request to end the run.
            text = f"The report raised {type(error).__name__}, although its run was not interrupted."
            raise Failure(text, allow_retries=False) from error

    def _fail(self, error: str, seconds: float | None = None, **how: Any) -> None:
        try:
            status = self._call(self.client.fail, seconds, error=error, **how)
            self.context.log.warning(f"The report failed; its row is now {status}.")
        except ApiError as refused:
            self._not_reported(refused)

    def _cancel(self, error: BaseException | None) -> NoReturn:
        try:
            self._call(self.client.cancel)
        except ApiError as refused:
            self._not_reported(refused)
        text = "Cancelled in the report queue."
        self.context.log.info(text)
        raise ReportCancelled(text) from error

    def _give_back(self, *, begun: bool) -> None:
        try:
            if self._terminated():
                reason = f"Run {self.context.run_id} was terminated in Dagster."
                self._call(self.client.cancel, retry.GRACE_SECONDS, reason=reason)
            else:
                reason = f"Run {self.context.run_id} was interrupted from outside; it returned the row to the queue."
                self._release(reason, begun=begun)
        except ApiError as refused:
            self._not_reported(refused)

    def _release(self, reason: str, *, begun: bool) -> None:
        self._call(self.client.release, retry.GRACE_SECONDS, reason=reason, begun=begun)

    def _terminated(self) -> bool:
        """Whether a person terminated the run in Dagster; otherwise a machine or service is stopping its processes."""
        try:
            run = self.context.instance.get_run_by_id(self.context.run_id)
        except Exception as error:
            self.context.log.warning(f"Dagster's storage does not say why the run was interrupted: {error}")
            return False
        if run is None or STRAY_TAG in run.tags:
            return False
        return run.status in (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED)

    def _not_reported(self, refused: ApiError) -> None:
        # Nothing is lost: the lease expires and the row is claimed again.
        self.context.log.warning(f"The end of this run could not be reported to the queue: {refused}")
