"""Consumers: who asks for rows or schedules, and when each last did."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds
from reportqueue.clock import ClockTimestamp
from reportqueue.patterns import Pattern


class ReportConsumer(models.Model):
    """A consumer of one pattern. Its calls are counted on by nobody: people are told when one is missing."""

    pattern = models.CharField(max_length=10, choices=Pattern.choices)
    name = models.CharField(
        max_length=bounds.MAX_NAME_LENGTH, help_text=_("Under which it claims; of a sensor that polls, its user.")
    )
    seen_at = models.DateTimeField(db_default=ClockTimestamp(), editable=False)
    api_user = models.CharField(max_length=bounds.MAX_API_USER_LENGTH, db_default="", default="", editable=False)
    """The key of the API user that the consumer has."""
    deployment = models.CharField(max_length=bounds.MAX_NAME_LENGTH, db_default="", default="", editable=False)
    """From which deployment of Dagster it claims."""
    other_deployment = models.CharField(max_length=bounds.MAX_NAME_LENGTH, db_default="", default="", editable=False)
    """From which other one it has claimed meanwhile, last at `other_seen_at`."""
    other_seen_at = models.DateTimeField(null=True, editable=False)
    routes = models.JSONField(null=True, editable=False, help_text=_("Those of its last claim; empty: all."))

    class Meta:
        verbose_name = _("consumer")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint("pattern", "name", name="reportqueue_consumer_once"),
            models.CheckConstraint(name="reportqueue_consumer_pattern", condition=Q(pattern__in=sorted(Pattern))),
        ]

    def __str__(self) -> str:
        return self.name
