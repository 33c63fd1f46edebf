"""When a calendar changes, its schedules are planned anew from now on; firings that are due already are kept."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save, pre_delete, pre_save

from reportqueue.models import BlackoutCalendar, BlackoutDays, BlackoutHours, ReportSchedule
from reportqueue.timing.calendars import Calendar
from reportqueue.timing.policies import Blackout

_BEFORE = "_reportqueue_calendar_before"
"""The attribute of a part that is about to change: its calendar as it was."""


def connect() -> None:
    """Replan a calendar's schedules at every change of it that Django sees."""
    for model in (BlackoutDays, BlackoutHours):
        for signals, receiver in (((pre_save, pre_delete), _part_changes), ((post_save, post_delete), _part_changed)):
            for signal in signals:
                uid = f"reportqueue.replanning.{model.__name__}.{receiver.__name__}"
                signal.connect(receiver, sender=model, dispatch_uid=uid)


def replan(calendar_id: int, *, before: Calendar | None = None) -> None:
    """Let the next pass plan the calendar's schedules anew; it first fires what is due by the old plan.

    `before` is the calendar as it was. With it, the pass finds the firings whose new time has passed.
    """
    planned = ReportSchedule.objects.filter(calendar=calendar_id, enabled=True)
    if before is not None:
        _needing(calendar_id).update(plan_needed=True, calendar_before=before.json())
    planned.update(plan_needed=True)


def _needing(calendar_id: int) -> Any:
    """Schedules that need the calendar as it was: it moves their instants, and has not changed since their plan."""
    return ReportSchedule.objects.filter(calendar=calendar_id, enabled=True, calendar_before__isnull=True).exclude(
        blackout=Blackout.SKIP
    )


def _part_changes(sender: type[Any], instance: BlackoutDays | BlackoutHours, **_: Any) -> None:
    if _needing(instance.calendar_id).exists():
        setattr(instance, _BEFORE, BlackoutCalendar.values_of([instance.calendar_id]).get(instance.calendar_id))


def _part_changed(sender: type[Any], instance: BlackoutDays | BlackoutHours, **_: Any) -> None:
    before = instance.__dict__.pop(_BEFORE, None)
    if BlackoutCalendar.objects.filter(pk=instance.calendar_id).exists():
        replan(instance.calendar_id, before=before)
