"""The client as a Dagster resource."""

from __future__ import annotations

from dagster import ConfigurableResource
from pydantic import Field

from dagster_reportqueue.client import ReportQueueClient
from dagster_reportqueue.client.transport import RETRIES


class ReportQueueResource(ConfigurableResource[ReportQueueClient]):
    """Where the queue is. Read both values from the environment with `EnvVar`: run config and tags are public."""

    url: str = Field(
        description="The API's address, for instance http://127.0.0.1:8000/api; without a path it means /api."
    )
    token: str = Field(description="An API token whose user has reportqueue's consume permission.")

    def client(self, *, retries: int = RETRIES) -> ReportQueueClient:
        """A new client. Do not share one between threads or across forks.

        Raises `ValueError` for an invalid URL or token.
        """
        return ReportQueueClient(self.url, self.token, retries=retries)
