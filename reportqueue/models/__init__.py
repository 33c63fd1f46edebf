"""The tables: schedules and their calendars, the queue, the history of attempts, and webhook sources."""

from reportqueue.models.calendars import BlackoutCalendar, BlackoutDays, BlackoutHours
from reportqueue.models.queue import ReportAttempt, ReportQueue
from reportqueue.models.schedule import ReportSchedule
from reportqueue.models.webhook import WebhookSource

__all__ = [
    "BlackoutCalendar",
    "BlackoutDays",
    "BlackoutHours",
    "ReportAttempt",
    "ReportQueue",
    "ReportSchedule",
    "WebhookSource",
]
