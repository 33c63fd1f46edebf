"""Backfills in the admin: the firings of a past time range are counted, shown, and queued when confirmed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue import schedules
from reportqueue.admin import formats
from reportqueue.admin.changelists import ListAdmin, name_all
from reportqueue.admin.instants import in_utc
from reportqueue.admin.schedule_actions import sees_queue
from reportqueue.errors import RowBusy, ScheduleNotFound
from reportqueue.models import ReportSchedule
from reportqueue.timing.policies import Overlap


class BackfillForm(forms.Form):
    """A time range. `schedules.backfill` checks it further; its errors have the same field names."""

    start = forms.DateTimeField(label=_("From"))
    end = forms.DateTimeField(label=_("To"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget = forms.DateTimeInput(format="%Y-%m-%dT%H:%M:%S", attrs={"type": "datetime-local", "step": 1})
            field.label = gettext("%(label)s (in UTC)") % {"label": field.label}

    def add_errors(self, error: ValidationError) -> None:
        """Show each error at its field, and errors of the schedule above the form."""
        for name, texts in error.message_dict.items():
            self.add_error(name if name in self.fields else None, texts)


class BackfilledAdmin(ListAdmin):
    """The page of a backfill."""

    def get_urls(self) -> list[Any]:
        """Django's, and the address of this page."""
        view = self.admin_site.admin_view(self.backfill_view)
        return [path("<int:pk>/backfill/", view, name="reportqueue_reportschedule_backfill"), *super().get_urls()]

    @in_utc
    def backfill_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """GET: the form. POST: show what would be queued; with a confirmation, queue it."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        if not self.has_view_permission(request) or not request.user.has_perm("reportqueue.add_reportqueue"):
            raise PermissionDenied
        schedule = self.get_queryset(request).filter(pk=pk).first()
        name_all([schedule])
        if schedule is None:
            self.message_user(request, str(ScheduleNotFound()), messages.WARNING)
            return HttpResponseRedirect(self.address("changelist"))
        form = BackfillForm(request.POST) if request.method == "POST" else BackfillForm()
        context: dict[str, Any] = {"form": form}
        if request.method == "POST" and form.is_valid():
            try:
                with self.bounded():
                    counted = schedules.backfill(pk, form.cleaned_data["start"], form.cleaned_data["end"], dry_run=True)
                    # A confirmation counts for what was shown: if that has changed, show it and ask again.
                    if counted.instants and request.POST.get("confirmed") == _fingerprint(counted):
                        return self._backfill(request, schedule, form)
                context |= _counts(schedule, counted)
            except ScheduleNotFound as error:
                self.message_user(request, str(error), messages.WARNING)
                return HttpResponseRedirect(self.address("changelist"))
            except RowBusy as error:
                form.add_error(None, str(error))
            except ValidationError as error:
                form.add_errors(error)
        context |= {
            **self.admin_site.each_context(request),
            "title": gettext("Backfill"),
            "subtitle": str(schedule),
            "opts": self.opts,
            "media": self.media,
            "original": schedule,
            "has_view_permission": True,
            "change": True,
            "most": schedules.MAX_BACKFILL,
        }
        request.current_app = self.admin_site.name  # as Django's own admin views do
        return TemplateResponse(request, "admin/reportqueue/backfill.html", context)

    def _backfill(self, request: HttpRequest, schedule: ReportSchedule, form: BackfillForm) -> HttpResponse:
        start, end = form.cleaned_data["start"], form.cleaned_data["end"]
        done = schedules.backfill(schedule.pk, start, end)
        span = f"from {formats.utc(start)} to {formats.utc(end)} UTC"
        self.log_change(request, schedule, f"Backfilled {span} in the admin: {done.enqueued:,} reports queued")
        text = ngettext("%(count)s report queued.", "%(count)s reports queued.", done.enqueued)
        said: Any = text % {"count": f"{done.enqueued:,}"}
        if sees_queue(request):
            rows = reverse("admin:reportqueue_reportqueue_changelist", current_app=self.admin_site.name)
            link = format_html(
                '<a href="{}?schedule={}">{}</a>', rows, schedule.pk, gettext("Show the schedule's reports")
            )
            said = format_html("{} {}", said, link)
        self.message_user(request, said, messages.SUCCESS)
        return HttpResponseRedirect(self.address("change", schedule.pk))


def _counts(schedule: ReportSchedule, counted: schedules.Backfill) -> dict[str, Any]:
    instants = counted.instants
    ends = [(gettext("first"), instants[0]), (gettext("last"), instants[-1])] if instants else []
    zones = formats.clocks(schedule.timezone)
    return {
        "counted": counted,
        "wanted": len(instants) - counted.known,
        "lines": [(name, formats.by_clocks(instant, zones)) for name, instant in ends],
        "zones": zones,
        "one_by_one": schedule.overlap != Overlap.ALLOW,
        "fingerprint": _fingerprint(counted),
    }


def _fingerprint(counted: schedules.Backfill) -> str:
    """Identifies the instants, and how many of them have a row already."""
    instants = counted.instants
    if not instants:
        return ""
    return f"{len(instants)} {counted.known} {instants[0].isoformat()} {instants[-1].isoformat()}"
