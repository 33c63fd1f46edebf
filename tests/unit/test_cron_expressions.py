"""`reportcron`: which expressions and zones it reads how, and which it refuses (R5)."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import available_timezones

import pytest

import reportcron as cron
from tests.unit.minute_walk import at


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
        ("0 8 *,5 * 1", "0 8 * * 1"),
        # The first character decides, as in Debian's cron: this field lists all days, and either field is enough.
        ("0 8 5,* * 1", "0 8 * * *"),
        ("0 8 13 * 1,*", "0 8 * * *"),
        ("30 6 31 2 1", "30 6 * 2 1"),
        ("30 6 31 2 0-6", "30 6 * 2 *"),
        ("0 8 */40 * 0-6", "0 8 1 * *"),
    ],
)
def test_same_firings(expression, same):
    window = at("2026-01-01 00:00"), at("2027-02-01 00:00")
    cron.validate(expression)
    assert list(cron.between(expression, "UTC", *window)) == list(cron.between(same, "UTC", *window)) != []


@pytest.mark.parametrize(
    ("expression", "fires"),
    [
        # A field that begins with *: both must match. The first is the idiom for the first Monday of a month.
        ("0 7 */100,1-7 * MON", lambda day: day.day <= 7 and day.isoweekday() == 1),
        ("0 7 */2 * 1-5/2", lambda day: day.day % 2 == 1 and day.isoweekday() in (1, 3, 5)),
        ("0 7 13 * */5", lambda day: day.day == 13 and day.isoweekday() in (5, 7)),
        ("0 7 13 * */5,1", lambda day: day.day == 13 and day.isoweekday() in (1, 5, 7)),
        ("0 7 */7 * */3", lambda day: day.day in (1, 8, 15, 22, 29) and day.isoweekday() in (3, 6, 7)),
        # No field that begins with *: either is enough.
        ("0 7 1-7,*/100 * MON", lambda day: day.day <= 7 or day.isoweekday() == 1),
        ("0 7 1/2 * FRI", lambda day: day.day % 2 == 1 or day.isoweekday() == 5),
        ("0 7 13 * 1,*/5", lambda day: day.day == 13 or day.isoweekday() in (1, 5, 7)),
    ],
)
def test_day_of_month_and_day_of_week_are_combined_as_in_debian_s_cron(expression, fires):
    days = [at("2026-01-01 07:00") + timedelta(days=n) for n in range(4 * 366)]
    expected = [day for day in days if fires(day)]
    assert list(cron.between(expression, "UTC", at("2026-01-01 00:00"), days[-1])) == expected


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
        ("0 0 30 2 */2", "day of month"),
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
        ("@every 5m", "'@every 5m' is not known"),
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


@pytest.mark.parametrize(
    ("expression", "remedy"),
    [
        ("CRON_TZ=Asia/Tokyo 5 9 * * *", "give the time zone, Asia/Tokyo, in the schedule's own field"),
        ("TZ=Asia/Tokyo 5 9 * * *", "give the time zone, Asia/Tokyo, in the schedule's own field"),
        ("TZ= 5 9 * * *", "give the time zone in the schedule's own field"),
        ("5 9 * * * # each morning", "leave the comment out, from '# each morning' on"),
        ("5 9 * * *  #daily", "leave the comment out, from '#daily' on"),
        ("# 5 9 * * *", "leave the comment out, from '# 5 9 * * *' on"),
        ("0 8 1, 3, 5 * *", "without blanks: '0 8 1,3,5 * *'"),
        ("0 8 1 ,3 * *", "without blanks: '0 8 1,3 * *'"),
        ("0 8 1 - 5 * *", "without blanks: '0 8 1-5 * *'"),
        ("*/ 5 * * * *", "without blanks: '*/5 * * * *'"),
        ("'0 8 * * *'", "leave the quotation marks out"),
        ('"0 8 * * 1"', "leave the quotation marks out"),
        ("0 8 * * *\n0 9 * * *", "make a schedule for each line"),
        ("5 9 * * * root /usr/bin/report", "no user and no command"),
        ("5 9 * * * cd /srv && ./report.sh", "no user and no command"),
        ("5 9 * * * /usr/bin/report --daily", "no user and no command"),
        ("0 0 12 * * MON", "leave out seconds, which come first elsewhere, and a year"),
        ("0 0 12 ? * MON 2027", "leave out seconds, which come first elsewhere, and a year"),
        ("@every 1h", "give an interval of 3600 seconds"),
        ("@every 1h30m", "give an interval of 5400 seconds"),
        ("@EVERY  90S", "give an interval of 90 seconds"),
        ("@every day", "give an interval in seconds"),
        ("@reboot", "let your own code enqueue the report"),
        ("0 12 ? * MON", "write * instead"),
        ("0 12 * * ?", "write * instead"),
        ("0 8 * * MONDAY", "names have three letters, MON"),
        ("0 8 * * mon-Friday", "names have three letters, FRI"),
        ("0 8 1 January *", "names have three letters, JAN"),
        ("H 8 * * *", "give the schedule a jitter"),
        ("0~30 8 * * *", "give the schedule a jitter"),
        ("0 8 L * *", "let a calendar close the others"),
        ("0 8 15W * *", "let a calendar close the others"),
        ("0 8 * * 5#2", "let a calendar close the others"),
        ("0 8 * * FRI#2", "let a calendar close the others"),
        ("0 8 * * 5L", "let a calendar close the others"),
        ("0 24 * * *", "midnight is 0"),
        ("0 8 1\u20135 * *", "'\u2013'"),
    ],
)
def test_what_other_crons_accept_is_refused_with_the_remedy(expression, remedy):
    with pytest.raises(cron.InvalidExpression) as refusal:
        cron.validate(expression)
    assert remedy in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("length", [10, 190])
def test_a_refusal_stays_short_whatever_was_given(length):
    for text in ("CRON_TZ=" + "x" * length, "# " + "x" * length, "@every " + "x" * length, "'" + "1, " * (length // 3)):
        with pytest.raises(cron.InvalidExpression) as refusal:
            cron.validate(text)
        assert len(str(refusal.value)) < 600


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
