"""Runs of report jobs in this process, against the real web app."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dagster import DagsterInstance, DagsterRunStatus, ExecuteInProcessResult, JobDefinition

from dagster_reportqueue.client import QueueItem, ReportQueueClient
from dagster_reportqueue.execution.report import Work
from dagster_reportqueue.jobs import build_batch_job, build_report_job
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.queue_sensor import report_data_config
from dagster_reportqueue.tickets import BATCH_TAG, Ticket, batch_config
from reportqueue.models import ReportQueue

LEASE_SECONDS = 5
"""The shortest that the API allows: a beat every 1.7 s, and the work stops after 3.75 s without one."""


class Runner:
    """Claims rows as a sensor does, and executes what it would launch for them."""

    def __init__(self, client: ReportQueueClient, token: str, instance: DagsterInstance) -> None:
        self.client = client
        self.instance = instance
        self._resources = {"report_queue": ReportQueueResource(url=client.url, token=token)}

    def claim(self) -> QueueItem:
        (item,) = self.client.claim("sensor").items
        return item

    def make(self, work: Work, *, lease_seconds: int = LEASE_SECONDS) -> ExecuteInProcessResult:
        """Claim the one due row, and make its report."""
        return self.run(build_report_job(work, lease_seconds=lease_seconds), self.claim())

    def run(
        self,
        job: JobDefinition,
        item: QueueItem,
        config: Callable[[QueueItem], Mapping[str, Any]] | None = report_data_config,
        **options: Any,
    ) -> ExecuteInProcessResult:
        options.setdefault("tags", Ticket(item.queue_id, item.generation).tags())
        return job.execute_in_process(
            run_config=config(item) if config else None,
            instance=self.instance,
            resources=self._resources,
            raise_on_error=False,
            **options,
        )

    def claim_all(self) -> list[QueueItem]:
        return self.client.claim("sensor", limit=100).items

    def make_batch(
        self,
        work: Work,
        items: Sequence[QueueItem] | None = None,
        *,
        lease_seconds: int = LEASE_SECONDS,
        one_by_one: bool = False,
    ) -> ExecuteInProcessResult:
        """Make the reports of these rows, by default of all that are due, in one run."""
        tickets = [Ticket(item.queue_id, item.generation) for item in (self.claim_all() if items is None else items)]
        return build_batch_job(work, lease_seconds=lease_seconds).execute_in_process(
            run_config=batch_config(tickets, one_by_one=one_by_one),
            instance=self.instance,
            resources=self._resources,
            raise_on_error=False,
            tags={BATCH_TAG: "sensor"},
        )

    def status(self, result: ExecuteInProcessResult) -> DagsterRunStatus:
        """As Dagster has stored it."""
        run = self.instance.get_run_by_id(result.run_id)
        assert run is not None
        return run.status

    def log(self, result: ExecuteInProcessResult) -> str:
        """Every message of the run, with the errors."""
        entries = self.instance.all_logs(result.run_id)
        return "\n".join(
            f"{entry.level} {entry.message}\n{getattr(entry.dagster_event, 'event_specific_data', '')}"
            for entry in entries
        )


def the_row() -> ReportQueue:
    return ReportQueue.objects.get()
