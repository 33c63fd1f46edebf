"""The counting of an agenda: which firings each schedule has, and in which hour and minute.

Schedules with equal timing share the computation. A schedule is counted in full or not at all.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from typing import NamedTuple

from reportqueue.schedules.agenda_numbers import LISTED, NAMED, Agenda, Entry, Hour, Listed, Minute, Why
from reportqueue.schedules.expansion import BROKEN
from reportqueue.timing import Occurrence, Timing, effort, jitter
from reportqueue.timing.calendars import MAX_MOVE_DAYS, Calendar

MAX_EXAMINED = 200_000
"""The counting ends when it has examined this many instants (`effort`); equal schedules share them."""
MINUTES_SHOWN = 10
"""The busiest minutes of an agenda."""
REACH = timedelta(days=MAX_MOVE_DAYS + 2)
"""How far a calendar and jitter can move a firing."""
_MINUTE, _TICK = timedelta(minutes=1), timedelta(microseconds=1)
_CHECKED = 64
"""The time is read once in so many instants."""


class Fields(NamedTuple):
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


class KeptBack(NamedTuple):
    """An instant that a calendar closes."""

    nominal: datetime
    why: str
    moved: bool
    """Whether it fires on another day."""


class Exhausted(Exception):
    """The agenda may not compute more."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


@dataclass
class Budget:
    """What an agenda may compute."""

    clock: Callable[[], float]
    until: float
    most: int = field(default_factory=lambda: effort.spent() + MAX_EXAMINED)

    def check(self) -> None:
        """Raise `Exhausted` once the time or the instants are used up."""
        if self.clock() >= self.until:
            raise Exhausted(Why.TIME)
        if effort.spent() > self.most:
            raise Exhausted(Why.FIRINGS)

    def checked(self, occurrences: Iterable[Occurrence]) -> Iterator[Occurrence]:
        """The same occurrences. Raises `Exhausted` meanwhile."""
        for number, one in enumerate(occurrences):
            if number % _CHECKED == 0 or effort.spent() > self.most:
                self.check()
            yield one


class Counting:
    """Counts the firings of schedules into an agenda."""

    def __init__(self, made: Agenda, calendars: dict[int, Calendar], typical: dict[int, float], budget: Budget) -> None:
        self.made, self.calendars, self.typical, self.budget = made, calendars, typical, budget
        self.origin = made.hours[0].clock.start
        self.minutes: dict[int, Minute] = {}
        # Which hour a minute belongs to: clocks are set at whole minutes.
        self.hours = [
            hour
            for hour in made.hours
            for _ in range((hour.clock.start - self.origin) // _MINUTE, (hour.clock.end - self.origin) // _MINUTE)
        ]

    def count(self, rows: Sequence[Fields], held: Collection[int]) -> None:
        """Count the schedules, those of equal timing together."""
        groups: dict[tuple[object, ...], list[Fields]] = {}
        for row in rows:
            row = self._simplified(row)
            # All fields count but the ids, of which the timing knows nothing.
            groups.setdefault(row[3:], []).append(row)
        exhausted = None
        for group in groups.values():
            left = group
            try:
                if exhausted is not None:
                    raise exhausted
                coming, kept_back = self._walk(group[0])
                # The jitter of each schedule is its own.
                for part in [[row] for row in group] if group[0].jitter_seconds else [group]:
                    self._add([row.entry(held) for row in part], self._available(part[0], coming), kept_back)
                    left = left[len(part) :]
            except Exhausted as over:
                exhausted = over
                self.made.left_out.add([row.entry(held) for row in left], over.why)
            except BROKEN:
                self.made.left_out.add([row.entry(held) for row in left], Why.BROKEN)
        self._find_busiest()

    def _simplified(self, row: Fields) -> Fields:
        """The schedule without a start and an end that make no difference: then more schedules are equal."""
        if row.cron and row.start_at is not None and row.start_at <= self.made.start - REACH:
            row = row._replace(start_at=None)  # an interval is counted from it
        if row.end_at is not None and row.end_at >= self.made.end + REACH:
            row = row._replace(end_at=None)
        return row

    def _walk(self, row: Fields) -> tuple[list[Occurrence], list[KeptBack]]:
        """The firings of schedules with this timing, and what their calendar skips or moves away.

        Raises `Exhausted`, and the errors of `BROKEN`.
        """
        self.budget.check()
        timing = Timing.of(row, self.calendars)
        start, end = self.made.start, self.made.end
        # A firing from before the start may become available after it.
        coming = timing.occurrences(start - timedelta(seconds=row.jitter_seconds) - _TICK)
        until_end = takewhile(lambda one: one.instant < end, coming)
        fires = [one for one in self.budget.checked(until_end) if not one.closed]
        if timing.calendar is None:
            return fires, []
        # Where the calendar moves firings, they no longer say which hour they have left.
        fates = self.budget.checked(timing.fates(start - _TICK, end - _TICK))
        return fires, [
            KeptBack(one.nominal, one.closed or timing.closure(one.nominal), not one.closed)
            for one in fates
            if one.closed or one.instant != one.nominal
        ]

    def _available(self, row: Fields, coming: list[Occurrence]) -> list[Occurrence]:
        """The firings of one schedule that become available in the agenda's time, by when they do.

        Raises `Exhausted`.
        """
        if not row.jitter_seconds:
            return coming
        found = []
        for one in self.budget.checked(coming):
            available = one.instant + jitter(row.pk, one.instant, row.jitter_seconds)
            if self.made.start <= available < self.made.end:
                found.append(Occurrence(available, available if one.instant == one.nominal else one.nominal))
        return found

    def _add(self, entries: list[Entry], fires: list[Occurrence], kept_back: list[KeptBack]) -> None:
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
