"""What is measured: how long reports waited and ran, how they ended, and how many there were, by periods of time."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from reportqueue.states import FINAL

OTHERS = -1
"""Instead of a report's number: all reports beyond the busiest ones of a period."""


class What(models.TextChoices):
    """What a measure counts, each for the rows that ended in its period."""

    WAIT = "wait", _("Due to started")
    """From when a row was due, or was queued if that was later, to its last start."""
    RUN = "run", _("Started to finished")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")
    SKIPPED = "skipped", _("Skipped")


class Measure(models.Model):
    """How many rows of a report ended in a period so, or with a time in this bin; see `reportqueue.measures`."""

    seconds = models.PositiveIntegerField(help_text=_("The length of the period."))
    start = models.DateTimeField(help_text=_("The begin of the period."))
    report_id = models.BigIntegerField()
    what = models.CharField(max_length=10, choices=What.choices)
    bin = models.PositiveSmallIntegerField(help_text=_("Of a time, on a scale of powers; otherwise 0."))
    count = models.PositiveIntegerField()
    total = models.FloatField(default=0, db_default=0, editable=False)
    """The sum of these times, in seconds; 0 for what is no time."""

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["seconds", "start", "report_id", "what", "bin"], name="reportqueue_measure_once"
            ),
            models.CheckConstraint(
                name="reportqueue_measure_makes_sense",
                condition=Q(report_id__gte=OTHERS, what__in=sorted(What), count__gte=1),
            ),
        ]


class UnmeasuredEnd(models.Model):
    """How a row ended that has been requeued, re-executed or deleted since, until that is measured.

    Its columns are those of the row; see `reportqueue.unmeasured`.
    """

    report_id = models.BigIntegerField()
    status = models.CharField(max_length=10)
    created_at = models.DateTimeField()
    available_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        indexes = [models.Index("finished_at", name="reportqueue_unmeasured")]
        constraints = [
            models.CheckConstraint(name="reportqueue_unmeasured_is_final", condition=Q(status__in=sorted(FINAL)))
        ]


class MeasureTotal(models.Model):
    """What has been measured of a report so far, for counters that never fall; see `reportqueue.totals`."""

    report_id = models.BigIntegerField()
    what = models.CharField(max_length=10, choices=What.choices)
    bin = models.PositiveSmallIntegerField()
    count = models.PositiveBigIntegerField()
    total = models.FloatField()
    """The sum of these times, in seconds."""
    since = models.DateTimeField()
    until = models.DateTimeField()
    """The begins of the first and of the last period that added to it."""

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["report_id", "what", "bin"], name="reportqueue_measuretotal_once"),
            models.CheckConstraint(
                name="reportqueue_measuretotal_makes_sense",
                condition=Q(report_id__gte=OTHERS, what__in=sorted(What), count__gte=1, total__gte=0),
            ),
        ]


class Depth(models.Model):
    """How many rows there were at the end of a short period; there is one for each period that has been measured."""

    start = models.DateTimeField(primary_key=True, help_text=_("The begin of the period."))
    waiting = models.PositiveIntegerField(null=True, help_text=_("Due and not handed out; empty if nobody counted."))
    in_flight = models.PositiveIntegerField(null=True, help_text=_("Claimed, launched or running."))
    late = models.PositiveIntegerField(null=True, help_text=_("Unfinished although their deadline is over."))

    class Meta:
        default_permissions = ()
