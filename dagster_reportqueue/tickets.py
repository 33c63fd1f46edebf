"""Tickets: they identify the row, rows or firing of a run, in the run's tags and config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dagster import DagsterRun

from dagster_reportqueue.bounds import MAX_CLAIM
from dagster_reportqueue.client import ReportQueueClient, Started

QUEUE_ID_TAG = "reportqueue/queue_id"
GENERATION_TAG = "reportqueue/generation"
SCHEDULE_ID_TAG = "reportqueue/schedule_id"
TRIGGER_TIME_TAG = "reportqueue/trigger_time"
REPORT_ID_TAG = "reportqueue/report_id"
REPORT_TAG = "reportqueue/report"
"""The names of the reports that have an entry in the catalogue."""
MODIFIER_ID_TAG = "reportqueue/modifier_id"
BATCH_TAG = "reportqueue/batch"
"""The tag of a run of several rows. Its value is the consumer that claimed them; the run config names the rows."""
TRACEPARENT_TAG = "reportqueue/traceparent"
"""The W3C trace context in which the run of a row goes on."""
STRAY_TAG = "reportqueue/stray"
"""Of a run that the reconciler has terminated: nobody wants its other reports cancelled for that."""
NO_RETRIES = {"dagster/max_retries": "0"}
"""A tag of every job and run. The queue owns retries: one by Dagster would start the same row under the same key."""
MAX_RUN_ROWS = MAX_CLAIM
"""Rows of one run: as many as a claim may have."""
REPORT_OP, BATCH_OP = "report_data", "report_batch"
"""The ops of the two jobs, as run config names them."""


@dataclass(frozen=True)
class Ticket:
    """Identifies a row and, by its generation, the claim for which the run was launched."""

    queue_id: int
    generation: int

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """From `queue_id:generation`, which is also the row's run key. Raises `ValueError` for anything else."""
        queue_id, _, generation = text.partition(":")
        return cls(int(queue_id), int(generation))

    def __str__(self) -> str:
        return f"{self.queue_id}:{self.generation}"

    @classmethod
    def of_run(cls, tags: Mapping[str, str]) -> Ticket | None:
        """Read the tags that the queue sensor sets on a run; None for any other run."""
        if QUEUE_ID_TAG not in tags:
            return None
        return cls(int(tags[QUEUE_ID_TAG]), int(tags[GENERATION_TAG]))

    def tags(self) -> dict[str, str]:
        """The tags of its run."""
        return {QUEUE_ID_TAG: str(self.queue_id), GENERATION_TAG: str(self.generation)}

    def run_config(self, report_id: int, modifier_id: int, *, followed: bool = True) -> dict[str, Any]:
        """Run config for a job of `build_report_job`: ids only; `followed` as in `ReportConfig`."""
        config = {"queue_id": self.queue_id, "generation": self.generation} | ({} if followed else {"followed": False})
        return _run_config(report_id, modifier_id, config)

    def start(self, client: ReportQueueClient, **run: Any) -> Started:
        """Start the row; takes the arguments of the client's `start`, and raises as it does."""
        return client.start(self.queue_id, generation=self.generation, **run)


@dataclass(frozen=True)
class FiringTicket:
    """Identifies a schedule's firing, whose row is created when its run starts."""

    schedule_id: int
    trigger_time: datetime

    def tags(self) -> dict[str, str]:
        """The tags of its run."""
        return {SCHEDULE_ID_TAG: str(self.schedule_id), TRIGGER_TIME_TAG: self.trigger_time.isoformat()}

    @classmethod
    def of_run(cls, tags: Mapping[str, str]) -> FiringTicket | None:
        """Read the tags that the firing's sensor sets on a run; None for any other run."""
        # The runs of rows may have the schedule's tag too, but not the instant's.
        if SCHEDULE_ID_TAG not in tags or TRIGGER_TIME_TAG not in tags:
            return None
        return cls(int(tags[SCHEDULE_ID_TAG]), datetime.fromisoformat(tags[TRIGGER_TIME_TAG]))

    def run_config(self, report_id: int, modifier_id: int) -> dict[str, Any]:
        """Run config for a job of `build_report_job`."""
        config = {"schedule_id": self.schedule_id, "trigger_time": self.trigger_time.isoformat()}
        return _run_config(report_id, modifier_id, config)

    def start(self, client: ReportQueueClient, **run: Any) -> Started:
        """Start the firing; takes the arguments of the client's `start_firing`, and raises as it does."""
        return client.start_firing(self.schedule_id, trigger_time=self.trigger_time, **run)


def _run_config(report_id: int, modifier_id: int, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"ops": {REPORT_OP: {"config": {"report_id": report_id, "modifier_id": modifier_id, **config}}}}


def batch_config(tickets: Iterable[Ticket], *, one_by_one: bool = False) -> dict[str, Any]:
    """Run config for a job of `build_batch_job`."""
    config: dict[str, Any] = {"rows": [str(ticket) for ticket in tickets]}
    if one_by_one:
        config["one_by_one"] = True
    return {"ops": {BATCH_OP: {"config": config}}}


def tickets_of(run: DagsterRun) -> list[Ticket]:
    """The rows of a run; empty for a run that no queue sensor launched, or with a changed config."""
    if BATCH_TAG not in run.tags:
        ticket = Ticket.of_run(run.tags)
        return [] if ticket is None else [ticket]
    config: Mapping[str, Any] = run.run_config
    try:
        return [Ticket.parse(row) for row in config["ops"][BATCH_OP]["config"]["rows"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []
