"""Firings that a change of the calendar would lose: their new time has passed when the change is found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile

from reportqueue.timing import Occurrence, Timing
from reportqueue.timing.calendars import MAX_MOVE_DAYS
from reportqueue.timing.catch_up import COUNTED, Skip
from reportqueue.timing.policies import Blackout, SkipReason

_REACH = timedelta(days=MAX_MOVE_DAYS + 2)


def changed_too_late(
    timing: Timing, before: Timing | None, anchor: datetime, settled: datetime, passed: datetime
) -> tuple[Skip, ...]:
    """The firings that the changed calendar leaves without a time of their own.

    `timing` has the calendar as it is, `before` as it was when the schedule was planned, which is needed only if the
    calendar moves instants. All instants until `anchor` are queued or skipped. By the old plan, nothing more fires
    until `settled`. By the new one nothing fires until `passed`.
    """
    if timing.calendar is None:
        return ()
    if timing.blackout == Blackout.SKIP:
        return _opened(timing, anchor, passed)
    return () if before is None else _moved(timing, before, settled, passed)


@lru_cache(maxsize=64)
def _opened(timing: Timing, anchor: datetime, passed: datetime) -> tuple[Skip, ...]:
    """Open instants in `(anchor, passed]`: by the calendar as it was they were closed, or they would have fired."""
    walked = takewhile(lambda one: one.instant <= passed, timing.occurrences(anchor))
    examined = list(islice(walked, COUNTED))
    found = tuple(one.instant for one in examined if not one.closed)
    name = timing.calendar.name if timing.calendar else ""
    why = f"closed by the calendar {name} until its time had passed"
    return (Skip(SkipReason.BLACKOUT, why, found, len(examined) < COUNTED),) if found else ()


@lru_cache(maxsize=64)
def _moved(timing: Timing, before: Timing, settled: datetime, passed: datetime) -> tuple[Skip, ...]:
    """Firings after `settled` by the old calendar, all of whose instants have a time until `passed` by the new one."""
    late = {
        old.instant
        for old, new in _both(before, timing, settled - _REACH, passed + _REACH)
        if not old.closed and old.instant > settled and new.instant <= passed
    }
    if not late:
        return ()
    kept: set[datetime] = set()
    for old, new in _both(before, timing, min(late) - _REACH, max(late) + _REACH):
        # Another instant of the same firing has a time to come, or a firing of the new calendar is at its time.
        if new.instant > passed:
            kept |= {old.instant} if new.closed else {old.instant, new.instant}
    lost = tuple(sorted(late - kept))
    name = timing.calendar.name if timing.calendar else ""
    why = f"the calendar {name} was changed too late: the new time of the firing had passed"
    return (Skip(SkipReason.BLACKOUT, why, lost[:COUNTED], len(lost) <= COUNTED),) if lost else ()


def _both(before: Timing, timing: Timing, after: datetime, until: datetime) -> Iterator[tuple[Occurrence, Occurrence]]:
    """What becomes of each instant of the rule by both calendars."""
    return zip(before.fates(after, until), timing.fates(after, until), strict=True)
