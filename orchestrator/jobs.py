"""The job that makes one report, around anybody's report code."""

from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from typing import Any

from dagster import (
    Config,
    Failure,
    JobDefinition,
    MetadataValue,
    Nothing,
    OpExecutionContext,
    Out,
    in_process_executor,
    job,
    op,
)

from orchestrator.execution import LEASE_SECONDS, FiringTicket, ReportRun, Ticket, Work, check_lease_seconds, run_report
from orchestrator.resources import ReportQueueResource


class ReportConfig(Config):
    """The op's run config: ids only. Parameters are fetched from the row at the start."""

    report_id: int
    modifier_id: int
    queue_id: int | None = None
    generation: int | None = None
    schedule_id: int | None = None
    trigger_time: str | None = None
    """With `schedule_id`: an ISO 8601 instant, the firing whose row the run brings with it."""
    handed_over: bool = False
    """The queue has let the row go: its parameters are read there, and it is not told how the run went."""


def build_report_job(
    work: Work, *, name: str = "process_report_job", lease_seconds: int = LEASE_SECONDS
) -> JobDefinition:
    """A job whose op `report_data` does `work` for one row of the queue.

    Launched by hand without a `queue_id`, it does the work with no parameters and tells the queue nothing. The job
    needs the resource `report_queue`, a `ReportQueueResource`. Its executor is in-process: another process for a
    single op costs seconds. Raises `ValueError` for a lease beyond the API's bounds.
    """
    check_lease_seconds(lease_seconds)

    # Nothing as output: the result lives in the queue's row, not in an I/O manager's storage.
    @op(name="report_data", out=Out(Nothing), description="Makes one report and tells the queue how it went.")
    def report_data(context: OpExecutionContext, config: ReportConfig, report_queue: ReportQueueResource) -> None:
        ticket = _ticket(config)
        if ticket is None:
            result = work(ReportRun(config.report_id, config.modifier_id, run_id=context.run_id)) or {}
        elif config.handed_over and isinstance(ticket, Ticket):
            result = work(_handed_over(context, config, ticket, report_queue)) or {}
        else:
            client = report_queue.client()
            try:
                done = run_report(context, client, ticket, work, lease_seconds=lease_seconds)
            finally:
                client.close()
            if done is None:
                context.add_output_metadata({"outcome": "not started: another run has or had this row"})
                return
            result = done
        context.add_output_metadata(result_metadata(result))

    @job(
        name=name,
        executor_def=in_process_executor,
        # The queue owns retries: one by Dagster would start the same row under the same key.
        tags={"dagster/max_retries": "0"},
        description="Makes one report of the report queue.",
    )
    def report_job() -> None:
        report_data()

    return report_job


def _ticket(config: ReportConfig) -> Ticket | FiringTicket | None:
    """What the run is for; None if it was launched by hand, for no row."""
    if config.queue_id is not None:
        if config.generation is None:
            raise Failure("The op's config names a queue_id: it needs the row's generation too.", allow_retries=False)
        return Ticket(config.queue_id, config.generation)
    if config.schedule_id is None:
        return None
    try:
        trigger_time = datetime.fromisoformat(config.trigger_time or "")
    except ValueError:
        text = "The op's config names a schedule_id: it needs the firing's trigger_time too, an ISO 8601 instant."
        raise Failure(text, allow_retries=False) from None
    return FiringTicket(config.schedule_id, trigger_time)


def _handed_over(
    context: OpExecutionContext, config: ReportConfig, ticket: Ticket, report_queue: ReportQueueResource
) -> ReportRun:
    with closing(report_queue.client()) as client:
        content = client.content(ticket.queue_id)
    return ReportRun(
        config.report_id,
        config.modifier_id,
        run_id=context.run_id,
        params=content.params,
        queue_id=ticket.queue_id,
        generation=ticket.generation,
        trigger_time=content.trigger_time,
    )


def result_metadata(result: Mapping[str, Any]) -> dict[str, MetadataValue]:
    """A result as Dagster metadata: `artifacts` as links, everything else as it is."""
    artifacts = result.get("artifacts")
    links = artifacts if isinstance(artifacts, Mapping) else {}
    rest = {name: value for name, value in result.items() if name != "artifacts"}
    metadata: dict[str, MetadataValue] = {str(name): MetadataValue.url(str(url)) for name, url in links.items()}
    if rest:
        metadata["result"] = MetadataValue.json(rest)
    return metadata
