"""`manage.py compare_patterns`: the queue's firings beside the sensors', and why they differ."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from dagster_reportqueue.client.plan import Plan
from dagster_reportqueue.sensors.firings import DueFirings, Position, Start
from reportqueue import schedules
from reportqueue.clock import database_now
from reportqueue.management.commands import compare_patterns
from reportqueue.models import BlackoutCalendar, BlackoutDays, BlackoutHours, ReportQueue, ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from reportqueue.triggers import feed
from tests.integration.test_admin_permissions import ScheduleFactory

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
Firings = set[tuple[int, datetime]]


def closed_on(*days: date, weekdays: tuple[int, ...] = ()) -> BlackoutCalendar:
    calendar = BlackoutCalendar.objects.create(name="closed")
    for day in days:
        BlackoutDays.objects.create(calendar=calendar, first_day=day, last_day=day, label="holiday")
    for weekday in weekdays:
        BlackoutHours.objects.create(calendar=calendar, weekday=weekday, label="weekend")
    return calendar


def plan_from(start: datetime) -> None:
    """As if every schedule had last been changed then."""
    for schedule in ReportSchedule.objects.filter(enabled=True):
        following = schedule.timing().next_firing(start)
        ReportSchedule.objects.filter(pk=schedule.pk).update(
            next_run_at=following, planned_from=start, timing_set_at=start, plan_needed=False
        )


def both_sides(start: datetime, end: datetime) -> tuple[Firings, Firings]:
    found = list(schedules.compare(start, end))
    queue = {(one.schedule.pk, instant) for one in found for instant in one.queue}
    return queue, {(one.schedule.pk, instant) for one in found for instant in one.sensors}


def of_the_sensors(start: datetime, end: datetime) -> Firings:
    """What the orchestrator's own code makes of what the web app tells it."""
    TriggerPeriod.objects.create(pattern=Pattern.CRON)
    told = Plan.parse(json.loads(feed.sensors_document(Pattern.CRON)[1]))
    TriggerPeriod.objects.all().delete()
    firings = DueFirings().due(told, Start(Position(start)), end)
    return {(firing.schedule.schedule_id, firing.instant) for firing in firings}


def compare(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    code = 0
    try:
        call_command("compare_patterns", *arguments, stdout=out)
    except SystemExit as ended:
        code = int(str(ended.code))
    return code, out.getvalue()


def test_both_sides_are_what_the_scheduler_and_the_sensors_really_make(make_schedule: ScheduleFactory, settings: Any):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "MISFIRE_GRACE_SECONDS": 86_400}
    end = database_now()
    if end.hour >= 20:  # midnight has to lie between, or the calendar closes everything
        end -= timedelta(hours=4)
    start = end - timedelta(hours=20)
    calendar = closed_on(weekdays=(start.weekday(),))
    make_schedule(cron="*/7 * * * *")
    make_schedule(cron="30 2,14 * * *", timezone="America/St_Johns")
    make_schedule(cron="0 * * * *", start_at=start + timedelta(hours=5))
    make_schedule(cron="", interval_seconds=5_400, timezone="Asia/Tokyo")
    make_schedule(cron="*/20 * * * *", end_at=start + timedelta(hours=9))
    make_schedule(cron="5 * * * *", calendar=calendar)
    make_schedule(cron="0 */2 * * *", calendar=calendar, blackout="next_open_day")
    make_schedule(cron="0 3-23/4 * * *", calendar=calendar, blackout="previous_open_day", timezone="Asia/Kolkata")
    make_schedule(cron="15 * * * *", jitter_seconds=1_800)
    make_schedule(cron="* * * * *", enabled=False)
    plan_from(start)
    queue, sensors = both_sides(start, end)
    late = {
        (one.schedule.pk, instant): one.available_at(instant)
        for one in schedules.compare(start, end)
        for instant in one.queue
    }
    assert sensors == of_the_sensors(start, end)
    schedules.enqueue_due()
    made = ReportQueue.objects.exclude(status=Status.SKIPPED).filter(trigger_time__lte=end)
    rows = dict.fromkeys(made.values_list("schedule_id", "trigger_time"))
    assert queue == rows.keys()
    assert {(row.schedule_id, row.trigger_time): row.available_at for row in made} == late
    assert len({pk for pk, _ in queue}) >= 8
    assert len({pk for pk, _ in sensors}) == 3


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        # In Berlin, from 3:00 back to 2:00 at 1:00 UTC, and from 2:00 on to 3:00 at 1:00 UTC.
        (datetime(2026, 10, 24, 12, tzinfo=UTC), {"30 2 * * *": ["00:30"], "0 2-3 * * *": ["00:00", "02:00"]}),
        (datetime(2027, 3, 27, 12, tzinfo=UTC), {"30 2 * * *": ["01:00"], "0 2-3 * * *": ["01:00"]}),
    ],
)
def test_on_the_days_of_a_clock_change_plain_schedules_fire_alike(
    make_schedule: ScheduleFactory, start: datetime, expected: dict[str, list[str]]
):
    made = {cron: make_schedule(cron=cron, timezone="Europe/Berlin").pk for cron in expected}
    made["*/30 * * * *"] = make_schedule(cron="*/30 * * * *", timezone="Europe/Berlin").pk
    plan_from(start)
    queue, sensors = both_sides(start, start + DAY)
    assert queue == sensors == of_the_sensors(start, start + DAY)
    for cron, times in expected.items():
        assert sorted(f"{instant:%H:%M}" for pk, instant in queue if pk == made[cron]) == times
    assert len([pk for pk, _ in queue if pk == made["*/30 * * * *"]]) == 48


def test_an_instant_is_shown_by_the_clock_of_its_schedule_on_both_sides_of_a_change(make_schedule: ScheduleFactory):
    make_schedule(cron="0 * * * *", timezone="Europe/Berlin", overlap="skip")
    start = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)
    plan_from(start)
    (one,) = schedules.compare(start, start + timedelta(hours=2))
    shown = [f"{one.explain(instant).reading:%H:%M %Z}" for instant in one.differing()]
    assert shown == ["02:00 CEST", "02:00 CET"]


def differences(start: datetime, end: datetime) -> list[tuple[str, bool, bool, bool, tuple[str, ...]]]:
    return [
        (f"{found.instant:%d %H}", found.queue, found.sensors, found.expression, found.fields)
        for one in schedules.compare(start, end)
        for found in map(one.explain, one.differing())
    ]


MONDAY = datetime(2027, 3, 1, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"cron": "", "interval_seconds": 86_400}, [("02 00", True, False, False, ("interval_seconds",))]),
        ({"overlap": "skip"}, [("01 12", True, False, True, ("overlap",))]),
        (
            {"jitter_seconds": 60, "overlap": "skip"},
            [("01 12", True, False, True, ("overlap", "jitter_seconds"))],
        ),
        ({"end_at": MONDAY + 9 * DAY}, [("01 12", True, False, True, ("end_at",))]),
        ({"end_at": MONDAY}, [("01 12", False, False, True, ("end_at",))]),
        ({"start_at": MONDAY + 9 * DAY}, []),
        ({"start_at": MONDAY + 9 * DAY, "overlap": "skip"}, []),
    ],
)
def test_a_difference_names_the_field_that_causes_it(
    make_schedule: ScheduleFactory, fields: dict[str, Any], expected: list[Any]
):
    make_schedule(**({"cron": "0 12 * * *"} | fields))
    plan_from(MONDAY)
    assert differences(MONDAY, MONDAY + DAY) == expected


def test_what_a_calendar_closes_and_where_it_moves_it_are_differences(make_schedule: ScheduleFactory):
    calendar = closed_on(date(2027, 3, 1))
    make_schedule(cron="0 12 * * *", calendar=calendar)
    make_schedule(cron="0 13 * * *", calendar=calendar, blackout="next_open_day", end_at=MONDAY + DAY)
    plan_from(MONDAY)
    assert differences(MONDAY, MONDAY + 2 * DAY) == [
        ("01 12", False, False, True, ("calendar",)),
        ("02 12", True, False, True, ("calendar",)),
        ("01 13", False, False, True, ("blackout",)),
        ("02 13", True, False, True, ("end_at", "calendar")),
    ]
    closed, *_ = (
        one.explain(instant) for one in schedules.compare(MONDAY, MONDAY + DAY) for instant in one.differing()
    )
    assert closed.reason == "closed by the calendar closed: holiday"


def test_nothing_that_differs_says_so_and_ends_with_0(make_schedule: ScheduleFactory):
    make_schedule(cron="0 * * * *")
    make_schedule(cron="0 * * * *", enabled=False)
    code, said = compare()
    assert code == 0
    assert said.splitlines()[1:] == [
        "queue    24 firings of 1 schedules",
        "polling  the same rows as queue, launched by polling",
        "cron     24 firings of 1 schedules",
        "asset    the same as cron, once Dagster has been told of the last change",
        "Nothing differs: 1 schedules fire alike in every pattern.",
    ]


def test_what_differs_is_shown_up_to_the_limit_counted_in_full_and_ends_with_1(make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="0 * * * *", timezone="Asia/Kolkata", jitter_seconds=30)
    code, said = compare("--limit", "2", "--hours", "48")
    assert code == 1
    head, first, second, remedy, more, *counts = said.splitlines()[1:]
    assert head == f"schedule {schedule.pk} (report 1, modifier 2: 0 * * * * (Asia/Kolkata))"
    assert re.match(r"  \S+:30:00Z  \S+ \S+:00:00 IST  queue only: jitter_seconds: ", first)
    assert "jitter_seconds: sensors put no firing off, the queue this one until" in second
    assert remedy.startswith("    remedy: set the jitter to 0")
    assert more == "46 more differences are not shown; see --limit and --schedule."
    assert "cron     0 firings of 0 schedules; 1 schedules left out" in counts
    assert counts[-1] == "48 firings of 1 schedules differ."


def test_one_schedule_as_json(make_schedule: ScheduleFactory):
    make_schedule(cron="* * * * *", overlap="skip")
    schedule = make_schedule(cron="", interval_seconds=3_600, report_id=7)
    code, said = compare("--schedule", str(schedule.pk), "--json", "--hours", "2")
    found = json.loads(said)
    assert code == 1
    assert (found["schedules"], found["differences_count"], len(found["differences"])) == (1, 2, 2)
    assert found["patterns"]["queue"] == found["patterns"]["polling"] == {"firings": 2, "schedules": 1}
    assert found["patterns"]["cron"] == {"firings": 0, "schedules": 0, "left_out": 1}
    assert found["differences"][0]["fields"] == ["interval_seconds"]


def test_a_schedule_that_cannot_be_evaluated_is_said_and_stops_no_other(make_schedule: ScheduleFactory):
    broken = make_schedule()
    make_schedule(cron="0 * * * *")
    ReportSchedule.objects.filter(pk=broken.pk).update(cron="nonsense")
    code, said = compare()
    assert code == 0
    assert f"schedule {broken.pk} (report 1, modifier 2: nonsense (UTC)) cannot be evaluated: The number" in said
    assert "queue    24 firings of 1 schedules" in said
    assert "1 schedules cannot be evaluated" in said


def test_a_paused_schedule_is_said_to_be(make_schedule: ScheduleFactory):
    code, said = compare("--schedule", str(make_schedule(enabled=False).pk))
    assert code == 0
    assert "is paused: no pattern fires it." in said


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--hours", "0"], "not a whole number from 1 to 168"),
        (["--hours", "169"], "not a whole number from 1 to 168"),
        (["--limit", "-1"], "not a whole number"),
        (["--schedule", "987654"], "There is no schedule 987654."),
    ],
)
def test_an_error_is_none_of_the_answers(arguments: list[str], text: str):
    out = StringIO()
    with pytest.raises(CommandError, match=text) as raised:
        call_command("compare_patterns", *arguments, stdout=out)
    assert out.getvalue() == ""
    if "schedule" in text:
        assert raised.value.returncode == 2, "argparse's own are, on a command line"


def test_a_database_that_is_not_migrated_is_an_error():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE reportqueue_reportschedule RENAME TO gone")
    with pytest.raises(CommandError, match="Is it migrated") as raised:
        compare()
    assert raised.value.returncode == 2


def test_long_work_says_how_far_it_is_and_asks_the_same_whatever_the_number(
    make_schedule: ScheduleFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: Any,
):
    calendar = closed_on(weekdays=(6,))
    for _ in range(5):
        make_schedule(cron="0 * * * *", calendar=calendar)
    monkeypatch.setattr(compare_patterns, "PROGRESS", 2)
    with django_assert_num_queries(6):  # the clock, calendars in use, and their days, hours, names; schedules
        compare()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["2 schedules", "4 schedules"]
