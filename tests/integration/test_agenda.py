"""The agenda: what runs hour by hour, with clock changes, calendars, jitter, load, and what it leaves out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

import reportcron
from reportqueue import queue, schedules
from reportqueue.models import BlackoutCalendar, Report, ReportQueue, ReportSchedule
from reportqueue.schedules import Agenda, agenda, agenda_counting, durations
from reportqueue.schedules.agenda_numbers import LISTED, Hour, Why
from reportqueue.states import Status
from reportqueue.timing import jitter
from tests.conftest import RowFactory, build_schedule
from tests.integration.test_admin_permissions import ScheduleFactory, new_calendar

START = datetime(2027, 6, 7, tzinfo=UTC)
"""A Monday."""


def at(day: int, hour: int = 0, minute: int = 0, *, month: int = 6) -> datetime:
    """An instant of 2027, in UTC."""
    return datetime(2027, month, day, hour, minute, tzinfo=UTC)


def firings(found: Agenda) -> dict[str, int]:
    """The hours that have any, by the viewer's clock."""
    return {shown(found, hour): hour.firings for hour in found.hours if hour.firings}


def shown(found: Agenda, hour: Hour) -> str:
    """What the viewer's clock shows at its start."""
    return f"{reportcron.local(found.timezone, hour.clock.start):%d %H:%M%z}"


AGENDA = sys.modules["reportqueue.schedules.agenda"]
"""The module; its package has the function under the same name."""


# What is counted.


def test_firings_are_counted_in_the_hours_of_the_viewer_s_clock(make_schedule: ScheduleFactory):
    make_schedule(cron="30 8,9 * * *", timezone="Europe/Berlin")
    make_schedule(cron="", interval_seconds=1800, start_at=at(7, 6, 10), end_at=at(7, 7, 10))
    found = agenda(START, 24, "Asia/Kolkata")
    # 08:30 in Berlin is 12:00 in Kolkata; 06:10 in UTC is 11:40.
    assert firings(found) == {"07 11:00+0530": 1, "07 12:00+0530": 3, "07 13:00+0530": 1}
    assert (found.firings, found.counted, found.left_out.count) == (5, 2, 0)
    hour = found.hours[7]
    assert (hour.schedules, [one.firings for one in hour.listed]) == (2, [1, 2])
    assert [one.first for one in hour.listed] == [at(7, 6, 30), at(7, 6, 40)]


def test_the_first_hour_counts_from_the_start_on(make_schedule: ScheduleFactory):
    make_schedule(cron="*/10 * * * *")
    found = agenda(at(7, 14, 30), 2, "UTC")
    assert firings(found) == {"07 14:00+0000": 3, "07 15:00+0000": 6}
    assert (found.start, found.end) == (at(7, 14, 30), at(7, 16))


def test_on_the_day_without_an_hour_nothing_is_lost(make_schedule: ScheduleFactory):
    make_schedule(cron="30 2 * * *", timezone="Europe/Berlin")
    make_schedule(cron="0 * * * *", timezone="Europe/Berlin")
    found = agenda(at(27, 23, month=3), 24, "Europe/Berlin")
    assert firings(found)["28 03:00+0200"] == 2, "the one of 02:30 comes at the first instant after the gap"
    assert "28 02:00+0100" not in firings(found)
    of_the_day = [hour for hour in found.hours if shown(found, hour).startswith("28")]
    assert len(of_the_day) == 23
    assert [change.day_length for change in found.clock_sets] == [timedelta(hours=23)]


def test_on_the_day_with_an_hour_twice_both_are_shown(make_schedule: ScheduleFactory):
    make_schedule(cron="30 2 * * *", timezone="Europe/Berlin")
    make_schedule(cron="0 * * * *", timezone="Europe/Berlin")
    found = agenda(at(30, 22, month=10), 25, "Europe/Berlin")
    assert (firings(found)["31 02:00+0200"], firings(found)["31 02:00+0100"]) == (2, 1)
    assert {shown(found, hour)[:2] for hour in found.hours} == {"31"}
    assert [change.day_length for change in found.clock_sets] == [timedelta(hours=25)]


def test_a_closed_day_skips_firings_and_says_why(make_schedule: ScheduleFactory):
    calendar = new_calendar(days=[(date(2027, 6, 7), date(2027, 6, 7))])
    make_schedule(cron="*/30 8 * * *", calendar=calendar)
    make_schedule(cron="0 8 * * *")
    found = agenda(START, 48, "UTC")
    assert firings(found) == {"07 08:00+0000": 1, "08 08:00+0000": 3}
    closed = found.hours[8]
    assert (closed.skipped, closed.moved_away, closed.closures) == (2, 0, {"Holidays: feast"})


@pytest.mark.parametrize(("blackout", "day"), [("next_open_day", "09"), ("previous_open_day", "06")])
def test_a_moved_firing_is_counted_where_it_fires_and_said_where_it_is_missing(
    make_schedule: ScheduleFactory, blackout: str, day: str
):
    calendar = new_calendar(days=[(date(2027, 6, 7), date(2027, 6, 8))])
    make_schedule(cron="0 8 7 * *", calendar=calendar, blackout=blackout)
    found = agenda(at(6), 96, "UTC")
    assert firings(found) == {f"{day} 08:00+0000": 1}
    (there,) = [hour for hour in found.hours if hour.firings]
    assert (there.moved_here, there.listed[0].moved) == (1, 1)
    (closed,) = [hour for hour in found.hours if hour.moved_away]
    assert (shown(found, closed), closed.moved_away, closed.skipped) == ("07 08:00+0000", 1, 0)
    assert closed.closures == {"Holidays: feast"}
    # The hours from which and to which it is moved may be in different agendas.
    assert agenda(at(7), 24, "UTC").hours[8].moved_away == 1
    assert agenda(at(int(day)), 24, "UTC").hours[8].moved_here == 1


def test_jitter_moves_firings_to_the_minute_in_which_they_become_available(make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="55 * * * *", jitter_seconds=7200)
    found = agenda(START, 24, "UTC")
    nominal = [START + timedelta(hours=hour, minutes=55) for hour in range(-3, 24)]
    available = [one + jitter(schedule.pk, one, 7200) for one in nominal]
    wanted = [one for one in available if START <= one < found.end]
    assert found.firings == len(wanted)
    assert {hour.clock.start for hour in found.hours if hour.firings} == {
        one.replace(minute=0, second=0, microsecond=0) for one in wanted
    }
    firsts = [one.first for hour in found.hours for one in hour.listed]
    assert set(firsts) <= set(wanted)
    assert set(firsts) - set(nominal), "none is at its nominal time"


def test_disabled_schedules_are_named_and_not_counted(make_schedule: ScheduleFactory):
    fires, disabled = make_schedule(cron="0 8 * * *"), make_schedule(cron="0 8 * * *", enabled=False)
    found = agenda(START, 24, "UTC")
    assert (found.firings, found.counted, found.disabled_count) == (1, 1, 1)
    assert [one.pk for one in found.disabled] == [disabled.pk]
    assert [one.schedule.pk for one in found.hours[8].listed] == [fires.pk]


def test_firings_of_paused_reports_are_counted_and_marked(make_schedule: ScheduleFactory):
    Report.objects.create(report_id=3, name="Weather", route="slow")
    for report_id in (1, 2, 3):
        make_schedule(cron="0 8 * * *", report_id=report_id)

    def held() -> set[int]:
        return {one.schedule.report_id for one in agenda(START, 24, "UTC").hours[8].listed if one.schedule.held}

    assert held() == set()
    queue.pause(report_id=1, by="me")
    queue.pause(report_id=99)
    queue.pause(route="slow")
    queue.pause(route="other")
    assert held() == {1, 3}
    assert [one.what for one in agenda(START, 24, "UTC").pauses] == ["Report 1", "Route slow"]
    queue.pause()
    assert held() == {1, 2, 3}
    assert agenda(START, 24, "UTC").firings == 3


def test_the_busiest_minutes_name_their_schedules(make_schedule: ScheduleFactory):
    noon = [make_schedule(cron="0 12 * * *", modifier_id=n).pk for n in range(12)]
    two = [make_schedule(cron="15 9 * * *", modifier_id=n).pk for n in range(2)]
    make_schedule(cron="1 1 * * *")
    found = agenda(START, 24, "UTC")
    assert [(one.instant, one.firings, one.schedules) for one in found.busiest] == [
        (at(7, 12), 12, 12),
        (at(7, 9, 15), 2, 2),
    ]
    assert [[entry.pk for entry in one.named] for one in found.busiest] == [noon[:10], two]
    busiest = found.hours[12].busiest
    assert busiest is not None
    assert (busiest.instant, busiest.firings) == (at(7, 12), 12)
    assert found.hours[2].busiest is None


def test_an_hour_lists_a_bounded_number_of_schedules(make_schedule: ScheduleFactory):
    for number in range(LISTED + 2):
        make_schedule(cron=f"{number % 60} 12 * * *", modifier_id=number)
    hour = agenda(START, 24, "UTC").hours[12]
    assert (hour.schedules, len(hour.listed), hour.firings) == (LISTED + 2, LISTED, LISTED + 2)


def test_the_agenda_of_some_schedules_has_no_others(make_schedule: ScheduleFactory):
    make_schedule(cron="0 8 * * *", report_id=1)
    make_schedule(cron="0 8 * * *", report_id=2, enabled=False)
    found = agenda(START, 24, "UTC", schedules=ReportSchedule.objects.filter(report_id=2))
    assert (found.firings, found.counted, found.disabled_count) == (0, 0, 1)


# The work.


def took(make_row: RowFactory, seconds: float, *, number: int = 0, **fields: Any) -> ReportQueue:
    """A report that took so long."""
    due = at(1) + timedelta(minutes=number)
    fields = {"status": Status.SUCCEEDED, "started_at": due, "finished_at": due + timedelta(seconds=seconds)} | fields
    return make_row(trigger_time=due, available_at=due, **fields)


def test_the_work_is_the_firings_times_the_median_of_the_past(make_row: RowFactory, make_schedule: ScheduleFactory):
    for number, seconds in enumerate([60, 120, 5_000]):
        took(make_row, seconds, number=number, report_id=1)
    took(make_row, 9_000, report_id=1, status=Status.FAILED)
    make_schedule(cron="*/30 8 * * *", report_id=1)
    make_schedule(cron="0 8 * * *", report_id=2)
    found = agenda(START, 24, "UTC")
    assert (found.hours[8].work_seconds, found.hours[8].unmeasured) == (240, 1)
    assert (found.work_seconds, found.unmeasured, found.measured) == (240, 1, True)


def test_the_median_is_of_the_newest_that_have_succeeded(make_row: RowFactory, monkeypatch: pytest.MonkeyPatch):
    for number in range(durations.NEWEST + 1):
        took(make_row, 10 if number == 0 else 1_000 if number <= durations.NEWEST / 2 else 20, number=number)
    assert schedules.durations.typical_seconds([1, 1, 7]) == {1: 510}
    assert schedules.durations.typical_seconds([]) == {}


def test_the_durations_come_from_the_index_of_ended_reports(make_row: RowFactory):
    for number in range(3):
        took(make_row, 10, number=number)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {durations._MEDIANS}", [[1, 2]])
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index Scan Backward using reportqueue_ended_report" in plan
    assert "Sort Key: q" not in plan


def test_the_time_limit_of_the_durations_ends_with_them(make_schedule: ScheduleFactory):
    def limit() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            return str(cursor.fetchone()[0])

    before = limit()
    agenda(START, 24, "UTC")
    assert limit() == before


def test_durations_that_cannot_be_read_in_time_are_said(
    make_row: RowFactory, make_schedule: ScheduleFactory, monkeypatch: pytest.MonkeyPatch
):
    took(make_row, 60)
    make_schedule(cron="0 8 * * *")
    monkeypatch.setattr(durations, "_MEDIANS", "SELECT 1, 1.0 FROM pg_sleep(30) WHERE %s::bigint[] IS NOT NULL")
    found = agenda(START, 24, "UTC", budget_seconds=0.2)
    assert (found.measured, found.firings, found.work_seconds, found.unmeasured) == (False, 1, 0, 1)


# The bounds.


def test_schedules_beyond_the_bound_are_said(make_schedule: ScheduleFactory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(AGENDA, "MAX_SCHEDULES", 3)
    made = [make_schedule(cron="0 8 * * *", modifier_id=number).pk for number in range(15)]
    found = agenda(START, 24, "UTC")
    assert (found.counted, found.firings, found.left_out.count) == (3, 3, 12)
    assert [(entry.pk, why) for entry, why in found.left_out.named] == [(pk, Why.SCHEDULES) for pk in made[3:13]]


def test_firings_beyond_the_bound_leave_whole_schedules_out(
    make_schedule: ScheduleFactory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(agenda_counting, "MAX_EXAMINED", 1_500)
    hourly, often = make_schedule(cron="0 * * * *"), make_schedule(cron="* * * * *", modifier_id=3)
    after = make_schedule(cron="1 * * * *")
    found = agenda(START, 24, "UTC")
    assert found.firings == 24 + 1_440 + 24
    found = agenda(START, 48, "UTC")
    assert (found.counted, found.firings) == (1, 48), "no part of the schedule at which the counting ended"
    assert [(entry.pk, why) for entry, why in found.left_out.named] == [
        (often.pk, Why.FIRINGS),
        (after.pk, Why.FIRINGS),
    ]
    assert {one.schedule.pk for hour in found.hours for one in hour.listed} == {hourly.pk}


def test_equal_schedules_share_what_is_computed(make_schedule: ScheduleFactory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agenda_counting, "MAX_EXAMINED", 1_500)
    for modifier in range(20):
        make_schedule(cron="* * * * *", modifier_id=modifier)
    found = agenda(START, 24, "UTC")
    assert (found.firings, found.left_out.count) == (20 * 1_440, 0)


def test_schedules_that_began_long_ago_are_equal(make_schedule: ScheduleFactory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agenda_counting, "MAX_EXAMINED", 3_000)
    for modifier in range(5):
        began = datetime(2026, 1, 1, modifier, tzinfo=UTC)
        make_schedule(cron="* * * * *", modifier_id=modifier, start_at=began, end_at=began.replace(year=2030))
    make_schedule(cron="* * * * *", start_at=at(7, 12), end_at=at(7, 13))
    found = agenda(START, 24, "UTC")
    assert (found.firings, found.left_out.count) == (5 * 1_440 + 61, 0)


def test_the_time_ends_within_a_group_of_jittered_schedules(make_schedule: ScheduleFactory):
    made = [make_schedule(cron="0 8 * * *", jitter_seconds=60, modifier_id=n).pk for n in range(5)]
    ticks: Iterator[int] = count()
    found = agenda(START, 24, "UTC", budget_seconds=5, clock=lambda: next(ticks))
    assert 0 < found.counted == found.firings < 5
    assert [entry.pk for entry, _ in found.left_out.named] == made[found.counted :]


def test_when_the_time_is_used_up_the_other_schedules_are_said(make_schedule: ScheduleFactory):
    made = [make_schedule(cron=f"{number} 8 * * *").pk for number in range(5)]
    ticks: Iterator[int] = count()
    # Each schedule costs two looks at the clock: one before it and one at its first instant.
    found = agenda(START, 24, "UTC", budget_seconds=5, clock=lambda: next(ticks))
    assert 0 < found.counted < 5
    assert found.firings == found.counted
    assert [entry.pk for entry, _ in found.left_out.named] == made[found.counted :]
    assert found.left_out.reasons == {Why.TIME: 5 - found.counted}


def test_the_time_is_looked_at_within_a_schedule(make_schedule: ScheduleFactory):
    make_schedule(cron="", interval_seconds=10)
    ticks: Iterator[int] = count()
    found = agenda(START, 24, "UTC", budget_seconds=20, clock=lambda: next(ticks))
    assert (found.firings, found.left_out.count) == (0, 1)


def test_a_schedule_that_cannot_be_evaluated_is_said(make_schedule: ScheduleFactory):
    broken, other = make_schedule(cron="0 8 * * *"), make_schedule(cron="0 9 * * *")
    ReportSchedule.objects.filter(pk=broken.pk).update(cron="broken")
    found = agenda(START, 24, "UTC")
    assert (found.firings, found.counted) == (1, 1)
    assert [(entry.pk, why) for entry, why in found.left_out.named] == [(broken.pk, Why.BROKEN)]
    ReportSchedule.objects.filter(pk=other.pk).update(timezone="Nowhere")
    assert agenda(START, 24, "UTC").left_out.count == 2


@pytest.mark.parametrize("hours", [0, 169])
def test_another_number_of_hours_is_refused(db: None, hours: int):
    with pytest.raises(ValueError, match="1 to 168"):
        agenda(START, hours, "UTC")


def test_the_statements_do_not_grow_with_the_schedules(make_schedule: ScheduleFactory):
    costs = []
    for begin in (0, 5):
        for number in range(begin, begin + 5):
            calendar = BlackoutCalendar.objects.create(name=f"Calendar {number}")
            make_schedule(cron="0 8 * * *", report_id=number, calendar=calendar)
        with CaptureQueriesContext(connection) as statements:
            agenda(START, 24, "UTC")
        costs.append(len(statements))
    assert costs[0] == costs[1] <= 14


# The agenda and the forecast.

RULES = st.one_of(
    st.builds(
        lambda cron, zone: {"cron": cron, "timezone": zone},
        st.sampled_from(["0 * * * *", "30 2 * * *", "*/20 1-4 * * *", "15 8 * * MON-FRI", "0 8 28 * *"]),
        st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    ),
    st.builds(lambda step: {"cron": "", "interval_seconds": step}, st.sampled_from([1_800, 5_400, 86_400])),
)


class TestWithForecast(TestCase):
    """The same firings as the forecast of each schedule, in all."""

    @settings(max_examples=40, deadline=None)
    @given(
        rules=st.lists(
            st.tuples(
                RULES,
                st.booleans(),
                st.sampled_from(["skip", "next_open_day", "previous_open_day"]),
                st.sampled_from([0, 0, 600, 40_000]),
            ),
            min_size=1,
            max_size=4,
        ),
        # Around the changes of the clock in Berlin and New York, and on ordinary days.
        start=st.sampled_from([at(27, 11, month=3), at(30, 11, month=10), at(7, 0, 17), at(6, 5, month=11)]),
        hours=st.integers(1, 60),
        zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"]),
    )
    def test_the_hours_add_up_to_the_forecast_of_each_schedule(
        self, rules: list[tuple[dict[str, Any], bool, str, int]], start: datetime, hours: int, zone: str
    ) -> None:
        calendar = new_calendar(weekdays=[6], days=[(date(2027, 3, 29), date(2027, 3, 30))])
        made = []
        for number, (rule, closed, blackout, most) in enumerate(rules):
            given = {"calendar": calendar, "blackout": blackout} if closed else {}
            made.append(build_schedule(**rule, **given, jitter_seconds=most, modifier_id=number))
        found = agenda(start, hours, zone)
        wanted = 0
        for schedule in made:
            begin = start - timedelta(seconds=schedule.jitter_seconds, microseconds=1)
            wanted += _forecast(schedule, begin, found)
        assert found.firings == wanted
        assert found.left_out.count == 0
        assert sum(one.firings for hour in found.hours for one in hour.listed) == wanted


def _forecast(schedule: ReportSchedule, after: datetime, found: Agenda) -> int:
    """The firings that become available in the agenda's time, by the schedule's own forecast."""
    total = 0
    while True:
        outlook = schedules.forecast(schedule, schedules.MAX_FORECAST, after=after)
        for one in outlook.instants:
            if one.instant >= found.end:
                return total
            after = one.instant
            if not one.closed:
                available = one.instant + jitter(schedule.pk, one.instant, schedule.jitter_seconds)
                total += found.start <= available < found.end
