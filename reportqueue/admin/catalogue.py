"""The catalogue in the admin: what reports are called, asked, and how much of them is made at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, database, fitting, queue
from reportqueue.admin import actions as shared
from reportqueue.admin import formats, search
from reportqueue.admin.actions import ActionsAdmin
from reportqueue.admin.filters import RouteFilter
from reportqueue.admin.pauses import already_paused
from reportqueue.admin.report_form import ReportForm
from reportqueue.durations import seconds
from reportqueue.errors import InvalidTransition
from reportqueue.models import Report
from reportqueue.models.audit import Kind

PAUSE, RESUME = "pause", "resume"
LABELS = {PAUSE: _("Pause report"), RESUME: _("Resume report")}
LOGGED = {PAUSE: "Paused in the admin", RESUME: "Resumed in the admin"}
"""Stored in the log: not translated."""


@admin.register(Report)
class ReportAdmin(ActionsAdmin):
    """The list and the form of the catalogue's entries, with the operations pause and resume."""

    list_display = ["name", "report_id", "route", "limits", "owner", "state"]
    list_filter = [RouteFilter]
    audited = Kind.REPORT
    find = search.find_reports
    search_fields = ["name"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _("A number, or a part of a name or an owner, or a route.")
    operations = tuple(LABELS)
    form = ReportForm
    fieldsets = [
        (None, {"fields": ["report_id", "name", "description", "owner"]}),
        (_("What it is asked"), {"fields": ["params_schema", "default_params"]}),
        (_("How it is made"), {"fields": ["route", ("priority", "max_attempts"), "lease_seconds"]}),
        (
            _("How much of it at once"),
            {"fields": [("max_running", "max_running_per_modifier"), ("rate_limit", "rate_period_seconds")]},
        ),
        (_("How late"), {"fields": ["expires_after_seconds", "deadline_seconds"]}),
    ]

    def may(self, request: HttpRequest, name: str) -> bool:
        """By the permission for pauses."""
        return request.user.has_perm("reportqueue.pause_reportqueue")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """A report's number never changes."""
        return [] if obj is None else ["report_id"]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Report | None:
        """As Django's. To save an edit, lock the report first: the edit is checked against what it replaces."""
        pk = bounds.as_id(object_id)
        if request.method == "POST" and pk is not None and database.connection().in_atomic_block:
            Report.objects.select_for_update().filter(pk=pk).values_list("pk").first()
        found: Report | None = super().get_object(request, object_id, from_field)
        return found

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list; one query for the pauses of all its reports."""
        self._paused = {pause.report_id: pause for pause in queue.paused() if pause.report_id is not None}
        return super().changelist_view(request, extra_context)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """The form, with a button to pause or resume, and links to the report's rows and to a new schedule."""
        if obj is not None:
            paused = any(pause.report_id == obj.pk for pause in queue.paused())
            name = RESUME if paused else PAUSE
            context["buttons"] = [(LABELS[name], self.address(name, obj.pk))] if self.may(request, name) else []
            context["reason_hint"] = gettext("Note (optional)") if name == PAUSE else ""
            context["links"] = self._links(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _links(self, request: HttpRequest, report: Report) -> list[tuple[str, str]]:
        def page(model: str, name: str) -> str:
            return reverse(f"admin:reportqueue_{model}_{name}", current_app=self.admin_site.name)

        links = []
        if request.user.has_perm("reportqueue.view_reportqueue"):
            links.append(
                (gettext("Its reports in the queue"), f"{page('reportqueue', 'changelist')}?report_id={report.pk}")
            )
        if request.user.has_perm("reportqueue.add_reportqueue") and request.user.has_perm(
            "reportqueue.view_reportqueue"
        ):
            links.append((gettext("Queue one…"), f"{page('reportqueue', 'enqueue')}?report_id={report.pk}"))
        if request.user.has_perm("reportqueue.add_reportschedule"):
            links.append((gettext("Add a schedule…"), f"{page('reportschedule', 'add')}?report_id={report.pk}"))
        return links

    def operate(self, request: HttpRequest, pks: Sequence[int], name: str) -> None:
        """Pause or resume each report."""

        def operate_on(pk: int) -> None:
            by = request.user.get_username()
            if name == PAUSE:
                made = queue.pause(report_id=pk, by=by, note=shared.reason_of(request))
                if made.was_there:
                    raise InvalidTransition(already_paused(made))
            else:
                queue.resume(report_id=pk, by=by)
            if (report := Report.objects.filter(pk=pk).first()) is not None:
                self.log_change(request, report, LOGGED[name])

        refused = self.for_each(request, pks, operate_on)
        if refused:
            self.say(request, shared.why_refused(refused), len(refused), messages.ERROR)
        elif name == RESUME:
            self.message_user(request, gettext("The report is resumed."), messages.SUCCESS)

    def save_model(self, request: HttpRequest, obj: Report, form: Any, change: bool) -> None:
        """Save, and tell of schedules whose parameters do not fit the new schema: they go on as they are."""
        super().save_model(request, obj, form, change)
        if change and not fitting.FIELDS.intersection(form.changed_data):
            return
        found = fitting.misfits(obj)
        if found.pks:
            text = ngettext(
                "%(count)s schedule of this report has parameters that do not fit the schema: %(which)s. It goes on "
                "queueing them; change its parameters.",
                "%(count)s schedules of this report have parameters that do not fit the schema: %(which)s. They go on "
                "queueing them; change their parameters.",
                len(found.pks),
            )
            self.say(request, text, len(found.pks), messages.WARNING, which=shared.some(found.pks))
        if found.unchecked:
            text = gettext("%(count)s schedules of this report were not compared with the schema: there are too many.")
            self.say(request, text, found.unchecked, messages.WARNING)

    @admin.display(description=_("limits"))
    def limits(self, report: Report) -> str:
        """Its caps, its rate, and how late it may start; in words."""
        parts = []
        if report.max_running is not None:
            parts.append(gettext("%(n)s under way") % {"n": f"{report.max_running:,}"})
        if report.max_running_per_modifier is not None:
            parts.append(gettext("%(n)s for each modifier") % {"n": f"{report.max_running_per_modifier:,}"})
        if report.rate_limit is not None:
            rate = {"n": f"{report.rate_limit:,}", "time": seconds(report.rate_period_seconds or 0)}
            parts.append(gettext("%(n)s starts in %(time)s") % rate)
        if report.expires_after_seconds is not None:
            parts.append(gettext("expires after %(time)s") % {"time": seconds(report.expires_after_seconds)})
        if report.deadline_seconds is not None:
            parts.append(gettext("late after %(time)s") % {"time": seconds(report.deadline_seconds)})
        return "; ".join(parts) or formats.EMPTY

    @admin.display(description=_("state"))
    def state(self, report: Report) -> str:
        """Whether it is paused, by whom and why."""
        pause = self._paused.get(report.pk)
        if pause is None:
            return formats.EMPTY
        return formats.two_lines(formats.badge("cancelled", gettext("Paused")), pause.by.strip(" :"))
