"""The state of the installation at a glance: what waits and runs, who claims, what is late, how long reports take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Count
from django.db.models.functions import TruncHour

from reportqueue import database, measures, queue, triggers
from reportqueue.conf import conf
from reportqueue.measures import OfReport, Span, Throughput
from reportqueue.models import Depth, Pause, ReportConsumer, ReportQueue, ReportSchedule
from reportqueue.models.queue import unfinished
from reportqueue.outbox import OutboxTrouble, troubles
from reportqueue.patterns import Pattern
from reportqueue.queue import FailureGroups

COUNTED = 10_000
"""Rows are counted up to here."""
CONSUMERS = 20
OVERDUE = 5
"""Consumers and overdue schedules that are named."""
FAILURES, FAILURES_OF = 5, "24h"
"""How many groups of failures are shown, and of which period."""
AHEAD = timedelta(hours=24)
SILENT = timedelta(minutes=10)
"""A consumer that has not asked for so long is shown as gone."""


@dataclass(frozen=True)
class Consumer:
    """A consumer, and how long ago it last asked."""

    name: str
    pattern: Pattern
    routes: list[str] | None
    """The routes of its last claim; None: all."""
    seen_at: datetime
    gone: bool
    """Whether it has not asked for `SILENT`."""


@dataclass(frozen=True)
class Overview:
    """What the page shows; instants are aware UTC."""

    now: datetime
    counts: Mapping[str, int]
    """Rows that wait, are in flight, are late, wait for another try, and have failed in the last hour; each up to
    `COUNTED`."""
    oldest: datetime | None
    """Since when the row waits that was due first."""
    pauses: list[Pause]
    troubles: list[str]
    """Why reports do not move, in sentences."""
    sending: Mapping[OutboxTrouble, int]
    """What is wrong with webhooks and alerts; each up to `COUNTED`."""
    consumers: list[Consumer]
    overdue: list[ReportSchedule]
    """The schedules that should have fired, the longest overdue first, at most `OVERDUE`."""
    failures: FailureGroups
    """The groups of reports that failed alike, those with the most rows first."""
    coming: list[tuple[datetime, int]]
    """For each hour of the next day, how many schedules have their next firing in it; hours without are left out."""


def overview() -> Overview:
    """The state now."""
    rows = ReportQueue.objects
    due = rows.due()
    counts, oldest = database.counts_and_first(
        COUNTED,
        # By the index of unfinished rows: in the order of claims, the oldest one may be anywhere.
        due.filter(unfinished()).order_by("trigger_time", "id").values("available_at"),
        waiting=due,
        in_flight=rows.in_flight(),
        late=rows.past_deadline(),
        retrying=rows.retrying(),
        failed=rows.failed_lately(),
        **troubles.queries(),
    )
    sending = troubles.found(counts)
    seen = triggers.watch()
    overdue = triggers.overdue(conf().overdue_seconds, now=seen.now, periods=seen.periods).order_by("next_run_at")
    still = [queue.standstill(), *triggers.troubles(seen)]
    return Overview(
        now=seen.now,
        counts=counts,
        oldest=oldest,
        pauses=queue.paused(),
        troubles=[str(one) for one in still if one],
        sending=sending,
        consumers=[_consumer(one, seen.now) for one in seen.consumers[: -CONSUMERS - 1 : -1]],
        overdue=list(overdue[:OVERDUE]),
        failures=queue.grouped_failures(FAILURES_OF, most=FAILURES, now=seen.now),
        coming=_coming(),
    )


def _consumer(one: ReportConsumer, now: datetime) -> Consumer:
    return Consumer(one.name, Pattern(one.pattern), one.routes, one.seen_at, one.seen_at < now - SILENT)


def _coming() -> list[tuple[datetime, int]]:
    hours = (
        ReportSchedule.objects.coming(datetime(1970, 1, 1, tzinfo=UTC), AHEAD)
        .order_by()
        .annotate(hour=TruncHour("next_run_at", tzinfo=UTC))
        .values("hour")
        .annotate(count=Count("pk"))
        .order_by("hour")
    )
    return [(one["hour"], one["count"]) for one in hours]


@dataclass(frozen=True)
class History:
    """What has been measured in a span of time."""

    span: Span
    reports: list[OfReport]
    throughput: list[Throughput]
    depths: list[Depth]
    until: datetime | None
    """The end of the last period that has been measured; None if none has."""


def history(span: Span, now: datetime) -> History:
    """What has been measured in a span of time before `now`, the database's time."""
    depths = measures.depths(span, now)
    until = depths[-1].start + timedelta(seconds=measures.SHORT) if depths else None
    found = measures.read(span, now)
    return History(span, found.reports, found.throughput, depths, until)
