"""The queue's HTTP API from the consumer's side: the client, its answers and its errors. It works without Dagster."""

from dagster_reportqueue.client.client import MAX_ROWS, Answers, ReportQueueClient
from dagster_reportqueue.client.responses import Claim, Content, HeldRow, PendingReport, QueueItem, Started
from dagster_reportqueue.client.transport import ApiError, ApiRefused, ApiUnreachable, Conflict

__all__ = [
    "MAX_ROWS",
    "Answers",
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
    "Started",
]
