"""What people do to schedules: pause, resume, run now, and backfill past firings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from django.core.exceptions import ValidationError

import reportcron
from reportqueue import audit, bounds, locks, queue
from reportqueue.clock import database_now
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.models.audit import Kind
from reportqueue.states import Source, Status
from reportqueue.timing import EXAMINED
from reportqueue.timing.policies import Overlap

MAX_BACKFILL = 1_000
"""Firings that one backfill may queue."""


def pause(pk: int, *, by: str, note: str = "") -> ReportSchedule:
    """Pause the schedule until it is resumed; `by` and `note` are shown with it.

    Reports that are queued already stay queued. A schedule that is paused or disabled is left as it is.
    Raises `ScheduleNotFound`, and `ValidationError` for a note beyond its bounds.
    """
    with locks.bounded():
        schedule = ReportSchedule.objects.locked(pk)
        if schedule.enabled:
            schedule.enabled = False
            schedule.paused_by, schedule.pause_note = by, note
            schedule.save(update_fields=["enabled"])
        return schedule


def resume(pk: int) -> ReportSchedule:
    """Let the schedule fire again, from now on. Firings that passed while it was paused are not queued.

    Raises `ScheduleNotFound`, and `ValidationError` if it cannot fire as it is.
    """
    with locks.bounded():
        schedule = ReportSchedule.objects.locked(pk)
        if not schedule.enabled:
            schedule.enabled = True
            schedule.save(update_fields=["enabled"])
        return schedule


def run_now(pk: int, *, source: Source = Source.CODE) -> ReportQueue:
    """Queue the schedule's report now, also if the schedule is paused. Its planned firings stay as they are.

    If the schedule does not allow overlaps, the report waits for the unfinished one. Raises `ScheduleNotFound`.
    """
    with locks.bounded():
        schedule = ReportSchedule.objects.locked(pk)
        waiting = queue.must_wait(schedule)
        now = database_now()
        inserted = queue.enqueue_firings([queue.Firing(pk, now, now, waiting=waiting)], source=source)
        row = ReportQueue.objects.get(pk=inserted.last[pk])
        audit.record("run now", Kind.SCHEDULE, pk, label=str(schedule), changes={"queued": [None, row.pk]})
        return row


@dataclass(frozen=True)
class Backfill:
    """What a backfill has queued, or would queue."""

    instants: list[datetime]
    """All firings of the time range."""
    known: int
    """How many of them have a row already that was not skipped."""
    enqueued: int
    """0 for a dry run."""


def backfill(pk: int, start: datetime, end: datetime, *, dry_run: bool = False) -> Backfill:
    """Queue the schedule's firings from `start` to `end` (both included, aware, not in the future), oldest first.

    It uses the schedule's current timing. A firing that has a row already is left alone, unless that row was skipped.
    If the schedule does not allow overlaps, each report waits for the one before. Raises `ScheduleNotFound`, and
    `ValidationError` naming the field, also for more than `MAX_BACKFILL` firings.
    """
    with locks.bounded():
        schedule = ReportSchedule.objects.locked(pk)
        instants = _instants(schedule, start, end)
        have = ReportQueue.objects.filter(schedule=pk, trigger_time__range=(start, end)).exclude(status=Status.SKIPPED)
        known = set(have.values_list("trigger_time", flat=True)) & set(instants)
        wanted = [instant for instant in instants if instant not in known]
        if dry_run:
            return Backfill(instants, len(known), 0)
        # Available from now, not from then: a long backfill comes after the reports that are due today.
        now = database_now()
        first, others = queue.must_wait(schedule), schedule.overlap != Overlap.ALLOW
        firings = [
            queue.Firing(pk, instant, now, waiting=others if place else first) for place, instant in enumerate(wanted)
        ]
        queue.enqueue_firings(firings, source=Source.BACKFILL)
        span = {"start": [None, start.isoformat()], "end": [None, end.isoformat()], "queued": [None, len(wanted)]}
        audit.record("backfill", Kind.SCHEDULE, pk, label=str(schedule), changes=span)
        return Backfill(instants, len(known), len(wanted))


def _instants(schedule: ReportSchedule, start: datetime, end: datetime) -> list[datetime]:
    for name, instant in (("start", start), ("end", end)):
        try:
            bounds.validate_instant(instant)
        except ValidationError as error:
            raise ValidationError({name: error.messages}) from None
    if end < start:
        raise ValidationError({"end": "Must not lie before the start."})
    if end > database_now():
        raise ValidationError({"end": "Must not lie in the future: the schedule queues later firings itself."})
    instants: list[datetime] = []
    try:
        occurrences = schedule.timing().occurrences(start - timedelta(microseconds=1))
        for place, occurrence in enumerate(takewhile(lambda one: one.instant <= end, occurrences)):
            if place == EXAMINED:
                text = f"The calendar closes most of more than {EXAMINED:,} instants in this time range: shorten it."
                raise ValidationError({"end": text})
            if not occurrence.closed:
                instants.append(occurrence.instant)
                if len(instants) > MAX_BACKFILL:
                    break
    except reportcron.CronError as error:
        raise ValidationError({error.field: str(error)}) from None
    if len(instants) > MAX_BACKFILL:
        raise ValidationError(
            {
                "end": f"The time range has more than {MAX_BACKFILL:,} firings, the most that can be queued at once: "
                "shorten it."
            }
        )
    return instants
