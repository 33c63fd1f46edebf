"""Schedules in the admin: edited by people, with what comes next and what came of the last firings beside them."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import Any
from zoneinfo import available_timezones

from django.contrib import admin, messages
from django.contrib.postgres.expressions import ArraySubquery
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Field, OuterRef, QuerySet
from django.db.models.functions import JSONObject
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue import cron, schedules
from reportqueue.admin import search, shown
from reportqueue.admin.filters import EnabledFilter, ProblemFilter, ReportFilter, TimezoneFilter
from reportqueue.admin.lists import ListAdmin
from reportqueue.admin.operations import MAX_AT_ONCE
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Source, Status

LAST_OUTCOMES = 5
NEXT_FIRINGS = 5


@admin.register(ReportSchedule)
class ReportScheduleAdmin(ListAdmin):
    """Schedules, edited by people; what cannot fire is refused with the field named."""

    list_display = [
        "report_id",
        "modifier_id",
        "timing",
        "enabled",
        "next_run",
        "priority",
        "last_outcomes",
    ]
    list_display_links = ["report_id", "modifier_id", "timing"]
    list_filter = [EnabledFilter, ProblemFilter, ReportFilter, TimezoneFilter]
    find = search.find_schedules
    search_fields = ["report_id"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _("A report's or a modifier's number, a part of the expression or the zone; or report:3.")
    actions = ["enable_selected", "disable_selected", "run_selected"]
    readonly_fields = ["next_run", "upcoming", "last_outcomes", "problem"]
    fieldsets = [
        (None, {"fields": ["report_id", "modifier_id", "params"]}),
        (_("When"), {"fields": ["cron", "timezone", "enabled"]}),
        (_("How"), {"fields": ["priority", "max_attempts"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ReportSchedule]:
        """With each schedule's newest rows: one look into an index for each, and no query."""
        newest = ReportQueue.objects.filter(schedule=OuterRef("pk")).order_by("-trigger_time")
        rows = newest.values(row=JSONObject(id="pk", status="status"))[:LAST_OUTCOMES]
        schedules: QuerySet[ReportSchedule] = super().get_queryset(request).annotate(newest=ArraySubquery(rows))
        return schedules

    def get_list_display(self, request: HttpRequest) -> Any:
        """Without the queue's rows for those who may not see them."""
        shown_to_all = list(self.list_display)
        if not _sees_queue(request):
            shown_to_all.remove("last_outcomes")
        return shown_to_all

    def get_fieldsets(self, request: HttpRequest, obj: ReportSchedule | None = None) -> Any:
        """A new schedule has no next firing and no outcomes yet."""
        fieldsets: list[Any] = list(self.fieldsets)
        if obj is not None:
            fields = ["problem", "next_run", "upcoming"]
            fields += ["last_outcomes"] if _sees_queue(request) else []
            fieldsets.insert(2, (_("Firings"), {"fields": fields}))
        return fieldsets

    def formfield_for_dbfield(self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        """The zone with a list of names to complete it from; see the form's template."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "timezone" and field is not None:
            field.widget.attrs["list"] = "time-zones"
        return field

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """The form, with the zones' names."""
        context["time_zones"] = _time_zones()
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: ReportSchedule, form: Any, change: bool) -> None:
        """Saves, and says when it fires: the quickest way to notice a wrong expression."""
        super().save_model(request, obj, form, change)
        if obj.next_run_at is not None:
            own = shown.local(obj.next_run_at, obj.timezone)
            text = gettext("The next run is at %(utc)s UTC%(local)s.")
            values = {"utc": shown.utc(obj.next_run_at), "local": f" ({own})" if own else ""}
            self.message_user(request, text % values, messages.INFO)

    def has_enqueue_permission(self, request: HttpRequest) -> bool:
        """For the action that queues reports."""
        return request.user.has_perm("reportqueue.add_reportqueue")

    @admin.action(description=_("Enable the selected schedules"), permissions=["change"])
    def enable_selected(self, request: HttpRequest, selected: QuerySet[ReportSchedule]) -> None:
        """Planned from now on: what passed while they were disabled is not made up for."""
        self._switch(request, selected, enabled=True)

    @admin.action(description=_("Disable the selected schedules"), permissions=["change"])
    def disable_selected(self, request: HttpRequest, selected: QuerySet[ReportSchedule]) -> None:
        """They fire no more; what is queued already stays queued."""
        self._switch(request, selected, enabled=False)

    @admin.action(description=_("Queue the selected schedules' reports now"), permissions=["enqueue"])
    def run_selected(self, request: HttpRequest, selected: QuerySet[ReportSchedule]) -> None:
        """Once, beside the planned firings, which stay as they are; disabled ones too."""
        if (chosen := self._chosen(request, selected)) is None:
            return
        with transaction.atomic():
            for schedule in chosen:
                schedules.run_now(schedule.pk, source=Source.ADMIN)
                self.log_change(request, schedule, "Report queued by hand in the admin")
        text = ngettext("%(count)s report queued.", "%(count)s reports queued.", len(chosen))
        self.message_user(request, text % {"count": len(chosen)}, messages.SUCCESS)

    def _switch(self, request: HttpRequest, selected: QuerySet[ReportSchedule], *, enabled: bool) -> None:
        done, same, refused = 0, 0, []
        for chosen in self._chosen(request, selected) or []:
            try:
                with transaction.atomic():
                    # Read again under its lock: the next firing is planned from the timing as it now stands.
                    schedule = ReportSchedule.objects.select_for_update().filter(pk=chosen.pk).first()
                    if schedule is None or schedule.enabled == enabled:
                        same += 1
                        continue
                    schedule.enabled = enabled
                    schedule.save(update_fields=["enabled"])
                    self.log_change(request, schedule, "Enabled in the admin" if enabled else "Disabled in the admin")
                done += 1
            except ValidationError as error:
                refused.append(f"{chosen}: {' '.join(error.messages)}")
        if done and enabled:
            text = ngettext("%(count)s schedule enabled.", "%(count)s schedules enabled.", done)
            self.message_user(request, text % {"count": done}, messages.SUCCESS)
        elif done:
            text = ngettext("%(count)s schedule disabled.", "%(count)s schedules disabled.", done)
            self.message_user(request, text % {"count": done}, messages.SUCCESS)
        if same:
            text = ngettext("%(count)s was so already.", "%(count)s were so already.", same)
            self.message_user(request, text % {"count": same}, messages.INFO)
        if refused:
            text = ngettext("%(count)s schedule refused: %(why)s", "%(count)s schedules refused: %(why)s", len(refused))
            why = " ".join(refused[:5]) + (" …" if len(refused) > 5 else "")
            self.message_user(request, text % {"count": len(refused), "why": why}, messages.WARNING)

    def _chosen(self, request: HttpRequest, selected: QuerySet[ReportSchedule]) -> list[ReportSchedule] | None:
        chosen = list(selected[: MAX_AT_ONCE + 1])
        if len(chosen) <= MAX_AT_ONCE:
            return chosen
        text = gettext("More than %(max)s schedules are selected, as many as can be done at once. Nothing was changed.")
        self.message_user(request, text % {"max": f"{MAX_AT_ONCE:,}"}, messages.ERROR)
        return None

    @admin.display(description=_("cron, time zone"), ordering="cron")
    def timing(self, schedule: ReportSchedule) -> str:
        """The expression, unbroken, and the zone in which it holds."""
        return shown.two_lines(format_html('<code class="rq-code">{}</code>', schedule.cron), schedule.timezone)

    @admin.display(description=_("next run (UTC)"), ordering="next_run_at")
    def next_run(self, schedule: Any) -> str:
        """The next firing in UTC; below, as the schedule's own clock shows it, and how far off it is.

        For a disabled one, why the scheduler has disabled it.
        """
        if (instant := schedule.next_run_at) is None:
            if schedule.enabled:
                return gettext("not planned yet")
            return shown.two_lines(gettext("disabled"), self.problem(schedule) if schedule.error else "")
        own = shown.local(instant, schedule.timezone)
        if (schedule.now - instant).total_seconds() > shown.LATE_SECONDS:
            text = gettext("overdue by %(time)s: is the scheduler running?")
            text %= {"time": shown.duration(schedule.now - instant)}
            return shown.two_lines(shown.utc(instant), format_html('<strong class="rq-late">{}</strong>', text))
        distance = shown.relative(instant, schedule.now)
        return shown.two_lines(shown.utc(instant), f"{own}, {distance}" if own else distance)

    @admin.display(description=_("after that"))
    def upcoming(self, schedule: ReportSchedule) -> str:
        """The firings after the next one, as they will be if nothing is changed."""
        if schedule.next_run_at is None:
            return shown.EMPTY
        try:
            later = cron.between(schedule.cron, schedule.timezone, schedule.next_run_at, cron.LAST)
            instants = list(islice(later, NEXT_FIRINGS))
        except cron.CronError as error:
            return str(error)
        lines = ((shown.utc(instant), shown.local(instant, schedule.timezone)) for instant in instants)
        body = format_html_join("", "<tr><td>{} UTC</td><td>{}</td></tr>", lines)
        return format_html('<table class="rq-table">{}</table>', body)

    @admin.display(description=_("last outcomes"))
    def last_outcomes(self, schedule: Any) -> str:
        """The newest rows, the latest last, and a link to all of them."""
        if not schedule.newest:
            return shown.EMPTY
        links = [
            (
                f"rq-status rq-{row['status']}",
                reverse("admin:reportqueue_reportqueue_change", args=[row["id"]], current_app=self.admin_site.name),
                f"#{row['id']}: {Status(row['status']).label}",
                shown.SYMBOLS[row["status"]],
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

    @admin.display(description=_("problem"))
    def problem(self, schedule: ReportSchedule) -> str:
        """Why the scheduler disabled it."""
        return format_html('<strong class="rq-failed">✗ {}</strong>', schedule.error) if schedule.error else shown.EMPTY


def _sees_queue(request: HttpRequest) -> bool:
    return request.user.has_perm("reportqueue.view_reportqueue")


@lru_cache(maxsize=1)
def _time_zones() -> list[str]:
    return sorted(available_timezones() - {"localtime", "Factory"})
