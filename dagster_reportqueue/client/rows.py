"""Rows as people and programs that enqueue see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dagster_reportqueue.client.parsing import as_json, fields_of, given


@dataclass(frozen=True, kw_only=True)
class NewReport:
    """A report to enqueue. What is None comes from the catalogue, or is the API's default."""

    report_id: int
    modifier_id: int
    params: Mapping[str, Any] | None = field(default=None, repr=False)
    trigger_time: datetime | None = None
    """When it is due, aware. None: now."""
    priority: int | None = None
    max_attempts: int | None = None
    route: str | None = None
    unique: bool = False
    """Whether an unfinished row with the same report, modifier and parameters is the answer, if there is one."""
    idempotency_key: str | None = None
    """Repeat it, and the first row is the answer. None: the client makes one, for its own repetitions of the call."""

    def body(self, key: str) -> dict[str, Any]:
        """The API's JSON, with this key if it has none."""
        fields = {**vars(self), "unique": "unfinished" if self.unique else None}
        return as_json(given({**fields, "idempotency_key": self.idempotency_key or key}))


@dataclass(frozen=True, kw_only=True)
class QueueRow:
    """A row of the queue, with every field of the API. Instants are aware UTC."""

    queue_id: int
    report_id: int
    report_name: str
    """Of the report in the catalogue; empty if it has none."""
    modifier_id: int
    trigger_time: datetime
    processed: bool
    status: str
    """`queued`, `claimed`, `dispatched`, `running`, `succeeded`, `failed`, `cancelled` or `skipped`."""
    source: str
    route: str
    priority: int
    params: Mapping[str, Any] = field(repr=False)  # params may be confidential: never log them
    idempotency_key: str | None
    schedule_id: int | None
    generation: int
    attempt: int
    max_attempts: int
    launch_failures: int
    unstarted_runs: int
    releases: int
    alone: bool
    waiting: bool
    run_key: str | None
    run_id: str
    available_at: datetime
    expires_at: datetime | None
    deadline_at: datetime | None
    created_at: datetime
    claimed_by: str
    claimed_at: datetime | None
    dispatched_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    lease_expires_at: datetime | None
    cancel_requested: bool
    error: str
    failure: str
    """The fingerprint of its error; empty if it has not failed."""
    result: Mapping[str, Any] | None = field(repr=False)
    traceparent: str | None
    """The W3C trace context of the request that queued it."""
    erased_at: datetime | None
    """When its data were erased: it has no parameters any more, and cannot be run again."""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> QueueRow:
        """Parse the API's JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        return cls(**fields_of(cls, data))


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt of a row."""

    attempt: int
    generation: int
    run_id: str
    parent_run_id: str
    worker: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    """Empty for an attempt under way, or `succeeded`, `failed`, `cancelled`, `released` or `expired`."""
    progress: str
    error: str

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Attempt:
        """Parse the API's JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        return cls(**fields_of(cls, data))


@dataclass(frozen=True, kw_only=True)
class RowHistory(QueueRow):
    """A row with its newest 500 attempts, and why it waits."""

    attempts: tuple[Attempt, ...]
    waiting_reasons: tuple[str, ...]

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> RowHistory:
        """Parse the API's JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        attempts = tuple(Attempt.parse(one) for one in data["attempts"])
        return cls(**fields_of(cls, data), attempts=attempts, waiting_reasons=tuple(map(str, data["waiting_reasons"])))
