"""The list of queue rows: its filters, and pages that stay right while rows come and go."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import django_filters
from django import forms
from django.db.models import Q, QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from reportqueue import bounds
from reportqueue.api.serializers import InstantField
from reportqueue.models import ReportQueue
from reportqueue.states import Source, Status

PAGE = 100


class InstantFormField(forms.Field):
    """A time with its offset, as in a body: whose would it be without?"""

    def to_python(self, value: Any) -> datetime | None:
        """Aware UTC."""
        if not value:
            return None
        try:
            return InstantField().run_validation(value)  # type: ignore[no-any-return]
        except ValidationError as error:
            raise forms.ValidationError([str(text) for text in error.detail]) from None


class InstantFilter(django_filters.Filter):  # type: ignore[misc]  # the library has no types
    """Of a time."""

    field_class = InstantFormField


class QueueFilter(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    """`status` and `source` may be repeated; `processed` is true, false (the default) or any."""

    status = django_filters.MultipleChoiceFilter(choices=Status.choices, distinct=False)
    source = django_filters.MultipleChoiceFilter(choices=Source.choices, distinct=False)
    processed = django_filters.ChoiceFilter(
        choices=[("true", "true"), ("false", "false"), ("any", "any")], method="filter_processed"
    )
    report_id = django_filters.NumberFilter(min_value=0, max_value=bounds.MAX_ID, decimal_places=0)
    modifier_id = django_filters.NumberFilter(min_value=0, max_value=bounds.MAX_ID, decimal_places=0)
    trigger_time_after = InstantFilter("trigger_time", "gte")
    trigger_time_before = InstantFilter("trigger_time", "lt")

    class Meta:
        model = ReportQueue
        fields: list[str] = []

    def filter_processed(self, rows: QuerySet[ReportQueue], name: str, value: str) -> QuerySet[ReportQueue]:
        """`any` leaves the rows alone."""
        return rows if value == "any" else rows.filter(processed=value == "true")


PARAMETERS = [*QueueFilter.base_filters, "cursor", "limit"]


def page(rows: QuerySet[ReportQueue], request: Request) -> dict[str, Any]:
    """One page in claim order: `{"queue": rows, "next": URL or None, "previous": URL or None}`.

    Raises `ValidationError` naming the parameter. The cursor is the place of a row, not a count: rows that are
    claimed meanwhile neither repeat nor hide others.
    """
    query = request.query_params.copy()
    if not query.get("processed"):
        query["processed"] = "any" if any(query.getlist("status")) else "false"
    chosen = QueueFilter(query, queryset=rows)
    if not chosen.is_valid():
        raise ValidationError(chosen.errors)
    limit = _limit(request.query_params.get("limit", str(PAGE)))
    cursor = request.query_params.get("cursor")
    backwards, place = _read_cursor(cursor) if cursor else (False, None)
    rows = chosen.qs
    if place is not None:
        rows = rows.filter(_before(*place) if backwards else _after(*place))
    order = ["priority", "-available_at", "-id"] if backwards else ["-priority", "available_at", "id"]
    found = list(rows.order_by(*order)[: limit + 1])
    more, found = len(found) > limit, found[:limit]
    if backwards:
        found.reverse()
    has_next, has_previous = (True, more) if backwards else (more, place is not None)
    return {
        "queue": found,
        "next": _link(request, found[-1], backwards=False) if found and has_next else None,
        "previous": _link(request, found[0], backwards=True) if found and has_previous else None,
    }


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= bounds.MAX_PAGE:
        return int(text)
    raise ValidationError({"limit": [f"Must be a whole number from 1 to {bounds.MAX_PAGE:,}."]})


def _after(priority: int, available_at: datetime, pk: int) -> Q:
    return Q(priority__lt=priority) | Q(priority=priority) & (
        Q(available_at__gt=available_at) | Q(available_at=available_at, id__gt=pk)
    )


def _before(priority: int, available_at: datetime, pk: int) -> Q:
    return Q(priority__gt=priority) | Q(priority=priority) & (
        Q(available_at__lt=available_at) | Q(available_at=available_at, id__lt=pk)
    )


def _link(request: Request, row: ReportQueue, *, backwards: bool) -> str:
    place = [backwards, row.priority, row.available_at.isoformat(), row.pk]
    cursor = base64.urlsafe_b64encode(json.dumps(place).encode()).decode()
    query = [(name, value) for name, values in request.query_params.lists() for value in values if name != "cursor"]
    return request.build_absolute_uri(f"{request.path}?{urlencode([*query, ('cursor', cursor)])}")


def _read_cursor(cursor: str) -> tuple[bool, tuple[int, datetime, int]]:
    try:
        backwards, priority, available_at, pk = json.loads(base64.urlsafe_b64decode(cursor))
        instant = datetime.fromisoformat(available_at)
        if instant.tzinfo is None or not 0 <= int(pk) <= bounds.MAX_ID or abs(int(priority)) > bounds.MAX_PRIORITY:
            raise ValueError(cursor)
        return bool(backwards), (int(priority), instant.astimezone(UTC), int(pk))
    except (ValueError, TypeError, RecursionError, OverflowError, binascii.Error):
        raise ValidationError({"cursor": ["Not a cursor of this list; take it from `next` or `previous`."]}) from None
