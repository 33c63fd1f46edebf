"""What people do to queue rows in the admin: requeue and cancel, one row or a bounded many, each logged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, locks, queue
from reportqueue.admin.changelists import ListAdmin
from reportqueue.admin.formats import badge
from reportqueue.admin.search import as_id
from reportqueue.admin.waiting import EACH_SECONDS
from reportqueue.errors import InvalidTransition, ReportQueueError, RowNotFound
from reportqueue.models import ReportQueue
from reportqueue.states import TRANSITIONS, Status, Verb

MAX_AT_ONCE = 1_000
"""Rows that one action takes: some seconds of work, well within a web server's time-out."""
CONFIRM_ABOVE = 10
"""More rows than this are shown by status, and asked about, before anything is done."""
BUDGET_SECONDS = 15.0
"""An action that takes longer, on a slow database, stops and says how far it came."""


@dataclass(frozen=True)
class Operation:
    """One of the two: its transition, the statuses that it takes, and its words."""

    verb: Verb
    call: Callable[..., ReportQueue]
    label: Any
    log: str
    """For the row and the log, which are kept: not translated."""
    question: Any

    @property
    def permission(self) -> str:
        """The permission that it needs."""
        return f"reportqueue.{self.verb}_reportqueue"

    def takes(self, status: str) -> bool:
        """Whether a row of that status is not refused."""
        return status in TRANSITIONS[self.verb]


REQUEUE = Operation(
    Verb.REQUEUE,
    queue.requeue,
    _("Requeue"),
    "Requeued by {user} in the admin",
    _("Run these reports again?"),
)
CANCEL = Operation(
    Verb.CANCEL,
    queue.cancel,
    _("Cancel report"),
    "Cancelled by {user} in the admin",
    _("Cancel these reports?"),
)
OPERATIONS: dict[str, Operation] = {operation.verb: operation for operation in (REQUEUE, CANCEL)}


class ReasonedActionForm(ActionForm):
    """An action and, if somebody wants to give one, its reason."""

    reason = forms.CharField(
        label=_("Reason:"),
        required=False,
        max_length=bounds.MAX_REASON_LENGTH,
        widget=forms.TextInput(attrs={"placeholder": _("optional")}),
    )


def reason_of(request: HttpRequest) -> str:
    """What the person has written beside the button, as far as it can be stored."""
    return request.POST.get("reason", "").replace("\x00", "").strip()[: bounds.MAX_REASON_LENGTH]


class OperableAdmin(ListAdmin):
    """Both operations: as actions on many rows, and as buttons on a row's own page."""

    actions = ["requeue_selected", "cancel_selected"]
    action_form = ReasonedActionForm

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        """For the action of that name."""
        return request.user.has_perm(REQUEUE.permission)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """For the action of that name."""
        return request.user.has_perm(CANCEL.permission)

    @admin.action(description=_("Requeue the selected finished reports"), permissions=["requeue"])
    def requeue_selected(self, request: HttpRequest, rows: QuerySet[ReportQueue]) -> HttpResponse | None:
        """Each by itself: those that may not be requeued are counted, with the reason."""
        return self._operate_on_selected(request, rows, REQUEUE)

    @admin.action(description=_("Cancel the selected reports"), permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, rows: QuerySet[ReportQueue]) -> HttpResponse | None:
        """Each by itself; a running one stops at its next heartbeat."""
        return self._operate_on_selected(request, rows, CANCEL)

    def get_urls(self) -> list[Any]:
        """With an address for each operation on one row."""
        view = self.admin_site.admin_view(self.operate_view)
        own = [
            path(f"<int:pk>/{verb}/", view, {"verb": verb}, name=f"reportqueue_reportqueue_{verb}")
            for verb in OPERATIONS
        ]
        return [*own, *super().get_urls()]

    def operate_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        """POST: do it to one row, and show the row again."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request) or not request.user.has_perm(OPERATIONS[verb].permission):
            raise PermissionDenied
        self._operate(request, [pk], OPERATIONS[verb])
        return HttpResponseRedirect(self.address("change", pk))

    def buttons_for(self, request: HttpRequest, row: ReportQueue) -> list[tuple[Any, str]]:
        """What this person may do to this row now: each label with its address."""
        return [
            (operation.label, self.address(operation.verb, row.pk))
            for operation in OPERATIONS.values()
            if operation.takes(row.status) and request.user.has_perm(operation.permission)
        ]

    def _operate_on_selected(
        self, request: HttpRequest, rows: QuerySet[ReportQueue], operation: Operation
    ) -> HttpResponse | None:
        confirmed = request.POST.get("confirmed")
        if confirmed is not None:
            pks = list(dict.fromkeys(pk for text in confirmed.split(",") if (pk := as_id(text)) is not None))
        else:
            pks = self.selected_pks(request, rows, MAX_AT_ONCE + 1)
        if len(pks) > MAX_AT_ONCE:
            text = gettext(
                "More than %(max)s reports are selected; at most %(max)s can be done at once. Nothing was changed. "
                "Narrow the list with filters, or select page by page."
            )
            self.message_user(request, text % {"max": f"{MAX_AT_ONCE:,}"}, messages.ERROR)
            return None
        if len(pks) > CONFIRM_ABOVE and confirmed is None:
            return self._ask(request, pks, operation)
        self._operate(request, pks, operation)
        return None

    def _ask(self, request: HttpRequest, pks: Sequence[int], operation: Operation) -> HttpResponse:
        counts = self.get_queryset(request).filter(pk__in=pks).order_by().values_list("status").annotate(Count("pk"))
        found = dict(counts)
        context = {
            **self.admin_site.each_context(request),
            "title": operation.question,
            "opts": self.opts,
            "media": self.media,
            "action": f"{operation.verb}_selected",
            "operation": operation,
            "statuses": [
                (badge(status, status.label), found[status], operation.takes(status), status == Status.RUNNING)
                for status in Status
                if status in found
            ],
            "count": len(pks),
            "first": pks[0],
            "pks": ",".join(map(str, pks)),
            "reason": request.POST.get("reason", ""),
        }
        request.current_app = self.admin_site.name  # as Django's own admin views do
        return TemplateResponse(request, "admin/reportqueue/confirm.html", context)

    def _operate(self, request: HttpRequest, pks: Sequence[int], operation: Operation) -> None:
        """Each row in its own transaction together with its log entry; says what was done and what was not."""
        reason = reason_of(request)
        note = operation.log.format(user=request.user.get_username()) + (f": {reason}" if reason else "")
        before = dict(self.get_queryset(request).filter(pk__in=pks).values_list("pk", "status"))
        done: Counter[str] = Counter()
        refused: dict[str, list[int]] = {}
        began = time.monotonic()
        for place, pk in enumerate(pks):
            if place and time.monotonic() - began > BUDGET_SECONDS:
                text = gettext(
                    "Stopped after %(time)s s: the other %(count)s were not tried; repeat the action for them."
                )
                values = {"time": round(time.monotonic() - began), "count": f"{len(pks) - place:,}"}
                self.message_user(request, text % values, messages.ERROR)
                break
            try:
                if pk not in before:
                    raise RowNotFound
                if operation is CANCEL and before[pk] == Status.CANCELLED:
                    # Answered alike by the queue, for repeated calls; a person is told, and nothing is logged.
                    raise InvalidTransition(gettext("A cancelled report is cancelled already."))
                with locks.bounded(EACH_SECONDS if len(pks) > 1 else None):
                    row = operation.call(pk, reason=note)
                    self.log_change(request, row, note)
                done[row.status] += 1
            except ReportQueueError as error:
                refused.setdefault(str(error), []).append(pk)
        self._tell(request, done, refused)

    def _tell(self, request: HttpRequest, done: Counter[str], refused: dict[str, list[int]]) -> None:
        if count := done[Status.QUEUED]:
            text = ngettext("%(count)s report requeued.", "%(count)s reports requeued.", count)
            self.message_user(request, text % {"count": f"{count:,}"}, messages.SUCCESS)
        if count := done[Status.CANCELLED]:
            text = ngettext("%(count)s report cancelled.", "%(count)s reports cancelled.", count)
            self.message_user(request, text % {"count": f"{count:,}"}, messages.SUCCESS)
        if count := done[Status.RUNNING]:
            text = ngettext(
                "%(count)s running report asked to cancel; it ends at its next heartbeat.",
                "%(count)s running reports asked to cancel; they end at their next heartbeat.",
                count,
            )
            self.message_user(request, text % {"count": f"{count:,}"}, messages.SUCCESS)
        if refused:
            count = sum(map(len, refused.values()))
            text = ngettext("%(count)s report refused: %(why)s", "%(count)s reports refused: %(why)s", count)
            why = " ".join(f"{reason} ({some(sorted(pks))})" for reason, pks in sorted(refused.items()))
            self.message_user(request, text % {"count": f"{count:,}", "why": why}, messages.WARNING)


def some(pks: Sequence[int], limit: int = 5) -> str:
    """The first of them, and how many more there are."""
    shown = ", ".join(f"#{pk}" for pk in pks[:limit])
    return f"{shown}, +{len(pks) - limit:,}" if len(pks) > limit else shown
