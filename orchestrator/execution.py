"""What a run does around its report: start, heartbeat, and complete, fail, cancel or release.

The row's lease is what keeps two runs from doing one report's work at once. So a run that can no longer renew it stops
its work before the lease ends, and a run that is refused at the start ends without work.
"""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from dagster import DagsterRunStatus, Failure, OpExecutionContext, RetryRequested
from dagster._core.errors import DagsterExecutionInterruptedError

from orchestrator.client import ApiError, ApiRefused, ApiUnreachable, Conflict, ReportQueueClient, Started

LEASE_SECONDS = 60
PATIENCE_SECONDS = 300.0
"""How long a finished report waits for an API that does not answer, before its result is given up."""
ERROR_CHARACTERS = 16 * 1024
QUEUE_ID_TAG = "reportqueue/queue_id"
GENERATION_TAG = "reportqueue/generation"
T = TypeVar("T")


@dataclass(frozen=True)
class Ticket:
    """What names a row and the claim that this run was made for."""

    queue_id: int
    generation: int

    @classmethod
    def of_run(cls, tags: Mapping[str, str]) -> Ticket | None:
        """From the tags that the queue sensor gives a run; None for a run that somebody else launched."""
        if QUEUE_ID_TAG not in tags:
            return None
        return cls(int(tags[QUEUE_ID_TAG]), int(tags[GENERATION_TAG]))

    def tags(self) -> dict[str, str]:
        """The tags for a run."""
        return {QUEUE_ID_TAG: str(self.queue_id), GENERATION_TAG: str(self.generation)}


@dataclass(frozen=True)
class ReportRun:
    """What the report's code is given; `params` come from the row, never from run config or tags."""

    report_id: int
    modifier_id: int
    run_id: str
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    queue_id: int | None = None
    generation: int | None = None
    attempt: int = 1
    trigger_time: datetime | None = None
    _heart: _Heart | None = field(default=None, repr=False)

    def progress(self, text: str) -> None:
        """Show up to 200 characters to whoever looks at the row; sent with the next heartbeat."""
        if self._heart is not None:
            self._heart.progress = text[:200]

    def stop_requested(self) -> bool:
        """Whether the work is no longer wanted. In the main thread it is interrupted anyway; other threads ask."""
        return self._heart is not None and self._heart.stop is not None


Work = Callable[[ReportRun], Mapping[str, Any] | None]
"""The report's code: makes the report and returns its result, a JSON object of at most 64 KiB. In it,
`{"artifacts": {name: address}}` becomes links in the queue's admin and in the run's metadata."""


def run_report(
    context: OpExecutionContext,
    client: ReportQueueClient,
    ticket: Ticket,
    work: Work,
    *,
    lease_seconds: int = LEASE_SECONDS,
) -> Mapping[str, Any] | None:
    """Do `work` as the owner of the ticket's row; its result, or None if this run was not to do it.

    Raises what `work` raises, after reporting it: queued again after a delay or failed, as the queue decides. A
    `Failure(allow_retries=False)` is not tried again; `RetryRequested` carries its delay. A cancel ends the run as
    cancelled; a lost lease fails it, as another run has the row.
    """
    log = context.log
    sent = time.monotonic()
    try:
        started = _patiently(
            lambda: client.start(
                ticket.queue_id,
                generation=ticket.generation,
                run_id=context.run_id,
                parent_run_id=context.run.parent_run_id,
                lease_seconds=lease_seconds,
            ),
            patience=float(lease_seconds),
        )
    except Conflict as conflict:
        log.warning(f"Not started, this run ends without work: {conflict}")
        return None
    item = started.item
    log.info(
        f"Started report {item.report_id}, modifier {item.modifier_id}: attempt {item.attempt} of {item.max_attempts}."
    )
    heart = _Heart(client.clone(retries=0, read_timeout=lease_seconds / 3), started, lease_seconds, sent)
    run = ReportRun(
        report_id=item.report_id,
        modifier_id=item.modifier_id,
        run_id=context.run_id,
        params=item.params,
        queue_id=item.queue_id,
        generation=item.generation,
        attempt=item.attempt,
        trigger_time=item.trigger_time,
        _heart=heart,
    )
    with heart:
        try:
            with heart.interrupting():
                result = work(run)
        except BaseException as error:
            _end_badly(context, client, started, heart, error)
            raise
        return _complete(client, started, result)


def _complete(
    client: ReportQueueClient, started: Started, result: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    queue_id, token = started.item.queue_id, started.lease_token
    try:
        _patiently(lambda: client.complete(queue_id, lease_token=token, result=result))
    except Conflict as conflict:
        raise Failure(
            f"The report was made, but the row is no longer this run's: {conflict}", allow_retries=False
        ) from None
    except ApiRefused as refused:
        # The result itself was refused (too large, not JSON): the next attempt would make the same one.
        if refused.status in (400, 413):
            text = str(refused)
            _patiently(lambda: client.fail(queue_id, lease_token=token, error=text, retryable=False))
        raise
    return result or {}


def _end_badly(
    context: OpExecutionContext,
    client: ReportQueueClient,
    started: Started,
    heart: _Heart,
    error: BaseException,
) -> None:
    """Tell the queue why the work did not end well. Raises what the run should end with, if not `error` itself."""
    queue_id, token = started.item.queue_id, started.lease_token
    if heart.stop == "lease":
        raise Failure(
            f"Stopped: the lease of row {queue_id} could not be renewed; another run does the work.",
            allow_retries=False,
        ) from error
    try:
        if heart.stop == "cancel":
            _patiently(lambda: client.cancel(queue_id, lease_token=token))
            context.log.info("Cancelled in the report queue.")
            # Dagster calls an interrupted run cancelled only if it was asked to cancel it, else failed.
            context.instance.report_run_canceling(context.run, "Cancelled in the report queue.")
            raise DagsterExecutionInterruptedError from error
        if isinstance(error, KeyboardInterrupt | DagsterExecutionInterruptedError):
            run = context.instance.get_run_by_id(context.run_id)
            if run is not None and run.status == DagsterRunStatus.CANCELING:
                reason = "The run was terminated in Dagster."
                _patiently(lambda: client.cancel(queue_id, lease_token=token, reason=reason))
            else:
                reason = f"Run {context.run_id} was interrupted from outside; it gave the row back."
                _patiently(lambda: client.release(queue_id, lease_token=token, reason=reason), patience=5.0)
            return
        text = "".join(traceback.format_exception(error))[-ERROR_CHARACTERS:]
        retryable = not (isinstance(error, Failure) and not error.allow_retries)
        delay = error.seconds_to_wait if isinstance(error, RetryRequested) else None
        status = _patiently(
            lambda: client.fail(
                queue_id,
                lease_token=token,
                error=text,
                retryable=retryable,
                retry_after_seconds=int(delay) if delay is not None else None,
            )
        )
        context.log.warning(f"The report failed; its row is now {status}.")
    except ApiError as refused:
        # Nothing is lost: the lease runs out and the row is offered again.
        context.log.warning(f"The queue could not be told how this run ended: {refused}")
    if isinstance(error, RetryRequested):
        # The queue owns retries: this run's attempt is over, Dagster must not run the op again within it.
        raise Failure("The report asked for another attempt; the queue schedules it.", allow_retries=False) from error


def _patiently(call: Callable[[], T], *, patience: float = PATIENCE_SECONDS) -> T:
    """Repeat a call while the API does not answer, for about `patience` seconds."""
    until = time.monotonic() + patience
    pause = 0.5
    while True:
        try:
            return call()
        except ApiUnreachable:
            if time.monotonic() + pause > until:
                raise
            time.sleep(pause)
            pause = min(2 * pause, 10.0)


class _Heart:
    """The heartbeat: a thread that renews the lease, and interrupts the work when it is to stop.

    `stop` is None, "cancel" (somebody wants the report no more) or "lease" (the row is, or may soon be, another's).
    """

    def __init__(self, client: ReportQueueClient, started: Started, lease_seconds: int, sent: float) -> None:
        self.stop: str | None = None
        self.progress: str | None = None
        self._client = client
        self._queue_id = started.item.queue_id
        self._token: UUID = started.lease_token
        self._lease = lease_seconds
        self._renewed = sent
        self._done = threading.Event()
        self._working = False
        self._lock = threading.Lock()
        self._worker = threading.current_thread()
        self._thread = threading.Thread(target=self._beat, name="reportqueue-heartbeat", daemon=True)

    def __enter__(self) -> _Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=self._lease)
        self._client.close()

    def interrupting(self) -> _Interrupting:
        """While in this context, a stop interrupts the worker."""
        return _Interrupting(self)

    def set_working(self, working: bool) -> None:
        """Within the lock, so that no interrupt arrives after the work."""
        with self._lock:
            self._working = working

    def _beat(self) -> None:
        interval = self._lease / 3
        while not self._done.wait(interval):
            sent = time.monotonic()
            progress, self.progress = self.progress, None
            try:
                cancel = self._client.heartbeat(
                    self._queue_id, lease_token=self._token, lease_seconds=self._lease, progress=progress
                )
            except Conflict:
                return self._interrupt("lease")
            except ApiError:
                # Not renewed. Stop while the lease still holds, or another run would work beside this one.
                if time.monotonic() - self._renewed > self._lease * 2 / 3:
                    return self._interrupt("lease")
                self.progress = self.progress or progress
                interval = min(1.0, self._lease / 6)
                continue
            self._renewed, interval = sent, self._lease / 3
            if cancel and self.stop is None:
                self._interrupt("cancel")
        return None

    def _interrupt(self, why: str) -> None:
        with self._lock:
            self.stop = why
            if self._working and self._worker is threading.main_thread() and self._worker.ident is not None:
                # A real signal, so that a sleep or a read in the report's code wakes up; within an op, Dagster turns
                # it into DagsterExecutionInterruptedError.
                signal.pthread_kill(self._worker.ident, signal.SIGINT)


class _Interrupting:
    def __init__(self, heart: _Heart) -> None:
        self._heart = heart

    def __enter__(self) -> None:
        self._heart.set_working(True)

    def __exit__(self, *_: object) -> None:
        self._heart.set_working(False)
