"""The state of the installation at a glance: what waits and runs, who claims, what is late, how long reports take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Min
from django.db.models.functions import Now, TruncHour

from reportqueue import database, measures, queue, triggers
from reportqueue.clock import database_now
from reportqueue.conf import conf
from reportqueue.measures import OfReport, Span, Throughput
from reportqueue.models import Depth, Pause, ReportConsumer, ReportQueue, ReportSchedule
from reportqueue.patterns import Pattern
from reportqueue.states import LEASED, Status

COUNTED = 10_000
"""Rows are counted up to here."""
CONSUMERS = 20
OVERDUE = 5
"""Consumers and overdue schedules that are named."""
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
    """Since when the row has been due that has waited for longest."""
    pauses: list[Pause]
    troubles: list[str]
    """Why reports do not move, in sentences."""
    consumers: list[Consumer]
    overdue: list[ReportSchedule]
    """The schedules that should have fired, the longest overdue first, at most `OVERDUE`."""
    coming: list[tuple[datetime, int]]
    """For each hour of the next day, how many schedules have their next firing in it; hours without are left out."""


def overview() -> Overview:
    """The state now."""
    rows = ReportQueue.objects
    due = rows.due()
    counts = database.counts(
        COUNTED,
        waiting=due,
        in_flight=rows.filter(status__in=sorted(LEASED)),
        late=rows.past_deadline(),
        retrying=rows.filter(status=Status.QUEUED, waiting=False, available_at__gt=Now(), generation__gt=0),
        failed=rows.filter(status=Status.FAILED, finished_at__gte=Now() - timedelta(hours=1)),
    )
    now = database_now()
    overdue = triggers.overdue(conf().overdue_seconds).order_by("next_run_at")[:OVERDUE]
    troubles = [queue.standstill(), *triggers.silent(), *triggers.twice(), *triggers.unasked()]
    return Overview(
        now=now,
        counts=counts,
        oldest=due.order_by().aggregate(oldest=Min("available_at"))["oldest"] if counts["waiting"] < COUNTED else None,
        pauses=queue.paused(),
        troubles=[str(one) for one in troubles if one],
        consumers=_consumers(now),
        overdue=list(overdue),
        coming=_coming(),
    )


def _consumers(now: datetime) -> list[Consumer]:
    return [
        Consumer(one.name, Pattern(one.pattern), one.routes, one.seen_at, one.seen_at < now - SILENT)
        for one in ReportConsumer.objects.order_by("-seen_at")[:CONSUMERS]
    ]


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
