"""The statuses of a queue row and the transitions between them: all other modules use these words."""

from __future__ import annotations

from enum import StrEnum

from django.db import models
from django.utils.translation import gettext_lazy as _


class Status(models.TextChoices):
    """Where a row is. Only `reportqueue.queue` and the scheduler's insert write it."""

    QUEUED = "queued", _("Queued")
    """Waiting; claimable once `available_at` has come and no earlier report holds it up. Leaves by claim, start,
    cancel. A crash changes nothing."""
    CLAIMED = "claimed", _("Claimed")
    """Handed to a consumer that has not yet confirmed that it stored it. Leaves by its acknowledgement, start,
    fail, release, cancel. If the consumer crashes, its next claim gets the same rows; if it does not claim again:
    rescue_expired."""
    DISPATCHED = "dispatched", _("Dispatched")
    """The consumer confirmed: a run exists or will. Leaves by start, fail (a run that never started), release,
    cancel. If the launch is lost, rescue_expired offers the row again, after a delay that grows each time."""
    RUNNING = "running", _("Running")
    """Owned by a run through its lease token. Leaves by complete, fail, release, cancel (by its owner). If the run
    crashes, rescue_expired queues the row for another attempt, or fails it when its attempts are used up."""
    SUCCEEDED = "succeeded", _("Succeeded")
    """Final: the report was made. Leaves by requeue."""
    FAILED = "failed", _("Failed")
    """Final: its attempts are used up, its error was reported as not retryable, or no run has ever started it. Leaves
    by requeue."""
    CANCELLED = "cancelled", _("Cancelled")
    """Final: a person or its run cancelled it. Leaves by requeue."""
    SKIPPED = "skipped", _("Skipped")
    """Final: it was not run, since the scheduler left it out or it expired; `error` says why. It stays so."""


LEASED = frozenset({Status.CLAIMED, Status.DISPATCHED, Status.RUNNING})
"""Statuses in which a consumer or a run holds the row for a limited time."""
WITH_CONSUMER = frozenset({Status.CLAIMED, Status.DISPATCHED})
"""Statuses of rows that are handed out and not yet started."""
FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.SKIPPED})
"""Statuses in which a row is `processed`."""
UNFINISHED = frozenset(Status) - FINAL
"""Statuses in which a row may still be run."""


class Verb(StrEnum):
    """What can be done to a row. Each verb has one function in `reportqueue.queue`."""

    ENQUEUE = "enqueue"
    SKIP = "skip"
    """The scheduler inserts a row that says which firing it does not run, and why."""
    CLAIM = "claim"
    ACKNOWLEDGE = "acknowledge"
    START = "start"
    COMPLETE = "complete"
    FAIL = "fail"
    RELEASE = "release"
    CANCEL = "cancel"
    REQUEUE = "requeue"
    MARK_PROCESSED = "mark_processed"
    """A consumer that polls has launched the row's run; the queue does not follow that run."""
    RESCUE = "rescue_expired"
    EXPIRE = "expire"
    """The row should have started long ago, and is not run any more."""


TRANSITIONS: dict[Verb, dict[Status, frozenset[Status]]] = {
    Verb.CLAIM: {
        # Failed: a row that has been handed out as often as its counter can say.
        Status.QUEUED: frozenset({Status.CLAIMED, Status.FAILED}),
    },
    Verb.ACKNOWLEDGE: {Status.CLAIMED: frozenset({Status.DISPATCHED})},
    Verb.START: {
        Status.QUEUED: frozenset({Status.RUNNING}),
        Status.CLAIMED: frozenset({Status.RUNNING}),
        Status.DISPATCHED: frozenset({Status.RUNNING}),
        # A final row starts only for a person's re-execution of its last run.
        Status.SUCCEEDED: frozenset({Status.RUNNING}),
        Status.FAILED: frozenset({Status.RUNNING}),
        Status.CANCELLED: frozenset({Status.RUNNING}),
    },
    Verb.COMPLETE: {Status.RUNNING: frozenset({Status.SUCCEEDED})},
    Verb.FAIL: {
        # Failed: one run after the other has ended without starting the row.
        Status.CLAIMED: frozenset({Status.QUEUED, Status.FAILED}),
        Status.DISPATCHED: frozenset({Status.QUEUED, Status.FAILED}),
        Status.RUNNING: frozenset({Status.QUEUED, Status.FAILED, Status.CANCELLED}),
    },
    Verb.RELEASE: {
        Status.CLAIMED: frozenset({Status.QUEUED}),
        Status.DISPATCHED: frozenset({Status.QUEUED}),
        Status.RUNNING: frozenset({Status.QUEUED, Status.FAILED, Status.CANCELLED}),
    },
    Verb.CANCEL: {
        Status.QUEUED: frozenset({Status.CANCELLED}),
        Status.CLAIMED: frozenset({Status.CANCELLED}),
        Status.DISPATCHED: frozenset({Status.CANCELLED}),
        Status.RUNNING: frozenset({Status.CANCELLED}),
    },
    Verb.MARK_PROCESSED: {
        Status.QUEUED: frozenset({Status.SUCCEEDED}),
        Status.CLAIMED: frozenset({Status.SUCCEEDED}),
        Status.DISPATCHED: frozenset({Status.SUCCEEDED}),
    },
    Verb.REQUEUE: {
        Status.SUCCEEDED: frozenset({Status.QUEUED}),
        Status.FAILED: frozenset({Status.QUEUED}),
        Status.CANCELLED: frozenset({Status.QUEUED}),
    },
    Verb.RESCUE: {
        Status.CLAIMED: frozenset({Status.QUEUED}),
        Status.DISPATCHED: frozenset({Status.QUEUED}),
        Status.RUNNING: frozenset({Status.QUEUED, Status.FAILED, Status.CANCELLED}),
    },
    Verb.EXPIRE: {
        Status.QUEUED: frozenset({Status.SKIPPED}),
        # A run that comes too late does not start its row.
        Status.CLAIMED: frozenset({Status.SKIPPED}),
        Status.DISPATCHED: frozenset({Status.SKIPPED}),
    },
}
"""verb -> status before -> statuses after. `queue` refuses every other transition. A new row is queued or skipped."""


class Source(models.TextChoices):
    """Who put a row into the queue."""

    SCHEDULE = "schedule", _("Schedule")
    BACKFILL = "backfill", _("Backfill")
    """A person asked for past firings of a schedule."""
    API = "api", _("API")
    CODE = "code", _("Code")
    """`queue.enqueue` called by the project, usually inside its own transaction."""
    ADMIN = "admin", _("Admin")
    WEBHOOK = "webhook", _("Webhook")
    """A signed delivery of another system."""


class Outcome(models.TextChoices):
    """How an attempt ended. A running attempt has no outcome."""

    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")
    RELEASED = "released", _("Released")
    """The run gave the row back, for instance because its machine is shutting down."""
    EXPIRED = "expired", _("Lease expired")
    """The run sent no more heartbeats: it was killed, cut off, or frozen."""
