"""The response types of the client: rows as a consumer, a run or a reconciler needs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class QueueItem:
    """A row as a consumer and a run need it."""

    queue_id: int
    report_id: int
    modifier_id: int
    trigger_time: datetime
    generation: int
    attempt: int
    max_attempts: int
    run_key: str
    priority: int
    params: Mapping[str, Any] = field(repr=False)  # params may be confidential: never log them
    launch_failures: int = 0
    """Consecutive launches whose run ended before it started the row."""
    alone: bool = False
    """A run died during this report: its next run should make this report only."""
    schedule_id: int | None = None
    source: str | None = None
    """Who queued the row."""
    report_name: str = ""
    """Of the report in the catalogue; empty if it has none."""
    route: str = ""
    traceparent: str | None = None
    """The W3C trace context of what queued the row."""

    @property
    def label(self) -> str:
        """The report for people: its name with its number, or its number alone."""
        return f"{self.report_name} ({self.report_id})" if self.report_name else str(self.report_id)

    @property
    def is_last_attempt(self) -> bool:
        """Whether the next start uses up the last attempt."""
        return self.attempt + 1 >= self.max_attempts

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> QueueItem:
        """Parse the API's JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        return cls(
            queue_id=int(data["queue_id"]),
            report_id=int(data["report_id"]),
            modifier_id=int(data["modifier_id"]),
            trigger_time=datetime.fromisoformat(data["trigger_time"]),
            generation=int(data["generation"]),
            attempt=int(data["attempt"]),
            max_attempts=int(data["max_attempts"]),
            run_key=str(data["run_key"]),
            priority=int(data["priority"]),
            params=dict(data["params"]),
            # The answer to a start of several rows contains none of these.
            launch_failures=int(data.get("launch_failures", 0)),
            alone=bool(data.get("alone", False)),
            schedule_id=None if (schedule_id := data.get("schedule_id")) is None else int(schedule_id),
            source=None if (source := data.get("source")) is None else str(source),
            report_name=str(data.get("report_name", "")),
            route=str(data.get("route", "")),
            traceparent=None if (context := data.get("traceparent")) is None else str(context),
        )


@dataclass(frozen=True)
class Claim:
    """Rows claimed under one id. If nothing was due, `claim_id` is None and `items` is empty."""

    claim_id: UUID | None
    items: list[QueueItem]
    in_flight: int | None = None
    """The consumer's unfinished rows, including these; None if the claim did not bound them."""
    unstarted: int | None = None
    """Those of them that no run has started."""
    warning: str = ""
    """What people should know of the consumer; empty if there is nothing."""


@dataclass(frozen=True)
class HeldRow:
    """A row as a reconciler compares it with Dagster's runs; `dispatched_at` is None before the acknowledgement.

    `run_id` is the last run that owned the row. `outcomes` holds, by run id, how each attempt ended; the text is empty
    for an attempt under way. Only a request for a single row fills `outcomes`.
    """

    queue_id: int
    generation: int
    status: str
    claimed_by: str
    dispatched_at: datetime | None
    run_id: str
    cancel_requested: bool
    outcomes: Mapping[str, str]
    read_at: datetime | None = None
    """The database's time when the row was read; only a request for a list fills it."""

    @property
    def dispatched_for(self) -> timedelta:
        """How long ago it was dispatched, by the database's clock; zero if that is unknown."""
        if self.dispatched_at is None or self.read_at is None:
            return timedelta(0)
        return self.read_at - self.dispatched_at

    @classmethod
    def parse(cls, data: Mapping[str, Any], read_at: datetime | None = None) -> HeldRow:
        """Parse the API's JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        at = data["dispatched_at"]
        return cls(
            queue_id=int(data["queue_id"]),
            generation=int(data["generation"]),
            status=str(data["status"]),
            claimed_by=str(data["claimed_by"]),
            dispatched_at=None if at is None else datetime.fromisoformat(at),
            run_id=str(data["run_id"]),
            cancel_requested=bool(data["cancel_requested"]),
            outcomes={str(one["run_id"]): str(one["outcome"]) for one in data.get("attempts", ())},
            read_at=read_at,
        )


@dataclass(frozen=True)
class PendingReport:
    """A due row as a polling consumer reads it; `run_key` is for its next launch."""

    id: int
    report_id: int
    modifier_id: int
    trigger_time: datetime
    generation: int
    run_key: str
    schedule_id: int | None

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> PendingReport:
        """Parse the API's JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        return cls(
            id=int(data["id"]),
            report_id=int(data["report_id"]),
            modifier_id=int(data["modifier_id"]),
            trigger_time=datetime.fromisoformat(data["trigger_time"]),
            generation=int(data["generation"]),
            run_key=str(data["run_key"]),
            schedule_id=None if (schedule_id := data.get("schedule_id")) is None else int(schedule_id),
        )


@dataclass(frozen=True)
class Content:
    """A row's parameters, for a run that the queue does not follow."""

    trigger_time: datetime
    params: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Started:
    """A row that a run now owns, and the token that proves it."""

    item: QueueItem
    lease_token: UUID = field(repr=False)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Started:
        """Parse the API's JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        return cls(QueueItem.parse(data), UUID(data["lease_token"]))
