"""The claim protocol as a sensor: each claimed row becomes exactly one run."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from dagster import (
    DefaultSensorStatus,
    JobDefinition,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from orchestrator.client import ApiError, QueueItem
from orchestrator.execution import Ticket
from orchestrator.resources import ReportQueueResource

RunConfigOf = Callable[[QueueItem], Mapping[str, Any]]
MAX_BATCH = 100
"""A tick's work grows with the square of its run requests, and a tick may take 60 s."""
MAX_WAIT_SECONDS = 25.0


class TickFailed(Exception):
    """The queue could not be asked; the cursor stays, so the next tick asks for the same rows."""


def report_data_config(item: QueueItem) -> dict[str, Any]:
    """Run config for a job of `build_report_job`: ids and generation; parameters are fetched at the start."""
    config = {
        "report_id": item.report_id,
        "modifier_id": item.modifier_id,
        "queue_id": item.queue_id,
        "generation": item.generation,
    }
    return {"ops": {"report_data": {"config": config}}}


def build_queue_sensor(
    job: JobDefinition | UnresolvedAssetJobDefinition,
    *,
    name: str = "database_queue_sensor",
    consumer: str | None = None,
    run_config: RunConfigOf | None = report_data_config,
    limit: int = 25,
    wait_seconds: float = 0.0,
    max_in_flight: int | None = None,
    minimum_interval_seconds: int = 1,
    default_status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
) -> SensorDefinition:
    """A sensor that launches `job` once for each report that the queue hands out.

    `job` may be anybody's: with `run_config=None` its runs get tags only, and find their row with `Ticket.of_run`.
    `consumer` (default: the sensor's name) is the stable name under which rows are claimed: renaming it gives rows
    under way to nobody until their lease ends. `limit` is 1 to 100 rows a tick; `wait_seconds`, up to 25, lets an
    empty claim wait for a row (only with `sensors: use_threads` in dagster.yaml, or it holds up every other
    sensor); `max_in_flight` bounds the rows that Dagster holds at once. The sensor needs the resource
    `report_queue`. Raises `ValueError` for a bound exceeded.
    """
    if not 1 <= limit <= MAX_BATCH:
        raise ValueError(f"limit must be from 1 to {MAX_BATCH}; it is {limit}.")
    if not 0 <= wait_seconds <= MAX_WAIT_SECONDS:
        raise ValueError(f"wait_seconds must be from 0 to {MAX_WAIT_SECONDS:g}; it is {wait_seconds}.")
    consumer_name = consumer or name

    @sensor(
        name=name,
        job=job,
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        description="Claims due reports from the report queue and launches one run for each.",
    )
    def queue_sensor(context: SensorEvaluationContext, report_queue: ReportQueueResource) -> SensorResult | SkipReason:
        try:
            client = report_queue.client()
            try:
                claim = client.claim(
                    consumer_name,
                    ack=_stored_claim(context),
                    limit=limit,
                    wait_seconds=wait_seconds,
                    max_in_flight=max_in_flight,
                )
            finally:
                client.close()
        except (ApiError, ValueError) as error:
            raise TickFailed(str(error)) from None
        if claim.claim_id is None:
            return SkipReason("No report is due.")
        requests = [_request(item, run_config) for item in claim.items]
        # Dagster stores the requests and the cursor together: an unstored tick asks for the same rows again.
        return SensorResult(run_requests=requests, cursor=str(claim.claim_id))

    return queue_sensor


def _stored_claim(context: SensorEvaluationContext) -> UUID | None:
    """The claim that the last stored tick was made of; None at first, or if a person wrote something else there."""
    if not context.cursor:
        return None
    try:
        return UUID(context.cursor)
    except ValueError:
        context.log.warning(f"The cursor {context.cursor!r} is not a claim; unacknowledged rows will come again.")
        return None


def _request(item: QueueItem, run_config: RunConfigOf | None) -> RunRequest:
    return RunRequest(
        run_key=item.run_key,
        run_config=dict(run_config(item)) if run_config else None,
        tags={
            **Ticket(item.queue_id, item.generation).tags(),
            "reportqueue/report_id": str(item.report_id),
            "reportqueue/modifier_id": str(item.modifier_id),
            "dagster/priority": str(item.priority),
        },
    )
