"""Delete old finished rows, in batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DataError, IntegrityError
from django.db.models import Exists, OuterRef, QuerySet

from reportqueue import bounds, database, keyset, locks, unmeasured
from reportqueue.clock import database_now
from reportqueue.errors import RowBusy
from reportqueue.models import AuditEntry, ReportQueue
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
    bounds.validate_numbers(keep=keep)
    rows = ReportQueue.objects.filter(status__in=FINAL, finished_at__lt=database_now() - older_than)
    if keep:
        siblings = ReportQueue.objects.filter(
            report_id=OuterRef("report_id"), modifier_id=OuterRef("modifier_id"), status__in=FINAL
        )
        newer = siblings.filter(keyset.beyond(("trigger_time", "pk"), (OuterRef("trigger_time"), OuterRef("pk"))))
        # Whether there are so many newer ones. Their order does not matter, so nothing is sorted for each row.
        rows = rows.filter(Exists(newer[keep - 1 : keep]))
    return rows


def prune(*, older_than: timedelta, keep: int = 0, batch: int = PRUNE_BATCH) -> Iterator[Pruned]:
    """Delete prunable rows with their attempts, and yield the counts of each batch after its commit.

    A row that another transaction has locked is left for the next time. A row that the project's own tables protect is
    left too, and logged. A deleted row's idempotency key is forgotten: keep rows for longer than clients repeat their
    requests.
    """
    bounds.validate_numbers(batch=batch)
    chosen = prunable(older_than=older_than, keep=keep).order_by("finished_at", "pk")
    after: tuple[datetime, int] | None = None
    while True:
        # Continue after the last batch, so that the rows that stay are not read again.
        rows = chosen if after is None else chosen.filter(keyset.beyond(("finished_at", "pk"), after))
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


def prune_audit(*, older_than: timedelta, batch: int = PRUNE_BATCH) -> Iterator[int]:
    """Delete audit entries that are older, and yield the count of each batch after its commit."""
    bounds.validate_numbers(batch=batch)
    before = database_now() - older_than
    while True:
        with locks.bounded():
            with database.connection().cursor() as cursor:
                cursor.execute("SELECT set_config('reportqueue.pruning', 'on', true)")
            oldest = AuditEntry.objects.filter(at__lt=before).order_by("at").values("pk")[:batch]
            deleted, _ = AuditEntry.objects.filter(pk__in=oldest).delete()
        if deleted:
            yield deleted
        if deleted < batch:
            return


def _delete(rows: QuerySet[ReportQueue], batch: int, found: list[tuple[datetime, int]]) -> int:
    with locks.bounded(BUSY_SECONDS):
        free = rows.select_for_update(skip_locked=True, of=("self",))
        found += [(row.finished_at, row.pk) for row in free.only("finished_at")[:batch] if row.finished_at is not None]
        pks = [pk for _, pk in found]
        unmeasured.keep(pks)
        ReportQueue.objects.filter(pk__in=pks).delete()
    return len(found)


def _delete_alone(pk: int) -> int:
    try:
        return _delete(ReportQueue.objects.filter(pk=pk, status__in=FINAL), 1, [])
    except _KEPT as error:
        logger.warning("Report %s cannot be pruned: %s", pk, str(error).strip().splitlines()[0])
        return 0
