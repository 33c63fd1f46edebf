"""When a schedule fires, around its calendar: examples, and properties against definitions that are slow and plain."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reportcron
from reportqueue.timing import EPOCH, EXAMINED, NeverFires, Newest, Occurrence, Timing, effort
from reportqueue.timing.calendars import MAX_MOVE_DAYS, Calendar, ClosedDays, ClosedHours
from reportqueue.timing.policies import Blackout

TICK = timedelta(microseconds=1)
WEEKEND = Calendar("weekend", hours=(ClosedHours(5), ClosedHours(6)))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fired(timing: Timing, start: str, end: str) -> list[str]:
    return [f"{instant:%m-%d %H:%M}" for instant in timing.firings(at(start) - TICK, at(end))]


def test_an_interval_is_counted_from_its_start_whatever_the_clock_does():
    timing = Timing(cron="", timezone="Europe/Paris", interval_seconds=6 * 3600, start_at=at("2026-03-28 05:30"))
    assert fired(timing, "2026-03-28", "2026-03-29 18:00") == [
        *("03-28 05:30", "03-28 11:30", "03-28 17:30", "03-28 23:30"),
        *("03-29 05:30", "03-29 11:30", "03-29 17:30"),
    ]


def test_an_interval_without_a_start_is_counted_from_the_epoch():
    timing = Timing(cron="", timezone="UTC", interval_seconds=900)
    assert timing.next_firing(at("2026-11-25 10:07")) == at("2026-11-25 10:15")
    assert (timing.next_firing(at("2026-11-25 10:15")) - EPOCH).total_seconds() % 900 == 0  # type: ignore[operator]


def test_start_and_end_are_the_first_and_last_instants_that_may_fire():
    timing = Timing(cron="0 * * * *", timezone="UTC", start_at=at("2026-05-01 08:00"), end_at=at("2026-05-01 10:00"))
    assert fired(timing, "2026-05-01", "2026-05-02") == ["05-01 08:00", "05-01 09:00", "05-01 10:00"]
    assert timing.next_firing(at("2020-01-01")) == at("2026-05-01 08:00")
    assert timing.next_firing(at("2026-05-01 10:00")) is None


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Blackout.SKIP, ["11-26 08:00", "11-27 08:00", "11-30 08:00"]),
        # Saturday's and Sunday's fall together with Monday's, or Friday's.
        (Blackout.NEXT_DAY, ["11-26 08:00", "11-27 08:00", "11-30 08:00"]),
        (Blackout.PREVIOUS_DAY, ["11-26 08:00", "11-27 08:00", "11-30 08:00"]),
    ],
)
def test_a_daily_report_around_the_weekend_is_one_a_working_day(policy: Blackout, expected: list[str]):
    timing = Timing(cron="0 8 * * *", timezone="UTC", calendar=WEEKEND, blackout=policy)
    assert fired(timing, "2026-11-26", "2026-11-30 23:00") == expected


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Blackout.SKIP, ["09-01 08:00", "10-01 08:00", "12-01 08:00"]),
        (Blackout.NEXT_DAY, ["09-01 08:00", "10-01 08:00", "11-02 08:00", "12-01 08:00"]),
        (Blackout.PREVIOUS_DAY, ["09-01 08:00", "10-01 08:00", "10-30 08:00", "12-01 08:00"]),
    ],
)
def test_a_monthly_report_on_a_sunday_is_skipped_or_moved(policy: Blackout, expected: list[str]):
    timing = Timing(cron="0 8 1 * *", timezone="UTC", calendar=WEEKEND, blackout=policy)
    assert fired(timing, "2026-09-01", "2026-12-24") == expected


def test_a_moved_firing_says_where_it_comes_from_and_a_skipped_one_why():
    moved = Timing(cron="0 8 * * SUN", timezone="UTC", calendar=WEEKEND, blackout=Blackout.NEXT_DAY)
    assert next(moved.occurrences(at("2026-11-26"))) == Occurrence(at("2026-11-30 08:00"), at("2026-11-29 08:00"))
    holidays = Calendar("Holidays", days=(ClosedDays(date(2026, 12, 25), date(2026, 12, 26), label="Christmas"),))
    skipped = Timing(cron="0 8 25 * *", timezone="UTC", calendar=holidays)
    assert next(skipped.occurrences(at("2026-12-24"))).closed == "Holidays: Christmas"


def test_a_moved_firing_keeps_its_reading_of_the_clock_across_a_clock_change():
    closed = Calendar("c", days=(ClosedDays(date(2026, 3, 28), date(2026, 3, 29)),))
    timing = Timing(cron="30 2 28 3 *", timezone="Europe/Paris", calendar=closed, blackout=Blackout.NEXT_DAY)
    assert timing.next_firing(at("2026-03-01")) == at("2026-03-30 00:30"), "2:30 in summer time"
    only_saturday = Calendar("c", days=(ClosedDays(date(2026, 3, 28), date(2026, 3, 28)),))
    into_the_gap = Timing(cron="30 2 28 3 *", timezone="Europe/Paris", calendar=only_saturday, blackout="next_open_day")
    assert into_the_gap.next_firing(at("2026-03-01")) == at("2026-03-29 01:00"), "2:30 does not exist: after the gap"


@pytest.mark.parametrize("cron_expression", ["30 2 * * *", "0,30 2 * * *"])
def test_what_the_clock_left_out_on_a_closed_day_falls_together_with_the_open_days_own(cron_expression: str):
    sunday = Calendar("c", hours=(ClosedHours(6),))
    timing = Timing(cron=cron_expression, timezone="Europe/Paris", calendar=sunday, blackout=Blackout.NEXT_DAY)
    on_monday = [f"{instant:%H:%M}" for instant in timing.firings(at("2026-03-29"), at("2026-03-30 12:00"))]
    assert on_monday == {"30 2 * * *": ["00:30"], "0,30 2 * * *": ["00:00", "00:30"]}[cron_expression]


def test_the_calendar_is_read_by_the_schedules_own_clock():
    nights = Calendar("nights", hours=tuple(ClosedHours(day, time(0), time(6)) for day in range(7)))
    tokyo = Timing(cron="0 * * * *", timezone="Asia/Tokyo", calendar=nights)
    assert tokyo.next_firing(at("2026-11-25 14:30")) == at("2026-11-25 21:00"), "23:30 there; it opens at 6"
    assert Timing(cron="0 * * * *", timezone="UTC", calendar=nights).next_firing(at("2026-11-25 23:30")) == at(
        "2026-11-26 06:00"
    )


def test_days_of_every_year_come_back_across_new_year_and_leap_days():
    turn = ClosedDays(date(2020, 12, 24), date(2021, 1, 2), every_year=True)
    assert [turn.covers(date(2026, *day)) for day in ((12, 23), (12, 24), (12, 31), (1, 1), (1, 2), (1, 3))] == [
        *(False, True, True, True, True, False)
    ]
    leap = ClosedDays(date(2024, 2, 29), date(2024, 2, 29), every_year=True)
    assert (leap.covers(date(2028, 2, 29)), leap.covers(date(2027, 2, 28)), leap.covers(date(2027, 3, 1))) == (
        *(True, False, False),
    )


YEARS = (2027, 2028, 2029, 2032, 2100)
"""Ordinary and leap years, and a century without a leap day."""


@pytest.mark.parametrize("entered", [2027, 2028, 2032])
@pytest.mark.parametrize(
    ("first", "last"),
    [
        ((2, 15), (4, 14)),  # across the end of February
        ((2, 1), (2, 28)),  # until the end of it
        ((3, 1), (3, 31)),  # just after it
        ((12, 24), (3, 2)),  # across New Year's Eve, too
        ((4, 15), (2, 14)),  # nearly a year
        ((3, 1), (2, 27)),
        ((1, 1), (1, 1)),
    ],
)
def test_days_of_every_year_have_the_same_first_and_last_day_whatever_the_year_of_entry(
    entered: int, first: tuple[int, int], last: tuple[int, int]
):
    later = last < first
    closed = ClosedDays(date(entered, *first), date(entered + later, *last), every_year=True)
    for year in YEARS:
        for begun in (year - 1, year) if later else (year,):
            days = [date(begun, *first) + timedelta(days=n) for n in range(367)]
            period = [day for day in days if day <= date(begun + later, *last)]
            assert all(closed.covers(day) for day in period)
        around = [date(year, *first) - timedelta(days=1), date(year, *last) + timedelta(days=1)]
        assert [closed.covers(day) for day in around] == [False, False], year


@pytest.mark.parametrize(
    ("first", "last", "ordinary"),
    [
        # 29 February is 1 March as a start, and 28 February as an end.
        ((2028, 2, 29), (2028, 3, 10), ((3, 1), (3, 10))),
        ((2028, 2, 20), (2028, 2, 29), ((2, 20), (2, 28))),
        ((2028, 2, 29), (2028, 2, 29), None),
    ],
)
def test_a_period_that_begins_or_ends_on_the_leap_day(
    first: tuple[int, int, int], last: tuple[int, int, int], ordinary: tuple[tuple[int, int], tuple[int, int]] | None
):
    closed = ClosedDays(date(*first), date(*last), every_year=True)
    for year in (2027, 2028, 2029, 2100):
        leap = year == 2028
        ends = (first[1:], last[1:]) if leap else ordinary
        period = [date(year, 1, 1) + timedelta(days=n) for n in range(365 + leap)]
        expected = [day for day in period if ends and date(year, *ends[0]) <= day <= date(year, *ends[1])]
        assert [day for day in period if closed.covers(day)] == expected


def test_days_of_every_year_that_were_written_past_the_checks_do_no_harm():
    long = ClosedDays(date(2026, 1, 1), date(2029, 1, 1), every_year=True)
    assert all(long.covers(date(year, 6, 1)) for year in (1, 2026, 9998))
    assert not ClosedDays(date(9998, 12, 31), date(9999, 1, 2), every_year=True).covers(date(9999, 6, 1))


def test_hours_end_before_their_end():
    hours = ClosedHours(0, time(22), time(23, 30))
    monday = datetime(2026, 11, 23)  # noqa: DTZ001  # a reading
    assert [hours.covers(monday.replace(hour=h, minute=m)) for h, m in ((21, 59), (22, 0), (23, 29), (23, 30))] == [
        *(False, True, True, False)
    ]
    assert ClosedHours(0, time(22)).covers(monday.replace(hour=23, minute=59))


def test_without_an_open_day_in_reach_a_firing_is_skipped_not_moved():
    long = Calendar("long", days=(ClosedDays(date(2026, 6, 1), date(2026, 7, 31)),))
    timing = Timing(cron="0 8 1 * *", timezone="UTC", calendar=long, blackout=Blackout.NEXT_DAY)
    first, second = islice(timing.occurrences(at("2026-05-15")), 2)
    assert first.closed
    assert str(MAX_MOVE_DAYS) in first.closed
    assert second.instant == at("2026-08-01 08:00"), "July's first is 31 days from August's"


def test_a_long_closure_costs_a_step_a_day_not_one_a_firing():
    closed = Calendar("years", days=(ClosedDays(date(2026, 1, 1), date(2028, 12, 31)),))
    timing = Timing(cron="* * * * *", timezone="UTC", calendar=closed)
    assert timing.next_firing(at("2026-01-01")) == at("2029-01-01")


def test_a_calendar_that_leaves_nothing_open_is_an_error_not_a_search_without_end():
    always = Calendar("always", hours=tuple(ClosedHours(day) for day in range(7)))
    with pytest.raises(NeverFires, match="always"):
        Timing(cron="0 8 * * *", timezone="UTC", calendar=always).next_firing(at("2026-01-01"))


def test_a_search_in_vain_for_an_open_day_looks_at_each_instant_once(monkeypatch: pytest.MonkeyPatch):
    asked = 0
    look = Calendar.open_day

    def open_day(calendar: Calendar, reading: datetime, step: int) -> datetime | None:
        nonlocal asked
        asked += 1
        return look(calendar, reading, step)

    monkeypatch.setattr(Calendar, "open_day", open_day)
    always = Calendar("always", days=(ClosedDays(date(2000, 1, 1), date(2100, 1, 1)),))
    timing = Timing(cron="*/15 * * * *", timezone="UTC", calendar=always, blackout=Blackout.NEXT_DAY)
    with pytest.raises(NeverFires):
        timing.next_firing(at("2026-01-01"))
    assert asked < 1.5 * EXAMINED


# Properties. The plain definition: work out every nominal instant of a wide window, treat each by itself, sort.

EXPRESSIONS = ["0 8 * * *", "30 2 * * *", "0 */6 * * *", "15 1 1,15 * *", "0 9 * * MON,SAT", "45 23 28-31 * *"]
ZONES = ["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    days = []
    for _ in range(draw(st.integers(0, 3))):
        first = date(2026, 1, 1) + timedelta(days=draw(st.integers(0, 360)))
        days.append(ClosedDays(first, first + timedelta(days=draw(st.integers(0, 9))), draw(st.booleans())))
    hours = []
    for weekday in draw(st.sets(st.integers(0, 6), max_size=4)):
        start = draw(st.integers(0, 22))
        end = draw(st.one_of(st.none(), st.integers(start + 1, 23)))
        hours.append(ClosedHours(weekday, time(start), None if end is None else time(end)))
    return Calendar("c", tuple(days), tuple(hours))


@st.composite
def timings(draw: st.DrawFn) -> Timing:
    every = draw(st.one_of(st.none(), st.sampled_from([3600, 7 * 3600, 86_400])))
    return Timing(
        cron=draw(st.sampled_from(EXPRESSIONS)) if every is None else "",
        interval_seconds=every,
        timezone=draw(st.sampled_from(ZONES)),
        calendar=draw(calendars()),
        blackout=draw(st.sampled_from(sorted(Blackout))),
    )


def plainly(timing: Timing, after: datetime, until: datetime) -> list[datetime]:
    """By the definition: each nominal instant by itself, moved within 31 days, sorted, each once."""
    reach = timedelta(days=MAX_MOVE_DAYS + 2)
    bare = Timing(cron=timing.cron, interval_seconds=timing.interval_seconds, timezone=timing.timezone)
    found = set()
    assert timing.calendar is not None
    for nominal in bare.firings(after - reach, until + reach):
        reading = reportcron.reading_of(timing.timezone, nominal)
        if timing.calendar.closure(reading) is None:
            found.add(nominal)
        elif timing.blackout != Blackout.SKIP:
            if timing.cron:
                reading = reportcron.meant_reading(timing.cron, timing.timezone, nominal)
            step = 1 if timing.blackout == Blackout.NEXT_DAY else -1
            for distance in range(1, MAX_MOVE_DAYS + 1):
                moved = reading + timedelta(days=step * distance)
                if timing.calendar.closure(moved) is None:
                    found.add(reportcron.instant_of(timing.timezone, moved))
                    break
    return sorted(instant for instant in found if after < instant <= until)


starts = st.integers(0, 360 * 24 * 60).map(lambda minutes: at("2026-01-01") + timedelta(minutes=minutes))


@settings(max_examples=150, deadline=None)
@given(timing=timings(), start=starts, days=st.integers(1, 40))
def test_firings_around_a_calendar_are_those_of_the_definition(timing: Timing, start: datetime, days: int):
    until = start + timedelta(days=days)
    assert list(timing.firings(start, until)) == plainly(timing, start, until)


@settings(max_examples=100, deadline=None)
@given(timing=timings(), start=starts, data=st.data())
def test_a_fresh_evaluation_agrees_with_a_continued_one(timing: Timing, start: datetime, data: st.DataObject):
    until = start + timedelta(days=25)
    known = list(timing.firings(start, until))
    assert all(earlier < later for earlier, later in pairwise(known))
    minutes = data.draw(st.integers(0, 25 * 24 * 60))
    anywhere = start + timedelta(minutes=minutes)
    assert list(timing.firings(anywhere, until)) == [instant for instant in known if instant > anywhere]
    if known:
        assert timing.next_firing(start) == known[0]


@settings(max_examples=80, deadline=None)
@given(timing=timings(), start=starts, count=st.integers(1, 12))
def test_the_newest_are_the_end_of_all(timing: Timing, start: datetime, count: int):
    until = start + timedelta(days=60)
    assert timing.newest(count, start, until) == Newest(list(timing.firings(start, until))[-count:], complete=True)


def test_occurrences_tell_skips_in_their_place():
    timing = Timing(cron="0 8 * * *", timezone="UTC", calendar=WEEKEND)
    week = takewhile(lambda o: o.instant < at("2026-12-01"), timing.occurrences(at("2026-11-26")))
    assert [(f"{o.instant:%d}", bool(o.closed)) for o in week] == [
        *(("26", False), ("27", False), ("28", True), ("29", True), ("30", False))
    ]


def test_closed_hours_are_passed_over_at_once_however_often_it_fires():
    """Closed from Friday evening to Monday morning, by hours: 22,000 instants of a schedule of every ten seconds."""
    week = Calendar(
        "week", hours=(ClosedHours(4, time(18)), ClosedHours(5), ClosedHours(6), ClosedHours(0, time(), time(8)))
    )
    timing = Timing(cron="", timezone="Europe/Berlin", interval_seconds=10, calendar=week)
    before = effort.spent()
    assert timing.next_firing(at("2026-11-27T17:00")) == at("2026-11-30T07:00")
    assert effort.spent() - before < 20


@pytest.mark.parametrize(
    ("closed", "start", "fires"),
    [
        # 02:00 to 03:00 is left out: closed until 02:30 is closed until the gap.
        ((time(1), time(2, 30)), "2026-03-29T00:00", "2026-03-29T01:00"),
        # 02:00 to 03:00 comes twice: open from the first 02:30 on, closed again, open again.
        ((time(1), time(2, 30)), "2026-10-24T23:00", "2026-10-25T00:30"),
        ((time(1), time(2, 30)), "2026-10-25T00:59", "2026-10-25T01:30"),
    ],
)
def test_closed_hours_end_as_the_clock_shows_it_also_when_it_is_set(closed: tuple[time, time], start: str, fires: str):
    sunday = Calendar("sunday", hours=(ClosedHours(6, *closed),))
    timing = Timing(cron="* * * * *", timezone="Europe/Berlin", calendar=sunday)
    assert timing.next_firing(at(start)) == at(fires)
