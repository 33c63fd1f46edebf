"""Webhook sources in the admin: their secret is shown once, when it is made or rotated, and never again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from reportqueue import webhooks
from reportqueue.admin.waiting import PatientAdmin
from reportqueue.models import WebhookSource


@admin.register(WebhookSource)
class WebhookSourceAdmin(PatientAdmin):
    """Who may send deliveries, and which report they ask for."""

    list_display = ["name", "enabled", "report_id", "modifier", "rotation"]
    list_filter = ["enabled"]
    search_fields = ["name"]
    actions = ["rotate_secret"]
    readonly_fields = ["address", "rotation"]
    fieldsets = [
        (None, {"fields": ["name", "enabled", "address", "rotation"]}),
        (_("What a delivery asks for"), {"fields": ["report_id", "modifier_id", "modifier_path", "params_paths"]}),
        (_("How"), {"fields": ["priority", "max_attempts"]}),
    ]

    def save_model(self, request: HttpRequest, obj: WebhookSource, form: Any, change: bool) -> None:
        """A new source's secret is shown, once."""
        super().save_model(request, obj, form, change)
        if not change:
            self._show(request, obj, webhooks.secret(obj))

    @admin.action(description=_("Rotate the secret of the selected source"), permissions=["change"])
    def rotate_secret(self, request: HttpRequest, selected: QuerySet[WebhookSource]) -> None:
        """One at a time: each secret has to be handed to somebody."""
        chosen = list(selected[:2])
        if len(chosen) != 1:
            self.message_user(request, gettext("Select one source: its new secret is shown once."), messages.ERROR)
            return
        self._show(request, chosen[0], webhooks.rotate(chosen[0]))
        self.log_change(request, chosen[0], "Secret rotated in the admin")

    @admin.display(description=_("modifier"))
    def modifier(self, source: WebhookSource) -> str:
        """The fixed one, or where the payload holds it."""
        return str(source.modifier_id) if source.modifier_id is not None else source.modifier_path

    @admin.display(description=_("address"))
    def address(self, source: WebhookSource) -> str:
        """The end of the URL that deliveries are sent to; where the API is mounted is the project's choice."""
        return f"webhooks/{source.name}/" if source.pk else "-"

    @admin.display(description=_("earlier secret accepted until (UTC)"))
    def rotation(self, source: WebhookSource) -> str:
        """While a sender changes over."""
        return f"{source.previous_until:%Y-%m-%d %H:%M}" if source.previous_until else "-"

    def _show(self, request: HttpRequest, source: WebhookSource, secret: str) -> None:
        text = gettext("The secret of {name}, shown this once: {secret}")
        self.message_user(request, format_html(text, name=source.name, secret=secret), messages.WARNING)
