"""`reportcron`: the rules of its design (R1-R4), case by case, and what its functions promise."""

from __future__ import annotations

import ast
import sys
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import reportcron as cron
from reportcron import expressions
from tests.unit.minute_walk import HOUR, MINUTE, at


def fired(expression: str, timezone: str, start: str, end: str) -> list[str]:
    return [f"{each:%Y-%m-%d %H:%M}" for each in cron.between(expression, timezone, at(start), at(end))]


# The table of the design, and the rules that it stands for.


@pytest.mark.parametrize(
    ("expression", "timezone", "start", "end", "expected"),
    [
        (
            "30 2 * * *",
            "America/New_York",
            "2026-03-08 00:00",
            "2026-03-10 00:00",
            ["2026-03-08 07:00", "2026-03-09 06:30"],
        ),
        (
            "0,30 2 * * *",
            "America/New_York",
            "2026-03-08 00:00",
            "2026-03-09 06:00",
            ["2026-03-08 07:00", "2026-03-09 06:00"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-11-01 00:00",
            "2026-11-03 00:00",
            ["2026-11-01 05:30", "2026-11-02 06:30"],
        ),
        (
            "0 * * * *",
            "America/New_York",
            "2026-11-01 03:59",
            "2026-11-01 07:00",
            ["2026-11-01 04:00", "2026-11-01 05:00", "2026-11-01 06:00", "2026-11-01 07:00"],
        ),
        ("15 1 * * *", "Europe/London", "2026-03-28 12:00", "2026-03-29 12:00", ["2026-03-29 01:00"]),
        (
            "0 12 13 * 5",
            "UTC",
            "2026-02-01 00:00",
            "2026-03-01 00:00",
            [f"2026-02-{day} 12:00" for day in ("06", "13", "20", "27")],
        ),
    ],
)
def test_table_of_the_design(expression, timezone, start, end, expected):
    assert fired(expression, timezone, start, end) == expected


@pytest.mark.parametrize(
    ("expression", "timezone", "start", "end", "expected"),
    [
        # Skipped: 02:00 to 02:30, at 15:30Z.
        ("10 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00", "2026-10-04 12:00", ["2026-10-03 15:30"]),
        # Repeated: 01:30 to 02:00, from 14:30Z and again from 15:00Z.
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04 12:00", "2026-04-05 12:00", ["2026-04-04 14:45"]),
        (
            "45 * * * *",
            "Australia/Lord_Howe",
            "2026-04-04 14:00",
            "2026-04-04 16:00",
            ["2026-04-04 14:45", "2026-04-04 15:15"],
        ),
        # Midnight itself is skipped: the day begins at 01:00.
        ("@daily", "America/Santiago", "2026-09-06 00:00", "2026-09-06 12:00", ["2026-09-06 04:00"]),
        ("@daily", "Asia/Beirut", "2026-03-28 12:00", "2026-03-29 12:00", ["2026-03-28 22:00"]),
        ("@daily", "Africa/Cairo", "2026-04-23 12:00", "2026-04-24 12:00", ["2026-04-23 22:00"]),
        # ... or comes twice, at the end of the day before.
        ("30 23 * * *", "America/Santiago", "2026-04-04 12:00", "2026-04-05 12:00", ["2026-04-05 02:30"]),
        # A whole day is skipped, and its three firings become one, with the one that is due then anyway.
        (
            "0 0,8,16 * * *",
            "Pacific/Apia",
            "2011-12-30 00:00",
            "2011-12-31 00:00",
            ["2011-12-30 02:00", "2011-12-30 10:00", "2011-12-30 18:00"],
        ),
        (
            "0 */8 * * *",
            "Pacific/Apia",
            "2011-12-30 00:00",
            "2011-12-31 00:00",
            ["2011-12-30 02:00", "2011-12-30 10:00", "2011-12-30 18:00"],
        ),
        # Set back by a whole day: Friday comes twice.
        ("0 12 * * 5", "America/Juneau", "1867-10-15 00:00", "1867-10-21 00:00", ["1867-10-17 20:57"]),
        # A wildcard job waits for no skipped time, and the two ends of its hour lie an hour apart.
        ("*/30 2 * * *", "America/New_York", "2026-03-08 00:00", "2026-03-09 00:00", []),
        (
            "30 * * * *",
            "Europe/Paris",
            "2026-03-29 00:00",
            "2026-03-29 03:00",
            ["2026-03-29 00:30", "2026-03-29 01:30", "2026-03-29 02:30"],
        ),
        # The second copy of an hour counts even if the next reading that matches is a year away.
        (
            "*/30 1 1 11 *",
            "America/New_York",
            "2026-11-01 05:45",
            "2026-11-02 00:00",
            ["2026-11-01 06:00", "2026-11-01 06:30"],
        ),
        # Wildcard by its first character, which is not the same as by what it matches.
        (
            "0 *,5 * * *",
            "Europe/Paris",
            "2026-10-24 23:59",
            "2026-10-25 02:00",
            ["2026-10-25 00:00", "2026-10-25 01:00", "2026-10-25 02:00"],
        ),
        ("0 5,* * * *", "Europe/Paris", "2026-10-24 23:59", "2026-10-25 01:30", ["2026-10-25 00:00"]),
    ],
)
def test_a_clock_that_jumps(expression, timezone, start, end, expected):
    assert fired(expression, timezone, start, end) == expected


@pytest.mark.parametrize(
    ("expression", "timezone", "instant", "expected"),
    [
        # At the end of a gap, which has swallowed two firings: before it, and just after.
        ("0,30 2 * * *", "America/New_York", "2026-03-08 07:00", "2026-03-07 07:30"),
        ("0,30 2 * * *", "America/New_York", "2026-03-08 07:01", "2026-03-08 07:00"),
        # In the second copy of an hour, by 01:10 the clock has read 01:45 as well.
        ("45 1 * * *", "America/New_York", "2026-11-01 06:10", "2026-11-01 05:45"),
        ("45 1 * * *", "America/New_York", "2026-11-01 05:45", "2026-10-31 05:45"),
        ("*/45 1 * * *", "America/New_York", "2026-11-01 06:10", "2026-11-01 06:00"),
        ("*/45 1 * * *", "America/New_York", "2026-11-01 06:00", "2026-11-01 05:45"),
        ("0 12 * * *", "Pacific/Apia", "2011-12-30 22:00", "2011-12-30 10:00"),
        ("0 12 * * *", "Pacific/Apia", "2011-12-30 10:00", "2011-12-29 22:00"),
    ],
)
def test_backwards_over_a_jump(expression, timezone, instant, expected):
    assert cron.previous_before(expression, timezone, at(instant)) == at(expected)


def test_offsets_of_odd_seconds_keep_the_minute_of_the_local_clock():
    # New York's local mean time was 4 h 56 min 2 s behind until noon of 18 November 1883, and then 3 min 58 s ahead.
    noon = at("1883-11-18 17:00")
    firings = list(cron.between("*/30 * * * *", "America/New_York", noon - HOUR, noon + timedelta(minutes=31)))
    assert firings == [at("1883-11-18 16:26:02"), at("1883-11-18 16:56:02"), noon, noon + 30 * MINUTE]
    assert cron.previous_before("58 11 * * *", "America/New_York", noon) == at("1883-11-18 16:54:02")


# The functions: strictness, leap years, limits.


@pytest.mark.parametrize("year", [1900, 2026, 9899])
def test_strictly_after_and_strictly_before(year):
    noon, tick = at(f"{year}-01-15 12:00"), timedelta(microseconds=1)
    for expression in ("0 12 * * *", "*/20 */12 * * *"):
        assert cron.next_after(expression, "UTC", noon - tick) == noon
        assert cron.next_after(expression, "UTC", noon) > noon
        assert cron.previous_before(expression, "UTC", noon + tick) == noon
        assert cron.previous_before(expression, "UTC", noon) < noon
        assert list(cron.between(expression, "UTC", noon - HOUR, noon)) == [noon]
        assert list(cron.between(expression, "UTC", noon, noon + 19 * MINUTE)) == []
        assert list(cron.between(expression, "UTC", noon, noon - timedelta(days=9))) == []


@pytest.mark.parametrize("expression", ["0 0 29 2 *", "* * 29 2 *"])
def test_leap_day_is_found_across_a_century(expression):
    assert cron.next_after(expression, "UTC", at("2096-02-29 23:59")) == at("2104-02-29 00:00")
    assert f"{cron.previous_before(expression, 'UTC', at('2104-02-29 00:00')):%F}" == "2096-02-29"


@pytest.mark.parametrize("expression", ["0 0 29 2 *", "*/30 * * * 1"])
def test_limits_of_the_calendar(expression):
    for limit in (cron.FIRST, cron.LAST):
        before, after = (call(expression, "Asia/Tokyo", limit) for call in (cron.previous_before, cron.next_after))
        assert limit - timedelta(days=9 * 366) < before < limit < after < limit + timedelta(days=9 * 366)
    for beyond in (cron.FIRST - MINUTE, cron.LAST + MINUTE):
        for call in (cron.next_after, cron.previous_before):
            with pytest.raises(ValueError, match="not within the years"):
                call(expression, "Asia/Tokyo", beyond)


def test_naive_instants_are_refused():
    aware, naive = at("2026-01-01 00:00"), datetime(2026, 1, 1)  # noqa: DTZ001
    calls = [
        lambda: cron.next_after("@daily", "UTC", naive),
        lambda: cron.previous_before("@daily", "UTC", naive),
        lambda: cron.between("@daily", "UTC", naive, aware),
        lambda: cron.between("@daily", "UTC", aware, naive),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="has no time zone"):
            call()


def test_answers_are_utc_whatever_zone_the_instant_is_in():
    instant = datetime(2026, 3, 8, 1, 0, tzinfo=ZoneInfo("America/New_York"))
    answers = [
        cron.next_after("30 2 * * *", "America/New_York", instant),
        cron.previous_before("30 2 * * *", "America/New_York", instant),
        *cron.between("30 2 * * *", "America/New_York", instant, instant + timedelta(days=3)),
    ]
    assert answers[0] == at("2026-03-08 07:00")
    assert {answer.tzinfo for answer in answers} == {UTC}


def test_between_is_lazy_but_refuses_at_once():
    now = at("2026-01-01 00:00")
    assert len(list(islice(cron.between("* * * * *", "UTC", now, cron.LAST), 3))) == 3
    with pytest.raises(cron.InvalidExpression):
        cron.between("* * * *", "UTC", now, now)


def test_same_question_is_evaluated_once(monkeypatch):
    now = at("2026-01-01 00:00:17")
    first = cron.next_after("17 3 * * *", "Asia/Tokyo", now)
    monkeypatch.setattr(cron, "firings", None)
    assert cron.next_after("17 3 * * *", "Asia/Tokyo", now) == first


def test_memory_tells_the_two_copies_of_an_hour_apart():
    # Two instants of one zone that differ in fold alone are equal and hash equal: a trap for every cache.
    first = datetime(2026, 11, 1, 1, 15, tzinfo=ZoneInfo("America/New_York"))
    second = first.replace(fold=1)
    assert cron.next_after("*/30 * * * *", "America/New_York", first) == at("2026-11-01 05:30")
    assert cron.next_after("*/30 * * * *", "America/New_York", second) == at("2026-11-01 06:30")


def test_threads_that_share_a_plan_do_not_disturb_each_other(monkeypatch):
    set_current = expressions.croniter.set_current
    switches = []

    def switch_threads(*args, **kwargs):
        """croniter has just noted where to start; another thread asks the same expression, from elsewhere."""
        noted = set_current(*args, **kwargs)
        if not switches:
            switches.append("there")
            next(cron.between("7 7 * * *", "UTC", at("2051-01-01 00:00"), cron.LAST))
            cron.previous_before("7 7 * * *", "UTC", at("2001-01-01 00:00"))
        return noted

    for call, expected in ((cron.previous_before, "2025-12-31 07:07"), (cron.next_after, "2026-01-01 07:07")):
        cron.validate("7 7 * * *")
        switches.clear()
        monkeypatch.setattr(expressions.croniter, "set_current", switch_threads)
        assert call("7 7 * * *", "UTC", at("2026-01-01 00:00")) == at(expected)
        assert switches
        monkeypatch.undo()


def test_module_stands_alone():
    imported: set[str] = set()
    for module in Path(cron.__file__).parent.glob("*.py"):
        nodes = list(ast.walk(ast.parse(module.read_text())))
        imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        imported |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    foreign = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name for name in foreign if not name.startswith("reportcron.")} == {"croniter"}
