"""Ends that their rows are about to forget, before they are measured.

A requeued row forgets how it ended, and a deleted row is gone. So the end is written to a table of its own, in the same
transaction. The statement that measures a period reads both tables at one instant: it finds the end in the row or in
that table, never in both and never in none, whichever transaction commits first. A period is measured once, so an end
that was measured already is not counted again.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from reportqueue import database
from reportqueue.models import Depth, ReportQueue, UnmeasuredEnd

BEHIND = timedelta(hours=24)
"""Periods that ended earlier than this are not measured any more."""
COLUMNS = "report_id, status, created_at, available_at, started_at, finished_at"
"""What a measurement reads of a row."""
_KEEP = f"""
INSERT INTO {UnmeasuredEnd._meta.db_table} ({COLUMNS})
SELECT {COLUMNS} FROM {ReportQueue._meta.db_table}
WHERE id = ANY(%(rows)s) AND finished_at >= greatest(
    now() - make_interval(secs => %(seconds)s), (SELECT max(start) FROM {Depth._meta.db_table})
)
"""  # noqa: S608  # names of tables and columns


def keep(pks: Collection[int]) -> None:
    """Keep how locked final rows have ended, before they forget it; but not of rows that ended long ago."""
    with database.connection().cursor() as cursor:
        # The period of an end may end five minutes after it.
        seconds = (BEHIND + timedelta(minutes=5)).total_seconds()
        cursor.execute(_KEEP, {"rows": list(pks), "seconds": seconds})


def forget(before: datetime) -> None:
    """Delete the ends before then: their periods have been measured."""
    UnmeasuredEnd.objects.filter(finished_at__lt=before).delete()
