"""The overlap policies: what becomes of a firing while an earlier report of its schedule is unfinished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import Count, Max, Q

from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.schedules import skips
from reportqueue.states import Status
from reportqueue.timing.catch_up import Skip
from reportqueue.timing.policies import Overlap, SkipReason

Due = tuple[int, Overlap, Sequence[queue.Firing]]
"""A schedule's id, its policy, and its firings, oldest first."""


@dataclass(frozen=True)
class _Open:
    """A schedule's unfinished rows."""

    last: int
    """The id of the latest."""
    waits: bool
    """Whether one of them waits for its turn."""
    no_turns: bool
    """Whether one of them takes no turns: the policy was written around the model's checks."""


@dataclass(frozen=True)
class Earlier:
    """The unfinished rows of some schedules."""

    busy: set[int]
    """Ids of the schedules whose row in turn another transaction holds just now."""
    _unfinished: dict[int, _Open]

    @classmethod
    def of(cls, schedules: Mapping[int, Overlap]) -> Earlier:
        """Read and lock them. The caller holds the schedules' locks, so that no other transaction adds rows.

        The row whose turn it is is locked as well if a new one will wait, or it could end unseen. If another
        transaction holds it, the schedule is busy. This comes before any computation: a busy schedule is tried again
        soon, and must cost nothing.
        """
        unfinished = _unfinished([pk for pk, overlap in schedules.items() if overlap != Overlap.ALLOW])
        for pk, before in unfinished.items():
            if before.no_turns:
                ReportQueue.objects.line_up(pk)
        join = {pk for pk, before in unfinished.items() if schedules[pk] == Overlap.QUEUE_ONE and not before.waits}
        return cls(join - _lock_turns(join), unfinished)

    def unfinished(self, pk: int) -> _Open | None:
        """Those of one schedule; None if it has none."""
        return self._unfinished.get(pk)


@dataclass
class _Plan:
    """What becomes of one schedule's firings; each list is oldest first."""

    queued: list[queue.Firing]
    skipped: list[queue.Firing]
    why: str
    """Why the skipped ones are."""


def enqueue(due: Sequence[Due], notes: Iterable[queue.Firing], earlier: Earlier) -> queue.Inserted:
    """Insert each schedule's firings, oldest first, and the notes. The caller leaves out the busy schedules."""
    rows: list[queue.Firing] = []
    known = _known(due)
    for pk, overlap, firings in due:
        new = [firing for firing in firings if (pk, firing.trigger_time) not in known]
        plan = _plan(overlap, new, earlier.unfinished(pk))
        rows += plan.queued
        if plan.skipped:
            instants = tuple(firing.trigger_time for firing in plan.skipped)
            rows += skips.skip_rows(pk, [Skip(SkipReason.OVERLAP, plan.why, instants)])
    return queue.enqueue_firings([*rows, *notes])


def _plan(overlap: Overlap, firings: list[queue.Firing], before: _Open | None) -> _Plan:
    """Apply a schedule's overlap policy to its firings, given its unfinished rows."""
    if overlap == Overlap.ALLOW:
        return _Plan(firings, [], "")
    waiting = [replace(firing, waiting=True) for firing in firings]
    if before is None:
        count = 2 if overlap == Overlap.QUEUE_ONE else 1
        why = "an earlier firing of the schedule was queued with it"
        return _Plan([*firings[:1], *waiting[1:count]], firings[count:], why)
    if overlap == Overlap.SKIP:
        return _Plan([], firings, f"report {before.last} of the schedule was unfinished")
    if before.waits:
        return _Plan([], firings, f"report {before.last} of the schedule waited already")
    return _Plan(waiting[:1], firings[1:], "another report of the schedule waited already")


def _known(due: Sequence[Due]) -> set[tuple[int | None, datetime]]:
    """Schedules and instants that have a row already: a person has queued them. Such a firing must not get the turn."""
    limited = {pk: firings for pk, overlap, firings in due if overlap != Overlap.ALLOW and firings}
    if not limited:
        return set()
    instants = {firing.trigger_time for firings in limited.values() for firing in firings}
    rows = ReportQueue.objects.filter(schedule__in=limited, trigger_time__in=instants).exclude(status=Status.SKIPPED)
    return set(rows.values_list("schedule", "trigger_time"))


def _unfinished(schedules: Sequence[int]) -> dict[int, _Open]:
    if not schedules:
        return {}
    found = (
        ReportQueue.objects.unfinished()
        .filter(schedule__in=schedules)
        .order_by()
        .values_list("schedule")
        .annotate(
            last=Max("pk"),
            waits=Count("pk", filter=Q(waiting=True)),
            no_turns=Count("pk", filter=Q(concurrency_key=None)),
        )
    )
    return {pk: _Open(last, bool(waits), bool(no_turns)) for pk, last, waits, no_turns in found}


def _lock_turns(schedules: set[int]) -> set[int]:
    """Lock the rows whose turn it is, but for those that another transaction holds; returns the schedules of these."""
    if not schedules:
        return set()
    in_turn = ReportQueue.objects.unfinished().filter(concurrency_key__in=schedules, waiting=False).order_by("pk")
    locked = in_turn.select_for_update(skip_locked=True, of=("self",))
    return schedules.intersection(locked.values_list("concurrency_key", flat=True))
