"""Finished rows go, in batches: the history is kept as long as somebody wants it, not for ever."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db import transaction
from django.db.models import F, OuterRef, Q, QuerySet, Subquery

from reportqueue.clock import database_now
from reportqueue.models import ReportQueue
from reportqueue.states import FINAL

PRUNE_BATCH = 1_000


def prunable(*, older_than: timedelta, keep: int = 0) -> QuerySet[ReportQueue]:
    """Rows that finished more than `older_than` ago, but for the newest `keep` finished ones of each report and
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


def prune(*, older_than: timedelta, keep: int = 0, batch: int = PRUNE_BATCH) -> Iterator[int]:
    """Delete prunable rows with their attempts, and yield the count of each committed batch.

    A row that somebody holds (a requeue under way) is left for the next time. A pruned row's idempotency key is
    forgotten with it: keep rows for longer than anybody repeats a request.
    """
    while True:
        with transaction.atomic():
            chosen = prunable(older_than=older_than, keep=keep).order_by("finished_at")
            pks = list(chosen.select_for_update(skip_locked=True, of=("self",)).values_list("pk", flat=True)[:batch])
            ReportQueue.objects.filter(pk__in=pks).delete()
        if pks:
            yield len(pks)
        if len(pks) < batch:
            return
