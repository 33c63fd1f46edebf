"""The demo's schedules, and the reports that `run.py demo --once` enqueues. All but one succeed."""

from __future__ import annotations

from typing import Any

WEATHER, STOCKS, EMPLOYMENT = 1, 2, 3

CALENDAR = "Weekends and holidays"
HOLIDAYS = [("12-25", "12-26", "Christmas"), ("01-01", "01-01", "New Year's Day"), ("05-01", "05-01", "Labour Day")]
"""First and last day of every year, and why."""
CLOSED_WEEKDAYS = (5, 6)

SCHEDULES: list[dict[str, Any]] = [
    {
        "report_id": STOCKS,
        "modifier_id": 1,
        "cron": "* * * * *",
        "timezone": "America/New_York",
        "overlap": "queue_one",
        "catch_up": "last",
    },
    {"report_id": WEATHER, "modifier_id": 2014, "cron": "*/5 * * * *", "timezone": "America/Los_Angeles"},
    {
        "report_id": EMPLOYMENT,
        "modifier_id": 1,
        "cron": "0 8 * * MON",
        "timezone": "Europe/Paris",
        "calendar": CALENDAR,
        "blackout": "next_open_day",
        "priority": 10,
    },
    {"report_id": STOCKS, "modifier_id": 2, "interval_seconds": 7200},
    {
        "report_id": STOCKS,
        "modifier_id": 4,
        "cron": "30 16 * * *",
        "timezone": "America/New_York",
        "calendar": CALENDAR,
    },
    {"report_id": WEATHER, "modifier_id": 2015, "cron": "0 6 1 * *", "timezone": "Asia/Kolkata", "jitter_seconds": 600},
]

FAILING: dict[str, Any] = {"report_id": WEATHER, "modifier_id": 1899, "max_attempts": 1}
"""A year of which there is no weather: `run.py demo --once` shows the alert that comes of it."""
ONCE: list[dict[str, Any]] = [
    {"report_id": WEATHER, "modifier_id": 2012},
    {"report_id": WEATHER, "modifier_id": 2013, "params": {"measure": "precipitation"}},
    {"report_id": WEATHER, "modifier_id": 2015, "params": {"months": [6, 8]}},
    {"report_id": STOCKS, "modifier_id": 1},
    {"report_id": STOCKS, "modifier_id": 3, "params": {"since": "2005-01-01", "moving_average": 6}},
    {"report_id": STOCKS, "modifier_id": 5, "priority": 10},
    {"report_id": EMPLOYMENT, "modifier_id": 1},
    {"report_id": EMPLOYMENT, "modifier_id": 2, "params": {"from_year": 2008, "to_year": 2012}},
    {"report_id": EMPLOYMENT, "modifier_id": 3},
]
