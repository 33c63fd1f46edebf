"""Lists of queue rows that stay fast over a long history: their order, and the parts that have an index in it.

Unfinished rows are listed in the order in which they are claimed. Finished rows have no such order any more: a list
that has finished rows is in the order of `trigger_time`. Few indexes serve all rows, because each move of a row writes
them. The indexes of finished rows are written once in a row's life. So a list is put together from parts; no row is in
two of them.
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
    """The parts of unfinished rows of these statuses, for `CLAIM_ORDER`. Only rows without an index are sorted: those
    under way, and those that wait for their turn."""
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

    `narrowed` says that `rows` are those of a report or a modifier, which has an index.
    """
    if sources:
        rows = rows.filter(source__in=sorted(sources))
    elif len(statuses) == len(Status) and not narrowed:
        return [rows]
    ended = rows.filter(status__in=sorted(FINAL.intersection(statuses)))
    if narrowed:
        parts = [ended]
    elif sources:
        parts = [ended.filter(source=source) for source in sorted(sources)]
    else:
        parts = [rows.filter(status=status) for status in sorted(FINAL.intersection(statuses))]
    if unfinished := UNFINISHED.intersection(statuses):
        parts.append(rows.filter(status__in=sorted(unfinished)))
    return parts
