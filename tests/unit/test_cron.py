"""`reportqueue.cron` against the rules of its design (R1-R5), a minute walk over `zoneinfo`, and cronsim."""

from __future__ import annotations

import ast
import calendar
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reportqueue import cron

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


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


# Expressions: what is read how, and what is refused.


@pytest.mark.parametrize(
    ("expression", "same"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@Midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@YEARLY", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("  0\t8  * * 1 ", "0 8 * * 1"),
        ("0 8 * JAN,jun-Aug mon-FRI", "0 8 * 1,6,7,8 1,2,3,4,5"),
        ("0 8 * * 7", "0 8 * * 0"),
        ("0 8 * * 5-7", "0 8 * * 5,6,0"),
        ("0 8 * * SAT-SUN", "0 8 * * 6,0"),
        ("0 8 * * 0-7", "0 8 * * 0-6"),
        ("0 8 * NOV-FEB *", "0 8 * 11,12,1,2 *"),
        ("0 22-2 * * *", "0 22,23,0,1,2 * * *"),
        # Three that croniter 7.0.0 reads otherwise: its 8-8 is every hour, and its 23-4/2 is 23, 2, 4.
        ("0 8-8 * * *", "0 8 * * *"),
        ("0 8 * * SUN-SUN", "0 8 * * 0"),
        ("0 23-4/2 * * *", "0 1,3,23 * * *"),
        ("59/15 5/6 * * *", "59 5,11,17,23 * * *"),
        ("*/25 08 * * *", "0,25,50 8 * * *"),
        # Restricted day fields, and what is none: a bare *.
        ("0 8 1-31 * 1", "0 8 * * *"),
        ("0 8 */2 * 1-5/2", "0 8 1/2 * 1,3,5"),
        ("0 8 *,5 * 1", "0 8 * * 1"),
        ("30 6 31 2 1", "30 6 * 2 1"),
    ],
)
def test_same_firings(expression, same):
    window = at("2026-01-01 00:00"), at("2027-02-01 00:00")
    cron.validate(expression)
    assert list(cron.between(expression, "UTC", *window)) == list(cron.between(same, "UTC", *window)) != []


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        ("60 * * * *", "minute"),
        ("-5 * * * *", "minute"),
        ("5- * * * *", "minute"),
        ("1-2-3 * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("*/-1 * * * *", "minute"),
        ("*5 * * * *", "minute"),
        ("1.5 * * * *", "minute"),
        ("JAN * * * *", "minute"),
        ("H * * * *", "minute"),
        ("R * * * *", "minute"),
        ("r(0-9)/3 * * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 h(1-5) * * *", "hour"),
        ("0 MON * * *", "hour"),
        ("0 0 0 * *", "day of month"),
        ("0 0 32 * *", "day of month"),
        ("0 0 L * *", "day of month"),
        ("0 0 15W * *", "day of month"),
        ("0 0 ? * 1", "day of month"),
        ("0 0 30 2 *", "day of month"),
        ("0 0 31 APR,6,9-11/2 *", "day of month"),
        ("* * 30-31 feb *,1", "day of month"),
        ("0 0 1 0 *", "month"),
        ("0 0 1 13 *", "month"),
        ("0 0 1 JANUARY *", "month"),
        ("0 0 1 MON *", "month"),
        ("0 0 * * 8", "day of week"),
        ("0 0 * * JAN", "day of week"),
        ("0 0 * * 5#2", "day of week"),
        ("0 0 * * L5", "day of week"),
        ("0 0 * * 5L", "day of week"),
        ("0 0 * * ?", "day of week"),
        ("0 0 * * \x00", "day of week"),
    ],
)
def test_refusal_names_the_field_and_what_was_given(expression, field):
    with pytest.raises(cron.InvalidExpression) as refusal:
        cron.validate(expression)
    given_text = expression.split()[("minute", "hour", "day of month", "month", "day of week").index(field)]
    assert refusal.value.field == "cron"
    assert str(refusal.value).startswith(f"The {field} field, {given_text!r}, is wrong: ")
    assert "Accepted: " in str(refusal.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "empty"),
        (" \t\n", "empty"),
        (None, "empty"),
        (["0", "0", "*", "*", "*"], "empty"),
        ("0 0 * *", "number of fields is 4"),
        ("0 0 0 * * *", "number of fields is 6"),
        ("0 0 1 1 * 0 2027", "number of fields is 7"),
        ("@reboot", "'@reboot' is not known"),
        ("@every 5m", "number of fields is 2"),
        ("0 0 * * \u0661", "ASCII"),
        ("0\u00a00 * * *", "ASCII"),
        ("0 0 * * " + ",".join("1" * 97), "201 characters"),
        ("0 " * 100_000, "200000 characters"),
    ],
)
def test_refusal_of_the_whole_expression_says_why(expression, message):
    with pytest.raises(cron.InvalidExpression, match=message) as refusal:
        cron.validate(expression)
    assert refusal.value.field == "cron"
    assert len(str(refusal.value)) < 400


def test_the_longest_expression_is_accepted():
    expression = "0 0 * * " + ",".join("1" * 96) + " "
    assert len(expression) == cron.MAX_EXPRESSION_LENGTH
    cron.validate(expression)


@pytest.mark.parametrize(
    "timezone",
    [
        "",
        " ",
        "UTC ",
        "Europe/Pariss",
        "europe/paris",
        "Europe",
        "Europe/",
        "../etc/passwd",
        "/usr/share/zoneinfo/UTC",
        "localtime",
        "Factory",
        "posix/UTC",
        "right/UTC",
        "zone.tab",
        "a\0b",
        "\u00e9",
        "x" * 100_000,
        None,
        ["UTC"],
    ],
)
def test_unknown_timezones_are_refused_everywhere(timezone):
    now = at("2026-01-01 00:00")
    calls = [
        lambda: cron.validate("* * * * *", timezone),
        lambda: cron.previous_before("* * * * *", timezone, now),
        lambda: cron.between("* * * * *", timezone, now, now),
    ]
    for call in calls:
        with pytest.raises(cron.UnknownTimezone, match="is not a time zone") as refusal:
            call()
        assert refusal.value.field == "timezone"
        assert len(str(refusal.value)) < 400
    if not isinstance(timezone, list):
        with pytest.raises(cron.UnknownTimezone):
            cron.next_after("* * * * *", timezone, now)


def test_every_zone_of_the_database_is_known():
    for name in available_timezones() - {"localtime", "Factory"}:
        cron.validate("@daily", name)


def test_errors_are_one_family():
    assert issubclass(cron.InvalidExpression, cron.CronError)
    assert issubclass(cron.UnknownTimezone, cron.CronError)
    assert issubclass(cron.CronError, ValueError)


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
    monkeypatch.setattr(cron, "_firings", None)
    assert cron.next_after("17 3 * * *", "Asia/Tokyo", now) == first


def test_memory_tells_the_two_copies_of_an_hour_apart():
    # Two instants of one zone that differ in fold alone are equal and hash equal: a trap for every cache.
    first = datetime(2026, 11, 1, 1, 15, tzinfo=ZoneInfo("America/New_York"))
    second = first.replace(fold=1)
    assert cron.next_after("*/30 * * * *", "America/New_York", first) == at("2026-11-01 05:30")
    assert cron.next_after("*/30 * * * *", "America/New_York", second) == at("2026-11-01 06:30")


def test_threads_that_share_a_plan_do_not_disturb_each_other(monkeypatch):
    set_current = cron.croniter.set_current
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
        monkeypatch.setattr(cron.croniter, "set_current", switch_threads)
        assert call("7 7 * * *", "UTC", at("2026-01-01 00:00")) == at(expected)
        assert switches
        monkeypatch.undo()


def test_module_stands_alone():
    tree = ast.parse(Path(cron.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {name.partition(".")[0] for name in imported if name} - sys.stdlib_module_names == {"croniter"}


# Against a walk through every minute. It knows nothing of folds and gaps: it watches the clock, as a daemon would.


class Job(NamedTuple):
    """An expression, and what each of its fields stands for."""

    texts: tuple[str, ...]
    values: tuple[frozenset[int], ...]

    @property
    def expression(self) -> str:
        return " ".join(self.texts)

    @property
    def wildcard(self) -> bool:
        return self.texts[0][0] == "*" or self.texts[1][0] == "*"

    def matches(self, wall: datetime) -> bool:
        minutes, hours, days, months, weekdays = self.values
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        day, weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        both_restricted = "*" not in (self.texts[2], self.texts[4])
        return day or weekday if both_restricted else day and weekday


MONTHS = {n: f"{datetime(2000, n, 1):%b}" for n in range(1, 13)}  # noqa: DTZ001
WEEKDAYS = {n: f"{datetime(2023, 1, 1 + n):%a}" for n in range(7)}  # noqa: DTZ001


@st.composite
def fields(draw, cycle: range, names: dict[int, str], around: bool, steps: bool) -> tuple[str, frozenset[int]]:
    """A field's text and its values; ranges may go `around` the end, `steps` may go with anything."""
    if draw(st.integers(0, 2)) == 0:
        step = draw(st.integers(1, len(cycle) + 3)) if steps else 1
        return ("*" if step == 1 else f"*/{step}"), frozenset(cycle[::step])
    texts: list[str] = []
    values: set[int] = set()
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        start, step = draw(st.sampled_from(cycle)), draw(st.sampled_from([1, 1, 2, 3, 7]))
        kind = draw(st.sampled_from(["one", "one", "range", "from"] if steps else ["one", "range"]))
        turned = [*cycle[cycle.index(start) :], *(cycle[: cycle.index(start)] if around else ())]
        taken = {
            "one": turned[:1],
            "range": turned[: draw(st.integers(1, len(turned)))],
            "from": list(cycle[cycle.index(start) :]),
        }[kind]
        first, last = (draw(st.sampled_from([str(n), names.get(n, str(n))])) for n in (start, taken[-1]))
        step = step if around or len(taken) > 1 else 1
        suffix = f"/{step}" if step > 1 or kind == "from" else ""
        texts.append({"one": first, "range": f"{first}-{last}{suffix}", "from": f"{first}{suffix}"}[kind])
        values.update(taken[:1] if kind == "one" else taken[::step])
    return ",".join(texts), frozenset(values)


@st.composite
def jobs(draw, *, for_cronsim: bool = False) -> Job:
    def field(low: int, high: int, names: dict[int, str] | None = None) -> tuple[str, frozenset[int]]:
        # cronsim differs in */n and a/n of the day fields and in a-a/n, and has no ranges around the end.
        steps = not (for_cronsim and high in (31, 6))
        return draw(fields(range(low, high + 1), names or {}, not for_cronsim, steps))

    def often_any(low: int, high: int, names: dict[int, str] | None = None) -> tuple[str, frozenset[int]]:
        return ("*", frozenset(range(low, high + 1))) if draw(st.booleans()) else field(low, high, names)

    drawn = [field(0, 59), field(0, 23), often_any(1, 31), often_any(1, 12, MONTHS), often_any(0, 6, WEEKDAYS)]
    return Job(*zip(*drawn, strict=True))


@lru_cache
def changes(name: str) -> tuple[datetime, ...]:
    """The first minutes of a new offset in 2025 to 2027."""
    zone, found = ZoneInfo(name), []
    days = [at("2025-01-01 00:00") + timedelta(days=n) for n in range(3 * 365)]
    for day, next_day in pairwise(days):
        if day.astimezone(zone).utcoffset() != next_day.astimezone(zone).utcoffset():
            old = day.astimezone(zone).utcoffset()
            minutes = (day + n * MINUTE for n in range(1441))
            found.append(next(each for each in minutes if each.astimezone(zone).utcoffset() != old))
    return tuple(found)


JUMPING = sorted(name for name in available_timezones() - {"localtime", "Factory"} if changes(name))


@lru_cache(maxsize=64)
def readings(name: str, start: datetime, minutes: int) -> list[tuple[datetime, datetime]]:
    zone = ZoneInfo(name)
    instants = (start + n * MINUTE for n in range(minutes))
    return [(each, each.astimezone(zone).replace(tzinfo=None, fold=0)) for each in instants]


def walk(job: Job, name: str, start: datetime, minutes: int) -> Iterator[datetime]:
    """R1 and R2 by watching the clock from 3 hours before `start`, for `minutes` from it."""
    highest: datetime | None = None
    for instant, wall in readings(name, start - 3 * HOUR, minutes + 180):
        skipped: list[datetime] = []
        if highest is not None and wall > highest + MINUTE:
            skipped = [highest + n * MINUTE for n in range(1, (wall - highest) // MINUTE)]
        seen = highest is not None and wall <= highest
        due = job.matches(wall) and (job.wildcard or not seen)
        caught_up = not job.wildcard and any(job.matches(lost) for lost in skipped)
        if instant >= start and (due or caught_up):
            yield instant
        highest = wall if highest is None else max(highest, wall)


def fires(job: Job) -> bool:
    """Whether it ever does: by the weekday, or if a month has the day. If not, it must be refused."""
    longest = max(calendar.monthrange(2024, month)[1] for month in job.values[3])
    if job.texts[4] != "*" or min(job.values[2]) <= longest:
        return True
    with pytest.raises(cron.InvalidExpression, match="day of month field"):
        cron.validate(job.expression)
    return False


@st.composite
def windows(draw) -> tuple[str, datetime, int]:
    """A zone and a window of some hours around one of its changes: start, and length in minutes."""
    name = draw(st.sampled_from(JUMPING))
    change = draw(st.sampled_from(changes(name)))
    return name, change - draw(st.sampled_from([1, 2, 16])) * HOUR, draw(st.sampled_from([180, 360, 1800]))


@settings(max_examples=600, deadline=None)
@given(job=jobs(), window=windows())
def test_agrees_with_a_walk_through_every_minute(job, window):
    assume(fires(job))
    name, start, minutes = window
    expected = list(walk(job, name, start, minutes))
    end = start + (minutes - 1) * MINUTE
    assert list(cron.between(job.expression, name, start - MINUTE, end)) == expected


@settings(max_examples=400, deadline=None)
@given(job=jobs(), window=windows(), data=st.data())
def test_a_fresh_evaluation_agrees_with_a_continued_one(job, window, data):
    assume(fires(job))
    name, start, minutes = window
    end = start + minutes * MINUTE
    middles = st.integers(0, minutes * 60_000_000) | st.integers(0, minutes).map(lambda n: n * 60_000_000)
    middle = start + timedelta(microseconds=data.draw(middles))
    firings = list(cron.between(job.expression, name, start, end))
    assert all(earlier < later for earlier, later in pairwise(firings))
    if firings and data.draw(st.booleans()):
        middle = data.draw(st.sampled_from(firings))
    before, after = ([each for each in firings if (each > middle) is late] for late in (False, True))
    assert list(cron.between(job.expression, name, start, middle)) == before
    assert list(cron.between(job.expression, name, middle, end)) == after
    following = cron.next_after(job.expression, name, middle)
    previous = cron.previous_before(job.expression, name, middle)
    assert previous < middle < following
    assert following == after[0] if after else following > end
    passed = [each for each in before if each < middle]
    assert previous == passed[-1] if passed else previous <= start
    assert list(cron.between(job.expression, name, previous, following)) in ([following], [middle, following])


# Zones of whole hours, without steps in the day fields, where cronsim follows Debian too.
WHOLE_HOURS = ["UTC", "America/New_York", "Europe/London", "Europe/Paris", "Asia/Tokyo", "Australia/Sydney"]


@st.composite
def noons(draw) -> datetime:
    """Some noon, mostly before a change. Noon, for in a repeated hour cronsim forgets which copy it is in."""
    name = draw(st.sampled_from(WHOLE_HOURS))
    change = draw(st.sampled_from(changes(name) or [at("2026-01-01 00:00")]))
    day = change - timedelta(days=draw(st.sampled_from([1, 1, 2, 30, 150])))
    return day.astimezone(ZoneInfo(name)).replace(hour=12, minute=0)


@settings(max_examples=300, deadline=None)
@given(job=jobs(for_cronsim=True), start=noons())
def test_agrees_with_cronsim(job, start):
    assume(fires(job))
    theirs = [each.astimezone(UTC) for each in islice(CronSim(job.expression, start), 100)]
    assert list(islice(cron.between(job.expression, start.tzinfo.key, start, cron.LAST), 100)) == theirs
