"""The schedules that a sensor fires by itself, as the web app lists them, and as an asset's metadata keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Period:
    """A stretch of time whose firings are the sensor's: from `since`, included, to `until`, not included; aware UTC."""

    since: datetime | None
    until: datetime | None

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Period:
        """From JSON. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(_instant(data["since"]), _instant(data["until"]))

    def json(self) -> dict[str, Any]:
        """As it was parsed."""
        return {"since": _text(self.since), "until": _text(self.until)}


@dataclass(frozen=True)
class PlannedReport:
    """A schedule as far as its firings go. Its parameters are left out: a run reads them at its start."""

    schedule_id: int
    report_id: int
    modifier_id: int
    cron: str
    timezone: str
    priority: int
    fires_after: datetime
    """When it was last changed, or just before its start: an edit never fires the past."""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> PlannedReport:
        """From JSON. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            schedule_id=int(data["schedule_id"]),
            report_id=int(data["report_id"]),
            modifier_id=int(data["modifier_id"]),
            cron=str(data["cron"]),
            timezone=str(data["timezone"]),
            priority=int(data["priority"]),
            fires_after=_known(data["fires_after"]),
        )

    def json(self) -> dict[str, Any]:
        """As it was parsed."""
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
    """What a sensor is to fire."""

    version: str
    """It moves with every edit and every hand-over."""
    periods: tuple[Period, ...]
    """In order; none overlaps another."""
    reports: tuple[PlannedReport, ...]
    """By schedule."""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Plan:
        """From JSON. Raises KeyError, TypeError or ValueError for anything else."""
        reports = {report.schedule_id: report for report in (PlannedReport.parse(r) for r in data["reports"])}
        return cls(
            version=str(data["version"]),
            periods=tuple(Period.parse(period) for period in data["periods"]),
            reports=tuple(reports[schedule_id] for schedule_id in sorted(reports)),
        )


def _instant(value: Any) -> datetime | None:
    return None if value is None else _known(value)


def _known(value: Any) -> datetime:
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError(f"{value} has no time zone.")
    return found.astimezone(UTC)


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
