"""What a schedule is going to do: its next firings by both clocks, and what the clock and the calendar do to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import reportcron
from reportqueue.clock import database_now
from reportqueue.models import ReportSchedule
from reportqueue.patterns import SENSOR_FIRED
from reportqueue.timing import NeverFires
from reportqueue.triggers.handovers import pattern_at

MAX_FORECAST = 100
"""Firings shown at once."""
SKIPS_SHOWN = 20
"""Closed instants shown between them: with one a minute, a closed night has hundreds."""
SKIPS_EXAMINED = 1_000
"""After so many one after the other, what is closed is passed over at once to the firing behind it."""
MAX_PASSED_OVER = 3
"""How often: each may be a search of a second. A calendar that closes more than that gets a shorter answer."""


@dataclass(frozen=True)
class Forecast:
    """One instant to come, aware UTC; `reading` is the schedule's own clock then, with its offset."""

    instant: datetime
    reading: datetime
    clock_change: reportcron.ClockChange | None
    """Whether its reading is left out that day, or is one of two."""
    moved_from: datetime | None
    """Where the calendar has moved it from."""
    closed: str
    """Why it will be skipped; empty if it fires."""


def forecast(schedule: ReportSchedule, count: int, *, after: datetime | None = None) -> list[Forecast]:
    """The next `count` firings (1 to `MAX_FORECAST`) and the closed instants between them, in order.

    Fewer, where the calendar closes so much that they would take long to find.
    From `after`, or from the planned firing of a schedule that has one, or from now: where sensors fire, what is
    planned is the first firing since the last edit. A schedule need not be saved, nor enabled. Raises
    `reportcron.CronError` for one that cannot fire.
    """
    if after is None:
        planned, now = schedule.next_run_at, database_now()
        if planned is not None and pattern_at(now) in SENSOR_FIRED:
            planned = max(planned, now)
        after = now if planned is None else planned - timedelta(microseconds=1)
    timing = schedule.timing()
    found: list[Forecast] = []
    firings = skipped = in_a_row = passed_over = 0
    occurrences = timing.occurrences(after)
    while firings < count and (occurrence := next(occurrences, None)) is not None:
        instant = occurrence.instant
        skipped += bool(occurrence.closed)
        in_a_row = in_a_row + 1 if occurrence.closed else 0
        firings += not occurrence.closed
        if occurrence.closed and skipped > SKIPS_SHOWN:
            if in_a_row > SKIPS_EXAMINED:
                in_a_row, passed_over = 0, passed_over + 1
                if passed_over > MAX_PASSED_OVER:
                    break
                try:
                    following = timing.next_firing(instant)
                except NeverFires:
                    break
                if following is None:
                    break
                occurrences = timing.occurrences(following - timedelta(microseconds=1))
            continue
        moved = instant != occurrence.nominal
        found.append(
            Forecast(
                instant=instant,
                reading=reportcron.local(timing.timezone, instant),
                # A moved one is at a reading that the expression may not have.
                clock_change=reportcron.clock_change("" if moved else timing.cron, timing.timezone, instant),
                moved_from=occurrence.nominal if moved else None,
                closed=occurrence.closed,
            )
        )
    return found
