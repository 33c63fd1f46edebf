"""Clocks of time zones: their readings, and their changes of offset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from reportcron.errors import UnknownTimezone

_SECOND = timedelta(seconds=1)
# Shorter than any time of constant offset in the zone database (95 hours: Freetown, 1939), so that no two changes lie
# between two probes.
_PROBE = timedelta(days=3)


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """The time zones that a schedule may have."""
    # "localtime" is this machine's setting, "Factory" a placeholder for "not set".
    return frozenset(available_timezones() - {"localtime", "Factory"})


def zone_of(name: str) -> ZoneInfo:
    """The IANA zone of that name. Raises `UnknownTimezone`."""
    # Checked against the list: ZoneInfo opens a file of that name, and fails in many ways for other names.
    if not isinstance(name, str) or name not in zone_names():
        given = str(name)[:64]
        raise UnknownTimezone(f"{given!r} is not a time zone. Accepted: an IANA name such as Europe/Paris.")
    return ZoneInfo(name)


def first_instant(zone: ZoneInfo, wall: datetime) -> datetime:
    """When the clock first reads `wall`, or is set past it."""
    # PEP 495: fold tells the two instants of a repeated reading apart. A skipped reading comes after the gap by the
    # old offset (0), and before it by the new one (1).
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
    """The first instant of the other offset in `(start, end]`, by bisection: zoneinfo has no such function."""
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
    """The reading of a clock: naive, on purpose."""
    return time.replace(tzinfo=None)
