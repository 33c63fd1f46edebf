"""The admin: overview, queue, schedules, calendars, catalogue, webhooks, alerts, API tokens and audit."""

from reportqueue.admin.alerts import AlertRuleAdmin
from reportqueue.admin.audit import AuditEntryAdmin
from reportqueue.admin.bulk_actions import BulkActionAdmin
from reportqueue.admin.calendars import BlackoutCalendarAdmin
from reportqueue.admin.catalogue import ReportAdmin
from reportqueue.admin.deliveries import EventDeliveryAdmin
from reportqueue.admin.pauses import PauseAdmin
from reportqueue.admin.queue import ReportQueueAdmin
from reportqueue.admin.schedules import ReportScheduleAdmin
from reportqueue.admin.subscriptions import WebhookSubscriptionAdmin
from reportqueue.admin.tokens import ApiTokenAdmin
from reportqueue.admin.webhooks import WebhookSourceAdmin

__all__ = [
    "AlertRuleAdmin",
    "ApiTokenAdmin",
    "AuditEntryAdmin",
    "BlackoutCalendarAdmin",
    "BulkActionAdmin",
    "EventDeliveryAdmin",
    "PauseAdmin",
    "ReportAdmin",
    "ReportQueueAdmin",
    "ReportScheduleAdmin",
    "WebhookSourceAdmin",
    "WebhookSubscriptionAdmin",
]
