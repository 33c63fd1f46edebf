"""One started row of a run: its work, and how the queue is told of its end."""

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

from orchestrator import patience
from orchestrator.client import ApiError, ApiRefused, ReportQueueClient
from orchestrator.heart import Pulse, Stop
from orchestrator.interrupts import Interrupts
from orchestrator.report_run import ReportRun, Work

MAX_DELAY_SECONDS = 30 * 86_400
ERROR_CHARACTERS = 16 * 1024
INTERRUPTS = (KeyboardInterrupt, DagsterExecutionInterruptedError)
T = TypeVar("T")


class ReportCancelled(DagsterExecutionInterruptedError):
    """Somebody wanted the report no more."""


@dataclass(frozen=True)
class Attempt:
    """A started row, and the way to its end."""

    context: OpExecutionContext
    client: ReportQueueClient
    pulse: Pulse
    interrupts: Interrupts

    @property
    def queue_id(self) -> int:
        """The row's."""
        return self.pulse.started.item.queue_id

    @property
    def lease_token(self) -> UUID:
        """The proof that the row is this run's."""
        return self.pulse.started.lease_token

    def make(self, work: Work) -> Mapping[str, Any] | None:
        """Do the work; its result, of which the queue is still to be told. Raises what it raises, the queue told.

        Instead of that: `ReportCancelled` if somebody wanted the report no more; `Failure` for a lease that was lost,
        and for an interrupt or exit that the report raised itself.
        """
        item = self.pulse.started.item
        run = ReportRun(
            report_id=item.report_id,
            modifier_id=item.modifier_id,
            run_id=self.context.run_id,
            params=item.params,
            queue_id=item.queue_id,
            generation=item.generation,
            attempt=item.attempt,
            trigger_time=item.trigger_time,
            _pulse=self.pulse,
        )
        begun = False
        try:
            try:
                self.interrupts.deliver(self.pulse)
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
        if self.pulse.stop is Stop.CANCEL:
            # Work that was told to stop may well return: what it returns is not the report.
            self._cancel(None)
        return result

    def complete(self, result: Mapping[str, Any] | None) -> None:
        """Tell the queue that the report is made. Raises `Failure` if it was in vain, `ApiError` if the API is away."""
        try:
            self._tell(self.client.complete, result=result)
        except ApiRefused as refused:
            self.refused(refused)

    def refused(self, refused: ApiRefused) -> NoReturn:
        """The report was made, and the queue does not take it: raises what that means."""
        if refused.moved_on:
            text = f"The report was made, but the row is no longer this run's: {refused}"
            raise Failure(text, allow_retries=False) from None
        if refused.status != 413 and not (refused.status == 400 and refused.kind):
            raise refused
        # The result itself: the next attempt would make the same one.
        text = f"The report was made, but the queue refused its result: {refused}"
        self._fail(text, retryable=False)
        raise Failure(text, allow_retries=False) from None

    def give_back(self) -> None:
        """The run ends before it came to this row: another one makes it, and no attempt is used.

        Raises `ApiUnreachable` if the queue does not answer.
        """
        try:
            self._release(f"Run {self.context.run_id} ended before it came to this report.", begun=False)
        except ApiRefused as refused:
            self._untold(refused)

    def _tell(self, verb: Callable[..., T], seconds: float | None = None, **body: Any) -> T:
        def call() -> T:
            return verb(self.queue_id, lease_token=self.lease_token, **body)

        return patience.patiently(call, self.interrupts, seconds)

    def _end_badly(self, error: BaseException, *, begun: bool) -> None:
        """Tell the queue why the work did not end well. Raises what the run should end with, if not `error` itself."""
        interrupted = isinstance(error, INTERRUPTS)
        row = f"row {self.queue_id}"
        match self.pulse.stop:
            case Stop.CANCEL:
                self._cancel(error)
            case Stop.LOST:
                text = f"Stopped: {row} is no longer this run's; another run does the work."
                raise Failure(text, allow_retries=False) from error
            case Stop.SILENT if interrupted:
                text = f"Stopped: no heartbeat got through, and the lease of {row} was about to end."
                self._fail(text, patience.GRACE_SECONDS)
                raise Failure(text, allow_retries=False) from error
        if self.interrupts.received_at is not None:
            self._give_back(begun=begun)
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
        if not isinstance(error, Exception):
            # KeyboardInterrupt, SystemExit, CancelledError: Dagster and Python take them for a wish to end the run.
            text = f"The report raised {type(error).__name__}, although nobody interrupted its run."
            raise Failure(text, allow_retries=False) from error

    def _fail(self, error: str, seconds: float | None = None, **how: Any) -> None:
        try:
            status = self._tell(self.client.fail, seconds, error=error, **how)
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
        raise ReportCancelled(text) from error

    def _give_back(self, *, begun: bool) -> None:
        try:
            if self._terminated():
                reason = f"Run {self.context.run_id} was terminated in Dagster."
                self._tell(self.client.cancel, patience.GRACE_SECONDS, reason=reason)
            else:
                reason = f"Run {self.context.run_id} was interrupted from outside; it gave the row back."
                self._release(reason, begun=begun)
        except ApiError as refused:
            self._untold(refused)

    def _release(self, reason: str, *, begun: bool) -> None:
        self._tell(self.client.release, patience.GRACE_SECONDS, reason=reason, begun=begun)

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
