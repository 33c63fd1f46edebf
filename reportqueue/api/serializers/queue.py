"""The requests and answers of the queue's endpoints. Unknown fields are refused: a misspelt one must not be ignored."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache, cached_property
from operator import attrgetter
from typing import Any, TypeVar

from django.db import models
from rest_framework import serializers

from reportqueue import bounds, catalogue, queue
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.models.report import validate_route
from reportqueue.row_filters import InstantField
from reportqueue.waiting_reasons import why_waiting

M = TypeVar("M", bound=models.Model)


@cache
def shared(shape: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """The one serializer of a shape that all requests use. To make its fields costs far more than to use them.

    Use only what keeps nothing of a request in it: `run_validation` and `to_representation`.
    """
    return shape()


def shown(shape: type[serializers.Serializer[Any]], one: Any) -> dict[str, Any]:
    """An object as an answer shows it."""
    answer: dict[str, Any] = shared(shape).to_representation(one)
    return answer


def all_shown(shape: type[serializers.Serializer[Any]], several: Iterable[Any]) -> list[dict[str, Any]]:
    """Several objects as an answer shows them."""
    return [shown(shape, one) for one in several]


def refuse_unknown(data: Any, known: Collection[str]) -> None:
    """Raise `ValidationError` for the fields that are not among the known ones."""
    if isinstance(data, Mapping):
        # At most ten: the answer must not be larger than the body.
        unknown = sorted(name[:100] for name in data if name not in known)[:10]
        if unknown:
            text = f"Unknown field; the fields here are {', '.join(known)}." if known else "There are no fields here."
            raise serializers.ValidationError({name: [text] for name in unknown})


class Body(serializers.Serializer[Any]):
    """A request's body."""

    def to_internal_value(self, data: Any) -> Any:
        """Also refuse unknown fields."""
        refuse_unknown(data, self.fields)
        return super().to_internal_value(data)


def _text(limit: int, **options: Any) -> serializers.CharField:
    return serializers.CharField(max_length=limit, validators=[bounds.validate_text], trim_whitespace=False, **options)


def number_field(name: str, **options: Any) -> serializers.IntegerField:
    """A whole number within the bounds of the verbs' argument of this name."""
    low, high = bounds.NUMBERS[name]
    return serializers.IntegerField(min_value=low, max_value=high, **options)


def route_field(**options: Any) -> serializers.CharField:
    """The name of a route."""
    return serializers.CharField(
        max_length=bounds.MAX_ROUTE_LENGTH, validators=[validate_route], trim_whitespace=False, **options
    )


def progress_field() -> serializers.CharField:
    """A run's progress, as a text for people."""
    return _text(bounds.MAX_PROGRESS_LENGTH, required=False, allow_blank=True)


class SecondsField(serializers.FloatField):
    """Seconds, whole or not. NaN is none: no bound would refuse it, and DRF does only in newer versions."""

    def to_internal_value(self, data: Any) -> float:
        """Parse it. Raises `ValidationError`. True is no number, though Python counts it as 1."""
        if isinstance(data, bool):
            self.fail("invalid")
        seconds = float(super().to_internal_value(data))
        if not math.isfinite(seconds):
            self.fail("invalid")
        return seconds


class TokenField(serializers.UUIDField):
    """A UUID as a text. DRF makes one of a number, too, and counts true as 1."""

    def to_internal_value(self, data: Any) -> Any:
        """Parse it. Raises `ValidationError`."""
        if not isinstance(data, str):
            self.fail("invalid", value=str(data)[:100])
        return super().to_internal_value(data)


class ErrorField(serializers.CharField):
    """Any text of any length: a run must always be able to report why it failed. The queue stores what it can."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_blank=True, trim_whitespace=False, **options)
        self.validators = []  # DRF's refuse NUL characters and lone surrogates


class ListMethodField(serializers.SerializerMethodField):
    """A list that a method of the serializer makes; `shape` says what its objects look like."""

    def __init__(self, shape: type[serializers.Serializer[Any]]) -> None:
        self.shape = shape
        super().__init__()


def reason_field() -> serializers.CharField:
    """A person's reason, which may be empty."""
    return _text(bounds.MAX_REASON_LENGTH, required=False, allow_blank=True)


class EnqueueBody(Body):
    """One report to enqueue."""

    report_id = number_field("report_id")
    modifier_id = number_field("modifier_id")
    trigger_time = InstantField(required=False)
    params = serializers.JSONField(required=False, validators=[bounds.validate_json_object])
    priority = number_field("priority", required=False)
    max_attempts = number_field("max_attempts", required=False)
    route = route_field(required=False)
    unique = serializers.ChoiceField([queue.UNFINISHED], required=False)
    idempotency_key = _text(bounds.MAX_KEY_LENGTH, required=False, min_length=1)


class ClaimBody(Body):
    """A consumer claims rows."""

    consumer = _text(bounds.MAX_NAME_LENGTH)
    ack = TokenField(required=False, allow_null=True)
    limit = number_field("limit", default=25)
    wait_seconds = SecondsField(min_value=0, max_value=bounds.MAX_WAIT_SECONDS, default=0)
    lease_seconds = number_field("lease_seconds", required=False)
    dispatch_lease_seconds = number_field("dispatch_lease_seconds", required=False)
    max_in_flight = number_field("max_in_flight", required=False)
    max_unstarted = number_field("max_unstarted", required=False)
    deployment = _text(bounds.MAX_NAME_LENGTH, required=False, allow_blank=True, default="")
    routes = serializers.ListField(
        child=route_field(), required=False, min_length=1, max_length=bounds.MAX_ROUTES, allow_null=True
    )


class StartBody(Body):
    """A run starts its row."""

    generation = number_field("generation")
    run_id = _text(bounds.MAX_NAME_LENGTH)
    parent_run_id = _text(bounds.MAX_NAME_LENGTH, required=False, allow_blank=True)
    worker = _text(bounds.MAX_NAME_LENGTH, required=False, allow_blank=True)
    lease_seconds = number_field("lease_seconds", required=False)


class StartFiringBody(Body):
    """A run starts the row of its firing, which is inserted if there is none."""

    trigger_time = InstantField()
    run_id = _text(bounds.MAX_NAME_LENGTH)
    parent_run_id = _text(bounds.MAX_NAME_LENGTH, required=False, allow_blank=True)
    worker = _text(bounds.MAX_NAME_LENGTH, required=False, allow_blank=True)
    lease_seconds = number_field("lease_seconds", required=False)


class QueueFiringBody(Body):
    """The run of a firing ended before it started its row."""

    trigger_time = InstantField()


class HeartbeatBody(Body):
    """A run is alive."""

    lease_token = TokenField()
    lease_seconds = number_field("lease_seconds", required=False)
    progress = progress_field()


class RenewDispatchBody(Body):
    """A run exists, and waits to start."""

    generation = number_field("generation")
    run_id = _text(bounds.MAX_NAME_LENGTH)
    lease_seconds = number_field("lease_seconds", required=False)


class CompleteBody(Body):
    """A run has made its report."""

    lease_token = TokenField()
    result = serializers.JSONField(required=False, allow_null=True, validators=[bounds.validate_json_object])


class FailBody(Body):
    """A run's attempt failed."""

    lease_token = TokenField()
    error = ErrorField()
    retryable = serializers.BooleanField(default=True)
    retry_after_seconds = number_field("retry_after_seconds", required=False)


class FailLaunchBody(Body):
    """A run ended without ever starting its row."""

    generation = number_field("generation")
    run_id = _text(bounds.MAX_NAME_LENGTH)
    error = ErrorField()
    counts = serializers.BooleanField(default=True)


class ReleaseBody(Body):
    """A run gives its row back."""

    lease_token = TokenField()
    delay_seconds = number_field("delay_seconds", required=False)
    reason = reason_field()
    begun = serializers.BooleanField(default=True)


class ReleaseClaimedBody(Body):
    """A consumer gives back a row of its claim."""

    claim_id = TokenField()
    delay_seconds = number_field("delay_seconds", required=False)
    reason = reason_field()


class CancelBody(Body):
    """A person cancels the report, or its owner does, with the token."""

    reason = reason_field()
    lease_token = TokenField(required=False)


class RequeueBody(Body):
    """A person wants a finished report again."""

    reason = reason_field()


class ResumeBody(Body):
    """What a person resumes: a route, a report, or without either the whole queue."""

    route = route_field(required=False)
    report_id = number_field("report_id", required=False)


class PauseBody(ResumeBody):
    """What a person pauses."""

    note = reason_field()


class PauseSerializer(serializers.Serializer[Any]):
    """A pause."""

    scope = serializers.CharField()
    route = serializers.CharField()
    report_id = serializers.IntegerField(allow_null=True)
    report_name = serializers.CharField()
    paused_at = InstantField()
    paused_by = serializers.CharField()
    note = serializers.CharField()


class MutedFailureSerializer(serializers.Serializer[Any]):
    """Who has muted a group of failures, when and why."""

    muted_at = InstantField()
    muted_by = serializers.CharField()
    note = serializers.CharField()


class ReportNameSerializer(serializers.Serializer[Any]):
    """A report, by its number and its name in the catalogue."""

    report_id = serializers.IntegerField()
    report_name = serializers.CharField()


class FailureGroupSerializer(serializers.Serializer[Any]):
    """A group of failures."""

    failure = serializers.CharField(source="fingerprint")
    title = serializers.CharField()
    frame = serializers.CharField()
    count = serializers.IntegerField()
    first_at = InstantField(allow_null=True)
    last_at = InstantField(allow_null=True)
    example = serializers.IntegerField(allow_null=True)
    reports = ListMethodField(ReportNameSerializer)
    more_reports = serializers.BooleanField()
    muted = MutedFailureSerializer(allow_null=True)

    def get_reports(self, group: queue.FailureGroup) -> list[dict[str, Any]]:
        """Numbers and names."""
        return [{"report_id": number, "report_name": name} for number, name in group.reports]


class HeartbeatSerializer(serializers.Serializer[Any]):
    """The answer to a heartbeat."""

    lease_expires_at = InstantField()
    cancel_requested = serializers.BooleanField()


class RowSerializer(serializers.ModelSerializer[M]):
    """A model's row: its times in UTC, its numbers as numbers, whatever the project has set."""

    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.DateTimeField: InstantField,
        models.BigIntegerField: serializers.IntegerField,  # DRF's own may answer with strings
    }

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """As DRF's, which finds out anew for each field of each row how it is read."""
        return {name: None if (value := read(instance)) is None else show(value) for name, read, show in self._ways}

    @cached_property
    def _ways(self) -> list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]]:
        """Of each field its name, how it is read from a row, and how the value is shown."""
        fields = self._readable_fields
        return [(str(field.field_name), self._reader(field), field.to_representation) for field in fields]

    def _reader(self, field: Any) -> Callable[[Any], Any]:
        usual = type(field).get_attribute is serializers.Field.get_attribute and len(field.source_attrs) == 1
        method = callable(getattr(self.Meta.model, field.source, None))
        return attrgetter(field.source) if usual and not method else field.get_attribute


class AttemptSerializer(RowSerializer[ReportAttempt]):
    """One attempt of a row's history; never its token."""

    class Meta:
        model = ReportAttempt
        fields = [
            "attempt",
            "generation",
            "run_id",
            "parent_run_id",
            "worker",
            "started_at",
            "finished_at",
            "outcome",
            "progress",
            "error",
        ]


def items(rows: Iterable[ReportQueue], shape: type[ItemSerializer] | None = None) -> list[dict[str, Any]]:
    """Rows as an answer shows them, with the names of their reports."""
    named = list(rows)
    catalogue.name_rows(named)
    return all_shown(shape or ItemSerializer, named)


def item(row: ReportQueue, shape: type[ItemSerializer] | None = None) -> dict[str, Any]:
    """A row as an answer shows it, with the name of its report."""
    return items([row], shape)[0]


class ItemSerializer(RowSerializer[ReportQueue]):
    """A queue row as a user with `view_reportqueue` sees it; never its token."""

    report_name = serializers.CharField()
    failure = serializers.CharField(source="fingerprint")

    class Meta:
        model = ReportQueue
        fields = [
            "queue_id",
            "report_id",
            "report_name",
            "modifier_id",
            "trigger_time",
            "processed",
            "status",
            "source",
            "route",
            "priority",
            "params",
            "idempotency_key",
            "schedule_id",
            "generation",
            "attempt",
            "max_attempts",
            "launch_failures",
            "unstarted_runs",
            "releases",
            "alone",
            "waiting",
            "run_key",
            "run_id",
            "available_at",
            "expires_at",
            "deadline_at",
            "created_at",
            "claimed_by",
            "claimed_at",
            "dispatched_at",
            "started_at",
            "finished_at",
            "lease_expires_at",
            "cancel_requested",
            "error",
            "failure",
            "result",
            "traceparent",
            "erased_at",
        ]


class PendingSerializer(serializers.Serializer[Any]):
    """A due row for a consumer that polls, with its next generation and run key."""

    id = serializers.IntegerField()
    report_id = serializers.IntegerField()
    modifier_id = serializers.IntegerField()
    trigger_time = InstantField()
    processed = serializers.BooleanField()
    schedule_id = serializers.IntegerField(allow_null=True)
    generation = serializers.IntegerField(source="next_generation")
    run_key = serializers.SerializerMethodField()

    def get_run_key(self, row: Any) -> str:
        """A new one for each generation: Dagster remembers run keys for ever."""
        return f"{row.pk}:{row.next_generation}"


class StartedSerializer(ItemSerializer):
    """The answer to `start` alone: the row with its owner's token."""

    class Meta(ItemSerializer.Meta):
        fields = [*ItemSerializer.Meta.fields, "lease_token"]


class StartedInBatchSerializer(RowSerializer[ReportQueue]):
    """The fields of a row that a run needs, for a run that starts several rows."""

    report_name = serializers.CharField()

    class Meta:
        model = ReportQueue
        fields = [
            "queue_id",
            "report_id",
            "report_name",
            "modifier_id",
            "trigger_time",
            "priority",
            "params",
            "generation",
            "attempt",
            "max_attempts",
            "run_key",
            "lease_expires_at",
            "lease_token",
            "traceparent",
        ]


class ItemWithAttemptsSerializer(ItemSerializer):
    """A queue row with its history, and why it waits."""

    attempts = ListMethodField(AttemptSerializer)
    waiting_reasons = serializers.SerializerMethodField()

    class Meta(ItemSerializer.Meta):
        fields = [*ItemSerializer.Meta.fields, "attempts", "waiting_reasons"]

    def get_attempts(self, row: ReportQueue) -> Any:
        """The newest attempts, the last one last: a row that is often requeued has very many."""
        newest = row.attempts.order_by("-pk")[: bounds.MAX_ATTEMPTS_SHOWN]
        return all_shown(AttemptSerializer, list(newest)[::-1])

    def get_waiting_reasons(self, row: ReportQueue) -> list[str]:
        """Why it waits; empty for a row that is not queued."""
        return why_waiting(row)
