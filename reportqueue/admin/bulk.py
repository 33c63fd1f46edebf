"""Bulk actions from the queue's list: what one would do, its start, its page with its progress, and orders to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.views.main import ALL_VAR, ORDER_VAR, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from reportqueue import bulk
from reportqueue.admin import formats, live
from reportqueue.admin.actions import reason_of
from reportqueue.admin.changelists import ListAdmin
from reportqueue.admin.filters import DueFilter, NowFilter
from reportqueue.clock import database_now
from reportqueue.errors import BulkActionNotFound, ReportQueueError
from reportqueue.models import BulkAction, BulkActionRow, ReportQueue
from reportqueue.models.bulk import OPEN, BulkStatus, BulkVerb
from reportqueue.states import Status, Verb

ROWS_SHOWN = 20
"""Rows that an action has changed, the newest, on its page; and actions that have changed a row, on its page."""
ORDERS = {
    "pause": (bulk.pause, _("Pause")),
    "resume": (bulk.resume, _("Resume")),
    "stop": (bulk.stop, _("Stop")),
    "undo": (bulk.undo, _("Undo")),
}
UNDO_SAYS = {
    Verb.REQUEUE: _(
        "Undo cancels the rows that this action has queued and that have not been handed out, started or changed "
        "since. They do not get their old errors and results back."
    ),
    Verb.CANCEL: _(
        "Undo queues the rows again that this action has cancelled and that have not changed since; those that were "
        "due later wait until then. What was running when it was asked to end stays as it is."
    ),
}
"""What the undo of a verb does: it acts at once."""
TITLES = {
    Verb.REQUEUE: _("Requeue all reports that match"),
    Verb.CANCEL: _("Cancel all reports that match"),
}
LINKS = {
    Verb.REQUEUE: _("Requeue all that match…"),
    Verb.CANCEL: _("Cancel all that match…"),
}
_SAME = ("status", "source", "route", "report_id", "modifier_id", "schedule", "failure")
"""Parameters of the list that the API's filters have under the same name and with the same values."""
_IGNORED = (PAGE_VAR, ORDER_VAR, ALL_VAR)
"""Parameters of the list that leave out no row."""
_WITHOUT_FILTER = {SEARCH_VAR: _("search"), NowFilter.parameter_name: NowFilter.title}
"""Parameters of the list that the API has no filter for, with their names for people."""


def as_filters(params: QueryDict) -> dict[str, Any] | None:
    """The API's filters for the parameters of the queue's list; None if one of them has no filter, or is not valid."""
    due = DueFilter.form_class({name: params[name] for name in params if name in DueFilter.form_class.base_fields})
    if not due.is_valid():
        return None
    found: dict[str, Any] = {}
    for name in params:
        value = str(params[name])
        if name in _SAME or name == "processed":
            if value or name not in ("report_id", "modifier_id"):  # an input that is left empty is no condition
                found[name] = {"yes": "true", "no": "false"}.get(value, "") if name == "processed" else value
        elif name not in _IGNORED and name not in due.fields and (name != SEARCH_VAR or value.strip()):
            return None
    if day := due.cleaned_data["due_from"]:
        found["trigger_time_after"] = datetime.combine(day, time(), UTC).isoformat()
    if day := due.cleaned_data["due_until"]:
        found["trigger_time_before"] = datetime.combine(day + timedelta(days=1), time(), UTC).isoformat()
    return found


def refusals(action: BulkAction) -> SafeString:
    """The reasons for which rows were refused, each with how many."""
    return format_html_join("", "<li>{}: {}</li>", ((why.rstrip("."), f"{n:,}") for why, n in action.refused.items()))


def words(filters: Mapping[str, Any], titles: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """The filters for people: the label and the value of each. `titles`: of failures, if they are known."""
    return [(label, formats.sentence(value)) for label, value in bulk.words(filters, titles)]


def matched(action: BulkAction) -> str:
    """How many rows an action is about, in words."""
    if action.total is None:
        return gettext("an unknown number")
    return (gettext("%(count)s or more") if action.more else "%(count)s") % {"count": f"{action.total:,}"}


class BulkAdmin(ListAdmin):
    """The pages, for the queue's list."""

    def get_urls(self) -> list[Any]:
        """Django's, and the addresses of these pages."""
        wrap, prefix = self.admin_site.admin_view, "reportqueue_reportqueue_bulk"
        own = [
            path("bulk/", wrap(self.bulk_view), name=prefix),
            path("bulk/<int:pk>/", wrap(self.bulk_action_view), name=f"{prefix}_action"),
            *[
                path(f"bulk/<int:pk>/{name}/", wrap(self.bulk_order_view), {"name": name}, name=f"{prefix}_{name}")
                for name in ORDERS
            ],
        ]
        return [*own, *super().get_urls()]

    def bulk_links(self, request: HttpRequest) -> list[tuple[str, str]]:
        """For a filtered list, a link for each verb that this person may do to all rows that match."""
        given = as_filters(request.GET)
        found = []
        for verb in (Verb.REQUEUE, Verb.CANCEL) if given else ():
            if request.user.has_perm(f"reportqueue.{verb}_reportqueue"):
                try:
                    wanted = bulk.checked(verb, given or {})
                except ValidationError:
                    continue
                if wanted:
                    query = urlencode({"verb": verb.value, **wanted}, doseq=True)
                    found.append((str(LINKS[verb]), f"{self.address('bulk')}?{query}"))
        return found

    def bulk_hint(self, request: HttpRequest) -> str:
        """For a list without these links: what has to be removed from it first. Empty for who may do neither."""
        there = [str(label) for name, label in _WITHOUT_FILTER.items() if request.GET.get(name, "").strip()]
        if not there or not any(request.user.has_perm(f"reportqueue.{verb}_reportqueue") for verb in TITLES):
            return ""
        text = gettext(
            "All that match can be requeued or cancelled for filters by status, report, modifier, due day, source, "
            "route, schedule and failure. Remove this first: %(names)s."
        )
        return text % {"names": ", ".join(there)}

    def bulk_view(self, request: HttpRequest) -> HttpResponse:
        """GET: what would be done to which rows. POST: start it, with the filters of the address."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        given: dict[str, Any] = {name: request.GET.getlist(name) for name in request.GET}
        verb, all_rows = given.pop("verb", [""])[-1], given.pop("all", [""])[-1] == "true"
        if verb not in BulkVerb.values:
            self.message_user(request, gettext("Choose what to do from the queue's list."), messages.ERROR)
            return HttpResponseRedirect(self.address("changelist"))
        if not request.user.has_perm(f"reportqueue.{verb}_reportqueue"):
            raise PermissionDenied
        reason, found, problems = reason_of(request), None, []
        try:
            wanted = bulk.checked(Verb(verb), given)
            if request.method == "POST":
                by = request.user.get_username()
                action = bulk.start(verb, wanted, reason=reason, by=by, all_rows=all_rows)
                return HttpResponseRedirect(self.address("bulk_action", action.pk))
            if wanted or all_rows:
                found = bulk.preview(Verb(verb), wanted)
            else:
                problems.append(gettext("Choose rows by a filter of the queue's list first."))
        except ValidationError as error:
            problems += [f"{name}: {' '.join(texts)}" for name, texts in error.message_dict.items()]
        except ReportQueueError as error:
            problems.append(str(error))
        context = {
            "title": TITLES[Verb(verb)],
            "verb": verb,
            "reason": reason,
            "problems": problems,
            **({} if found is None else self._shown(found)),
        }
        return self._page(request, "bulk_start", context, status=400 if problems else 200)

    def _shown(self, found: bulk.Preview) -> dict[str, Any]:
        many = gettext("%(count)s or more")
        counts = []
        for status, count in found.counts.items():
            text = gettext("not counted: that would take long") if count is None else f"{count:,}"
            if count == bulk.COUNTED:
                text = many % {"count": text}
            counts.append((formats.badge(status, Status(status).label), text, status == Status.RUNNING))
        total = found.total
        return {
            "found": found,
            "words": words(found.filters),
            "counts": counts,
            "total": None if total is None else (many if found.more else "%(count)s") % {"count": f"{total:,}"},
            "rows": [self._sample(row) for row in found.sample],
        }

    def _sample(self, row: ReportQueue) -> tuple[Any, ...]:
        link = format_html('<a href="{}">#{}</a>', self.address("change", row.pk), row.pk)
        badge = formats.badge(row.status, row.get_status_display())
        return link, self.report(row), self.modifier(row), badge, formats.instant(row.trigger_time)

    def bulk_action_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """GET: one action, with its progress and the orders that this person may give."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            action = bulk.get(pk)
        except BulkActionNotFound as error:
            self.message_user(request, str(error), messages.WARNING)
            return HttpResponseRedirect(self.address("changelist"))
        looked = action.last_id - action.first_id
        counted = action.total is not None and not action.more
        done = action.done + action.refused_count
        undo = action.undos.exclude(status=BulkStatus.CANCELLED).first()
        latest = action.rows.order_by("-queue_id")[:ROWS_SHOWN]
        context = {
            **({} if action.has_ended else {"live": live.addresses(request, self.admin_site.name)}),
            "title": gettext("Bulk action %(number)s") % {"number": action.pk},
            "action": action,
            "words": words(action.filters),
            "matched": matched(action),
            # Of rows that were not all counted, the progress is that of their numbers.
            "value": min(done, action.total or 0) if counted else looked,
            "most": max(1, action.total or 0) if counted else max(1, action.until_id - action.first_id),
            "ended": action.has_ended,
            "refusals": refusals(action),
            "waits": action.waits_for_scheduler(database_now()),
            "undo": undo,
            "undo_says": UNDO_SAYS[Verb(action.verb)] if self._may_order(request, action, "undo", undo) else "",
            "rows": [(self.address("change", row.queue_id), row.queue_id) for row in latest],
            "buttons": [
                (label, self.address(f"bulk_{name}", pk))
                for name, (_call, label) in ORDERS.items()
                if self._may_order(request, action, name, undo)
            ],
            "times": [
                (label, formats.instant_text(instant))
                for label, instant in (
                    (gettext("since"), action.created_at),
                    (gettext("started"), action.started_at),
                    (gettext("ended"), action.finished_at),
                )
                if instant is not None
            ],
        }
        return self._page(request, "bulk_action", context)

    def _may_order(self, request: HttpRequest, action: BulkAction, name: str, undo: BulkAction | None) -> bool:
        fits = {
            "pause": action.status in OPEN,
            "resume": action.status == BulkStatus.PAUSED,
            "stop": not action.has_ended,
            "undo": action.has_ended and action.done > 0 and undo is None,
        }
        return fits[name] and request.user.has_perm(f"reportqueue.{bulk.permission(action, name)}")

    def bulk_order_view(self, request: HttpRequest, pk: int, name: str) -> HttpResponse:
        """POST: give the order, and show the action again; after an undo, the action that undoes."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        call, _label = ORDERS[name]
        try:
            if not request.user.has_perm(f"reportqueue.{bulk.permission(bulk.get(pk), name)}"):
                raise PermissionDenied
            more: Mapping[str, str] = {"reason": reason_of(request)} if name == "undo" else {}
            pk = call(pk, by=request.user.get_username(), **more).pk
        except ReportQueueError as error:
            self.message_user(request, str(error), messages.ERROR)
        return HttpResponseRedirect(self.address("bulk_action", pk))

    @admin.display(description=_("bulk actions"))
    def bulk_actions(self, row: ReportQueue) -> str:
        """The bulk actions that have changed the row, the newest first."""
        found = BulkActionRow.objects.filter(queue_id=row.pk).select_related("bulk_action").order_by("-pk")
        lines = [
            (self.address("bulk_action", one.bulk_action_id), one.bulk_action_id, one.bulk_action.get_verb_display(),
             formats.instant_text(one.changed_at))
            for one in found[:ROWS_SHOWN]
        ]  # fmt: skip
        return format_html_join("", '<span class="rq-line"><a href="{}">#{}</a> {}, {}</span>', lines) or formats.EMPTY

    def _page(self, request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
        shared = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "has_view_permission": True,
            **context,
        }
        request.current_app = self.admin_site.name  # as Django's own admin views do
        return TemplateResponse(request, f"admin/reportqueue/{template}.html", shared, status=status)
