"""Firings of Dagster's sensors: the run exists first, and its row is inserted when it starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

from django.core.exceptions import ValidationError

import reportcron
from reportqueue import bounds, locks, queue
from reportqueue.clock import database_now
from reportqueue.errors import FiringRefused, FiringTooEarly
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.patterns import SENSOR_FIRED
from reportqueue.timing import NeverFires
from reportqueue.triggers.handovers import pattern_at

_TICK = timedelta(microseconds=1)


def start_firing(
    pk: int,
    trigger_time: datetime,
    *,
    run_id: str,
    parent_run_id: str = "",
    worker: str = "",
    user: str = "",
    lease_seconds: int | None = None,
) -> ReportQueue:
    """Make `run_id` the owner of a firing's row, as `queue.start` does. If the firing has no row yet, insert it.

    So a firing has one row, and only one run that works on it, also if other sensors launch the same firing. The row
    has one attempt, since no consumer claims it. Raises `ScheduleNotFound`; `FiringRefused` if the schedule, as it now
    is, has no such firing, or if the firing does not belong to a sensor; `FiringTooEarly` if it is still to come;
    `ValidationError` for an instant out of bounds; `HeldByAnother` if another API user has the row;
    `InvalidTransition` if another run has started it, or if the schedule no longer allows overlaps and another of its
    reports is unfinished: then the firing's row stays in the queue.
    """
    start = partial(
        queue.start,
        generation=queue.LAUNCHED_GENERATION,
        run_id=run_id,
        parent_run_id=parent_run_id,
        worker=worker,
        user=user,
        lease_seconds=lease_seconds,
    )
    with _firing(pk, trigger_time) as (schedule, row):
        if row is None:
            _require_own_firing(schedule, trigger_time)
            row = queue.enter_launched(schedule, trigger_time)
        if not row.waiting:
            return start(row.pk)
    # Outside of the transaction: the refusal must not take back the row.
    return start(row.pk)


def queue_firing(pk: int, trigger_time: datetime) -> ReportQueue:
    """Queue a firing whose run ended before it started its row. If the firing has a row, that is returned as it is.

    Raises `ScheduleNotFound`, `FiringRefused`, `FiringTooEarly` and `ValidationError` as `start_firing`.
    """
    with _firing(pk, trigger_time) as (schedule, row):
        if row is not None:
            return row
        _require_own_firing(schedule, trigger_time)
        firing = queue.Firing(pk, trigger_time, database_now(), waiting=queue.must_wait(schedule))
        inserted = queue.enqueue_firings([firing])
        return ReportQueue.objects.get(pk=inserted.last[pk])


@contextmanager
def _firing(pk: int, trigger_time: datetime) -> Iterator[tuple[ReportSchedule, ReportQueue | None]]:
    """The schedule, locked, and its firing's row if there is one. Raises `ScheduleNotFound` and `ValidationError`."""
    try:
        bounds.validate_instant(trigger_time)
    except ValidationError as error:
        raise ValidationError({"trigger_time": error.messages}) from None
    with locks.bounded():
        schedule = ReportSchedule.objects.locked(pk)
        yield schedule, ReportQueue.objects.fired_by(pk, trigger_time).first()


def _require_own_firing(schedule: ReportSchedule, instant: datetime) -> None:
    pattern = pattern_at(instant)
    named = f"Schedule {schedule.pk}"
    if pattern not in SENSOR_FIRED:
        raise FiringRefused(f"{named}'s firing at {instant.isoformat()} belongs to the pattern {pattern}.")
    if not schedule.enabled:
        raise FiringRefused(f"{named} is paused.")
    if instant <= schedule.timing_set_at:
        raise FiringRefused(f"{named} was changed or resumed after {instant.isoformat()}: that fires no more.")
    try:
        fires = schedule.timing().next_firing(instant - _TICK) == instant
    except (reportcron.CronError, NeverFires) as error:
        raise FiringRefused(f"{named} cannot fire: {error}") from None
    if not fires:
        raise FiringRefused(f"{named} does not fire at {instant.isoformat()}, as it now is.")
    if instant > database_now():
        # A refusal would lose the firing: its run would end without work, and Dagster would not use its run key again.
        raise FiringTooEarly(f"{named}'s firing at {instant.isoformat()} is still to come by the database's clock.")
