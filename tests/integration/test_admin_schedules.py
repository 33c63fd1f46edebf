"""Schedules in the admin: errors at their field, what comes next and what came, and the three actions."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Source, Status
from tests.conftest import RowFactory, minutes_ago
from tests.integration.test_admin_permissions import QUEUE, SCHEDULES, ScheduleFactory, act, messages_of, staff, text_of

FORM = {
    "report_id": "3",
    "modifier_id": "2014",
    "params": "{}",
    "cron": "0 8 * * MON",
    "timezone": "Europe/Paris",
    "enabled": "on",
    "priority": "0",
    "max_attempts": "3",
}


@pytest.fixture
def editor(db: None) -> Client:
    """The browser of somebody who keeps the schedules and sees the queue."""
    return staff(
        *("view_reportschedule", "add_reportschedule", "change_reportschedule", "delete_reportschedule"),
        *("view_reportqueue", "add_reportqueue"),
    )


def errors_of(response: Any) -> dict[str, Any]:
    """The form's errors by field."""
    assert response.status_code == 200
    errors: dict[str, Any] = response.context["adminform"].form.errors
    return errors


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("cron", "61 * * * *", "minute field"),
        ("cron", "* * *", "number of fields"),
        ("cron", "0 0 31 FEB *", "never comes"),
        ("cron", "a\x00b", "Null characters"),
        ("cron", "1," * 200, "at most 200"),
        ("cron", "", "expression is empty"),
        ("timezone", "Europe/Pariss", "not a time zone"),
        ("timezone", "/etc/passwd", "not a time zone"),
        ("timezone", "", "required"),
        ("params", "{", "valid JSON"),
        ("params", "[1]", "JSON object"),
        ("params", '{"a": "\\u0000"}', "NUL"),
        ("report_id", "-1", "greater than or equal to 0"),
        ("modifier_id", "9" * 20, "less than or equal to 9223372036854775807"),
        ("priority", "101", "less than or equal to 100"),
        ("max_attempts", "0", "greater than or equal to 1"),
    ],
)
@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_what_is_wrong_is_said_at_its_field(
    editor: Client, make_schedule: ScheduleFactory, field: str, value: str, said: str, existing: bool
):
    url = f"{SCHEDULES}{make_schedule().pk}/change/" if existing else f"{SCHEDULES}add/"
    before = list(ReportSchedule.objects.values())
    errors = errors_of(editor.post(url, FORM | {field: value}))
    assert list(errors) == [field]
    assert said in str(errors[field])
    assert list(ReportSchedule.objects.values()) == before


def test_a_saved_schedule_says_when_it_runs(editor: Client):
    response = editor.post(f"{SCHEDULES}add/", FORM, follow=True)
    schedule = ReportSchedule.objects.get()
    assert schedule.next_run_at is not None
    assert f"The next run is at {schedule.next_run_at:%Y-%m-%d %H:%M:%S} UTC (Mon " in messages_of(response)[0]
    assert re.search(r"08:00 CES?T\)", messages_of(response)[0])
    assert LogEntry.objects.count() == 1


def test_the_next_runs_are_shown_in_utc_and_in_the_schedule_s_zone(editor: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="30 9 * * *", timezone="Asia/Kolkata")
    listed, page = text_of(editor.get(SCHEDULES)), text_of(editor.get(f"{SCHEDULES}{schedule.pk}/change/"))
    for shown in (listed, page):
        assert re.search(r"\d 04:00:00", shown)
        assert re.search(r"09:30 IST, in \d", shown)
    assert page.count("04:00:00 UTC") == 5


def test_an_overdue_schedule_asks_for_the_scheduler(editor: Client, make_schedule: ScheduleFactory):
    make_schedule(next_run_at=minutes_ago(42))
    assert "overdue by 42 min" in text_of(editor.get(SCHEDULES))


def test_a_disabled_schedule_shows_why(editor: Client, make_schedule: ScheduleFactory):
    broken, paused = make_schedule(), make_schedule(enabled=False)
    ReportSchedule.objects.filter(pk=broken.pk).update(enabled=False, next_run_at=None, error="<no> such zone")
    for url in (SCHEDULES, f"{SCHEDULES}{broken.pk}/change/"):
        assert "&lt;no&gt; such zone" in text_of(editor.get(url))
    rows = editor.get(f"{SCHEDULES}?problem=yes").context["cl"].result_list
    assert [row.pk for row in rows] == [broken.pk]
    rows = editor.get(f"{SCHEDULES}?enabled=no&problem=no").context["cl"].result_list
    assert [row.pk for row in rows] == [paused.pk]


def test_a_schedule_that_cannot_be_evaluated_can_be_opened_to_mend_it(editor: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    ReportSchedule.objects.filter(pk=schedule.pk).update(
        cron="nonsense", timezone="Mars/Olympus", next_run_at=minutes_ago(0)
    )
    assert editor.get(SCHEDULES).status_code == 200
    assert "nonsense" in text_of(editor.get(f"{SCHEDULES}{schedule.pk}/change/"))
    assert editor.post(f"{SCHEDULES}{schedule.pk}/change/", FORM).status_code == 302


def test_last_outcomes_are_links_to_the_newest_rows_and_to_all(
    editor: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    schedule, other = make_schedule(report_id=5), make_schedule(report_id=6)
    rows = [
        make_row(schedule=schedule, status=status, trigger_time=minutes_ago(60 - n))
        for n, status in enumerate([Status.SKIPPED, *[Status.SUCCEEDED] * 3, Status.FAILED, Status.RUNNING])
    ]
    make_row(schedule=other, status=Status.CANCELLED)
    for url in (f"{SCHEDULES}?report_id=5", f"{SCHEDULES}{schedule.pk}/change/"):
        shown = text_of(editor.get(url))
        linked = re.findall(rf'<a class="rq-status rq-(\w+)" href="{QUEUE}(\d+)/change/" title="#\d+: (\w+)"', shown)
        assert [(int(pk), status) for status, pk, _ in linked] == [(row.pk, str(row.status)) for row in rows[1:]]
        assert f'href="{QUEUE}?schedule={schedule.pk}"' in shown
    assert len(editor.get(f"{QUEUE}?schedule={schedule.pk}").context["cl"].result_list) == 6


def test_the_list_takes_the_same_queries_however_many_schedules(
    editor: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            editor.get(SCHEDULES)
        return len(queries)

    make_row(schedule=make_schedule())
    one = cost()
    for _ in range(10):
        make_row(schedule=make_schedule())
    assert cost() == one == 7  # session, user, permissions (2), zones, count, schedules


def test_disabling_and_enabling_plans_from_now_and_is_logged(editor: Client, make_schedule: ScheduleFactory):
    schedules = [make_schedule(next_run_at=minutes_ago(60)), make_schedule(enabled=False)]
    assert messages_of(act(editor, "disable_selected", schedules, SCHEDULES)) == [
        "1 schedule disabled.",
        "1 was so already.",
    ]
    assert list(ReportSchedule.objects.values_list("enabled", "next_run_at")) == [(False, None)] * 2
    ReportSchedule.objects.filter(pk=schedules[0].pk).update(error="broken once")
    assert messages_of(act(editor, "enable_selected", schedules, SCHEDULES)) == ["2 schedules enabled."]
    for schedule in ReportSchedule.objects.all():
        assert schedule.enabled
        assert schedule.error == ""
        assert schedule.next_run_at is not None
        assert schedule.next_run_at > minutes_ago(0), "an enabled schedule must not fire the past"
    assert list(LogEntry.objects.order_by("id").values_list("change_message", flat=True)) == [
        "Disabled in the admin",
        *["Enabled in the admin"] * 2,
    ]


def test_a_schedule_that_cannot_fire_is_not_enabled_and_stops_no_other(editor: Client, make_schedule: ScheduleFactory):
    broken, good = make_schedule(enabled=False), make_schedule(enabled=False)
    ReportSchedule.objects.filter(pk=broken.pk).update(timezone="Mars/Olympus")
    done, refused = messages_of(act(editor, "enable_selected", [broken, good], SCHEDULES))
    assert done == "1 schedule enabled."
    assert "1 schedule refused: " in refused
    assert "Mars/Olympus" in refused
    assert list(ReportSchedule.objects.order_by("id").values_list("enabled", flat=True)) == [False, True]


def test_reports_can_be_queued_by_hand_without_touching_the_schedule(editor: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule(enabled=False, report_id=8, params={"a": 1}, priority=5, max_attempts=2)
    assert messages_of(act(editor, "run_selected", [schedule], SCHEDULES)) == ["1 report queued."]
    row = ReportQueue.objects.get()
    assert (row.report_id, row.modifier_id, row.params, row.priority, row.max_attempts) == (8, 2, {"a": 1}, 5, 2)
    assert (row.source, row.schedule, row.status) == (Source.ADMIN, schedule, Status.QUEUED)
    schedule.refresh_from_db()
    assert (schedule.enabled, schedule.next_run_at) == (False, None)
    assert LogEntry.objects.get().object_id == str(schedule.pk)


@pytest.mark.parametrize("action", ["enable_selected", "disable_selected", "run_selected"])
def test_more_than_the_bound_is_refused_before_anything_is_done(
    editor: Client, make_schedule: ScheduleFactory, monkeypatch: pytest.MonkeyPatch, action: str
):
    monkeypatch.setattr("reportqueue.admin.schedules.MAX_AT_ONCE", 2)
    schedules = [make_schedule(enabled=action == "disable_selected") for _ in range(3)]
    (said,) = messages_of(act(editor, action, schedules[:1], SCHEDULES, select_across=1))
    assert said.startswith("More than 2 schedules are selected")
    assert set(ReportSchedule.objects.values_list("enabled", flat=True)) == {action == "disable_selected"}
    assert not ReportQueue.objects.exists()


def test_search_and_filters_of_schedules(editor: Client, make_schedule: ScheduleFactory):
    a = make_schedule(report_id=3, modifier_id=2014, timezone="Europe/Paris").pk
    b = make_schedule(report_id=2014, modifier_id=1, cron="@daily").pk
    for query, expected in {
        "q=2014": {a, b},
        "q=report:2014": {b},
        "q=modifier:2014+paris": {a},
        "q=@daily": {b},
        "q=schedule:1": set(),
        "report_id=3": {a},
        "timezone=UTC": {b},
        "enabled=yes": {a, b},
    }.items():
        result = editor.get(f"{SCHEDULES}?{query}").context["cl"].result_list
        assert {schedule.pk for schedule in result} == expected, query


@pytest.mark.parametrize(
    "query", ["q=%00", "q=" + "9" * 30, "q=report:x", "q=%25_", "timezone=%00", "timezone=Nowhere", "enabled=2", "x=1"]
)
def test_any_query_is_answered(editor: Client, make_schedule: ScheduleFactory, query: str):
    make_schedule()
    response = editor.get(f"{SCHEDULES}?{query}", follow=True)
    assert response.status_code == 200
    assert messages_of(response) or not response.context["cl"].result_list


def test_the_zone_can_be_completed_from_a_list(editor: Client):
    page = text_of(editor.get(f"{SCHEDULES}add/"))
    assert 'list="time-zones"' in page
    assert '<option value="Europe/Paris">' in page
    assert "localtime" not in page


def test_no_schedules_yet_says_so(editor: Client):
    assert "There are no schedules yet." in text_of(editor.get(SCHEDULES))


def test_a_deleted_schedule_leaves_its_rows(editor: Client, make_row: RowFactory, make_schedule: ScheduleFactory):
    row = make_row(schedule=make_schedule())
    editor.post(f"{SCHEDULES}{row.schedule_id}/delete/", {"post": "yes"})
    row.refresh_from_db()
    assert row.schedule_id is None
    assert editor.get(f"{QUEUE}{row.pk}/change/").status_code == 200
