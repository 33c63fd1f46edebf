"""The requests and answers of the endpoints of alert rules."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from reportqueue.api.serializers.queue import Body, RowSerializer, refuse_unknown
from reportqueue.bounds import MAX_ID
from reportqueue.models import AlertRule
from reportqueue.models.alert import MAX_CHANNEL_LENGTH, MAX_EMAIL_LENGTH, MAX_RECIPIENTS
from reportqueue.models.event import MAX_REPORTS


class AlertRuleSerializer(RowSerializer[AlertRule]):
    """An alert rule."""

    rule_id = serializers.IntegerField(source="id", read_only=True)
    report_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=MAX_ID), required=False, max_length=MAX_REPORTS
    )
    emails = serializers.ListField(
        child=serializers.EmailField(max_length=MAX_EMAIL_LENGTH), required=False, max_length=MAX_RECIPIENTS
    )
    channels = serializers.ListField(
        child=serializers.CharField(max_length=MAX_CHANNEL_LENGTH), required=False, max_length=MAX_RECIPIENTS
    )

    class Meta:
        model = AlertRule
        fields = [
            "rule_id",
            "name",
            "enabled",
            "condition",
            "in_a_row",
            "waited_seconds",
            "report_ids",
            "emails",
            "channels",
            "quiet_seconds",
            "test_wanted",
            "problem",
            "sent_at",
        ]
        read_only_fields = ["test_wanted", "problem", "sent_at"]

    def to_internal_value(self, data: Any) -> Any:
        """Also refuse unknown fields and fields that are read-only."""
        refuse_unknown(data, [name for name, field in self.fields.items() if not field.read_only])
        return super().to_internal_value(data)

    def update(self, instance: AlertRule, validated_data: Any) -> AlertRule:
        """Write what was asked for, and nothing else: the scheduler writes the rest."""
        for name, value in validated_data.items():
            setattr(instance, name, value)
        instance.save(update_fields=[*validated_data])
        return instance


class TestBody(Body):
    """A person sends a test message."""
