"""A page of failures: failed rows grouped by their error, so that two thousand rows are read as three errors."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue import catalogue, failures, queue
from reportqueue.admin import actions, formats
from reportqueue.admin.changelists import ListAdmin
from reportqueue.errors import ReportQueueError
from reportqueue.models import MutedFailure, ReportQueue
from reportqueue.queue.failure_groups import DEFAULT_PERIOD, PERIODS
from reportqueue.states import Status, Verb

PERIOD_LABELS = {"1h": _("1 hour"), "24h": _("24 hours"), "7d": _("7 days"), "all": _("All")}
MUTE, UNMUTE = "mute", "unmute"
LOGGED = {MUTE: "Muted in the admin", UNMUTE: "Unmuted in the admin"}
"""Stored in the log: not translated."""
REQUEUE = "reportqueue.requeue_reportqueue"


class FailuresAdmin(ListAdmin):
    """The page, for the queue's list."""

    def get_urls(self) -> list[Any]:
        """Django's, the address of this page, and those of its two operations on a group."""
        site, prefix = self.admin_site, "reportqueue_reportqueue_failures"
        operate = site.admin_view(self.operate_on_failure)
        return [
            path("failures/", site.admin_view(self.failures_view), name=prefix),
            *(
                path(f"failures/<str:fingerprint>/{name}/", operate, {"name": name}, name=f"{prefix}_{name}")
                for name in LOGGED
            ),
            *super().get_urls(),
        ]

    def may_mute(self, request: HttpRequest) -> bool:
        """By the permission to mute failures."""
        return request.user.has_perm("reportqueue.mute_reportqueue")

    def failures_view(self, request: HttpRequest) -> HttpResponse:
        """The groups of a period."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        period = request.GET.get("period", DEFAULT_PERIOD)
        if period not in PERIODS:
            text = gettext("There is no such period: these are the failures of the last 24 hours.")
            self.message_user(request, text, messages.WARNING)
            period = DEFAULT_PERIOD
        found = queue.grouped_failures(period)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Failures"),
            "opts": self.opts,
            "media": self.media,
            "has_view_permission": True,
            "periods": [(name, label, name == period) for name, label in PERIOD_LABELS.items()],
            "period": period,
            "found": found,
            "groups": [self._line(request, group, found) for group in found.groups],
            "muted": [self._line(request, group, found) for group in found.muted],
            "said": _said(found),
            "may_mute": self.may_mute(request),
            "note_hint": gettext("Note (optional)"),
        }
        request.current_app = self.admin_site.name  # as Django's own admin views do
        return TemplateResponse(request, "admin/reportqueue/failures.html", context)

    def operate_on_failure(self, request: HttpRequest, fingerprint: str, name: str) -> HttpResponse:
        """POST: mute or unmute a group, and show the page again."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request) or not self.may_mute(request):
            raise PermissionDenied
        if not failures.is_fingerprint(fingerprint):
            raise Http404
        try:
            with self.bounded():
                self._operate(request, fingerprint, name)
        except ReportQueueError as error:
            text = gettext("%(why)s Nothing was changed.")
            self.message_user(request, text % {"why": error}, messages.ERROR)
        except ValidationError as error:
            self.message_user(request, " ".join(error.messages), messages.ERROR)
        period = request.POST.get("period", "")
        query = f"?{urlencode({'period': period})}" if period in PERIODS else ""
        return HttpResponseRedirect(self.address("failures") + query)

    def _operate(self, request: HttpRequest, fingerprint: str, name: str) -> None:
        by = request.user.get_username()
        there = MutedFailure.objects.filter(pk=fingerprint).first()
        if name == MUTE:
            muted = queue.mute(fingerprint, by=by, note=actions.reason_of(request))
            if there is not None:
                text, level = gettext("It was muted already: %(failure)s."), messages.WARNING
                self.message_user(request, text % {"failure": formats.sentence(muted)}, level)
                return
            self.log_change(request, muted, LOGGED[name])
            self.message_user(request, gettext("The failure is muted: it is not counted any more."), messages.SUCCESS)
        elif there is not None and queue.unmute(fingerprint, by=by):
            self.log_change(request, there, LOGGED[name])
            self.message_user(request, gettext("The failure is counted again."), messages.SUCCESS)
        else:
            self.message_user(request, gettext("It was not muted."), messages.WARNING)

    def rows_address(self, fingerprint: str) -> str:
        """The list of the rows of a group."""
        return f"{self.address('changelist')}?{urlencode({'failure': fingerprint})}"

    def requeue_address(self, fingerprint: str) -> str:
        """The page that requeues all rows of a group."""
        query = {"verb": Verb.REQUEUE.value, "failure": fingerprint, "status": Status.FAILED.value}
        return f"{self.address('bulk')}?{urlencode(query)}"

    def links_to_failures(self, row: ReportQueue) -> list[tuple[str, str]]:
        """For a row's page: a link to the others that failed alike, if there are any."""
        if row.status != Status.FAILED or not row.fingerprint:
            return []
        count, more = queue.count_failed_like(row.fingerprint)
        if count < 2:
            return []
        text = ngettext("%(count)s other failed like this", "%(count)s others failed like this", count - 1)
        if more:
            text = gettext("%(count)s or more others failed like this")
        shown = {"count": f"{count if more else count - 1:,}"}
        return [(text % shown, self.rows_address(row.fingerprint))]

    def _line(self, request: HttpRequest, group: queue.FailureGroup, found: queue.FailureGroups) -> dict[str, Any]:
        requeue = self.requeue_address(group.fingerprint) if request.user.has_perm(REQUEUE) else ""
        return {
            "group": group,
            "count": _count(group.count, more=group.more),
            "reports": [catalogue.label(number, name) for number, name in group.reports],
            "first": (formats.instant(group.first_at), group.first_at and formats.relative(group.first_at, found.now)),
            "last": (formats.instant(group.last_at), group.last_at and formats.relative(group.last_at, found.now)),
            "muted_at": group.muted and formats.instant_text(group.muted.muted_at),
            "rows": self.rows_address(group.fingerprint),
            "example": None if group.example is None else self.address("change", group.example),
            "requeue": requeue if group.count else "",
            "mute": self.address(f"failures_{UNMUTE if group.muted else MUTE}", group.fingerprint),
        }


def _count(count: int, *, more: bool) -> str:
    return gettext("%(count)s or more") % {"count": f"{count:,}"} if more else f"{count:,}"


def _said(found: queue.FailureGroups) -> str:
    """How many rows and groups there are, without those that are muted."""
    groups = len(found.groups)
    if not groups:
        return ""
    text = ngettext(
        "%(rows)s failed reports, %(groups)s failure.", "%(rows)s failed reports, %(groups)s failures.", groups
    )
    said = text % {"rows": _count(found.count, more=found.more), "groups": f"{groups:,}"}
    left = gettext("There are more: the newest are shown.")
    return said if found.complete else f"{said} {left}"
