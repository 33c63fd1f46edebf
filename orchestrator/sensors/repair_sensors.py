"""Sensors that repair: launches that came to nothing are reported at once, and the rest is compared now and then."""

import json
from collections.abc import Collection
from contextlib import closing
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

from orchestrator.batch_jobs import tickets_of
from orchestrator.client import ApiError, ApiRefused, ReportQueueClient
from orchestrator.execution import FiringTicket, Ticket
from orchestrator.failed_firings import queue_failed_firings, queue_firing
from orchestrator.reconciliation import reconcile
from orchestrator.resources import ReportQueueResource
from orchestrator.sensors.evaluation import cursor_field
from orchestrator.sensors.queue_sensor import TickFailed
from orchestrator.sensors.rounds import ROUND_SECONDS, interval
from orchestrator.stray_runs import StrayRuns


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
        try:
            with closing(report_queue.client()) as client:
                if firing is not None:
                    if run.status == DagsterRunStatus.CANCELED:
                        return SkipReason(f"Run {run.run_id} was cancelled: its report is not wanted.")
                    return SkipReason(queue_firing(client, run, firing))
                settled = [_report(client, run, ticket, said) for ticket in tickets]
        except ApiError as error:
            # Dagster does not come back to this run: the reconciler will find its rows, or its firing.
            raise TickFailed(str(error)) from None
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
        try:
            with closing(report_queue.client()) as client:
                looked_until = cursor_field(context, "looked_until", _instant)
                found, until = queue_failed_firings(context.instance, client, looked_until)
                done = [f"{found} firings whose run failed are queued if it had not begun."] if found else []
                if ended := stray_runs.end(context.instance, client):
                    done.append(f"{ended} runs whose reports are no longer their own are terminated.")
                if consumers:
                    done.append(str(reconcile(context.instance, client, consumers)))
        except (ApiError, ValueError) as error:
            raise TickFailed(str(error)) from None
        reason = " ".join(done) or "No run of a firing has failed."
        return SensorResult(skip_reason=SkipReason(reason), cursor=json.dumps({"looked_until": until.isoformat()}))

    return report_reconciler


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text} has no time zone.")
    return instant
