"""A client of the queue's HTTP API, with its response types and errors. It works without Dagster."""

from dagster_reportqueue.client.client import MAX_BATCH_ROWS, ReportQueueClient, Results
from dagster_reportqueue.client.responses import Claim, Content, HeldRow, PendingReport, QueueItem, Started
from dagster_reportqueue.client.transport import ApiError, ApiRefused, ApiUnreachable, Conflict, TooEarly

__all__ = [
    "MAX_BATCH_ROWS",
    "ApiError",
    "ApiRefused",
    "ApiUnreachable",
    "Claim",
    "Conflict",
    "Content",
    "HeldRow",
    "PendingReport",
    "QueueItem",
    "ReportQueueClient",
    "Results",
    "Started",
    "TooEarly",
]
