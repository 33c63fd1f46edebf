"""Schedules in the admin while Dagster's sensors fire them: who does, what comes next, and nothing is overdue."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reportqueue import triggers
from reportqueue.clock import database_now
from reportqueue.models import ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern
from tests.conftest import minutes_ago
from tests.integration.test_admin_permissions import SCHEDULES, ScheduleFactory, staff, text_of

SENSORS = pytest.mark.parametrize("pattern", [Pattern.CRON, Pattern.ASSET])


@pytest.fixture
def editor(db: None) -> Client:
    """The browser of somebody who keeps the schedules."""
    return staff("view_reportschedule", "change_reportschedule")


def pages(editor: Client, schedule: ReportSchedule) -> list[str]:
    return [text_of(editor.get(f"{SCHEDULES}{path}")) for path in ("", f"{schedule.pk}/change/")]


def fired_by(editor: Client, schedule: ReportSchedule) -> list[str]:
    """What each page says after its one label; empty without a label."""
    listed, page = pages(editor, schedule)
    (labelled,) = re.findall(r"<label>Fired by:</label>\s*<div class=\"readonly\">(.*?)</div>", page, re.DOTALL)
    assert "fired by" not in page
    return [*(re.findall(r"fired by: ([^<]*)", listed) or [""]), labelled.strip()]


def since(pattern: Pattern, instant: datetime) -> None:
    """As if it had been handed over then."""
    before = Pattern.QUEUE if pattern in (Pattern.CRON, Pattern.ASSET) else Pattern.CRON
    TriggerPeriod.objects.create(pattern=before, until=instant)
    TriggerPeriod.objects.create(pattern=pattern, since=instant)


@SENSORS
def test_what_a_sensor_fires_shows_who_does_and_its_next_firing_and_is_not_overdue(
    editor: Client, make_schedule: ScheduleFactory, pattern: Pattern
):
    schedule = make_schedule(cron="0 0 1 1 *", next_run_at=minutes_ago(42))
    since(pattern, minutes_ago(60))
    for page, shown in zip(pages(editor, schedule), fired_by(editor, schedule), strict=True):
        assert "Overdue" not in page
        assert shown == pattern.label
        assert f"{database_now().year + 1}-01-01 00:00:00" in page
        assert not re.search(r"42 min.{0,5} ago", page)


def test_what_the_queue_has_left_over_from_before_the_sensors_is_overdue(
    editor: Client, make_schedule: ScheduleFactory
):
    schedule = make_schedule(next_run_at=minutes_ago(42))
    since(Pattern.CRON, minutes_ago(30))
    for page in pages(editor, schedule):
        assert "by 42 min: is the scheduler running?" in page


def test_the_queue_is_late_from_the_hand_over_to_it(editor: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule(next_run_at=minutes_ago(5_000))
    since(Pattern.QUEUE, minutes_ago(42))
    for page in pages(editor, schedule):
        assert "by 42 min: is the scheduler running?" in page


def test_a_planned_hand_over_is_shown(editor: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    at = (database_now() + timedelta(days=2)).replace(microsecond=0)
    triggers.hand_over(Pattern.ASSET, at=at)
    assert fired_by(editor, schedule) == [f"Queue; from {at:%Y-%m-%d %H:%M:%S} UTC on: Asset sensor"] * 2


def test_where_the_queue_fires_the_list_does_not_repeat_it(editor: Client, make_schedule: ScheduleFactory):
    assert fired_by(editor, make_schedule()) == ["", "Queue"]


@pytest.mark.parametrize("fields", [{"jitter_seconds": 5}, {"cron": "nonsense"}])
def test_what_the_sensors_leave_out_has_no_next_firing(
    editor: Client, make_schedule: ScheduleFactory, fields: dict[str, object]
):
    schedule = make_schedule()
    since(Pattern.CRON, minutes_ago(60))
    ReportSchedule.objects.filter(pk=schedule.pk).update(**fields, next_run_at=minutes_ago(42))
    (row,) = editor.get(SCHEDULES).context["cl"].result_list
    assert row.pk == schedule.pk
    assert re.search(r'class="field-next_run[^"]*">-<', pages(editor, schedule)[0])


def test_an_edit_that_leaves_the_timing_says_when_it_really_fires_next(editor: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="0 0 1 1 *", next_run_at=minutes_ago(42))
    since(Pattern.CRON, minutes_ago(60))
    form = editor.get(f"{SCHEDULES}{schedule.pk}/change/").context["adminform"].form
    data = {name: "" if (value := form[name].value()) is None else value for name in form.fields}
    data = {name: value for name, value in data.items() if value is not False} | {"priority": 7, "params": "{}"}
    answer = editor.post(f"{SCHEDULES}{schedule.pk}/change/", data, follow=True)
    assert f"The next run is at {database_now().year + 1}-01-01 00:00:00" in text_of(answer)


def test_the_list_takes_the_same_queries_whoever_fires(editor: Client, make_schedule: ScheduleFactory):
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            editor.get(SCHEDULES)
        return len(queries)

    make_schedule()
    queue = cost()
    since(Pattern.CRON, minutes_ago(60))
    for _ in range(10):
        make_schedule(next_run_at=minutes_ago(42))
    assert cost() == queue + 1  # of two patterns somebody is expected
