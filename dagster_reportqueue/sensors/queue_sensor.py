"""The sensor of the pattern `queue`: each row that it claims becomes exactly one run, or part of exactly one."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from dagster import (
    DefaultSensorStatus,
    JobDefinition,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from dagster_reportqueue import counters, tracing
from dagster_reportqueue.arguments import (
    LIMIT,
    MAX_BATCH,
    MAX_LANES,
    check_function,
    check_name,
    check_number,
    check_op,
    check_routes,
    check_type,
    refusal,
)
from dagster_reportqueue.bounds import MAX_CLAIM, MAX_COUNT
from dagster_reportqueue.client import Claim, QueueItem
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors import consumers
from dagster_reportqueue.sensors.grouping import BatchSizes, Group, grouped
from dagster_reportqueue.sensors.instances import deployment_of, with_kept_instance
from dagster_reportqueue.sensors.launches import Launches, RunConfigOf
from dagster_reportqueue.sensors.targets import JobChoice, PartitionKeyOf, RunTagsOf, Targets
from dagster_reportqueue.sensors.ticks import (
    AnyJob,
    check_limit,
    check_sensor,
    interval,
    queue_client,
)
from dagster_reportqueue.tickets import MAX_RUN_ROWS, REPORT_OP, Ticket

MAX_WAIT_SECONDS = 25.0
LANE_WAITS = (24.0, 19.0, 14.0)
"""The waits of the lanes in seconds. Dagster's daemon checks every 5 s which sensors have finished. Each of these waits
ends shortly before such a check, so the sensor restarts within a second. They differ, so that the lanes rarely finish
at the same time."""
SERIAL_WAIT_SECONDS = 0.5
"""The longest wait if Dagster's daemon evaluates one sensor after the other: all others are late by so much."""
NO_THREADS = (
    "It does not wait for rows, because it would hold up all other sensors: set `sensors: {use_threads: true, "
    "num_workers: 8}` in dagster.yaml."
)


def report_data_config(item: QueueItem) -> dict[str, Any]:
    """Run config for a job of `build_report_job`: ids and generation. The run reads its parameters when it starts."""
    return Ticket(item.queue_id, item.generation).run_config(item.report_id, item.modifier_id)


def build_queue_sensor(
    job: JobChoice,
    *,
    jobs: Sequence[AnyJob] = (),
    name: str = consumers.DEFAULT,
    consumer: str | None = None,
    run_config: RunConfigOf | None = report_data_config,
    run_tags: RunTagsOf | None = None,
    partition_key: PartitionKeyOf | None = None,
    limit: int = LIMIT,
    wait_seconds: float = 0.0,
    max_in_flight: int | None = None,
    max_unstarted: int | None = None,
    routes: Collection[str] | None = None,
    batch_job: JobDefinition | None = None,
    batch_from: int = 20,
    batch_size: int = 250,
    batch_runs: int = 4,
    lanes: int = 1,
    minimum_interval_seconds: int = 1,
    default_status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
) -> SensorDefinition:
    """A sensor that launches a run of `job` once for each report that it claims from the queue.

    `job` may be any job. With `jobs`, it is a function from a row to one of these jobs, or to its name. With
    `run_config=None`, the runs get tags only, and find their row with `Ticket.of_run`. `partition_key` returns the
    partition of a row's run, or None for a job without partitions. A missing partition of a
    `DynamicPartitionsDefinition` is added. `run_tags` returns up to 20 further tags of a row's run, with values of up
    to 4,096 characters; names that begin with `reportqueue/` or `dagster/` are refused, except `dagster/max_runtime`
    and `dagster/image`. If one of these functions raises an error, or returns something that cannot be launched, the
    row is reported to the queue with that error, and the other rows are launched.

    `consumer` (default: the sensor's name) is the stable name under which rows are claimed. After a rename, claimed
    rows that are not started wait until their lease expires. `{deployment}` in it becomes the short id of the Dagster
    deployment: of two with the same consumer, each would launch runs for the other's rows.

    `routes` are those of the rows that it claims (1 to 50); None claims rows of all routes. A row has the route that it
    was queued with, or that of its report in the catalogue.

    `limit` is 1 to 100 runs in a tick. `wait_seconds`, up to 25, lets an empty claim wait for a row (see
    `build_queue_lanes`). Without `sensors: use_threads` in dagster.yaml it waits for half a second at most, and its
    ticks say so: it would hold up all other sensors. `max_in_flight` limits the unfinished rows of this consumer,
    `max_unstarted` those of them that no run has started: what one deployment has claimed, no other can make. The
    sensor needs the resource `report_queue`.

    A `batch_job` (from `build_batch_job`) needs a `max_in_flight`. While fewer than `batch_from` rows (2 to `limit`)
    are in flight, each row gets a run of `job`. Otherwise rows share runs of `batch_job`, up to `batch_size` (2 to
    1,000) in each, and a tick claims up to `limit` times `batch_size` rows, at most 1,000. As long as other rows leave
    slots of the launcher free, a claim is divided among `batch_runs` (1 to 100) runs, of at least `batch_from` rows
    each. A claim that leaves rows behind is divided among fewer: `lanes` (1 to 8) sensors claim like this one, and make
    the other runs. A row with which a run has died is alone in its next run; the other rows of that run go into smaller
    batches. Rows share a run only if their job, partition and `run_tags` are the same; with any of these functions, a
    tick claims at most 100 rows.
    Raises `ValueError` for a bound exceeded, and for a job with partitions without a `partition_key`; `TypeError` for a
    value of a wrong type.
    """
    check_limit(limit)
    check_sensor(name, default_status)
    consumer_name = name if consumer is None else consumer
    check_name("name" if consumer is None else "consumer", consumer_name)
    check_function("run_config", run_config, "a function from a row to its run config", optional=True)
    targets = Targets.of(job, jobs, partition_key=partition_key, run_tags=run_tags, batch_job=batch_job)
    if run_config is report_data_config:
        for one in targets.jobs:
            check_op("job", one, REPORT_OP, "take one of build_report_job, or give the sensor run_config=None.")
    check_type("wait_seconds", wait_seconds, (int, float), "a number of seconds")
    if not 0 <= wait_seconds <= MAX_WAIT_SECONDS:
        raise ValueError(f"wait_seconds must be from 0 to {MAX_WAIT_SECONDS:g}; it is {wait_seconds}.")
    if max_in_flight is not None:
        check_number("max_in_flight", max_in_flight, 1, MAX_COUNT)
    if max_unstarted is not None:
        check_number("max_unstarted", max_unstarted, 1, MAX_COUNT)
    check_routes("routes", routes)
    check_number("batch_size", batch_size, 1 if batch_job is None else 2, MAX_RUN_ROWS)
    check_number("batch_runs", batch_runs, 1, MAX_BATCH)
    check_number("lanes", lanes, 1, MAX_LANES)
    check_number("batch_from", batch_from, 2, MAX_BATCH)
    if batch_job is not None:
        if batch_from > limit:
            raise ValueError(refusal("batch_from", f"from 2 to the limit, which is {limit}", batch_from))
        if max_in_flight is None:
            raise ValueError("max_in_flight is needed with a batch_job: rows in flight decide whether to batch.")
    # Rows with different targets cannot share a run: in the worst case each of them is a run request.
    most_rows = MAX_BATCH if targets.vary else MAX_CLAIM
    warned = False
    sizes = BatchSizes(batch_from, batch_size, batch_runs, lanes)
    rows = limit if batch_job is None else min(limit * batch_size, most_rows)

    @sensor(
        name=name,
        jobs=targets.all(),
        minimum_interval_seconds=interval(minimum_interval_seconds),
        default_status=default_status,
        description="Claims due reports from the report queue and launches one run for each, or one run for several.",
        metadata={consumers.METADATA: consumer_name},
    )
    def queue_sensor(context: SensorEvaluationContext, report_queue: ReportQueueResource) -> SensorResult | SkipReason:
        nonlocal warned
        targets_now = targets.of_tick(context)  # before anything is claimed
        consumers.refuse_namesakes(context, name, consumer_name)
        serial = wait_seconds > SERIAL_WAIT_SECONDS and not context.instance.get_sensor_settings().get("use_threads")
        if serial and not warned:
            context.log.warning(NO_THREADS)
            warned = True
        claims_as = consumers.name_in(context.instance, consumer_name)
        with queue_client(report_queue) as client:
            claim = client.claim(
                claims_as,
                ack=_stored_claim(context),
                limit=rows,
                wait_seconds=SERIAL_WAIT_SECONDS if serial else wait_seconds,
                max_in_flight=max_in_flight,
                max_unstarted=max_unstarted,
                deployment=deployment_of(context.instance),
                routes=routes,
            )
            if claim.warning:
                context.log.warning(claim.warning)
            if claim.claim_id is None:
                return SkipReason(f"No report is due. {NO_THREADS}" if serial else "No report is due.")
            traces = tracing.received(claim.items, consumer=claims_as, claim_id=claim.claim_id)
            launches = Launches(context, client, targets_now, run_config, claims_as, traces)
            wanted = launches.wanted(claim.items)
            size = sizes.of(claim, full=_is_full(claim, rows, max_in_flight, max_unstarted))
            groups = [
                (target, group)
                for target, items in wanted.items()
                for group in (
                    grouped(items, size=size, runs=limit, most=MAX_BATCH)
                    if size > 1 and targets_now.can_batch(target)
                    else [Group([item]) for item in items]
                )
            ]
            place = {item.queue_id: place for place, item in enumerate(claim.items)}
            groups.sort(key=lambda one: place[one[1].items[0].queue_id])
            requests = [one for target, group in groups if (one := launches.request(group, target)) is not None]
            counters.count("run_requests_total", len(requests))
        # Dagster stores the requests and the cursor together. If the tick is not stored, the claim is redelivered.
        skipped = (
            None if requests else SkipReason("No run could be requested for these rows; their errors are in the queue.")
        )
        return SensorResult(
            run_requests=requests,
            skip_reason=skipped,
            cursor=str(claim.claim_id),
            dynamic_partitions_requests=targets_now.new_partitions(requests),
        )

    return with_kept_instance(queue_sensor)


def build_queue_lanes(
    job: JobChoice,
    *,
    lanes: int = 3,
    name: str = consumers.DEFAULT,
    consumer: str | None = None,
    **options: Any,
) -> list[SensorDefinition]:
    """Several sensors (lanes) that wait for rows, so that one is waiting while another is being restarted.

    Dagster restarts a finished sensor only every 5 s. With `lanes` sensors (1 to 8), up to that many separate commits
    within 5 s are each picked up immediately. `options` are those of `build_queue_sensor` except `wait_seconds`, which
    differs between lanes; `max_in_flight` holds for each lane. The sensors are named `name`, `name_2` and so on, and
    claim under their names, or as `consumer`, `consumer_2` and so on. Raises as `build_queue_sensor`, and `TypeError`
    for a `wait_seconds`.
    """
    check_number("lanes", lanes, 1, MAX_LANES)
    check_type("name", name, str, "a text")
    if "wait_seconds" in options:
        raise TypeError("wait_seconds cannot be given: each lane has a wait of its own.")
    # Each lane is a consumer: of two sensors with one consumer, each would launch a run for each row.
    return [
        build_queue_sensor(
            job,
            name=f"{name}{suffix}",
            consumer=None if consumer is None else f"{consumer}{suffix}",
            wait_seconds=LANE_WAITS[number % len(LANE_WAITS)],
            lanes=lanes,
            **options,
        )
        for number, suffix in enumerate(["", *(f"_{number}" for number in range(2, lanes + 1))])
    ]


def _is_full(claim: Claim, limit: int, max_in_flight: int | None, max_unstarted: int | None) -> bool:
    """Whether the claim has reached one of its bounds: then more rows may be due."""
    reached = ((len(claim.items), limit), (claim.in_flight, max_in_flight), (claim.unstarted, max_unstarted))
    return any(number is not None and most is not None and number >= most for number, most in reached)


def _stored_claim(context: SensorEvaluationContext) -> UUID | None:
    """The claim of the last stored tick; None in the first tick, or if a person has changed the cursor."""
    if not context.cursor:
        return None
    try:
        return UUID(context.cursor)
    except ValueError:
        context.log.warning(f"The cursor {context.cursor!r} is not a claim; unacknowledged rows will be redelivered.")
        return None
