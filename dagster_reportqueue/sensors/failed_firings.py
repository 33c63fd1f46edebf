"""Firings whose run failed before it began: as its run key is spent, their sensor cannot launch it again.

The queue's sensors can, once the firing has a row.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from dagster_reportqueue.client import ApiRefused, ReportQueueClient
from dagster_reportqueue.tickets import FiringTicket

SETTLED = timedelta(seconds=60)
"""After which a run's end is in the table for everybody, and whoever reports it at once has tried to."""
OLDEST = timedelta(days=1)
"""Ends that are looked at; as old as the firings that a sensor makes up for."""
RUNS = 200
"""Failed runs that are looked at each time, the oldest first."""


def queue_firing(client: ReportQueueClient, run: DagsterRun, firing: FiringTicket) -> str:
    """Queue a firing whose run has failed, unless that run had begun; says what was done. As often as one likes.

    Raises `ApiError` if the web app does not answer, or refuses for another reason than that there is nothing to make.
    """
    try:
        row_id = client.queue_firing(firing.schedule_id, trigger_time=firing.trigger_time)
    except ApiRefused as refused:
        if refused.moved_on or refused.status == 404:
            return f"Run {run.run_id} was not to make its report: {refused}"
        raise
    return f"Run {run.run_id} of row {row_id} has ended; the row is queued if it had not started."


def queue_failed_firings(
    instance: DagsterInstance, client: ReportQueueClient, looked_until: datetime | None
) -> tuple[int, datetime]:
    """Queue the firings of runs that have failed since `looked_until`; their number, and until when it has looked.

    Whoever keeps that instant only when this returns misses no run, whatever fails meanwhile. Raises as `queue_firing`.
    """
    now = datetime.now(UTC)
    after = max(looked_until or now - OLDEST, now - OLDEST)
    records = instance.get_run_records(
        RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=after, updated_before=now - SETTLED),
        limit=RUNS,
        order_by="update_timestamp",
        ascending=True,
    )
    found = 0
    for record in records:
        firing = FiringTicket.of_run(record.dagster_run.tags)
        if firing is not None:
            queue_firing(client, record.dagster_run, firing)
            found += 1
    until = now - SETTLED if len(records) < RUNS else records[-1].update_timestamp
    # Others may have ended at that very instant.
    return found, max(after, until - timedelta(microseconds=1))
