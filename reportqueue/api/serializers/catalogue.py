"""The requests and answers of the endpoints of the catalogue."""

from __future__ import annotations

from typing import Any

from reportqueue.api.serializers.queue import RowSerializer, refuse_unknown
from reportqueue.models import Report


class ReportSerializer(RowSerializer[Report]):
    """An entry of the catalogue."""

    class Meta:
        model = Report
        fields = [
            "report_id",
            "name",
            "description",
            "owner",
            "params_schema",
            "default_params",
            "priority",
            "max_attempts",
            "lease_seconds",
            "route",
            "max_running",
            "max_running_per_modifier",
            "rate_limit",
            "rate_period_seconds",
            "expires_after_seconds",
            "deadline_seconds",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["created_at", "updated_at"]

    def to_internal_value(self, data: Any) -> Any:
        """Also refuse unknown fields and fields that are read-only."""
        refuse_unknown(data, [name for name, field in self.fields.items() if not field.read_only])
        return super().to_internal_value(data)


class ChangedReportSerializer(ReportSerializer):
    """An entry that is there: its number never changes."""

    class Meta(ReportSerializer.Meta):
        read_only_fields = ["report_id", *ReportSerializer.Meta.read_only_fields]

    def update(self, instance: Report, validated_data: Any) -> Report:
        """Write what was asked for, and nothing else."""
        for name, value in validated_data.items():
            setattr(instance, name, value)
        instance.save(update_fields=[*validated_data, "updated_at"])
        return instance
