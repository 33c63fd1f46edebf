"""The texts of the audit: which entries are about a modifier, and how their texts are emptied.

An entry about a row, a schedule, a webhook source or a bulk action names that by its number. The thing itself may be
gone. Then its label, or the number of its modifier before and after an edit, tells whose it was.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from django.db.models import QuerySet
from django.db.models.fields.json import KeyTransform

from reportqueue import bounds, database, keyset, locks
from reportqueue.erasure.decisions import left_of, reduced
from reportqueue.models import AuditEntry, ReportQueue, ReportSchedule, WebhookSource
from reportqueue.models.audit import Kind

KINDS: dict[Any, Kind] = {ReportSchedule: Kind.SCHEDULE, WebhookSource: Kind.WEBHOOK}
"""The models whose records may get another modifier by an edit."""


def rows_among(modifier_id: int, labels: Sequence[tuple[Any, str, str]]) -> list[Any]:
    """Of things that have the number of a row and its label, those of the modifier's rows."""
    numbers = [int(number) for _, number, _ in labels if bounds.as_id(number) is not None]
    there = dict(ReportQueue.objects.filter(pk__in=numbers).values_list("pk", "modifier_id"))
    label_of_one = re.compile(rf", modifier (?:.*\()?{modifier_id}\)?$", re.DOTALL)

    def is_own(number: str, label: str) -> bool:
        owner = there.get(bounds.as_id(number) or 0)
        return owner == modifier_id if owner is not None else label_of_one.search(label) is not None

    return [one for one, number, label in labels if is_own(number, label)]


def entries_of(modifier_id: int, bulk_actions: Collection[int]) -> Iterator[list[int]]:
    """The numbers of the entries about the modifier, chunk by chunk; some chunks have none.

    `bulk_actions` are those of the modifier that are still there.
    """
    for kind in (Kind.ROW, Kind.SCHEDULE, Kind.WEBHOOK, Kind.BULK):
        place: tuple[Any, ...] | None = None
        owners = _Owners(modifier_id, kind, bulk_actions)
        entries = AuditEntry.objects.filter(kind=kind).annotate(owner=KeyTransform("modifier_id", "changes"))
        while True:
            order = ("object_id", "id")
            further = entries if place is None else entries.filter(keyset.beyond(order, place))
            chunk = list(further.order_by(*order).values_list("id", "object_id", "label", "owner")[: keyset.CHUNK])
            if not chunk:
                break
            place = (chunk[-1][1], chunk[-1][0])
            if kind == Kind.ROW:
                yield rows_among(modifier_id, [(pk, number, label) for pk, number, label, _ in chunk])
            else:
                yield owners.own(chunk)


def once_of(modifier_id: int, kind: str, numbers: Collection[str]) -> set[str]:
    """Those of these things that were the modifier's once, as the audit knows."""
    entries = AuditEntry.objects.filter(kind=kind, object_id__in=numbers)
    owners = entries.annotate(owner=KeyTransform("modifier_id", "changes")).values_list("object_id", "owner")
    return {number for number, change in owners if _is_change(change) and modifier_id in change}


class _Owners:
    """Walks through the entries of a kind, each thing's from its first to its last, and knows whose it was then."""

    def __init__(self, modifier_id: int, kind: str, bulk_actions: Collection[int]) -> None:
        self.modifier_id, self.kind = modifier_id, kind
        self.actions = {str(pk) for pk in bulk_actions}
        self.number, self.owner = "", None

    def own(self, chunk: Sequence[Any]) -> list[int]:
        """The modifier's among these entries, which follow those of the last call."""
        found: list[int] = []
        for pk, number, _, change in chunk:
            if number != self.number:
                self.number, self.owner = number, self._first_owner(number)
            owners = [self.owner]
            if _is_change(change):
                owners, self.owner = [*owners, *change], change[1]
            if self.modifier_id in owners:
                found.append(pk)
        return found

    def _first_owner(self, number: str) -> Any:
        """Whose it was before its first entry; None if it was added by that."""
        if self.kind == Kind.BULK:
            return self.modifier_id if number in self.actions else None
        entries = AuditEntry.objects.filter(kind=self.kind, object_id=number)
        edits = entries.annotate(owner=KeyTransform("modifier_id", "changes")).exclude(owner=None).order_by("id")
        change: Any = edits.values_list("owner", flat=True).first()
        if _is_change(change):
            return change[0]
        (model,) = [model for model, kind in KINDS.items() if kind == self.kind]
        stored = model.objects.filter(pk=bounds.as_id(number))
        return stored.values_list("modifier_id", flat=True).first()


def _is_change(found: Any) -> bool:
    """Whether it is a value before and after."""
    return isinstance(found, list) and len(found) == 2


def hide(entries: QuerySet[AuditEntry]) -> int:
    """Empty the texts of these entries; how many had some."""
    changed, columns = reduced(entries.order_by("pk"))
    if changed:
        with locks.bounded():
            with database.connection().cursor() as cursor:
                cursor.execute("SELECT set_config('reportqueue.erasing', 'on', true)")
            AuditEntry.objects.bulk_update(changed, columns)
            with database.connection().cursor() as cursor:
                cursor.execute("SELECT set_config('reportqueue.erasing', 'off', true)")
    return len(changed)


def count(entries: QuerySet[AuditEntry]) -> int:
    """How many of these entries have texts."""
    return sum(bool(left_of(entry)) for entry in entries)
