"""Evaluating without asking: the schedules are in an asset's metadata, and read anew only when that has changed."""

from __future__ import annotations

from collections.abc import Sequence

from dagster import (
    AssetRecordsFilter,
    DagsterInstance,
    DefaultSensorStatus,
    EventLogRecord,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from dagster_reportqueue.assets import SCHEDULES, materialization, plan_of
from dagster_reportqueue.client.plan import Plan
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.evaluation import CATCH_UP_SECONDS, Evaluator
from dagster_reportqueue.sensors.ticks import MAX_BATCH, AnyJob, cursor_field, interval, queue_client

LOOKED_AT = 1_000
"""Events of the asset read at once; after so many edits since the last tick, the rest is for the next one."""
LOOKED_BACK = 50
"""Events among which a sensor that has just been loaded looks for its plan, before it asks the web app."""


def build_smart_cron_sensor(
    job: AnyJob,
    *,
    name: str = "smart_cron_sensor",
    limit: int = MAX_BATCH,
    catch_up_seconds: int = CATCH_UP_SECONDS,
    minimum_interval_seconds: int = 5,
    default_status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
) -> SensorDefinition:
    """A sensor that launches `job`, one of `build_report_job`, once for each firing of the schedules in the asset.

    Good for some thousand schedules. Between changes it asks the web app nothing: a materialization of the asset
    `report_cron_schedules` without the schedules in it, as the web app sends it after an edit, has it read them once,
    and keep them in a materialization of its own. Otherwise as `build_report_cron_sensor`, for the pattern `asset`.
    """
    evaluator = Evaluator(limit, catch_up_seconds)
    last: tuple[int, Plan] | None = None

    @sensor(
        name=name,
        job=job,
        minimum_interval_seconds=interval(minimum_interval_seconds),
        default_status=default_status,
        description="Evaluates the cron expressions of the asset report_cron_schedules: one run for each firing.",
    )
    def smart_cron_sensor(context: SensorEvaluationContext, report_queue: ReportQueueResource) -> SensorResult:
        nonlocal last
        seen = cursor_field(context, "seen", int)
        news = _events_after(context.instance, seen)
        plans = [_plan(record) for record in news]
        plan = plans[-1] if plans else None
        if not plans and seen is not None:
            # What another evaluation left in memory may belong to a tick that was never stored.
            plan = last[1] if last is not None and last[0] == seen else _plan_at(context.instance, seen)
        events = []
        # A plan that came after a change may have been read before it.
        if plan is None or None in plans:
            with queue_client(report_queue) as client:
                plan = client.plan("asset")
            events.append(materialization(plan))
        seen = news[-1].storage_id if news else seen or 0
        last = (seen, plan)
        return evaluator.tick(context, plan, kept={"seen": seen}, asset_events=events)

    return smart_cron_sensor


def _events_after(instance: DagsterInstance, seen: int | None) -> Sequence[EventLogRecord]:
    """The asset's events that the sensor has not taken into account, oldest first; at first, the newest of all."""
    if seen is None:
        return [*reversed(instance.fetch_materializations(SCHEDULES, limit=LOOKED_BACK).records)]
    wanted = AssetRecordsFilter(SCHEDULES, after_storage_id=seen)
    return instance.fetch_materializations(wanted, limit=LOOKED_AT, ascending=True).records


def _plan_at(instance: DagsterInstance, seen: int) -> Plan | None:
    """The plan that held when this event was the last one."""
    wanted = AssetRecordsFilter(SCHEDULES, before_storage_id=seen + 1)
    records = instance.fetch_materializations(wanted, limit=LOOKED_BACK).records
    return next((plan for record in records if (plan := _plan(record)) is not None), None)


def _plan(record: EventLogRecord) -> Plan | None:
    """None for an event that only says that the schedules have changed."""
    found = record.asset_materialization
    return None if found is None else plan_of(found.metadata)
