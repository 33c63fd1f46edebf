"""The due firings of a plan: after the firings that the sensor has made, until now, each with a stable run key.

`reportcron` evaluates the expressions, as it does for the queue's own scheduler.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from dagster_reportqueue.client.plan import Period, Plan, PlannedSchedule
from reportcron import CronError, next_after

MAX_CACHED = 20_000
"""Cached expressions, with their next firing: evaluating one takes up to half a millisecond."""
_TICK = timedelta(microseconds=1)
_ALL = 2**63
"""At least as large as any schedule's id."""


@dataclass(frozen=True, order=True)
class Position:
    """How far a sensor is: all firings before `instant` are made, and at `instant` those of schedules up to this id."""

    instant: datetime
    schedule_id: int = _ALL

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Parse a cursor's JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        instant = datetime.fromisoformat(data["instant"])
        if instant.tzinfo is None:
            raise ValueError(f"{data['instant']} has no time zone.")
        return cls(instant.astimezone(UTC), int(data["schedule_id"]))

    def json(self) -> dict[str, Any]:
        """The JSON that `parse` reads."""
        return {"instant": self.instant.isoformat(), "schedule_id": self.schedule_id}


@dataclass(frozen=True)
class Start:
    """Where a tick starts."""

    made: Position
    new_schedules: frozenset[int] = frozenset()
    """The ids of schedules that start at their `fires_after` instead, also if that is earlier."""
    new_periods: frozenset[datetime] = frozenset()
    """The beginnings of periods whose firings start there instead, also if that is earlier."""


@dataclass(frozen=True)
class DueFiring:
    """One schedule's firing at an instant (aware UTC)."""

    schedule: PlannedSchedule
    instant: datetime
    run_key: str

    @property
    def position(self) -> Position:
        """The sensor's position after this firing."""
        return Position(self.instant, self.schedule.schedule_id)


@dataclass
class DueFirings:
    """Finds the due firings of a plan. Its only state is a cache of when each expression fires next."""

    _next: dict[tuple[str, str], tuple[datetime, datetime]] = field(default_factory=dict)

    def due(self, plan: Plan, start: Start, until: datetime) -> Iterator[DueFiring]:
        """Yield the plan's firings from `start` and up to `until`, in order; they are evaluated lazily."""
        same_report = _same_report(plan)
        for period in plan.periods:
            last = until if period.until is None else min(until, period.until - _TICK)
            for instant, schedule in self._merged(plan, period, start, last):
                yield DueFiring(schedule, instant, self._run_key(schedule, instant, same_report))

    def _merged(
        self, plan: Plan, period: Period, start: Start, last: datetime
    ) -> Iterator[tuple[datetime, PlannedSchedule]]:
        heap: list[tuple[datetime, int, PlannedSchedule]] = []
        made = start.made
        for schedule in plan.schedules:
            begin = schedule.fires_after
            if period.since is not None:
                begin = max(begin, period.since - _TICK)
            if schedule.schedule_id not in start.new_schedules and period.since not in start.new_periods:
                # At the instant of the position, only schedules with a larger id are still to fire.
                begin = max(begin, made.instant if schedule.schedule_id <= made.schedule_id else made.instant - _TICK)
            self._push(heap, schedule, begin, last)
        while heap:
            instant, _, schedule = heapq.heappop(heap)
            yield instant, schedule
            self._push(heap, schedule, instant, last)

    def _push(
        self,
        heap: list[tuple[datetime, int, PlannedSchedule]],
        schedule: PlannedSchedule,
        after: datetime,
        last: datetime,
    ) -> None:
        instant = self._first_after(schedule, after)
        if instant is not None and instant <= last:
            heapq.heappush(heap, (instant, schedule.schedule_id, schedule))

    def _first_after(self, schedule: PlannedSchedule, instant: datetime) -> datetime | None:
        """None for an invalid expression: the web app refuses such schedules, or disables them later."""
        key = (schedule.cron, schedule.timezone)
        known = self._next.get(key)
        if known is not None and known[0] <= instant < known[1]:
            return known[1]
        try:
            found = next_after(*key, instant)
        except (CronError, ValueError):
            return None
        if len(self._next) >= MAX_CACHED:
            self._next.clear()
        self._next[key] = (instant, found)
        return found

    def _run_key(
        self, schedule: PlannedSchedule, instant: datetime, same_report: dict[tuple[int, int], list[PlannedSchedule]]
    ) -> str:
        key = f"report:{schedule.report_id}:{schedule.modifier_id}:{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        for other in same_report.get((schedule.report_id, schedule.modifier_id), ()):
            if other.schedule_id < schedule.schedule_id and self._first_after(other, instant - _TICK) == instant:
                # Two schedules of one report at one instant are two firings: they may differ in their parameters.
                return f"{key}:{schedule.schedule_id}"
        return key


def _same_report(plan: Plan) -> dict[tuple[int, int], list[PlannedSchedule]]:
    """The schedules that share report and modifier."""
    found: dict[tuple[int, int], list[PlannedSchedule]] = {}
    for schedule in plan.schedules:
        found.setdefault((schedule.report_id, schedule.modifier_id), []).append(schedule)
    return {pair: schedules for pair, schedules in found.items() if len(schedules) > 1}
