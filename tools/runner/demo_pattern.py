"""The pattern that fires the demo's schedules: switches to the requested pattern, and prepares the switch."""

from __future__ import annotations

from collections.abc import Sequence

from reportqueue import schedules, triggers
from reportqueue.models import ReportSchedule
from reportqueue.patterns import SENSOR_FIRED, Pattern

PAUSED_BY = "run.py demo"


def served_for(wanted: Sequence[str]) -> list[str]:
    """The patterns whose sensors must run so that one of `wanted` can fire the schedules.

    These can be more than `wanted`. The previous pattern must still make the firings that were due before the switch.
    And only the queue's sensors launch rows that a run released or a person enqueued.
    """
    there = triggers.current()
    served = [*wanted, there.pattern, *([] if there.planned is None else [there.planned.after])]
    if SENSOR_FIRED.intersection(served):
        served.append(Pattern.QUEUE)
    return [str(pattern) for pattern in dict.fromkeys(map(Pattern, served))]


def give_to(wanted: Sequence[str]) -> None:
    """Switch to the first of these patterns, unless one of them fires already or a switch is planned.

    Schedules that the new pattern cannot fire are paused until the pattern changes again. Raises `HandoverRefused`.
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
    print(f"The pattern has changed from {there.pattern} to {to}.", flush=True)


def _pause_what_sensors_cannot_fire(to: Pattern) -> None:
    found = list(ReportSchedule.objects.filter(enabled=True).queue_only().values_list("pk", flat=True))
    for pk in found:
        schedules.pause(pk, by=PAUSED_BY, note=f"The pattern {to} cannot fire it; queue and polling can.")
    if found:
        print(f"Paused {len(found)} schedules that the pattern {to} cannot fire.", flush=True)
