"""Which firings a sensor has to make: after those it made, until now, each with a run key that is always the same.

The expressions are evaluated by `reportcron`, as the queue's own scheduler does it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from dagster_reportqueue.client.plan import Plan, PlannedReport
from reportcron import CronError, next_after

REMEMBERED = 20_000
"""Expressions whose next firing is kept from one tick to the next: evaluating one takes up to half a millisecond."""
_TICK = timedelta(microseconds=1)
_ALL = 2**63
"""Larger than any schedule's id."""


@dataclass(frozen=True, order=True)
class Position:
    """How far a sensor is: what fires before `instant` is made, and what schedules up to `schedule_id` fire at it."""

    instant: datetime
    schedule_id: int = _ALL

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """From a cursor's JSON. Raises KeyError, TypeError or ValueError for anything else."""
        instant = datetime.fromisoformat(data["instant"])
        if instant.tzinfo is None:
            raise ValueError(f"{data['instant']} has no time zone.")
        return cls(instant.astimezone(UTC), int(data["schedule_id"]))

    def json(self) -> dict[str, Any]:
        """For a cursor."""
        return {"instant": self.instant.isoformat(), "schedule_id": self.schedule_id}


@dataclass(frozen=True)
class DueFiring:
    """One schedule's firing at an instant (aware UTC)."""

    report: PlannedReport
    instant: datetime
    run_key: str

    @property
    def position(self) -> Position:
        """Where a sensor is once it has made it."""
        return Position(self.instant, self.report.schedule_id)


@dataclass
class Clockwork:
    """Finds the firings of plans; it remembers when each expression fires next, and is otherwise without state."""

    _next: dict[tuple[str, str], tuple[datetime, datetime]] = field(default_factory=dict)

    def due(self, plan: Plan, made: Position, until: datetime) -> Iterator[DueFiring]:
        """The plan's firings after `made` and up to `until`, in order; evaluated as they are taken."""
        twins = _twins(plan)
        for period in plan.periods:
            after, last = made, until
            if period.since is not None:
                after = max(after, Position(period.since - _TICK))
            if period.until is not None:
                last = min(last, period.until - _TICK)
            for instant, report in self._merged(plan, after, last):
                yield DueFiring(report, instant, self._run_key(report, instant, twins))

    def _merged(self, plan: Plan, after: Position, last: datetime) -> Iterator[tuple[datetime, PlannedReport]]:
        heap: list[tuple[datetime, int, PlannedReport]] = []
        for report in plan.reports:
            # What comes later than a position at its own instant: the schedules behind it.
            start = after.instant if report.schedule_id <= after.schedule_id else after.instant - _TICK
            self._push(heap, report, max(start, report.fires_after), last)
        while heap:
            instant, _, report = heapq.heappop(heap)
            yield instant, report
            self._push(heap, report, instant, last)

    def _push(
        self, heap: list[tuple[datetime, int, PlannedReport]], report: PlannedReport, after: datetime, last: datetime
    ) -> None:
        instant = self._first_after(report, after)
        if instant is not None and instant <= last:
            heapq.heappush(heap, (instant, report.schedule_id, report))

    def _first_after(self, report: PlannedReport, instant: datetime) -> datetime | None:
        """None for an expression that cannot be evaluated: the web app refuses those, and disables what slipped by."""
        key = (report.cron, report.timezone)
        known = self._next.get(key)
        if known is not None and known[0] <= instant < known[1]:
            return known[1]
        try:
            found = next_after(*key, instant)
        except (CronError, ValueError):
            return None
        if len(self._next) >= REMEMBERED:
            self._next.clear()
        self._next[key] = (instant, found)
        return found

    def _run_key(
        self, report: PlannedReport, instant: datetime, twins: dict[tuple[int, int], list[PlannedReport]]
    ) -> str:
        key = f"report:{report.report_id}:{report.modifier_id}:{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        for other in twins.get((report.report_id, report.modifier_id), ()):
            if other.schedule_id < report.schedule_id and self._first_after(other, instant - _TICK) == instant:
                # Two schedules of one report at one instant are two firings: they may differ in their parameters.
                return f"{key}:{report.schedule_id}"
        return key


def _twins(plan: Plan) -> dict[tuple[int, int], list[PlannedReport]]:
    """Schedules that share report and modifier."""
    found: dict[tuple[int, int], list[PlannedReport]] = {}
    for report in plan.reports:
        found.setdefault((report.report_id, report.modifier_id), []).append(report)
    return {pair: reports for pair, reports in found.items() if len(reports) > 1}
