"""A schedule's next firings, in UTC and by its own clock, and what clock changes and the calendar do to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import reportcron
from reportqueue.clock import database_now
from reportqueue.models import ReportSchedule
from reportqueue.patterns import SENSOR_FIRED
from reportqueue.timing import NeverFires, Occurrence, Timing, effort
from reportqueue.timing.policies import Blackout
from reportqueue.triggers.handovers import pattern_at

MAX_FORECAST = 100
"""Firings shown at once."""
SKIPS_SHOWN = 20
"""Closed instants shown between the firings: a schedule that fires each minute has hundreds in a closed night."""
SKIPS_EXAMINED = 1_000
"""After this many closed instants in a row, the forecast jumps to the next firing."""
BUDGET = 20_000
"""A forecast ends early when it has examined this many instants (`effort`): about a second of computing."""
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Forecast:
    """One instant to come."""

    instant: datetime
    """Aware UTC."""
    reading: datetime
    """The same instant by the schedule's own clock, with its offset."""
    clock_change: reportcron.ClockChange | None
    """Whether the clock leaves this time of day out that day, or shows it twice."""
    moved_from: datetime | None
    """The instant from which the calendar has moved it, aware UTC."""
    closed: str
    """Why the calendar skips it; empty if it fires."""


@dataclass(frozen=True)
class Outlook:
    """The instants to come."""

    instants: list[Forecast]
    complete: bool
    """False if the search ended early: the calendar closes so much that further firings would take long to find."""


def forecast(schedule: ReportSchedule, count: int, *, after: datetime | None = None) -> Outlook:
    """The next `count` firings (1 to `MAX_FORECAST`) and the closed instants between them, in order.

    They come after `after`; without it, from the schedule's planned firing on, or from now if it has none. There are
    fewer if no more are left, or if the search ended early. The schedule need not be saved, nor enabled. Raises
    `reportcron.CronError` for a schedule that cannot fire.
    """
    timing = schedule.timing()
    found: list[Forecast] = []
    firings = 0
    for occurrence in _shown(timing, _begin(schedule) if after is None else after):
        if occurrence is None:
            return Outlook(found, complete=False)
        found.append(_forecast(timing, occurrence))
        firings += not occurrence.closed
        if firings == count:
            break
    return Outlook(found, complete=True)


def _begin(schedule: ReportSchedule) -> datetime:
    """Just before the schedule's planned firing, or now."""
    planned, now = schedule.next_run_at, database_now()
    if planned is None:
        return now
    if pattern_at(now) in SENSOR_FIRED:
        # Nothing moves the plan on while sensors fire: it is the first firing since the last edit.
        planned = max(planned, now)
    return planned - _TICK


def _shown(timing: Timing, after: datetime) -> Iterator[Occurrence | None]:
    """The firings after an instant, and the first `SKIPS_SHOWN` closed instants; long closed times are jumped over.

    None comes last if the search ends early.
    """
    closed = in_a_row = 0
    # A jump over skipped instants is cheap. With moves, it begins a month earlier.
    jump_from = 1 if timing.blackout == Blackout.SKIP else SKIPS_EXAMINED
    begun = effort.spent()
    occurrences = timing.occurrences(after)
    while (occurrence := next(occurrences, None)) is not None:
        if not occurrence.closed:
            in_a_row = 0
            yield occurrence
            continue
        closed, in_a_row = closed + 1, in_a_row + 1
        if closed <= SKIPS_SHOWN:
            yield occurrence
            continue
        if effort.spent() - begun >= BUDGET:
            yield None
            return
        if in_a_row >= jump_from:
            try:
                following = timing.next_firing(occurrence.instant)
            except NeverFires:
                return  # the scheduler disables such a schedule
            if following is None:
                return
            in_a_row = 0
            occurrences = timing.occurrences(following - _TICK)


def _forecast(timing: Timing, occurrence: Occurrence) -> Forecast:
    instant = occurrence.instant
    moved = instant != occurrence.nominal
    return Forecast(
        instant=instant,
        reading=reportcron.local(timing.timezone, instant),
        # The calendar may have moved it to a time of day that the expression does not have.
        clock_change=reportcron.clock_change("" if moved else timing.cron, timing.timezone, instant),
        moved_from=occurrence.nominal if moved else None,
        closed=occurrence.closed,
    )
