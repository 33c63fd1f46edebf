"""The job that makes many reports in one run, around anybody's report code."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from dagster import (
    Config,
    DagsterRun,
    Failure,
    JobDefinition,
    Nothing,
    OpExecutionContext,
    Out,
    in_process_executor,
    job,
    op,
)
from pydantic import Field

from orchestrator.batches import run_reports
from orchestrator.client import MAX_ROWS
from orchestrator.execution import LEASE_SECONDS, Ticket, Work, check_lease_seconds
from orchestrator.resources import ReportQueueResource

BATCH_TAG = "reportqueue/batch"
"""Of a batch's run: the consumer that claimed its rows. Which rows they are is in its config."""
OP = "report_batch"


class BatchConfig(Config):
    """The op's run config: ids and generations only."""

    rows: list[str] = Field(description="The run keys of the rows, queue_id:generation each; 1 to 100.")
    one_by_one: bool = Field(
        default=False, description="Start each row only once the one before it has ended: rows on their last attempt."
    )


def build_batch_job(
    work: Work, *, name: str = "process_reports_job", lease_seconds: int = LEASE_SECONDS
) -> JobDefinition:
    """A job whose op `report_batch` does `work` for many rows of the queue, one after the other, in one run.

    The work is what `build_report_job` takes, and each report is started, cancelled, tried again and shown by itself; a
    run in which one failed is failed at its end. What a run costs is shared by its rows: for reports that take less
    time than a run does to start. The job needs the resource `report_queue`. Raises `ValueError` for a lease beyond the
    API's bounds.
    """
    check_lease_seconds(lease_seconds)

    @op(name=OP, out=Out(Nothing), description="Makes reports and tells the queue how each of them went.")
    def report_batch(context: OpExecutionContext, config: BatchConfig, report_queue: ReportQueueResource) -> None:
        try:
            tickets = [Ticket.parse(row) for row in config.rows]
        except ValueError as error:
            text = f"The op's config names no rows as queue_id:generation: {error}"
            raise Failure(text, allow_retries=False) from None
        with closing(report_queue.client()) as client:
            tally = run_reports(
                context, client, tickets, work, lease_seconds=lease_seconds, one_by_one=config.one_by_one
            )
        context.add_output_metadata(tally.metadata())
        if tally.failed:
            text = f"{tally.failed} of {len(tickets)} reports failed; their rows in the queue say why."
            raise Failure(text, metadata=tally.metadata(), allow_retries=False)

    @job(
        name=name,
        executor_def=in_process_executor,
        # The queue owns retries: one by Dagster would start the same rows under the same key.
        tags={"dagster/max_retries": "0"},
        description=f"Makes up to {MAX_ROWS} reports of the report queue.",
    )
    def batch_job() -> None:
        report_batch()

    return batch_job


def batch_config(tickets: Iterable[Ticket], *, one_by_one: bool = False) -> dict[str, Any]:
    """Run config for a job of `build_batch_job`."""
    config: dict[str, Any] = {"rows": [str(ticket) for ticket in tickets]}
    if one_by_one:
        config["one_by_one"] = True
    return {"ops": {OP: {"config": config}}}


def tickets_of(run: DagsterRun) -> list[Ticket]:
    """The rows that a run was launched for, one or many; none if somebody else launched it, or wrote its config."""
    if BATCH_TAG not in run.tags:
        ticket = Ticket.of_run(run.tags)
        return [] if ticket is None else [ticket]
    config: Mapping[str, Any] = run.run_config
    try:
        return [Ticket.parse(row) for row in config["ops"][OP]["config"]["rows"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []
