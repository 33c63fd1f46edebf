"""A cron expression in words: what the words claim is read back, and must be what the fields stand for."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import assume, given, settings

import reportcron
from reportqueue.timing import words
from tests.unit.minute_walk import Job, job_of
from tests.unit.test_cron_properties import fires, jobs

WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]
TIME = r"\d\d:\d\d"
LIST = r"[\w:]+(?: to \w+)?(?:, [\w:]+(?: to \w+)?)*(?: and [\w:]+(?: to \w+)?)?"
WINDOWS = rf" from {TIME} to {TIME}(?: and from {TIME} to {TIME})?"
SENTENCE = re.compile(
    rf"(?P<times>(?:Every (?:minute|\d+ minutes|hour|\d+ hours)|At {LIST} minutes? past (?:every|the) hour)"
    rf"(?:(?P<windows>{WINDOWS})|(?P<hours> in the hours {LIST}))?|At (?P<clock>{TIME}(?:, {TIME})*(?: and {TIME})?))"
    rf"(?:, (?P<day_kind>only on|on) days? (?P<days>{LIST}) of the month(?:, (?P<rule>and also|but only) on "
    rf"(?P<more>{LIST}))?|, only on (?P<weekdays>{LIST}))?"
    rf"(?:, only in (?P<months>{LIST}))?"
)


def numbers(text: str, names: list[str], first: int) -> set[int]:
    """What a list such as `Monday to Friday and Sunday` names."""
    found: set[int] = set()
    for part in re.split(r", | and ", text):
        ends = [names.index(end) + first if names else int(end) for end in part.split(" to ")]
        last = ends[-1] + (7 if ends[-1] < ends[0] else 0)  # a week may begin anywhere
        found |= {number % 7 if names is WEEKDAYS else number for number in range(ends[0], last + 1)}
    return found


def minute_of_day(text: str) -> int:
    hour, minute = map(int, text.split(":"))
    return 60 * hour + minute


def claimed_times(found: re.Match[str]) -> set[int]:
    """The minutes of the day that the words name."""
    if found["clock"]:
        return {minute_of_day(text) for text in re.findall(TIME, found["clock"])}
    windows = [tuple(map(minute_of_day, ends)) for ends in re.findall(rf"({TIME}) to ({TIME})", found["windows"] or "")]
    inside = {minute for first, last in windows for minute in range(first, last + 1)} if windows else set(range(1440))
    if found["hours"]:
        hours = numbers(found["hours"].removeprefix(" in the hours "), [], 0)
        inside = {minute for minute in inside if minute // 60 in hours}
    text = found["times"]
    if text.startswith("At "):
        past = numbers(re.match(rf"At ({LIST}) minutes? past", text)[1], [], 0)  # type: ignore[index]
        chosen = {minute for minute in inside if minute % 60 in past}
    else:
        count, unit = re.match(r"Every (\d+ )?(minute|hour)", text).groups()  # type: ignore[union-attr]
        step = int(count or 1) * (60 if unit == "hour" else 1)
        begin = windows[0][0] if unit == "hour" and windows else 0
        chosen = {minute for minute in inside if (minute - begin) % step == 0}
    for ends in windows:
        assert chosen.issuperset(ends), "a window begins and ends with a firing"
    return chosen


def check(job: Job) -> None:
    said = words.describe(job.expression)
    found = SENTENCE.fullmatch(said)
    assert found, said
    minutes, hours = job.values[:2]
    assert claimed_times(found) == {60 * hour + minute for hour in hours for minute in minutes}, said
    months = numbers(found["months"], MONTHS, 1) if found["months"] else set(range(1, 13))
    assert months == job.values[3], said
    days = numbers(found["days"], [], 1) if found["days"] else set(range(1, 32))
    named = found["weekdays"] or found["more"]
    weekdays = numbers(named, WEEKDAYS, 0) if named else set(range(7))
    for day, weekday in product(range(1, 32), range(7)):
        both = (day in days, weekday in weekdays)
        claimed = any(both) if found["rule"] == "and also" else all(both)
        assert claimed == job.fires_on(day, weekday), (said, day, weekday)


@settings(max_examples=300, deadline=None)
@given(job=jobs())
def test_the_words_claim_what_the_fields_stand_for(job: Job):
    assume(fires(job))
    check(job)


@pytest.mark.parametrize("field", range(5))
def test_the_words_of_every_step_are_true(field: int):
    """Steps beyond the field, and steps that do not divide it, alone and behind a range."""
    for step in range(1, 101):
        for start in ("*", "2-5", "0-6" if field in (0, 1, 4) else "1-7"):
            texts = ["0", "8", "*", "*", "*"]
            texts[field] = f"{start}/{step}"
            check(job_of(" ".join(texts)))
        every = ["*"] * 5
        every[field] = f"*/{step}"
        check(job_of(" ".join(every)))


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("* * * * *", "Every minute"),
        ("*/15 * * * *", "Every 15 minutes"),
        ("*/90 * * * *", "Every hour"),
        ("*/7 * * * *", "At 0, 7, 14, 21, 28, 35, 42, 49 and 56 minutes past every hour"),
        ("5 * * * *", "At 5 minutes past every hour"),
        ("1 * * * *", "At 1 minute past every hour"),
        ("0 */2 * * *", "Every 2 hours"),
        ("0 */5 * * *", "At 00:00, 05:00, 10:00, 15:00 and 20:00"),
        ("0 */30 * * *", "At 00:00"),
        ("*/15 9-17 * * MON-FRI", "Every 15 minutes from 09:00 to 17:45, only on Monday to Friday"),
        ("30 9-17 * * *", "Every hour from 09:30 to 17:30"),
        ("* 9 * * *", "Every minute from 09:00 to 09:59"),
        ("*/5 22-2 * * *", "Every 5 minutes from 00:00 to 02:55 and from 22:00 to 23:55"),
        ("*/20 */2 * * *", "Every 20 minutes in the hours 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 22"),
        ("0-20 8 * * *", "At 0 to 20 minutes past the hour from 08:00 to 08:20"),
        ("0 8 * * 1", "At 08:00, only on Monday"),
        ("0 8 * * SAT,SUN", "At 08:00, only on Saturday and Sunday"),
        ("0 8 1 * *", "At 08:00, only on day 1 of the month"),
        ("0 8 */9 1 *", "At 08:00, only on days 1, 10, 19 and 28 of the month, only in January"),
        ("0 12 13 * FRI", "At 12:00, on day 13 of the month, and also on Friday"),
        ("0 7 */100,1-7 * MON", "At 07:00, on days 1 to 7 of the month, but only on Monday"),
        ("0 7 1-31 * MON", "At 07:00"),
        ("@monthly", "At 00:00, only on day 1 of the month"),
        ("0 8 * JAN,JUN-AUG *", "At 08:00, only in January and June to August"),
    ],
)
def test_expressions_in_words(expression: str, said: str):
    assert words.describe(expression) == said


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 7 */100,1-7 * MON", "must match both day fields"),
        ("0 7 13 * */5", "must match both day fields"),
        ("0 7 1-31 * MON", "fires every day"),
        ("0 7 5,* * MON", "fires every day"),
        ("0 7 13 * 0-6", "fires every day"),
        ("0 7 13 * FRI", ""),
        ("0 7 */2 * *", ""),
        ("0 7 */2 * 0-6", ""),
        ("0 7 * * 0-6", ""),
        ("0 7 1-31 * *", ""),
        ("@weekly", ""),
    ],
)
def test_where_cron_implementations_disagree_there_is_a_note(expression: str, said: str):
    note = words.day_note(expression)
    assert said in note
    assert bool(note) == bool(said)


def test_an_invalid_expression_has_no_words():
    for call in (words.describe, words.day_note):
        with pytest.raises(reportcron.InvalidExpression):
            call("every day")
