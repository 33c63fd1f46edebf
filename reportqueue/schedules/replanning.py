"""When a calendar changes, its schedules are planned anew from now on; firings that are due already are kept."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save

from reportqueue.models import BlackoutCalendar, BlackoutDays, BlackoutHours, ReportSchedule


def connect() -> None:
    """Replan a calendar's schedules at every change of it that Django sees."""
    for model in (BlackoutDays, BlackoutHours):
        for signal in (post_save, post_delete):
            signal.connect(_part_changed, sender=model, dispatch_uid=f"reportqueue.replanning.{model.__name__}")


def replan(calendar_id: int) -> None:
    """Let the next pass plan the calendar's schedules anew; it first fires what is due by the old plan."""
    ReportSchedule.objects.filter(calendar=calendar_id, enabled=True).update(plan_needed=True)


def _part_changed(sender: type[Any], instance: BlackoutDays | BlackoutHours, **_: Any) -> None:
    if BlackoutCalendar.objects.filter(pk=instance.calendar_id).exists():
        replan(instance.calendar_id)
