"""How long reports usually take, by what the queue has of their past."""

from __future__ import annotations

from collections.abc import Collection

from reportqueue import database
from reportqueue.models import ReportQueue
from reportqueue.states import FINAL, Status

NEWEST = 50
"""The median is that of at most so many reports."""
LOOKED_AT = 500
"""Of a report, at most this many ended rows are read to find them: it may have a million skipped ones."""

_FINAL = ", ".join(f"'{status}'" for status in sorted(FINAL))
# The condition is that of the index `reportqueue_ended_report`, whose order is that of the innermost query.
_MEDIANS = f"""
SELECT asked.report_id, median.seconds
FROM unnest(%s::bigint[]) AS asked (report_id)
CROSS JOIN LATERAL (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY newest.seconds) AS seconds
    FROM (
        SELECT extract(epoch FROM ended.finished_at - ended.started_at)::float8 AS seconds
        FROM (
            SELECT status, started_at, finished_at FROM {ReportQueue._meta.db_table} AS q
            WHERE q.report_id = asked.report_id AND q.status IN ({_FINAL})
            ORDER BY q.trigger_time DESC, q.id DESC
            LIMIT {LOOKED_AT}
        ) AS ended
        WHERE ended.status = '{Status.SUCCEEDED}' AND ended.started_at IS NOT NULL
        LIMIT {NEWEST}
    ) AS newest
) AS median
WHERE median.seconds IS NOT NULL
"""  # noqa: S608  # the name of a table and words of the vocabulary


def typical_seconds(report_ids: Collection[int]) -> dict[int, float]:
    """How long each of the reports usually takes from its start to its end, in seconds; the median of the newest.

    A report that has not succeeded lately is left out.
    """
    if not report_ids:
        return {}
    with database.connection().cursor() as cursor:
        cursor.execute(_MEDIANS, [sorted(set(report_ids))])
        return {report_id: max(seconds, 0.0) for report_id, seconds in cursor.fetchall()}
