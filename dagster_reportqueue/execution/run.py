"""How a run makes one report: it starts the row, sends heartbeats, and completes, fails, cancels or releases it.

The row's lease keeps two runs from doing the work of one report at the same time. So a run that cannot renew its lease
stops the work before the lease ends. A run whose start is refused ends without work.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from dagster import AssetExecutionContext, Failure, OpExecutionContext

from dagster_reportqueue import counters, tracing
from dagster_reportqueue.arguments import check_number
from dagster_reportqueue.bounds import MAX_LEASE_SECONDS, MIN_LEASE_SECONDS
from dagster_reportqueue.client import ApiRefused, ReportQueueClient, Started
from dagster_reportqueue.execution.attempt import Attempt, ReportCancelled
from dagster_reportqueue.execution.interrupts import Interrupts
from dagster_reportqueue.execution.leases import LeaseKeeper
from dagster_reportqueue.execution.report import ReportRun, Work
from dagster_reportqueue.execution.retry import retry_while_unreachable
from dagster_reportqueue.tickets import QUEUE_ID_TAG, TRACEPARENT_TAG, FiringTicket, Ticket

LEASE_SECONDS = 60
NO_TICKET = (
    f"This run has no report to make: it has no tag {QUEUE_ID_TAG}, which a queue sensor sets when it launches a run "
    "for a row. Enqueue the report, and let a sensor of `build_queue_sensor` launch the job. To try the report's code "
    "by hand, call it with a ReportRun."
)


def run_report(
    context: OpExecutionContext | AssetExecutionContext,
    client: ReportQueueClient,
    ticket: Ticket | FiringTicket | None,
    work: Work,
    *,
    lease_seconds: int = LEASE_SECONDS,
) -> Mapping[str, Any] | None:
    """Do `work` as the owner of the ticket's row and return the result; None if the start was refused.

    An error of `work` is reported to the queue, which retries the row after a delay or fails it; then it is raised
    again. The queue does not retry after `Failure(allow_retries=False)`; `RetryRequested` sets the delay. A cancelled
    report cancels the run. A lost lease fails the run, because another run owns the row. Call it once in a run. Without
    a ticket it raises a `Failure` that says so.
    """
    check_lease_seconds(lease_seconds)
    context = op_context(context)
    if ticket is None:
        raise Failure(NO_TICKET, allow_retries=False)
    # The client makes no retries: `retry_while_unreachable` makes them, and stops at signals and time limits.
    with counters.saved(), Interrupts() as interrupts, closing(client.clone(retries=0)) as calls:
        sent = 0.0

        def start() -> Started:
            nonlocal sent
            sent = time.monotonic()
            return ticket.start(calls, **run_of(context), lease_seconds=lease_seconds)

        try:
            started = retry_while_unreachable(start, interrupts)
        except ApiRefused as refused:
            if not refused.moved_on:
                raise
            context.log.warning(f"Not started; this run ends without work: {refused}")
            return None
        item = started.item

        def announced(run: ReportRun) -> Mapping[str, Any] | None:
            context.log.info(
                f"Started report {item.label}, modifier {item.modifier_id}: "
                f"attempt {item.attempt} of {item.max_attempts}."
            )
            return work(run)

        with LeaseKeeper(calls, lease_seconds, run_id=context.run_id, interrupt=interrupts.interrupt) as keeper:
            attempt = Attempt(context, calls, keeper.add(started, sent=sent), interrupts)
            parent = context.run.tags.get(TRACEPARENT_TAG)
            try:
                with tracing.flushed(), tracing.processing(item, run_id=context.run_id, parent=parent):
                    result = attempt.make(announced)
                    attempt.complete(result)
            except ReportCancelled as cancelled:
                # Dagster marks an interrupted run as failed, unless its termination was requested.
                context.instance.report_run_canceling(context.run, str(cancelled))
                raise
            return result or {}


def op_context(context: OpExecutionContext | AssetExecutionContext) -> OpExecutionContext:
    """The op's context. Raises `Failure` if this is a retry by Dagster, because the queue owns retries."""
    context = context.op_execution_context  # the asset's context warns about attributes that the op's context has
    if context.retry_number:
        raise Failure("The queue owns retries: give the op no RetryPolicy.", allow_retries=False)
    return context


def run_of(context: OpExecutionContext) -> dict[str, Any]:
    """The arguments of a start that describe the run."""
    return {
        "run_id": context.run_id,
        "parent_run_id": context.run.parent_run_id,
        "worker": f"{socket.gethostname()[:80]}:{os.getpid()}",
    }


def check_lease_seconds(seconds: int) -> None:
    """Raises `ValueError` or `TypeError` for a lease outside the API's bounds, before any run needs it."""
    check_number("lease_seconds", seconds, MIN_LEASE_SECONDS, MAX_LEASE_SECONDS)
