"""The queue in the admin: read only but for its two operations, with everything about a row on one page."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.views.main import SEARCH_VAR
from django.contrib.auth import get_user_model
from django.db.models import Field
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from reportqueue import queue
from reportqueue.admin import actions, exports, formats, road, search
from reportqueue.admin.bulk import BulkAdmin
from reportqueue.admin.changelists import PartsPaginator, QueueChangeList, ReadOnlyAdmin
from reportqueue.admin.consumers import STANDING, warn_of_consumers
from reportqueue.admin.enqueue import EnqueuingAdmin
from reportqueue.admin.exports import ExportedAdmin
from reportqueue.admin.failures import FailuresAdmin
from reportqueue.admin.filters import (
    DueFilter,
    FailureFilter,
    NowFilter,
    ProcessedFilter,
    ReportFilter,
    RowRouteFilter,
    ScheduleFilter,
    SourceFilter,
    StatusFilter,
)
from reportqueue.admin.live import NotifyingAdmin
from reportqueue.admin.queue_actions import OperableAdmin
from reportqueue.admin.zone_chooser import ZoneChoosingAdmin
from reportqueue.models import ReportQueue, lists
from reportqueue.models.audit import Kind
from reportqueue.models.report import DEFAULT_ROUTE
from reportqueue.states import FINAL, Status
from reportqueue.waiting_reasons import why_waiting

NARROWING = ("source", "report_id", "modifier_id", "schedule", SEARCH_VAR)
"""Parameters of the list whose conditions have an index."""
LATE = _("It has been due for more than a minute, and has not started.")
ATTEMPTS_SHOWN = 50
"""How many attempts of a row are shown, the newest. A row that is often requeued has many."""


@admin.register(ReportQueue)
class ReportQueueAdmin(
    OperableAdmin,
    EnqueuingAdmin,
    BulkAdmin,
    FailuresAdmin,
    NotifyingAdmin,
    ZoneChoosingAdmin,
    ExportedAdmin,
    ReadOnlyAdmin,
):
    """The queue: read only but for "requeue" and "cancel", which need their own permissions.

    Rows come from schedules, the API and code, and change through transitions only. They are cancelled, not deleted:
    a deleted row would leave its run without an owner.
    """

    list_display = [
        "id",
        "report",
        "modifier",
        "status_and_error",
        "due",
        "lateness",
        "source_and_priority",
        "run_and_artifacts",
    ]
    list_display_links = ["id", "report", "modifier"]
    list_filter = [
        *(
            NowFilter,
            StatusFilter,
            ProcessedFilter,
            SourceFilter,
            ReportFilter,
            RowRouteFilter,
            DueFilter,
            ScheduleFilter,
            FailureFilter,
        )
    ]
    list_select_related = ["schedule"]
    audited = Kind.ROW
    changelist_class = QueueChangeList
    exported = exports.ROWS
    find = search.find_rows
    search_fields = ["id"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _(
        "The number of a row or a report, a part of a report's name, the begin of a run's id, an idempotency key; or "
        "report:3 report:weather modifier:2014 route:finance schedule:5 id:7 run:0b1f key:order-7. All words must "
        "match."
    )
    ordering = ["-trigger_time", "-id"]
    sortable_by = ["id", "due"]  # What an index orders; another column would sort the whole history.
    fieldsets = [
        (
            None,
            {"fields": ["report", "modifier", "status_now", "erased", "lateness", "run", "artifacts", "error_text"]},
        ),
        (_("History"), {"fields": ["road", "timeline", "attempts", "queued_by", "bulk_actions", "neighbours"]}),
        (_("Content"), {"fields": ["params_text", "result_text", "idempotency_key"]}),
        (
            _("Protocol"),
            {
                "fields": [
                    "source",
                    "schedule",
                    "route",
                    "priority",
                    "expires",
                    "deadline",
                    "attempts_used",
                    "goes_alone",
                    "run_key",
                    "trace",
                    "holder",
                ]
            },
        ),
    ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, with a warning above it at a standstill, and if nobody asks for rows.

        Its template shows how many rows an action takes.
        """
        if request.method == "GET" and (stalled := queue.standstill()) is not None:
            messages.warning(request, formats.sentence(stalled), STANDING)
        warn_of_consumers(request)
        links = [(gettext("Queue a report…"), self.address("enqueue"))] if self.may_enqueue(request) else []
        links += self.bulk_links(request)
        links.append((gettext("Failures"), self.address("failures")))
        legend = gettext(
            "Bold: it has been due for more than a minute and has not started, or it has missed its deadline."
        )
        context = {
            "max_at_once": actions.MAX_AT_ONCE,
            "links": links,
            "bulk_hint": self.bulk_hint(request),
            "legend": legend,
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def get_paginator(self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **kwargs: Any) -> Any:
        """For the list: in parts that each have an index; see `models.lists`. Others are as Django's."""
        if queryset.model is not self.model:  # the log entries of a row's history
            return super().get_paginator(request, queryset, per_page, *args, **kwargs)
        asked = request.GET
        one = (StatusFilter.parameter_name, NowFilter.parameter_name, FailureFilter.parameter_name)
        if any(name in asked for name in one) or asked.get(ProcessedFilter.parameter_name) == "no":
            return PartsPaginator(queryset, per_page, [queryset])
        statuses = FINAL if ProcessedFilter.parameter_name in asked else set(Status)
        narrowed = any(asked.get(name) for name in NARROWING)
        return PartsPaginator(queryset, per_page, lists.by_trigger_time(queryset, statuses, narrowed=narrowed))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Without what this row does not have: an API user, a trace, erased data."""
        shown = super().get_fieldsets(request, obj)
        if obj is None:
            return shown
        values = {"holder": obj.api_user, "trace": obj.traceparent, "erased": obj.erased_at}
        without = {name for name, value in values.items() if not value}
        return [
            (name, {**options, "fields": [field for field in options["fields"] if field not in without]})
            for name, options in shown
        ]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """As Django's, live."""
        return super().changeform_view(request, object_id, form_url, {**self.live(request), **(extra_context or {})})

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """A row's page, with a button for each operation that this person may do to it now, and a link to copy it.

        The page of a finished row is not live.
        """
        if obj is not None:
            context["links"] = self.links_to_failures(obj)
            if self.may_enqueue(request) and obj.erased_at is None:
                copy = f"{self.address('enqueue')}?copy_of={obj.pk}"
                context["links"].insert(0, (gettext("Queue a copy with other parameters…"), copy))
            if obj.processed:
                context.pop("live", None)
        context["buttons"] = self.buttons_for(request, obj) if obj else []
        context["reason_hint"] = gettext("Reason (optional)")
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description=_("status"))
    def status_now(self, row: ReportQueue) -> str:
        """The status, and why a queued row waits; whether a running row was asked to cancel, skipped firings."""
        facts = row.result if isinstance(row.result, dict) else {}
        badge = self._badge(row, facts.get("count"), facts.get("complete"))
        if row.waiting:
            badge = format_html("{}, {}", badge, self._waiting(queue.turn_before(row)))
        why = ((formats.sentence(one),) for one in why_waiting(row))
        return format_html("{}{}", badge, format_html_join("", '<div class="rq-why">{}</div>', why))

    @admin.display(description=_("status"))
    def status_and_error(self, row: Any) -> str:
        """The status, with the report for which it waits, why it was skipped, or the last line of its error."""
        badge = self._badge(row, row.skipped_count, row.skipped_complete)
        if row.waiting:
            return formats.two_lines(badge, self._waiting(row.turn))
        return formats.two_lines(badge, formats.last_line(row.error_end, 200 if row.status == Status.SKIPPED else 120))

    def _badge(self, row: ReportQueue, count: Any, complete: Any) -> str:
        label = row.get_status_display()
        if row.cancel_requested:
            label = gettext("%(status)s, asked to cancel") % {"status": label}
        elif row.status == Status.SKIPPED and isinstance(count, int) and count > 1:
            text = (
                gettext("%(status)s, %(count)s firings or more")
                if complete is False
                else gettext("%(status)s, %(count)s firings")
            )
            label = text % {"status": label, "count": f"{count:,}"}
        return formats.badge(row.status, label)

    def _waiting(self, pk: int | None) -> str:
        if pk is None:  # it has just ended
            return gettext("waits for its turn")
        link = format_html('<a href="{}">#{}</a>', self.address("change", pk), pk)
        return format_html(gettext("waits until {} has ended"), link)

    @admin.display(description=_("due"), ordering="trigger_time")
    def due(self, row: ReportQueue) -> str:
        """`trigger_time`; below that, by the schedule's own clock."""
        zone = row.schedule.timezone if row.schedule else "UTC"
        return formats.two_lines(formats.instant(row.trigger_time), formats.schedule_clock(row.trigger_time, zone))

    @admin.display(description=_("lateness"))
    def lateness(self, row: Any) -> str:
        """How late it is or was, and how long it took."""
        late, then = formats.lateness(row, row.now)
        missed = formats.missed_deadline(row, row.now)
        if formats.is_late(row, row.now):
            late = format_html('<strong class="rq-late" title="{}">{}</strong>', LATE, late)
        if missed:
            late = formats.two_lines(late, format_html('<strong class="rq-late">{}</strong>', missed))
        return formats.two_lines(late, then)

    @admin.display(description=_("expires"))
    def expires(self, row: ReportQueue) -> str:
        """When it is skipped if it has not started."""
        return _until(row, "expires_at")

    @admin.display(description=_("erased"))
    def erased(self, row: ReportQueue) -> str:
        """When its data were erased."""
        return _until(row, "erased_at")

    @admin.display(description=_("deadline"))
    def deadline(self, row: ReportQueue) -> str:
        """When it is late if it has not succeeded."""
        return _until(row, "deadline_at")

    @admin.display(description=_("attempts"))
    def attempts_used(self, row: ReportQueue) -> str:
        """Used and allowed."""
        return gettext("%(used)s of %(allowed)s") % {"used": row.attempt, "allowed": row.max_attempts}

    @admin.display(description=_("source"))
    def source_and_priority(self, row: ReportQueue) -> str:
        """Its source; its priority unless that is 0, and its route unless that is the default."""
        priority = gettext("priority %(number)s") % {"number": row.priority} if row.priority else ""
        route = gettext("route %(name)s") % {"name": row.route} if row.route != DEFAULT_ROUTE else ""
        return formats.two_lines(formats.two_lines(row.get_source_display(), route), priority)

    @admin.display(description=_("run, artifacts"))
    def run_and_artifacts(self, row: Any) -> str:
        """Links to the last run and to its artifacts, and how many attempts are used."""
        used = formats.two_lines(self.run(row), gettext("attempt %(used)s") % {"used": self.attempts_used(row)})
        shown = used if row.attempt or row.run_id else formats.EMPTY
        return formats.two_lines(shown, formats.artifact_links(row.artifacts_made) if row.artifacts_made else "")

    @admin.display(description=_("run"))
    def run(self, row: ReportQueue) -> str:
        """The last run, with a link to it."""
        return formats.run_link(row.run_id, row.claimed_by)

    @admin.display(description=_("artifacts"))
    def artifacts(self, row: ReportQueue) -> str:
        """Links to the artifacts in the row's result."""
        return formats.artifact_links(row.result.get("artifacts") if isinstance(row.result, dict) else None)

    @admin.display(description=_("error or reason"))
    def error_text(self, row: ReportQueue) -> str:
        """The last error, or why it was cancelled or skipped."""
        return formats.traceback(row.error, unfolded=True)

    @admin.display(description=_("road"))
    def road(self, row: Any) -> str:
        """Its way from when it was due to its end, as a picture."""
        return road.picture(row, row.now)

    @admin.display(description=_("before and after it"))
    def neighbours(self, row: ReportQueue) -> str:
        """The rows before and after it of the same schedule, or of the same report and modifier."""
        named = zip((gettext("before"), gettext("after")), road.neighbours(row), strict=True)
        links = [
            (text, self.address("change", one.pk), formats.instant_text(one.trigger_time), one.get_status_display())
            for text, one in named
            if one is not None
        ]
        return format_html_join(" ", '<span class="rq-line">{}: <a href="{}">{}, {}</a></span>', links) or formats.EMPTY

    @admin.display(description=_("timeline"))
    def timeline(self, row: Any) -> str:
        """Every instant of the row."""
        return road.timeline(row)

    @admin.display(description=_("attempts"))
    def attempts(self, row: Any) -> str:
        """The newest attempts, the latest first: which run, how it ended, its traceback."""
        found = list(row.attempts.order_by("-id")[: ATTEMPTS_SHOWN + 1])
        if not found:
            return formats.EMPTY
        lines = [
            {
                "attempt": attempt,
                "run": formats.run_link(attempt.run_id, row.claimed_by),
                "parent": formats.run_link(attempt.parent_run_id, row.claimed_by) if attempt.parent_run_id else "",
                "started": formats.instant(attempt.started_at),
                "took": formats.duration((attempt.finished_at or row.now) - attempt.started_at),
                "outcome": formats.badge(
                    attempt.outcome or "running", attempt.get_outcome_display() or gettext("Running")
                ),
                "error": formats.traceback(attempt.error, unfolded=False) if attempt.error else "",
            }
            for attempt in found[:ATTEMPTS_SHOWN]
        ]
        more = len(found) > ATTEMPTS_SHOWN
        return render_to_string("admin/reportqueue/attempts.html", {"lines": lines, "more": more})

    @admin.display(description=_("parameters"))
    def params_text(self, row: ReportQueue) -> str:
        """The report's parameters."""
        return formats.json_block(row.params)

    @admin.display(description=_("result"))
    def result_text(self, row: ReportQueue) -> str:
        """The result of its last run."""
        return formats.json_block(row.result)

    @admin.display(description=_("next run"))
    def goes_alone(self, row: ReportQueue) -> str:
        """Whether its next run may make other reports too."""
        if not row.alone:
            return gettext("may make other reports as well")
        return gettext("makes this report alone: an earlier run ended with it, or was interrupted in it")

    @admin.display(description=_("API user"))
    def holder(self, row: ReportQueue) -> str:
        """The user whose consumer or run has the row: no other user may go on with it."""
        if not row.api_user:
            return formats.EMPTY
        user = get_user_model()._default_manager.filter(pk=row.api_user).first()
        return gettext("%(key)s, deleted") % {"key": row.api_user} if user is None else user.get_username()

    @admin.display(description=_("run key"))
    def run_key(self, row: ReportQueue) -> str:
        """The run key of its last claim."""
        return row.run_key or formats.EMPTY

    @admin.display(description=_("trace"))
    def trace(self, row: ReportQueue) -> str:
        """The trace of the request or the firing that queued it."""
        return formats.trace_link(row.traceparent)


def _until(row: ReportQueue, name: str) -> str:
    """An instant of the row, and what it is for."""
    shown, field = formats.instant(getattr(row, name)), cast("Field[Any, Any]", row._meta.get_field(name))
    return shown if shown == formats.EMPTY else formats.two_lines(shown, str(field.help_text))
