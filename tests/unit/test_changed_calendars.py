"""What a change of a calendar makes of the firings that were planned: each has a time to come, or is told as lost."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings

from reportqueue.timing import Timing, effort
from reportqueue.timing.calendars import MAX_MOVE_DAYS, Calendar, ClosedDays
from reportqueue.timing.catch_up import COUNTED
from reportqueue.timing.changed_calendars import changed_too_late
from reportqueue.timing.policies import Blackout, SkipReason
from tests.unit.test_timing import calendars, starts, timings

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
OPEN = Calendar("c")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def closing(first: str, last: str = "") -> Calendar:
    return Calendar("c", days=(ClosedDays(date.fromisoformat(first), date.fromisoformat(last or first)),))


def lost(cron: str, blackout: Blackout, before: Calendar, then: Calendar, now: str) -> list[str]:
    """The times of the firings that are lost by a change from one calendar to another at `now`."""
    timing = Timing(cron=cron, timezone="UTC", calendar=then, blackout=blackout)
    found = changed_too_late(timing, replace(timing, calendar=before), at(now) - DAY, at(now), at(now))
    assert all(skip.reason == SkipReason.BLACKOUT and "calendar c" in skip.why for skip in found)
    return [f"{instant:%m-%d %H:%M}" for skip in found for instant in skip.instants]


PREVIOUS, NEXT, SKIP = Blackout.PREVIOUS_DAY, Blackout.NEXT_DAY, Blackout.SKIP
THURSDAY = "2026-11-26 12:00"


@pytest.mark.parametrize(
    ("cron", "blackout", "before", "then", "expected"),
    [
        # Tomorrow is declared closed after today's time.
        ("0 8 * * *", PREVIOUS, OPEN, closing("2026-11-27"), ["11-27 08:00"]),
        ("0 8 * * FRI", PREVIOUS, OPEN, closing("2026-11-27"), ["11-27 08:00"]),
        ("0 8 * * *", PREVIOUS, OPEN, closing("2026-11-27", "2026-11-28"), ["11-27 08:00", "11-28 08:00"]),
        # Only the times of today that have passed are lost.
        ("0 8,18 * * *", PREVIOUS, OPEN, closing("2026-11-27"), ["11-27 08:00"]),
        # Before today's time, nothing is lost; nor was it when the day was closed all along.
        ("0 18 * * *", PREVIOUS, OPEN, closing("2026-11-27"), []),
        ("0 8 * * *", PREVIOUS, closing("2026-11-27"), closing("2026-11-27"), []),
        # Friday's firing was that of Saturday, too: one of them is lost, and the other is what remains of it.
        ("0 8 * * *", PREVIOUS, closing("2026-11-28"), closing("2026-11-28", "2026-11-29"), []),
        # Tuesday's report was moved to Friday. The day is opened again on Thursday.
        ("0 8 24 11 *", NEXT, closing("2026-11-24", "2026-11-26"), OPEN, ["11-27 08:00"]),
        ("0 8 24 11 *", NEXT, closing("2026-11-24", "2026-11-26"), closing("2026-11-26"), ["11-27 08:00"]),
        # Another one fires at that time, or it is moved on.
        ("0 8 * * *", NEXT, closing("2026-11-24", "2026-11-26"), OPEN, []),
        ("0 8 24 11 *", NEXT, closing("2026-11-24", "2026-11-26"), closing("2026-11-24", "2026-11-29"), []),
        # No open day is within reach any more.
        (
            "0 8 24 11 *",
            NEXT,
            closing("2026-11-24", "2026-11-26"),
            closing("2026-11-24", "2027-02-01"),
            ["11-27 08:00"],
        ),
        # What was closed is opened after its time: yesterday at 18:00 and today at 8:00, after the anchor.
        ("0 8,18 * * *", SKIP, closing("2026-11-20", "2026-11-28"), OPEN, ["11-25 18:00", "11-26 08:00"]),
        ("0 8,18 * * *", SKIP, closing("2026-11-20", "2026-11-28"), closing("2026-11-26"), ["11-25 18:00"]),
    ],
)
def test_a_firing_whose_new_time_has_passed_is_told(
    cron: str, blackout: Blackout, before: Calendar, then: Calendar, expected: list[str]
):
    assert lost(cron, blackout, before, then, THURSDAY) == expected


@settings(max_examples=200, deadline=None)
@given(timing=timings(), other=calendars(), now=starts)
def test_no_firing_is_lost_by_a_change_without_being_told(timing: Timing, other: Calendar, now: datetime):
    if timing.blackout == SKIP:
        return
    before = replace(timing, calendar=other)
    told = {instant for skip in changed_too_late(timing, before, now, now, now) for instant in skip.instants}
    reach = timedelta(days=MAX_MOVE_DAYS + 2)
    fates = list(
        zip(before.fates(now - reach, now + 2 * reach), timing.fates(now - reach, now + 2 * reach), strict=True)
    )
    to_come = {new.instant for _, new in fates if new.instant > now and not new.closed}
    alive = {old.instant for old, new in fates if new.instant > now}
    for old, new in fates:
        if not old.closed and old.instant > now and new.instant <= now:
            assert old.instant in told | to_come | alive
    assert not told & to_come, "a row for it would say that it is skipped, and it fires"
    assert all(instant > now for instant in told)


def test_a_long_outage_costs_no_more_than_a_bounded_search():
    closed = closing("2020-01-01", "2025-12-31")
    for cron, blackout, calendar in (("* * * * *", SKIP, closed), ("*/15 * * * *", PREVIOUS, closed)):
        timing = Timing(cron=cron, timezone="UTC", calendar=calendar, blackout=blackout)
        before = effort.spent()
        found = changed_too_late(
            timing, replace(timing, calendar=OPEN), at("2020-01-01"), at("2025-06-01"), at("2025-06-01")
        )
        assert sum(len(skip.instants) for skip in found) <= COUNTED
        assert effort.spent() - before < 60_000


@given(calendar=calendars())
def test_a_calendar_is_the_same_after_it_was_stored(calendar: Calendar):
    assert Calendar.from_json(json.loads(json.dumps(calendar.json()))) == calendar
