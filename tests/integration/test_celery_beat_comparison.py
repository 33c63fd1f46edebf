"""The firings of beat and ours side by side: where they differ, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from reportqueue.celery_beat.comparison import compare
from reportqueue.celery_beat.drafts import Draft, Mapping
from reportqueue.celery_beat.tables import BeatCrontab, BeatTask

pytestmark = pytest.mark.django_db  # a schedule's parameters are compared with the schema of its report


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def lines(text: str, timezone: str, now: str, count: int = 3, **fields: Any) -> list[str]:
    """Each instant (without year and month), who fires, and why not both."""
    minute, hour, day, month, weekday = text.split()
    task = BeatTask(
        name="t",
        task="t",
        args="[]",
        kwargs='{"report_id": 1, "modifier_id": 2}',
        crontab=BeatCrontab((minute, hour, day, month, weekday), timezone),
        date_changed=at(now),
        **fields,
    )
    found = compare(Draft.of(task, Mapping(), now=at(now), paused=False), count)
    who = {(True, True): "both", (True, False): "beat", (False, True): "ours"}
    return [f"{line.instant:%d %H:%M} {who[line.beat, line.ours]} {line.why}".strip() for line in found]


OLDER = "the clock changes that day: before celery 5.5, beat may differ"
SKIPPED = "the clock skips the reading that was meant: this is the first instant after"
OFFSET = "the clock skips a reading that day: beat fires it by the offset before"
TWICE = "the clock shows that reading twice: beat fires at the first of them only"


def test_on_ordinary_days_nothing_differs():
    assert lines("30 2 * * *", "Europe/Paris", "2026-06-01 12:00") == [
        "02 00:30 both",
        "03 00:30 both",
        "04 00:30 both",
    ]


@pytest.mark.parametrize(
    ("text", "timezone", "now", "expected"),
    [
        (
            "30 2 * * *",
            "America/New_York",
            "2026-03-08 00:00",
            [f"08 07:00 ours {SKIPPED}", f"08 07:30 beat {OFFSET}", "09 06:30 both", "10 06:30 both"],
        ),
        (
            "*/30 2 * * *",  # a wildcard, which ours leaves out that day
            "America/New_York",
            "2026-03-08 00:00",
            [f"08 07:00 beat {OFFSET}", "09 06:00 both", "09 06:30 both"],
        ),
        (
            "0 * * * *",
            "America/New_York",
            "2026-11-01 04:30",
            [f"01 05:00 both {OLDER}", f"01 06:00 ours {TWICE}", f"01 07:00 both {OLDER}"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-10-31 12:00",
            [f"01 05:30 both {OLDER}", "02 06:30 both", "03 06:30 both"],
        ),
    ],
)
def test_on_the_days_when_the_clock_changes(text: str, timezone: str, now: str, expected: list[str]):
    assert lines(text, timezone, now) == expected


def test_what_is_late_is_fired_by_beat_at_once_and_not_by_ours():
    found = lines("0 8 * * *", "UTC", "2026-06-05 10:01", 2, last_run_at=at("2026-06-01 08:00"))
    assert found == [
        "05 10:01 beat late, so that beat fires it off its rule, when it next looks at it",
        "06 08:00 both",
    ]


@pytest.mark.django_db  # an end is for the scheduler alone, which the database knows to fire
def test_one_that_ends_first_has_fewer_lines():
    assert lines("0 8 * * *", "UTC", "2026-06-05 10:01", 9, expires=at("2026-06-07 08:00")) == ["06 08:00 both"]


@pytest.mark.django_db  # as above
def test_a_last_firing_before_the_end_hides_nothing_of_the_other():
    found = lines("0 * * * *", "America/New_York", "2026-11-01 04:30", 5, expires=at("2026-11-01 06:30"))
    assert found == [f"01 05:00 both {OLDER}", f"01 06:00 ours {TWICE}"]


def test_firings_beyond_the_last_that_was_looked_at_are_left_out():
    found = lines("0 * * * *", "America/New_York", "2026-11-01 04:30", 2)
    assert found == [f"01 05:00 both {OLDER}", f"01 06:00 ours {TWICE}"]
