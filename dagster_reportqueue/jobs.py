"""Builds the two jobs from your report code: one that makes one report a run, one that makes many."""

from contextlib import closing
from datetime import datetime

from dagster import (
    Config,
    Failure,
    JobDefinition,
    Nothing,
    OpExecutionContext,
    Out,
    PartitionsDefinition,
    in_process_executor,
    job,
    op,
)
from pydantic import Field

from dagster_reportqueue.arguments import check_partitions, check_type, check_work
from dagster_reportqueue.execution.batch import Outcome, run_reports
from dagster_reportqueue.execution.report import ReportRun, Work, partition_of, result_metadata
from dagster_reportqueue.execution.run import LEASE_SECONDS, check_lease_seconds, run_report
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.tickets import BATCH_OP, MAX_RUN_ROWS, NO_RETRIES, REPORT_OP, FiringTicket, Ticket


class ReportConfig(Config):
    """The run config of the op: ids only. The run reads the parameters from the row when it starts it."""

    report_id: int
    modifier_id: int
    queue_id: int | None = None
    generation: int | None = None
    schedule_id: int | None = None
    trigger_time: str | None = None
    """With `schedule_id`: an ISO 8601 instant. The run starts this firing, whose row may not exist yet."""
    followed: bool = True
    """Whether the queue follows the run. If not, the run reads the parameters from the row and reports nothing."""


def build_report_job(
    work: Work,
    *,
    name: str = "process_report_job",
    lease_seconds: int = LEASE_SECONDS,
    partitions_def: PartitionsDefinition | None = None,
) -> JobDefinition:
    """A job whose op `report_data` does `work` for one row of the queue.

    With a `partitions_def`, each run needs a partition: give its sensor a `partition_key`.
    A run that is launched by hand without a `queue_id` does the work without parameters and reports nothing to the
    queue. The job needs the resource `report_queue`, a `ReportQueueResource`. Its executor is in-process, because a
    second process for a single op costs seconds. Raises `ValueError` for a lease outside the API's bounds, `TypeError`
    for a value of a wrong type.
    """
    _check(work, name, lease_seconds, partitions_def)

    # The op has no output: the result is stored in the queue's row, not by an I/O manager. A code location may have
    # several of these jobs, but no two ops of one name: the op has the job's name, and the alias that run config uses.
    @op(
        name=f"{name}_{REPORT_OP}",
        out=Out(Nothing),
        description="Makes one report and reports its result to the queue.",
    )
    def report_data(context: OpExecutionContext, config: ReportConfig, report_queue: ReportQueueResource) -> None:
        ticket = _ticket(config)
        if ticket is None:
            run = ReportRun(
                config.report_id, config.modifier_id, run_id=context.run_id, partition_key=partition_of(context)
            )
            result = work(run) or {}
        elif not config.followed and isinstance(ticket, Ticket):
            result = work(_not_followed(context, config, ticket, report_queue)) or {}
        else:
            client = report_queue.client()
            try:
                done = run_report(context, client, ticket, work, lease_seconds=lease_seconds)
            finally:
                client.close()
            if done is None:
                context.add_output_metadata({"outcome": "not started: another run owns or owned this row"})
                return
            result = done
        context.add_output_metadata(result_metadata(result))

    @job(
        name=name,
        executor_def=in_process_executor,
        partitions_def=partitions_def,
        tags=NO_RETRIES,
        description="Makes one report from the report queue.",
    )
    def report_job() -> None:
        report_data.alias(REPORT_OP)()

    return report_job


class BatchConfig(Config):
    """The run config of the op: ids and generations only."""

    rows: list[str] = Field(description="The run keys of the rows, queue_id:generation each; 1 to 1,000.")
    one_by_one: bool = Field(
        default=False,
        description="Start a row only after the row before it has ended: for rows on their last attempt.",
    )


def build_batch_job(
    work: Work,
    *,
    name: str = "process_reports_job",
    lease_seconds: int = LEASE_SECONDS,
    partitions_def: PartitionsDefinition | None = None,
) -> JobDefinition:
    """A job whose op `report_batch` does `work` for many rows of the queue, one after the other, in one run.

    `work` and `partitions_def` are the same as for `build_report_job`. Each report is started, cancelled, retried and
    shown separately. The run fails at its end if a report failed. Use it for reports that take less time than a run
    takes to start: the reports share that time. The job needs the resource `report_queue`. Raises as
    `build_report_job`.
    """
    _check(work, name, lease_seconds, partitions_def)

    @op(
        name=f"{name}_{BATCH_OP}",
        out=Out(Nothing),
        description="Makes reports and reports the result of each to the queue.",
    )
    def report_batch(context: OpExecutionContext, config: BatchConfig, report_queue: ReportQueueResource) -> None:
        try:
            tickets = [Ticket.parse(row) for row in config.rows]
        except ValueError as error:
            text = f"The op's config names no rows as queue_id:generation: {error}"
            raise Failure(text, allow_retries=False) from None
        with closing(report_queue.client()) as client:
            outcomes = run_reports(
                context, client, tickets, work, lease_seconds=lease_seconds, one_by_one=config.one_by_one
            )
        metadata = {outcome.value: outcomes[outcome] for outcome in Outcome}
        context.add_output_metadata(metadata)
        if outcomes[Outcome.FAILED]:
            text = f"{outcomes[Outcome.FAILED]} of {len(tickets)} reports failed; their rows in the queue say why."
            raise Failure(text, metadata=metadata, allow_retries=False)

    @job(
        name=name,
        executor_def=in_process_executor,
        partitions_def=partitions_def,
        tags=NO_RETRIES,
        description=f"Makes up to {MAX_RUN_ROWS:,} reports from the report queue.",
    )
    def batch_job() -> None:
        report_batch.alias(BATCH_OP)()

    return batch_job


def _check(work: object, name: object, lease_seconds: int, partitions_def: object) -> None:
    check_work(work)
    check_type("name", name, str, "a text")
    check_lease_seconds(lease_seconds)
    check_partitions(partitions_def)


def _ticket(config: ReportConfig) -> Ticket | FiringTicket | None:
    """The row or firing of the run; None if it was launched by hand without a row."""
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


def _not_followed(
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
        partition_key=partition_of(context),
    )
