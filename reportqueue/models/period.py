"""Trigger periods: which pattern owns the firings of which time."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeOperators
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds
from reportqueue.clock import ClockTimestamp
from reportqueue.patterns import SENSOR_FIRED, Pattern


class _Range(models.Func):
    """The range from `since` (included) to `until` (not included)."""

    function = "tstzrange"
    output_field = DateTimeRangeField()


class TriggerPeriodQuerySet(models.QuerySet["TriggerPeriod"]):
    """Queries of periods."""

    def at(self, instant: Any) -> Self:
        """The period that contains this instant, if there is one."""
        return self.filter(Q(since=None) | Q(since__lte=instant), Q(until=None) | Q(until__gt=instant))

    def fired_by_sensors(self) -> Self:
        """Current and future periods in which sensors evaluate the schedules."""
        return self.filter(Q(until=None) | Q(until__gt=Now()), pattern__in=SENSOR_FIRED)


class TriggerPeriod(models.Model):
    """`pattern` owns the firings from `since` until before `until`. Only `triggers.handovers` writes periods.

    The queue owns the firings outside of all periods.
    """

    pattern = models.CharField(max_length=10, choices=Pattern.choices)
    since = models.DateTimeField(null=True, help_text=_("The first instant; empty: from the beginning."))
    until = models.DateTimeField(null=True, help_text=_("The first instant after it; empty: until further notice."))
    switched_by = models.CharField(max_length=bounds.MAX_USER_LENGTH, blank=True)
    created_at = models.DateTimeField(db_default=ClockTimestamp(), editable=False)

    objects = TriggerPeriodQuerySet.as_manager()

    class Meta:
        verbose_name = _("trigger period")
        ordering = [F("since").asc(nulls_first=True)]
        constraints = [
            models.CheckConstraint(name="reportqueue_period_pattern", condition=Q(pattern__in=sorted(Pattern))),
            models.CheckConstraint(
                name="reportqueue_period_not_empty",
                condition=Q(since=None) | Q(until=None) | Q(since__lt=F("until")),
            ),
            # A firing has one owner: with two patterns for one instant, it would run twice.
            ExclusionConstraint(
                name="reportqueue_period_no_overlap",
                expressions=[(_Range("since", "until"), RangeOperators.OVERLAPS)],
            ),
        ]

    def contains(self, instant: datetime) -> bool:
        """Whether the period contains this instant: `at`, for a period that is loaded already."""
        return (self.since is None or self.since <= instant) and (self.until is None or instant < self.until)

    def __str__(self) -> str:
        return f"{self.pattern} from {self.since or 'the beginning'} until {self.until or 'further notice'}"


class InPeriodsOf(models.Func):
    """Whether an instant lies in one of a pattern's periods. They are read once for the statement, not for each row."""

    output_field = models.BooleanField()
    template = (
        "((SELECT coalesce(range_agg(tstzrange(since, until)), '{}') FROM %(table)s WHERE pattern = '%(pattern)s')"
        " @> %(expressions)s)"
    )

    def __init__(self, pattern: Pattern, instant: str) -> None:
        super().__init__(instant, pattern=Pattern(pattern).value, table=TriggerPeriod._meta.db_table)
