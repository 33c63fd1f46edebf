"""The job that makes one report, around anybody's report code."""

from collections.abc import Mapping
from contextlib import closing
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

from orchestrator.execution import LEASE_SECONDS, ReportRun, Ticket, Work, check_lease_seconds, run_report
from orchestrator.resources import ReportQueueResource


class ReportConfig(Config):
    """The op's run config: ids only. Parameters are fetched from the row at the start."""

    report_id: int
    modifier_id: int
    queue_id: int | None = None
    generation: int | None = None
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
        if config.queue_id is None:
            result = work(ReportRun(config.report_id, config.modifier_id, run_id=context.run_id)) or {}
        elif config.handed_over:
            result = work(_handed_over(context, config, config.queue_id, report_queue)) or {}
        else:
            if config.generation is None:
                raise Failure(
                    "The op's config names a queue_id: it needs the row's generation too.",
                    allow_retries=False,
                )
            client = report_queue.client()
            try:
                ticket = Ticket(config.queue_id, config.generation)
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


def _handed_over(
    context: OpExecutionContext, config: ReportConfig, queue_id: int, report_queue: ReportQueueResource
) -> ReportRun:
    with closing(report_queue.client()) as client:
        content = client.content(queue_id)
    return ReportRun(
        config.report_id,
        config.modifier_id,
        run_id=context.run_id,
        params=content.params,
        queue_id=queue_id,
        generation=config.generation,
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
