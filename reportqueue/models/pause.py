"""What is paused: the whole queue, a route, or a report. Nothing of it is claimed; what is under way ends."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, catalogue
from reportqueue.clock import ClockTimestamp, minute
from reportqueue.models.report import ROUTE, validate_route


class Scope(models.TextChoices):
    """Of what rows a pause is."""

    QUEUE = "queue", _("The whole queue")
    ROUTE = "route", _("A route")
    REPORT = "report", _("A report")


class Pause(models.Model):
    """A pause, from when it is made until it is ended. Made and ended by `queue.pause` and `queue.resume` alone."""

    report_name = ""
    """The name of its report, once `catalogue.name_rows` has looked it up."""

    was_there = False
    """Whether it was there already when somebody paused the same once more."""

    scope = models.CharField(max_length=10, choices=Scope.choices)
    route = models.CharField(max_length=bounds.MAX_ROUTE_LENGTH, blank=True, validators=[validate_route])
    report_id = models.BigIntegerField(_("report"), null=True, blank=True, validators=bounds.id_validators())
    paused_at = models.DateTimeField(_("since (UTC)"), db_default=ClockTimestamp(), editable=False)
    paused_by = models.CharField(_("by"), max_length=bounds.MAX_USER_LENGTH, blank=True)
    note = models.CharField(max_length=bounds.MAX_REASON_LENGTH, blank=True, validators=[bounds.validate_text])

    class Meta:
        verbose_name = _("pause")
        ordering = ["paused_at", "id"]
        permissions = [("pause_reportqueue", "Can pause and resume the queue, routes and reports")]
        constraints = [
            models.CheckConstraint(
                name="reportqueue_pause_of",
                condition=Q(scope=Scope.QUEUE, route="", report_id=None)
                | Q(scope=Scope.ROUTE, route__regex=rf"^{ROUTE.pattern}$", report_id=None)
                | Q(scope=Scope.REPORT, route="", report_id__gte=0),
            ),
            models.UniqueConstraint(
                fields=["scope", "route", "report_id"], name="reportqueue_pause_once", nulls_distinct=False
            ),
        ]

    def __str__(self) -> str:
        return f"{self.named} is paused since {minute(self.paused_at)}{self.by}"

    @property
    def named(self) -> str:
        """What is paused, in words, with the name of its report."""
        return self.what if self.report_id is None else f"Report {catalogue.label(self.report_id, self.report_name)}"

    @property
    def what(self) -> str:
        """What is paused, in words, without names."""
        if self.scope == Scope.QUEUE:
            return "The queue"
        return f"Route {self.route}" if self.scope == Scope.ROUTE else f"Report {self.report_id}"

    @property
    def by(self) -> str:
        """Who paused it and why, in words with a space before them; empty if nobody is known."""
        return (f" by {self.paused_by}" if self.paused_by else "") + (f": {self.note}" if self.note else "")
