"""The lists of queue rows and of schedules: their filters and their order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django import forms
from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from reportqueue import bounds, catalogue
from reportqueue.api import pagination
from reportqueue.api.serializers.queue import InstantField
from reportqueue.models import Report, ReportQueue, ReportSchedule, lists
from reportqueue.states import FINAL, UNFINISHED, Source, Status


class InstantFormField(forms.Field):
    """A time with its UTC offset, as in a body: without one its zone would be unknown."""

    def to_python(self, value: Any) -> datetime | None:
        """Aware UTC."""
        if not value:
            return None
        try:
            return InstantField().run_validation(value)  # type: ignore[no-any-return]
        except ValidationError as error:
            raise forms.ValidationError([str(text) for text in error.detail]) from None


class InstantFilter(django_filters.Filter):  # type: ignore[misc]  # the library has no types
    """A filter by a time."""

    field_class = InstantFormField


class NamesFormField(forms.MultipleChoiceField):
    """Names of which nobody has a list."""

    default_error_messages = {"invalid_choice": f"Must be a name of at most {bounds.MAX_NAME_LENGTH} characters."}

    def valid_value(self, value: str) -> bool:
        """Whether a row may have it."""
        try:
            bounds.validate_text(value)
        except forms.ValidationError:
            return False
        return len(value) <= bounds.MAX_NAME_LENGTH


class NamesFilter(django_filters.MultipleChoiceFilter):  # type: ignore[misc]  # the library has no types
    """A filter by names; it may be repeated."""

    field_class = NamesFormField
    always_filter = False


class ReportFormField(forms.CharField):
    """A report, by its number or its name in the catalogue."""

    def clean(self, value: Any) -> int | None:
        """Its number."""
        if not (text := super().clean(value)):
            return None
        if (found := catalogue.number_of(text)) is None:
            raise forms.ValidationError(f"The catalogue has no report {text!r}.")
        return found


class ReportOfRowFilter(django_filters.Filter):  # type: ignore[misc]  # the library has no types
    """A filter by a report."""

    field_class = ReportFormField


def _report_filter() -> ReportOfRowFilter:
    return ReportOfRowFilter("report_id", max_length=bounds.MAX_NAME_LENGTH)


def _id_filter() -> django_filters.NumberFilter:
    return django_filters.NumberFilter(min_value=0, max_value=bounds.MAX_ID, decimal_places=0)


def _choices(*names: str) -> list[tuple[str, str]]:
    return [(name, name) for name in names]


class QueueFilter(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    """`status`, `source`, `route` and `claimed_by` may be repeated; `processed` is true, false (the default) or any.

    These three choose the parts of the list; the others are conditions of each part.
    """

    status = django_filters.MultipleChoiceFilter(choices=Status.choices, method="leave")
    source = django_filters.MultipleChoiceFilter(choices=Source.choices, method="leave")
    processed = django_filters.ChoiceFilter(choices=_choices("true", "false", "any"), method="leave")
    claimed_by = NamesFilter("claimed_by")
    route = NamesFilter("route")
    report_id = _id_filter()
    report = _report_filter()
    modifier_id = _id_filter()
    trigger_time_after = InstantFilter("trigger_time", "gte")
    trigger_time_before = InstantFilter("trigger_time", "lt")

    class Meta:
        model = ReportQueue
        fields: list[str] = []

    def leave(self, rows: QuerySet[ReportQueue], name: str, value: Any) -> QuerySet[ReportQueue]:
        """All rows."""
        return rows

    def statuses(self) -> set[str]:
        """The statuses of the list, by `status` and `processed`; valid parameters only."""
        chosen = self.form.cleaned_data
        processed = {"true": FINAL, "false": UNFINISHED}.get(chosen["processed"], frozenset(Status))
        return set(processed.intersection(chosen["status"] or Status))


class ScheduleFilter(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    """Filters by report, modifier and `enabled`."""

    report_id = _id_filter()
    report = _report_filter()
    modifier_id = _id_filter()
    enabled = django_filters.ChoiceFilter(choices=_choices("true", "false"), method="filter_enabled")

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


REPORT_PARAMETERS = [*ReportFilter.base_filters, *pagination.PARAMETERS]
QUEUE_PARAMETERS = [*QueueFilter.base_filters, *pagination.PARAMETERS]
SCHEDULE_PARAMETERS = [*ScheduleFilter.base_filters, *pagination.PARAMETERS]


def queue_page(request: Request) -> pagination.Page[ReportQueue]:
    """Queue rows: unfinished ones in claim order, others by `trigger_time`.

    Raises `ValidationError` naming the parameter.
    """
    query = request.query_params.copy()
    if not query.get("processed"):
        query["processed"] = "any" if any(query.getlist("status")) else "false"
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
    narrowed = any(given[name] is not None for name in ("report_id", "report", "modifier_id"))
    parts = lists.by_trigger_time(chosen.qs, statuses, given["source"], narrowed=narrowed)
    return pagination.page(parts, request, _DUE_ORDER)


def schedule_page(request: Request) -> pagination.Page[ReportSchedule]:
    """Schedules in the order in which they were created. Raises `ValidationError` naming the parameter."""
    chosen = ScheduleFilter(request.query_params, queryset=ReportSchedule.objects.all())
    if not chosen.is_valid():
        raise ValidationError(chosen.errors)
    return pagination.page([chosen.qs], request, _BY_ID)


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
_BY_ID = pagination.Order(("id",), _id_place, ("params", "error"))
