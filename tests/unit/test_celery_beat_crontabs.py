"""Celery's crontabs, as its 5.7 understands them: what each field stands for, and the expression that says the same."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

import reportcron
from reportqueue.celery_beat import crontabs
from reportqueue.celery_beat.tables import BeatCrontab

RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


def parsed(text: str) -> crontabs.Crontab:
    minute, hour, day, month, weekday = text.split(" ")
    return crontabs.parse(BeatCrontab((minute, hour, day, month, weekday), "UTC"))


@pytest.mark.parametrize(
    ("weekday", "stands_for"),
    [
        ("*", {0, 1, 2, 3, 4, 5, 6}),
        ("0", {0}),
        ("sun", {0}),
        ("Monday", {1}),
        ("mon-fri", {1, 2, 3, 4, 5}),
        ("fri-mon", {5, 6, 0, 1}),
        ("*/2", {0, 2, 4, 6}),
        ("5-2/2", {5, 0, 2}),
        ("mar", {3}),  # a month's name, in the wrong field
        ("sat,0", {6, 0}),
    ],
)
def test_weekdays_are_numbered_from_sunday_and_named_by_three_letters(weekday: str, stands_for: set[int]):
    assert parsed(f"0 8 * * {weekday}").weekdays == stands_for


@pytest.mark.parametrize(
    ("text", "field", "stands_for"),
    [
        ("*/25 * * * *", "minutes", {0, 25, 50}),
        ("50-10/10 * * * *", "minutes", {50, 0, 10}),
        ("1,5-7,*/30 * * * *", "minutes", {0, 1, 5, 6, 7, 30}),
        ("0 */7 * * *", "hours", {0, 7, 14, 21}),
        ("0 0 */10 * *", "days", {1, 11, 21, 31}),
        ("0 0 1 */5 *", "months", {1, 6, 11}),
        ("0 0 1 january,Sep-nov *", "months", {1, 9, 10, 11}),
        ("*/100 * * * *", "minutes", {0}),
    ],
)
def test_steps_count_from_the_start_of_what_they_follow(text: str, field: str, stands_for: set[int]):
    assert getattr(parsed(text), field) == stands_for


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("60 * * * *", "minute"),
        ("5/10 * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("1-5-7 * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 * 0 * *", "day_of_month"),
        ("0 * L * *", "day_of_month"),
        ("0 * * 13 *", "month_of_year"),
        ("0 * * * 7", "day_of_week"),
        ("0 * * * 0-7", "day_of_week"),
        ("0 0 30 2 *", "day_of_month"),
        ("0 0 31 apr,jun *", "day_of_month"),
    ],
)
def test_what_celery_refuses_is_unreadable_and_the_field_is_named(text: str, named: str):
    with pytest.raises(crontabs.Unreadable, match=named):
        parsed(text)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("*/15 8-18 * * mon-fri", "*/15 8-18 * * 1-5"),
        ("05 8 * january *", "5 8 * 1 *"),
        ("0 8 1-31 * 1", "0 8 * * 1"),
        ("0 8 1 * 0-6", "0 8 1 * *"),
        ("0 8 */1 * 1", "0 8 * * 1"),
    ],
)
def test_the_expression_keeps_the_writing_but_for_names_and_full_days(text: str, expression: str):
    assert parsed(text).expression == expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("0 8 */2 * 1", "0 8 */2 * 1"),
        ("0 8 13 * */3", "0 8 13 * */3"),
        ("0 8 1-7 * mon", "0 8 */31,1-7 * 1"),
        ("0 8 5,*/10 * mon", "0 8 */31,5,*/10 * 1"),
        ("0 8 13 * sun,fri", "0 8 13 * */7,0,5"),
        ("0 8 13 * fri-mon", "0 8 13 * */7,5-1"),
        ("0 8 13 * 1", ""),
        ("0 8 2-8 * mon-fri", ""),
    ],
)
def test_two_restricted_day_fields_must_both_match(text: str, expression: str):
    assert parsed(text).expression == expression


def test_both_days_match_on_the_first_monday_only():
    first_mondays = parsed("0 8 1-7 * mon")
    reading = datetime(2026, 1, 1)  # noqa: DTZ001
    found = [reading := first_mondays.after(reading) for _ in range(3)]
    assert [f"{day:%m-%d}" for day in found] == ["01-05", "02-02", "03-02"]


def test_a_list_too_long_for_an_expression_is_written_in_runs():
    every = ",".join(str(minute) for minute in range(60))
    crontab = parsed(f"{every} {','.join(str(hour) for hour in range(24))} * * *")
    assert crontab.expression == "0-59 0-23 * * *"
    reportcron.validate(crontab.expression)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high).map(str)
    span = st.one_of(st.just("*"), st.builds("{}-{}".format, number, number))
    item = st.one_of(number, span, st.builds("{}/{}".format, span, st.integers(1, high)))
    return st.lists(item, min_size=1, max_size=3).map(",".join)


FIELDS = [_field(low, high) for low, high in RANGES]
CRONTABS = st.one_of(
    st.tuples(FIELDS[0], FIELDS[1], FIELDS[2], FIELDS[3], st.just("*")),
    st.tuples(FIELDS[0], FIELDS[1], st.just("*"), FIELDS[3], FIELDS[4]),
    st.tuples(FIELDS[0], FIELDS[1], FIELDS[2], FIELDS[3], FIELDS[4]),
)


@given(CRONTABS, st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1)))  # noqa: DTZ001
def test_the_expression_fires_when_the_crontab_does(fields: tuple[str, str, str, str, str], start: datetime):
    try:
        crontab = crontabs.parse(BeatCrontab(fields, "UTC"))
    except crontabs.Unreadable:
        return  # a day that never comes
    if not crontab.expression:
        return  # both day fields are restricted, without day 1 and without Sunday
    reading = start
    readings = [reading := crontab.after(reading) for _ in range(20)]
    ours = islice(reportcron.between(crontab.expression, "UTC", start.replace(tzinfo=UTC), reportcron.LAST), 20)
    assert [instant.replace(tzinfo=None) for instant in ours] == readings
