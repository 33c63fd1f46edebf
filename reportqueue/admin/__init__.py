"""The operator's view: schedules to edit, the queue to inspect, and the two things one may do to its rows."""

from reportqueue.admin.queue import ReportQueueAdmin
from reportqueue.admin.schedules import ReportScheduleAdmin

__all__ = ["ReportQueueAdmin", "ReportScheduleAdmin"]
