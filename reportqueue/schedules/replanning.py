"""A calendar that changes has its schedules planned anew, from now on: nothing that is due already is lost by it."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.db.models.functions import Now
from django.db.models.signals import post_delete, post_save

from reportqueue.models import BlackoutCalendar, BlackoutDays, BlackoutHours, ReportSchedule


def connect() -> None:
    """Let every change of a calendar, by whatever way of Django's, replan its schedules."""
    for model in (BlackoutDays, BlackoutHours):
        for signal in (post_save, post_delete):
            signal.connect(_part_changed, sender=model, dispatch_uid=f"reportqueue.replanning.{model.__name__}")


def replan(calendar_id: int) -> None:
    """Have the schedules of a calendar planned by the next pass, but for those that are due."""
    waiting = Q(next_run_at=None) | Q(next_run_at__gt=Now())
    ReportSchedule.objects.filter(waiting, calendar=calendar_id, enabled=True).update(plan_needed=True)


def _part_changed(sender: type[Any], instance: BlackoutDays | BlackoutHours, **_: Any) -> None:
    if BlackoutCalendar.objects.filter(pk=instance.calendar_id).exists():
        replan(instance.calendar_id)
