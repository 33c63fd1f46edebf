"""The claim protocol as a sensor: each claimed row becomes exactly one run, or part of exactly one."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any
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
    validate_run_config,
)

from orchestrator.batch_jobs import BATCH_TAG, batch_config
from orchestrator.client import MAX_ROWS, ApiError, QueueItem, ReportQueueClient
from orchestrator.execution import Ticket
from orchestrator.resources import ReportQueueResource
from orchestrator.sensors.grouping import Group, grouped
from orchestrator.sensors.rounds import interval

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

RunConfigOf = Callable[[QueueItem], Mapping[str, Any]]
MAX_BATCH = 100
"""A tick's work grows with the square of its run requests, and a tick may take 60 s."""
MAX_CLAIM = 1_000
"""Rows in a claim: the API's bound."""
MAX_WAIT_SECONDS = 25.0
LANE_WAITS = (24.0, 19.0, 14.0)
"""Seconds, of a lane and of those after it. In each round Dagster's daemon looks which sensors have ended: each of
these has just ended then, and is started again within a second. As they differ, they hardly ever all end together."""
MAX_LANES = 8
"""As many as may wait in one process of the web app (`MAX_WAITERS`)."""


def check_limit(limit: int) -> None:
    """Raises `ValueError` for more run requests, or fewer, than a tick may have."""
    if not 1 <= limit <= MAX_BATCH:
        raise ValueError(f"limit must be from 1 to {MAX_BATCH}; it is {limit}.")


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
    job: "JobDefinition | UnresolvedAssetJobDefinition",
    *,
    name: str = "database_queue_sensor",
    consumer: str | None = None,
    run_config: RunConfigOf | None = report_data_config,
    limit: int = 25,
    wait_seconds: float = 0.0,
    max_in_flight: int | None = None,
    batch_job: JobDefinition | None = None,
    batch_from: int = 20,
    batch_size: int = 50,
    minimum_interval_seconds: int = 1,
    default_status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
) -> SensorDefinition:
    """A sensor that launches `job` once for each report that the queue hands out.

    `job` may be anybody's: with `run_config=None` its runs get tags only, and find their row with `Ticket.of_run`.
    `consumer` (default: the sensor's name) is the stable name under which rows are claimed: renaming it gives rows
    under way to nobody until their lease ends. `limit` is 1 to 100 runs a tick; `wait_seconds`, up to 25, lets an
    empty claim wait for a row (only with `sensors: use_threads` in dagster.yaml, or it holds up every other
    sensor; see `build_queue_lanes`); `max_in_flight` bounds the rows that this consumer's runs hold at once. The sensor
    needs the resource `report_queue`. A row whose run config raises or does not validate is given back to the queue
    with that error.

    With a `batch_job`, one of `build_batch_job`, and a `max_in_flight`: as long as fewer than `batch_from` rows (2 to
    `limit`) are in flight, each has a run of `job`; what is claimed beyond becomes runs of `batch_job`, of up to
    `batch_size` rows each (2 to 100), and a tick claims up to `limit` times `batch_size` rows, 1,000 at the most. A row
    with which a run has died goes alone, and others of such a run in smaller batches.
    Raises `ValueError` for a bound exceeded.
    """
    check_limit(limit)
    if not 0 <= wait_seconds <= MAX_WAIT_SECONDS:
        raise ValueError(f"wait_seconds must be from 0 to {MAX_WAIT_SECONDS:g}; it is {wait_seconds}.")
    if batch_job is not None:
        if not 2 <= batch_size <= MAX_ROWS:
            raise ValueError(f"batch_size must be from 2 to {MAX_ROWS}; it is {batch_size}.")
        if not 2 <= batch_from <= limit:
            raise ValueError(f"batch_from must be from 2 to the limit, which is {limit}; it is {batch_from}.")
        if max_in_flight is None:
            raise ValueError("max_in_flight is needed with a batch_job: batches are made by what is in flight.")
    consumer_name = consumer or name
    rows = limit if batch_job is None else min(limit * batch_size, MAX_CLAIM)

    @sensor(
        name=name,
        jobs=[job] if batch_job is None else [job, batch_job],
        minimum_interval_seconds=interval(minimum_interval_seconds),
        default_status=default_status,
        description="Claims due reports from the report queue and launches one run for each, or for some together.",
    )
    def queue_sensor(context: SensorEvaluationContext, report_queue: ReportQueueResource) -> SensorResult | SkipReason:
        try:
            # No retries: the next tick is one, and this one's time is short.
            with closing(report_queue.client(retries=0)) as client:
                claim = client.claim(
                    consumer_name,
                    ack=_stored_claim(context),
                    limit=rows,
                    wait_seconds=wait_seconds,
                    max_in_flight=max_in_flight,
                )
                if claim.claim_id is None:
                    return SkipReason("No report is due.")
                # Runs that wait for each other are a backlog too, which each claim by itself does not show. A claim
                # that comes again may be judged otherwise, under other keys: its rows are theirs who start them first.
                many = max(claim.in_flight or 0, len(claim.items)) >= batch_from
                groups = (
                    grouped(claim.items, size=batch_size, runs=limit, most=MAX_BATCH)
                    if batch_job is not None and many
                    else [Group([item]) for item in claim.items]
                )
                repository = context.repository_def
                launched = repository.get_job(job.name) if repository else None
                requests = []
                for group in groups:
                    if batch_job is not None and len(group.items) > 1:
                        requests.append(_batch(group, batch_job, consumer_name))
                        continue
                    request = _request(context, client, group.items[0], run_config, job.name, launched)
                    if request is not None:
                        requests.append(request)
        except (ApiError, ValueError) as error:
            raise TickFailed(str(error)) from None
        # Dagster stores the requests and the cursor together: an unstored tick asks for the same rows again.
        skipped = None if requests else SkipReason("None of the rows can be run; they are back in the queue.")
        return SensorResult(run_requests=requests, skip_reason=skipped, cursor=str(claim.claim_id))

    return queue_sensor


def build_queue_lanes(
    job: "JobDefinition | UnresolvedAssetJobDefinition",
    *,
    lanes: int = 3,
    name: str = "database_queue_sensor",
    **options: Any,
) -> list[SensorDefinition]:
    """Sensors that wait for rows together: one finds a row at once while another is yet to be started again.

    Dagster's daemon starts a sensor that has ended every 5 s, no sooner. So up to `lanes` rows, 1 to 8, that are
    committed one after the other within 5 s are each found at once. `options` are those of `build_queue_sensor` but
    `wait_seconds`, each lane's own: `max_in_flight` is for each. They are named `name`, `name_2` and so on, and claim
    under their names. Raises `ValueError` for a bound exceeded.
    """
    if not 1 <= lanes <= MAX_LANES:
        raise ValueError(f"lanes must be from 1 to {MAX_LANES}; it is {lanes}.")
    return [
        build_queue_sensor(
            job,
            name=f"{name}_{number + 1}" if number else name,
            wait_seconds=LANE_WAITS[number % len(LANE_WAITS)],
            **options,
        )
        for number in range(lanes)
    ]


def _stored_claim(context: SensorEvaluationContext) -> UUID | None:
    """The claim that the last stored tick was made of; None at first, or if a person wrote something else there."""
    if not context.cursor:
        return None
    try:
        return UUID(context.cursor)
    except ValueError:
        context.log.warning(f"The cursor {context.cursor!r} is not a claim; unacknowledged rows will come again.")
        return None


def _request(
    context: SensorEvaluationContext,
    client: ReportQueueClient,
    item: QueueItem,
    run_config: RunConfigOf | None,
    job_name: str,
    job: JobDefinition | None,
) -> RunRequest | None:
    """The row's run request; None if its run config is no good, which the queue is told.

    One such request would fail the whole tick, and every later one, as the same rows come again.
    """
    config = None
    try:
        if run_config is not None:
            config = dict(run_config(item))
        if job is not None:
            validate_run_config(job, config)
    except Exception as error:
        reason = f"its run config is no good: {type(error).__name__}: {error}"
        context.log.error(f"No run for row {item.queue_id}, {reason}")
        client.fail_launch(item.queue_id, generation=item.generation, run_id=item.run_key, error=reason)
        return None
    return RunRequest(
        run_key=item.run_key,
        run_config=config,
        job_name=job_name,
        tags={
            **Ticket(item.queue_id, item.generation).tags(),
            "reportqueue/report_id": str(item.report_id),
            "reportqueue/modifier_id": str(item.modifier_id),
            "dagster/priority": str(item.priority),
            # The queue owns retries: one by Dagster would start the row anew, beyond its attempts.
            "dagster/max_retries": "0",
        },
    )


def _batch(group: Group, job: JobDefinition, consumer: str) -> RunRequest:
    """A run request for the rows of a group together."""
    tickets = [Ticket(item.queue_id, item.generation) for item in group.items]
    return RunRequest(
        # Of the rows themselves. The same claim that comes again has the same keys; if it comes with fewer rows, as
        # some have started, a key of its place in the claim would be known, and its rows dropped.
        run_key="batch:" + hashlib.sha256(" ".join(map(str, tickets)).encode()).hexdigest()[:32],
        run_config=batch_config(tickets, one_by_one=group.one_by_one),
        job_name=job.name,
        tags={
            BATCH_TAG: consumer,
            "reportqueue/rows": str(len(tickets)),
            "dagster/priority": str(max(item.priority for item in group.items)),
            "dagster/max_retries": "0",
        },
    )
