"""Walk the firings of a job forwards and backwards, across clock changes, by the rules of Debian's cron.

There are two kinds of job. A walk depends on the instant alone: a new walk from any instant has the same firings as the
old one after it (R3). Instants are in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from reportcron.clocks import first_instant, nearest_change, offset_of, wall_of
from reportcron.expressions import TICK, Plan


def firings(plan: Plan, zone: ZoneInfo, instant: datetime) -> Iterator[datetime]:
    """The firings strictly after an instant, by the rule of the job's kind."""
    return _elapsed(plan, zone, instant) if plan.wildcard else _fixed(plan, zone, instant)


def _elapsed(plan: Plan, zone: ZoneInfo, instant: datetime) -> Iterator[datetime]:
    """R1: every matching minute of elapsed time, one time of constant offset after the other."""
    offset = offset_of(zone, instant)
    wall = wall_of(instant + offset)
    while True:
        wall = plan.after(wall)
        fired = wall.replace(tzinfo=UTC) - offset
        if (change := nearest_change(zone, instant, fired)) is None:
            yield fired
            instant = fired
        else:
            # The clock is set before that firing: go on from just before its new reading, which may match too.
            offset = offset_of(zone, change)
            instant, wall = change, wall_of(change + offset - TICK)


def last_elapsed(plan: Plan, zone: ZoneInfo, instant: datetime) -> datetime:
    """The last firing strictly before an instant, of a wildcard job."""
    while True:
        offset = offset_of(zone, instant - TICK)
        fired = plan.before(wall_of(instant + offset)).replace(tzinfo=UTC) - offset
        if (change := nearest_change(zone, instant - TICK, fired)) is None:
            return fired
        instant = change


def _fixed(plan: Plan, zone: ZoneInfo, instant: datetime) -> Iterator[datetime]:
    """R2: every matching reading of the clock once, at its first instant; both are in the same order."""
    wall = wall_of(instant.astimezone(zone))
    while True:
        wall = plan.after(wall)
        # Otherwise it is a repeated reading whose first instant has passed, or another reading in the same gap.
        if (fired := first_instant(zone, wall)) > instant:
            yield fired
            instant = fired


def last_fixed(plan: Plan, zone: ZoneInfo, instant: datetime) -> datetime:
    """The last firing strictly before an instant, of a fixed job."""
    wall = wall_of(instant.astimezone(zone))
    # In the second of two equal hours, later readings have passed too: start from the reading of a clock not set back.
    wall += instant - first_instant(zone, wall)
    while True:
        wall = plan.before(wall)
        if (fired := first_instant(zone, wall)) < instant:
            return fired
