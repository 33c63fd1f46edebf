"""What makes new rows of a modifier, or has not ended: it is refused, or stopped, before anything is erased."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.db import DataError, IntegrityError

from reportqueue import audit, bulk, locks, queue
from reportqueue.erasure import audit_texts
from reportqueue.erasure.mentions import bulk_actions
from reportqueue.errors import BulkActionRefused, ReportQueueError, RowBusy
from reportqueue.models import AuditEntry, BulkAction, ReportQueue, ReportSchedule, WebhookSource
from reportqueue.models.bulk import ENDED
from reportqueue.models.queue import unfinished
from reportqueue.states import Status

REASON = "The data of its modifier is erased."
AT_ONCE = 100
"""Rows that one transaction cancels."""
NAMED = 10
"""Records that a message names."""
SCHEDULES, SOURCES = "schedules", "webhook sources"
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class GoingOn:
    """What of a modifier goes on."""

    rows: int
    """Unfinished rows."""
    running: int
    """Those of them that a run has."""
    schedules: list[int]
    """Enabled ones."""
    sources: list[str]
    """Enabled webhook sources of this modifier alone."""
    bulk_actions: list[int]
    """About this modifier, and not ended."""

    @property
    def count(self) -> int:
        """How many of all."""
        return self.rows + len(self.schedules) + len(self.sources) + len(self.bulk_actions)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        rows = f"{self.rows:,} unfinished rows ({self.running:,} running)" if self.rows else ""
        parts = [
            rows,
            _named("enabled schedules", self.schedules),
            _named("enabled webhook sources", self.sources),
            _named("open bulk actions", self.bulk_actions),
        ]
        return "; ".join(filter(None, parts))


def going_on(modifier_id: int) -> GoingOn:
    """What of the modifier makes new rows or has not ended."""
    rows = _unfinished(modifier_id)
    actions = BulkAction.objects.filter(pk__in=bulk_actions(modifier_id)).exclude(status__in=sorted(ENDED))
    return GoingOn(
        rows=rows.count(),
        running=rows.filter(status=Status.RUNNING).count(),
        schedules=list(_enabled(ReportSchedule, modifier_id).values_list("pk", flat=True)),
        sources=list(_enabled(WebhookSource, modifier_id).values_list("name", flat=True)),
        bulk_actions=list(actions.order_by("pk").values_list("pk", flat=True)),
    )


def stop(modifier_id: int, found: GoingOn, progress: Progress) -> None:
    """End all that: no schedule fires, no source delivers, queued rows are cancelled, running ones asked to stop."""
    _enabled(ReportSchedule, modifier_id).update(enabled=False)
    _enabled(WebhookSource, modifier_id).update(enabled=False)
    for pk in found.bulk_actions:
        with suppress(BulkActionRefused):  # it has ended since
            bulk.stop(pk, by=audit.actor().by)
    pks = sorted(_unfinished(modifier_id).values_list("pk", flat=True))
    for start in range(0, len(pks), AT_ONCE):
        several = pks[start : start + AT_ONCE]
        try:
            queue.cancel_together(several, reason=REASON)
        except (RowBusy, DataError, IntegrityError):
            for pk in several:
                _cancel(pk)
        progress("cancelled", len(several))


def delete(modifier_id: int, *, dry_run: bool) -> Counter[str]:
    """Delete the modifier's schedules and webhook sources, all of which are disabled by now; how many."""
    counts: Counter[str] = Counter()
    for model, name in ((ReportSchedule, SCHEDULES), (WebhookSource, SOURCES)):
        own: Any = model.objects
        for pk in list(own.filter(modifier_id=modifier_id).values_list("pk", flat=True)):
            if not dry_run and model is ReportSchedule:
                ReportSchedule.objects.filter(pk=pk).detach_history()
            counts[name] += 1 if dry_run else _delete(model, pk, modifier_id)
    return counts


def _delete(model: Any, pk: int, modifier_id: int) -> int:
    with locks.bounded():
        found = model.objects.filter(pk=pk, modifier_id=modifier_id, enabled=False).first()
        if found is None:
            return 0
        found.delete()
        # The audit has just written all that it had.
        audit_texts.hide(
            AuditEntry.objects.filter(kind=audit_texts.KINDS[model], object_id=str(pk), action=audit.DELETE)
        )
    return 1


def _cancel(pk: int) -> None:
    with suppress(ReportQueueError):  # it has ended, or is held: it is counted at the end
        queue.cancel(pk, reason=REASON)


def _unfinished(modifier_id: int) -> Any:
    return ReportQueue.objects.filter(unfinished(), modifier_id=modifier_id)


def _enabled(model: Any, modifier_id: int) -> Any:
    return model.objects.filter(modifier_id=modifier_id, enabled=True)


def _named(what: str, found: list[Any]) -> str:
    if not found:
        return ""
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    return f"{len(found):,} {what} ({', '.join(map(str, found[:NAMED]))}{more})"
