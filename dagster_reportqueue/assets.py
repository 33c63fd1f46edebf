"""The schedules as an asset: the sensor of the pattern `asset` reads them there, and sees there that they changed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from dagster import (
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    DefaultScheduleStatus,
    JobDefinition,
    MaterializeResult,
    MetadataValue,
    ScheduleDefinition,
    asset,
    define_asset_job,
    in_process_executor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from dagster_reportqueue.arguments import check_type
from dagster_reportqueue.client.plan import Plan
from dagster_reportqueue.resources import ReportQueueResource

SCHEDULES = AssetKey("report_cron_schedules")


def metadata_of(plan: Plan) -> dict[str, MetadataValue]:
    """Convert a plan to the asset's metadata: the schedules, their version and count, and the sensor's periods."""
    return {
        "version": MetadataValue.text(plan.version),
        "count": MetadataValue.int(len(plan.schedules)),
        "periods": MetadataValue.json([period.json() for period in plan.periods]),
        "schedules": MetadataValue.json([schedule.json() for schedule in plan.schedules]),
    }


def plan_of(metadata: Mapping[str, MetadataValue[Any]]) -> Plan | None:
    """Read the plan from a materialization's metadata; None if it only announces that the schedules have changed."""
    try:
        data = {
            "version": metadata["version"].value,
            "periods": metadata["periods"].value,
            "reports": metadata["schedules"].value,
        }
        return Plan.parse(data)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def materialization(plan: Plan) -> AssetMaterialization:
    """The event that stores a plan."""
    return AssetMaterialization(SCHEDULES, metadata=metadata_of(plan), description="As the web app lists them.")


@asset(
    key=SCHEDULES,
    description="The schedules that the asset sensor fires. Every change of a schedule materializes it again.",
)
def report_cron_schedules(report_queue: ReportQueueResource) -> MaterializeResult[None]:
    """Read the schedules from the web app."""
    with closing(report_queue.client()) as client:
        return MaterializeResult(metadata=metadata_of(client.plan("asset").plan))


def build_schedules_refresh(
    *,
    cron_schedule: str = "17 3 * * *",
    default_status: DefaultScheduleStatus = DefaultScheduleStatus.STOPPED,
) -> tuple[AssetsDefinition, JobDefinition | UnresolvedAssetJobDefinition, ScheduleDefinition]:
    """The asset, the job that materializes it, and that job's daily schedule.

    The daily run corrects a change of which Dagster was not notified. `cron_schedule` is in UTC. Raises `TypeError` for
    a value of a wrong type; Dagster refuses an expression that is none.
    """
    check_type("cron_schedule", cron_schedule, str, "a cron expression, a text")
    check_type("default_status", default_status, DefaultScheduleStatus, "a DefaultScheduleStatus")
    job = define_asset_job(
        "refresh_report_cron_schedules",
        selection=[report_cron_schedules],
        executor_def=in_process_executor,
        description="Reads the schedules from the web app.",
    )
    schedule = ScheduleDefinition(
        name="daily_report_cron_schedules", job=job, cron_schedule=cron_schedule, default_status=default_status
    )
    return report_cron_schedules, job, schedule
