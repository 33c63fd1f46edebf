"""What the description calls the serializers and the choices, and what their fields mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from reportqueue.api.serializers import alerts, bulk, catalogue, outbox, queue, schedules
from reportqueue.api.views import batch
from reportqueue.models.alert import Condition
from reportqueue.models.bulk import BulkStatus, BulkVerb
from reportqueue.models.event import DeliveryStatus
from reportqueue.states import Source, Status
from reportqueue.timing.policies import Blackout, CatchUp, Overlap

NAMES: Mapping[type[serializers.BaseSerializer[Any]], str] = {
    queue.Body: "Nothing",
    queue.ItemSerializer: "Row",
    queue.ItemWithAttemptsSerializer: "RowWithAttempts",
    queue.StartedSerializer: "StartedRow",
    queue.StartedInBatchSerializer: "RowStartedInBatch",
    queue.PendingSerializer: "PendingRow",
    queue.HeartbeatSerializer: "Lease",
    queue.PauseBody: "Pause",
    queue.ResumeBody: "Resume",
    bulk.BulkSerializer: "BulkAction",
    bulk.BulkBody: "BulkAction",
    bulk.OrderBody: "BulkOrder",
    bulk.UndoBody: "BulkUndo",
    catalogue.ReportSerializer: "Report",
    catalogue.ChangedReportSerializer: "Report",
    alerts.AlertRuleSerializer: "AlertRule",
    alerts.TestBody: "SendTestMessage",
    outbox.SubscriptionSerializer: "WebhookSubscription",
    outbox.DeliverySerializer: "WebhookDelivery",
    outbox.AttemptSerializer: "WebhookAttempt",
    outbox.RotateBody: "RotateSecret",
    outbox.TestBody: "SendTest",
    outbox.RedeliverBody: "Redeliver",
    schedules.PauseBody: "SchedulePause",
    schedules.BackfillBody: "Backfill",
    schedules.PreviewBody: "Preview",
    schedules.ForecastSerializer: "Occurrence",
    batch.StartBody: "StartMany",
    batch.HeartbeatBody: "HeartbeatMany",
    batch.RenewDispatchBody: "RenewDispatchMany",
    batch.CompleteBody: "CompleteMany",
}
"""Serializers whose own names say less, or that share one."""
ENUMS: Mapping[frozenset[Any], str] = {
    frozenset(choices.values): name
    for name, choices in (
        ("Status", Status),
        ("Source", Source),
        ("CatchUp", CatchUp),
        ("Overlap", Overlap),
        ("Blackout", Blackout),
        ("BulkVerb", BulkVerb),
        ("BulkStatus", BulkStatus),
        ("DeliveryStatus", DeliveryStatus),
        ("AlertCondition", Condition),
    )
}
"""Choices that have a name of their own."""
OBJECTS = ("params", "result", "default_params", "params_schema", "filters", "refused", "data")
"""Fields of JSON that are objects."""
_ROW = {
    "queue_id": "The row's id.",
    "report_name": "The report's name in the catalogue, or empty.",
    "waiting": "Whether it waits for its turn: an earlier report of its schedule is unfinished. It is not handed out.",
    "run_key": "`{queue_id}:{generation}`; null before the first claim.",
    "failure": "The fingerprint of the error with which it failed: rows that failed alike have the same one.",
    "processed": "Whether its status is final.",
    "claimed_by": "The consumer that has claimed it last.",
    "cancel_requested": "Whether a person has asked its run to stop.",
    "lease_expires_at": "When it is offered again, unless it is renewed, started or ended before.",
    "traceparent": "The W3C trace context of what queued it; null if that belongs to no trace.",
    "erased_at": "When its data were erased: it has no parameters any more, and cannot be run again. Otherwise null.",
}
FIELDS: Mapping[type[serializers.BaseSerializer[Any]], Mapping[str, str]] = {
    queue.ItemSerializer: _ROW,
    queue.StartedSerializer: _ROW | {"lease_token": "What proves that the run owns the row. A secret."},
    queue.ItemWithAttemptsSerializer: _ROW,
    queue.StartedInBatchSerializer: {
        "lease_token": "What proves that the run owns the row. A secret.",
        "traceparent": _ROW["traceparent"],
    },
    queue.HeartbeatSerializer: {"cancel_requested": "Whether the run should stop."},
    alerts.AlertRuleSerializer: {
        "test_wanted": "Whether a test message waits to be sent.",
        "sent_at": "When it last sent a message.",
    },
    schedules.ForecastSerializer: {
        "clock_change": "`skipped`: the clock does not show this time on that day; `repeated`: it shows it twice.",
        "moved_from": "The instant from which the calendar has moved it.",
        "closed": "Why it does not fire; empty if it fires.",
    },
}
"""Texts of fields of answers that the model's help does not give."""
