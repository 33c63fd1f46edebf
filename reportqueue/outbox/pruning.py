"""Old events are deleted with their deliveries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reportqueue import bounds, database, locks
from reportqueue.conf import conf
from reportqueue.models import DeliveryAttempt, EventDelivery, OutboxEvent, ReportQueue, WebhookSubscription
from reportqueue.models.event import EventType
from reportqueue.states import UNFINISHED

PRUNE_BATCH = 1_000

# A delivery that is pending for an enabled subscription stays, however old. So does the event of a deadline whose
# report is unfinished: without it, the report would be told of once more.
_OLDEST = f"""
SELECT e.id, e.at < clock_timestamp() - make_interval(secs => %(seconds)s),
    EXISTS (
        SELECT FROM {EventDelivery._meta.db_table} d
        WHERE d.event_id = e.id AND (
            d.finished_at >= clock_timestamp() - make_interval(secs => %(seconds)s)
            OR (d.status = 'pending' AND EXISTS (
                SELECT FROM {WebhookSubscription._meta.db_table} s WHERE s.id = d.subscription_id AND s.enabled))))
    OR CASE WHEN e.type = '{EventType.LATE.value}' THEN EXISTS (
        SELECT FROM {ReportQueue._meta.db_table} q
        WHERE q.id = substr(e.subject, 5)::bigint AND q.status = ANY(%(unfinished)s)
    ) ELSE false END
FROM {OutboxEvent._meta.db_table} e
WHERE e.id > %(after)s ORDER BY e.id LIMIT %(batch)s
"""  # noqa: S608  # names of tables


def prune(*, batch: int = PRUNE_BATCH) -> Iterator[int]:
    """Delete events that ended longer ago than `EVENT_RETENTION_SECONDS`; yield the count of each batch."""
    bounds.validate_numbers(batch=batch)
    after: int | None = 0
    while after is not None:
        with locks.bounded():
            gone, following = _next(after, batch)
            if gone:
                # Somebody may have had one sent again just now. Once they are locked, nobody can.
                list(EventDelivery.objects.filter(event__in=gone).select_for_update().order_by("pk").values_list("pk"))
                gone = [pk for pk in _next(after, batch)[0] if pk in set(gone)]
                DeliveryAttempt.objects.filter(delivery__event__in=gone).delete()
                EventDelivery.objects.filter(event__in=gone).delete()
                OutboxEvent.objects.filter(pk__in=gone).delete()
        after = following
        if gone:
            yield len(gone)


def count_prunable() -> int:
    """How many events `prune` would delete now."""
    count = 0
    after: int | None = 0
    while after is not None:
        gone, after = _next(after, PRUNE_BATCH)
        count += len(gone)
    return count


def _next(after: int, batch: int) -> tuple[list[int], int | None]:
    """The next events that may be deleted, and the last one that is old; None for it if no further one is old."""
    values: dict[str, Any] = {
        "seconds": conf().event_retention_seconds,
        "unfinished": sorted(UNFINISHED),
        "batch": batch,
        "after": after,
    }
    with database.connection().cursor() as cursor:
        cursor.execute(_OLDEST, values)
        found = cursor.fetchall()
    old = [pk for pk, is_old, _ in found if is_old]
    gone = [pk for pk, is_old, kept in found if is_old and not kept]
    return gone, old[-1] if len(old) == batch else None
