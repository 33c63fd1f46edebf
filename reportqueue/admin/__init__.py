"""The operator's view: schedules, calendars, webhook sources and the queue, and what one may do to them."""

from reportqueue.admin.calendars import BlackoutCalendarAdmin
from reportqueue.admin.queue import ReportQueueAdmin
from reportqueue.admin.schedules import ReportScheduleAdmin
from reportqueue.admin.webhooks import WebhookSourceAdmin

__all__ = ["BlackoutCalendarAdmin", "ReportQueueAdmin", "ReportScheduleAdmin", "WebhookSourceAdmin"]
