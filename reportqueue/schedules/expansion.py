"""The expansion: due schedules become queue rows, one row for each schedule and instant however often it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import DataError, IntegrityError

from reportcron import CronError
from reportqueue import database, keyset, locks, notices, queue
from reportqueue.clock import database_now
from reportqueue.conf import conf
from reportqueue.errors import RowBusy
from reportqueue.models import BlackoutCalendar, ReportSchedule
from reportqueue.models.schedule import ReportScheduleQuerySet
from reportqueue.schedules import overlaps, skips
from reportqueue.timing import NeverFires, Timing, effort, jitter
from reportqueue.timing.calendars import Calendar
from reportqueue.timing.catch_up import CatchUpRule, CaughtUp, Skip, blackouts, catch_up
from reportqueue.timing.changed_calendars import changed_too_late
from reportqueue.timing.policies import CatchUp, Overlap
from reportqueue.triggers import handovers

logger = logging.getLogger("reportqueue")
BATCH = 1_000
"""Schedules locked at once; each batch commits by itself, so that a killed pass loses nothing it has done."""
ROWS = 10_000
"""A batch ends early when it has made this many rows: after a long downtime one schedule may have a thousand."""
BUDGET = 5_000
"""A batch also ends early when it has examined this many instants (`effort`): a claim that expands must not compute for
minutes what schedules have missed in a month. Each schedule is done as a whole: `catch_up` and `timing` have bounds of
their own."""
BUSY_SECONDS = 0.1
"""How long a pass waits for a lock of another transaction; the next pass tries again."""
REMEMBERED = 20_000
"""Results of `catch_up` that a pass keeps for the schedules that share them."""
BROKEN = (CronError, NeverFires, OverflowError)
"""Errors of a schedule that was written past its checks, or whose calendar closes everything."""


class DueSchedule(NamedTuple):
    """A schedule that is due, with the fields that a pass reads: the ORM's objects would cost more than all else."""

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
    """None for a schedule without a plan; such a one is never due."""
    planned_from: datetime | None


class Replanned(NamedTuple):
    """A schedule's new plan, to be written at the end of its batch."""

    pk: int
    next_run_at: datetime | None
    planned_from: datetime


_FIELDS = ["pk", *DueSchedule._fields[1:]]
_TICK = timedelta(microseconds=1)


@dataclass
class Pass:
    """What one pass did."""

    enqueued: int = 0
    """Rows queued."""
    skipped: int = 0
    """Rows that say which instants were skipped."""
    planned: int = 0
    """Schedules planned from now on."""
    disabled: int = 0
    """Schedules disabled, since they cannot be evaluated."""
    put_off: int = 0
    """Schedules left for the next pass: another transaction holds a lock that they need, or an error came up."""

    def __add__(self, other: Pass) -> Pass:
        """The sum of both passes."""
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
    """Queue every due firing and plan its schedule's next one; any number of passes may run at once.

    Passes share the work through SKIP LOCKED. A batch commits its rows together with its schedules' next firings: after
    a crash, the batch is either done or still due. A schedule that cannot be evaluated is disabled with its error, and
    the others go on. A batch has at most `batch` schedules, those first that have been due for longest, and about
    `BUDGET` instants. The pass ends after `batches` batches, or after the batch during which `stopping()` became true.
    """
    work = _Expansion.now()
    left = batches
    while (left is None or left > 0) and not stopping() and work.one_batch(batch):
        left = None if left is None else left - 1
    return work.done


def enqueue_next(pk: int) -> Pass:
    """Queue a schedule's next firing now, before its time, and plan the one after it: for tests."""
    with locks.bounded():
        alone = ReportSchedule.objects.filter(pk=pk)
        _Expansion.now()._batch(alone.unplanned(), 1, [])
        planned = alone.values_list("next_run_at", flat=True).first()
        if planned is None:
            return Pass()
        window = handovers.window(planned)
        return _Expansion(window.first, window.last)._batch(alone, 1, [])


def next_due(*, after: datetime | None = None) -> datetime | None:
    """When the next pass will have work, aware UTC; None if never. With `after`, only firings after it count."""
    planned = ReportSchedule.objects.filter(enabled=True).exclude(next_run_at=None).order_by("next_run_at")
    if after is not None:
        planned = planned.filter(next_run_at__gt=after)
    found: datetime | None = planned.values_list("next_run_at", flat=True).first()
    return None if found is None else handovers.scheduler_from(found, database_now())


@dataclass
class Preview:
    """What a pass would do, before the overlap policies."""

    firings: list[queue.Firing]
    """The rows that it would insert."""
    broken: list[tuple[int, str]]
    """The ids of the schedules that it would disable, each with its error."""


def preview(limit: int) -> Preview:
    """What a pass would do now; at most `limit` rows. Nothing is written."""
    work = _Expansion.now()
    found = Preview([], [])
    due = ReportSchedule.objects.due(work.until).values_list(*_FIELDS, named=True)
    for values in keyset.in_chunks(due, "next_run_at", "pk"):
        schedule = DueSchedule(*values)
        try:
            caught_up = work.caught_up(schedule, _calendars([schedule]))
        except BROKEN as error:
            found.broken.append((schedule.pk, str(error)))
            continue
        found.firings += sorted(
            [*_queued(schedule, caught_up), *skips.skip_rows(schedule.pk, caught_up.skips)],
            key=lambda firing: firing.trigger_time,
        )
        if len(found.firings) >= limit:
            del found.firings[limit:]
            break
    return found


@dataclass
class _Expansion:
    """One pass. It uses the time at which it began throughout, so that equal schedules have equal results."""

    first: datetime | None
    """Firings before this instant belong to another pattern."""
    until: datetime
    """The last instant whose firings are queued: now, or the end of the scheduler's period."""
    done: Pass = field(default_factory=Pass)
    _put_off: set[int] = field(default_factory=set)
    """Ids of the schedules that are left for the next pass."""
    _known: dict[tuple[DueSchedule, Calendar | None], CaughtUp | Exception] = field(default_factory=dict)

    @classmethod
    def now(cls) -> _Expansion:
        """A pass over the firings that are due by the database's clock and belong to the scheduler."""
        window = handovers.window(database_now())
        return cls(window.first, window.last)

    def one_batch(self, size: int) -> bool:
        """Do one batch in one transaction; False if nothing was left to do."""
        tried: list[int] = []
        try:
            with locks.bounded(BUSY_SECONDS):
                done = self._batch(ReportSchedule.objects.all(), size, tried)
        except Exception as error:
            if not tried or locks.is_away(error):
                raise
            # One schedule made the whole batch fail. Each gets a transaction of its own, to find out which.
            done = Pass()
            for pk in tried:
                done += self._alone(pk)
        self.done += done
        return bool(tried)

    def _alone(self, pk: int) -> Pass:
        try:
            with locks.bounded(BUSY_SECONDS):
                return self._batch(ReportSchedule.objects.filter(pk=pk), 1, [])
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
        except Exception as error:
            if locks.is_away(error):
                raise
            return self._failed(pk)

    def _later(self, pk: int) -> Pass:
        self._put_off.add(pk)
        return Pass(put_off=1)

    def _failed(self, pk: int) -> Pass:
        """Log the unexpected error that is being handled. It may be a fault of ours: the schedule stays enabled."""
        logger.exception("Schedule %s could not be expanded in this pass.", pk)
        return self._later(pk)

    def _batch(self, schedules: ReportScheduleQuerySet, size: int, tried: list[int]) -> Pass:
        """Fire the due schedules; if none is due, plan those without a plan. `tried` gets the ids that had a turn."""
        schedules = schedules.exclude(pk__in=self._put_off)
        if due := _locked(schedules.due(self.until).order_by("next_run_at"), size):
            return self._fire(due, tried)
        unplanned = _locked(schedules.unplanned().order_by("pk"), size)
        return self._plan(unplanned, tried) if unplanned else Pass()

    def _fire(self, due: list[DueSchedule], tried: list[int]) -> Pass:
        """Queue the firings of locked schedules, and write their next ones."""
        done, begun = Pass(), effort.spent()
        calendars, before_change = _calendars(due), _calendars_before(due)
        earlier = overlaps.Earlier.of({schedule.pk: Overlap(schedule.overlap) for schedule in due})
        fires: list[overlaps.Due] = []
        notes: list[queue.Firing] = []
        plans: list[Replanned] = []
        rows = 0
        for schedule in due:
            if rows >= ROWS or effort.spent() - begun >= BUDGET:
                break
            tried.append(schedule.pk)
            if schedule.pk in earlier.busy:
                done += self._later(schedule.pk)
                continue
            before = effort.spent()
            try:
                caught_up = self.caught_up(schedule, calendars)
                lost = self._lost(schedule, _Change.of(schedule, calendars, before_change))
            except BROKEN as error:
                _disable(schedule.pk, str(error))
                done.disabled += 1
                continue
            except Exception:
                done += self._failed(schedule.pk)
                # Its effort does not count, or it would use up every batch before the others have a turn.
                begun += effort.spent() - before
                continue
            fires.append((schedule.pk, Overlap(schedule.overlap), _queued(schedule, caught_up)))
            notes += skips.skip_rows(schedule.pk, [*caught_up.skips, *lost])
            plans.append(Replanned(schedule.pk, caught_up.next_run_at, caught_up.planned_from))
            rows += len(caught_up.fires)
        entered = overlaps.enqueue(fires, notes, earlier)
        _write_plans(plans)
        done.enqueued, done.skipped = entered.queued, entered.skipped
        return done

    def _lost(self, schedule: DueSchedule, change: _Change | None) -> tuple[Skip, ...]:
        """The firings that a change of the calendar has lost beside the planned one, which fires by the old plan."""
        planned = schedule.next_run_at
        if change is None or (self.first is not None and planned < self.first):
            return ()
        return change.skips(planned, planned - _TICK)

    def _plan(self, unplanned: list[DueSchedule], tried: list[int]) -> Pass:
        """Plan locked schedules from now on."""
        # The time is read after the locks were taken: an edit may have been committed since the pass began.
        done, now, calendars = Pass(), database_now(), _calendars(unplanned)
        before_change = _calendars_before(unplanned)
        notes: list[queue.Firing] = []
        plans: list[Replanned] = []
        begun = effort.spent()
        for schedule in unplanned:
            if effort.spent() - begun >= BUDGET:
                break
            tried.append(schedule.pk)
            try:
                planned = Replanned(schedule.pk, Timing.of(schedule, calendars).next_firing(now), now)
                lost: list[Skip] = []
                if (change := _Change.of(schedule, calendars, before_change)) is not None:
                    lost += blackouts(change.before or change.timing, change.anchor, now)
                    lost += change.skips(now, now)
            except BROKEN as error:
                _disable(schedule.pk, str(error))
                done.disabled += 1
            except Exception:
                done += self._failed(schedule.pk)
            else:
                plans.append(planned)
                notes += skips.skip_rows(schedule.pk, lost)
        done.skipped = queue.enqueue_firings(notes).skipped
        _write_plans(plans)
        done.planned = len(plans)
        return done

    def caught_up(self, schedule: DueSchedule, calendars: dict[int, Calendar]) -> CaughtUp:
        """What becomes of the schedule's due instants; computed once for all equal schedules. Raises `BROKEN`."""
        calendar = None if schedule.calendar_id is None else calendars.get(schedule.calendar_id)
        # All fields count but those named here, which the result does not depend on.
        alike = schedule._replace(pk=0, overlap="", jitter_seconds=0)
        if calendar is None:
            alike = alike._replace(planned_from=None)  # it decides from when on closed instants are reported
        result = self._known.get((alike, calendar))
        if result is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            try:
                result = self._catch_up(schedule, Timing.of(schedule, calendars))
            except BROKEN as error:
                result = error
            self._known[alike, calendar] = result
        if isinstance(result, Exception):
            raise result
        return result

    def _catch_up(self, schedule: DueSchedule, timing: Timing) -> CaughtUp:
        planned, planned_from = schedule.next_run_at, schedule.planned_from
        if self.first is not None and planned < self.first:
            # Earlier firings belong to another pattern: go on from the first instant that is the scheduler's.
            planned_from = self.first - _TICK
            following = timing.next_firing(planned_from)
            if following is None or following > self.until:
                return CaughtUp((), (), following, planned_from)
            planned = following
        rule = CatchUpRule(
            policy=CatchUp(schedule.catch_up),
            window=timedelta(seconds=schedule.catch_up_window_seconds),
            limit=schedule.catch_up_limit,
            grace=timedelta(seconds=conf().misfire_grace_seconds),
        )
        return catch_up(timing, rule, planned, planned_from, self.until)


def _locked(ready: ReportScheduleQuerySet, size: int) -> list[DueSchedule]:
    locked = ready.select_for_update(skip_locked=True, of=("self",)).values_list(*_FIELDS)[:size]
    return [DueSchedule(*values) for values in locked]


def _disable(pk: int, error: str) -> None:
    broken = ReportSchedule.objects.filter(pk=pk)
    if broken.update(enabled=False, next_run_at=None, plan_needed=False, error=error):
        notices.schedule_disabled.send(sender=None, schedule=broken.get())


def _calendars(schedules: list[DueSchedule]) -> dict[int, Calendar]:
    wanted = {schedule.calendar_id for schedule in schedules if schedule.calendar_id is not None}
    return BlackoutCalendar.values_of(wanted) if wanted else {}


def _calendars_before(schedules: list[DueSchedule]) -> dict[int, Calendar]:
    """The calendars by which schedules were planned, by the schedules' ids, if they have changed since."""
    around = [schedule.pk for schedule in schedules if schedule.calendar_id is not None]
    if not around:
        return {}
    changed = ReportSchedule.objects.filter(pk__in=around, calendar_before__isnull=False)
    found = changed.values_list("pk", "calendar_before")
    return {pk: Calendar.from_json(data) for pk, data in found if data is not None}


@dataclass(frozen=True)
class _Change:
    """A schedule whose calendar may have changed since it was planned."""

    timing: Timing
    before: Timing | None
    """With the calendar as it was, if that is known."""
    anchor: datetime

    @classmethod
    def of(
        cls, schedule: DueSchedule, calendars: dict[int, Calendar], before_change: dict[int, Calendar]
    ) -> _Change | None:
        """None without a calendar or a plan: an edit of the timing drops the plan, and never fires past instants."""
        if schedule.calendar_id is None or schedule.planned_from is None or schedule.next_run_at is None:
            return None
        timing = Timing.of(schedule, calendars)
        calendar = before_change.get(schedule.pk)
        before = None if calendar is None else replace(timing, calendar=calendar)
        return cls(timing, before, schedule.planned_from)

    def skips(self, settled: datetime, passed: datetime) -> tuple[Skip, ...]:
        """The firings that the change has lost; see `changed_too_late`."""
        return changed_too_late(self.timing, self.before, self.anchor, settled, passed)


def _queued(schedule: DueSchedule, caught_up: CaughtUp) -> list[queue.Firing]:
    return [
        queue.Firing(schedule.pk, instant, instant + jitter(schedule.pk, instant, schedule.jitter_seconds))
        for instant in caught_up.fires
    ]


def _write_plans(plans: list[Replanned]) -> None:
    """Write all plans in one statement; the ORM's would have a CASE for each row."""
    if not plans:
        return
    pks, nexts, anchors = zip(*plans, strict=True)
    with database.connection().cursor() as cursor:
        cursor.execute(
            f"UPDATE {ReportSchedule._meta.db_table} s "  # noqa: S608  # a table's name
            "SET next_run_at = m.next_run_at, planned_from = m.planned_from, plan_needed = false, "
            "calendar_before = NULL "
            "FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[]) AS m (id, next_run_at, planned_from) "
            "WHERE s.id = m.id",
            [list(pks), list(nexts), list(anchors)],
        )
