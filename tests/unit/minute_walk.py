"""Which minutes a cron job is due in, by watching a zone's clock: slow, and nothing that could be wrong.

It knows nothing of folds and gaps, and shares no code with `reportcron`: it looks at every minute, as a daemon
would, and asks only what the clock shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CYCLES = (range(60), range(24), range(1, 32), range(1, 13), range(7))
YEARS = datetime(2025, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
"""In which the zones' changes are looked for."""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Job(NamedTuple):
    """An expression, and what each of its fields stands for."""

    texts: tuple[str, ...]
    values: tuple[frozenset[int], ...]

    @property
    def expression(self) -> str:
        return " ".join(self.texts)

    @property
    def wildcard(self) -> bool:
        return self.texts[0][0] == "*" or self.texts[1][0] == "*"

    def matches(self, wall: datetime) -> bool:
        minutes, hours, _, months, _ = self.values
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        return self.fires_on(wall.day, wall.isoweekday() % 7)

    def fires_on(self, day: int, weekday: int) -> bool:
        """R4: whether a day of the month (1 to 31) and of the week (0 is Sunday) matches."""
        found = (day in self.values[2], weekday in self.values[4])
        return all(found) if "*" in (self.texts[2][0], self.texts[4][0]) else any(found)


def job_of(expression: str) -> Job:
    """Reads numbers, ranges also around the end, `*`, steps behind these two, and lists; no names."""
    texts = tuple(expression.split())
    return Job(texts, tuple(_values(text, cycle) for text, cycle in zip(texts, CYCLES, strict=True)))


def _values(text: str, cycle: range) -> frozenset[int]:
    values: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        start = 0 if first == "*" else cycle.index(int(first))
        turned = [*cycle[start:], *cycle[:start]]
        taken = turned if first == "*" else turned[: turned.index(int(last or first)) + 1]
        values.update(taken[:: int(step or 1)])
    return frozenset(values)


class Shown(NamedTuple):
    """One minute of a clock: what it reads, whether it had read as much before, and what it has just left out."""

    instant: datetime
    wall: datetime
    seen: bool
    skipped: tuple[datetime, ...]


@lru_cache(maxsize=64)
def instants(start: datetime, minutes: int) -> list[datetime]:
    """The minutes from `start` (aware)."""
    return [start + n * MINUTE for n in range(minutes)]


def offsets(name: str, start: datetime, minutes: int) -> tuple[timedelta, ...]:
    """The zone's offset in each of the minutes: all that a clock there shows."""
    zone = ZoneInfo(name)
    found = tuple(each.astimezone(zone).utcoffset() for each in instants(start, minutes))
    assert None not in found
    return found  # type: ignore[return-value]


def watch(start: datetime, offsets: Iterable[timedelta]) -> list[Shown]:
    """A clock in the minutes from `start` (in UTC), each of which has its offset."""
    highest: datetime | None = None
    shown: list[Shown] = []
    for n, offset in enumerate(offsets):
        instant = start + n * MINUTE
        wall = instant.replace(tzinfo=None) + offset
        skipped: tuple[datetime, ...] = ()
        if highest is not None and wall > highest + MINUTE:
            skipped = tuple(highest + n * MINUTE for n in range(1, (wall - highest) // MINUTE))
        shown.append(Shown(instant, wall, highest is not None and wall <= highest, skipped))
        highest = wall if highest is None else max(highest, wall)
    return shown


@lru_cache(maxsize=64)
def watched(name: str, start: datetime, minutes: int) -> list[Shown]:
    """The zone's clock from `start`; watched for 3 hours before, to know what it has shown."""
    before = 3 * HOUR // MINUTE
    return watch(start - before * MINUTE, offsets(name, start - before * MINUTE, minutes + before))[before:]


def walk(job: Job, clock: Iterable[Shown]) -> list[datetime]:
    """R1 and R2: when the job is due on that clock."""
    matches, wildcard, minutes = job.matches, job.wildcard, job.values[0]
    return [
        instant
        for instant, wall, seen, skipped in clock
        if (wall.minute in minutes and (wildcard or not seen) and matches(wall))  # the cheapest question first
        or (skipped and not wildcard and any(map(matches, skipped)))
    ]


@cache
def changes(name: str) -> tuple[datetime, ...]:
    """The first minutes of a new offset in `YEARS`."""
    zone = ZoneInfo(name)
    days = [YEARS[0] + n * DAY for n in range((YEARS[1] - YEARS[0]) // DAY + 1)]
    found = []
    for (day, old), (_, new) in pairwise((each, each.astimezone(zone).utcoffset()) for each in days):
        if new != old:
            minutes = (day + n * MINUTE for n in range(1441))
            found.append(next(each for each in minutes if each.astimezone(zone).utcoffset() != old))
    return tuple(found)


@lru_cache(maxsize=1)
def jumping() -> list[str]:
    """The zones whose clock is set in `YEARS`."""
    return sorted(name for name in available_timezones() - {"localtime", "Factory"} if changes(name))
