"""When a calendar is closed: days and weekly hours, by a schedule's own clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, Self

from reportqueue.timing.effort import spend

REMEMBERED = 20_000
"""Readings whose closure a calendar remembers: a schedule's instants are looked up several times."""
MAX_MOVE_DAYS = 31
"""How far a firing may be moved to an open day. If no day within reach is open, it is skipped."""


@dataclass(frozen=True)
class ClosedDays:
    """Days from `first` to `last`, both included; `every_year` from and to the same days of each year.

    In a year without 29 February, 1 March is the first day instead of it, and 28 February the last.
    """

    first: date
    last: date
    every_year: bool = False
    label: str = ""

    def covers(self, day: date) -> bool:
        """Whether the day is one of them."""
        if not self.every_year:
            return self.first <= day <= self.last
        years = self.last.year - self.first.year
        if years > 1:
            return True  # more than a year, which the model refuses
        # Days across New Year's Eve began the year before.
        return any(
            _in_year(self.first, year, date(year, 3, 1)) <= day <= _in_year(self.last, end, date(end, 2, 28))
            for year in range(max(day.year - years, date.min.year), day.year + 1)
            if (end := year + years) <= date.max.year
        )


@dataclass(frozen=True)
class ClosedHours:
    """On a weekday (0 is Monday), from `start` until just before `end`; None is the end of the day."""

    weekday: int
    start: time = time()
    end: time | None = None
    label: str = ""

    def covers(self, reading: datetime) -> bool:
        """Whether a reading of the clock lies within."""
        if reading.weekday() != self.weekday:
            return False
        at = reading.time()
        return self.start <= at and (self.end is None or at < self.end)


@dataclass(frozen=True)
class Calendar:
    """Closed days and hours; the clock is the schedule's own."""

    name: str
    days: tuple[ClosedDays, ...] = ()
    hours: tuple[ClosedHours, ...] = ()
    _labels: dict[date, str | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `closes_all` has found: a move asks for the same month of days again and again."""
    _closures: dict[datetime, str | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `closure` has found."""
    _hours: dict[int, list[ClosedHours]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By their weekday."""

    def __post_init__(self) -> None:
        for hours in self.hours:
            self._hours.setdefault(hours.weekday, []).append(hours)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The calendar that `json` has written."""
        day, at = date.fromisoformat, time.fromisoformat
        return cls(
            data["name"],
            tuple(ClosedDays(day(first), day(last), yearly, label) for first, last, yearly, label in data["days"]),
            tuple(
                ClosedHours(weekday, at(start), None if end is None else at(end), label)
                for weekday, start, end, label in data["hours"]
            ),
        )

    def json(self) -> dict[str, Any]:
        """The calendar as JSON."""
        return {
            "name": self.name,
            "days": [[str(one.first), str(one.last), one.every_year, one.label] for one in self.days],
            "hours": [
                [one.weekday, str(one.start), None if one.end is None else str(one.end), one.label]
                for one in self.hours
            ],
        }

    def closure(self, reading: datetime) -> str | None:
        """Why it is closed at a naive reading of the clock, in words; None if it is open."""
        if reading not in self._closures:
            if len(self._closures) >= REMEMBERED:
                self._closures.clear()
            self._closures[reading] = self._closure(reading)
        return self._closures[reading]

    def _closure(self, reading: datetime) -> str | None:
        spend()
        label = self._label(reading.date())
        if not label:
            labels = [hours.label for hours in self._covering(reading)]
            label = next(filter(None, labels), "" if labels else label)
        if label is None:
            return None
        return f"{self.name}: {label}" if label else self.name

    def _covering(self, reading: datetime) -> list[ClosedHours]:
        return [hours for hours in self._hours.get(reading.weekday(), ()) if hours.covers(reading)]

    def closed_until(self, reading: datetime) -> datetime:
        """Until which reading of the same day, or the next midnight, it is surely closed; `reading` if it is open."""
        midnight = datetime.combine(reading.date() + timedelta(days=1), time())
        if self.closes_all(reading.date()):
            return midnight
        ends = [
            midnight if hours.end is None else datetime.combine(reading.date(), hours.end)
            for hours in self._covering(reading)
        ]
        return max(ends, default=reading)

    def closes_all(self, day: date) -> bool:
        """Whether closed days cover the whole of that day."""
        return self._label(day) is not None

    def _label(self, day: date) -> str | None:
        if day not in self._labels:
            labels = [days.label for days in self.days if days.covers(day)]
            self._labels[day] = next(filter(None, labels), "") if labels else None
        return self._labels[day]

    def open_day(self, reading: datetime, step: int) -> datetime | None:
        """The same reading on the nearest open day, later (`step` 1) or earlier (-1); None within `MAX_MOVE_DAYS`."""
        for distance in range(1, MAX_MOVE_DAYS + 1):
            moved = reading + timedelta(days=step * distance)
            if self.closure(moved) is None:
                return moved
        return None


def _in_year(day: date, year: int, without: date) -> date:
    """The same day of another year, or `without` for a 29 February that the year does not have."""
    try:
        return day.replace(year=year)
    except ValueError:
        return without
