"""Compare the patterns: the queue's firings of a time range beside those of Dagster's sensors."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import reportcron
from reportqueue import keyset
from reportqueue.errors import ScheduleNotFound
from reportqueue.models import BlackoutCalendar, ReportSchedule
from reportqueue.models.schedule import ReportScheduleQuerySet
from reportqueue.schedules.expansion import BROKEN
from reportqueue.timing import Timing, jitter
from reportqueue.timing.catch_up import CatchUpRule, catch_up
from reportqueue.timing.policies import CatchUp

MAX_HOURS = 7 * 24
"""The longest time range that is compared at once."""
REMEMBERED = 500_000
"""Instants that are kept for schedules with the same rule."""
_TICK = timedelta(microseconds=1)
_ON_TIME = CatchUpRule(
    policy=CatchUp.SKIP, window=timedelta(0), limit=1, grace=timedelta(hours=MAX_HOURS) + timedelta(days=1)
)
"""The rule of a scheduler that runs all the time and misses nothing."""
_UNHEEDED = {
    "interval_seconds": "sensors know cron expressions alone",
    "end_at": "sensors do not know its end",
    "calendar": "sensors do not know its calendar",
    "overlap": "sensors do not look whether an earlier report is unfinished",
    "jitter_seconds": "sensors put no firing off",
    "unique": "sensors do not look whether the same report is unfinished",
}
_REMEDIES = {
    "interval_seconds": "give it a cron expression instead of the interval",
    "end_at": "leave the end out, and pause it when that has come",
    "calendar": "take it from its calendar, with the days that are to stay closed left out by its expression",
    "blackout": "take it from its calendar, with the open day written into its expression",
    "overlap": "let its reports overlap",
    "jitter_seconds": "set the jitter to 0, and spread the load by the expressions' minutes",
    "unique": "let it be queued although the same report is unfinished",
    "next_run_at": "run manage.py enqueue_due_reports, which plans it anew",
}


@dataclass(frozen=True)
class Difference:
    """An instant (aware UTC) at which the queue and the sensors differ, and why."""

    instant: datetime
    reading: datetime
    """By the schedule's own clock, with its offset."""
    queue: bool
    """Whether the queue fires then: it inserts a row, unless the overlap policy skips it."""
    sensors: bool
    """Whether the sensors fire then. They leave out schedules with fields that they ignore."""
    expression: bool
    """Whether the expression alone fires then: so would the sensors, if the fields at fault were cleared."""
    fields: tuple[str, ...]
    """The schedule's fields that cause the difference."""
    reason: str
    remedy: str


@dataclass(frozen=True)
class Compared:
    """One schedule's firings in `(start, end]`, oldest first, by each side."""

    schedule: ReportSchedule
    queue: tuple[datetime, ...] = ()
    """Rows that the scheduler inserts, for `queue` and `polling` alike; before overlaps, which cannot be foreseen."""
    sensors: tuple[datetime, ...] = ()
    """Runs that the sensors of `cron` and `asset` launch."""
    expression: tuple[datetime, ...] = ()
    """Firings of the expression alone."""
    error: str = ""
    """Why the schedule cannot be evaluated: the scheduler would disable it, and the sensors leave it out."""
    _timing: Timing | None = None

    @property
    def left_out(self) -> list[str]:
        """The fields for which the sensors leave it out; none if they fire it."""
        return self.schedule.queue_only_fields()

    def differing(self) -> list[datetime]:
        """The instants at which the queue, the sensors and the expression differ."""
        if self.queue == self.sensors == self.expression:
            return []
        return sorted({*self.queue, *self.sensors, *self.expression})

    def explain(self, instant: datetime) -> Difference:
        """Why one of the differing instants differs."""
        queue, expression = _has(self.queue, instant), _has(self.expression, instant)
        names, reason = self._why(instant, queue=queue, expression=expression)
        return Difference(
            instant=instant,
            reading=reportcron.local(self.schedule.timezone, instant),
            queue=queue,
            sensors=_has(self.sensors, instant),
            expression=expression,
            fields=tuple(names),
            reason=reason,
            remedy="; ".join(_REMEDIES[name] for name in names),
        )

    def _why(self, instant: datetime, *, queue: bool, expression: bool) -> tuple[list[str], str]:
        schedule, unheeded = self.schedule, self.left_out
        if queue and expression and unheeded:
            return unheeded, "; ".join(self._unheeded(instant))
        if expression and schedule.end_at is not None and instant > schedule.end_at:
            return ["end_at"], f"after its end at {_text(schedule.end_at)}"
        if schedule.interval_seconds is not None:
            return ["interval_seconds"], _UNHEEDED["interval_seconds"]
        if schedule.calendar_id is None or self._timing is None:
            return ["next_run_at"], "its next firing is not planned by the rule that it has now"
        found = next(self._timing.occurrences(instant - _TICK), None)
        if found is None or found.instant != instant:
            return ["blackout"], "the calendar moves it to another day"
        if found.closed:
            return ["calendar"], f"closed by the calendar {found.closed}"
        return ["blackout"], f"the calendar moves it here, from {_text(found.nominal)}"

    def _unheeded(self, instant: datetime) -> Iterator[str]:
        for name in self.left_out:
            late = f", the queue this one until {_text(self.available_at(instant))}" if name == "jitter_seconds" else ""
            yield _UNHEEDED[name] + late

    def available_at(self, instant: datetime) -> datetime:
        """When the queue offers its row of that firing."""
        return instant + jitter(self.schedule.pk, instant, self.schedule.jitter_seconds)


def compare(start: datetime, end: datetime, *, pk: int | None = None) -> Iterator[Compared]:
    """Compare every enabled schedule, or one, as if each pattern owned all firings in `(start, end]`; ordered by id.

    Both times are aware, at most `MAX_HOURS` apart. For a past `start`, the result uses the schedules' current
    settings. The two sides are the scheduler's own `catch_up` and the sensors' rule. Nothing is written. Raises
    `ScheduleNotFound`, and `ValueError` for a longer time range.
    """
    if not timedelta(0) <= end - start <= timedelta(hours=MAX_HOURS):
        raise ValueError(f"Compare at most {MAX_HOURS} hours at once; this is {end - start}.")
    wanted = ReportSchedule.objects.all() if pk is None else ReportSchedule.objects.filter(pk=pk)
    if pk is not None and not wanted.exists():
        raise ScheduleNotFound(f"There is no schedule {pk}.")
    return _compared(wanted, _Sides(start.astimezone(UTC), end.astimezone(UTC)))


def _compared(wanted: ReportScheduleQuerySet, sides: _Sides) -> Iterator[Compared]:
    calendars = BlackoutCalendar.values_of(
        set(wanted.exclude(calendar=None).order_by().values_list("calendar_id", flat=True).distinct())
    )
    for schedule in keyset.in_chunks(wanted.filter(enabled=True).defer("params"), "pk"):
        if schedule.calendar_id is not None and schedule.calendar_id not in calendars:
            calendars |= BlackoutCalendar.values_of([schedule.calendar_id])  # it was given one meanwhile
        try:
            yield sides.of(schedule, Timing.of(schedule, calendars))
        except BROKEN as error:
            yield Compared(schedule, error=str(error))


@dataclass
class _Sides:
    """Both sides of one time range; equal schedules share the computation."""

    start: datetime
    end: datetime
    _known: dict[Hashable, tuple[datetime, ...]] = field(default_factory=dict)
    _kept: int = 0

    def of(self, schedule: ReportSchedule, timing: Timing) -> Compared:
        """The sides of one schedule. Raises `BROKEN`."""
        queue = self._queue(schedule, timing)
        if not schedule.cron:
            return Compared(schedule, queue, _timing=timing)
        expression = self._expression(schedule, max(self.start, schedule.fires_after))
        sensors = () if schedule.queue_only_fields() else expression
        return Compared(schedule, queue, sensors, expression, _timing=timing)

    def _queue(self, schedule: ReportSchedule, timing: Timing) -> tuple[datetime, ...]:
        planned = schedule.next_run_at
        if planned is None and not schedule.plan_needed:
            return ()  # it has ended
        if planned is None or planned <= self.start or schedule.plan_needed:
            planned = timing.next_firing(self.start)
        if planned is None or planned > self.end:
            return ()
        first = planned
        return self._once((timing, first), lambda: catch_up(timing, _ON_TIME, first, None, self.end).fires)

    def _expression(self, schedule: ReportSchedule, after: datetime) -> tuple[datetime, ...]:
        """The sensors' rule, as in `dagster_reportqueue.sensors.firings`: one firing after the other."""
        rule = (schedule.cron, schedule.timezone)

        def firings() -> Iterator[datetime]:
            instant = after
            while (instant := reportcron.next_after(*rule, instant)) <= self.end:
                yield instant

        return self._once((rule, after), lambda: tuple(firings()))

    def _once(self, key: Hashable, find: Callable[[], tuple[datetime, ...]]) -> tuple[datetime, ...]:
        found = self._known.get(key)
        if found is None:
            found = find()
            if (kept := self._kept + len(found) + 1) > REMEMBERED:
                self._known.clear()
                kept = len(found) + 1
            self._known[key], self._kept = found, kept
        return found


def _has(instants: tuple[datetime, ...], instant: datetime) -> bool:
    place = bisect_left(instants, instant)
    return place < len(instants) and instants[place] == instant


def _text(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
