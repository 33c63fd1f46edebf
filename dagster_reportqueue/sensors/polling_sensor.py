"""The sensor of the pattern `polling`: due rows become runs, and are marked as processed once Dagster has the runs."""

import json

from dagster import (
    DefaultSensorStatus,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from dagster_reportqueue.client import ApiRefused, PendingReport, ReportQueueClient
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.instances import with_kept_instance
from dagster_reportqueue.sensors.ticks import (
    AnyJob,
    check_job,
    check_jobs_of_tick,
    check_limit,
    check_sensor,
    interval,
    queue_client,
    report_tags,
)
from dagster_reportqueue.tickets import Ticket


def build_polling_sensor(
    job: AnyJob,
    *,
    name: str = "webhook_trigger_sensor",
    limit: int = 25,
    minimum_interval_seconds: int = 5,
    default_status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
) -> SensorDefinition:
    """A sensor that launches `job` (from `build_report_job`) once for each due row, then marks the row as processed.

    It is simpler than the queue sensor and guarantees less: the queue does not know how a run ended, and retries none.
    A row is marked in the tick after its launch. Dagster stores the cursor and the run requests together, so a stored
    cursor proves that the run exists. `limit` is 1 to 100 rows in a tick. The sensor needs the resource
    `report_queue`; the token's user needs the permissions to view and to consume. Raises `ValueError` for a bound
    exceeded, `TypeError` for a wrong type.
    """
    check_job(job)
    check_sensor(name, default_status)
    check_limit(limit)

    @sensor(
        name=name,
        job=job,
        minimum_interval_seconds=interval(minimum_interval_seconds),
        default_status=default_status,
        description="Launches one run for each due report, and marks the report as processed once Dagster has its run.",
    )
    def polling_sensor(context: SensorEvaluationContext, report_queue: ReportQueueResource) -> SensorResult:
        check_jobs_of_tick(context, job.name)
        with queue_client(report_queue) as client:
            for row_id in _launched(context):
                _mark(context, client, row_id)
            pending = client.pending()[:limit]
        return SensorResult(
            run_requests=[_request(report) for report in pending],
            skip_reason=None if pending else SkipReason("No report is due."),
            cursor=json.dumps({"launched": [report.id for report in pending]}),
        )

    return with_kept_instance(polling_sensor)


def _launched(context: SensorEvaluationContext) -> list[int]:
    """The rows of the last stored tick; empty in the first tick, or if a person has changed the cursor."""
    if not context.cursor:
        return []
    try:
        return [int(row_id) for row_id in json.loads(context.cursor)["launched"]]
    except (ValueError, KeyError, TypeError):
        context.log.warning(
            f"The cursor {context.cursor[:200]!r} is not this sensor's; its last rows are requested again, under "
            "run keys that Dagster knows."
        )
        return []


def _mark(context: SensorEvaluationContext, client: ReportQueueClient, row_id: int) -> None:
    try:
        client.mark_processed(row_id)
    except ApiRefused as refused:
        if not (refused.moved_on or refused.held_by_another or refused.status == 404):
            raise
        context.log.warning(f"Row {row_id} is not marked as processed: {refused}")


def _request(report: PendingReport) -> RunRequest:
    ticket = Ticket(report.id, report.generation)
    return RunRequest(
        run_key=report.run_key,
        run_config=ticket.run_config(report.report_id, report.modifier_id, followed=False),
        tags=report_tags(
            [report.report_id], [report.modifier_id], [] if report.schedule_id is None else [report.schedule_id]
        ),
    )
