"""Running totals of what is measured, for counters: they survive restarts, and do not fall when old periods go.

Each short period is added once, in the transaction that rolls it up. A report keeps its own totals from the first
period in which it is measured for itself, so that no count moves from one label to another. If the database's clock is
set back, one period is rolled up once more, and counts twice: better than a counter that falls.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Max

from reportqueue import database
from reportqueue.models import Measure, MeasureTotal
from reportqueue.models.measure import OTHERS, What

_TOTALS, _MEASURES = MeasureTotal._meta.db_table, Measure._meta.db_table
_ADD = f"""
WITH added AS MATERIALIZED (
    SELECT report_id, what, bin, count, total FROM {_MEASURES} WHERE seconds = %(seconds)s AND start = %(start)s
), known AS (
    SELECT DISTINCT report_id FROM {_TOTALS} WHERE report_id <> %(others)s
), own AS (
    SELECT report_id FROM known
    UNION ALL
    SELECT report_id FROM (
        SELECT report_id FROM added WHERE report_id NOT IN (SELECT report_id FROM known) AND report_id <> %(others)s
        GROUP BY report_id ORDER BY sum(count) DESC, report_id
        LIMIT (SELECT greatest(0, %(most)s - count(*)) FROM known)
    ) AS first_time
)
INSERT INTO {_TOTALS} AS kept (report_id, what, bin, count, total, since, until)
SELECT coalesce(own.report_id, %(others)s), what, bin, sum(count), sum(total), %(start)s, %(start)s
FROM added LEFT JOIN own ON own.report_id = added.report_id
GROUP BY 1, 2, 3
ON CONFLICT (report_id, what, bin) DO UPDATE
SET count = kept.count + excluded.count, total = kept.total + excluded.total, until = excluded.until
"""  # noqa: S608  # names of tables
_READ = f"""
WITH named AS (
    SELECT report_id FROM {_TOTALS} WHERE report_id <> %(others)s
    GROUP BY report_id ORDER BY min(since), report_id LIMIT %(most)s
)
SELECT coalesce(named.report_id, %(others)s), what, bin, sum(count), sum(total)
FROM {_TOTALS} AS kept LEFT JOIN named ON named.report_id = kept.report_id
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
"""  # noqa: S608
# Without a report, another one of those that share a label may get a label of its own.
_KEEP_SHARED = f"""
WITH ranked AS (
    SELECT report_id, max(until) < %(before)s AS goes, row_number() OVER (ORDER BY min(since), report_id) AS place
    FROM {_TOTALS} WHERE report_id <> %(others)s GROUP BY report_id
), moved AS (
    SELECT report_id FROM (
        SELECT report_id, goes, place, row_number() OVER (PARTITION BY goes ORDER BY place) AS next_place FROM ranked
    ) AS placed
    WHERE place > %(most)s AND (goes OR next_place <= %(most)s)
)
INSERT INTO {_TOTALS} AS kept (report_id, what, bin, count, total, since, until)
SELECT %(others)s, what, bin, sum(count), sum(total), min(since), max(until)
FROM {_TOTALS} JOIN moved USING (report_id)
GROUP BY 2, 3
ON CONFLICT (report_id, what, bin) DO UPDATE
SET count = kept.count + excluded.count, total = kept.total + excluded.total
"""  # noqa: S608


@dataclass
class Times:
    """How often a time was measured, by bins, and the sum of these times in seconds."""

    bins: dict[int, int] = field(default_factory=dict)
    total: float = 0


@dataclass
class Total:
    """Everything that was measured of a report."""

    ended: dict[str, int] = field(default_factory=dict)
    """How many rows ended in each final status."""
    waited: Times = field(default_factory=Times)
    """From due to started."""
    ran: Times = field(default_factory=Times)
    """From started to finished."""


def add(seconds: int, start: datetime, *, most: int) -> None:
    """Add the measures of a period. At most `most` reports have totals of their own; all others share theirs."""
    with database.connection().cursor() as cursor:
        cursor.execute(_ADD, {"seconds": seconds, "start": start, "most": most, "others": OTHERS})


def forget(before: datetime, *, most: int) -> None:
    """Delete the totals of reports that were last measured before then: their places are free for others.

    What `read` counts for the others together, with the same `most`, stays: a sum that falls or rises at once would
    look like reports that have just ended.
    """
    with database.connection().cursor() as cursor:
        cursor.execute(_KEEP_SHARED, {"before": before, "most": most, "others": OTHERS})
    kept = MeasureTotal.objects.exclude(report_id=OTHERS)
    old = kept.values("report_id").annotate(last=Max("until")).filter(last__lt=before).values("report_id")
    MeasureTotal.objects.filter(report_id__in=old).delete()


def read(most: int) -> dict[int, Total]:
    """The totals of the `most` reports that were measured first, and under `OTHERS` those of all others together."""
    found: dict[int, Total] = defaultdict(Total)
    with database.connection().cursor() as cursor:
        cursor.execute(_READ, {"most": most, "others": OTHERS})
        for report_id, what, place, count, total in cursor.fetchall():
            of_report = found[report_id]
            if what in (What.WAIT, What.RUN):
                times = of_report.waited if what == What.WAIT else of_report.ran
                times.bins[place] = int(count)
                times.total += total
            else:
                of_report.ended[what] = int(count)
    return dict(found)
