"""The feed: all schedules with a cron expression, for sensors that evaluate the expressions themselves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reportqueue import bounds, database
from reportqueue.errors import FeedTooLarge
from reportqueue.models import ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern

_SCHEDULES = ReportSchedule._meta.db_table
_PERIODS = TriggerPeriod._meta.db_table
# Each edit changes a schedule's version. A sum of hashes does not depend on the order of the rows. Together with the
# count, two changes cancel each other out only with a chance of one in 2^64. The periods count, too: a switch of the
# pattern changes what sensors fire. The time is not after the statement's snapshot: a change that this reading does not
# show was committed later.
_EDITION = f"""
    statement_timestamp(), count(*), sum(hashtextextended(id || ':' || version, 0)),
    (SELECT sum(hashtextextended(concat_ws('|', id, since, until), 0)) FROM {_PERIODS})
"""  # noqa: S608
# No braces: this text goes through `format` in some statements, and not in others.
_INSTANT = "(to_json({0} AT TIME ZONE 'UTC') #>> ARRAY[]::text[]) || 'Z'"
# The list and its version come from one statement, so from one snapshot. PostgreSQL builds the JSON: ten thousand
# schedules take a quarter of the time that Python objects would take. It is not built if the parameters are too large:
# PostgreSQL and Python would hold it in memory several times over.
_REPORTS = f"""CASE WHEN (
    SELECT coalesce(sum(octet_length(params::text)), 0) FROM {_SCHEDULES} WHERE {{where}}
) <= {{most}} THEN (
    SELECT coalesce(json_agg(json_build_object(
        'schedule_id', id, 'report_id', report_id, 'modifier_id', modifier_id, 'cron', cron, 'timezone', timezone,
        'enabled', enabled, 'priority', priority, 'params', params, {{more}}
        'next_run_at', {_INSTANT.format("next_run_at")}
    ) ORDER BY id), '[]')::text FROM {_SCHEDULES} WHERE {{where}}
) END"""  # noqa: S608
_PERIODS_OF = f"""(
    SELECT coalesce(json_agg(json_build_object(
        'since', {_INSTANT.format("since")}, 'until', {_INSTANT.format("until")}
    ) ORDER BY since NULLS FIRST), '[]')::text FROM {_PERIODS} WHERE pattern = %s
)"""  # noqa: S608
_ALL = "cron <> ''"


@dataclass(frozen=True)
class Edition:
    """Which state of the schedules the feed shows."""

    version: str
    """Changes with every edit."""
    count: int
    """The number of all schedules."""
    read_at: datetime
    """The database's time when it was read, aware UTC."""


def edition() -> Edition:
    """The feed's current edition."""
    return _edition(*_read(f"SELECT {_EDITION} FROM {_SCHEDULES}"))  # noqa: S608


def document() -> tuple[Edition, str]:
    """The edition, and the feed as JSON: its version and every schedule with a cron expression.

    Raises `FeedTooLarge`.
    """
    *numbers, reports = _read(f"SELECT {_EDITION}, {_reports(_ALL)} FROM {_SCHEDULES}")  # noqa: S608
    _refuse_too_large(reports)
    found = _edition(*numbers)
    return found, f'{{"version":"{found.version}","reports":{reports}}}'


# The same as `ReportSchedule.fires_after`. The scheduler's plan does not serve: after a switch to the scheduler it goes
# on, while the sensor still has earlier firings to launch.
_FIRES_AFTER = "greatest(timing_set_at, start_at - interval '1 microsecond')"


def sensors_document(pattern: Pattern) -> tuple[Edition, str]:
    """The feed for the sensor of one pattern: the schedules that it can fire, and the periods that the pattern owns.

    A period's `since` is its first instant, `until` the first after it; each may be null. A schedule has firings only
    after its `fires_after`: its last edit, or just before its start. Raises `FeedTooLarge`.
    """
    theirs = ReportSchedule.objects.filter(enabled=True).plain().order_by().values("pk")
    among, values = database.statement_of(theirs)
    more = f"'fires_after', {_INSTANT.format(_FIRES_AFTER)},"
    reports_sql = _reports(f"id IN ({among})", more)
    sql = f"SELECT {_EDITION}, {reports_sql}, {_PERIODS_OF} FROM {_SCHEDULES}"  # noqa: S608
    *numbers, reports, periods = _read(sql, *values, *values, pattern.value)
    _refuse_too_large(reports)
    found = _edition(*numbers)
    return found, f'{{"version":"{found.version}","periods":{periods},"reports":{reports}}}'


def _reports(where: str, more: str = "") -> str:
    """The list as SQL, which has the condition and its values twice; null if it would be too large."""
    return _REPORTS.format(where=where, more=more, most=bounds.MAX_FEED_BYTES)


def _refuse_too_large(reports: str | None) -> None:
    if reports is None:
        raise FeedTooLarge(
            f"The parameters of the schedules have more than {bounds.MAX_FEED_BYTES:,} bytes together, and this list "
            "has no pages. Make the parameters smaller, or read schedules/ page by page."
        )


def _edition(read_at: datetime, count: int, schedules: Any, periods: Any) -> Edition:
    return Edition(hashlib.sha256(f"{count}:{schedules}:{periods}".encode()).hexdigest()[:16], count, read_at)


def _read(sql: str, *values: Any) -> tuple[Any, ...]:
    with database.connection().cursor() as cursor:
        cursor.execute(sql, values or None)
        return tuple(cursor.fetchone())
