"""The schedules as an asset: what the sensor that evaluates them goes by, and how it hears that they have changed."""

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

from dagster_reportqueue.client.plan import Plan
from dagster_reportqueue.resources import ReportQueueResource

SCHEDULES = AssetKey("report_cron_schedules")


def metadata_of(plan: Plan) -> dict[str, MetadataValue]:
    """A plan as the asset's metadata: the schedules, their version and count, and whose firings are whose."""
    return {
        "version": MetadataValue.text(plan.version),
        "count": MetadataValue.int(len(plan.reports)),
        "periods": MetadataValue.json([period.json() for period in plan.periods]),
        "schedules": MetadataValue.json([report.json() for report in plan.reports]),
    }


def plan_of(metadata: Mapping[str, MetadataValue[Any]]) -> Plan | None:
    """The plan in a materialization's metadata; None if it only says that the schedules have changed."""
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
    """The event that keeps a plan."""
    return AssetMaterialization(SCHEDULES, metadata=metadata_of(plan), description="As the web app lists them.")


@asset(
    key=SCHEDULES,
    description="The schedules that the asset sensor fires. Whoever changes one has this materialized anew.",
)
def report_cron_schedules(report_queue: ReportQueueResource) -> MaterializeResult[None]:
    """Reads them from the web app."""
    with closing(report_queue.client()) as client:
        return MaterializeResult(metadata=metadata_of(client.plan("asset")))


def build_schedules_refresh(
    *,
    cron_schedule: str = "17 3 * * *",
    default_status: DefaultScheduleStatus = DefaultScheduleStatus.STOPPED,
) -> tuple[AssetsDefinition, JobDefinition | UnresolvedAssetJobDefinition, ScheduleDefinition]:
    """The asset, the job that materializes it, and that job's daily schedule.

    It makes up for a change that Dagster was not told of. `cron_schedule` is in UTC.
    """
    job = define_asset_job(
        "refresh_report_cron_schedules",
        selection=[report_cron_schedules],
        executor_def=in_process_executor,
        description="Reads the schedules anew.",
    )
    schedule = ScheduleDefinition(
        name="daily_report_cron_schedules", job=job, cron_schedule=cron_schedule, default_status=default_status
    )
    return report_cron_schedules, job, schedule
