"""What an agenda says: its hours, its busiest minutes, and what is not in its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from reportqueue.models import Pause
from reportqueue.timing.hours import ClockHour, ClockSet

LISTED = 50
"""Schedules that are listed for an hour."""
NAMED = 10
"""Schedules that are named for a minute, and of those that are not counted or disabled."""


class Why(StrEnum):
    """Why a schedule is not counted."""

    SCHEDULES = "schedules"
    """There are more than `MAX_SCHEDULES`."""
    FIRINGS = "firings"
    """`MAX_EXAMINED` instants were examined before."""
    TIME = "time"
    """The time was used up."""
    BROKEN = "broken"
    """It cannot be evaluated; the scheduler disables it."""


class Entry(NamedTuple):
    """A schedule of the agenda."""

    pk: int
    report_id: int
    modifier_id: int
    timezone: str
    jitter_seconds: int
    held: bool = False
    """Whether the queue, its route or its report is paused: its firings are queued, and wait."""


@dataclass(frozen=True)
class Listed:
    """The firings of one schedule in one hour."""

    schedule: Entry
    firings: int
    first: datetime
    """Aware UTC, with its jitter."""
    moved: int
    """Those that the calendar has moved here."""


@dataclass
class Minute:
    """One minute with its firings."""

    instant: datetime
    """Its start, aware UTC."""
    firings: int = 0
    schedules: int = 0
    named: list[Entry] = field(default_factory=list)
    """Up to `NAMED` of them."""


@dataclass
class Hour:
    """One hour of the viewer's clock. A firing counts when it becomes available: after its jitter."""

    clock: ClockHour
    firings: int = 0
    moved_here: int = 0
    """Those that a calendar has moved here; they are among the firings."""
    moved_away: int = 0
    """Instants of this hour that a calendar has moved to another day."""
    skipped: int = 0
    """Instants of this hour that a calendar closes, and that do not fire."""
    closures: set[str] = field(default_factory=set)
    """Why calendars close or move them: the calendar's name, with the label of the closed days or hours."""
    work_seconds: float = 0
    """The typical durations of the firings, added up."""
    unmeasured: int = 0
    """Firings of reports without a typical duration: their work is not in `work_seconds`."""
    busiest: Minute | None = None
    schedules: int = 0
    listed: list[Listed] = field(default_factory=list)
    """Up to `LISTED` of them, by their first firing."""


@dataclass
class LeftOut:
    """Schedules that are not in the numbers."""

    count: int = 0
    named: list[tuple[Entry, Why]] = field(default_factory=list)
    """Up to `NAMED` of them."""
    reasons: Counter[Why] = field(default_factory=Counter)

    def add(self, entries: Sequence[Entry], why: Why, count: int | None = None) -> None:
        """Add them, or `count` of which these are the first."""
        count = len(entries) if count is None else count
        self.count += count
        self.reasons[why] += count
        self.named += [(entry, why) for entry in entries[: NAMED - len(self.named)]]


@dataclass
class Agenda:
    """What will run from `start` until just before `end`."""

    start: datetime
    end: datetime
    timezone: str
    hours: list[Hour]
    """All of them; the first one counts from `start` on."""
    busiest: list[Minute] = field(default_factory=list)
    """The minutes with most firings, at least two; most first."""
    counted: int = 0
    """Schedules in the numbers, including the ones that do not fire in this time."""
    left_out: LeftOut = field(default_factory=LeftOut)
    disabled: list[Entry] = field(default_factory=list)
    """Up to `NAMED` of the disabled schedules; they are in no number."""
    disabled_count: int = 0
    pauses: list[Pause] = field(default_factory=list)
    """What is paused and holds back firings of the agenda."""
    measured: bool = True
    """False if the typical durations could not be read in time."""

    @property
    def firings(self) -> int:
        """All firings."""
        return sum(hour.firings for hour in self.hours)

    @property
    def work_seconds(self) -> float:
        """The work of all firings whose report has a typical duration."""
        return sum(hour.work_seconds for hour in self.hours)

    @property
    def unmeasured(self) -> int:
        """The firings of reports without one."""
        return sum(hour.unmeasured for hour in self.hours)

    @property
    def clock_sets(self) -> list[ClockSet]:
        """The changes of the viewer's clock."""
        return [hour.clock.clock_set for hour in self.hours if hour.clock.clock_set is not None]
