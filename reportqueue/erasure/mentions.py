"""What tells of a modifier's rows and schedules elsewhere: events, the audit, alerts, bulk actions, Django's log.

No index finds these by the modifier. So each table is read once, in windows of its primary key: no statement is long,
and none locks anything of another modifier.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import router
from django.db.models import Q, QuerySet

from reportqueue import bounds, database, locks
from reportqueue.erasure import audit_texts
from reportqueue.erasure.decisions import emptied, left_of, reduced, to_empty
from reportqueue.models import (
    Alert,
    AuditEntry,
    BulkAction,
    DeliveryAttempt,
    OutboxEvent,
    ReportQueue,
    ReportSchedule,
    WebhookSource,
)

WINDOW = 5_000
"""Records that one statement looks at."""
EVENTS, DELIVERIES, AUDIT = "events", "attempts to deliver", "audit entries"
ALERTS, BULK, LOG = "alerts", "bulk actions", "entries of Django's admin log"
_ROW = re.compile(r"row ([0-9]+) of report .*, modifier ([0-9]+)(?::| should )", re.DOTALL)
_SCHEDULE = re.compile(r"schedule ([0-9]+) of ")


def erase(modifier_id: int, *, dry_run: bool) -> Iterator[tuple[Counter[str], int]]:
    """Erase the texts; after each commit, the counts and how many records were left, since others hold them."""
    yield from _events(modifier_id, dry_run)
    yield from _alerts(modifier_id, dry_run)
    actions = bulk_actions(modifier_id)
    yield from _emptied(BulkAction.objects.filter(pk__in=actions), BULK, dry_run)
    for pks in audit_texts.entries_of(modifier_id, actions):
        entries = AuditEntry.objects.filter(pk__in=pks)
        yield Counter({AUDIT: audit_texts.count(entries) if dry_run else audit_texts.hide(entries)}), 0
    if apps.is_installed("django.contrib.admin"):
        yield from _log(modifier_id, dry_run)


def bulk_actions(modifier_id: int) -> list[int]:
    """The bulk actions about the modifier: by their filters, and those that undo one of them."""
    schedules = list(ReportSchedule.objects.filter(modifier_id=modifier_id).values_list("pk", flat=True))
    named = Q(filters__modifier_id=modifier_id) | Q(filters__schedule__in=schedules)
    found: set[int] = set()
    for window in _windows(BulkAction.objects.all()):
        # An undo has a larger number than what it undoes.
        pairs = window.annotate(is_own=Q(named)).order_by("pk").values_list("pk", "undo_of_id", "is_own")
        found.update(pk for pk, undone, own in pairs if own or undone in found)
    return sorted(found)


def _windows(records: QuerySet[Any]) -> Iterator[QuerySet[Any]]:
    """The records in windows of their primary keys."""
    after = -1
    while pks := list(records.filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:WINDOW]):
        yield records.filter(pk__gt=after, pk__lte=pks[-1])
        after = pks[-1]


def _events(modifier_id: int, dry_run: bool) -> Iterator[tuple[Counter[str], int]]:
    """The data of events, and what receivers have answered. Pending deliveries go on, with what is left."""
    for window in _windows(OutboxEvent.objects.all()):
        pks = list(window.filter(data__modifier_id=modifier_id).values_list("pk", flat=True))
        if not pks:
            continue
        log = DeliveryAttempt.objects.filter(to_empty(DeliveryAttempt), delivery__event__in=pks)
        yield from _emptied(OutboxEvent.objects.filter(pk__in=pks), EVENTS, dry_run)
        named = list(log.values_list("pk", flat=True))
        if not dry_run:
            DeliveryAttempt.objects.filter(pk__in=named).update(**emptied(DeliveryAttempt))
        yield Counter({DELIVERIES: len(named)}), 0


def _alerts(modifier_id: int, dry_run: bool) -> Iterator[tuple[Counter[str], int]]:
    for window in _windows(Alert.objects.all()):
        lines = list(window.values_list("pk", "line"))
        rows = {int(found[1]) for _, line in lines if (found := _ROW.match(line))}
        there = dict(ReportQueue.objects.filter(pk__in=rows).values_list("pk", "modifier_id"))
        schedules = {int(found[1]) for _, line in lines if (found := _SCHEDULE.match(line))}
        own = set(ReportSchedule.objects.filter(pk__in=schedules, modifier_id=modifier_id).values_list("pk", flat=True))

        def is_own(line: str) -> bool:
            if found := _ROW.match(line):
                return there.get(int(found[1]), int(found[2])) == modifier_id  # noqa: B023
            return (found := _SCHEDULE.match(line)) is not None and int(found[1]) in own  # noqa: B023

        yield from _emptied(Alert.objects.filter(pk__in=[pk for pk, line in lines if is_own(line)]), ALERTS, dry_run)


def _emptied(records: QuerySet[Any], kind: str, dry_run: bool) -> Iterator[tuple[Counter[str], int]]:
    """Empty what is to be emptied in these records, `WINDOW` at most; how many had something."""
    pks = [record.pk for record in records if left_of(record)]
    if not pks:
        return
    if dry_run:
        yield Counter({kind: len(pks)}), 0
        return
    model = records.model
    with locks.bounded():
        locked = list(model.objects.filter(pk__in=pks).order_by("pk").select_for_update(skip_locked=True, of=("self",)))
        changed, columns = reduced(locked)
        if columns:
            model.objects.bulk_update(changed, columns, batch_size=500)
    yield Counter({kind: len(locked)}), len(pks) - len(locked)


def _log(modifier_id: int, dry_run: bool) -> Iterator[tuple[Counter[str], int]]:
    """The texts of Django's own log of the admin, which may be in another database: it is the users'."""
    from django.contrib.admin.models import LogEntry

    alias = router.db_for_write(LogEntry)
    types = {
        model: ContentType.objects.db_manager(alias).get_for_model(model).pk
        for model in (ReportQueue, ReportSchedule, WebhookSource)
    }
    texts = ~Q(object_repr="") | ~Q(change_message="")
    for window in _windows(LogEntry.objects.using(alias).filter(texts, content_type__in=types.values())):
        entries = list(window.values_list("pk", "object_id", "object_repr", "content_type_id"))
        of_rows = [(pk, number or "", label) for pk, number, label, kind in entries if kind == types[ReportQueue]]
        pks = audit_texts.rows_among(modifier_id, of_rows)
        for model in (ReportSchedule, WebhookSource):
            several = [(pk, number or "", label) for pk, number, label, kind in entries if kind == types[model]]
            pks += _records_among(model, modifier_id, several)
        if not pks:
            continue
        if not dry_run:
            with database.atomic(alias):
                LogEntry.objects.using(alias).filter(pk__in=pks).update(object_repr="", change_message="")
        yield Counter({LOG: len(pks)}), 0


def _records_among(model: Any, modifier_id: int, labels: Sequence[tuple[Any, str, str]]) -> list[Any]:
    """Of things that have the number of a schedule or a source and its label, the modifier's. Some are deleted."""
    numbers = {number for _, number, _ in labels if bounds.as_id(number) is not None}
    there = dict(model.objects.filter(pk__in=[int(number) for number in numbers]).values_list("pk", "modifier_id"))
    gone = [number for number in numbers if int(number) not in there]
    known = audit_texts.once_of(modifier_id, audit_texts.KINDS[model], gone)
    label_of_one = re.compile(rf", modifier (?:.*\()?{modifier_id}\)?: ", re.DOTALL)
    return [
        pk
        for pk, number, label in labels
        if there.get(bounds.as_id(number)) == modifier_id
        or (number in gone and (number in known or label_of_one.search(label) is not None))
    ]
