"""Delete old finished rows, in batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DataError, IntegrityError
from django.db.models import F, OuterRef, Q, QuerySet, Subquery

from reportqueue import locks
from reportqueue.clock import database_now
from reportqueue.errors import RowBusy
from reportqueue.models import ReportQueue
from reportqueue.states import FINAL

logger = logging.getLogger("reportqueue")
PRUNE_BATCH = 1_000
BUSY_SECONDS = 0.1
"""How long it waits for the lock of a row that refers to a pruned one."""
_KEPT = (RowBusy, IntegrityError, DataError)


@dataclass(frozen=True)
class Pruned:
    """One batch."""

    deleted: int
    kept: int = 0
    """Rows that could not be deleted, since something else refers to them or holds them."""


def prunable(*, older_than: timedelta, keep: int = 0) -> QuerySet[ReportQueue]:
    """Rows that finished more than `older_than` ago, except the newest `keep` finished ones of each report and
    modifier, by their due time."""
    rows = ReportQueue.objects.filter(status__in=FINAL, finished_at__lt=database_now() - older_than)
    if keep:
        siblings = ReportQueue.objects.filter(
            report_id=OuterRef("report_id"), modifier_id=OuterRef("modifier_id"), status__in=FINAL
        ).order_by("-trigger_time", "-pk")
        last_kept = siblings[keep - 1 : keep]
        rows = rows.annotate(
            kept_from=Subquery(last_kept.values("trigger_time")), kept_pk=Subquery(last_kept.values("pk"))
        ).filter(Q(trigger_time__lt=F("kept_from")) | Q(trigger_time=F("kept_from"), pk__lt=F("kept_pk")))
    return rows


def prune(*, older_than: timedelta, keep: int = 0, batch: int = PRUNE_BATCH) -> Iterator[Pruned]:
    """Delete prunable rows with their attempts, and yield the counts of each batch after its commit.

    A row that another transaction has locked is left for the next time. A row that the project's own tables protect is
    left too, and logged. A deleted row's idempotency key is forgotten: keep rows for longer than clients repeat their
    requests.
    """
    chosen = prunable(older_than=older_than, keep=keep).order_by("finished_at", "pk")
    after: tuple[datetime, int] | None = None
    while True:
        rows = chosen
        if after is not None:  # go on after the last batch: the rows that it left must not be found again
            rows = rows.filter(Q(finished_at__gt=after[0]) | Q(finished_at=after[0], pk__gt=after[1]))
        found: list[tuple[datetime, int]] = []
        try:
            done = Pruned(_delete(rows, batch, found))
        except _KEPT:
            deleted = sum(_delete_alone(pk) for _, pk in found)
            done = Pruned(deleted, len(found) - deleted)
        if found:
            yield done
        if len(found) < batch:
            return
        after = found[-1]


def _delete(rows: QuerySet[ReportQueue], batch: int, found: list[tuple[datetime, int]]) -> int:
    with locks.bounded(BUSY_SECONDS):
        free = rows.select_for_update(skip_locked=True, of=("self",))
        found += [(row.finished_at, row.pk) for row in free.only("finished_at")[:batch] if row.finished_at is not None]
        ReportQueue.objects.filter(pk__in=[pk for _, pk in found]).delete()
    return len(found)


def _delete_alone(pk: int) -> int:
    try:
        return _delete(ReportQueue.objects.filter(pk=pk, status__in=FINAL), 1, [])
    except _KEPT as error:
        logger.warning("Report %s cannot be pruned: %s", pk, str(error).strip().splitlines()[0])
        return 0
