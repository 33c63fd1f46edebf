"""Sensors that repair: launches that came to nothing are reported at once, and the rest is compared now and then."""

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

from dagster_reportqueue.client import ApiRefused, ReportQueueClient
from dagster_reportqueue.client.transport import RETRIES
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.failed_firings import queue_failed_firings, queue_firing
from dagster_reportqueue.sensors.reconciliation import reconcile
from dagster_reportqueue.sensors.stray_runs import StrayRuns
from dagster_reportqueue.sensors.ticks import ROUND_SECONDS, cursor_field, interval, queue_client
from dagster_reportqueue.tickets import FiringTicket, Ticket, tickets_of


def build_repair_sensors(
    *,
    consumers: Collection[str] = ("database_queue_sensor",),
    minimum_interval_seconds: int = 30,
    default_status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
) -> list[SensorDefinition]:
    """The sensors `report_launch_failed`, `report_launch_cancelled` and `report_reconciler`.

    The first two report runs that ended without ever starting their row, which is then launched again, later each
    time; a run that did start is left to its lease. A firing that another sensor evaluated is queued then: the queue's
    sensors launch it. The third finds what they missed: such firings, rows without a run, ended runs, and waiting runs
    of rows that nobody wants any more; and renews the lease of rows whose run waits, in Dagster's queue or in the warm
    launcher. It terminates runs that go on although their rows are no longer theirs: reports that hang, and hear
    nothing. `consumers` are those of the queue sensors, whose rows are compared; the token's user needs the
    permission to view, as well as to consume. They need the resource `report_queue`.
    """
    return [
        _run_end_sensor("report_launch_failed", DagsterRunStatus.FAILURE, default_status),
        _run_end_sensor("report_launch_cancelled", DagsterRunStatus.CANCELED, default_status),
        _reconciler(consumers, minimum_interval_seconds, default_status),
    ]


def _run_end_sensor(name: str, status: DagsterRunStatus, default_status: DefaultSensorStatus) -> SensorDefinition:
    @run_status_sensor(
        name=name,
        run_status=status,
        minimum_interval_seconds=interval(ROUND_SECONDS),
        default_status=default_status,
        description="Reports runs that ended without ever starting their report.",
    )
    def run_end_sensor(context: RunStatusSensorContext, report_queue: ReportQueueResource) -> SkipReason:
        run = context.dagster_run
        firing, tickets = FiringTicket.of_run(run.tags), tickets_of(run)
        if firing is None and not tickets:
            return SkipReason("Not a run of the report queue.")
        said = (context.dagster_event.message or status.value)[-4096:]
        # If this tick fails, Dagster does not come back to this run: the reconciler finds its rows, or its firing.
        with queue_client(report_queue, retries=RETRIES) as client:
            if firing is not None:
                if run.status == DagsterRunStatus.CANCELED:
                    return SkipReason(f"Run {run.run_id} was cancelled: its report is not wanted.")
                return SkipReason(queue_firing(client, run, firing))
            settled = [_report(client, run, ticket, said) for ticket in tickets]
        if refused := [one for one in settled if one is not None]:
            text = f"Of {len(tickets)} rows of run {run.run_id}, {len(refused)} had started or were not to"
            return SkipReason(f"{text}: {refused[0]}")
        rows = f"{len(tickets)} rows are" if len(tickets) > 1 else f"row {tickets[0].queue_id} is"
        return SkipReason(f"Reported run {run.run_id}: {rows} launched again if not started.")

    return run_end_sensor


def _report(client: ReportQueueClient, run: DagsterRun, ticket: Ticket, said: str) -> ApiRefused | None:
    """Why there was nothing to report of the row, if there was not."""
    try:
        client.fail_launch(ticket.queue_id, generation=ticket.generation, run_id=run.run_id, error=said)
    except ApiRefused as refused:
        if refused.moved_on or refused.status == 404:
            return refused
        raise
    return None


def _reconciler(consumers: Collection[str], seconds: int, default_status: DefaultSensorStatus) -> SensorDefinition:
    stray_runs = StrayRuns()

    @sensor(
        name="report_reconciler",
        minimum_interval_seconds=interval(seconds),
        default_status=default_status,
        description="Compares reports with Dagster's runs: repairs what differs, ends runs that lost their reports.",
    )
    def report_reconciler(context: SensorEvaluationContext, report_queue: ReportQueueResource) -> SensorResult:
        with queue_client(report_queue, retries=RETRIES) as client:
            looked_until = cursor_field(context, "looked_until", _instant)
            found, until = queue_failed_firings(context.instance, client, looked_until)
            done = [f"{found} firings whose run failed are queued if it had not begun."] if found else []
            if ended := stray_runs.end(context.instance, client):
                done.append(f"{ended} runs whose reports are no longer their own are terminated.")
            if consumers:
                done.append(str(reconcile(context.instance, client, consumers)))
        reason = " ".join(done) or "No run of a firing has failed."
        return SensorResult(skip_reason=SkipReason(reason), cursor=json.dumps({"looked_until": until.isoformat()}))

    return report_reconciler


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text} has no time zone.")
    return instant
