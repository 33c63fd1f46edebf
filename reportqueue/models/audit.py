"""Who did what: one entry for each thing that a person, or code in a person's name, has done. Entries never change,
but for the texts of a modifier that is erased."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds
from reportqueue.clock import ClockTimestamp

MAX_LABEL_LENGTH = 200


class Via(models.TextChoices):
    """By which way it was done."""

    PAGE = "page", _("Page")
    """A page of the admin."""
    API = "api", _("API")
    COMMAND = "command", _("Command")
    CODE = "code", _("Code")
    """Code of the project, without anything that says for whom."""


class Kind(models.TextChoices):
    """What it was done to."""

    ROW = "row", _("Queued report")
    SCHEDULE = "schedule", _("Schedule")
    REPORT = "report", _("Report")
    CALENDAR = "calendar", _("Blackout calendar")
    WEBHOOK = "webhook", _("Webhook source")
    TOKEN = "token", _("API token")
    PAUSE = "pause", _("Pause")
    PATTERN = "pattern", _("Pattern")
    FAILURE = "failure", _("Group of failures")
    BULK = "bulk", _("Bulk action")
    SUBSCRIBER = "subscriber", _("Webhook subscription")
    ALERT = "alert", _("Alert rule")
    DELIVERY = "delivery", _("Webhook delivery")
    MODIFIER = "modifier", _("Modifier")


class AuditEntry(models.Model):
    """One thing that was done. The database refuses to change an entry: only pruning may delete old ones, and only the
    erasure of a modifier may empty texts."""

    at = models.DateTimeField(_("at (UTC)"), db_default=ClockTimestamp(), editable=False)
    action = models.CharField(max_length=30, help_text=_("A verb, such as cancel, change or resume."))
    by = models.CharField(max_length=bounds.MAX_USER_LENGTH, blank=True, help_text=_("A user, or what stands for one."))
    via = models.CharField(max_length=10, choices=Via.choices)
    kind = models.CharField(_("what"), max_length=10, choices=Kind.choices)
    object_id = models.CharField(_("number"), max_length=64)
    label = models.CharField(max_length=MAX_LABEL_LENGTH, blank=True, help_text=_("What it was called then."))
    changes = models.JSONField(default=dict, help_text=_("Each changed field, with its value before and after."))
    reason = models.CharField(max_length=bounds.MAX_REASON_LENGTH, blank=True)

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit")
        ordering = ["-id"]
        default_permissions = ("view",)
        indexes = [
            models.Index("kind", "object_id", "id", name="reportqueue_audit_of"),
            models.Index("by", "id", name="reportqueue_audit_by"),
            models.Index("at", name="reportqueue_audit_at"),
        ]
        constraints = [
            models.CheckConstraint(
                name="reportqueue_audit_words", condition=Q(via__in=sorted(Via), kind__in=sorted(Kind))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.label or self.object_id}"
