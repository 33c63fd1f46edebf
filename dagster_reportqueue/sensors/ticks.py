"""What every sensor's tick needs: its interval and bounds, the client, its cursor, and the tags of its runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from dagster import JobDefinition, SensorEvaluationContext

from dagster_reportqueue.client import ApiError, ReportQueueClient
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.tickets import MODIFIER_ID_TAG, REPORT_ID_TAG

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

AnyJob: TypeAlias = "JobDefinition | UnresolvedAssetJobDefinition"
MAX_BATCH = 100
"""A tick's work grows with the square of its run requests, and a tick may take 60 s."""
ROUND_SECONDS = 5
"""Dagster's daemon checks its sensors this often (`dagster._daemon.sensor.MIN_INTERVAL_LOOP_TIME`, no setting)."""
MAX_INTERVAL_SECONDS = 86_400


class TickFailed(Exception):
    """The queue could not be asked; the cursor stays, so the next tick asks for the same rows."""


@contextmanager
def queue_client(report_queue: ReportQueueResource, *, retries: int = 0) -> Iterator[ReportQueueClient]:
    """A client for one tick. Without retries, as the next tick is one, and this tick's time is short.

    Raises `TickFailed` for an API that refuses or does not answer, and for settings that cannot be right.
    """
    try:
        with closing(report_queue.client(retries=retries)) as client:
            yield client
    except (ApiError, ValueError) as error:
        raise TickFailed(str(error)) from None


def interval(seconds: int) -> int:
    """What Dagster has to be told so that it starts a sensor every `seconds`, 1 to a day.

    The daemon checks every 5 s, a moment before an interval of 5 s has passed, so the tick would slip to the next
    check: we ask for one second less. And 0 means 30 to Dagster. Raises `ValueError` for a bound exceeded.
    """
    if not 1 <= seconds <= MAX_INTERVAL_SECONDS:
        raise ValueError(f"minimum_interval_seconds must be from 1 to {MAX_INTERVAL_SECONDS:,}; it is {seconds}.")
    return seconds if seconds % ROUND_SECONDS else seconds - 1


def check_limit(limit: int) -> None:
    """Raises `ValueError` for more run requests, or fewer, than a tick may have."""
    if not 1 <= limit <= MAX_BATCH:
        raise ValueError(f"limit must be from 1 to {MAX_BATCH}; it is {limit}.")


def cursor_field(context: SensorEvaluationContext, name: str, parse: Any) -> Any:
    """A field of the cursor; None at first, or if a person wrote something else there."""
    if not context.cursor:
        return None
    try:
        return parse(json.loads(context.cursor)[name])
    except (ValueError, KeyError, TypeError):
        context.log.warning(f"The cursor {context.cursor[:200]!r} has no {name!r} of this sensor's; it begins anew.")
        return None


def report_tags(report_id: int, modifier_id: int) -> dict[str, str]:
    """The tags by which people find a report's runs."""
    return {REPORT_ID_TAG: str(report_id), MODIFIER_ID_TAG: str(modifier_id)}


def launch_tags(priority: int) -> dict[str, str]:
    """How Dagster is to launch a run of the queue. The queue owns retries: Dagster makes none."""
    return {"dagster/priority": str(priority), "dagster/max_retries": "0"}
