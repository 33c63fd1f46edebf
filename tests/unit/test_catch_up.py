"""Down for three hours: exactly what the catch-up rule says, and nothing without a word."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reportqueue.timing import Timing
from reportqueue.timing.calendars import Calendar, ClosedHours
from reportqueue.timing.catch_up import COUNTED, CatchUpRule, catch_up
from reportqueue.timing.policies import CatchUp, SkipReason

HOURLY = Timing(cron="0 * * * *", timezone="UTC")
MINUTELY = Timing(cron="* * * * *", timezone="UTC")
DAY = datetime(2026, 11, 25, tzinfo=UTC)


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return DAY + timedelta(hours=hour, minutes=minute, seconds=second)


def rule(policy: CatchUp = CatchUp.ALL, *, window_hours: float = 24, limit: int = 1000) -> CatchUpRule:
    return CatchUpRule(policy=policy, window=timedelta(hours=window_hours), limit=limit, grace=timedelta(seconds=60))


def hours(instants: tuple[datetime, ...]) -> list[str]:
    return [f"{instant:%H:%M}" for instant in instants]


@pytest.mark.parametrize(
    ("given", "fires", "skipped"),
    [
        (rule(CatchUp.SKIP), [], ["09:00", "10:00", "11:00", "12:00"]),
        (rule(CatchUp.LAST), ["12:00"], ["09:00", "10:00", "11:00"]),
        (rule(CatchUp.ALL), ["09:00", "10:00", "11:00", "12:00"], []),
        (rule(CatchUp.ALL, limit=2), ["11:00", "12:00"], ["09:00", "10:00"]),
        (rule(CatchUp.ALL, window_hours=1.6), ["11:00", "12:00"], ["09:00", "10:00"]),
        (rule(CatchUp.LAST, window_hours=0.25), [], ["09:00", "10:00", "11:00", "12:00"]),
        (rule(CatchUp.ALL, window_hours=3.5), ["09:00", "10:00", "11:00", "12:00"], []),
    ],
)
def test_an_hourly_schedule_after_three_hours_of_downtime(given: CatchUpRule, fires: list[str], skipped: list[str]):
    caught_up = catch_up(HOURLY, given, at(9), at(8), at(12, 30))
    assert hours(caught_up.fires) == fires
    assert [hours(skip.instants) for skip in caught_up.skips] == ([skipped] if skipped else [])
    assert all(skip.reason == SkipReason.MISFIRE and skip.complete for skip in caught_up.skips)
    assert caught_up.next_run_at == at(13)
    assert caught_up.planned_from == at(12)


@pytest.mark.parametrize("policy", list(CatchUp))
def test_what_is_on_time_fires_whatever_the_rule(policy: CatchUp):
    caught_up = catch_up(HOURLY, rule(policy), at(12), at(11), at(12, 0, 59))
    assert (hours(caught_up.fires), caught_up.skips, caught_up.next_run_at) == (["12:00"], (), at(13))


def test_a_missed_one_is_not_made_up_for_by_last_when_a_later_one_is_on_time():
    caught_up = catch_up(MINUTELY, rule(CatchUp.LAST), at(9), at(8), at(12, 0, 30))
    assert hours(caught_up.fires) == ["12:00"]
    (skip,) = caught_up.skips
    assert (len(skip.instants), hours(skip.instants[:1]), hours(skip.instants[-1:])) == (180, ["09:00"], ["11:59"])


def test_a_planned_instant_off_the_grid_is_taken_at_its_word():
    caught_up = catch_up(HOURLY, rule(), at(9, 17), at(9), at(11, 30))
    assert hours(caught_up.fires) == ["09:17", "10:00", "11:00"]


def test_what_comes_after_the_end_is_nothing():
    timing = Timing(cron="0 * * * *", timezone="UTC", end_at=at(10))
    caught_up = catch_up(timing, rule(), at(9), at(8), at(12, 30))
    assert (hours(caught_up.fires), caught_up.next_run_at) == (["09:00", "10:00"], None)


def test_a_year_without_a_scheduler_is_counted_only_so_far():
    caught_up = catch_up(MINUTELY, rule(CatchUp.LAST, window_hours=24), DAY - timedelta(days=365), None, at(12, 30, 5))
    (skip,) = caught_up.skips
    assert (len(skip.instants), skip.complete) == (COUNTED, False)
    assert hours(caught_up.fires) == ["12:30"]


def test_closed_instants_since_the_anchor_are_told_apart_from_missed_ones():
    nights = Calendar("nights", hours=tuple(ClosedHours(day, DAY.time(), at(6).time(), "quiet") for day in range(7)))
    timing = Timing(cron="0 * * * *", timezone="UTC", calendar=nights)
    caught_up = catch_up(timing, rule(CatchUp.LAST), at(6), at(0) - timedelta(hours=1), at(8, 30))
    assert hours(caught_up.fires) == ["08:00"]
    missed, closed = caught_up.skips
    assert (missed.reason, hours(missed.instants)) == (SkipReason.MISFIRE, ["06:00", "07:00"])
    assert (closed.reason, hours(closed.instants)) == (
        SkipReason.BLACKOUT,
        ["00:00", "01:00", "02:00", "03:00", "04:00", "05:00"],
    )
    assert "nights: quiet" in closed.why
