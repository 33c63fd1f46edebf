"""The agenda: what will run, hour by hour, across all schedules, and how much work that is.

Schedules with equal timing share the computation. A schedule is counted in full or not at all, and what is not counted
is named.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import NamedTuple

from django.db import OperationalError
from django.db.models import Count, Q
from psycopg.errors import QueryCanceled

from reportqueue import catalogue, database, queue
from reportqueue.models import BlackoutCalendar, Pause, ReportSchedule
from reportqueue.models.pause import Scope
from reportqueue.models.schedule import ReportScheduleQuerySet
from reportqueue.schedules.agenda_numbers import LISTED, NAMED, Agenda, Entry, Hour, Listed, Minute, Why
from reportqueue.schedules.durations import typical_seconds
from reportqueue.schedules.expansion import BROKEN
from reportqueue.timing import Occurrence, Timing, effort, jitter
from reportqueue.timing.calendars import MAX_MOVE_DAYS, Calendar
from reportqueue.timing.hours import hours_of

MAX_SCHEDULES = 5_000
"""At most this many enabled schedules are counted, those that were made first."""
MAX_EXAMINED = 200_000
"""The counting ends when it has examined this many instants (`effort`); equal schedules share them."""
MAX_AGENDA_HOURS = 168
BUDGET_SECONDS = 2.0
"""The counting ends after this time."""
MINUTES_SHOWN = 10
_MINUTE, _TICK = timedelta(minutes=1), timedelta(microseconds=1)
_REACH = timedelta(days=MAX_MOVE_DAYS + 2)
"""How far a calendar and jitter can move a firing."""
_CHECKED = 64
"""The time is read once in so many instants."""


class _Fields(NamedTuple):
    """The fields of a schedule that are read."""

    pk: int
    report_id: int
    modifier_id: int
    jitter_seconds: int
    cron: str
    interval_seconds: int | None
    timezone: str
    start_at: datetime | None
    end_at: datetime | None
    calendar_id: int | None
    blackout: str

    def entry(self, held: Collection[int] = ()) -> Entry:
        """For an agenda in which the reports `held` are paused."""
        ids = self.pk, self.report_id, self.modifier_id
        return Entry(*ids, self.timezone, self.jitter_seconds, self.report_id in held)


class _KeptBack(NamedTuple):
    """An instant that a calendar closes."""

    nominal: datetime
    why: str
    moved: bool
    """Whether it fires on another day."""


class _Exhausted(Exception):
    """The agenda may not compute more."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


@dataclass
class _Budget:
    """What an agenda may compute."""

    clock: Callable[[], float]
    until: float
    most: int = field(default_factory=lambda: effort.spent() + MAX_EXAMINED)

    def check(self) -> None:
        """Raise `_Exhausted` once the time or the instants are used up."""
        if self.clock() >= self.until:
            raise _Exhausted(Why.TIME)
        if effort.spent() > self.most:
            raise _Exhausted(Why.FIRINGS)

    def checked(self, occurrences: Iterable[Occurrence]) -> Iterator[Occurrence]:
        """The same occurrences. Raises `_Exhausted` meanwhile."""
        for number, one in enumerate(occurrences):
            if number % _CHECKED == 0 or effort.spent() > self.most:
                self.check()
            yield one


def agenda(
    start: datetime,
    hours: int,
    zone: str,
    *,
    schedules: ReportScheduleQuerySet | None = None,
    budget_seconds: float = BUDGET_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Agenda:
    """What the schedules (all, unless some are given) will fire from `start` on, by the hours of the zone's clock.

    The first hour is the one that has `start` (aware), and `hours` (1 to `MAX_AGENDA_HOURS`) of elapsed time are
    counted from its begin. Reads a fixed number of times, and computes for at most `budget_seconds` by `clock`.
    Raises `reportcron.UnknownTimezone`, and `ValueError` for another number of hours.
    """
    if not 1 <= hours <= MAX_AGENDA_HOURS:
        raise ValueError(f"An agenda has 1 to {MAX_AGENDA_HOURS} hours.")
    start = start.astimezone(UTC)
    cut = hours_of(zone, start, hours)
    made = Agenda(start, cut[-1].end, zone, [Hour(one) for one in cut])
    wanted = ReportSchedule.objects.all() if schedules is None else schedules
    rows = _read(made, wanted)
    pauses, held = _held({row.report_id for row in rows})
    made.pauses = pauses
    typical = _typical({row.report_id for row in rows}, budget_seconds)
    made.measured = typical is not None
    calendars = BlackoutCalendar.values_of({row.calendar_id for row in rows if row.calendar_id is not None})
    work = _Counting(made, calendars, typical or {}, _Budget(clock, clock() + budget_seconds))
    work.count(rows, held)
    return made


def _read(made: Agenda, wanted: ReportScheduleQuerySet) -> list[_Fields]:
    """The schedules to count. Notes those beyond the bound, and the disabled ones."""
    near = wanted.filter(
        Q(end_at=None) | Q(end_at__gte=made.start - _REACH), Q(start_at=None) | Q(start_at__lt=made.end + _REACH)
    )
    totals = near.order_by().aggregate(
        fire=Count("pk", filter=Q(enabled=True)), rest=Count("pk", filter=Q(enabled=False))
    )
    made.disabled_count = totals["rest"]
    by_id = near.order_by("pk").values_list(*_Fields._fields)
    made.disabled = [_Fields(*row).entry() for row in by_id.filter(enabled=False)[:NAMED]]
    rows = [_Fields(*row) for row in by_id.filter(enabled=True)[: MAX_SCHEDULES + NAMED]]
    if beyond := rows[MAX_SCHEDULES:]:
        more = max(totals["fire"] - MAX_SCHEDULES, len(beyond))
        made.left_out.add([row.entry() for row in beyond], Why.SCHEDULES, more)
    return rows[:MAX_SCHEDULES]


def _held(report_ids: Collection[int]) -> tuple[list[Pause], set[int]]:
    """The pauses that concern any of the reports, and the reports that they hold back."""
    routes: dict[int, str] = {}
    pauses, held = [], set()
    for pause in queue.paused():
        if pause.scope == Scope.ROUTE and not routes:
            routes = {pk: terms.route for pk, terms in catalogue.terms(report_ids).items()}
        concerned = {
            pk
            for pk in report_ids
            if pause.scope == Scope.QUEUE or pk == pause.report_id or (pause.route and routes.get(pk) == pause.route)
        }
        if concerned:
            pauses.append(pause)
            held |= concerned
    return pauses, held


def _typical(report_ids: Collection[int], seconds: float) -> dict[int, float] | None:
    """The typical durations; None if reading them takes longer than this."""
    try:
        with database.quick(max(seconds, 0.1)):
            return typical_seconds(report_ids)
    except OperationalError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
        return None


class _Counting:
    """Counts the firings of schedules into an agenda."""

    def __init__(
        self, made: Agenda, calendars: dict[int, Calendar], typical: dict[int, float], budget: _Budget
    ) -> None:
        self.made, self.calendars, self.typical, self.budget = made, calendars, typical, budget
        self.origin = made.hours[0].clock.start
        self.minutes: dict[int, Minute] = {}
        # Which hour a minute belongs to: clocks are set at whole minutes.
        self.hours = [
            hour
            for hour in made.hours
            for _ in range((hour.clock.start - self.origin) // _MINUTE, (hour.clock.end - self.origin) // _MINUTE)
        ]

    def count(self, rows: Sequence[_Fields], held: Collection[int]) -> None:
        """Count the schedules, those of equal timing together."""
        groups: dict[tuple[object, ...], list[_Fields]] = {}
        for row in rows:
            # All fields count but the ids, of which the timing knows nothing. Jitter depends on the schedule's id.
            groups.setdefault((row.pk if row.jitter_seconds else None, *row[3:]), []).append(row)
        exhausted = None
        for group in groups.values():
            entries = [row.entry(held) for row in group]
            if exhausted is None:
                try:
                    fires, kept_back = self._walk(group[0])
                except _Exhausted as over:
                    exhausted = over.why
                except BROKEN:
                    self.made.left_out.add(entries, Why.BROKEN)
                    continue
                else:
                    self._add(entries, fires, kept_back)
                    continue
            self.made.left_out.add(entries, exhausted)
        self._find_busiest()

    def _walk(self, row: _Fields) -> tuple[list[Occurrence], list[_KeptBack]]:
        """The firings of one schedule, by when they are available; and what its calendar skips or moves away.

        Raises `_Exhausted`, and the errors of `BROKEN`.
        """
        self.budget.check()
        timing = Timing.of(row, self.calendars)
        start, end, most = self.made.start, self.made.end, row.jitter_seconds
        # A firing from before the start may become available after it.
        coming = timing.occurrences(start - timedelta(seconds=most) - _TICK)
        fires: list[Occurrence] = []
        for one in self.budget.checked(takewhile(lambda one: one.instant < end, coming)):
            available = one.instant + jitter(row.pk, one.instant, most)
            if not one.closed and start <= available < end:
                fires.append(Occurrence(available, available if one.instant == one.nominal else one.nominal))
        if timing.calendar is None:
            return fires, []
        # Where the calendar moves firings, they no longer say which hour they have left.
        fates = self.budget.checked(timing.fates(start - _TICK, end - _TICK))
        return fires, [
            _KeptBack(one.nominal, one.closed or timing.closure(one.nominal), not one.closed)
            for one in fates
            if one.closed or one.instant != one.nominal
        ]

    def _add(self, entries: list[Entry], fires: list[Occurrence], kept_back: list[_KeptBack]) -> None:
        """Add the firings that each of the schedules has."""
        size = len(entries)
        known = [self.typical[entry.report_id] for entry in entries if entry.report_id in self.typical]
        self.made.counted += size
        by_hour: dict[int, list[Occurrence]] = {}
        by_minute: Counter[int] = Counter()
        for one in fires:
            number = (one.instant - self.origin) // _MINUTE
            by_minute[number] += 1
            by_hour.setdefault(id(self.hours[number]), []).append(one)
        for number, count in by_minute.items():
            minute = self.minutes.get(number)
            if minute is None:
                minute = self.minutes[number] = Minute(self.origin + number * _MINUTE)
            minute.firings += count * size
            minute.schedules += size
            minute.named += entries[: NAMED - len(minute.named)]
        for found in by_hour.values():
            hour = self._hour_of(found[0].instant)
            count, moved = len(found), sum(one.instant != one.nominal for one in found)
            first = min(one.instant for one in found)  # jitter changes the order
            hour.firings += count * size
            hour.moved_here += moved * size
            hour.work_seconds += count * sum(known)
            hour.unmeasured += count * (size - len(known))
            hour.schedules += size
            hour.listed += [Listed(entry, count, first, moved) for entry in entries[: LISTED - len(hour.listed)]]
        for closed in kept_back:
            hour = self._hour_of(closed.nominal)
            if closed.moved:
                hour.moved_away += size
            else:
                hour.skipped += size
            hour.closures.add(closed.why)

    def _hour_of(self, instant: datetime) -> Hour:
        return self.hours[(instant - self.origin) // _MINUTE]

    def _find_busiest(self) -> None:
        for _number, minute in sorted(self.minutes.items()):
            hour = self._hour_of(minute.instant)
            if hour.busiest is None or minute.firings > hour.busiest.firings:
                hour.busiest = minute
        several = (minute for minute in self.minutes.values() if minute.firings > 1)
        self.made.busiest = heapq.nsmallest(MINUTES_SHOWN, several, key=lambda one: (-one.firings, one.instant))
        for hour in self.made.hours:
            hour.listed.sort(key=lambda one: (one.first, one.schedule.pk))
