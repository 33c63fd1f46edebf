"""Whether reports move: what is counted, what has stalled, what is paused. The texts name no consumer and no person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reportqueue import database, lines, locks, queue, triggers
from reportqueue.clock import minute
from reportqueue.conf import conf
from reportqueue.models import Pause, ReportQueue
from reportqueue.models.event import LATELY
from reportqueue.outbox import OutboxTrouble, troubles
from reportqueue.states import Status

COUNTED = 1_000
"""Rows and overdue schedules are counted up to here: a probe must not read a million rows every few seconds."""
CLAIMED_TWICE = "A consumer claims from two Dagster deployments: the admin and the log name it."
SENDING = {
    OutboxTrouble.DISABLED: "Webhook subscriptions that were disabled by their failures",
    OutboxTrouble.GIVEN_UP: f"Webhook deliveries that were given up in the last {LATELY.days} days",
    OutboxTrouble.ALERTS_FAIL: "Alert rules whose messages cannot be sent",
}


@dataclass(frozen=True)
class State:
    """How the installation moves."""

    counts: dict[str, int]
    """Overdue schedules, and the rows that are due, dispatched, running and late; each up to `COUNTED`."""
    reasons: list[str]
    """Why it does not move; empty if it does."""
    warnings: list[str]
    """What costs runs, or is late, and stops nothing else."""
    pauses: list[Pause]
    """What people have paused, the oldest first."""


def state(seconds: float) -> State:
    """How the installation moves; each statement may take so many `seconds`. Raises `Error` of the database."""
    rows = ReportQueue.objects
    with database.quick(seconds):
        seen = triggers.watch()
        counted = {
            "overdue_schedules": triggers.overdue(conf().overdue_seconds, now=seen.now, periods=seen.periods),
            "due": rows.due(),
            "dispatched": rows.filter(status=Status.DISPATCHED),
            "running": rows.filter(status=Status.RUNNING),
            "past_deadline": rows.past_deadline(),
        }
        counts = database.counts(COUNTED, **counted, **troubles.queries())
        sending = troubles.found(counts)
        stalled = queue.standstill()
        reasons = [
            *([locks.READ_ONLY] if database.is_read_only() else []),
            *_overdue(counts["overdue_schedules"]),
            *([str(stalled)] if stalled else []),
            *(silence.without_name() for silence in triggers.silent(seen)),
        ]
        warnings = [
            *_late(counts["past_deadline"]),
            *([CLAIMED_TWICE] if triggers.twice(seen) else []),
            *map(str, triggers.unasked(seen)),
            *_sending(sending),
        ]
        pauses = queue.paused()
    return State(counts, reasons, warnings, pauses)


def held(seconds: float) -> int:
    """How many due rows pauses and limits hold back, up to `COUNTED`; each statement may take so many `seconds`."""
    with database.quick(seconds):
        return queue.held(COUNTED)


def paused(pause: Pause) -> str:
    """A pause for callers without a login, who do not learn by whom and why."""
    return f"{pause.named} is paused since {minute(pause.paused_at)}."


def _late(count: int) -> list[str]:
    if not count:
        return []
    return [f"Reports that have missed their deadline and are unfinished: {_counted(count)}."]


def _sending(found: Mapping[OutboxTrouble, int]) -> list[str]:
    return [f"{SENDING[one]}: {_counted(count)}." for one, count in found.items()]


def _counted(count: int) -> str:
    return lines.counted(count, more=count == COUNTED)


def _overdue(count: int) -> list[str]:
    if not count:
        return []
    bound = conf().overdue_seconds
    return [f"Schedules overdue by more than {bound} s: {_counted(count)}. Does a scheduler run, or a consumer claim?"]
