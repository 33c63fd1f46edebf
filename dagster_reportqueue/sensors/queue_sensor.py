"""The sensor of the pattern `queue`: each row that it claims becomes exactly one run, or part of exactly one."""

import hashlib
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
    validate_run_config,
)

from dagster_reportqueue.client import MAX_BATCH_ROWS, QueueItem, ReportQueueClient
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.grouping import Group, grouped
from dagster_reportqueue.sensors.ticks import (
    MAX_BATCH,
    AnyJob,
    check_job,
    check_jobs_of_tick,
    check_limit,
    interval,
    launch_tags,
    queue_client,
    report_tags,
)
from dagster_reportqueue.tickets import BATCH_TAG, Ticket, batch_config

RunConfigOf = Callable[[QueueItem], Mapping[str, Any]]
MAX_CLAIM = 1_000
"""Rows in a claim: the API's bound."""
MAX_WAIT_SECONDS = 25.0
LANE_WAITS = (24.0, 19.0, 14.0)
"""The waits of the lanes in seconds. Dagster's daemon checks every 5 s which sensors have finished. Each of these waits
ends shortly before such a check, so the sensor restarts within a second. They differ, so that the lanes rarely finish
at the same time."""
MAX_LANES = 8
"""At most this many claims may wait in one process of the web app (`MAX_WAITERS`)."""


def report_data_config(item: QueueItem) -> dict[str, Any]:
    """Run config for a job of `build_report_job`: ids and generation. The run reads its parameters when it starts."""
    return Ticket(item.queue_id, item.generation).run_config(item.report_id, item.modifier_id)


def build_queue_sensor(
    job: AnyJob,
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
    """A sensor that launches `job` once for each report that it claims from the queue.

    `job` may be any job. With `run_config=None`, its runs get tags only, and find their row with `Ticket.of_run`.
    `consumer` (default: the sensor's name) is the stable name under which rows are claimed. After a rename, claimed
    rows that are not started wait until their lease expires.

    `limit` is 1 to 100 runs in a tick. `wait_seconds`, up to 25, lets an empty claim wait for a row; this needs
    `sensors: use_threads` in dagster.yaml, or it blocks all other sensors (see `build_queue_lanes`). `max_in_flight`
    limits the unfinished rows of this consumer. The sensor needs the resource `report_queue`. A row whose run config
    raises an error or does not validate is reported to the queue with that error.

    A `batch_job` (from `build_batch_job`) needs a `max_in_flight`. While fewer than `batch_from` rows (2 to `limit`)
    are in flight, each row gets a run of `job`. Otherwise rows share runs of `batch_job`, up to `batch_size` (2 to 100)
    in each, and a tick claims up to `limit` times `batch_size` rows, at most 1,000. A row with which a run has died is
    alone in its next run; the other rows of that run go into smaller batches.
    Raises `ValueError` for a bound exceeded, and for a job with partitions.
    """
    check_limit(limit)
    check_job(job)
    if batch_job is not None:
        check_job(batch_job)
    if not 0 <= wait_seconds <= MAX_WAIT_SECONDS:
        raise ValueError(f"wait_seconds must be from 0 to {MAX_WAIT_SECONDS:g}; it is {wait_seconds}.")
    if batch_job is not None:
        if not 2 <= batch_size <= MAX_BATCH_ROWS:
            raise ValueError(f"batch_size must be from 2 to {MAX_BATCH_ROWS}; it is {batch_size}.")
        if not 2 <= batch_from <= limit:
            raise ValueError(f"batch_from must be from 2 to the limit, which is {limit}; it is {batch_from}.")
        if max_in_flight is None:
            raise ValueError("max_in_flight is needed with a batch_job: rows in flight decide whether to batch.")
    consumer_name = consumer or name
    rows = limit if batch_job is None else min(limit * batch_size, MAX_CLAIM)

    @sensor(
        name=name,
        jobs=[job] if batch_job is None else [job, batch_job],
        minimum_interval_seconds=interval(minimum_interval_seconds),
        default_status=default_status,
        description="Claims due reports from the report queue and launches one run for each, or one run for several.",
    )
    def queue_sensor(context: SensorEvaluationContext, report_queue: ReportQueueResource) -> SensorResult | SkipReason:
        check_jobs_of_tick(context, job.name)
        with queue_client(report_queue) as client:
            claim = client.claim(
                consumer_name,
                ack=_stored_claim(context),
                limit=rows,
                wait_seconds=wait_seconds,
                max_in_flight=max_in_flight,
            )
            if claim.claim_id is None:
                return SkipReason("No report is due.")
            # Runs that wait in the launcher are a backlog too, which a single claim does not show. A redelivered claim
            # may be grouped differently, with other run keys: then the first run to start a row owns it.
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
        # Dagster stores the requests and the cursor together. If the tick is not stored, the claim is redelivered.
        skipped = (
            None if requests else SkipReason("No run could be requested for these rows; their errors are in the queue.")
        )
        return SensorResult(run_requests=requests, skip_reason=skipped, cursor=str(claim.claim_id))

    return queue_sensor


def build_queue_lanes(
    job: AnyJob,
    *,
    lanes: int = 3,
    name: str = "database_queue_sensor",
    **options: Any,
) -> list[SensorDefinition]:
    """Several sensors (lanes) that wait for rows, so that one is waiting while another is being restarted.

    Dagster restarts a finished sensor only every 5 s. With `lanes` sensors (1 to 8), up to that many separate commits
    within 5 s are each picked up immediately. `options` are those of `build_queue_sensor` except `wait_seconds`, which
    differs between lanes; `max_in_flight` holds for each lane. The sensors are named `name`, `name_2` and so on, and
    claim under their names. Raises `ValueError` for a bound exceeded.
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
    """The claim of the last stored tick; None in the first tick, or if a person has changed the cursor."""
    if not context.cursor:
        return None
    try:
        return UUID(context.cursor)
    except ValueError:
        context.log.warning(f"The cursor {context.cursor!r} is not a claim; unacknowledged rows will be redelivered.")
        return None


def _request(
    context: SensorEvaluationContext,
    client: ReportQueueClient,
    item: QueueItem,
    run_config: RunConfigOf | None,
    job_name: str,
    job: JobDefinition | None,
) -> RunRequest | None:
    """The row's run request; None if its run config is invalid, which is reported to the queue.

    An invalid request would fail the whole tick, and every later tick, because the same rows are redelivered.
    """
    config = None
    try:
        if run_config is not None:
            config = dict(run_config(item))
        if job is not None:
            validate_run_config(job, config)
    except Exception as error:
        reason = f"its run config is invalid: {type(error).__name__}: {error}"
        context.log.error(f"No run for row {item.queue_id}, {reason}")
        client.fail_launch(item.queue_id, generation=item.generation, run_id=item.run_key, error=reason)
        return None
    return RunRequest(
        run_key=item.run_key,
        run_config=config,
        job_name=job_name,
        tags={
            **Ticket(item.queue_id, item.generation).tags(),
            **report_tags(item.report_id, item.modifier_id),
            **launch_tags(item.priority),
        },
    )


def _batch(group: Group, job: JobDefinition, consumer: str) -> RunRequest:
    """The run request for a group of rows."""
    tickets = [Ticket(item.queue_id, item.generation) for item in group.items]
    return RunRequest(
        # The key depends on the rows. A redelivered claim has the same keys. It may have fewer rows, if some have
        # started: then a key by position would be known to Dagster already, and the rows would be dropped.
        run_key="batch:" + hashlib.sha256(" ".join(map(str, tickets)).encode()).hexdigest()[:32],
        run_config=batch_config(tickets, one_by_one=group.one_by_one),
        job_name=job.name,
        tags={
            BATCH_TAG: consumer,
            "reportqueue/rows": str(len(tickets)),
            **launch_tags(max(item.priority for item in group.items)),
        },
    )
