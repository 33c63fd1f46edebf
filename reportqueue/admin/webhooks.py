"""Webhook sources in the admin. A secret is shown once, when it is made or rotated, and never again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Field, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from reportqueue import webhooks
from reportqueue.admin import formats, search
from reportqueue.admin.changelists import ListAdmin
from reportqueue.admin.consumers import warn_of_consumers
from reportqueue.admin.filters import EnabledFilter
from reportqueue.admin.modifiers import use_input
from reportqueue.admin.shown_once import show_once
from reportqueue.models import WebhookSource
from reportqueue.models.audit import Kind


@admin.register(WebhookSource)
class WebhookSourceAdmin(ListAdmin):
    """The senders of deliveries, and the report of each."""

    list_display = ["name", "enabled", "report", "modifier", "rotation"]
    list_filter = [EnabledFilter]
    audited = Kind.WEBHOOK
    find = search.find_by_name
    search_fields = ["name"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _("A part of the name.")
    actions = ["rotate_secret"]
    readonly_fields = ["deliveries_to", "rotation"]
    fieldsets = [
        (None, {"fields": ["name", "enabled", "deliveries_to", "rotation"]}),
        (_("What a delivery asks for"), {"fields": ["report_id", "modifier_id", "modifier_path", "params_paths"]}),
        (_("How"), {"fields": ["priority", "max_attempts", "unique"]}),
    ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, with a warning above it if nobody asks for the rows of deliveries."""
        warn_of_consumers(request)
        return super().changelist_view(request, extra_context)

    def save_model(self, request: HttpRequest, obj: WebhookSource, form: Any, change: bool) -> None:
        """Save, and show a new source's secret once."""
        super().save_model(request, obj, form, change)
        if not change:
            show_once(request, obj, webhooks.secret(obj))

    @admin.action(description=_("Rotate the secret of the selected source"), permissions=["change"])
    def rotate_secret(self, request: HttpRequest, selected: QuerySet[WebhookSource]) -> None:
        """Rotate one source at a time: each new secret has to be passed on."""
        chosen = list(selected[:2])
        if len(chosen) != 1:
            self.message_user(request, gettext("Select one source: its new secret is shown once."), messages.ERROR)
            return
        show_once(request, chosen[0], webhooks.rotate(chosen[0]))
        self.log_change(request, chosen[0], "Secret rotated in the admin")

    def formfield_for_dbfield(self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        """The modifier's input suggests them by name."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "modifier_id":
            use_input(field, self.admin_site)
        return field

    @admin.display(description=_("modifier"))
    def modifier(self, source: WebhookSource) -> str:
        """The fixed modifier, or its path in the payload."""
        return source.modifier_path if source.modifier_id is None else super().modifier(source)

    @admin.display(description=_("address"))
    def deliveries_to(self, source: WebhookSource) -> str:
        """The end of the URL for deliveries; the project decides where the API is mounted."""
        return f"webhooks/{source.name}/" if source.pk else "-"

    @admin.display(description=_("earlier secret accepted until"))
    def rotation(self, source: WebhookSource) -> str:
        """The end of the time in which both secrets are accepted."""
        return formats.instant(source.previous_until, minutes=True)
