"""The requests and answers of the endpoints of bulk actions."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from reportqueue import bounds
from reportqueue.api.serializers.queue import Body, RowSerializer, reason_field
from reportqueue.clock import database_now
from reportqueue.models import BulkAction
from reportqueue.models.bulk import BulkVerb


class BulkBody(Body):
    """A person starts a bulk action."""

    verb = serializers.ChoiceField(BulkVerb.values)
    filters = serializers.DictField(required=False, default=dict)
    reason = reason_field()
    dry_run = serializers.BooleanField(default=False)
    idempotency_key = serializers.CharField(
        required=False,
        min_length=1,
        max_length=bounds.MAX_KEY_LENGTH,
        validators=[bounds.validate_text],
        trim_whitespace=False,
    )

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Also `all`, which is a name of Python's."""
        return {**super().get_fields(), "all": serializers.BooleanField(default=False)}


class UndoBody(Body):
    """A person takes a bulk action back."""

    reason = reason_field()


class OrderBody(Body):
    """A person pauses, resumes or stops a bulk action."""


class BulkSerializer(RowSerializer[BulkAction]):
    """A bulk action and how far it is."""

    waits_for_scheduler = serializers.SerializerMethodField()

    class Meta:
        model = BulkAction
        fields = [
            "bulk_id",
            "verb",
            "filters",
            "reason",
            "requested_by",
            "status",
            "created_at",
            "started_at",
            "finished_at",
            "total",
            "more",
            "done",
            "asked",
            "refused",
            "problem",
            "undo_of",
            "idempotency_key",
            "waits_for_scheduler",
        ]

    undo_of = serializers.IntegerField(source="undo_of_id", allow_null=True)

    def get_waits_for_scheduler(self, action: BulkAction) -> bool:
        """Whether nobody works on it."""
        return action.waits_for_scheduler(database_now()) if not action.has_ended else False
