"""Lists of queue rows that stay fast over a long history: their order, and the parts that have an index in it.

Unfinished rows are listed in the order in which they are claimed. Finished rows have no such order any more: a list
that has finished rows is in the order of `trigger_time`. The indexes of finished rows are written once in a row's life,
where one of all rows would be written by each move. So a list is put together from parts; no row is in two of them.

There is no index by `trigger_time` alone: PostgreSQL would read it to its end for rare rows, because it expects them
everywhere. As it is, it can read a part in its order only by the index that was made for it.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import QuerySet

from reportqueue.models.queue import ReportQueue
from reportqueue.states import FINAL, LEASED, UNFINISHED, Status

Rows = QuerySet[ReportQueue]

CLAIM_ORDER = ("-priority", "available_at", "id")
DUE_ORDER = ("trigger_time", "id")


def in_claim_order(rows: Rows, statuses: Collection[str]) -> list[Rows]:
    """The parts of unfinished rows of these statuses, for `CLAIM_ORDER`.

    PostgreSQL sorts only two parts, which have no index in that order: leased rows, and rows that wait for their turn.
    """
    parts = [rows.filter(status=Status.QUEUED, waiting=False)] if Status.QUEUED in statuses else []
    if leased := LEASED.intersection(statuses):
        parts.append(rows.filter(status__in=sorted(leased), waiting=False))
    if unfinished := UNFINISHED.intersection(statuses):
        parts.append(rows.filter(status__in=sorted(unfinished), waiting=True))
    return parts or [rows.none()]


def by_trigger_time(
    rows: Rows, statuses: Collection[str], sources: Collection[str] = (), *, narrowed: bool = False
) -> list[Rows]:
    """The parts of rows of these statuses and sources (empty: all), for `DUE_ORDER` in either direction.

    `statuses` has a final one. `narrowed` says that `rows` have a condition that has an index for finished rows.
    """
    final, unfinished = FINAL.intersection(statuses), UNFINISHED.intersection(statuses)
    if sources:
        rows = rows.filter(source__in=sorted(sources))
    ended = rows.filter(status__in=sorted(final))
    if narrowed:
        parts = [ended]
    elif sources:
        parts = [ended.filter(source=source) for source in sorted(sources)]
    else:
        parts = [rows.filter(status=status) for status in sorted(final)]
    # The second condition is for the index `reportqueue_listed`.
    return [*parts, rows.filter(status__in=sorted(unfinished), report_id__gte=0)] if unfinished else parts
