"""Builds an asset from your report code: each report of the queue materializes the asset, or a partition of it."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    MaterializeResult,
    MetadataValue,
    PartitionsDefinition,
    asset,
    define_asset_job,
    in_process_executor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from dagster_reportqueue.arguments import check_partitions, check_type, check_work
from dagster_reportqueue.execution.report import ReportRun, Work, result_metadata
from dagster_reportqueue.execution.run import LEASE_SECONDS, check_lease_seconds, run_report
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.tickets import NO_RETRIES, Ticket


def build_report_asset(
    work: Work,
    *,
    key: str | AssetKey,
    partitions_def: PartitionsDefinition | None = None,
    job_name: str | None = None,
    lease_seconds: int = LEASE_SECONDS,
    **options: Any,
) -> tuple[AssetsDefinition, UnresolvedAssetJobDefinition]:
    """An asset that `work` makes for one row of the queue, and the job that materializes it.

    Give the job to a queue sensor with `run_config=None`, and with a `partition_key` if there is a `partitions_def`. A
    report that fails, is cancelled or is not started materializes nothing. The metadata of a materialization has the
    result with its links, the row, its trigger time, its schedule, and who queued it. `job_name` is by default the key
    with `_job`, and with `_` for what a job's name cannot have. `options` are those of Dagster's `asset`, such as
    `group_name` or `deps`. The asset needs the resource `report_queue`, and cannot be materialized without a row.
    Raises `ValueError` for a lease outside the API's bounds, `TypeError` for a value of a wrong type.
    """
    check_work(work)
    check_type("key", key, (str, AssetKey), "a text or an AssetKey")
    check_type("job_name", job_name, (str, type(None)), "a text, or None")
    check_lease_seconds(lease_seconds)
    check_partitions(partitions_def)
    asset_key = AssetKey([key]) if isinstance(key, str) else key

    # Without a materialization, assets that depend on this one are skipped.
    decorate: Callable[[Callable[..., Any]], AssetsDefinition] = asset(
        key=asset_key, partitions_def=partitions_def, output_required=False, **options
    )

    @decorate
    def report_asset(
        context: AssetExecutionContext, report_queue: ReportQueueResource
    ) -> Iterator[MaterializeResult[None]]:
        made: list[ReportRun] = []

        def noted(run: ReportRun) -> Mapping[str, Any] | None:
            made.append(run)
            return work(run)

        ticket = Ticket.of_run(context.run.tags)
        with closing(report_queue.client()) as client:
            result = run_report(context, client, ticket, noted, lease_seconds=lease_seconds)
        if result is not None:
            yield MaterializeResult(metadata={**result_metadata(result), **_metadata(made[0])})

    job = define_asset_job(
        job_name or re.sub(r"[^A-Za-z0-9_]", "_", "_".join([*asset_key.path, "job"])),
        selection=[report_asset],
        executor_def=in_process_executor,
        tags=NO_RETRIES,
        description="Materializes the asset for one report from the report queue.",
    )
    return report_asset, job


def _metadata(run: ReportRun) -> dict[str, MetadataValue[Any]]:
    """The row of a materialization, as metadata."""
    numbers = {
        "queue_id": run.queue_id,
        "report_id": run.report_id,
        "modifier_id": run.modifier_id,
        "schedule_id": run.schedule_id,
        "attempt": run.attempt,
    }
    metadata: dict[str, MetadataValue[Any]] = {
        f"reportqueue/{name}": MetadataValue.int(number) for name, number in numbers.items() if number is not None
    }
    if run.source is not None:
        metadata["reportqueue/source"] = MetadataValue.text(run.source)
    if run.trigger_time is not None:
        metadata["reportqueue/trigger_time"] = MetadataValue.timestamp(run.trigger_time)
    return metadata
