"""`reportcron` in every zone, around every change of its clock: against a minute walk."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import reportcron as cron
from tests.unit.minute_walk import DAY, HOUR, MINUTE, Job, changes, job_of, jumping, offsets, walk, watch

REACH = 3 * DAY / 2
MINUTES = 2 * REACH // MINUTE
HISTORY = 3 * HOUR // MINUTE
"""Minutes watched before the window, to know what the clock has shown."""
AT_CHANGE = HISTORY + REACH // MINUTE


class Window(NamedTuple):
    """A zone, the `REACH` around a change of its clock, and the jobs there with the minutes in which they are due."""

    zone: str
    start: datetime
    end: datetime
    disputed: tuple[datetime, datetime]
    """In UTC, from the change: as long as the gap, or as the second copy of what comes twice."""
    due: dict[str, list[datetime]]

    def __str__(self) -> str:
        return f"{self.zone} {self.disputed[0]:%Y-%m-%d %H:%M}Z"


def telling(low: datetime, high: datetime) -> list[Job]:
    """Jobs that show what is done with the readings from `low` until before `high`, skipped or shown twice."""
    middle, last, before = low + (high - low) // 2, high - MINUTE, low - MINUTE
    around = f"{(low.hour - 1) % 24}-{(high.hour + 1) % 24}"
    weekday = low.isoweekday() % 7
    next_weekday, third_weekday = (weekday + 1) % 7, (weekday + 3) % 7
    disputed = f"{middle.minute} {middle.hour}"
    expressions = [
        # Fixed, daily: at the edges and inside of what is disputed, and where clocks often begin a day.
        *(f"{each.minute} {each.hour} * * *" for each in (before, low, middle, last, high)),
        "0 0 * * *",
        # Fixed: lists, ranges and steps, with several readings in one gap.
        f"{low.minute},{middle.minute},{last.minute} {low.hour},{high.hour} {low.day} * *",
        f"5-59/20 {around} {low.day} * *",
        f"0,30 {around} {low.day} {low.month} *",
        f"50-10/7 {low.hour}-{high.hour}/2 * {low.month} *",
        # Wildcards: of the hour, of the minute, with steps that the change cuts.
        f"0 * {low.day} * *",
        f"{middle.minute} */5 {low.day} * *",
        f"*/30 {around} {low.day} * *",
        f"*/17 {low.hour},{high.hour} {low.day} {low.month} *",
        # Days: one of them, a weekday, either of two, with and without a step.
        f"{disputed} {low.day} * *",
        f"{disputed} * {low.month} {weekday}",
        f"{disputed} {low.day} * {third_weekday}",
        f"*/30 {middle.hour} {low.day} * {next_weekday}",
        f"{disputed} */2 * {weekday}-{third_weekday}",
    ]
    return [job_of(expression) for expression in dict.fromkeys(expressions)]


@lru_cache(maxsize=1)
def windows() -> list[Window]:
    """Every change in every zone. Zones whose clocks show the same in each minute of a window share its walk."""
    found = []
    walks: dict[tuple[datetime, tuple[timedelta, ...]], dict[str, list[datetime]]] = {}
    for name in jumping():
        for change in changes(name):
            start = change - REACH
            shown = offsets(name, start - HISTORY * MINUTE, HISTORY + MINUTES)
            low, high = sorted(change.replace(tzinfo=None) + offset for offset in shown[AT_CHANGE - 1 : AT_CHANGE + 1])
            if (start, shown) not in walks:
                clock = watch(start - HISTORY * MINUTE, shown)[HISTORY:]
                walks[start, shown] = {job.expression: walk(job, clock) for job in telling(low, high)}
            end, disputed = start + (MINUTES - 1) * MINUTE, (change, change + (high - low))
            found.append(Window(name, start, end, disputed, walks[start, shown]))
    return found


def test_every_change_of_every_zone_agrees_with_a_walk_through_every_minute():
    """About 22,500 cases: 19 expressions around each of the 1,206 changes of 201 zones in 2025 to 2027."""
    cases, wrong = 0, []
    for window in windows():
        for expression, due in window.due.items():
            cases += 1
            if list(cron.between(expression, window.zone, window.start - MINUTE, window.end)) != due:
                wrong.append(f"{expression} {window}")
    assert wrong[:20] == []
    assert cases > 15_000


def test_every_change_of_every_zone_looked_at_from_within_agrees_with_the_walk():
    """The same 22,500 cases, begun anew in the middle of the disputed time, and backwards from three places."""
    tick = timedelta(microseconds=1)
    cases, wrong = 0, []
    for window in windows():
        change, over = window.disputed
        middle = change + (over - change) / 2 + tick
        for expression, due in window.due.items():
            cases += 1
            following = cron.next_after(expression, window.zone, middle)
            expected = next((each for each in due if each > middle), None)
            if following != expected and (expected or following <= window.end):
                wrong.append(f"{expression} {window}: {following:%F %T} after {middle:%F %T}")
            for instant in (change, middle, over):
                previous = cron.previous_before(expression, window.zone, instant)
                expected = next((each for each in reversed(due) if each < instant), None)
                if previous != expected and (expected or previous >= window.start):
                    wrong.append(f"{expression} {window}: {previous:%F %T} before {instant:%F %T}")
    assert wrong[:20] == []
    assert cases > 15_000
