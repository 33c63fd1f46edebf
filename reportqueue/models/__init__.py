"""The tables: schedules and their calendars, the queue and its attempts, webhook sources, and trigger periods."""

from reportqueue.models.calendars import BlackoutCalendar, BlackoutDays, BlackoutHours
from reportqueue.models.period import TriggerPeriod
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
    "TriggerPeriod",
    "WebhookSource",
]
