"""The admin's operations on queue rows: requeue and cancel, for one row or many, each logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, queue
from reportqueue.admin import actions as shared
from reportqueue.admin.actions import ActionsAdmin
from reportqueue.admin.formats import badge
from reportqueue.errors import InvalidTransition, RowNotFound
from reportqueue.models import ReportQueue
from reportqueue.states import TRANSITIONS, Status, Verb

CONFIRM_ABOVE = 10
"""For more rows than this, a page with their statuses asks for confirmation first."""


@dataclass(frozen=True)
class Operation:
    """An operation: its verb, its function, its permission and its texts."""

    verb: Verb
    call: Callable[..., ReportQueue]
    label: Any
    log: str
    """For the row and the log, which are stored: not translated."""
    question: Any

    @property
    def permission(self) -> str:
        """The permission that it needs."""
        return f"reportqueue.{self.verb}_reportqueue"

    def takes(self, status: str) -> bool:
        """Whether a row of that status may be changed."""
        return status in TRANSITIONS[self.verb]

    def takes_row(self, row: ReportQueue) -> bool:
        """Whether the row may be changed."""
        return self.takes(row.status) and row.erased_at is None


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


class OperableAdmin(ActionsAdmin):
    """Both operations on the queue's rows."""

    actions = ["requeue_selected", "cancel_selected"]
    operations = tuple(OPERATIONS)

    def may(self, request: HttpRequest, name: str) -> bool:
        """By the operation's own permission."""
        return request.user.has_perm(OPERATIONS[name].permission)

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        """For the action of that name."""
        return request.user.has_perm(REQUEUE.permission)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """For the action of that name."""
        return request.user.has_perm(CANCEL.permission)

    @admin.action(description=_("Requeue the selected finished reports"), permissions=["requeue"])
    def requeue_selected(self, request: HttpRequest, rows: QuerySet[ReportQueue]) -> HttpResponse | None:
        """Requeue each row alone. Refused rows are counted, with the reason."""
        return self._operate_on_selected(request, rows, REQUEUE)

    @admin.action(description=_("Cancel the selected reports"), permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, rows: QuerySet[ReportQueue]) -> HttpResponse | None:
        """Cancel each row alone. A running report stops at its run's next heartbeat."""
        return self._operate_on_selected(request, rows, CANCEL)

    def buttons_for(self, request: HttpRequest, row: ReportQueue) -> list[tuple[Any, str]]:
        """The operations that this person may do to this row now: each label with its URL."""
        return [
            (operation.label, self.address(operation.verb, row.pk))
            for operation in OPERATIONS.values()
            if operation.takes_row(row) and request.user.has_perm(operation.permission)
        ]

    def _operate_on_selected(
        self, request: HttpRequest, rows: QuerySet[ReportQueue], operation: Operation
    ) -> HttpResponse | None:
        confirmed = request.POST.get("confirmed")
        if confirmed is not None:
            pks = list(dict.fromkeys(pk for text in confirmed.split(",") if (pk := bounds.as_id(text)) is not None))
        else:
            pks = self.selected_pks(request, rows, shared.MAX_AT_ONCE + 1)
        if len(pks) > shared.MAX_AT_ONCE:
            text = gettext(
                "More than %(max)s reports are selected; at most %(max)s can be done at once. Nothing was changed. "
                "Narrow the list with filters, or select page by page."
            )
            self.message_user(request, text % {"max": f"{shared.MAX_AT_ONCE:,}"}, messages.ERROR)
            return None
        if len(pks) > CONFIRM_ABOVE and confirmed is None:
            return self._ask(request, pks, operation)
        self.operate(request, pks, operation.verb)
        return None

    def _ask(self, request: HttpRequest, pks: Sequence[int], operation: Operation) -> HttpResponse:
        counts = self.get_queryset(request).filter(pk__in=pks).order_by().values_list("status").annotate(Count("pk"))
        found = dict(counts)
        context = {
            **self.admin_site.each_context(request),
            "title": operation.question,
            "opts": self.opts,
            "media": self.media,
            "original": operation.label,  # the last of the breadcrumbs
            "has_view_permission": True,
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

    def operate(self, request: HttpRequest, pks: Sequence[int], name: str) -> None:
        """Each row in its own transaction together with its log entry."""
        operation, reason = OPERATIONS[name], shared.reason_of(request)
        note = operation.log.format(user=request.user.get_username()) + (f": {reason}" if reason else "")
        before = dict(self.get_queryset(request).filter(pk__in=pks).values_list("pk", "status"))
        done: Counter[str] = Counter()

        def operate_on(pk: int) -> None:
            if pk not in before:
                raise RowNotFound
            if operation is CANCEL and before[pk] == Status.CANCELLED:
                # The queue accepts a repeated cancel. The person is told so instead, and nothing is logged.
                raise InvalidTransition(gettext("A cancelled report is cancelled already."))
            row = operation.call(pk, reason=note)
            self.log_change(request, row, note)
            done[row.status] += 1

        refused = self.for_each(request, pks, operate_on)
        self._say_what_was_done(request, done, refused)

    def _say_what_was_done(self, request: HttpRequest, done: Counter[str], refused: dict[str, list[int]]) -> None:
        if count := done[Status.QUEUED]:
            self.say(request, ngettext("%(count)s report requeued.", "%(count)s reports requeued.", count), count)
        if count := done[Status.CANCELLED]:
            self.say(request, ngettext("%(count)s report cancelled.", "%(count)s reports cancelled.", count), count)
        if count := done[Status.RUNNING]:
            text = ngettext(
                "%(count)s running report asked to cancel; it ends at its next heartbeat.",
                "%(count)s running reports asked to cancel; they end at their next heartbeat.",
                count,
            )
            self.say(request, text, count)
        if refused:
            count = sum(map(len, refused.values()))
            text = ngettext("%(count)s report refused: %(why)s", "%(count)s reports refused: %(why)s", count)
            self.say(request, text, count, messages.WARNING, why=shared.why_refused(refused))
