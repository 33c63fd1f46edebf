"""An agenda as the API answers it: the numbers of each hour, and what is not in them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import reportcron
from reportqueue.row_filters import InstantField
from reportqueue.schedules.agenda_numbers import Agenda, Entry, Hour, Minute


def agenda_shown(found: Agenda) -> dict[str, Any]:
    """The answer. Times are UTC; `local` is the same instant by the clock of the agenda's zone."""
    zone = found.timezone
    return {
        "start": _utc(found.start),
        "end": _utc(found.end),
        "zone": zone,
        "firings": found.firings,
        "work_minutes": _minutes(found.work_seconds),
        "unmeasured": found.unmeasured,
        "measured": found.measured,
        "schedules": found.counted,
        "hours": [_hour(hour, zone) for hour in found.hours],
        "busiest_minutes": [
            {
                **_minute(minute, zone),
                "schedules": minute.schedules,
                "named": [_entry(entry) for entry in minute.named],
            }
            for minute in found.busiest
        ],
        "clock_changes": [
            {
                "instant": _utc(change.instant),
                "local": _local(change.instant, zone),
                "day": change.day.isoformat(),
                "day_hours": change.day_length.total_seconds() / 3600,
            }
            for change in found.clock_sets
        ],
        "left_out": {
            "count": found.left_out.count,
            "named": [{**_entry(entry), "why": why} for entry, why in found.left_out.named],
        },
        "disabled": {"count": found.disabled_count, "named": [_entry(entry) for entry in found.disabled]},
        "paused": [
            {"scope": pause.scope, "route": pause.route, "report_id": pause.report_id, "since": _utc(pause.paused_at)}
            for pause in found.pauses
        ],
    }


def _hour(hour: Hour, zone: str) -> dict[str, Any]:
    return {
        "start": _utc(hour.clock.start),
        "end": _utc(hour.clock.end),
        "local": _local(hour.clock.start, zone),
        "firings": hour.firings,
        "schedules": hour.schedules,
        "work_minutes": _minutes(hour.work_seconds),
        "unmeasured": hour.unmeasured,
        "skipped": hour.skipped,
        "moved_away": hour.moved_away,
        "moved_here": hour.moved_here,
        "closures": sorted(hour.closures),
        "busiest_minute": None if hour.busiest is None else _minute(hour.busiest, zone),
    }


def _minute(minute: Minute, zone: str) -> dict[str, Any]:
    return {"instant": _utc(minute.instant), "local": _local(minute.instant, zone), "firings": minute.firings}


def _entry(entry: Entry) -> dict[str, Any]:
    return {"schedule_id": entry.pk, "report_id": entry.report_id, "modifier_id": entry.modifier_id}


def _minutes(seconds: float) -> float:
    return round(seconds / 60, 1)


def _utc(instant: datetime) -> Any:
    return InstantField().to_representation(instant)


def _local(instant: datetime, zone: str) -> str:
    return reportcron.local(zone, instant).isoformat()
