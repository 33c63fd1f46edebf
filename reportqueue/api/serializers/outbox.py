"""The requests and answers of the endpoints of webhook subscriptions and deliveries."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from reportqueue.api.serializers.queue import Body, RowSerializer, refuse_unknown
from reportqueue.bounds import MAX_ID
from reportqueue.models import DeliveryAttempt, EventDelivery, WebhookSubscription
from reportqueue.models.event import MAX_REPORTS, SUBSCRIBABLE


class SubscriptionSerializer(RowSerializer[WebhookSubscription]):
    """A webhook subscription, without its secret."""

    subscription_id = serializers.IntegerField(source="id", read_only=True)
    event_types = serializers.ListField(
        child=serializers.ChoiceField([one.value for one in SUBSCRIBABLE]), min_length=1, max_length=len(SUBSCRIBABLE)
    )
    report_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=MAX_ID), required=False, max_length=MAX_REPORTS
    )

    class Meta:
        model = WebhookSubscription
        fields = [
            "subscription_id",
            "url",
            "description",
            "enabled",
            "event_types",
            "report_ids",
            "failures",
            "failing_since",
            "disabled_reason",
            "previous_until",
            "created_at",
        ]
        read_only_fields = ["failures", "failing_since", "disabled_reason", "previous_until", "created_at"]
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "url": {"validators": []}
        }  # the model knows whether it must be checked

    def to_internal_value(self, data: Any) -> Any:
        """Also refuse unknown fields and fields that are read-only."""
        refuse_unknown(data, [name for name, field in self.fields.items() if not field.read_only])
        return super().to_internal_value(data)

    def update(self, instance: WebhookSubscription, validated_data: Any) -> WebhookSubscription:
        """Write what was asked for, and nothing else."""
        for name, value in validated_data.items():
            setattr(instance, name, value)
        instance.save(update_fields=[*validated_data])
        return instance


class AttemptSerializer(RowSerializer[DeliveryAttempt]):
    """One attempt of a delivery."""

    class Meta:
        model = DeliveryAttempt
        fields = ["at", "status_code", "milliseconds", "answer", "problem"]


class DeliverySerializer(RowSerializer[EventDelivery]):
    """A delivery of an event."""

    delivery_id = serializers.IntegerField(source="id")
    webhook_id = serializers.CharField(source="event.message_id")
    type = serializers.CharField(source="event.type")
    subject = serializers.CharField(source="event.subject")
    report_id = serializers.IntegerField(source="event.report_id", allow_null=True)
    event_at = serializers.DateTimeField(source="event.at")

    class Meta:
        model = EventDelivery
        fields = [
            "delivery_id",
            "subscription_id",
            "webhook_id",
            "type",
            "subject",
            "report_id",
            "event_at",
            "status",
            "attempts",
            "due_at",
            "finished_at",
        ]

    subscription_id = serializers.IntegerField()


class RotateBody(Body):
    """A person rotates a secret."""


class TestBody(Body):
    """A person sends a test event."""


class RedeliverBody(Body):
    """A person has a delivery sent again."""
