"""A client of the queue's HTTP API, with its response types and errors. It works without Dagster."""

from dagster_reportqueue.client.client import MAX_BATCH_ROWS, ReportQueueClient, Results
from dagster_reportqueue.client.responses import Claim, Content, HeldRow, PendingReport, QueueItem, Started
from dagster_reportqueue.client.rows import Attempt, NewReport, QueueRow, RowHistory
from dagster_reportqueue.client.scheduling import Schedule
from dagster_reportqueue.client.transport import ApiError, ApiRefused, ApiUnreachable, Conflict, TooEarly

__all__ = [
    "MAX_BATCH_ROWS",
    "ApiError",
    "ApiRefused",
    "ApiUnreachable",
    "Attempt",
    "Claim",
    "Conflict",
    "Content",
    "HeldRow",
    "NewReport",
    "PendingReport",
    "QueueItem",
    "QueueRow",
    "ReportQueueClient",
    "Results",
    "RowHistory",
    "Schedule",
    "Started",
    "TooEarly",
]
