"""Turns: the reports of a schedule that does not allow overlaps are run one after the other.

Of such a schedule's unfinished rows, one has its turn; all others wait. Only the row whose turn it is can be handed out
and started. It keeps its turn until it is final, retries included, and then passes it on. The rows share the schedule's
id as `concurrency_key`, so that a deleted schedule's rows still take turns. The constraint `reportqueue_one_in_turn`
holds the rule whatever the code does.

Locks: a row that begins to wait does so under the lock of the row whose turn it is, which therefore cannot end unseen.
The schedule is locked while a row enters, by a new firing, a requeue or a re-execution: so two cannot enter at once and
both get the turn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from reportqueue import locks, notices
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.timing.policies import Overlap


def of(schedule: ReportSchedule) -> tuple[int | None, bool]:
    """The concurrency key of a new row of a locked schedule, and whether it has to wait for its turn."""
    if schedule.overlap == Overlap.ALLOW:
        return None, False
    return schedule.pk, _taken(schedule.pk)


def must_wait(schedule: ReportSchedule) -> bool:
    """Whether a new row of a locked schedule has to wait for its turn."""
    return of(schedule)[1]


def turn_before(row: ReportQueue) -> int | None:
    """The id of the row whose turn it is, for a row that waits for its own; None for a row that does not wait."""
    if not row.waiting or row.concurrency_key is None:
        return None
    return ReportQueue.objects.in_turn(row.concurrency_key).values_list("pk", flat=True).first()


def _taken(key: int) -> bool:
    """Whether a row has its turn; if so, that row is locked."""
    # The policy may have been written around `save`.
    if ReportQueue.objects.unfinished().filter(schedule=key, concurrency_key=None).exists():
        ReportQueue.objects.line_up(key)
    return ReportQueue.objects.lock_turn(key) is not None


def pass_on(keys: Iterable[int]) -> None:
    """Give the turn of each key to its next row, unless a row has it. Rows of these keys have just become final."""
    for key in sorted(set(keys)):
        rows = ReportQueue.objects.filter(concurrency_key=key).next_first()
        while not ReportQueue.objects.in_turn(key).exists() and (row := rows.first()) is not None:
            # No row if that one was cancelled meanwhile: the loop finds another.
            if rows.order_by().filter(pk=row.pk).update(waiting=False):
                notices.notify(notices.ROWS)


@contextmanager
def entry(pks: Collection[int]) -> Iterator[Entry]:
    """A transaction in which final rows may become unfinished again: the schedules of the rows are locked."""
    if not pks:
        yield Entry({})
        return
    with locks.bounded():
        named = ReportQueue.objects.filter(pk__in=pks).exclude(schedule=None).values("schedule")
        schedules = ReportSchedule.objects.filter(pk__in=named).order_by("pk").select_for_update(no_key=True)
        yield Entry(dict(schedules.values_list("pk", "overlap")))


@dataclass(frozen=True)
class Entry:
    """The overlap policies of locked schedules, by their ids."""

    _policies: Mapping[int, str]

    def key(self, row: ReportQueue) -> int | None:
        """The concurrency key of a row that becomes unfinished again: by its schedule's policy as it is now."""
        if row.schedule_id is None:
            return row.concurrency_key
        return None if self._policies[row.schedule_id] == Overlap.ALLOW else row.schedule_id

    def must_wait(self, row: ReportQueue) -> bool:
        """Whether the row would have to wait for its turn; if so, the row whose turn it is is locked."""
        key = self.key(row)
        if key is not None and row.schedule_id is None:
            # There is no schedule to lock any more: of two rows that enter at once, the second waits here.
            locks.lock_until_commit(f"reportqueue:turn:{key}")
        return key is not None and _taken(key)
