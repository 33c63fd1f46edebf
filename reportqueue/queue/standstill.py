"""A standstill: launched reports wait and none starts, for instance because hanging runs hold all of the launcher."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models.functions import Now

from reportqueue.clock import database_now
from reportqueue.conf import conf
from reportqueue.lines import counted
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.states import Status

COUNTED = 1_000
"""Waiting rows are counted up to here."""


@dataclass(frozen=True)
class Standstill:
    """Rows wait for their launched runs, and no report has started for some time."""

    waiting: int
    """How many rows wait, counted up to `COUNTED`."""
    more: bool
    """Whether there are more than `waiting`."""
    since: datetime
    """When a report last started, or the first row began to wait after that; aware UTC."""
    minutes: int
    longest: ReportQueue | None
    """The row that has been running for longest, if there is one."""

    def __str__(self) -> str:
        rows = counted(self.waiting, more=self.more)
        text = (
            f"No report has started for {self.minutes:,} minutes, since {self.since:%Y-%m-%d %H:%M} UTC, while {rows} "
            "wait for their launched runs."
        )
        if self.longest is None:
            return f"{text} Does Dagster start runs? Its run launcher and its daemon's log say more."
        started = self.longest.started_at.astimezone(UTC) if self.longest.started_at else self.since
        return (
            f"{text} Do running reports hang? The oldest is #{self.longest.pk}, run {self.longest.run_id}, started "
            f"{started:%Y-%m-%d %H:%M} UTC. Terminate a run that hangs in Dagster."
        )


def standstill() -> Standstill | None:
    """The standstill, if nothing has started for `STALLED_SECONDS` although a row has waited for so long."""
    bound = timedelta(seconds=conf().stalled_seconds)
    # Dispatched rows are no more than the consumers' bounds allow: this stays cheap.
    waiting = ReportQueue.objects.filter(status=Status.DISPATCHED, dispatched_at__lt=Now() - bound)
    oldest = waiting.order_by("dispatched_at").first()
    if oldest is None or oldest.dispatched_at is None:
        return None
    now = database_now()
    last = ReportAttempt.objects.order_by("-id").first()
    since = max(oldest.dispatched_at, last.started_at) if last else oldest.dispatched_at
    if since >= now - bound:
        return None
    count = waiting[: COUNTED + 1].count()
    running = ReportQueue.objects.filter(status=Status.RUNNING).order_by("started_at").first()
    minutes = int((now - since) / timedelta(minutes=1))
    return Standstill(min(count, COUNTED), count > COUNTED, since.astimezone(UTC), minutes, running)
