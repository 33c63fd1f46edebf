"""The requests and answers of the endpoints of schedules."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from reportcron import CronError
from reportqueue import bounds, schedules
from reportqueue.api.serializers.queue import Body, RowSerializer, reason_field, refuse_unknown
from reportqueue.clock import database_now
from reportqueue.models import ReportSchedule
from reportqueue.row_filters import InstantField

FIRINGS = 5
"""Firings in a preview, by default."""


class ScheduleSerializer(RowSerializer[ReportSchedule]):
    """A schedule; the model refuses one that cannot fire."""

    schedule_id = serializers.IntegerField(source="pk", read_only=True)
    calendar_id = serializers.IntegerField(min_value=0, max_value=bounds.MAX_ID, allow_null=True, required=False)
    words = serializers.SerializerMethodField()

    class Meta:
        model = ReportSchedule
        fields = [
            "schedule_id",
            "report_id",
            "modifier_id",
            "cron",
            "interval_seconds",
            "timezone",
            "words",
            "start_at",
            "end_at",
            "calendar_id",
            "blackout",
            "enabled",
            "paused_at",
            "paused_by",
            "pause_note",
            "catch_up",
            "catch_up_window_seconds",
            "catch_up_limit",
            "overlap",
            "jitter_seconds",
            "unique",
            "priority",
            "max_attempts",
            "params",
            "next_run_at",
            "error",
            "version",
        ]
        read_only_fields = ["paused_at", "paused_by", "pause_note", "next_run_at", "error", "version"]

    def to_internal_value(self, data: Any) -> Any:
        """Also refuse unknown fields, and fields that are read-only."""
        refuse_unknown(data, [name for name, field in self.fields.items() if not field.read_only])
        return super().to_internal_value(data)

    def get_words(self, schedule: ReportSchedule) -> str:
        """When it fires, in words; empty for an expression that was written past the checks."""
        try:
            return schedule.in_words
        except CronError:
            return ""

    def save_as(self, user: str) -> ReportSchedule:
        """Save it. A user who disables it has paused it. Raises `ValidationError` naming the field."""
        pauses = not self.validated_data.get("enabled", True) and (self.instance is None or self.instance.enabled)
        return self.save(**({"paused_by": user} if pauses else {}))


class PreviewBody(ScheduleSerializer):
    """A schedule that is not saved, and how many of its firings are wanted."""

    count = serializers.IntegerField(min_value=1, max_value=schedules.MAX_FORECAST, default=FIRINGS)

    class Meta(ScheduleSerializer.Meta):
        fields = [*ScheduleSerializer.Meta.fields, "count"]

    def unsaved(self) -> tuple[ReportSchedule, int]:
        """The schedule, refused as `save` would refuse it, and the count. Raises `ValidationError`."""
        fields = dict(self.validated_data)
        count = fields.pop("count")
        schedule = ReportSchedule(**fields)
        schedule.full_clean(validate_unique=False, validate_constraints=False)
        if schedule.enabled:
            schedule.next_firing(database_now())
        return schedule, count


class PauseBody(Body):
    """A person pauses the schedule."""

    note = reason_field()


class BackfillBody(Body):
    """A past time range whose firings are to be queued."""

    start = InstantField()
    end = InstantField()
    dry_run = serializers.BooleanField(default=True)


class ForecastSerializer(serializers.Serializer[Any]):
    """One instant of a forecast."""

    instant = InstantField()
    local = serializers.SerializerMethodField()
    fires = serializers.SerializerMethodField()
    clock_change = serializers.CharField(allow_null=True)
    moved_from = InstantField(allow_null=True)
    closed = serializers.CharField()

    def get_local(self, forecast: schedules.Forecast) -> str:
        """The instant by the schedule's own clock, with its offset."""
        return forecast.reading.isoformat()

    def get_fires(self, forecast: schedules.Forecast) -> bool:
        """Whether the calendar leaves it open."""
        return not forecast.closed
