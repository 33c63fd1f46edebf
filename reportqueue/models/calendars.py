"""Blackout calendars: the days and hours on which schedules do not fire, edited by people."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, time
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from reportqueue import locks
from reportqueue.timing.calendars import Calendar, ClosedDays, ClosedHours


class Weekday(models.IntegerChoices):
    """Weekdays, numbered as in Python."""

    MONDAY = 0, _("Monday")
    TUESDAY = 1, _("Tuesday")
    WEDNESDAY = 2, _("Wednesday")
    THURSDAY = 3, _("Thursday")
    FRIDAY = 4, _("Friday")
    SATURDAY = 5, _("Saturday")
    SUNDAY = 6, _("Sunday")


class BlackoutCalendar(models.Model):
    """A named set of closed days and hours, which apply in each schedule's own time zone."""

    name = models.CharField(max_length=100, unique=True)

    class Meta:
        verbose_name = _("blackout calendar")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def values_of(pks: Collection[int]) -> dict[int, Calendar]:
        """The calendars with these ids as values, read in three queries however many there are."""
        days: dict[int, list[ClosedDays]] = {pk: [] for pk in pks}
        hours: dict[int, list[ClosedHours]] = {pk: [] for pk in pks}
        for row in BlackoutDays.objects.filter(calendar__in=pks).order_by("first_day", "pk"):
            days[row.calendar_id].append(ClosedDays(row.first_day, row.last_day, row.every_year, row.label))
        for part in BlackoutHours.objects.filter(calendar__in=pks).order_by("weekday", "start", "pk"):
            hours[part.calendar_id].append(ClosedHours(part.weekday, part.start, part.end, part.label))
        names = BlackoutCalendar.objects.filter(pk__in=pks).values_list("pk", "name")
        return {pk: Calendar(name, tuple(days[pk]), tuple(hours[pk])) for pk, name in names}


class CalendarPart(models.Model):
    """Closed days or hours of a calendar. A change of them and the replanning of its schedules are one transaction."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save as Django does. Raises `RowBusy` if another transaction holds a schedule that must be replanned."""
        with locks.bounded():
            super().save(*args, **kwargs)


class BlackoutDays(CalendarPart):
    """Closed days, one after the other, once or every year."""

    calendar = models.ForeignKey(BlackoutCalendar, on_delete=models.CASCADE, related_name="days")
    first_day = models.DateField()
    last_day = models.DateField(help_text=_("Included; the same as the first for one day."))
    every_year = models.BooleanField(default=False, help_text=_("On the same days of each year."))
    label = models.CharField(max_length=100, blank=True, help_text=_("Why: shown where a firing is skipped."))

    class Meta:
        verbose_name = _("closed days")
        verbose_name_plural = _("closed days")
        ordering = ["first_day", "pk"]
        constraints = [
            models.CheckConstraint(name="reportqueue_blackout_days_order", condition=Q(last_day__gte=F("first_day")))
        ]

    def __str__(self) -> str:
        return f"{self.first_day} to {self.last_day}"

    def clean(self) -> None:
        """Refuse days that end before they begin, and yearly ones that are longer than a year."""
        # Django calls this also if a field is wrong.
        if not isinstance(self.first_day, date) or not isinstance(self.last_day, date):
            return
        if self.last_day < self.first_day:
            raise ValidationError({"last_day": "Must not lie before the first day."})
        if self.every_year and (self.last_day - self.first_day).days > 364:
            raise ValidationError({"last_day": "What comes back every year must be shorter than a year."})


class BlackoutHours(CalendarPart):
    """Closed hours of a weekday."""

    calendar = models.ForeignKey(BlackoutCalendar, on_delete=models.CASCADE, related_name="hours")
    weekday = models.PositiveSmallIntegerField(
        choices=Weekday.choices, validators=[MinValueValidator(0), MaxValueValidator(6)]
    )
    start = models.TimeField(default=time.min, help_text=_("By the schedule's own clock."))
    end = models.TimeField(null=True, blank=True, help_text=_("Not included; empty: the end of the day."))
    label = models.CharField(max_length=100, blank=True, help_text=_("Why: shown where a firing is skipped."))

    class Meta:
        verbose_name = _("closed hours")
        verbose_name_plural = _("closed hours")
        ordering = ["weekday", "start", "pk"]
        constraints = [
            models.CheckConstraint(
                name="reportqueue_blackout_hours_order", condition=Q(end=None) | Q(end__gt=F("start"))
            ),
            models.CheckConstraint(name="reportqueue_blackout_weekday", condition=Q(weekday__range=(0, 6))),
        ]

    def __str__(self) -> str:
        return f"{self.get_weekday_display()} {self.start} to {self.end or '24:00'}"

    def clean(self) -> None:
        """Refuse hours that end before they begin: hours across midnight are two rows, one for each day."""
        if isinstance(self.start, time) and isinstance(self.end, time) and self.end <= self.start:
            raise ValidationError({"end": "Must lie after the start; hours across midnight are two rows, one a day."})
