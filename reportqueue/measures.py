"""Waiting times, durations and outcomes of reports, rolled up by periods, so that a page need not read the history.

Each short period is rolled up once, some seconds after its end, from the rows that ended in it; each hour from its
short periods. Times are counted in bins on a scale of powers, so a percentile is exact to about 12 %.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import DatabaseError
from django.db.models import Max

from reportqueue import bounds, database, locks, totals, unmeasured
from reportqueue.clock import database_now
from reportqueue.conf import conf
from reportqueue.models import Depth, Measure, ReportQueue, UnmeasuredEnd
from reportqueue.models.measure import OTHERS, What
from reportqueue.states import FINAL, LEASED, Status

logger = logging.getLogger("reportqueue")
SHORT, HOUR = 300, 3600
"""The lengths of periods, in seconds."""
SETTLED_SECONDS = 30
"""After so long a period is rolled up: a row is committed later than the instant at which it ended says."""
KEPT = {SHORT: timedelta(days=2), HOUR: timedelta(days=35)}
"""How long periods of each length are kept."""
AT_ONCE = 12
"""Periods that one call rolls up at most."""
REPORTS = 200
"""Reports of a period that are measured for themselves, the busiest; all others are measured together."""
COUNTED = 100_000
"""Rows are counted up to here."""
SMALLEST, FACTOR, BINS = 0.05, 1.25, 80
"""Bin 0 has times up to 0.05 s; each further bin is wider by a quarter. The last one begins at 26 days."""
STATEMENT_SECONDS = 20
LOCK = "reportqueue:measures"

_OF_A_SHORT_PERIOD = f"""
WITH ended AS MATERIALIZED (
    SELECT report_id, status, started_at - greatest(available_at, created_at) AS waited,
        finished_at - started_at AS ran
    FROM (
        SELECT {unmeasured.COLUMNS} FROM {ReportQueue._meta.db_table}
        WHERE finished_at >= %(start)s AND finished_at < %(end)s AND status = ANY(%(final)s)
        UNION ALL
        SELECT {unmeasured.COLUMNS} FROM {UnmeasuredEnd._meta.db_table}
        WHERE finished_at >= %(start)s AND finished_at < %(end)s
    ) AS ends
), busiest AS (
    SELECT report_id FROM ended GROUP BY report_id ORDER BY count(*) DESC, report_id LIMIT %(reports)s
), named AS (
    SELECT coalesce(b.report_id, %(others)s) AS report_id, e.status, e.waited, e.ran
    FROM ended e LEFT JOIN busiest b ON b.report_id = e.report_id
), counted AS (
    SELECT report_id, status AS what, 0 AS bin, count(*), 0::float8 AS total FROM named GROUP BY 1, 2
    UNION ALL
    SELECT report_id, v.what, least(%(bins)s, greatest(0, ceil(
        ln(greatest(extract(epoch FROM v.length)::float8, %(smallest)s) / %(smallest)s) / ln(%(factor)s::float8)
    )))::smallint, count(*), sum(greatest(0, extract(epoch FROM v.length)::float8))
    FROM named CROSS JOIN LATERAL (VALUES ('wait', waited), ('run', ran)) AS v (what, length)
    WHERE v.length IS NOT NULL
    GROUP BY 1, 2, 3
)
INSERT INTO {Measure._meta.db_table} (seconds, start, report_id, what, bin, count, total)
SELECT {SHORT}, %(start)s, report_id, what, bin, count, total FROM counted
"""  # noqa: S608  # names of tables and numbers
_OF_AN_HOUR = f"""
INSERT INTO {Measure._meta.db_table} (seconds, start, report_id, what, bin, count, total)
SELECT {HOUR}, %(start)s, report_id, what, bin, sum(count), sum(total)
FROM {Measure._meta.db_table}
WHERE seconds = {SHORT} AND start >= %(start)s AND start < %(end)s
GROUP BY report_id, what, bin
ON CONFLICT DO NOTHING
"""  # noqa: S608

_MEASURES = Measure._meta.db_table
# The last hour is not over: its short periods are read instead.
_OF_SPAN = f"""
(seconds = %(seconds)s AND start >= %(start)s) OR (
    %(seconds)s = {HOUR} AND seconds = {SHORT} AND start >= %(start)s AND start >= date_trunc(
        'hour', (SELECT max(start) FROM {Depth._meta.db_table}) + interval '{SHORT} s', 'UTC'
    )
)
"""  # noqa: S608
# The counts of each report, and those of each period: one reading for both.
_READ = f"""
SELECT start, report_id, what, bin, sum(count) FROM {_MEASURES} WHERE {_OF_SPAN}
GROUP BY GROUPING SETS ((report_id, what, bin), (start, what))
"""  # noqa: S608

_next_try = 0.0
"""When this process looks again whether a period is to be rolled up (`time.time()`)."""


def roll_up_if_due(*, after: float = 0) -> int:
    """Roll up what is due, if a period may have ended since this process last looked; how many were rolled up.

    For callers that come by often and have other things to do: an error of the database is logged. A claim waits for
    some seconds `after` the scheduler may do it: it does it only if there is no scheduler.
    """
    global _next_try
    now = time.time() - after
    if now < _next_try <= now + after + SHORT + SETTLED_SECONDS:  # a later one is of before the clock was set back
        return 0
    _next_try = now - now % SHORT + SHORT + SETTLED_SECONDS
    try:
        done = roll_up()
    except DatabaseError as error:
        logger.warning("Waiting times and durations were not rolled up: %s", str(error).strip().splitlines()[0])
        return 0
    if done == AT_ONCE:
        _next_try = now + SETTLED_SECONDS  # there may be more
    return done


def roll_up(now: datetime | None = None) -> int:
    """Roll up the periods that have ended, the oldest first, at most `AT_ONCE`; how many there were.

    Several processes may call it at once: one of them does it. Times are the database's.
    """
    with database.quick(STATEMENT_SECONDS):
        if not locks.try_until_commit(LOCK):
            return 0
        now = now or database_now()
        newest = _begin(now - timedelta(seconds=SETTLED_SECONDS), SHORT) - timedelta(seconds=SHORT)
        last = _last_rolled_up(newest)
        start = oldest = _begin(now - unmeasured.BEHIND, SHORT)
        if last is not None:
            following = last + timedelta(seconds=SHORT)
            start = max(oldest, following)
            if _begin(following, HOUR) < _begin(start, HOUR) and following != _begin(following, HOUR):
                _sum_up(_begin(following, HOUR))  # of the hour in which it stopped nothing more comes
        done = 0
        while start <= newest and done < AT_ONCE:
            _roll_up(start, now)
            start += timedelta(seconds=SHORT)
            done += 1
        if done:
            _forget(now)
            unmeasured.forget(start - timedelta(seconds=SHORT))
    return done


def _begin(instant: datetime, seconds: int) -> datetime:
    """The begin of the period in which the instant lies."""
    return datetime.fromtimestamp(instant.timestamp() // seconds * seconds, UTC)


def _last_rolled_up(newest: datetime) -> datetime | None:
    """The last period that was rolled up. If some have not even ended, these and the newest that has are forgotten.

    They were rolled up while the database's clock was ahead. No further one would be before it comes to them.
    """
    last: datetime | None = Depth.objects.aggregate(last=Max("start"))["last"]
    if last is None or last <= newest:
        return last
    for seconds in KEPT:
        Measure.objects.filter(seconds=seconds, start__gt=newest - timedelta(seconds=seconds)).delete()
    Depth.objects.filter(start__gte=newest).delete()
    return _last_rolled_up(newest)


def _roll_up(start: datetime, now: datetime) -> None:
    end = start + timedelta(seconds=SHORT)
    numbers = {"reports": REPORTS, "others": OTHERS, "bins": BINS, "smallest": SMALLEST, "factor": FACTOR}
    with database.connection().cursor() as cursor:
        cursor.execute(_OF_A_SHORT_PERIOD, {"start": start, "end": end, "final": sorted(FINAL), **numbers})
    if _begin(end, HOUR) == end:
        _sum_up(end - timedelta(seconds=HOUR))
    totals.add(SHORT, start, most=bounds.MAX_METRICS_LABELS)
    # Of a period that ended long ago nobody has counted what waited then.
    counted = _depth() if now - end < timedelta(seconds=SHORT) else {}
    Depth(start=start, **counted).save(force_insert=True)


def _sum_up(hour: datetime) -> None:
    """Roll up the hour that begins then, from its short periods."""
    with database.connection().cursor() as cursor:
        cursor.execute(_OF_AN_HOUR, {"start": hour, "end": hour + timedelta(seconds=HOUR)})


def _depth() -> dict[str, int]:
    rows = ReportQueue.objects
    found = {"waiting": rows.due(), "in_flight": rows.filter(status__in=LEASED), "late": rows.past_deadline()}
    return database.counts(COUNTED, **found)


def _forget(now: datetime) -> None:
    for seconds, kept in KEPT.items():
        Measure.objects.filter(seconds=seconds, start__lt=now - kept).delete()
    Depth.objects.filter(start__lt=now - KEPT[SHORT]).delete()
    totals.forget(now - KEPT[HOUR], most=conf().metrics_labels)


@dataclass(frozen=True)
class Times:
    """Percentiles of a time, in seconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class OfReport:
    """What was measured of a report in a span of time; `report_id` is None for all further reports together."""

    report_id: int | None
    ended: dict[str, int]
    """How many rows ended in each final status."""
    waited: Times | None
    """From due to started; None if none has started."""
    ran: Times | None
    """From started to finished; None if none has."""

    @property
    def total(self) -> int:
        """How many rows ended."""
        return sum(self.ended.values())


@dataclass(frozen=True)
class Span:
    """A span of time for which measures are shown."""

    name: str
    hours: int
    seconds: int
    """The length of the periods that are read for it."""

    def start(self, now: datetime) -> datetime:
        """The begin of its first whole period."""
        return _begin(now - timedelta(hours=self.hours), self.seconds)

    def values(self, now: datetime) -> dict[str, Any]:
        """For a condition of measures."""
        return {"seconds": self.seconds, "start": self.start(now)}


SPANS = [Span("1h", 1, SHORT), Span("6h", 6, SHORT), Span("24h", 24, HOUR), Span("7d", 168, HOUR)]
"""The spans that can be asked for, by their names."""


@dataclass(frozen=True)
class Throughput:
    """How many rows ended in a period, without those that were cancelled or skipped."""

    start: datetime
    succeeded: int
    failed: int


@dataclass(frozen=True)
class Measured:
    """What was measured in a span of time."""

    reports: list[OfReport]
    """The busiest first. The last one is all further reports together, if there are such."""
    throughput: list[Throughput]
    """Each period, the oldest first, also those in which nothing ended."""


def read(span: Span, now: datetime, *, most: int = 50) -> Measured:
    """What was measured in the whole periods of a span before `now`, with at most `most` reports for themselves."""
    bins: dict[int, dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    ended: dict[datetime, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    with database.connection().cursor() as cursor:
        cursor.execute(_READ, span.values(now))
        for begin, report_id, what, place, count in cursor.fetchall():
            if begin is None:
                bins[report_id][what][place] = int(count)
            else:
                ended[_begin(begin, span.seconds)][what] += int(count)
    return Measured(_of_reports(bins, most), _throughput(span, now, ended))


def _of_reports(bins: dict[int, dict[str, dict[int, int]]], most: int) -> list[OfReport]:
    busiest = sorted(bins.keys() - {OTHERS}, key=lambda pk: (-_ended(bins[pk]), pk))
    reports = [_of_report(pk, bins[pk]) for pk in busiest[:most]]
    further = [bins[pk] for pk in (*busiest[most:], *({OTHERS} & bins.keys()))]
    return reports + ([_of_report(None, _together(further))] if further else [])


def _throughput(span: Span, now: datetime, ended: dict[datetime, dict[str, int]]) -> list[Throughput]:
    start, last = span.start(now), _begin(now, span.seconds)
    periods = []
    while start <= last:
        periods.append(Throughput(start, ended[start][Status.SUCCEEDED], ended[start][Status.FAILED]))
        start += timedelta(seconds=span.seconds)
    return periods


def _ended(bins: dict[str, dict[int, int]]) -> int:
    return sum(bins[status].get(0, 0) for status in FINAL if status in bins)


def _together(several: Collection[dict[str, dict[int, int]]]) -> dict[str, dict[int, int]]:
    summed: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for bins in several:
        for what, counted in bins.items():
            for place, count in counted.items():
                summed[what][place] += count
    return summed


def _of_report(report_id: int | None, bins: dict[str, dict[int, int]]) -> OfReport:
    ended = {str(status): bins[status][0] for status in FINAL if status in bins}
    return OfReport(report_id, ended, _times(bins.get(What.WAIT)), _times(bins.get(What.RUN)))


def _times(bins: dict[int, int] | None) -> Times | None:
    return Times(*(percentile(bins, share) for share in (0.5, 0.95, 0.99))) if bins else None


def percentile(bins: dict[int, int], share: float) -> float:
    """The time below which that share of the counted times lies, in seconds: the middle of its bin."""
    wanted = share * sum(bins.values())
    passed = 0
    for place in sorted(bins):
        passed += bins[place]
        if passed >= wanted:
            return seconds_of(place)
    raise ValueError("There is nothing to take a percentile of.")


def widest(place: int) -> float:
    """The longest time of a bin, in seconds. The last bin has longer ones, too."""
    return float(SMALLEST * FACTOR**place)


def seconds_of(place: int) -> float:
    """The middle of a bin, in seconds."""
    return SMALLEST if place == 0 else float(SMALLEST * FACTOR ** (place - 0.5))


def depths(span: Span, now: datetime) -> list[Depth]:
    """How many rows there were at the end of each short period of a span, as far back as that is kept."""
    return list(Depth.objects.filter(start__gte=span.start(now)).order_by("start"))
