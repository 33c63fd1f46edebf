"""Shared by all sensors: intervals, bounds, the client of a tick, cursors, and the tags of runs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from dagster import DefaultSensorStatus, JobDefinition, SensorEvaluationContext

from dagster_reportqueue import counters
from dagster_reportqueue.arguments import (
    A_JOB,
    JOBS,
    MAX_BATCH,
    MAX_INTERVAL_SECONDS,
    check_number,
    check_type,
    refusal,
)
from dagster_reportqueue.client import ApiError, ReportQueueClient
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.tickets import MODIFIER_ID_TAG, NO_RETRIES, REPORT_ID_TAG, SCHEDULE_ID_TAG

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

AnyJob: TypeAlias = "JobDefinition | UnresolvedAssetJobDefinition"
ROUND_SECONDS = 5
"""Dagster's daemon checks its sensors this often (`dagster._daemon.sensor.MIN_INTERVAL_LOOP_TIME`, no setting)."""
MAX_TAG_IDS = 10
"""Different ids that the tag of a run names; for more, it says how many they are."""


class TickFailed(Exception):
    """The API call failed. The cursor is unchanged, so the next tick does the same again."""


@contextmanager
def queue_client(report_queue: ReportQueueResource, *, retries: int = 0) -> Iterator[ReportQueueClient]:
    """A client for one tick; without retries by default, because the time of a tick is short and the next tick retries.

    Raises `TickFailed` if the API refuses or does not answer, and for invalid settings.
    """
    if not callable(getattr(report_queue, "client", None)):  # a stand-in in tests has it, too
        raise TickFailed(refusal("The resource report_queue", "a ReportQueueResource", report_queue))
    try:
        with counters.saved(), closing(report_queue.client(retries=retries)) as client:
            yield client
    except (ApiError, ValueError) as error:
        raise TickFailed(str(error)) from None


def interval(seconds: int) -> int:
    """The minimum interval to give to Dagster so that a sensor starts every `seconds` (1 to 86,400).

    The daemon checks every 5 s, a moment before an interval of 5 s has passed, so the tick would slip to the next
    check: we ask for one second less. Never give 0, which means 30 to Dagster. Raises `ValueError` or `TypeError`.
    """
    check_number("minimum_interval_seconds", seconds, 1, MAX_INTERVAL_SECONDS)
    return seconds if seconds % ROUND_SECONDS else seconds - 1


def check_limit(limit: int) -> None:
    """Raises `ValueError` or `TypeError` unless a tick may have `limit` run requests."""
    check_number("limit", limit, 1, MAX_BATCH)


def check_sensor(name: object, default_status: object) -> None:
    """Raises `TypeError` for a name or a status that no sensor can have; Dagster checks the name's characters."""
    check_type("name", name, str, "a text")
    check_type("default_status", default_status, DefaultSensorStatus, "a DefaultSensorStatus")


def check_job(job: AnyJob) -> None:
    """Raises `TypeError` for what is no job, `ValueError` for a job with partitions.

    Each run of such a job would need a partition, and a report has none.
    """
    check_type("job", job, JOBS, A_JOB)
    if job.partitions_def is not None:
        raise ValueError(
            f"The job {job.name} has partitions, and a run for a report has none: each of its runs would fail. Give "
            "the sensor a job without partitions; a report's modifier and params say what it is to make."
        )


def check_jobs_of_tick(context: SensorEvaluationContext, *names: str) -> None:
    """As `check_job`, for asset jobs: only a loaded code location knows the partitions of their assets.

    Call it before anything is claimed. Raises `TickFailed`.
    """
    if context.repository_def is None:
        return
    for name in names:
        try:
            check_job(context.repository_def.get_job(name))
        except ValueError as error:
            raise TickFailed(str(error)) from None


def cursor_field(context: SensorEvaluationContext, name: str, parse: Any) -> Any:
    """A field of the cursor; None in the first tick, or if a person has changed the cursor."""
    if not context.cursor:
        return None
    try:
        return parse(json.loads(context.cursor)[name])
    except (ValueError, KeyError, TypeError):
        context.log.warning(f"The cursor {context.cursor[:200]!r} has no valid {name!r}; the sensor starts anew.")
        return None


def report_tags(report_ids: Iterable[int], modifier_ids: Iterable[int], schedule_ids: Iterable[int]) -> dict[str, str]:
    """The tags to find the runs of reports, modifiers and schedules; without a tag if there is none of a kind."""
    ids = {REPORT_ID_TAG: report_ids, MODIFIER_ID_TAG: modifier_ids, SCHEDULE_ID_TAG: schedule_ids}
    return {tag: text for tag, some in ids.items() if (text := joined(sorted(set(some))))}


def joined(some: Collection[object]) -> str:
    """Ids or names with commas; only their number if they are too many for a tag."""
    return ",".join(map(str, some)) if len(some) <= MAX_TAG_IDS else f"{len(some):,} different"


def launch_tags(priority: int) -> dict[str, str]:
    """The tags that Dagster reads: the run's priority, and no retries, because the queue owns retries."""
    return {"dagster/priority": str(priority), **NO_RETRIES}
