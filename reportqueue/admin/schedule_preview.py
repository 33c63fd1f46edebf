"""The preview of a schedule's form: its next firings before it is saved, in a frame below the form, without script."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.utils import flatten_fieldsets
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.clickjacking import xframe_options_sameorigin

from reportqueue.admin import forecast_table, schedule_text
from reportqueue.admin.changelists import ListAdmin
from reportqueue.admin.instants import in_utc
from reportqueue.clock import database_now
from reportqueue.models import ReportSchedule

COUNTS = [5, 20, 50]
"""The numbers of firings to choose from."""


class PreviewedAdmin(ListAdmin):
    """The preview, for a new schedule and for one that exists."""

    def get_urls(self) -> list[Any]:
        """Django's, and an address for each preview."""
        view = self.admin_site.admin_view(xframe_options_sameorigin(self.preview_view))
        own = [
            path("add/preview/", view, {"pk": None}, name="reportqueue_reportschedule_preview_new"),
            path("<int:pk>/preview/", view, name="reportqueue_reportschedule_preview"),
        ]
        return [*own, *super().get_urls()]

    @in_utc
    def preview_view(self, request: HttpRequest, pk: int | None) -> HttpResponse:
        """POST: the form's errors, or its firings. GET: what the frame shows before that. Nothing is written."""
        schedule = None
        if pk is None:
            allowed = self.has_add_permission(request)
        else:
            schedule = self.get_queryset(request).filter(pk=pk).first()
            allowed = self.has_change_permission(request, schedule)
        if not allowed:
            raise PermissionDenied
        context: dict[str, Any] = {}
        status = 200
        if pk is not None and schedule is None:
            context["said"] = gettext("This schedule has been deleted.")
            status = 404
        elif request.method == "POST":
            context = self._preview(request, schedule)
        else:
            context["said"] = gettext(
                "“Preview” shows here what the form would do as it is filled in. Nothing is saved."
            )
        context |= {**self.admin_site.each_context(request), "is_popup": True, "title": ""}
        request.current_app = self.admin_site.name  # as Django's own admin views do
        return TemplateResponse(request, "admin/reportqueue/preview.html", context, status=status)

    def preview_context(self, schedule: ReportSchedule | None) -> dict[str, Any]:
        """The values that the form's page needs for the preview."""
        own = ("preview_new",) if schedule is None else ("preview", schedule.pk)
        return {"preview_address": self.address(*own), "preview_counts": COUNTS}

    def _preview(self, request: HttpRequest, schedule: ReportSchedule | None) -> dict[str, Any]:
        fields = flatten_fieldsets(self.get_fieldsets(request, schedule))
        # As Django's own view builds it for a save.
        form_class: Any = self.get_form(request, schedule, change=schedule is not None, fields=fields)
        form = form_class(request.POST, instance=schedule)
        if not form.is_valid():
            named = [("" if name == "__all__" else form[name].label, errors) for name, errors in form.errors.items()]
            return {"form_errors": named}
        given = form.instance
        # After a change of the timing, it fires from now on; otherwise the planned firing stays.
        after = database_now() if form.changes_timing else None
        return {
            "sentence": schedule_text.sentence(given),
            "note": given.day_note,
            "firings": forecast_table.table(given, _count(request), after=after),
            "paused": not given.enabled,
        }


def _count(request: HttpRequest) -> int:
    asked = request.POST.get("preview_count", "")
    return next((count for count in COUNTS if str(count) == asked), COUNTS[0])
