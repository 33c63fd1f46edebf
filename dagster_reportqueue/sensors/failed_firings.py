"""Firings whose run failed before it started the row: their sensor cannot launch them again under the same run key.

This module queues such a firing as a row, and then a queue sensor launches it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from dagster_reportqueue.client import ApiRefused, ReportQueueClient, TooEarly
from dagster_reportqueue.tickets import FiringTicket

SETTLED = timedelta(seconds=60)
"""Only runs that ended longer ago are read: by then every transaction is visible and the end was reported once."""
OLDEST = timedelta(days=1)
"""Runs that ended longer ago are not looked at. A sensor launches missed firings up to the same age."""
RUNS = 200
"""Failed runs read at once, oldest first."""


def queue_firing(client: ReportQueueClient, run: DagsterRun, firing: FiringTicket) -> str:
    """Queue a firing whose run failed before it started the row, and say what was done. May be repeated.

    Raises `ApiError` if the web app does not answer, or refuses although the firing has to be made; `TooEarly` if the
    firing is still to come.
    """
    try:
        row_id = client.queue_firing(firing.schedule_id, trigger_time=firing.trigger_time)
    except ApiRefused as refused:
        if refused.moved_on or refused.status == 404:
            return f"Run {run.run_id} had no report to make: {refused}"
        raise
    return f"Run {run.run_id} of row {row_id} has ended; the row is queued if the run had not started it."


def queue_failed_firings(
    instance: DagsterInstance, client: ReportQueueClient, looked_until: datetime | None
) -> tuple[int, datetime]:
    """Queue the firings of runs that failed since `looked_until`; return their number, and a new `looked_until`.

    Store the new instant only after a successful return; then no run is missed. Raises as `queue_firing`.
    """
    now = datetime.now(UTC)
    after = max(looked_until or now - OLDEST, now - OLDEST)
    records = instance.get_run_records(
        RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=after, updated_before=now - SETTLED),
        limit=RUNS,
        order_by="update_timestamp",
        ascending=True,
    )
    found, waiting = 0, []
    for record in records:
        firing = FiringTicket.of_run(record.dagster_run.tags)
        if firing is not None:
            try:
                queue_firing(client, record.dagster_run, firing)
                found += 1
            except TooEarly:
                waiting.append(record.update_timestamp)
    until = now - SETTLED if len(records) < RUNS else records[-1].update_timestamp
    until = min(until, *waiting) if waiting else until
    # Further runs may have ended at the same instant.
    return found, max(after, until - timedelta(microseconds=1))
