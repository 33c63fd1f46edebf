"""The admin: overview, queue, schedules, calendars, catalogue, webhook sources, API tokens and audit."""

from reportqueue.admin.audit import AuditEntryAdmin
from reportqueue.admin.bulk_actions import BulkActionAdmin
from reportqueue.admin.calendars import BlackoutCalendarAdmin
from reportqueue.admin.catalogue import ReportAdmin
from reportqueue.admin.pauses import PauseAdmin
from reportqueue.admin.queue import ReportQueueAdmin
from reportqueue.admin.schedules import ReportScheduleAdmin
from reportqueue.admin.tokens import ApiTokenAdmin
from reportqueue.admin.webhooks import WebhookSourceAdmin

__all__ = [
    "ApiTokenAdmin",
    "AuditEntryAdmin",
    "BlackoutCalendarAdmin",
    "BulkActionAdmin",
    "PauseAdmin",
    "ReportAdmin",
    "ReportQueueAdmin",
    "ReportScheduleAdmin",
    "WebhookSourceAdmin",
]
