"""The tables: schedules and their calendars, the queue, and the history of attempts."""

from reportqueue.models.calendars import BlackoutCalendar, BlackoutDays, BlackoutHours
from reportqueue.models.queue import ReportAttempt, ReportQueue
from reportqueue.models.schedule import ReportSchedule

__all__ = [
    "BlackoutCalendar",
    "BlackoutDays",
    "BlackoutHours",
    "ReportAttempt",
    "ReportQueue",
    "ReportSchedule",
]
