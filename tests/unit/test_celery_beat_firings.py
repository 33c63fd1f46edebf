"""When beat fires, as its scheduler was seen to do over a clock that was moved: celery 5.7, django-celery-beat 2.9."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from reportqueue.celery_beat import crontabs
from reportqueue.celery_beat.firings import CrontabRule, IntervalRule, Outlook, Rule
from reportqueue.celery_beat.tables import BeatCrontab, BeatTask

HOURLY = IntervalRule(timedelta(hours=1))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def crontab(text: str, timezone: str = "UTC") -> CrontabRule:
    minute, hour, day, month, weekday = text.split()
    return CrontabRule(crontabs.parse(BeatCrontab((minute, hour, day, month, weekday), timezone)), timezone)


def fires(rule: Rule, now: str, count: int = 3, **fields: Any) -> list[str]:
    """The first firings from `now` on, without the year and month."""
    times = {name: at(value) if isinstance(value, str) else value for name, value in fields.items()}
    task = BeatTask(name="t", task="t", args="[]", kwargs="{}", **({"date_changed": at(now)} | times))
    found = Outlook.of(task, rule, at(now)).firings(rule, at(now), task.expires)
    return [f"{instant:%d %H:%M:%S}" for instant in islice(found, count)]


@pytest.mark.parametrize(
    ("text", "timezone", "last", "expected"),
    [
        ("30 2 * * *", "America/New_York", "2026-03-07 07:30", ["08 07:30", "09 06:30"]),
        ("0,30 2 * * *", "America/New_York", "2026-03-07 07:30", ["08 07:00", "09 06:00"]),
        ("30 2,3 * * *", "America/New_York", "2026-03-07 08:30", ["08 07:30", "09 06:30", "09 07:30"]),
        ("4 16 * * *", "America/New_York", "2026-03-07 21:04", ["08 20:04", "09 20:04"]),
        ("0 * * * *", "America/New_York", "2026-03-08 05:00", ["08 06:00", "08 07:00", "08 08:00"]),
        ("30 1 * * *", "America/New_York", "2026-10-31 05:30", ["01 05:30", "02 06:30"]),
        ("0 * * * *", "America/New_York", "2026-11-01 04:00", ["01 05:00", "01 07:00", "01 08:00"]),
        ("*/15 * * * *", "America/New_York", "2026-11-01 05:30", ["01 05:45", "01 07:00", "01 07:15"]),
        ("*/20 * * * *", "Australia/Lord_Howe", "2026-04-04 14:20", ["04 14:40", "04 15:30", "04 15:50"]),
        ("30 23 * * *", "America/Santiago", "2026-04-03 02:30", ["04 02:30", "05 02:30", "06 03:30"]),
    ],
)
def test_on_the_days_when_the_clock_changes(text: str, timezone: str, last: str, expected: list[str]):
    rule = crontab(text, timezone)
    instant = at(last)
    found = [instant := rule.after(instant) for _ in expected]
    assert [f"{fired:%d %H:%M}" for fired in found] == expected


def test_a_run_in_the_second_copy_of_an_hour_is_followed_by_a_later_one():
    assert crontab("*/15 * * * *", "America/New_York").after(at("2026-11-01 06:00")) == at("2026-11-01 07:00")


def test_an_interval_counts_from_the_last_run():
    assert fires(HOURLY, "2026-03-01 10:20", last_run_at="2026-03-01 10:00:30.25") == [
        "01 11:00:30",
        "01 12:00:30",
        "01 13:00:30",
    ]


def test_a_task_that_never_ran_counts_from_its_last_change():
    assert fires(HOURLY, "2026-03-01 10:20", 2, date_changed="2026-03-01 10:00:30") == ["01 11:00:30", "01 12:00:30"]
    assert fires(crontab("0 8 * * *"), "2026-03-01 10:01", 2) == ["02 08:00:00", "03 08:00:00"]


def test_a_disabled_task_is_seen_as_if_it_were_enabled_now():
    fired = fires(HOURLY, "2026-03-01 10:20", 2, enabled=False, date_changed="2026-01-01 00:00")
    assert fired == ["01 11:20:00", "01 12:20:00"]


def test_a_late_task_fires_at_once_and_an_interval_counts_from_then():
    assert fires(HOURLY, "2026-03-01 10:20", 2, last_run_at="2026-03-01 08:00") == ["01 10:20:00", "01 11:20:00"]
    assert fires(crontab("0 8 * * *"), "2026-03-05 10:01", 2, last_run_at="2026-03-01 08:00") == [
        "05 10:01:00",
        "06 08:00:00",
    ]


def test_a_last_run_that_was_not_saved_yet_does_not_make_it_late():
    every_minute = IntervalRule(timedelta(minutes=1))
    assert fires(every_minute, "2026-03-01 10:20", 1, last_run_at="2026-03-01 10:16:30") == ["01 10:20:30"]


@pytest.mark.parametrize(
    ("last_run_at", "hours", "expected"),
    [
        (None, 1, ["01 12:10:00", "01 13:10:00"]),
        ("2026-03-01 10:00:30", 1, ["01 12:10:00", "01 13:10:00"]),
        ("2026-03-01 10:00:30", 3, ["01 13:00:30", "01 16:00:30"]),
    ],
)
def test_an_interval_waits_for_its_start(last_run_at: str | None, hours: int, expected: list[str]):
    rule = IntervalRule(timedelta(hours=hours))
    fired = fires(rule, "2026-03-01 10:20", 2, last_run_at=last_run_at, start_time="2026-03-01 12:10")
    assert fired == expected


def test_a_crontab_that_is_late_by_its_start_fires_then_whatever_its_reading():
    fired = fires(crontab("0 8 * * *"), "2026-03-01 10:01", 2, start_time="2026-03-05 09:00")
    assert fired == ["05 09:00:00", "06 08:00:00"]


def test_a_task_that_never_ran_and_whose_start_has_passed_fires_at_once():
    fired = fires(crontab("0 8 * * *"), "2026-03-01 10:01", 2, start_time="2026-02-05 09:00")
    assert fired == ["01 10:01:00", "02 08:00:00"]


def test_it_does_not_fire_at_the_instant_at_which_it_expires():
    fired = fires(crontab("0 * * * *"), "2026-03-01 10:20", last_run_at="2026-03-01 10:00", expires="2026-03-01 13:00")
    assert fired == ["01 11:00:00", "01 12:00:00"]
