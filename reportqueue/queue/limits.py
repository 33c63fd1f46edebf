"""What limits leave to a claim: reports that are paused, at their caps or at their rates, and what is under way.

All of it is derived from the rows: there is no counter that could be wrong. The caller holds the lock of `choice`, so
no other claim changes these numbers meanwhile; every other move only lowers them, but for the start of a row whose run
existed already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models.functions import Now

from reportqueue import database
from reportqueue.models import Pause, Report, ReportAttempt, ReportQueue
from reportqueue.models.pause import Scope
from reportqueue.models.queue import unfinished
from reportqueue.states import LEASED, Status

_LEASED = ", ".join(f"'{status}'" for status in sorted(LEASED))
# The second condition is for the index `reportqueue_open`: what waits is not read.
_UNDER_WAY = f"""
SELECT report_id, modifier_id, count(*), count(*) FILTER (WHERE status <> '{Status.RUNNING}')
FROM {ReportQueue._meta.db_table}
WHERE report_id = ANY (%s) AND report_id >= 0 AND status IN ({_LEASED})
GROUP BY report_id, modifier_id
"""  # noqa: S608  # a name of a table and words of the vocabulary
# At most as many as the rate has starts are read.
_STARTED = f"""
SELECT count(*) FROM (
    SELECT FROM {ReportAttempt._meta.db_table}
    WHERE report_id = %s AND started_at > statement_timestamp() - make_interval(secs => %s)
        AND started_at <= statement_timestamp()  -- later ones are from before the clock was set back
    LIMIT %s
) AS started
"""  # noqa: S608


@dataclass
class Limits:
    """What may still be handed out; `take` counts a row that is."""

    paused: bool = False
    """The whole queue is."""
    paused_routes: frozenset[str] = frozenset()
    blocked: set[int] = field(default_factory=set)
    """Reports of which nothing may be handed out."""
    left: dict[int, int] = field(default_factory=dict)
    """How many rows of a limited report may be handed out."""
    caps: dict[int, int] = field(default_factory=dict)
    """How many rows of each modifier of a report may be under way."""
    under_way: Counter[tuple[int, int]] = field(default_factory=Counter)
    """The leased rows of a limited report and a modifier."""

    def room(self, report_id: int, modifier_id: int, wanted: int) -> int:
        """How many of the wanted rows of this report and modifier may be handed out, were there no others."""
        if report_id in self.blocked:
            return 0
        cap = self.caps.get(report_id)
        room = wanted if cap is None else max(0, cap - self.under_way[report_id, modifier_id])
        return min(wanted, room, self.left.get(report_id, wanted))

    def allows(self, report_id: int, modifier_id: int) -> bool:
        """Whether one more row of this report and modifier may be handed out."""
        return self.room(report_id, modifier_id, 1) == 1

    def take(self, report_id: int, modifier_id: int) -> None:
        """One more row of them is handed out."""
        self.under_way[report_id, modifier_id] += 1
        if report_id in self.left:
            self.left[report_id] -= 1
            if self.left[report_id] < 1:
                self.blocked.add(report_id)


def current() -> Limits:
    """What holds now."""
    pauses = list(Pause.objects.values_list("scope", "route", "report_id"))
    limits = Limits(
        paused=any(scope == Scope.QUEUE for scope, _, _ in pauses),
        paused_routes=frozenset(route for scope, route, _ in pauses if scope == Scope.ROUTE),
        blocked={report_id for scope, _, report_id in pauses if scope == Scope.REPORT and report_id is not None},
    )
    limited = list(Report.objects.limiting())
    of_report: Counter[int] = Counter()
    unstarted: Counter[int] = Counter()
    for report_id, modifier_id, rows, waiting in _under_way([report.pk for report in limited]):
        limits.under_way[report_id, modifier_id] = rows
        of_report[report_id] += rows
        unstarted[report_id] += waiting
    for report in limited:
        rooms = []
        if report.max_running is not None:
            rooms.append(report.max_running - of_report[report.pk])
        if report.rate_limit is not None:
            # A row that is handed out and has not started may start at any time: it counts as if it had.
            rooms.append(report.rate_limit - unstarted[report.pk] - _started(report))
        if report.max_running_per_modifier is not None:
            limits.caps[report.pk] = report.max_running_per_modifier
        if rooms:
            limits.left[report.pk] = min(rooms)
            if min(rooms) < 1:
                limits.blocked.add(report.pk)
    return limits


def held(most: int) -> int:
    """How many due rows may not be handed out because of a pause or a limit, counted up to `most`."""
    limits, due = current(), ReportQueue.objects.due().order_by()
    if limits.paused:
        return due[:most].count()
    full: dict[int, list[int]] = {}
    for (report_id, modifier_id), rows in limits.under_way.items():
        if report_id not in limits.blocked and rows >= limits.caps.get(report_id, rows + 1):
            full.setdefault(report_id, []).append(modifier_id)
    parts = [
        *([due.filter(route__in=limits.paused_routes)] if limits.paused_routes else []),
        *([due.filter(unfinished(), report_id__in=limits.blocked)] if limits.blocked else []),
        *(due.filter(unfinished(), report_id=report_id, modifier_id__in=full[report_id]) for report_id in full),
    ]
    found: set[int] = set()
    for part in parts:  # a row may be in several
        found.update(part.values_list("pk", flat=True)[:most])
    return min(len(found), most)


@dataclass(frozen=True)
class Use:
    """What of a report is under way."""

    rows: int
    """Claimed, launched or running."""
    of_modifier: int
    """Those of one modifier."""
    unstarted: int
    """Those that no run has started."""


def use_of(report_id: int, modifier_id: int) -> Use:
    """What of a report, and of one modifier of it, is under way."""
    found = list(_under_way([report_id]))
    return Use(
        rows=sum(rows for _, _, rows, _ in found),
        of_modifier=sum(rows for _, modifier, rows, _ in found if modifier == modifier_id),
        unstarted=sum(waiting for _, _, _, waiting in found),
    )


def next_start(report: Report, unstarted: int) -> datetime | None:
    """When the rate of a report that has one allows another start.

    None if it depends on the rows that are handed out and have not started: each of them counts as a start.
    """
    if report.rate_limit is None or report.rate_period_seconds is None or unstarted >= report.rate_limit:
        return None
    starts = ReportAttempt.objects.filter(report_id=report.pk, started_at__lte=Now()).order_by("-started_at")
    deciding = starts.values_list("started_at", flat=True)[report.rate_limit - unstarted - 1 :][:1]
    return next((at + timedelta(seconds=report.rate_period_seconds) for at in deciding), None)


def _under_way(report_ids: Collection[int]) -> Iterator[tuple[int, int, int, int]]:
    """Of each report and modifier the leased rows, and those of them that have not started."""
    with database.connection().cursor() as cursor:
        cursor.execute(_UNDER_WAY, [list(report_ids)])
        yield from cursor.fetchall()


def _started(report: Report) -> int:
    with database.connection().cursor() as cursor:
        cursor.execute(_STARTED, [report.pk, report.rate_period_seconds, report.rate_limit])
        return int(cursor.fetchone()[0])
