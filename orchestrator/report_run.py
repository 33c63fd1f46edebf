"""What a run is given: the ticket in its tags, and, once its row is started, the report to make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.client import ReportQueueClient, Started
from orchestrator.heart import Pulse

QUEUE_ID_TAG = "reportqueue/queue_id"
GENERATION_TAG = "reportqueue/generation"
SCHEDULE_ID_TAG = "reportqueue/schedule_id"
TRIGGER_TIME_TAG = "reportqueue/trigger_time"


@dataclass(frozen=True)
class Ticket:
    """What names a row and the claim that this run was made for."""

    queue_id: int
    generation: int

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """From `queue_id:generation`, which is also the row's run key. Raises `ValueError` for anything else."""
        queue_id, _, generation = text.partition(":")
        return cls(int(queue_id), int(generation))

    def __str__(self) -> str:
        return f"{self.queue_id}:{self.generation}"

    @classmethod
    def of_run(cls, tags: Mapping[str, str]) -> Ticket | None:
        """From the tags that the queue sensor gives a run; None for a run that somebody else launched."""
        if QUEUE_ID_TAG not in tags:
            return None
        return cls(int(tags[QUEUE_ID_TAG]), int(tags[GENERATION_TAG]))

    def tags(self) -> dict[str, str]:
        """The tags for a run."""
        return {QUEUE_ID_TAG: str(self.queue_id), GENERATION_TAG: str(self.generation)}

    def start(self, client: ReportQueueClient, **run: Any) -> Started:
        """Make a run the row's owner; raises as the client's `start`, which says what `run` has to be."""
        return client.start(self.queue_id, generation=self.generation, **run)


@dataclass(frozen=True)
class FiringTicket:
    """What names a schedule's firing, whose row comes into being when its run starts."""

    schedule_id: int
    trigger_time: datetime

    def tags(self) -> dict[str, str]:
        """The tags for a run."""
        return {SCHEDULE_ID_TAG: str(self.schedule_id), TRIGGER_TIME_TAG: self.trigger_time.isoformat()}

    @classmethod
    def of_run(cls, tags: Mapping[str, str]) -> FiringTicket | None:
        """From the tags that its sensor gives a run; None for a run that somebody else launched."""
        if SCHEDULE_ID_TAG not in tags:
            return None
        return cls(int(tags[SCHEDULE_ID_TAG]), datetime.fromisoformat(tags[TRIGGER_TIME_TAG]))

    def config(self) -> dict[str, Any]:
        """The same for the op's config."""
        return {"schedule_id": self.schedule_id, "trigger_time": self.trigger_time.isoformat()}

    def start(self, client: ReportQueueClient, **run: Any) -> Started:
        """Make a run the owner of the firing's row; raises as the client's `start_firing`."""
        return client.start_firing(self.schedule_id, trigger_time=self.trigger_time, **run)


@dataclass(frozen=True)
class ReportRun:
    """What the report's code is given; `params` come from the row, never from run config or tags."""

    report_id: int
    modifier_id: int
    run_id: str
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    queue_id: int | None = None
    generation: int | None = None
    attempt: int = 1
    trigger_time: datetime | None = None
    _pulse: Pulse | None = field(default=None, repr=False)

    def progress(self, text: str) -> None:
        """Show up to 200 characters to whoever looks at the row; sent with the next heartbeat."""
        if self._pulse is not None:
            self._pulse.progress = text[:200]

    def stop_requested(self) -> bool:
        """Whether the work is no longer wanted: raise anything to end it.

        In the main thread the work is interrupted anyway; in another thread, or between long calls into C code,
        it has to ask.
        """
        return self._pulse is not None and self._pulse.stop is not None


Work = Callable[[ReportRun], Mapping[str, Any] | None]
"""The report's code: makes the report and returns its result, a JSON object of at most 64 KiB. In it,
`{"artifacts": {name: address}}` becomes links in the queue's admin and in the run's metadata."""
