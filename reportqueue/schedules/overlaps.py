"""Firings go into the queue as their schedule's overlap policy has it, beside its unfinished earlier reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from django.db.models import Count, Max, Q

from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.schedules import skips
from reportqueue.timing.catch_up import Skip
from reportqueue.timing.policies import Overlap, SkipReason

Due = tuple[int, Overlap, Sequence[queue.Firing]]
"""A schedule, its policy, and its firings, oldest first."""


@dataclass
class Entered:
    """Rows queued and rows noted as skipped."""

    queued: int = 0
    skipped: int = 0

    def add(self, inserted: queue.Inserted) -> None:
        """Count what went in."""
        self.queued += inserted.queued
        self.skipped += inserted.skipped


@dataclass(frozen=True)
class _Open:
    """A schedule's unfinished rows: the last one, and whether one waits already."""

    last: int
    waits: bool


@dataclass(frozen=True)
class Earlier:
    """What there is of some schedules already; of those that are `busy`, it is in somebody else's hands just now."""

    busy: set[int]
    _unfinished: dict[int, _Open]

    @classmethod
    def of(cls, schedules: Mapping[int, Overlap]) -> Earlier:
        """Before anything is worked out of them: one that is busy is to be tried again soon, and must cost nothing.

        The caller holds the schedules' locks, so that nobody else queues anything for them. A row that is to be waited
        for is locked as well, or it could end unseen; if somebody else holds it, the schedule is busy.
        """
        unfinished = _unfinished([pk for pk, overlap in schedules.items() if overlap != Overlap.ALLOW])
        to_wait_for = {
            pk: before.last
            for pk, before in unfinished.items()
            if schedules[pk] == Overlap.QUEUE_ONE and not before.waits
        }
        locked = _lock(set(to_wait_for.values()))
        return cls({pk for pk, last in to_wait_for.items() if last not in locked}, unfinished)

    def unfinished(self, pk: int) -> _Open | None:
        """Of one schedule."""
        return self._unfinished.get(pk)


def enqueue(due: Sequence[Due], notes: Iterable[queue.Firing], earlier: Earlier) -> Entered:
    """Insert each schedule's firings, oldest first, and the notes; the caller leaves out those that are busy."""
    entered = Entered()
    first: list[queue.Firing] = []
    second: list[queue.Firing] = []
    for pk, overlap, firings in due:
        if overlap == Overlap.ALLOW or not firings:
            first += firings
            continue
        rest = list(firings)
        before = earlier.unfinished(pk)
        if before is None:
            first.append(rest.pop(0))
            if overlap == Overlap.QUEUE_ONE and rest:
                second.append(rest.pop(0))
            why = "an earlier firing of the schedule was queued with it"
        elif overlap == Overlap.SKIP:
            why = f"report {before.last} of the schedule was unfinished"
        elif before.waits:
            why = f"report {before.last} of the schedule waited already"
        else:
            first.append(replace(rest.pop(0), waits_for=before.last))
            why = "another report of the schedule waited already"
        if rest:
            skip = Skip(SkipReason.OVERLAP, why, tuple(firing.trigger_time for firing in rest))
            first += skips.skip_rows(pk, [skip])
    first += notes
    inserted = queue.enqueue_firings(first)
    entered.add(inserted)
    entered.add(
        queue.enqueue_firings([replace(firing, waits_for=inserted.last.get(firing.schedule_id)) for firing in second])
    )
    return entered


def _unfinished(schedules: Sequence[int]) -> dict[int, _Open]:
    if not schedules:
        return {}
    found = (
        ReportQueue.objects.unfinished()
        .filter(schedule__in=schedules)
        .order_by()
        .values_list("schedule")
        .annotate(last=Max("pk"), waits=Count("pk", filter=Q(waits_for__isnull=False)))
    )
    return {pk: _Open(last, bool(waits)) for pk, last, waits in found}


def _lock(rows: set[int]) -> set[int]:
    if not rows:
        return set()
    held = ReportQueue.objects.unfinished().filter(pk__in=rows).order_by("pk")
    return set(held.select_for_update(skip_locked=True, of=("self",)).values_list("pk", flat=True))
