"""The filters of queue rows: their names, what their values may be, and the rows that match them.

The API's list and the bulk actions use them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django import forms
from django.db.models import QuerySet
from rest_framework import ISO_8601, serializers

from reportqueue import bounds, catalogue, failures
from reportqueue.models import ReportQueue
from reportqueue.models.queue import failed_like
from reportqueue.states import FINAL, UNFINISHED, Source, Status


class InstantField(serializers.DateTimeField):
    """Reads ISO 8601 with its UTC offset, writes UTC with `Z`, whatever time zone and formats the project has set."""

    def __init__(self, **options: Any) -> None:
        super().__init__(format=ISO_8601, input_formats=[ISO_8601], default_timezone=UTC, **options)

    def enforce_timezone(self, value: datetime) -> datetime:
        """Refuse a time without its UTC offset: its zone would be unknown."""
        if value.tzinfo is None:
            raise serializers.ValidationError("Must have a UTC offset, for instance 2026-11-23T08:00:00Z.")
        return super().enforce_timezone(value)


class InstantFormField(forms.Field):
    """A time with its UTC offset, as in a body: without one its zone would be unknown."""

    def to_python(self, value: Any) -> datetime | None:
        """Aware UTC."""
        if not value:
            return None
        try:
            return InstantField().run_validation(value)  # type: ignore[no-any-return]
        except serializers.ValidationError as error:
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


def report_filter() -> ReportOfRowFilter:
    """A filter by a report's number or name."""
    return ReportOfRowFilter("report_id", max_length=bounds.MAX_NAME_LENGTH, validators=[bounds.validate_text])


class FailureFormField(forms.CharField):
    """The fingerprint of a failure."""

    def validate(self, value: str) -> None:
        """Refuse other texts."""
        super().validate(value)
        if value and not failures.is_fingerprint(value):
            raise forms.ValidationError("Must be the `failure` of a row: 16 digits, 0 to 9 and a to f.")


class FailureFilter(django_filters.Filter):  # type: ignore[misc]  # the library has no types
    """The rows that failed alike."""

    field_class = FailureFormField

    def filter(self, rows: QuerySet[ReportQueue], value: str) -> QuerySet[ReportQueue]:
        """By the condition of the index."""
        return rows.filter(failed_like(value)) if value else rows


class IdFilter(django_filters.NumberFilter):  # type: ignore[misc]  # the library has no types
    """A filter by a number that is read as the admin's lists read it: 1e3 is none."""

    field_class = forms.IntegerField


def id_filter() -> IdFilter:
    """A filter by a report's, a modifier's or a schedule's number."""
    return IdFilter(min_value=0, max_value=bounds.MAX_ID)


def choices(*names: str) -> list[tuple[str, str]]:
    """Names that are shown as they are written."""
    return [(name, name) for name in names]


class QueueFilter(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    """`status`, `source`, `route` and `claimed_by` may be repeated; `processed` is true, false (the default) or any.

    These three choose the parts of the list; the others are conditions of each part.
    """

    status = django_filters.MultipleChoiceFilter(choices=Status.choices, method="leave")
    source = django_filters.MultipleChoiceFilter(choices=Source.choices, method="leave")
    processed = django_filters.ChoiceFilter(choices=choices("true", "false", "any"), method="leave")
    claimed_by = NamesFilter("claimed_by")
    route = NamesFilter("route")
    report_id = id_filter()
    report = report_filter()
    modifier_id = id_filter()
    schedule = id_filter()
    failure = FailureFilter()
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
        failed = {Status.FAILED} if chosen["failure"] else set(Status)
        return set(processed.intersection(chosen["status"] or Status, failed))

    def is_narrowed(self) -> bool:
        """Whether one of the conditions has an index for finished rows; valid parameters only."""
        chosen = self.form.cleaned_data
        return any(
            chosen[name] not in (None, "") for name in ("report_id", "report", "modifier_id", "schedule", "failure")
        )
