"""Webhook deliveries in the admin: what was sent, what was answered, and what was given up."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import path
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue import outbox
from reportqueue.admin import formats, search
from reportqueue.admin.changelists import ReadOnlyAdmin
from reportqueue.admin.filters import ChoiceFilter, MemberFilter
from reportqueue.errors import RowBusy
from reportqueue.models import EventDelivery, WebhookSubscription
from reportqueue.models.audit import Kind
from reportqueue.models.event import LATELY, DeliveryStatus

MAX_AT_ONCE = 1_000
"""Deliveries that one action sends again, in one transaction."""
SHOWN = 100
"""Attempts that the page of a delivery shows, the newest."""
MAX_SUBSCRIPTIONS = 200
"""Subscriptions that the filter offers."""


class DeliveryStatusFilter(MemberFilter):
    """How far it is."""

    title = _("status")
    parameter_name = "status"
    members = DeliveryStatus


class LatelyFilter(ChoiceFilter):
    """What the overview counts."""

    title = _("now")
    parameter_name = "now"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """The one count."""
        return [("given_up", gettext("Given up in the last %(days)s days") % {"days": LATELY.days})]

    def chosen_rows(self, rows: Any, value: str) -> QuerySet[Any]:
        """By the query that the overview counts."""
        found: QuerySet[Any] = rows.given_up_lately()
        return found


class SubscriptionFilter(ChoiceFilter):
    """To which subscription it is."""

    title = _("subscription")
    parameter_name = "subscription"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Every subscription, the newest first."""
        return [
            (str(one.pk), str(one))
            for one in WebhookSubscription.objects.of_people().order_by("-id")[:MAX_SUBSCRIPTIONS]
        ]

    def condition(self, value: str) -> Q:
        """By its number."""
        return Q(subscription=int(value))


@admin.register(EventDelivery)
class EventDeliveryAdmin(ReadOnlyAdmin):
    """The list, newest first. Only `prune_report_queue` deletes old ones."""

    list_display = ["number", "what", "subscription", "state", "attempts", "at", "next_attempt"]
    list_filter = [DeliveryStatusFilter, LatelyFilter, SubscriptionFilter]
    list_select_related = ["event", "subscription"]
    sortable_by = ()
    ordering = ["-id"]
    audited = Kind.DELIVERY
    find = search.find_deliveries
    search_fields = ["event__subject"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _("The number of a row, such as row:17, or a webhook-id.")
    actions = ["redeliver_selected"]
    fields = ["what", "subscription", "webhook_id", "state", "at", "next_attempt", "data", "log"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Those that are sent: the alert rules' are counted only."""
        return super().get_queryset(request).filter(subscription__of_alerts=False)

    def has_redeliver_permission(self, request: HttpRequest) -> bool:
        """Its own permission."""
        return request.user.has_perm("reportqueue.redeliver_eventdelivery")

    def get_urls(self) -> list[Any]:
        """Django's, and the address of the button."""
        view = self.admin_site.admin_view(self.redeliver_view)
        own = path("<int:pk>/redeliver/", view, name="reportqueue_eventdelivery_redeliver")
        return [own, *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """With the button, if it has ended."""
        one = kwargs.get("obj")
        if one is not None and one.status != DeliveryStatus.PENDING and self.has_redeliver_permission(request):
            context["buttons"] = [(gettext("Send again"), self.address("redeliver", one.pk))]
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.action(description=_("Send the selected deliveries again"), permissions=["redeliver"])
    def redeliver_selected(self, request: HttpRequest, selected: QuerySet[EventDelivery]) -> None:
        """Pending ones are left alone."""
        self._redeliver(request, self.selected_pks(request, selected, MAX_AT_ONCE))

    def redeliver_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """POST: have it sent again."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request) or not self.has_redeliver_permission(request):
            raise PermissionDenied
        self._redeliver(request, [pk])
        return HttpResponseRedirect(self.address("change", pk))

    def _redeliver(self, request: HttpRequest, pks: list[int]) -> None:
        try:
            count = outbox.redeliver(pks)
        except RowBusy as error:
            self.message_user(request, gettext("%(why)s Nothing was changed.") % {"why": error}, messages.ERROR)
            return
        text = ngettext("%(count)s delivery is sent again.", "%(count)s deliveries are sent again.", count)
        self.message_user(request, text % {"count": f"{count:,}"}, messages.SUCCESS if count else messages.WARNING)

    @admin.display(description=_("number"))
    def number(self, one: EventDelivery) -> str:
        """Its number."""
        return f"#{one.pk}"

    @admin.display(description=_("event"))
    def what(self, one: EventDelivery) -> str:
        """The type, and below it what it is about."""
        return formats.two_lines(one.event.type, one.event.subject)

    @admin.display(description=_("webhook-id"))
    def webhook_id(self, one: EventDelivery) -> str:
        """The header by which the receiver knows it."""
        return one.event.message_id

    @admin.display(description=_("status"))
    def state(self, one: EventDelivery) -> str:
        """How far it is."""
        return formats.badge(SIGNS[DeliveryStatus(one.status)], one.get_status_display())

    @admin.display(description=_("at"))
    def at(self, one: EventDelivery) -> str:
        """When it happened."""
        return formats.instant(one.event.at)

    @admin.display(description=_("next attempt"))
    def next_attempt(self, one: EventDelivery) -> str:
        """When it is sent again at the earliest, if it is pending."""
        return formats.instant(one.due_at) if one.status == DeliveryStatus.PENDING else formats.EMPTY

    @admin.display(description=_("data"))
    def data(self, one: EventDelivery) -> str:
        """What is sent."""
        return formats.json_block(one.event.data)

    @admin.display(description=_("attempts"))
    def log(self, one: EventDelivery) -> str:
        """The newest attempts."""
        found = list(one.log.order_by("-id")[: SHOWN + 1])
        lines = [
            (formats.instant(each.at), each.status_code, each.milliseconds, each.problem, each.answer)
            for each in reversed(found[:SHOWN])
        ]
        if not lines:
            return formats.EMPTY
        return render_to_string("admin/reportqueue/delivery_log.html", {"lines": lines, "more": len(found) > SHOWN})


SIGNS = {
    DeliveryStatus.PENDING: "queued",
    DeliveryStatus.DELIVERED: "succeeded",
    DeliveryStatus.DEAD: "failed",
}
"""The status of a row that looks alike."""
