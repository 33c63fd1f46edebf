"""Due schedules become queue rows: the expansion, one row per schedule and instant however often it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import DataError, IntegrityError, InterfaceError, OperationalError, connection

from reportcron import CronError
from reportqueue import locks, queue
from reportqueue.clock import database_now
from reportqueue.conf import conf
from reportqueue.errors import RowBusy
from reportqueue.models import BlackoutCalendar, ReportSchedule
from reportqueue.models.schedule import ReportScheduleQuerySet
from reportqueue.schedules import overlaps, skips
from reportqueue.timing import NeverFires, Timing, effort, jitter
from reportqueue.timing.calendars import Calendar
from reportqueue.timing.catch_up import CatchUpRule, CaughtUp, catch_up
from reportqueue.timing.policies import Blackout, CatchUp, Overlap
from reportqueue.triggers import handovers

logger = logging.getLogger("reportqueue")
BATCH = 1_000
"""Schedules locked at once; each batch commits by itself, so that a killed pass loses nothing it has done."""
ROWS = 10_000
"""A batch ends early when it has made so many rows: after a long downtime one schedule may have a thousand."""
BUDGET = 5_000
"""It ends when so many instants were looked at (`effort`), too: a claim must not compute for minutes what schedules
have missed in a month. One schedule is always done as a whole: `settling` and `timing` bound what they look at."""
BUSY_SECONDS = 0.1
"""How long a pass waits for what somebody else holds; the next pass tries again."""
REMEMBERED = 20_000
"""Answers that a pass keeps for schedules that share them."""
BROKEN = (CronError, NeverFires, OverflowError)
"""What a schedule that was written around its checks, or whose calendar closes everything, may raise."""


class DueSchedule(NamedTuple):
    """What a pass reads of a schedule."""

    pk: int
    cron: str
    interval_seconds: int | None
    timezone: str
    start_at: datetime | None
    end_at: datetime | None
    calendar_id: int | None
    blackout: str
    catch_up: str
    catch_up_window_seconds: int
    catch_up_limit: int
    overlap: str
    jitter_seconds: int
    next_run_at: datetime
    planned_from: datetime | None


Replanned = tuple[int, datetime | None, datetime]
"""A schedule, its next firing, and its new anchor."""
_FIELDS = ["pk", *DueSchedule._fields[1:]]
_TICK = timedelta(microseconds=1)


@dataclass
class Pass:
    """What one pass did: rows queued, notes of skipped instants, schedules planned anew, schedules disabled.

    And schedules put off, to be tried again by the next pass: somebody holds what they need, or their turn failed.
    """

    enqueued: int = 0
    skipped: int = 0
    planned: int = 0
    disabled: int = 0
    put_off: int = 0

    def __add__(self, other: Pass) -> Pass:
        """Both together."""
        return Pass(
            self.enqueued + other.enqueued,
            self.skipped + other.skipped,
            self.planned + other.planned,
            self.disabled + other.disabled,
            self.put_off + other.put_off,
        )


def enqueue_due(
    *, batch: int = BATCH, batches: int | None = None, stopping: Callable[[], bool] = lambda: False
) -> Pass:
    """Enqueue every due firing and move its schedule on; safe beside any number of other passes.

    Several passes share the work through SKIP LOCKED. Rows and the schedule's next firing commit together, batch by
    batch, so a pass that dies repeats its batch or finds it done. A schedule that cannot be evaluated is disabled
    with its error and does not stop the others. The pass ends after `batches` of them, or between two when
    `stopping()`. A batch has at most `batch` schedules and about `BUDGET` instants, the longest due first.
    """
    work = _Expansion.now()
    left = batches
    while (left is None or left > 0) and not stopping() and work.one_batch(batch):
        left = None if left is None else left - 1
    return work.done


def next_due() -> datetime | None:
    """When a pass has something to do next, aware UTC; None if never."""
    planned = ReportSchedule.objects.filter(enabled=True).exclude(next_run_at=None).order_by("next_run_at")
    found: datetime | None = planned.values_list("next_run_at", flat=True).first()
    return None if found is None else handovers.scheduler_from(found, database_now())


@dataclass
class Preview:
    """What a pass would do, before overlaps: rows it would make, and schedules it would disable, with their error."""

    firings: list[queue.Firing]
    broken: list[tuple[int, str]]


def preview(limit: int) -> Preview:
    """What a pass would do now, without doing it; at most `limit` rows."""
    work = _Expansion.now()
    found = Preview([], [])
    due = ReportSchedule.objects.due(work.until).order_by("next_run_at").values_list(*_FIELDS)
    for values in due.iterator():
        line = DueSchedule(*values)
        try:
            caught_up = work.caught_up(line, _calendars([line]))
        except BROKEN as error:
            found.broken.append((line.pk, str(error)))
            continue
        found.firings += sorted(
            [*_queued(line, caught_up), *skips.skip_rows(line.pk, caught_up.skips)],
            key=lambda firing: firing.trigger_time,
        )
        if len(found.firings) >= limit:
            del found.firings[limit:]
            break
    return found


@dataclass
class _Expansion:
    """One pass: it works by the time at which it began, so that equal schedules have equal answers."""

    first: datetime | None
    """Firings before this instant belong to another pattern."""
    until: datetime
    """Until now, or until another pattern took over."""
    done: Pass = field(default_factory=Pass)
    _put_off: set[int] = field(default_factory=set)
    """Schedules that the next pass has: somebody holds their earlier report just now, or their turn has failed."""
    _answers: dict[Any, CaughtUp | Exception] = field(default_factory=dict)

    @classmethod
    def now(cls) -> _Expansion:
        """A pass over what is due by the database's clock, and the scheduler's to queue."""
        window = handovers.window(database_now())
        return cls(window.first, window.last)

    def one_batch(self, size: int) -> bool:
        """One batch in one transaction; False when there was nothing left to do."""
        tried: list[int] = []
        try:
            with locks.bounded(BUSY_SECONDS):
                done = self._batch(ReportSchedule.objects.all(), size, tried)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            if not tried:
                raise
            # One of them stopped all, and nothing of the batch was kept: find out which.
            done = Pass()
            for pk in tried:
                done += self._alone(pk)
        self.done += done
        return bool(tried)

    def _alone(self, pk: int) -> Pass:
        try:
            with locks.bounded(BUSY_SECONDS):
                return self._batch(ReportSchedule.objects.filter(pk=pk), 1, [])
        except (OperationalError, InterfaceError):
            raise
        except RowBusy:
            return self._later(pk)
        except (IntegrityError, DataError) as error:
            text = f"The database refuses its row: {str(error).splitlines()[0]}"
            try:
                with locks.bounded(BUSY_SECONDS):
                    _disable(pk, text)
            except RowBusy:
                return self._later(pk)
            return Pass(disabled=1)
        except Exception:
            return self._failed(pk)

    def _later(self, pk: int) -> Pass:
        self._put_off.add(pk)
        return Pass(put_off=1)

    def _failed(self, pk: int) -> Pass:
        """Of an error that nobody foresaw, which is being handled: it may be ours, so the schedule stays enabled."""
        logger.exception("Schedule %s could not be expanded in this pass.", pk)
        return self._later(pk)

    def _batch(self, schedules: ReportScheduleQuerySet, size: int, tried: list[int]) -> Pass:
        """Fire what is due, or else plan what is unplanned; `tried` gets the schedules that had their turn."""
        schedules = schedules.exclude(pk__in=self._put_off)
        if lines := _locked(schedules.due(self.until).order_by("next_run_at"), size):
            return self._fire(lines, tried)
        lines = _locked(schedules.unplanned().order_by("pk"), size)
        return self._plan(lines, tried) if lines else Pass()

    def _fire(self, lines: list[DueSchedule], tried: list[int]) -> Pass:
        done, begun = Pass(), effort.spent()
        calendars = _calendars(lines)
        earlier = overlaps.Earlier.of({line.pk: Overlap(line.overlap) for line in lines})
        fires: list[overlaps.Due] = []
        notes: list[queue.Firing] = []
        moves: list[Replanned] = []
        rows = 0
        for line in lines:
            if rows >= ROWS or effort.spent() - begun >= BUDGET:
                break
            tried.append(line.pk)
            if line.pk in earlier.busy:
                done += self._later(line.pk)
                continue
            before = effort.spent()
            try:
                caught_up = self.caught_up(line, calendars)
            except BROKEN as error:
                _disable(line.pk, str(error))
                done.disabled += 1
                continue
            except Exception:
                done += self._failed(line.pk)
                begun += effort.spent() - before  # or it would use up each batch, and the others never had their turn
                continue
            fires.append((line.pk, Overlap(line.overlap), _queued(line, caught_up)))
            notes += skips.skip_rows(line.pk, caught_up.skips)
            moves.append((line.pk, caught_up.next_run_at, caught_up.planned_from))
            rows += len(caught_up.fires)
        entered = overlaps.enqueue(fires, notes, earlier)
        _write_plans(moves)
        done.enqueued, done.skipped = entered.queued, entered.skipped
        return done

    def _plan(self, lines: list[DueSchedule], tried: list[int]) -> Pass:
        """Plan locked schedules from now on."""
        # By the clock as it is once they are locked: an edit may have been committed since the pass began.
        done, now, calendars = Pass(), database_now(), _calendars(lines)
        moves: list[Replanned] = []
        begun = effort.spent()
        for line in lines:
            if effort.spent() - begun >= BUDGET:
                break
            tried.append(line.pk)
            try:
                moves.append((line.pk, timing_of(line, calendars).next_firing(now), now))
            except BROKEN as error:
                _disable(line.pk, str(error))
                done.disabled += 1
            except Exception:
                done += self._failed(line.pk)
        _write_plans(moves)
        done.planned = len(moves)
        return done

    def caught_up(self, line: DueSchedule, calendars: dict[int, Calendar]) -> CaughtUp:
        """What becomes of the schedule's due instants; worked out once for all that are alike. Raises `BROKEN`."""
        calendar = calendars.get(line.calendar_id) if line.calendar_id is not None else None
        key = (*line[1:6], calendar, *line[7:11], line.next_run_at, line.planned_from if calendar else None)
        answer = self._answers.get(key)
        if answer is None:
            if len(self._answers) >= REMEMBERED:
                self._answers.clear()
            try:
                rule = CatchUpRule(
                    policy=CatchUp(line.catch_up),
                    window=timedelta(seconds=line.catch_up_window_seconds),
                    limit=line.catch_up_limit,
                    grace=timedelta(seconds=conf().misfire_grace_seconds),
                )
                answer = self._catch_up(timing_of(line, calendars), rule, line.next_run_at, line.planned_from)
            except BROKEN as error:
                answer = error
            self._answers[key] = answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _catch_up(
        self, timing: Timing, rule: CatchUpRule, planned: datetime, planned_from: datetime | None
    ) -> CaughtUp:
        if self.first is not None and planned < self.first:
            # What lies before was another pattern's to fire: on to what is the scheduler's.
            planned_from = self.first - _TICK
            following = timing.next_firing(planned_from)
            if following is None or following > self.until:
                return CaughtUp((), (), following, planned_from)
            planned = following
        return catch_up(timing, rule, planned, planned_from, self.until)


def _locked(ready: ReportScheduleQuerySet, size: int) -> list[DueSchedule]:
    locked = ready.select_for_update(skip_locked=True, of=("self",)).values_list(*_FIELDS)[:size]
    return [DueSchedule(*values) for values in locked]


def _disable(pk: int, error: str) -> None:
    ReportSchedule.objects.filter(pk=pk).update(enabled=False, next_run_at=None, plan_needed=False, error=error)


def _calendars(lines: list[DueSchedule]) -> dict[int, Calendar]:
    wanted = {line.calendar_id for line in lines if line.calendar_id is not None}
    return BlackoutCalendar.values_of(wanted) if wanted else {}


def timing_of(line: DueSchedule | ReportSchedule, calendars: dict[int, Calendar]) -> Timing:
    """When a schedule fires, as a value; its calendar must be among the calendars."""
    return Timing(
        cron=line.cron,
        timezone=line.timezone,
        interval_seconds=line.interval_seconds,
        start_at=line.start_at,
        end_at=line.end_at,
        calendar=calendars.get(line.calendar_id) if line.calendar_id is not None else None,
        blackout=Blackout(line.blackout),
    )


def _queued(line: DueSchedule, caught_up: CaughtUp) -> list[queue.Firing]:
    return [
        queue.Firing(line.pk, instant, instant + jitter(line.pk, instant, line.jitter_seconds))
        for instant in caught_up.fires
    ]


def _write_plans(moves: list[Replanned]) -> None:
    """Write each schedule's next firing and anchor, all in one statement: the ORM's has a CASE for each row."""
    if not moves:
        return
    pks, nexts, anchors = zip(*moves, strict=True)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {ReportSchedule._meta.db_table} s "  # noqa: S608  # a table's name
            "SET next_run_at = m.next_run_at, planned_from = m.planned_from, plan_needed = false "
            "FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[]) AS m (id, next_run_at, planned_from) "
            "WHERE s.id = m.id",
            [list(pks), list(nexts), list(anchors)],
        )
