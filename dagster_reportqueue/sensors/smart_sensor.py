"""The sensor of the pattern `asset`: it reads the schedules from an asset's metadata, again only after a change."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dagster import (
    AssetRecordsFilter,
    DagsterInstance,
    DefaultSensorStatus,
    EventLogRecord,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from dagster_reportqueue.arguments import MAX_BATCH
from dagster_reportqueue.assets import SCHEDULES, materialization, plan_of
from dagster_reportqueue.client.plan import Plan
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.database_clock import DatabaseClock
from dagster_reportqueue.sensors.evaluation import CATCH_UP_SECONDS, Evaluator
from dagster_reportqueue.sensors.instances import with_kept_instance
from dagster_reportqueue.sensors.ticks import (
    AnyJob,
    check_job,
    check_jobs_of_tick,
    check_sensor,
    cursor_field,
    interval,
    queue_client,
)

EVENTS_PER_TICK = 1_000
"""Events of the asset read in one tick; the next tick reads the rest."""
ASK_SECONDS = 3_600.0
"""After how long without a question the web app is asked for the time, and whether its schedules have changed."""
EVENTS_SEARCHED = 50
"""Events in which a newly loaded sensor looks for its plan before it asks the web app."""


def build_smart_cron_sensor(
    job: AnyJob,
    *,
    name: str = "smart_cron_sensor",
    limit: int = MAX_BATCH,
    catch_up_seconds: int = CATCH_UP_SECONDS,
    minimum_interval_seconds: int = 5,
    default_status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
) -> SensorDefinition:
    """A sensor that launches `job` (from `build_report_job`) once for each firing of the schedules in the asset.

    Suitable for some thousand schedules. After an edit, the web app materializes the asset `report_cron_schedules`
    without the schedules. The sensor then reads the schedules once, and stores them in a materialization of its own.
    Otherwise it asks the web app for the time: before it fires, and once an hour. Apart from that, as
    `build_report_cron_sensor`, for the pattern `asset`.
    """
    check_job(job)
    check_sensor(name, default_status)
    evaluator = Evaluator(limit, catch_up_seconds)
    clock = DatabaseClock(min(ASK_SECONDS, catch_up_seconds / 2))
    last: tuple[int, Plan] | None = None

    @sensor(
        name=name,
        job=job,
        minimum_interval_seconds=interval(minimum_interval_seconds),
        default_status=default_status,
        description="Evaluates the cron expressions of the asset report_cron_schedules: one run for each firing.",
    )
    def smart_cron_sensor(context: SensorEvaluationContext, report_queue: ReportQueueResource) -> SensorResult:
        check_jobs_of_tick(context, job.name)
        nonlocal last
        seen = cursor_field(context, "seen", int)
        news = _events_after(context.instance, seen)
        plans = [_plan(record) for record in news]
        plan = plans[-1] if plans else None
        if not plans and seen is not None:
            # The plan in memory may belong to a tick that was never stored.
            plan = last[1] if last is not None and last[0] == seen else _plan_at(context.instance, seen)
        events = []
        seen = news[-1].storage_id if news else seen or 0
        now = clock.estimate()
        # A plan that was stored after a change may have been read before the change.
        if plan is not None and None not in plans and now is not None and not evaluator.is_due(context, plan, now):
            last = (seen, plan)
            return SensorResult(
                skip_reason=SkipReason(f"None of {len(plan.schedules):,} schedules is due."),
                cursor=json.dumps({**json.loads(context.cursor or "{}"), "seen": seen}),
            )
        with queue_client(report_queue) as client:
            reading = client.plan("asset", known=plan)
        clock.set(reading.now)
        if reading.plan is not plan:
            events.append(materialization(reading.plan))
        last = (seen, reading.plan)
        return evaluator.tick(context, reading, kept={"seen": seen}, asset_events=events)

    return with_kept_instance(smart_cron_sensor)


def _events_after(instance: DagsterInstance, seen: int | None) -> Sequence[EventLogRecord]:
    """The asset's events that the sensor has not seen, oldest first; in the first tick, the newest events."""
    if seen is None:
        return [*reversed(instance.fetch_materializations(SCHEDULES, limit=EVENTS_SEARCHED).records)]
    wanted = AssetRecordsFilter(SCHEDULES, after_storage_id=seen)
    return instance.fetch_materializations(wanted, limit=EVENTS_PER_TICK, ascending=True).records


def _plan_at(instance: DagsterInstance, seen: int) -> Plan | None:
    """The plan in force when the event `seen` was the newest."""
    wanted = AssetRecordsFilter(SCHEDULES, before_storage_id=seen + 1)
    records = instance.fetch_materializations(wanted, limit=EVENTS_SEARCHED).records
    return next((plan for record in records if (plan := _plan(record)) is not None), None)


def _plan(record: EventLogRecord) -> Plan | None:
    """None for an event that only announces a change."""
    found = record.asset_materialization
    return None if found is None else plan_of(found.metadata)
