"""When a schedule fires: its cron expression or interval, from its start to its end, around its calendar.

A timing is a value: its answers depend only on its fields and on the given instant, never on earlier calls or firings.
Equal schedules share the computation.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile
from typing import Protocol, Self

import reportcron
from reportqueue.timing.calendars import MAX_MOVE_DAYS, Calendar
from reportqueue.timing.effort import spend
from reportqueue.timing.policies import Blackout

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Intervals are counted from here, unless the schedule has a start."""
MAX_MOVED_A_DAY = 96
"""A schedule that fires more often cannot be moved to another day."""
EXAMINED = 10_000
"""At most this many instants are examined to find one that the calendar leaves open. If closed instants are skipped,
all instants of one closed day, or of the same closed hours, count as one."""
LOOKED_BACK = 6_000
"""At most this many instants are examined to find the newest firings; half as many if the calendar moves them."""
_CHUNK = timedelta(days=4)
_TICK = timedelta(microseconds=1)


class NeverFires(ValueError):
    """The calendar closes every instant of the schedule."""


@dataclass(frozen=True, order=True)
class Occurrence:
    """One instant of a schedule and what becomes of it; both times aware UTC."""

    instant: datetime
    """When it fires, or would have fired."""
    nominal: datetime
    """When it would fire without a calendar."""
    closed: str = ""
    """Why the calendar closes it, in words; empty if it fires."""


@dataclass(frozen=True)
class Newest:
    """The newest firings of a time range."""

    instants: list[datetime]
    """Oldest first."""
    complete: bool
    """False if the search ended at `LOOKED_BACK` before it had found the wanted number."""


class TimingFields(Protocol):
    """The fields of a schedule that decide when it fires, as its row has them."""

    @property
    def cron(self) -> str: ...
    @property
    def timezone(self) -> str: ...
    @property
    def interval_seconds(self) -> int | None: ...
    @property
    def start_at(self) -> datetime | None: ...
    @property
    def end_at(self) -> datetime | None: ...
    @property
    def calendar_id(self) -> int | None: ...
    @property
    def blackout(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A valid schedule's timing; `cron` is empty if and only if `interval_seconds` is set."""

    cron: str
    timezone: str
    interval_seconds: int | None = None
    start_at: datetime | None = None
    """The first instant at which it may fire; an interval is counted from it."""
    end_at: datetime | None = None
    """The last instant at which it may fire."""
    calendar: Calendar | None = None
    blackout: Blackout = Blackout.SKIP
    _moves: dict[datetime, Occurrence] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `_around` found, by nominal instant: with moves, each walk goes over two months. `next_firing` clears it."""

    @classmethod
    def of(cls, fields: TimingFields, calendars: Mapping[int, Calendar]) -> Self:
        """The timing of a schedule with these fields; `calendars` has its calendar by id."""
        return cls(
            cron=fields.cron,
            timezone=fields.timezone,
            interval_seconds=fields.interval_seconds,
            start_at=fields.start_at,
            end_at=fields.end_at,
            calendar=None if fields.calendar_id is None else calendars.get(fields.calendar_id),
            blackout=Blackout(fields.blackout),
        )

    def next_firing(self, after: datetime) -> datetime | None:
        """The first firing strictly after `after`; None if there is none before the end. Memoised.

        Raises `reportcron.CronError`, and `NeverFires` if the calendar closes `EXAMINED` instants in a row.
        """
        return _next_firing(self, after.astimezone(UTC))

    def occurrences(self, after: datetime) -> Iterator[Occurrence]:
        """The firings and the closed instants strictly after `after`, in order. Equal instants are one."""
        if self.calendar is None:
            return (Occurrence(instant, instant) for instant in self._nominal(after))
        if self.blackout == Blackout.SKIP:
            return (self._around(self.calendar, instant) for instant in self._nominal(after))
        return self._moved(self.calendar, after)

    def firings(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The firings in `(after, until]`, in order."""
        found = takewhile(lambda occurrence: occurrence.instant <= until, self.occurrences(after))
        return (occurrence.instant for occurrence in found if not occurrence.closed)

    def fates(self, after: datetime, until: datetime) -> Iterator[Occurrence]:
        """What becomes of each instant of the rule in `(after, until]`, in the order of these nominal instants."""
        for nominal in takewhile(lambda instant: instant <= until, self._nominal(after)):
            yield Occurrence(nominal, nominal) if self.calendar is None else self._around(self.calendar, nominal)

    def closure(self, instant: datetime) -> str:
        """Why the calendar closes an instant, in words; empty if it is open."""
        return (
            "" if self.calendar is None else self.calendar.closure(reportcron.reading_of(self.timezone, instant)) or ""
        )

    def newest(self, count: int, after: datetime, until: datetime) -> Newest:
        """The newest `count` firings in `(after, until]`, at a cost that grows with `count`, not with the range.

        It examines closed instants too, at most `LOOKED_BACK` in all.
        """
        found: list[datetime] = []
        # If the calendar moves instants, each step examines two months more: then steps are longer and fewer.
        moving = self.calendar is not None and self.blackout != Blackout.SKIP
        span, left = (_CHUNK, LOOKED_BACK // 2) if moving else (timedelta(hours=1), LOOKED_BACK)
        while until > after and len(found) < count:
            if left <= 0:
                return Newest(found, complete=False)
            start = max(after, until - span)
            part = list(takewhile(lambda one: one.instant <= until, self.occurrences(start)))  # noqa: B023
            fires = [occurrence.instant for occurrence in part if not occurrence.closed]
            found, until, left = fires + found, start, left - len(part)
            # The next step's length, judged by this one: as many instants as are needed, and as may be examined.
            longer = 4.0
            if fires:
                longer = min(longer, 1.2 * (count - len(found)) / len(fires))
            if part:
                longer = min(longer, left / len(part))
            span = max(span * longer, timedelta(minutes=1))
        return Newest(found[-count:], complete=True)

    def _nominal(self, after: datetime) -> Iterator[datetime]:
        if self.start_at is not None:
            after = max(after, self.start_at - _TICK)
        last = reportcron.LAST if self.end_at is None else min(self.end_at, reportcron.LAST)
        if after > reportcron.LAST or last < reportcron.FIRST:
            return iter(())  # a start or an end was written past the checks
        if self.interval_seconds is not None:
            return _counted(self._steps(timedelta(seconds=self.interval_seconds), after.astimezone(UTC), last))
        if self.calendar is not None and self.blackout != Blackout.SKIP:
            return _counted(self._by_chunks(after.astimezone(UTC), last))
        return _counted(reportcron.between(self.cron, self.timezone, after, last))

    def _by_chunks(self, after: datetime, last: datetime) -> Iterator[datetime]:
        """As `reportcron.between`, from memoised chunks: moves examine the same instants again and again."""
        number = (after - EPOCH) // _CHUNK
        while True:
            instants = _chunk(self.cron, self.timezone, number)
            for instant in instants:
                if instant > last:
                    return
                if instant > after:
                    yield instant
            number += 1
            if not instants:  # go on to the next chunk that has any
                begin = EPOCH + number * _CHUNK - _TICK
                following = (
                    next(reportcron.between(self.cron, self.timezone, begin, last), None) if begin < last else None
                )
                if following is None:
                    return
                number = (following - EPOCH) // _CHUNK

    def _steps(self, step: timedelta, after: datetime, last: datetime) -> Iterator[datetime]:
        origin = self.start_at.astimezone(UTC) if self.start_at is not None else EPOCH
        instant = origin + ((after - origin) // step + 1) * step
        while instant <= last:
            yield instant
            instant += step

    def _around(self, calendar: Calendar, nominal: datetime) -> Occurrence:
        """What the calendar does to an instant: leave it, close it, or move it to an open day."""
        reading = reportcron.reading_of(self.timezone, nominal)
        closed = calendar.closure(reading)
        if closed is None or self.blackout == Blackout.SKIP:
            return Occurrence(nominal, nominal, closed or "")
        if self.cron and self._set_at(nominal):
            # A reading that the clock skips on the closed day exists on the open one: both instants are equal there.
            reading = reportcron.meant_reading(self.cron, self.timezone, nominal)
        moved = calendar.open_day(reading, 1 if self.blackout == Blackout.NEXT_DAY else -1)
        if moved is None:
            return Occurrence(nominal, nominal, f"{closed}, and no day within {MAX_MOVE_DAYS} is open")
        return Occurrence(reportcron.instant_of(self.timezone, moved), nominal)

    def _set_at(self, instant: datetime) -> bool:
        """Whether the clock is set at this instant: only then does a reading fire that the clock skips."""
        before, then = (reportcron.local(self.timezone, one).utcoffset() for one in (instant - _TICK, instant))
        return before != then

    def _moved(self, calendar: Calendar, after: datetime) -> Iterator[Occurrence]:
        """As `occurrences`, with closed instants moved to open days."""
        reach = timedelta(days=MAX_MOVE_DAYS + 1)
        # Moving changes the order. Yield an instant only when no later one can still be moved in front of it.
        later = self.blackout == Blackout.NEXT_DAY
        waiting: list[Occurrence] = []
        last = None
        for nominal in self._nominal(after - reach if later else after):
            settled = nominal if later else nominal - reach
            while waiting and waiting[0].instant < settled:
                if (ready := heapq.heappop(waiting)).instant != last:
                    yield ready
                last = ready.instant
            occurrence = self._moves.get(nominal) or self._around(calendar, nominal)
            self._moves[nominal] = occurrence
            if occurrence.instant > after:
                heapq.heappush(waiting, occurrence)
        while waiting:
            if (ready := heapq.heappop(waiting)).instant != last:
                yield ready
            last = ready.instant


def _counted(instants: Iterator[datetime]) -> Iterator[datetime]:
    for instant in instants:
        spend()
        yield instant


def jitter(schedule_id: int, instant: datetime, most: int) -> timedelta:
    """The delay of a firing: less than `most` seconds, always the same for a schedule and an instant."""
    if not most:
        return timedelta(0)
    seed = f"{schedule_id}:{instant.timestamp()}".encode()
    share = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest()) / 2**64
    return timedelta(seconds=share * most)


@lru_cache(maxsize=256)
def _chunk(expression: str, timezone: str, number: int) -> tuple[datetime, ...]:
    """The expression's instants in the `number`-th `_CHUNK` since `EPOCH`."""
    begin = max(EPOCH + number * _CHUNK - _TICK, reportcron.FIRST)
    end = min(EPOCH + (number + 1) * _CHUNK - _TICK, reportcron.LAST)
    return tuple(reportcron.between(expression, timezone, begin, end)) if begin < end else ()


@lru_cache(maxsize=8192)
def _next_firing(timing: Timing, after: datetime) -> datetime | None:
    try:
        return _first_open(timing, after)
    finally:
        timing._moves.clear()  # the memo keeps the timing for long


def _first_open(timing: Timing, after: datetime) -> datetime | None:
    examined = 0
    while examined < EXAMINED:
        for occurrence in islice(timing.occurrences(after), EXAMINED - examined):
            if not occurrence.closed:
                return occurrence.instant
            examined += 1
            if timing.calendar is None or timing.blackout != Blackout.SKIP:
                continue  # With moves, a new walk would begin a month earlier.
            # Jump past the closed day or hours: they may have an instant every few seconds.
            reading = timing.calendar.closed_until(reportcron.reading_of(timing.timezone, occurrence.nominal))
            after = max(occurrence.instant, reportcron.instant_of(timing.timezone, reading) - _TICK)
            break
        else:
            if examined < EXAMINED:
                return None
    name = timing.calendar.name if timing.calendar else ""
    raise NeverFires(f"The calendar {name!r} closes {EXAMINED:,} instants one after the other.")
