"""Clocks of time zones, which are set now and then: what they show when, and when they are set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from reportcron.refusals import UnknownTimezone

_SECOND = timedelta(seconds=1)
# Shorter than any stretch of constant offset in the zone database (95 hours: Freetown, 1939), so that no two
# changes hide between two probes.
_PROBE = timedelta(days=3)


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """The time zones that a schedule may have."""
    # Without the setting of this one machine, and the placeholder for "not set".
    return frozenset(available_timezones() - {"localtime", "Factory"})


def zone_of(name: str) -> ZoneInfo:
    """The IANA zone of that name. Raises `UnknownTimezone`."""
    # By the list: ZoneInfo opens a file of that name, and fails in many ways for paths, folders, long names.
    if not isinstance(name, str) or name not in zone_names():
        given = str(name)[:64]
        raise UnknownTimezone(f"{given!r} is not a time zone. Accepted: an IANA name such as Europe/Paris.")
    return ZoneInfo(name)


def first_instant(zone: ZoneInfo, wall: datetime) -> datetime:
    """When the clock first reads `wall`, or is set past it."""
    # PEP 495: fold tells the copies of a repeated reading apart; a skipped one, it puts after the gap by the
    # old offset (0) and before it by the new one (1).
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _change(zone, second, first) if second < first else first


def nearest_change(zone: ZoneInfo, near: datetime, far: datetime) -> datetime | None:
    """The change of offset nearest to `near`, between it and `far` (before or after): its first instant."""
    step = _PROBE if near < far else -_PROBE
    offset = offset_of(zone, near)
    while near != far:
        probe = far if abs(far - near) < _PROBE else near + step
        if offset_of(zone, probe) != offset:
            return _change(zone, min(near, probe), max(near, probe))
        near = probe
    return None


def _change(zone: ZoneInfo, start: datetime, end: datetime) -> datetime:
    """The first instant of the other offset in `(start, end]`, by bisection, since zoneinfo does not tell."""
    # All changes fall on whole seconds.
    start, end = start.replace(microsecond=0), end.replace(microsecond=0)
    before = offset_of(zone, start)
    while end - start > _SECOND:
        middle = start + (end - start) // _SECOND // 2 * _SECOND
        if offset_of(zone, middle) == before:
            start = middle
        else:
            end = middle
    return end


def offset_of(zone: ZoneInfo, instant: datetime) -> timedelta:
    """By how much the zone's clock is ahead of UTC at an instant."""
    return wall_of(instant.astimezone(zone)) - wall_of(instant)


def wall_of(time: datetime) -> datetime:
    """What a clock reads: naive, on purpose."""
    return time.replace(tzinfo=None)
