"""When a calendar changes, its schedules are planned anew from now on; firings that are due already are kept."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save, pre_delete, pre_save

from reportqueue import database
from reportqueue.models import BlackoutCalendar, BlackoutDays, BlackoutHours, ReportSchedule
from reportqueue.timing.calendars import Calendar
from reportqueue.timing.policies import Blackout

_BEFORE = "_reportqueue_calendars_before"
"""The attribute of a part that is about to change: its calendars, by their ids, as they were if that is needed."""


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
    found = {instance.calendar_id}
    if instance.pk is not None:
        # It may be moved to another calendar. The lock makes two moves of it take turns.
        stored = sender._default_manager.filter(pk=instance.pk)
        locked = stored.select_for_update() if database.connection().in_atomic_block else stored
        found.update(locked.values_list("calendar_id", flat=True))
    needing = {pk for pk in found if _needing(pk).exists()}
    values = BlackoutCalendar.values_of(needing) if needing else {}
    setattr(instance, _BEFORE, {pk: values.get(pk) for pk in found})


def _part_changed(sender: type[Any], instance: BlackoutDays | BlackoutHours, **_: Any) -> None:
    # It is gone if another receiver has saved the part once more, which has replanned.
    before: dict[int, Calendar | None] = instance.__dict__.pop(_BEFORE, {})
    for pk in BlackoutCalendar.objects.filter(pk__in=before).order_by("pk").values_list("pk", flat=True):
        replan(pk, before=before[pk])
