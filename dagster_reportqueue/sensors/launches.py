"""Requests the runs of a queue sensor's tick, for one row or for a group of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dagster import RunRequest, SensorEvaluationContext, validate_run_config

from dagster_reportqueue.client import QueueItem, ReportQueueClient
from dagster_reportqueue.sensors.grouping import Group
from dagster_reportqueue.sensors.targets import OF_FUNCTIONS, BadTarget, Target, TickTargets, told
from dagster_reportqueue.sensors.ticks import joined, launch_tags, report_tags
from dagster_reportqueue.tickets import BATCH_TAG, REPORT_TAG, TRACEPARENT_TAG, Ticket, batch_config

RunConfigOf = Callable[[QueueItem], Mapping[str, Any]]


@dataclass(frozen=True)
class Launches:
    """Requests runs; a row for which none can be requested is reported to the queue.

    An invalid request would fail the whole tick, and every later tick, because the same rows are redelivered.
    """

    context: SensorEvaluationContext
    client: ReportQueueClient
    targets: TickTargets
    run_config: RunConfigOf | None
    consumer: str
    traces: Mapping[int, str]
    """The trace contexts for the runs of the rows, by their ids."""

    def wanted(self, items: Iterable[QueueItem]) -> dict[Target, list[QueueItem]]:
        """The rows of each target, in the order of the claim; without the rows that were reported."""
        found: dict[Target, list[QueueItem]] = {}
        for item in items:
            try:
                found.setdefault(self.targets.of_row(item), []).append(item)
            except BadTarget as error:
                self._report(item, str(error))
        return found

    def request(self, group: Group, target: Target) -> RunRequest | None:
        """The run request of a group; None if the run config of a row alone is invalid, which is reported."""
        batch_job = self.targets.targets.batch_job
        if batch_job is not None and len(group.items) > 1:
            return self._batch(group, target, batch_job.name)
        return self._single(group.items[0], target)

    def _single(self, item: QueueItem, target: Target) -> RunRequest | None:
        config = None
        try:
            if self.run_config is not None:
                config = dict(self.run_config(item))
            job = self.targets.known.get(target.job)
            if job is not None:
                own = job.get_run_config_for_partition_key(target.partition_key) if target.partition_key else None
                validate_run_config(job, config or own)
        except OF_FUNCTIONS as error:
            self._report(item, f"the sensor's run_config failed for this row: {told(error)}")
            return None
        return RunRequest(
            run_key=item.run_key,
            run_config=config,
            job_name=target.job,
            partition_key=target.partition_key,
            tags={
                **dict(target.tags),
                **Ticket(item.queue_id, item.generation).tags(),
                **_tags_of([item]),
                **launch_tags(item.priority),
                **({TRACEPARENT_TAG: trace} if (trace := self.traces.get(item.queue_id)) else {}),
            },
        )

    def _batch(self, group: Group, target: Target, job: str) -> RunRequest:
        tickets = [Ticket(item.queue_id, item.generation) for item in group.items]
        return RunRequest(
            # The key depends on the rows. A redelivered claim has the same keys. It may have fewer rows, if some have
            # started: then a key by position would be known to Dagster already, and the rows would be dropped.
            run_key="batch:" + hashlib.sha256(" ".join(map(str, tickets)).encode()).hexdigest()[:32],
            run_config=batch_config(tickets, one_by_one=group.one_by_one),
            job_name=job,
            partition_key=target.partition_key,
            tags={
                **dict(target.tags),
                BATCH_TAG: self.consumer,
                "reportqueue/rows": str(len(tickets)),
                **_tags_of(group.items),
                **launch_tags(max(item.priority for item in group.items)),
            },
        )

    def _report(self, item: QueueItem, reason: str) -> None:
        self.context.log.error(f"No run for row {item.queue_id}, report {item.label}: {reason}")
        self.client.fail_launch(item.queue_id, generation=item.generation, run_id=item.run_key, error=reason)


def _tags_of(items: Iterable[QueueItem]) -> dict[str, str]:
    """The tags that name the reports, modifiers and schedules of these rows."""
    rows = list(items)
    names = sorted({row.report_name for row in rows if row.report_name})
    return {
        **report_tags(
            (row.report_id for row in rows),
            (row.modifier_id for row in rows),
            (row.schedule_id for row in rows if row.schedule_id is not None),
        ),
        **({REPORT_TAG: joined(names)} if names else {}),
    }
