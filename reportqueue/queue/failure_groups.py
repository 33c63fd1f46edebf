"""Failed rows, grouped by their error: so many rows are few failures. What is known can be muted.

The groups are made from the rows when somebody asks. The cost follows the number of groups: each of them is found by
one step along an index, and its rows are counted up to a bound.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reportqueue import audit, bounds, catalogue, database, failures, locks
from reportqueue.clock import database_now
from reportqueue.errors import RowNotFound
from reportqueue.models import MutedFailure, ReportQueue
from reportqueue.models.audit import Kind
from reportqueue.models.queue import failed_like

logger = logging.getLogger("reportqueue")
PERIODS: dict[str, timedelta | None] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "all": None,
}
"""For how long until now failures are looked for; None: as long as their rows are kept."""
DEFAULT_PERIOD = "24h"
MAX_GROUPS = 200
"""Groups that are shown, the newest; and as many muted ones."""
WALKED = 5_000
"""Fingerprints in the table that are looked at, of whatever age."""
LATEST = 10_000
"""Newest failed rows whose fingerprints are looked at in any case."""
COUNTED = 10_000
"""Rows of a group are counted up to here."""
SAMPLE = 100
"""Newest rows of a group whose reports are named."""
REPORTS = 5
"""Reports of a group that are named."""


@dataclass(frozen=True)
class FailureGroup:
    """Rows that failed alike within the period. A muted group may have none."""

    fingerprint: str
    title: str
    frame: str
    count: int
    """At most `COUNTED`."""
    more: bool
    """Whether there are more rows."""
    first_at: datetime | None
    last_at: datetime | None
    example: int | None
    """The id of the newest row."""
    reports: list[tuple[int, str]]
    """Some of the reports that failed, each with its name, or an empty one without an entry in the catalogue."""
    more_reports: bool
    muted: MutedFailure | None


@dataclass(frozen=True)
class FailureGroups:
    """The groups of a period: the ones with the most rows first."""

    period: str
    now: datetime
    """The database's time."""
    groups: list[FailureGroup]
    muted: list[FailureGroup]
    complete: bool
    """Whether these are all groups. If not, the newest of those that were looked at are here."""

    @property
    def count(self) -> int:
        """The rows of all groups that are not muted."""
        return sum(group.count for group in self.groups)

    @property
    def more(self) -> bool:
        """Whether there are more rows than `count` says."""
        return not self.complete or any(group.more for group in self.groups)


def grouped_failures(
    period: str = DEFAULT_PERIOD, *, most: int | None = None, now: datetime | None = None
) -> FailureGroups:
    """The groups of the rows that have failed in the period, which is a key of `PERIODS`.

    With `most`, only so many groups are returned, and no muted ones. `now` is the database's time, for a caller that
    knows it.
    """
    now, length = now or database_now(), PERIODS[period]
    since = bounds.EARLIEST if length is None else now - length
    muted = {} if most is not None else {one.pk: one for one in MutedFailure.objects.all()[:MAX_GROUPS]}
    with database.in_index_order(), database.connection().cursor() as cursor:
        cursor.execute(_WALK, [WALKED + 1])
        found = cursor.fetchall()
        whole = len(found) <= WALKED
        if not whole:  # what fails just now may have any fingerprint
            cursor.execute(_LATEST, [LATEST])
            found = found[:WALKED] + cursor.fetchall()
        walked = {fingerprint: at for fingerprint, at, is_muted in found if at >= since and not is_muted}
        wanted = sorted(walked, key=lambda one: (walked[one], one), reverse=True)
        groups = list(_groups(cursor, wanted[:MAX_GROUPS], since, {}))
        silenced = list(_groups(cursor, list(muted), since, muted))
    groups.sort(key=lambda group: (group.count, group.last_at), reverse=True)
    complete = whole and len(wanted) <= MAX_GROUPS and (most is None or len(groups) <= most)
    return FailureGroups(period, now, groups[:most], silenced, complete)


def count_failed_like(fingerprint: str) -> tuple[int, bool]:
    """How many rows are in a group, up to `COUNTED`, and whether there are more."""
    rows = ReportQueue.objects.filter(failed_like(fingerprint)).order_by("trigger_time", "id")
    with database.in_index_order():
        count = rows.values("pk")[: COUNTED + 1].count()
    return min(count, COUNTED), count > COUNTED


def failure_titles(fingerprints: Collection[str]) -> dict[str, str]:
    """The titles of those of the groups that have a row, by fingerprint."""
    if not fingerprints:
        return {}
    given: dict[str, Any] = {"fingerprints": sorted(set(fingerprints)), "since": bounds.EARLIEST, "read": failures.READ}
    with database.in_index_order(), database.connection().cursor() as cursor:
        cursor.execute(_TITLES, given)
        return {fingerprint: title for fingerprint, error in cursor.fetchall() if (title := failures.title(error))}


def mute(fingerprint: str, *, by: str = "", note: str = "") -> MutedFailure:
    """Mute a group: it is shown last, and not counted. One that is muted already is left as it is.

    Raises `RowNotFound` if no row has failed so, `ValidationError` naming the argument.
    """
    with locks.bounded():
        if (there := MutedFailure.objects.filter(pk=fingerprint).first()) is not None:
            return there
        with database.in_index_order(), database.connection().cursor() as cursor:
            (group,) = _groups(cursor, [fingerprint], bounds.EARLIEST, {})
        if group.example is None:
            raise RowNotFound("No report has failed so.")
        made = MutedFailure(pk=fingerprint, title=group.title, muted_by=by[: bounds.MAX_USER_LENGTH], note=note)
        made.full_clean(validate_unique=False, validate_constraints=False)
        MutedFailure.objects.bulk_create([made], ignore_conflicts=True)  # another person may be muting it
        muted = MutedFailure.objects.get(pk=fingerprint)
        audit.record("mute", Kind.FAILURE, fingerprint, label=muted.title, reason=note)
    logger.info("%s.", muted)
    return muted


def unmute(fingerprint: str, *, by: str = "") -> bool:
    """Count and show a group again as any other; whether it was muted."""
    with locks.bounded():
        ended, _ = MutedFailure.objects.filter(pk=fingerprint).delete()
        if ended:
            audit.record("unmute", Kind.FAILURE, fingerprint)
    if ended:
        logger.info("Failure %s is not muted any more%s.", fingerprint, f", by {by}" if by else "")
    return bool(ended)


def _groups(
    cursor: Any, fingerprints: list[str], since: datetime, muted: Mapping[str, MutedFailure]
) -> Iterator[FailureGroup]:
    """The groups with these fingerprints, in this order, of the rows that ended at `since` or later."""
    if not fingerprints:
        return
    bound = {"counted": COUNTED + 1, "sample": SAMPLE, "read": failures.READ}
    cursor.execute(_FACTS, {"fingerprints": fingerprints, "since": since, **bound})
    found = cursor.fetchall()
    names = _names(report for *_, reports in found for report in (reports or [])[:REPORTS])
    for fingerprint, count, first_at, last_at, example, error, reports in found:
        known = muted.get(fingerprint)
        failure = failures.read(error or "")
        shown = [(report, names.get(report, "")) for report in (reports or [])[:REPORTS]]
        yield FailureGroup(
            fingerprint=fingerprint,
            title=known.title if example is None and known is not None else failure.title,
            frame=failure.frame,
            count=min(count, COUNTED),
            more=count > COUNTED,
            first_at=first_at,
            last_at=last_at,
            example=example,
            reports=shown,
            more_reports=len(reports or []) > REPORTS,
            muted=known,
        )


def _names(reports: Iterator[int]) -> dict[int, str]:
    wanted: Collection[int] = set(reports)
    return catalogue.names(wanted) if wanted else {}


_TABLE = ReportQueue._meta.db_table
# As the condition of the index.
_GROUPED = "status = 'failed' AND fingerprint <> '' AND modifier_id >= 0"
# A loose scan of the index: each step is one descent to the newest row of the next lower fingerprint. PostgreSQL's
# DISTINCT would read all failed rows.
_MUTED = f"EXISTS (SELECT FROM {MutedFailure._meta.db_table} AS muted WHERE muted.fingerprint = walked.fingerprint)"
_WALK = f"""
WITH RECURSIVE walked AS (
    (SELECT fingerprint, finished_at FROM {_TABLE} WHERE {_GROUPED}
     ORDER BY fingerprint DESC, finished_at DESC LIMIT 1)
    UNION ALL
    SELECT lower.fingerprint, lower.finished_at FROM walked, LATERAL (
        SELECT fingerprint, finished_at FROM {_TABLE} WHERE {_GROUPED} AND fingerprint < walked.fingerprint
        ORDER BY fingerprint DESC, finished_at DESC LIMIT 1
    ) AS lower
)
SELECT fingerprint, finished_at, {_MUTED} FROM walked LIMIT %s
"""  # noqa: S608  # names of tables
_LATEST = f"""
SELECT fingerprint, max(finished_at), {_MUTED} FROM (
    SELECT fingerprint, finished_at FROM {_TABLE} WHERE {_GROUPED} ORDER BY finished_at DESC LIMIT %s
) AS walked
GROUP BY fingerprint
"""  # noqa: S608  # names of tables
# Pairs are compared, and both columns ordered by: no other index can serve this, whatever the statistics say.
_WITHIN = f"""
{_GROUPED} AND (fingerprint, finished_at) >= (wanted.fingerprint, %(since)s)
AND (fingerprint, finished_at) <= (wanted.fingerprint, 'infinity'::timestamptz)
"""
_NEWEST_FIRST = "ORDER BY fingerprint DESC, finished_at DESC"
_NEWEST = f"""
    SELECT id, finished_at, right(error, %(read)s) AS error
    FROM {_TABLE} WHERE {_WITHIN} {_NEWEST_FIRST} LIMIT 1
"""  # noqa: S608  # names of tables
_TITLES = f"""
SELECT wanted.fingerprint, newest.error
FROM unnest(%(fingerprints)s::varchar[]) AS wanted (fingerprint) CROSS JOIN LATERAL ({_NEWEST}) AS newest
"""  # noqa: S608  # names of tables
_FACTS = f"""
SELECT wanted.fingerprint, counted.count, counted.first_at, newest.finished_at, newest.id, newest.error, sampled.reports
FROM unnest(%(fingerprints)s::varchar[]) WITH ORDINALITY AS wanted (fingerprint, place)
LEFT JOIN LATERAL ({_NEWEST}) AS newest ON true
LEFT JOIN LATERAL (
    SELECT (SELECT count(*) FROM (
            SELECT 1 FROM {_TABLE} WHERE {_WITHIN} {_NEWEST_FIRST} LIMIT %(counted)s
        ) AS one) AS count,
        (SELECT finished_at FROM {_TABLE} WHERE {_WITHIN} ORDER BY fingerprint, finished_at LIMIT 1) AS first_at
) AS counted ON true
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT report_id) AS reports FROM (
        SELECT report_id FROM {_TABLE} WHERE {_WITHIN} {_NEWEST_FIRST} LIMIT %(sample)s
    ) AS one
) AS sampled ON true
ORDER BY wanted.place
"""  # noqa: S608  # names of tables
