"""Groups of failures that a person has muted."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, failures
from reportqueue.clock import ClockTimestamp, minute


class MutedFailure(models.Model):
    """A group of failures that is known and not counted. Made and ended by `queue.mute` and `queue.unmute` alone."""

    fingerprint = models.CharField(max_length=16, primary_key=True)
    title = models.CharField(max_length=failures.MAX_TITLE, blank=True)
    """Of the group's newest row when it was muted: the rows may be gone."""
    muted_at = models.DateTimeField(_("since (UTC)"), db_default=ClockTimestamp(), editable=False)
    muted_by = models.CharField(_("by"), max_length=bounds.MAX_USER_LENGTH, blank=True)
    note = models.CharField(max_length=bounds.MAX_REASON_LENGTH, blank=True, validators=[bounds.validate_text])

    class Meta:
        verbose_name = _("muted failure")
        ordering = ["-muted_at", "fingerprint"]
        default_permissions = ()
        permissions = [("mute_reportqueue", "Can mute and unmute groups of failures")]

    def __str__(self) -> str:
        by = f" by {self.muted_by}" if self.muted_by else ""
        note = f": {self.note}" if self.note else ""
        return f"Failure {self.fingerprint} ({self.title}) is muted since {minute(self.muted_at)}{by}{note}"
