"""When a schedule fires: its cron expression or interval, from its start to its end, around its calendar.

A timing is a value: what it answers depends on it and on the instant asked about alone, never on what was asked or
fired before. Whatever two schedules share of it is worked out once.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile

from reportqueue import cron
from reportqueue.blackouts import MAX_MOVE_DAYS, Calendar
from reportqueue.policies import Blackout

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""What intervals are counted from, unless the schedule has a start."""
MAX_MOVED_A_DAY = 96
"""What fires more often has no other day to be moved to."""
EXAMINED = 20_000
"""Instants looked at for one that fires, when the calendar closes them one after the other."""
_TICK = timedelta(microseconds=1)
_DAY = timedelta(days=1)


class NeverFires(ValueError):
    """The calendar leaves the schedule no instant to fire at."""


@dataclass(frozen=True, order=True)
class Occurrence:
    """One instant of a schedule, as it will be treated; both times aware UTC."""

    instant: datetime
    """When it fires, or would have fired."""
    nominal: datetime
    """When it would without a calendar."""
    closed: str = ""
    """Why it does not fire, in words; empty if it does."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A valid schedule's timing; `cron` is empty if and only if `interval_seconds` is set."""

    cron: str
    timezone: str
    interval_seconds: int | None = None
    start_at: datetime | None = None
    """The first instant at which it may fire, and what an interval is counted from."""
    end_at: datetime | None = None
    """The last one."""
    calendar: Calendar | None = None
    blackout: Blackout = Blackout.SKIP

    def next_firing(self, after: datetime) -> datetime | None:
        """The first firing strictly after `after`; None if there is none before the end. Memoised.

        Raises `cron.CronError`, and `NeverFires` where the calendar closes one instant after the other.
        """
        return _next_firing(self, after.astimezone(UTC))

    def occurrences(self, after: datetime) -> Iterator[Occurrence]:
        """Firings, and instants that the calendar closes, strictly after `after`, in order; instants that fall
        together are one."""
        if self.calendar is None:
            return (Occurrence(instant, instant) for instant in self._nominal(after))
        if self.blackout == Blackout.SKIP:
            return (self._around(self.calendar, instant) for instant in self._nominal(after))
        return self._moved(self.calendar, after)

    def firings(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The instants in `(after, until]` at which it fires, in order."""
        found = takewhile(lambda occurrence: occurrence.instant <= until, self.occurrences(after))
        return (occurrence.instant for occurrence in found if not occurrence.closed)

    def newest(self, count: int, after: datetime, until: datetime) -> list[datetime]:
        """The last `count` firings in `(after, until]`, oldest first, at a cost that follows `count`."""
        span = timedelta(hours=1)
        while True:
            start = max(after, until - span)
            found = deque(self.firings(start, until), maxlen=count)
            if len(found) == count or start == after:
                return list(found)
            span *= 4

    def _nominal(self, after: datetime) -> Iterator[datetime]:
        if self.start_at is not None:
            after = max(after, self.start_at - _TICK)
        last = cron.LAST if self.end_at is None else min(self.end_at, cron.LAST)
        if after > cron.LAST or last < cron.FIRST:
            return iter(())  # somebody has written a start or an end around the checks
        if self.interval_seconds is None:
            return cron.between(self.cron, self.timezone, after, last)
        return self._steps(timedelta(seconds=self.interval_seconds), after.astimezone(UTC), last)

    def _steps(self, step: timedelta, after: datetime, last: datetime) -> Iterator[datetime]:
        origin = self.start_at.astimezone(UTC) if self.start_at is not None else EPOCH
        instant = origin + ((after - origin) // step + 1) * step
        while instant <= last:
            yield instant
            instant += step

    def _around(self, calendar: Calendar, nominal: datetime) -> Occurrence:
        """As it is treated: open, or closed and skipped, or closed and moved to an open day."""
        reading = cron.reading_of(self.timezone, nominal)
        closed = calendar.closure(reading)
        if closed is None or self.blackout == Blackout.SKIP:
            return Occurrence(nominal, nominal, closed or "")
        if self.cron:
            # What the clock left out on the closed day, it shows on the open one: the two fall together there.
            reading = cron.meant_reading(self.cron, self.timezone, nominal)
        moved = calendar.open_day(reading, 1 if self.blackout == Blackout.NEXT_DAY else -1)
        if moved is None:
            return Occurrence(nominal, nominal, f"{closed}, and no day within {MAX_MOVE_DAYS} is open")
        return Occurrence(cron.instant_of(self.timezone, moved), nominal)

    def _moved(self, calendar: Calendar, after: datetime) -> Iterator[Occurrence]:
        """In the order in which they fire, which is not that of the nominal instants."""
        reach = timedelta(days=MAX_MOVE_DAYS + 1)
        # Moved to a later day, what was due before `after` may fire after it; to an earlier one, what is due later
        # may fire first: an instant is settled once no other can be moved before it.
        later = self.blackout == Blackout.NEXT_DAY
        waiting: list[Occurrence] = []
        last = None
        for nominal in self._nominal(after - reach if later else after):
            settled = nominal if later else nominal - reach
            while waiting and waiting[0].instant < settled:
                if (ready := heapq.heappop(waiting)).instant != last:
                    yield ready
                last = ready.instant
            occurrence = self._around(calendar, nominal)
            if occurrence.instant > after:
                heapq.heappush(waiting, occurrence)
        while waiting:
            if (ready := heapq.heappop(waiting)).instant != last:
                yield ready
            last = ready.instant


@lru_cache(maxsize=8192)
def _next_firing(timing: Timing, after: datetime) -> datetime | None:
    examined = 0
    while examined < EXAMINED:
        for occurrence in islice(timing.occurrences(after), EXAMINED - examined):
            if not occurrence.closed:
                return occurrence.instant
            examined += 1
            if timing.calendar is None or timing.blackout != Blackout.SKIP:
                continue  # Where instants are moved, to begin anew is to go back by as far as they may be.
            reading = cron.reading_of(timing.timezone, occurrence.nominal)
            if timing.calendar.closes_all(reading.date()):
                # On past the closed day at once: it may be one of many, with an instant a minute.
                midnight = datetime.combine(reading.date() + _DAY, reading.min.time())
                after = max(occurrence.instant, cron.instant_of(timing.timezone, midnight) - _TICK)
                break
        else:
            if examined < EXAMINED:
                return None
    name = timing.calendar.name if timing.calendar else ""
    raise NeverFires(f"The calendar {name!r} closes {EXAMINED:,} instants one after the other.")
