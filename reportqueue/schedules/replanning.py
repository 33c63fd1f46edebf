"""A calendar that changes has its schedules planned anew, from now on: nothing that is due already is lost by it."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save

from reportqueue.models import BlackoutCalendar, BlackoutDays, BlackoutHours, ReportSchedule


def connect() -> None:
    """Let every change of a calendar, by whatever way of Django's, replan its schedules."""
    for model in (BlackoutDays, BlackoutHours):
        for signal in (post_save, post_delete):
            signal.connect(_part_changed, sender=model, dispatch_uid=f"reportqueue.replanning.{model.__name__}")


def replan(calendar_id: int) -> None:
    """Have the schedules of a calendar planned by the next pass, which fires what is due by the old plan first."""
    ReportSchedule.objects.filter(calendar=calendar_id, enabled=True).update(plan_needed=True)


def _part_changed(sender: type[Any], instance: BlackoutDays | BlackoutHours, **_: Any) -> None:
    if BlackoutCalendar.objects.filter(pk=instance.calendar_id).exists():
        replan(instance.calendar_id)
