"""The lists of queue rows and of schedules: their filters and their order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from reportqueue import bounds
from reportqueue.api import pagination
from reportqueue.models import (
    AlertRule,
    BulkAction,
    EventDelivery,
    Report,
    ReportQueue,
    ReportSchedule,
    WebhookSubscription,
    lists,
)
from reportqueue.models.event import DeliveryStatus
from reportqueue.row_filters import NamesFilter, QueueFilter, choices, id_filter, report_filter
from reportqueue.states import UNFINISHED


class ScheduleFilter(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    """Filters by report, modifier and `enabled`."""

    report_id = id_filter()
    report = report_filter()
    modifier_id = id_filter()
    enabled = django_filters.ChoiceFilter(choices=choices("true", "false"), method="filter_enabled")

    class Meta:
        model = ReportSchedule
        fields: list[str] = []

    def filter_enabled(self, rows: QuerySet[ReportSchedule], name: str, value: str) -> QuerySet[ReportSchedule]:
        """Only the spellings of JSON are valid."""
        return rows.filter(enabled=value == "true")


class ReportFilter(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    """Filter by route, and by the begin of the name."""

    route = NamesFilter("route")
    name = django_filters.CharFilter("name", "istartswith", max_length=bounds.MAX_NAME_LENGTH)

    class Meta:
        model = Report
        fields: list[str] = []


class DeliveryFilter(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    """Filter by subscription and status."""

    subscription_id = id_filter()
    status = django_filters.ChoiceFilter(choices=choices(*DeliveryStatus.values))

    class Meta:
        model = EventDelivery
        fields: list[str] = []


DELIVERY_PARAMETERS = [*DeliveryFilter.base_filters, *pagination.PARAMETERS]
REPORT_PARAMETERS = [*ReportFilter.base_filters, *pagination.PARAMETERS]
QUEUE_PARAMETERS = [*QueueFilter.base_filters, *pagination.PARAMETERS]
SCHEDULE_PARAMETERS = [*ScheduleFilter.base_filters, *pagination.PARAMETERS]


def queue_page(request: Request) -> pagination.Page[ReportQueue]:
    """Queue rows: unfinished ones in claim order, others by `trigger_time`.

    Raises `ValidationError` naming the parameter.
    """
    query = request.query_params.copy()
    if not query.get("processed"):
        query["processed"] = "any" if any(query.getlist("status")) or query.get("failure") else "false"
    chosen = QueueFilter(query, queryset=ReportQueue.objects.all())
    if not chosen.is_valid():
        raise ValidationError(chosen.errors)
    given, statuses = chosen.form.cleaned_data, chosen.statuses()
    if statuses <= UNFINISHED:
        rows = chosen.qs.filter(source__in=given["source"]) if given["source"] else chosen.qs
        return pagination.page(lists.in_claim_order(rows, statuses), request, _CLAIM_ORDER)
    if given["claimed_by"]:
        # Of finished rows there is no index by consumer.
        raise ValidationError({"claimed_by": ["Only a list of unfinished rows can be filtered by it."]})
    parts = lists.by_trigger_time(chosen.qs, statuses, given["source"], narrowed=chosen.is_narrowed())
    return pagination.page(parts, request, _DUE_ORDER)


def schedule_page(request: Request) -> pagination.Page[ReportSchedule]:
    """Schedules in the order in which they were created. Raises `ValidationError` naming the parameter."""
    chosen = ScheduleFilter(request.query_params, queryset=ReportSchedule.objects.all())
    if not chosen.is_valid():
        raise ValidationError(chosen.errors)
    return pagination.page([chosen.qs], request, _BY_ID)


def bulk_page(request: Request) -> pagination.Page[BulkAction]:
    """Bulk actions, the newest first. Raises `ValidationError` naming the parameter."""
    return pagination.page([BulkAction.objects.all()], request, _NEWEST)


def subscription_page(request: Request) -> pagination.Page[WebhookSubscription]:
    """Webhook subscriptions in the order in which they were added. Raises `ValidationError` naming the parameter."""
    return pagination.page([WebhookSubscription.objects.of_people()], request, _AS_ADDED)


def alert_rule_page(request: Request) -> pagination.Page[AlertRule]:
    """Alert rules in the order in which they were added. Raises `ValidationError` naming the parameter."""
    return pagination.page([AlertRule.objects.all()], request, _ADDED_RULES)


def delivery_page(request: Request) -> pagination.Page[EventDelivery]:
    """Webhook deliveries, the newest first. Raises `ValidationError` naming the parameter."""
    chosen = DeliveryFilter(request.query_params, queryset=EventDelivery.objects.to_people().select_related("event"))
    if not chosen.is_valid():
        raise ValidationError(chosen.errors)
    return pagination.page([chosen.qs], request, _SENT)


def report_page(request: Request) -> pagination.Page[Report]:
    """Entries of the catalogue, by number. Raises `ValidationError` naming the parameter."""
    chosen = ReportFilter(request.query_params, queryset=Report.objects.all())
    if not chosen.is_valid():
        raise ValidationError(chosen.errors)
    return pagination.page([chosen.qs], request, _BY_NUMBER)


def _claim_place(priority: Any, available_at: Any, pk: Any) -> pagination.Place:
    if abs(int(priority)) > bounds.MAX_PRIORITY:
        raise ValueError(priority)
    return int(priority), *_due_place(available_at, pk)


def _due_place(trigger_time: Any, pk: Any) -> pagination.Place:
    instant = datetime.fromisoformat(trigger_time)
    if instant.tzinfo is None:
        raise ValueError(trigger_time)
    return instant.astimezone(UTC), *_id_place(pk)


def _id_place(pk: Any) -> pagination.Place:
    if not 0 <= int(pk) <= bounds.MAX_ID:
        raise ValueError(pk)
    return (int(pk),)


_LARGE = ("params", "result", "error")
_CLAIM_ORDER = pagination.Order(lists.CLAIM_ORDER, _claim_place, _LARGE)
_DUE_ORDER = pagination.Order(lists.DUE_ORDER, _due_place, _LARGE)
_BY_NUMBER = pagination.Order(("report_id",), _id_place, ("params_schema", "default_params", "description"))
_NEWEST = pagination.Order(("-id",), _id_place, ("filters", "refused"))
_AS_ADDED = pagination.Order(("id",), _id_place, ("url", "report_ids"))
_ADDED_RULES = pagination.Order(("id",), _id_place, ("report_ids", "emails"))
_SENT = pagination.Order(("-id",), _id_place, ("status",))
_BY_ID = pagination.Order(("id",), _id_place, ("params", "error"))
