"""The schedules that a sensor fires, as the web app lists them and as an asset's metadata stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Period:
    """A period whose firings belong to the sensor: from `since` (included) to `until` (excluded), aware UTC."""

    since: datetime | None
    until: datetime | None

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Period:
        """Parse JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        return cls(_instant(data["since"]), _instant(data["until"]))

    def json(self) -> dict[str, Any]:
        """The JSON that `parse` reads."""
        return {"since": _text(self.since), "until": _text(self.until)}


@dataclass(frozen=True)
class PlannedSchedule:
    """The fields of a schedule that decide its firings. A run reads the parameters itself when it starts."""

    schedule_id: int
    report_id: int
    modifier_id: int
    cron: str
    timezone: str
    priority: int
    fires_after: datetime
    """Only later instants fire: its last change, or just before its start. So an edit never fires past instants."""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> PlannedSchedule:
        """Parse JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        return cls(
            schedule_id=int(data["schedule_id"]),
            report_id=int(data["report_id"]),
            modifier_id=int(data["modifier_id"]),
            cron=str(data["cron"]),
            timezone=str(data["timezone"]),
            priority=int(data["priority"]),
            fires_after=_aware(data["fires_after"]),
        )

    def json(self) -> dict[str, Any]:
        """The JSON that `parse` reads."""
        return {
            "schedule_id": self.schedule_id,
            "report_id": self.report_id,
            "modifier_id": self.modifier_id,
            "cron": self.cron,
            "timezone": self.timezone,
            "priority": self.priority,
            "fires_after": _text(self.fires_after),
        }


@dataclass(frozen=True)
class Plan:
    """The schedules that a sensor must fire, and when."""

    version: str
    """It changes with every edit of a schedule and every switch of the pattern."""
    periods: tuple[Period, ...]
    """In order, without overlaps."""
    schedules: tuple[PlannedSchedule, ...]
    """In order of their ids."""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Plan:
        """Parse JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        schedules = {schedule.schedule_id: schedule for schedule in map(PlannedSchedule.parse, data["reports"])}
        return cls(
            version=str(data["version"]),
            periods=tuple(Period.parse(period) for period in data["periods"]),
            schedules=tuple(schedules[schedule_id] for schedule_id in sorted(schedules)),
        )


@dataclass(frozen=True)
class PlanReading:
    """A plan as it was read from the web app."""

    plan: Plan
    now: datetime
    """The database's time just before that, aware UTC: firings up to it are due."""


def _instant(value: Any) -> datetime | None:
    return None if value is None else _aware(value)


def _aware(value: Any) -> datetime:
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError(f"{value} has no time zone.")
    return found.astimezone(UTC)


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
