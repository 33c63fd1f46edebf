"""API tokens: the credentials with which a user's programs call the API."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, credentials, database
from reportqueue.clock import ClockTimestamp, database_now

SCOPES = (
    "view_reportqueue",
    "add_reportqueue",
    "consume_reportqueue",
    "cancel_reportqueue",
    "requeue_reportqueue",
    "pause_reportqueue",
    "view_reportschedule",
    "add_reportschedule",
    "change_reportschedule",
    "delete_reportschedule",
    "view_report",
    "add_report",
    "change_report",
    "delete_report",
    "view_alertrule",
    "add_alertrule",
    "change_alertrule",
    "delete_alertrule",
    "view_webhooksubscription",
    "add_webhooksubscription",
    "change_webhooksubscription",
    "delete_webhooksubscription",
    "view_eventdelivery",
    "redeliver_eventdelivery",
)
"""The permissions that calls of the API need."""


class ApiToken(models.Model):
    """A token of a user. The table holds its hash alone: the token itself is shown once, when it is made."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="reportqueue_tokens", verbose_name=_("user")
    )
    name = models.CharField(
        max_length=bounds.MAX_NAME_LENGTH,
        validators=[bounds.validate_text],
        help_text=_("Where it is used, for instance the host or the program."),
    )
    identifier = models.CharField(max_length=credentials.IDENTIFIER_LENGTH, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(
        default=list,
        blank=True,
        help_text=_("Which of its user's permissions it may use. Empty: all of them."),
    )
    created_at = models.DateTimeField(_("created"), db_default=ClockTimestamp(), editable=False)
    expires_at = models.DateTimeField(
        _("expires"), null=True, blank=True, validators=[bounds.validate_instant], help_text=_("Empty: never.")
    )
    revoked_at = models.DateTimeField(_("revoked"), null=True, editable=False)
    last_used_at = models.DateTimeField(
        _("last used"), null=True, editable=False, help_text=_("Written at most once a minute.")
    )

    class Meta:
        verbose_name = _("API token")
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                name="reportqueue_token_digest",
                condition=Q(digest__regex=r"^[0-9a-f]{64}$"),
            ),
            models.CheckConstraint(
                name="reportqueue_token_expires_later",
                condition=Q(expires_at=None) | Q(expires_at__gt=F("created_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({credentials.PREFIX}{self.identifier})"

    def clean(self) -> None:
        """Refuse unknown scopes, and a new token that has expired already."""
        problems: dict[str, Any] = {}
        if not isinstance(self.scopes, list) or any(scope not in SCOPES for scope in self.scopes):
            problems["scopes"] = f"Must be a list of scopes, of {', '.join(SCOPES)}."
        # Django calls this also if a field is wrong: its own validator refuses an end that is naive or no instant.
        end = self.expires_at if self._state.adding else None
        if bounds.is_instant(end) and end <= database_now(database.users_alias()):
            problems["expires_at"] = "Must be in the future."
        if problems:
            raise ValidationError(problems)

    def allows(self, codename: str) -> bool:
        """Whether a call with this token may use the permission, if the user has it."""
        return not self.scopes or codename in self.scopes
