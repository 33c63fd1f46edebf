"""Schedules in the admin: the form, the next firings, and the outcomes of the last ones."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Case, Field, OuterRef, QuerySet, Value, When
from django.db.models.functions import JSONObject, Left
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

import reportcron
from reportqueue import bounds, catalogue, database
from reportqueue.admin import exports, forecast_table, formats, schedule_pattern, schedule_text, search
from reportqueue.admin.agenda import AgendaAdmin
from reportqueue.admin.changelists import name_all
from reportqueue.admin.consumers import warn_of_consumers
from reportqueue.admin.exports import ExportedAdmin
from reportqueue.admin.filters import CalendarFilter, EnabledFilter, ProblemFilter, ReportFilter, TimezoneFilter
from reportqueue.admin.live import LiveAdmin
from reportqueue.admin.modifiers import use_input
from reportqueue.admin.params_fields import ParamsFields, chosen_or_shown
from reportqueue.admin.report_input import ReportInput
from reportqueue.admin.schedule_actions import SwitchableAdmin, sees_queue
from reportqueue.admin.schedule_backfill import BackfilledAdmin
from reportqueue.admin.schedule_deletion import DeletingAdmin
from reportqueue.admin.schedule_form import FIELDSETS, SPAN, WHAT, WHEN, WHEN_FIELDS, ScheduleForm, with_params_fields
from reportqueue.admin.schedule_preview import PreviewedAdmin
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.models.audit import Kind
from reportqueue.states import Status

LAST_OUTCOMES = 5
NEXT_FIRINGS = 5
OWN = {
    "priority": _(
        "-100 to 100, higher first. This counts for the schedule's reports, not the priority of the catalogue."
    ),
    "max_attempts": _("This counts for the schedule's reports, not the attempts of the catalogue."),
}
"""The help of fields that a report of the catalogue has, too."""
DETAIL_SHOWN = 150
"""Characters of a note or an error that the list shows."""


@admin.register(ReportSchedule)
class ReportScheduleAdmin(
    SwitchableAdmin, BackfilledAdmin, PreviewedAdmin, AgendaAdmin, DeletingAdmin, LiveAdmin, ExportedAdmin
):
    """The list and the form of schedules. A schedule that cannot fire is refused, naming the field."""

    list_display = [
        "report",
        "modifier",
        "timing",
        "state_in_short",
        "next_run",
        "priority",
        "last_outcomes",
    ]
    list_display_links = ["report", "modifier", "timing"]
    list_filter = [EnabledFilter, ProblemFilter, ReportFilter, TimezoneFilter, CalendarFilter]
    list_select_related = ["calendar"]
    audited = Kind.SCHEDULE
    exported = exports.SCHEDULES
    find = search.find_schedules
    search_fields = ["report_id"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _(
        "A report's number or name, a modifier's number, a part of the expression or the zone; or report:3 "
        "modifier:2014."
    )
    form = ScheduleForm
    readonly_fields = ["state", "fired_by", "words", "next_run", "upcoming", "last_outcomes"]
    fieldsets = FIELDSETS

    def get_queryset(self, request: HttpRequest) -> QuerySet[ReportSchedule]:
        """With each schedule's newest rows: one index look-up for each, and no further query."""
        newest = ReportQueue.objects.filter(schedule=OuterRef("pk")).order_by("-trigger_time")
        why = Case(When(status=Status.SKIPPED, then=Left("error", 300)), default=Value(""))
        rows = newest.values(row=JSONObject(id="pk", status="status", why=why))[:LAST_OUTCOMES]
        schedules: QuerySet[ReportSchedule] = super().get_queryset(request).annotate(newest=ArraySubquery(rows))
        return schedules.annotate(**schedule_pattern.read())

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, with a link to the agenda, and a warning if no consumer asks for what the schedules fire."""
        warn_of_consumers(request)
        links = [(gettext("Agenda"), self.address("agenda"))]
        return super().changelist_view(request, {"links": links, **(extra_context or {})})

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> ReportSchedule | None:
        """As Django's. To save an edit, lock the schedule first: the edit is checked against what it replaces."""
        pk = bounds.as_id(object_id)
        if request.method == "POST" and pk is not None and database.connection().in_atomic_block:
            ReportSchedule.objects.select_for_update().filter(pk=pk).values_list("pk").first()
        found: ReportSchedule | None = super().get_object(request, object_id, from_field)
        return found

    def get_list_display(self, request: HttpRequest) -> Any:
        """Without the outcomes for people who may not see the queue's rows."""
        shown_to_all = list(self.list_display)
        if not sees_queue(request):
            shown_to_all.remove("last_outcomes")
        return shown_to_all

    def get_fieldsets(self, request: HttpRequest, obj: ReportSchedule | None = None) -> Any:
        """A new schedule has no next firing and no outcomes yet."""
        what = self._params_fields(request, obj)
        own = list(FIELDSETS)
        if what is not None:
            own[0] = (WHAT, {"fields": ["report_id", "modifier_id", *what.names]})
        if obj is None:
            return own
        fields = ["state", "fired_by", "words", "next_run", "upcoming"]
        fields += ["last_outcomes"] if sees_queue(request) else []
        if not self.has_change_permission(request, obj):  # no inputs, which are in UTC
            own[1] = (WHEN, {"fields": [("start", "end") if one == SPAN else one for one in WHEN_FIELDS]})
        return [(_("Now"), {"fields": fields}), *own]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """With an input for each parameter, if the report has a schema that is simple enough."""
        if (fields := self._params_fields(request, obj)) is not None:
            kwargs["form"] = with_params_fields(fields)
        return super().get_form(request, obj, change, **kwargs)

    def _params_fields(self, request: HttpRequest, obj: ReportSchedule | None) -> ParamsFields | None:
        may_edit = self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)
        if not may_edit:
            return None
        if request.method == "POST":
            # The inputs that the page showed, or those of another report that the person has entered there.
            report_id = chosen_or_shown(request.POST)
        else:
            report_id = bounds.as_id(request.GET.get("report_id", "")) if obj is None else obj.report_id
        return ParamsFields.of(report_id, {} if obj is None or obj.report_id != report_id else obj.params)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """As Django's; with the priority and the attempts of a report that the address names."""
        initial: dict[str, Any] = super().get_changeform_initial_data(request)
        if (report_id := bounds.as_id(str(initial.get("report_id", "")))) is not None:
            terms = catalogue.terms([report_id])[report_id]
            initial = {"priority": terms.priority, "max_attempts": terms.max_attempts} | initial
        return initial

    def formfield_for_dbfield(self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        """The zone's input suggests the names of zones; see the form's template."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "timezone" and field is not None:
            field.widget.attrs["list"] = "time-zones"
        if db_field.name in OWN and field is not None:
            field.help_text = OWN[db_field.name]
        if db_field.name == "report_id" and field is not None:
            field.widget = ReportInput()
        if db_field.name == "modifier_id":
            use_input(field, self.admin_site)
        return field

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: ReportSchedule | None = None,
    ) -> HttpResponse:
        """The form, with the zones' names, the preview, and buttons for what this person may do."""
        context["time_zones"] = sorted(reportcron.zone_names())
        if obj is not None:
            if request.method == "POST":
                # The edit was refused. The form has changed `obj` in memory; the page must show what is stored.
                obj = self.get_queryset(request).get(pk=obj.pk)
                name_all([obj])
                context["adminform"].form.instance = context["original"] = obj
                context["subtitle"] = str(obj)
            context["buttons"] = self.buttons_for(request, obj)
            if self.has_change_permission(request, obj):
                context["reason_hint"] = gettext("Note (optional)")
            if self.has_enqueue_permission(request):
                context["links"] = [(gettext("Backfill…"), self.address("backfill", obj.pk))]
                if sees_queue(request):
                    enqueue = reverse("admin:reportqueue_reportqueue_enqueue", current_app=self.admin_site.name)
                    other = (gettext("Run with other parameters…"), f"{enqueue}?schedule={obj.pk}")
                    context["links"].append(other)
        may_save = self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)
        if may_save:
            context |= self.preview_context(obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def save_model(self, request: HttpRequest, obj: ReportSchedule, form: Any, change: bool) -> None:
        """Save, and show the next firing: that is the quickest way to notice a wrong expression."""
        if "enabled" in form.changed_data and not obj.enabled:
            obj.paused_by, obj.pause_note = request.user.get_username(), ""
        super().save_model(request, obj, form, change)
        if form.changes_timing and obj.day_note:
            self.message_user(request, obj.day_note, messages.WARNING)
        coming = schedule_pattern.next_firing(obj) if change else obj.next_run_at
        if coming is not None:
            own = formats.schedule_clock(coming, obj.timezone)
            text = gettext("The next run is at %(when)s%(local)s.")
            values = {"when": formats.instant_text(coming), "local": f", {own}" if own else ""}
            self.message_user(request, text % values, messages.INFO)
        elif obj.enabled:
            self.message_user(request, gettext("It will not run: no firing is left before its end."), messages.WARNING)

    @admin.display(description=_("timing, time zone"), ordering="cron")
    def timing(self, schedule: ReportSchedule) -> str:
        """The expression, its words, its time zone and its calendar."""
        by = schedule.timezone
        if schedule.calendar is not None:
            by = gettext("%(zone)s, around %(calendar)s") % {"zone": by, "calendar": schedule.calendar.name}
        if not schedule.cron:
            return formats.two_lines(schedule_text.rule(schedule), by)
        code = format_html('<code class="rq-code">{}</code>', schedule.cron)
        return formats.two_lines(formats.two_lines(code, schedule_text.rule(schedule)), by)

    @admin.display(description=_("state"), ordering="enabled")
    def state_in_short(self, schedule: Any) -> str:
        """Whether it fires; below that, who paused it and why, or what is wrong."""
        found = schedule_text.state(schedule, schedule.now, schedule_pattern.late_since(schedule), brief=True)
        below = Truncator(found.detail).chars(DETAIL_SHOWN)
        if schedule.enabled and not schedule_pattern.is_plainly_queued(schedule):
            fired_by = gettext("fired by: %(pattern)s") % {"pattern": schedule_pattern.owner(schedule)}
            below = "; ".join(filter(None, [below, fired_by]))
        return formats.two_lines(found.badge, below)

    @admin.display(description=_("state"))
    def state(self, schedule: Any) -> str:
        """The same, in full."""
        found = schedule_text.state(schedule, schedule.now, schedule_pattern.late_since(schedule))
        return format_html("{} {}", found.badge, found.detail)

    @admin.display(description=_("fired by"))
    def fired_by(self, schedule: Any) -> str:
        """The pattern that owns firings now, and the planned hand-over."""
        return schedule_pattern.owner(schedule)

    @admin.display(description=_("next run"), ordering="next_run_at")
    def next_run(self, schedule: Any) -> str:
        """The next firing; below that, by the schedule's own clock, and how far off it is."""
        if (instant := schedule_pattern.next_firing(schedule)) is None:
            return formats.EMPTY
        own, distance = formats.schedule_clock(instant, schedule.timezone), formats.relative(instant, schedule.now)
        return formats.two_lines(formats.instant(instant), f"{own}, {distance}" if own else distance)

    @admin.display(description=_("start"))
    def start(self, schedule: ReportSchedule) -> str:
        """For a person who may not change it: the first instant at which it may fire."""
        return formats.instant(schedule.start_at)

    @admin.display(description=_("end"))
    def end(self, schedule: ReportSchedule) -> str:
        """The last instant at which it may fire, likewise."""
        return formats.instant(schedule.end_at)

    @admin.display(description=_("fires"))
    def words(self, schedule: ReportSchedule) -> str:
        """When it fires, for people."""
        return schedule_text.sentence(schedule)

    @admin.display(description=_("next firings"))
    def upcoming(self, schedule: Any) -> str:
        """The next firings; for a schedule that does not fire, those that it would have if it were resumed."""
        found = forecast_table.table(schedule, NEXT_FIRINGS)
        if schedule.enabled:
            return found
        return format_html("<p>{}</p>{}", gettext("It would run at these times if it were resumed now:"), found)

    @admin.display(description=_("last outcomes"))
    def last_outcomes(self, schedule: Any) -> str:
        """The newest rows, the latest last, and a link to all of them."""
        if not schedule.newest:
            return formats.EMPTY
        links = [
            (
                f"rq-status rq-{row['status']}",
                reverse("admin:reportqueue_reportqueue_change", args=[row["id"]], current_app=self.admin_site.name),
                f"#{row['id']}: {Status(row['status']).label}" + (f". {row['why']}" if row["why"] else ""),
                formats.SYMBOLS[row["status"]],
            )
            for row in reversed(schedule.newest)
        ]
        everything = reverse("admin:reportqueue_reportqueue_changelist", current_app=self.admin_site.name)
        return format_html(
            '<span class="rq-outcomes">{} <a href="{}?schedule={}">{}</a></span>',
            format_html_join(" ", '<a class="{0}" href="{1}" title="{2}" aria-label="{2}">{3}</a>', links),
            everything,
            schedule.pk,
            gettext("all"),
        )
