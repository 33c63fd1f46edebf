"""All schedules with a cron expression, as those read them who evaluate the expressions themselves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from django.db import connection

from reportqueue.models import ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern

_SCHEDULES = ReportSchedule._meta.db_table
_PERIODS = TriggerPeriod._meta.db_table
# Each edit moves a schedule's version. A sum of hashes does not depend on the order in which rows are read; beside
# the count, no two changes cancel each other out but by a chance of one in 2^64. A hand-over changes what is to be
# fired, too.
_EDITION = f"""
    count(*), sum(hashtextextended(id || ':' || version, 0)),
    (SELECT sum(hashtextextended(concat_ws('|', id, since, until), 0)) FROM {_PERIODS})
"""  # noqa: S608
_INSTANT = "(to_json({0} AT TIME ZONE 'UTC') #>> '{{{{}}}}') || 'Z'"
# The list in the same statement as its version: both are of one snapshot. It is JSON where it is read: ten thousand
# schedules take a quarter of the time that they take as Python's objects.
_REPORTS = f"""(
    SELECT coalesce(json_agg(json_build_object(
        'schedule_id', id, 'report_id', report_id, 'modifier_id', modifier_id, 'cron', cron, 'timezone', timezone,
        'enabled', enabled, 'priority', priority, 'params', params, {{more}}
        'next_run_at', {_INSTANT.format("next_run_at")}
    ) ORDER BY id), '[]')::text FROM {_SCHEDULES} WHERE {{where}}
)"""  # noqa: S608
_PERIODS_OF = f"""(
    SELECT coalesce(json_agg(json_build_object(
        'since', {_INSTANT.format("since")}, 'until', {_INSTANT.format("until")}
    ) ORDER BY since NULLS FIRST), '[]')::text FROM {_PERIODS} WHERE pattern = %s
)"""  # noqa: S608
_ALL = "cron <> ''"


@dataclass(frozen=True)
class Edition:
    """Which state of the plan it is; `version` changes with every edit, `count` is that of all schedules."""

    version: str
    count: int


def edition() -> Edition:
    """The plan's, now."""
    return _edition(*_read(f"SELECT {_EDITION} FROM {_SCHEDULES}"))  # noqa: S608


def document() -> tuple[Edition, str]:
    """The edition, and the plan as JSON: its version and every schedule with a cron expression."""
    *numbers, reports = _read(f"SELECT {_EDITION}, {_REPORTS.format(where=_ALL, more='')} FROM {_SCHEDULES}")  # noqa: S608
    found = _edition(*numbers)
    return found, f'{{"version":"{found.version}","reports":{reports}}}'


# As `ReportSchedule.fires_after`, and not by what the scheduler has planned: it plans on from a hand-over to it,
# whatever the sensor still has to make.
_FIRES_AFTER = "greatest(timing_set_at, start_at - interval '1 microsecond')"


def sensors_document(pattern: Pattern) -> tuple[Edition, str]:
    """The same for a sensor that fires them: only what it can fire, and the periods whose firings are its own.

    A period's `since` is its first instant, `until` the first after it; each may be null. A schedule's `fires_after` is
    its last edit, or just before its start: nothing until then is a firing of it.
    """
    theirs = ReportSchedule.objects.filter(enabled=True).plain().order_by().values("pk")
    among, values = theirs.query.sql_with_params()
    more = f"'fires_after', {_INSTANT.format(_FIRES_AFTER)},"
    reports_sql = _REPORTS.format(where=f"id IN ({among})", more=more)
    sql = f"SELECT {_EDITION}, {reports_sql}, {_PERIODS_OF} FROM {_SCHEDULES}"  # noqa: S608
    *numbers, reports, periods = _read(sql, *values, pattern.value)
    found = _edition(*numbers)
    return found, f'{{"version":"{found.version}","periods":{periods},"reports":{reports}}}'


def _edition(count: int, schedules: Any, periods: Any) -> Edition:
    return Edition(hashlib.sha256(f"{count}:{schedules}:{periods}".encode()).hexdigest()[:16], count)


def _read(sql: str, *values: Any) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return tuple(cursor.fetchone())
