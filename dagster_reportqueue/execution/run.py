"""What a run does around its report: start, heartbeat, and complete, fail, cancel or release.

The row's lease is what keeps two runs from doing one report's work at once. So a run that can no longer renew it stops
its work before the lease ends, and a run that is refused at the start ends without work.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from dagster import AssetExecutionContext, Failure, OpExecutionContext

from dagster_reportqueue.client import ApiRefused, ReportQueueClient, Started
from dagster_reportqueue.execution.attempt import Attempt, ReportCancelled
from dagster_reportqueue.execution.interrupts import Interrupts
from dagster_reportqueue.execution.leases import Heart
from dagster_reportqueue.execution.report import ReportRun, Work
from dagster_reportqueue.execution.retry import patiently
from dagster_reportqueue.tickets import FiringTicket, Ticket

LEASE_SECONDS = 60
MIN_LEASE_SECONDS, MAX_LEASE_SECONDS = 5, 86_400
"""The API's bounds."""


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
    context = op_context(context)
    # No retries inside a call: here they are made with an eye on the clock and on signals.
    with Interrupts() as interrupts, closing(client.clone(retries=0)) as calls:
        sent = 0.0

        def start() -> Started:
            nonlocal sent
            sent = time.monotonic()
            return ticket.start(calls, **run_of(context), lease_seconds=lease_seconds)

        try:
            started = patiently(start, interrupts)
        except ApiRefused as refused:
            if not refused.moved_on:
                raise
            context.log.warning(f"Not started, this run ends without work: {refused}")
            return None
        item = started.item

        def announced(run: ReportRun) -> Mapping[str, Any] | None:
            context.log.info(
                f"Started report {item.report_id}, modifier {item.modifier_id}: "
                f"attempt {item.attempt} of {item.max_attempts}."
            )
            return work(run)

        with Heart(calls, lease_seconds, run_id=context.run_id, interrupt=interrupts.interrupt) as heart:
            attempt = Attempt(context, calls, heart.add(started, sent=sent), interrupts)
            try:
                result = attempt.make(announced)
                attempt.complete(result)
            except ReportCancelled as cancelled:
                # Dagster calls an interrupted run cancelled only if it was asked to cancel it, else failed.
                context.instance.report_run_canceling(context.run, str(cancelled))
                raise
            return result or {}


def op_context(context: OpExecutionContext | AssetExecutionContext) -> OpExecutionContext:
    """The op's context, for a run whose retries the queue owns. Raises `Failure` for a retry by Dagster."""
    context = context.op_execution_context  # an asset's own warns of what an op's has
    if context.retry_number:
        raise Failure("The queue owns retries: give the op no RetryPolicy.", allow_retries=False)
    return context


def run_of(context: OpExecutionContext) -> dict[str, Any]:
    """The run, as the queue wants to know it at a start."""
    return {
        "run_id": context.run_id,
        "parent_run_id": context.run.parent_run_id,
        "worker": f"{socket.gethostname()[:80]}:{os.getpid()}",
    }


def check_lease_seconds(seconds: int) -> None:
    """Raises `ValueError` beyond the API's bounds: better now than in every run."""
    if not MIN_LEASE_SECONDS <= seconds <= MAX_LEASE_SECONDS:
        raise ValueError(
            f"lease_seconds must be from {MIN_LEASE_SECONDS} to {MAX_LEASE_SECONDS:,} seconds; it is {seconds}."
        )
