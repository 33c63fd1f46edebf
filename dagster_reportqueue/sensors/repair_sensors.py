"""The repair sensors: they report failed launches at once, and compare the rows with Dagster's runs at an interval."""

import json
from collections.abc import Collection
from datetime import datetime

from dagster import (
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunStatusSensorContext,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    run_status_sensor,
    sensor,
)

from dagster_reportqueue.arguments import check_list, check_name
from dagster_reportqueue.client import ApiRefused, ReportQueueClient
from dagster_reportqueue.client.transport import RETRIES
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.consumers import of_location
from dagster_reportqueue.sensors.failed_firings import queue_failed_firings, queue_firing
from dagster_reportqueue.sensors.instances import with_kept_instance
from dagster_reportqueue.sensors.reconciliation import reconcile
from dagster_reportqueue.sensors.stray_runs import StrayRuns
from dagster_reportqueue.sensors.ticks import check_sensor, cursor_field, interval, queue_client
from dagster_reportqueue.tickets import FiringTicket, Ticket, tickets_of

LOOK_SECONDS = 10
"""How often the first two sensors look for ended runs. Each look costs an idle installation a tick."""


def build_repair_sensors(
    *,
    consumers: Collection[str] | None = None,
    minimum_interval_seconds: int = 30,
    default_status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
) -> list[SensorDefinition]:
    """The sensors `report_launch_failed`, `report_launch_cancelled` and `report_reconciler`.

    The first two report runs that ended before they started their row. The row is then launched again, later each
    time; if run after run fails like that, the row fails. A row that the run had started is left to its lease. A firing
    of the patterns `cron` or `asset` is queued, and then a queue sensor launches it.

    The reconciler finds what the first two missed: such firings, rows without a run, ended runs, and waiting runs
    whose rows have ended. It renews the lease of rows whose run waits, in Dagster's queue or in the warm launcher. It
    terminates stray runs: they still run although they no longer own their rows, for instance because the report
    hangs.

    The rows of `consumers` are compared: by default those of all queue sensors of the code location. The token's user
    needs the permissions to view and to consume. The sensors need the resource `report_queue`. Raises `TypeError` or
    `ValueError` for an argument that cannot work.
    """
    if consumers is not None:
        check_list("consumers", consumers, str, "a consumer's name, a text")
        for place, consumer in enumerate(consumers):
            check_name(f"consumers[{place}]", consumer)
    check_sensor("report_reconciler", default_status)
    return [
        _run_end_sensor("report_launch_failed", DagsterRunStatus.FAILURE, default_status),
        _run_end_sensor("report_launch_cancelled", DagsterRunStatus.CANCELED, default_status),
        _reconciler(consumers, minimum_interval_seconds, default_status),
    ]


def _run_end_sensor(name: str, status: DagsterRunStatus, default_status: DefaultSensorStatus) -> SensorDefinition:
    @run_status_sensor(
        name=name,
        run_status=status,
        minimum_interval_seconds=interval(LOOK_SECONDS),
        default_status=default_status,
        description="Reports runs that ended before they started their report.",
    )
    def run_end_sensor(context: RunStatusSensorContext, report_queue: ReportQueueResource) -> SkipReason:
        run = context.dagster_run
        firing, tickets = FiringTicket.of_run(run.tags), tickets_of(run)
        if firing is None and not tickets:
            return SkipReason("Not a run of the report queue.")
        message = (context.dagster_event.message or status.value)[-4096:]
        # If this tick fails, Dagster does not repeat it for this run: the reconciler finds its rows, or its firing.
        with queue_client(report_queue, retries=RETRIES) as client:
            if firing is not None:
                if run.status == DagsterRunStatus.CANCELED:
                    return SkipReason(f"Run {run.run_id} was cancelled, so its report is not made.")
                return SkipReason(queue_firing(client, run, firing))
            # A run that a person cancelled says nothing of the report.
            counts = status != DagsterRunStatus.CANCELED
            settled = [_report(client, run, ticket, message, counts=counts) for ticket in tickets]
        if refused := [one for one in settled if one is not None]:
            text = f"Of {len(tickets)} rows of run {run.run_id}, {len(refused)} had started or must not start"
            return SkipReason(f"{text}: {refused[0]}")
        rows = f"{len(tickets)} rows are" if len(tickets) > 1 else f"row {tickets[0].queue_id} is"
        return SkipReason(f"Reported run {run.run_id}: {rows} launched again, unless the run had started it.")

    return with_kept_instance(run_end_sensor)


def _report(
    client: ReportQueueClient, run: DagsterRun, ticket: Ticket, message: str, *, counts: bool
) -> ApiRefused | None:
    """Report that the launch failed; return the refusal if the row has changed since, else None."""
    try:
        client.fail_launch(
            ticket.queue_id,
            generation=ticket.generation,
            run_id=run.run_id,
            error=message,
            counts=counts,
        )
    except ApiRefused as refused:
        if refused.moved_on or refused.held_by_another or refused.status == 404:
            return refused
        raise
    return None


def _reconciler(
    consumers: Collection[str] | None, seconds: int, default_status: DefaultSensorStatus
) -> SensorDefinition:
    stray_runs = StrayRuns()

    @sensor(
        name="report_reconciler",
        minimum_interval_seconds=interval(seconds),
        default_status=default_status,
        description="Compares reports with Dagster's runs: repairs differences, and ends runs that lost their reports.",
    )
    def report_reconciler(context: SensorEvaluationContext, report_queue: ReportQueueResource) -> SensorResult:
        with queue_client(report_queue, retries=RETRIES) as client:
            looked_until = cursor_field(context, "looked_until", _instant)
            found, until = queue_failed_firings(context.instance, client, looked_until)
            done = [f"{found} firings whose run failed are queued if the run had not started them."] if found else []
            if ended := stray_runs.end(context.instance, client):
                done.append(f"{ended} runs that no longer own their reports are terminated.")
            if compared := of_location(context) if consumers is None else consumers:
                done.append(str(reconcile(context.instance, client, compared)))
        reason = " ".join(done) or "No run of a firing has failed."
        return SensorResult(skip_reason=SkipReason(reason), cursor=json.dumps({"looked_until": until.isoformat()}))

    return with_kept_instance(report_reconciler)


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text} has no time zone.")
    return instant
