"""The overlap policies: what becomes of a firing while an earlier report of its schedule is unfinished."""

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
"""A schedule's id, its policy, and its firings, oldest first."""


@dataclass
class Entered:
    """Rows queued and rows noted as skipped."""

    queued: int = 0
    skipped: int = 0

    def add(self, inserted: queue.Inserted) -> None:
        """Count the inserted rows."""
        self.queued += inserted.queued
        self.skipped += inserted.skipped


@dataclass(frozen=True)
class _Open:
    """A schedule's unfinished rows."""

    last: int
    """The id of the latest."""
    waits: bool
    """Whether one of them waits for another."""


@dataclass(frozen=True)
class Earlier:
    """The unfinished rows of some schedules."""

    busy: set[int]
    """Ids of the schedules whose row another transaction holds just now."""
    _unfinished: dict[int, _Open]

    @classmethod
    def of(cls, schedules: Mapping[int, Overlap]) -> Earlier:
        """Read and lock them. The caller holds the schedules' locks, so that no other transaction adds rows.

        The row for which a new one will wait is locked as well, or it could end unseen. If another transaction holds
        it, the schedule is busy. This comes before any computation: a busy schedule is tried again soon, and must cost
        nothing.
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
        """Those of one schedule; None if it has none."""
        return self._unfinished.get(pk)


@dataclass
class _Plan:
    """What becomes of one schedule's firings; each list is oldest first."""

    queued: list[queue.Firing]
    waiting: list[queue.Firing]
    """Queued, to wait for the row of `queued`: it is inserted after that one, since it needs its id."""
    skipped: list[queue.Firing]
    why: str
    """Why the skipped ones are."""


def enqueue(due: Sequence[Due], notes: Iterable[queue.Firing], earlier: Earlier) -> Entered:
    """Insert each schedule's firings, oldest first, and the notes. The caller leaves out the busy schedules."""
    first: list[queue.Firing] = []
    second: list[queue.Firing] = []
    for pk, overlap, firings in due:
        plan = _plan(overlap, list(firings), earlier.unfinished(pk))
        first += plan.queued
        second += plan.waiting
        if plan.skipped:
            instants = tuple(firing.trigger_time for firing in plan.skipped)
            first += skips.skip_rows(pk, [Skip(SkipReason.OVERLAP, plan.why, instants)])
    first += notes
    entered = Entered()
    inserted = queue.enqueue_firings(first)
    entered.add(inserted)
    entered.add(
        queue.enqueue_firings([replace(firing, waits_for=inserted.last.get(firing.schedule_id)) for firing in second])
    )
    return entered


def _plan(overlap: Overlap, firings: list[queue.Firing], before: _Open | None) -> _Plan:
    """Apply a schedule's overlap policy to its firings, given its unfinished rows."""
    if overlap == Overlap.ALLOW:
        return _Plan(firings, [], [], "")
    if before is None:
        waiting = 1 if overlap == Overlap.QUEUE_ONE else 0
        why = "an earlier firing of the schedule was queued with it"
        return _Plan(firings[:1], firings[1 : 1 + waiting], firings[1 + waiting :], why)
    if overlap == Overlap.SKIP:
        return _Plan([], [], firings, f"report {before.last} of the schedule was unfinished")
    if before.waits:
        return _Plan([], [], firings, f"report {before.last} of the schedule waited already")
    queued = [replace(firing, waits_for=before.last) for firing in firings[:1]]
    return _Plan(queued, [], firings[1:], "another report of the schedule waited already")


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
