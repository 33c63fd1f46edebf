"""The tables: catalogue, schedules, calendars, queue, attempts, pauses, webhook sources, bulk actions,
muted failures, consumers, tokens, measures, audit, the outbox,
alerts."""

from reportqueue.models.alert import Alert, AlertRule
from reportqueue.models.audit import AuditEntry
from reportqueue.models.bulk import BulkAction, BulkActionRow
from reportqueue.models.calendars import BlackoutCalendar, BlackoutDays, BlackoutHours
from reportqueue.models.consumer import ReportConsumer
from reportqueue.models.event import (
    DeliveryAttempt,
    EventDelivery,
    OutboxEvent,
    Trouble,
    WebhookSubscription,
)
from reportqueue.models.failure import MutedFailure
from reportqueue.models.measure import Depth, Measure, MeasureTotal, UnmeasuredEnd
from reportqueue.models.pause import Pause
from reportqueue.models.period import TriggerPeriod
from reportqueue.models.queue import ReportAttempt, ReportQueue
from reportqueue.models.report import Report
from reportqueue.models.schedule import ReportSchedule
from reportqueue.models.token import ApiToken
from reportqueue.models.webhook import WebhookSource

__all__ = [
    "Alert",
    "AlertRule",
    "ApiToken",
    "AuditEntry",
    "BlackoutCalendar",
    "BlackoutDays",
    "BlackoutHours",
    "BulkAction",
    "BulkActionRow",
    "DeliveryAttempt",
    "Depth",
    "EventDelivery",
    "Measure",
    "MeasureTotal",
    "MutedFailure",
    "OutboxEvent",
    "Pause",
    "Report",
    "ReportAttempt",
    "ReportConsumer",
    "ReportQueue",
    "ReportSchedule",
    "TriggerPeriod",
    "Trouble",
    "UnmeasuredEnd",
    "WebhookSource",
    "WebhookSubscription",
]
