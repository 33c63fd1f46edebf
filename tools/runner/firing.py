"""Who fires the demo's schedules: the hand-over to the pattern that was asked for, and what it needs."""

from __future__ import annotations

from collections.abc import Sequence

from reportqueue import schedules, triggers
from reportqueue.models import ReportSchedule
from reportqueue.patterns import SENSOR_FIRED, Pattern
from tools.runner import app  # noqa: F401

PAUSED_BY = "run.py demo"


def served_for(wanted: Sequence[str]) -> list[str]:
    """The patterns whose sensors must run so that firings can be given to one of `wanted`.

    They may be more: the pattern before still has to make what was due before the hand-over, and what the runs of
    other sensors give back, or a person enqueues, waits for the queue's.
    """
    there = triggers.current()
    served = [*wanted, there.pattern, *([] if there.planned is None else [there.planned.after])]
    if SENSOR_FIRED.intersection(served):
        served.append(Pattern.QUEUE)
    return [str(pattern) for pattern in dict.fromkeys(map(Pattern, served))]


def give_to(wanted: Sequence[str]) -> None:
    """Hand the firings to the first of these patterns, unless one of them has them or a hand-over is planned.

    Schedules that sensors cannot fire are paused for as long as they would have to. Raises `HandoverRefused`.
    """
    there = triggers.current()
    if there.planned is not None or there.pattern in wanted:
        return
    to = Pattern(wanted[0])
    if to in SENSOR_FIRED:
        _pause_what_sensors_cannot_fire(to)
    else:
        schedules.enqueue_due()
    triggers.hand_over(to, by=PAUSED_BY)
    if to not in SENSOR_FIRED:
        for pk in ReportSchedule.objects.filter(enabled=False, paused_by=PAUSED_BY).values_list("pk", flat=True):
            schedules.resume(pk)
    print(f"Firings have gone from {there.pattern} to {to}.", flush=True)


def _pause_what_sensors_cannot_fire(to: Pattern) -> None:
    found = list(ReportSchedule.objects.filter(enabled=True).queue_only().values_list("pk", flat=True))
    for pk in found:
        schedules.pause(pk, by=PAUSED_BY, note=f"The pattern {to} cannot fire it; it goes on under queue or webhook.")
    if found:
        print(f"Paused, as sensors evaluate cron expressions alone: {len(found)} schedules.", flush=True)
