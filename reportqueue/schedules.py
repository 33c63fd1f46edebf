"""Due schedules become queue rows: the expansion, one row per schedule and instant however often it runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.db import transaction

from reportqueue import cron, queue
from reportqueue.clock import database_now
from reportqueue.models import ReportSchedule

BATCH = 500
"""Schedules locked at once; each batch commits by itself, so that a killed pass loses nothing it has done."""
FIRINGS_PER_SCHEDULE = 100
"""What one schedule may enqueue in one batch: after a long downtime it catches up batch by batch, oldest first."""


@dataclass
class Pass:
    """What one pass did: firings enqueued, schedules planned for the first time, schedules disabled as broken."""

    enqueued: int = 0
    planned: int = 0
    disabled: int = 0


def enqueue_due(*, batch: int = BATCH) -> Pass:
    """Enqueue every due firing and move its schedule on; safe beside any number of other passes.

    Several passes share the work through SKIP LOCKED. Rows and the schedule's next firing commit together, so a
    pass that dies repeats its batch or finds it done. A schedule that cannot be evaluated is disabled with its
    error and does not stop the others.
    """
    done = Pass()
    while _expand_batch(done, batch):
        pass
    return done


@dataclass
class Preview:
    """What a pass would do: firings it would enqueue, and schedules it would disable, with their `error` set."""

    firings: list[queue.Firing]
    broken: list[ReportSchedule]


def preview(limit: int) -> Preview:
    """What a pass would do now, without doing it; at most `limit` firings."""
    now = database_now()
    found = Preview([], [])
    for schedule in ReportSchedule.objects.due().order_by("next_run_at").iterator():
        try:
            instants = _instants(schedule, schedule.next_run_at or now, now)
        except cron.CronError as error:
            schedule.error = str(error)
            found.broken.append(schedule)
            continue
        found.firings += [queue.Firing(schedule, instant) for instant in instants]
        if len(found.firings) >= limit:
            del found.firings[limit:]
            break
    return found


def next_due() -> datetime | None:
    """When the next schedule is due, aware UTC; None if none is."""
    return (
        ReportSchedule.objects.filter(enabled=True)
        .exclude(next_run_at=None)
        .order_by("next_run_at")
        .values_list("next_run_at", flat=True)
        .first()
    )


def _expand_batch(done: Pass, batch: int) -> bool:
    """One batch, one transaction; False when nothing was left to do."""
    with transaction.atomic():
        now = database_now()
        ready = ReportSchedule.objects.due() | ReportSchedule.objects.unplanned()
        schedules = list(ready.order_by("next_run_at").select_for_update(skip_locked=True)[:batch])
        firings: list[queue.Firing] = []
        for schedule in schedules:
            try:
                if (planned := schedule.next_run_at) is None:
                    schedule.next_run_at = cron.next_after(schedule.cron, schedule.timezone, now)
                    done.planned += 1
                    continue
                instants = _instants(schedule, planned, now)
                schedule.next_run_at = cron.next_after(schedule.cron, schedule.timezone, instants[-1])
                firings += [queue.Firing(schedule, instant) for instant in instants]
            except cron.CronError as error:
                schedule.enabled, schedule.next_run_at, schedule.error = False, None, str(error)
                done.disabled += 1
        enqueued = queue.enqueue_firings(firings)
        ReportSchedule.objects.bulk_update(schedules, ["enabled", "next_run_at", "error"])
    done.enqueued += enqueued
    return bool(schedules)


def _instants(schedule: ReportSchedule, planned: datetime, now: datetime) -> list[datetime]:
    """The schedule's due instants, oldest first: the planned one and what has passed since."""
    later = cron.between(schedule.cron, schedule.timezone, planned, now)
    return [planned, *islice(later, FIRINGS_PER_SCHEDULE - 1)]
