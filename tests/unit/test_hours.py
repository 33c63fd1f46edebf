"""The hours of a clock, on days on which it is set and in zones that are no whole hours from UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import reportcron
from reportqueue.timing.hours import HOUR, ClockHour, hours_of


def shown(timezone: str, hours: list[ClockHour]) -> list[str]:
    """What the clock shows at the start of each."""
    return [f"{reportcron.local(timezone, hour.start):%H:%M%z}" for hour in hours]


def test_hours_begin_with_the_one_that_has_the_instant():
    hours = hours_of("Asia/Kolkata", datetime(2027, 1, 1, 6, 59, 59, tzinfo=UTC), 2)
    assert shown("Asia/Kolkata", hours) == ["12:00+0530", "13:00+0530"]
    assert hours[0].start == datetime(2027, 1, 1, 6, 30, tzinfo=UTC)
    assert [hour.clock_set for hour in hours] == [None, None]


def test_in_spring_an_hour_is_left_out_and_the_day_has_23():
    hours = hours_of("Europe/Berlin", datetime(2027, 3, 28, 0, 10, tzinfo=UTC), 2)
    assert shown("Europe/Berlin", hours) == ["01:00+0100", "03:00+0200"]
    change = hours[1].clock_set
    assert change is not None
    assert (change.day, change.by, change.day_length) == (date(2027, 3, 28), HOUR, 23 * HOUR)


def test_in_autumn_an_hour_comes_twice_and_the_day_has_25():
    hours = hours_of("Europe/Berlin", datetime(2027, 10, 31, 0, 10, tzinfo=UTC), 2)
    assert shown("Europe/Berlin", hours) == ["02:00+0200", "02:00+0100"]
    change = hours[1].clock_set
    assert change is not None
    assert (change.day, change.by, change.day_length) == (date(2027, 10, 31), -HOUR, 25 * HOUR)


def test_a_clock_that_is_set_by_half_an_hour_makes_a_short_hour():
    hours = hours_of("Australia/Lord_Howe", datetime(2027, 4, 3, 14, 10, tzinfo=UTC), 3)
    assert shown("Australia/Lord_Howe", hours) == ["01:00+1100", "01:30+1030", "02:00+1030", "03:00+1030"]
    assert [hour.end - hour.start for hour in hours] == [HOUR, HOUR / 2, HOUR, HOUR / 2]


def test_a_clock_that_is_set_within_an_hour_begins_another():
    # At one minute past midnight.
    hours = hours_of("America/St_Johns", datetime(2010, 3, 14, 3, 30, tzinfo=UTC), 2)
    assert shown("America/St_Johns", hours) == ["00:00-0330", "01:01-0230", "02:00-0230"]


def test_an_instant_in_the_short_hour_begins_with_the_change():
    hours = hours_of("Australia/Lord_Howe", datetime(2027, 4, 3, 15, 10, tzinfo=UTC), 1)
    assert hours[0].start == datetime(2027, 4, 3, 15, tzinfo=UTC)


def test_an_unknown_zone_is_refused():
    with pytest.raises(reportcron.UnknownTimezone):
        hours_of("Europe/Atlantis", datetime(2027, 1, 1, tzinfo=UTC), 1)


@given(
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu"]),
    instant=st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    count=st.integers(1, 100),
)
def test_the_hours_have_no_gaps_and_the_whole_length(timezone: str, instant: datetime, count: int):
    hours = hours_of(timezone, instant, count)
    assert hours[0].start <= instant < hours[0].end
    assert hours[-1].end - hours[0].start == count * HOUR
    for hour, following in pairwise(hours):
        assert hour.end == following.start
        assert timedelta() < hour.end - hour.start <= HOUR
        reading = reportcron.local(timezone, following.start)
        assert (reading.minute, reading.second) == (0, 0) or following.clock_set is not None
