"""`reports/`: the whole plan, for clients that evaluate the expressions themselves and ask often whether it changed."""

from __future__ import annotations

import hashlib
from typing import Any

from django.db import connection
from django.http import HttpResponse, HttpResponseBase
from rest_framework.request import Request

from reportqueue.api import preconditions
from reportqueue.api.base import ApiView
from reportqueue.models import ReportSchedule

_SCHEDULES = ReportSchedule._meta.db_table
# Each edit moves a schedule's version. A sum of hashes does not depend on the order in which rows are read; beside
# the count, no two changes cancel each other out but by a chance of one in 2^64.
_EDITION = f"SELECT count(*), sum(hashtextextended(id || ':' || version, 0)) FROM {_SCHEDULES}"  # noqa: S608
# The list in the same statement as its version: both are of one snapshot. It is JSON where it is read: ten thousand
# schedules take a quarter of the time that they take as Python's objects.
_PLAN = f"""
SELECT count(*), sum(hashtextextended(id || ':' || version, 0)), (
    SELECT coalesce(json_agg(json_build_object(
        'schedule_id', id, 'report_id', report_id, 'modifier_id', modifier_id, 'cron', cron, 'timezone', timezone,
        'enabled', enabled, 'priority', priority, 'params', params,
        'next_run_at', (to_json(next_run_at AT TIME ZONE 'UTC') #>> '{{}}') || 'Z'
    ) ORDER BY id), '[]')::text FROM {_SCHEDULES} WHERE cron <> ''
)
FROM {_SCHEDULES}
"""  # noqa: S608


class ReportsView(ApiView):
    """`reports/`: every schedule with a cron expression."""

    scopes = {"GET": "view_reportschedule"}

    def get(self, request: Request) -> HttpResponseBase:
        """The plan and its version; 304 if the caller has that version."""
        if "If-None-Match" in request.headers:
            tag = _tag(*_read(_EDITION))
            if preconditions.is_known(request, tag):
                return preconditions.not_modified(tag)
        count, total, reports = _read(_PLAN)
        body = f'{{"version":"{_version(count, total)}","reports":{reports}}}'
        return HttpResponse(body, content_type="application/json", headers={"ETag": _tag(count, total)})


def _read(sql: str) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return tuple(cursor.fetchone())


def _version(count: int, total: Any) -> str:
    return hashlib.sha256(f"{count}:{total}".encode()).hexdigest()[:16]


def _tag(count: int, total: Any) -> str:
    """Weak: `next_run_at` is part of the answer and moves without an edit."""
    return f'W/"{_version(count, total)}"'
