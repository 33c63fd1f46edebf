"""The operator's view: schedules to edit, the queue to inspect, and the two things one may do to its rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from reportqueue import queue
from reportqueue.conf import conf
from reportqueue.errors import ReportQueueError
from reportqueue.models import ReportAttempt, ReportQueue, ReportSchedule

if TYPE_CHECKING:
    ScheduleModelAdmin = admin.ModelAdmin[ReportSchedule]
    QueueModelAdmin = admin.ModelAdmin[ReportQueue]
    AttemptInlineBase = admin.TabularInline[ReportAttempt, ReportQueue]
else:
    ScheduleModelAdmin = QueueModelAdmin = admin.ModelAdmin
    AttemptInlineBase = admin.TabularInline

EMPTY = "-"


@admin.register(ReportSchedule)
class ReportScheduleAdmin(ScheduleModelAdmin):
    """Schedules, edited by people; what cannot fire is refused with the field named."""

    list_display = [
        "__str__",
        "report_id",
        "modifier_id",
        "cron",
        "timezone",
        "enabled",
        "next_run_utc",
        "next_run_local",
        "priority",
        "problem",
    ]
    list_filter = ["enabled", "timezone", "report_id"]
    search_fields = ["report_id", "modifier_id", "cron"]
    readonly_fields = ["next_run_utc", "next_run_local", "problem"]
    fieldsets = [
        (None, {"fields": ["report_id", "modifier_id", "params"]}),
        (_("When"), {"fields": ["cron", "timezone", "enabled", "next_run_utc", "next_run_local", "problem"]}),
        (_("How"), {"fields": ["priority", "max_attempts"]}),
    ]

    @admin.display(description=_("next run (UTC)"), ordering="next_run_at")
    def next_run_utc(self, schedule: ReportSchedule) -> str:
        """The next firing in UTC."""
        return _utc(schedule.next_run_at)

    @admin.display(description=_("next run (schedule's time zone)"))
    def next_run_local(self, schedule: ReportSchedule) -> str:
        """The next firing as the schedule's own clock shows it."""
        if schedule.next_run_at is None:
            return EMPTY
        return f"{schedule.next_run_at.astimezone(ZoneInfo(schedule.timezone)):%a %Y-%m-%d %H:%M %Z}"

    @admin.display(description=_("problem"))
    def problem(self, schedule: ReportSchedule) -> str:
        """Why the scheduler disabled it."""
        return schedule.error or EMPTY


class AttemptInline(AttemptInlineBase):
    """A row's history: read only."""

    model = ReportAttempt
    extra = 0
    can_delete = False
    fields = ("attempt", "generation", "run", "started", "finished", "outcome", "progress", "error_text")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only a run adds one, by starting."""
        return False

    @admin.display(description=_("run"))
    def run(self, attempt: ReportAttempt) -> str:
        """The run, with a link to it."""
        return run_link(attempt.run_id)

    @admin.display(description=_("started (UTC)"))
    def started(self, attempt: ReportAttempt) -> str:
        """When it started."""
        return _utc(attempt.started_at)

    @admin.display(description=_("finished (UTC)"))
    def finished(self, attempt: ReportAttempt) -> str:
        """When it ended, however it ended."""
        return _utc(attempt.finished_at)

    @admin.display(description=_("error"))
    def error_text(self, attempt: ReportAttempt) -> str:
        """The traceback, as lines."""
        return preformatted(attempt.error)


@admin.register(ReportQueue)
class ReportQueueAdmin(QueueModelAdmin):
    """The queue: read only but for "requeue" and "cancel", which need their own permissions."""

    list_display = [
        "id",
        "report_id",
        "modifier_id",
        "status_now",
        "due",
        "lateness",
        "attempts_used",
        "source",
        "priority",
        "run",
        "artifacts",
    ]
    list_filter = ["status", "processed", "source", "report_id"]
    search_fields = ["id", "report_id", "modifier_id", "run_id", "idempotency_key"]
    date_hierarchy = None
    ordering = ["-trigger_time", "-id"]
    actions = ["requeue_selected", "cancel_selected"]
    inlines = [AttemptInline]
    show_full_result_count = False  # a COUNT over the whole history at each page is what makes admins slow
    fieldsets = [
        (None, {"fields": ["report_id", "modifier_id", "status_now", "artifacts", "run", "error_text"]}),
        (
            _("Timeline (UTC)"),
            {
                "fields": [
                    "due",
                    "enqueued",
                    "available",
                    "claimed",
                    "dispatched",
                    "started",
                    "finished",
                    "lateness",
                ]
            },
        ),
        (
            _("Protocol"),
            {
                "fields": [
                    "source",
                    "schedule",
                    "priority",
                    "attempts_used",
                    "generation",
                    "claimed_by",
                    "lease",
                ]
            },
        ),
        (_("Content"), {"fields": ["params", "result", "idempotency_key"]}),
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Rows come from schedules, the API and code."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows change through transitions only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Cancel instead: a deleted row would leave its run without an owner."""
        return False

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        """For the action of that name."""
        return request.user.has_perm("reportqueue.requeue_reportqueue")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """For the action of that name."""
        return request.user.has_perm("reportqueue.cancel_reportqueue")

    @admin.action(description=_("Requeue the selected finished reports"), permissions=["requeue"])
    def requeue_selected(self, request: HttpRequest, rows: QuerySet[ReportQueue]) -> None:
        """Each by itself: those that may not be requeued are counted, with the reason."""
        self._each(request, rows, queue.requeue, _("requeued"))

    @admin.action(description=_("Cancel the selected reports"), permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, rows: QuerySet[ReportQueue]) -> None:
        """Each by itself; a running one stops at its next heartbeat."""
        self._each(request, rows, queue.cancel, _("cancelled, or asked to cancel if running"))

    def _each(
        self, request: HttpRequest, rows: QuerySet[ReportQueue], verb: Callable[..., ReportQueue], done: Any
    ) -> None:
        succeeded: list[ReportQueue] = []
        refused: list[str] = []
        reason = f"{verb.__name__} by {request.user.get_username()} in the admin"
        for pk in rows.values_list("pk", flat=True):
            try:
                succeeded.append(verb(pk, reason=reason))
            except ReportQueueError as error:
                refused.append(f"#{pk}: {error}")
        if succeeded:
            LogEntry.objects.log_actions(int(request.user.pk or 0), succeeded, CHANGE, change_message=reason)
            text = ngettext("%(count)d report %(done)s.", "%(count)d reports %(done)s.", len(succeeded))
            self.message_user(request, text % {"count": len(succeeded), "done": done}, messages.SUCCESS)
        if refused:
            text = ngettext("%(count)d report refused: %(why)s", "%(count)d reports refused: %(why)s", len(refused))
            shown = " ".join(refused[:5]) + (" ..." if len(refused) > 5 else "")
            self.message_user(request, text % {"count": len(refused), "why": shown}, messages.WARNING)

    @admin.display(description=_("status"), ordering="status")
    def status_now(self, row: ReportQueue) -> str:
        """The status, and whether a running row has been asked to stop."""
        return f"{row.get_status_display()} (cancel requested)" if row.cancel_requested else row.get_status_display()

    @admin.display(description=_("due (UTC)"), ordering="trigger_time")
    def due(self, row: ReportQueue) -> str:
        """The nominal instant."""
        return _utc(row.trigger_time)

    @admin.display(description=_("due to done"))
    def lateness(self, row: ReportQueue) -> str:
        """Seconds from due to done; for an open row, how late it is by now."""
        if row.finished_at is not None:
            return f"{(row.finished_at - row.trigger_time).total_seconds():.1f} s"
        late = (timezone.now() - row.trigger_time).total_seconds()
        return f"open for {late:.0f} s" if late > 0 else f"in {-late:.0f} s"

    @admin.display(description=_("attempts"))
    def attempts_used(self, row: ReportQueue) -> str:
        """Used and allowed."""
        return f"{row.attempt} of {row.max_attempts}"

    @admin.display(description=_("run"))
    def run(self, row: ReportQueue) -> str:
        """The last run, with a link to it."""
        return run_link(row.run_id)

    @admin.display(description=_("artifacts"))
    def artifacts(self, row: ReportQueue) -> str:
        """Links to what the run made: its result's `artifacts`, names to addresses."""
        found = row.result.get("artifacts") if isinstance(row.result, dict) else None
        links = [
            (address, name)
            for name, address in (found.items() if isinstance(found, dict) else ())
            if isinstance(address, str) and address.startswith(("https://", "http://", "/"))
        ]
        return format_html_join(" ", '<a href="{}">{}</a>', links) or EMPTY

    @admin.display(description=_("error"))
    def error_text(self, row: ReportQueue) -> str:
        """The traceback, as lines."""
        return preformatted(row.error)

    @admin.display(description=_("lease until (UTC)"))
    def lease(self, row: ReportQueue) -> str:
        """Until when its holder may be silent."""
        return _utc(row.lease_expires_at)

    @admin.display(description=_("enqueued"))
    def enqueued(self, row: ReportQueue) -> str:
        """When the row was made."""
        return _utc(row.created_at)

    @admin.display(description=_("available"))
    def available(self, row: ReportQueue) -> str:
        """When it may first be claimed."""
        return _utc(row.available_at)

    @admin.display(description=_("claimed"))
    def claimed(self, row: ReportQueue) -> str:
        """When a consumer took it."""
        return _utc(row.claimed_at)

    @admin.display(description=_("dispatched"))
    def dispatched(self, row: ReportQueue) -> str:
        """When the consumer confirmed it."""
        return _utc(row.dispatched_at)

    @admin.display(description=_("started"))
    def started(self, row: ReportQueue) -> str:
        """When its last run started."""
        return _utc(row.started_at)

    @admin.display(description=_("finished"))
    def finished(self, row: ReportQueue) -> str:
        """When it ended."""
        return _utc(row.finished_at)


def run_link(run_id: str) -> str:
    """A run's id as a link to where people look at it, by the `RUN_URL` setting."""
    if not run_id:
        return EMPTY
    if not conf().run_url:
        return run_id
    return format_html('<a href="{}">{}</a>', conf().run_url.replace("{run_id}", run_id), run_id[:8])


def preformatted(text: str) -> str:
    """A traceback, readable."""
    return format_html('<pre style="white-space: pre-wrap; margin: 0">{}</pre>', text) if text else EMPTY


def _utc(instant: datetime | None) -> str:
    # Not the project's display zone: an operator compares these with logs and with Dagster.
    return instant.strftime("%Y-%m-%d %H:%M:%S") if instant else EMPTY
