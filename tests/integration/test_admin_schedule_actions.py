"""What people do to schedules in the admin: pause, resume, run now; one, many, too many; said, logged, permitted."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.test import Client

from reportqueue import schedules, triggers
from reportqueue.admin import actions
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.patterns import Pattern
from reportqueue.states import Source, Status
from tests.conftest import RowFactory, minutes_ago
from tests.integration.test_admin_permissions import (
    QUEUE,
    SCHEDULES,
    ScheduleFactory,
    act,
    messages_of,
    queries_of,
    staff,
    text_of,
)
from tests.integration.test_admin_schedule_form import FORM

NEEDED = {"pause": "change_reportschedule", "resume": "change_reportschedule", "run": "add_reportqueue"}


@pytest.fixture(autouse=True)
def consumer(db: None) -> None:
    """One that has just asked: the pages have no warning of a silent one."""
    triggers.saw(Pattern.QUEUE, "sensor")


@pytest.fixture
def operator(db: None) -> Client:
    """The browser of somebody who may do all three, and sees the queue."""
    return staff("view_reportschedule", "change_reportschedule", "view_reportqueue", "add_reportqueue")


def press(client: Client, schedule: ReportSchedule, verb: str, **more: Any) -> Any:
    """The page that follows on a button of the schedule's own page."""
    return client.post(f"{SCHEDULES}{schedule.pk}/{verb}/", more, follow=True)


def test_pausing_keeps_who_when_and_why_and_resuming_plans_from_now(operator: Client, make_schedule: ScheduleFactory):
    chosen = [make_schedule(next_run_at=minutes_ago(60)), make_schedule(enabled=False)]
    said = messages_of(act(operator, "pause_selected", chosen, SCHEDULES, reason="the <audit>"))
    assert said == ["1 schedule paused.", "1 was in that state already."]
    paused = ReportSchedule.objects.get(pk=chosen[0].pk)
    assert (paused.enabled, paused.next_run_at, paused.pause_note) == (False, None, "the <audit>")
    assert paused.paused_by.startswith("user-")
    assert paused.paused_at is not None
    assert paused.paused_at > minutes_ago(1)
    ReportSchedule.objects.filter(pk=paused.pk).update(error="broken once")
    assert messages_of(act(operator, "resume_selected", chosen, SCHEDULES)) == ["2 schedules resumed."]
    for schedule in ReportSchedule.objects.all():
        assert schedule.enabled
        assert (schedule.error, schedule.paused_by, schedule.pause_note) == ("", "", "")
        assert schedule.next_run_at is not None
        assert schedule.next_run_at > minutes_ago(0), "a resumed schedule must not fire the past"
    assert list(LogEntry.objects.order_by("id").values_list("change_message", "action_flag")) == [
        ("Paused in the admin: the <audit>", CHANGE),
        *[("Resumed in the admin", CHANGE)] * 2,
    ]
    assert "Paused in the admin: the &lt;audit&gt;" in text_of(operator.get(f"{SCHEDULES}{paused.pk}/history/"))


def test_the_second_who_pauses_does_not_replace_the_note_of_the_first(operator: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    schedules.pause(schedule.pk, by="anna", note="until Friday")
    assert messages_of(press(operator, schedule, "pause", reason="me too")) == ["1 was in that state already."]
    schedule.refresh_from_db()
    assert (schedule.paused_by, schedule.pause_note) == ("anna", "until Friday")
    assert not LogEntry.objects.exists()


def test_a_pause_is_shown_in_the_list_and_on_the_page(operator: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    schedules.pause(schedule.pk, by="anna", note="x" * 140 + "<b>" + "y" * 100)
    listed, page = text_of(operator.get(SCHEDULES)), text_of(operator.get(f"{SCHEDULES}{schedule.pk}/change/"))
    for shown in (listed, page):
        assert '<span class="rq-status rq-paused"><span aria-hidden="true">‖</span> Paused</span>' in shown
        assert "by anna" in shown
        assert "x" * 100 in shown
        assert "<b>" not in shown
    assert "y" * 100 not in listed
    assert "y" * 100 in page
    assert "It would run at these times if it were resumed now:" in page


def test_unchecking_enabled_in_the_form_is_a_pause_by_that_user(operator: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    off = {name: value for name, value in FORM.items() if name != "enabled"}
    assert operator.post(f"{SCHEDULES}{schedule.pk}/change/", off).status_code == 302
    schedule.refresh_from_db()
    assert not schedule.enabled
    assert schedule.paused_by.startswith("user-")
    assert schedule.paused_at is not None
    before = schedule.paused_by
    assert staff("change_reportschedule").post(f"{SCHEDULES}{schedule.pk}/change/", off | {"priority": "9"})
    schedule.refresh_from_db()
    assert (schedule.priority, schedule.paused_by) == (9, before), "a later edit is not a pause"
    assert operator.post(f"{SCHEDULES}{schedule.pk}/change/", FORM).status_code == 302
    schedule.refresh_from_db()
    assert (schedule.enabled, schedule.paused_by, schedule.paused_at) == (True, "", None)


def test_a_schedule_that_cannot_fire_is_not_resumed_and_stops_no_other(
    operator: Client, make_schedule: ScheduleFactory
):
    broken, good = make_schedule(enabled=False), make_schedule(enabled=False)
    ReportSchedule.objects.filter(pk=broken.pk).update(timezone="Mars/Olympus")
    done, refused = messages_of(act(operator, "resume_selected", [broken, good], SCHEDULES))
    assert done == "1 schedule resumed."
    assert refused.startswith("1 schedule refused: 'Mars/Olympus' is not a time zone.")
    assert refused.endswith(f"(#{broken.pk})")
    assert list(ReportSchedule.objects.order_by("id").values_list("enabled", flat=True)) == [False, True]
    assert LogEntry.objects.count() == 1


def test_reports_can_be_queued_by_hand_without_touching_the_schedule(operator: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule(enabled=False, report_id=8, params={"a": 1}, priority=5, max_attempts=2)
    (said,) = messages_of(act(operator, "run_selected", [schedule], SCHEDULES, reason="asked for"))
    row = ReportQueue.objects.get()
    assert said == f'1 report queued. <a href="{QUEUE}{row.pk}/change/">#{row.pk}</a>'
    assert (row.report_id, row.modifier_id, row.params, row.priority, row.max_attempts) == (8, 2, {"a": 1}, 5, 2)
    assert (row.source, row.schedule, row.status) == (Source.ADMIN, schedule, Status.QUEUED)
    schedule.refresh_from_db()
    assert (schedule.enabled, schedule.next_run_at) == (False, None)
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (
        str(schedule.pk),
        "Report queued by hand in the admin: asked for",
    )


def test_a_report_that_has_to_wait_for_an_earlier_one_says_so(
    operator: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    earlier = make_row(schedule=make_schedule(overlap="skip"))
    (said,) = messages_of(press(operator, earlier.schedule, "run"))
    assert said.endswith(f"</a>, waits until #{earlier.pk} has ended")
    blind = staff("view_reportschedule", "add_reportqueue")
    (said,) = messages_of(press(blind, earlier.schedule, "run"))
    assert "<a" not in said


@pytest.mark.parametrize("action", ["resume_selected", "pause_selected", "run_selected"])
def test_more_than_the_bound_is_refused_before_anything_is_done(
    operator: Client, make_schedule: ScheduleFactory, monkeypatch: pytest.MonkeyPatch, action: str
):
    monkeypatch.setattr(actions, "MAX_AT_ONCE", 2)
    chosen = [make_schedule(enabled=action == "pause_selected") for _ in range(3)]
    (said,) = messages_of(act(operator, action, chosen[:1], SCHEDULES, select_across=1))
    assert said.startswith("More than 2 schedules are selected")
    assert set(ReportSchedule.objects.values_list("enabled", flat=True)) == {action == "pause_selected"}
    assert not ReportQueue.objects.exists()


def test_select_all_takes_the_whole_list_but_no_others(operator: Client, make_schedule: ScheduleFactory):
    chosen = [make_schedule(report_id=7) for _ in range(3)]
    make_schedule(report_id=8)
    said = act(operator, "pause_selected", chosen[:1], f"{SCHEDULES}?report_id=7", select_across=1)
    assert messages_of(said) == ["3 schedules paused."]
    assert ReportSchedule.objects.get(enabled=True).report_id == 8


def test_a_schedule_that_no_longer_matches_the_filter_or_is_gone_is_still_reported(
    operator: Client, make_schedule: ScheduleFactory
):
    paused, gone = make_schedule(enabled=False), make_schedule()
    gone_pk = gone.pk
    ReportSchedule.objects.filter(pk=gone_pk).delete()
    gone.pk = gone_pk
    said = messages_of(act(operator, "pause_selected", [paused, gone], f"{SCHEDULES}?enabled=yes"))
    assert said == ["1 was in that state already.", f"1 schedule refused: There is no schedule {gone.pk}. (#{gone.pk})"]


def test_an_action_that_takes_too_long_stops_and_says_so(
    operator: Client, make_schedule: ScheduleFactory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(actions, "BUDGET_SECONDS", -1.0)
    said = messages_of(act(operator, "pause_selected", [make_schedule() for _ in range(3)], SCHEDULES))
    assert said == [
        "Stopped after 0 s: the other 2 were not tried; repeat the action for them.",
        "1 schedule paused.",
    ]


@pytest.mark.parametrize("given", ["x", "-1", "9" * 30, "\x00"])
def test_a_selection_of_no_ids_is_a_bad_request(operator: Client, make_schedule: ScheduleFactory, given: str):
    schedule = make_schedule()
    form = {"action": "pause_selected", "index": 0, "_selected_action": [schedule.pk, given]}
    assert operator.post(SCHEDULES, form).status_code == 400
    schedule.refresh_from_db()
    assert schedule.enabled


@pytest.mark.parametrize("note", ["a\x00b", "x" * 1001])
def test_a_note_that_cannot_be_stored_changes_nothing_in_the_list_and_is_cut_on_the_page(
    operator: Client, make_schedule: ScheduleFactory, note: str
):
    schedule = make_schedule()
    act(operator, "pause_selected", [schedule], SCHEDULES, reason=note)
    schedule.refresh_from_db()
    assert schedule.enabled
    assert messages_of(press(operator, schedule, "pause", reason=note)) == ["1 schedule paused."]
    schedule.refresh_from_db()
    assert schedule.pause_note == note.replace("\x00", "")[:1000]


@pytest.mark.parametrize("verb", NEEDED)
def test_each_button_needs_its_own_permission_and_a_post(make_schedule: ScheduleFactory, verb: str):
    schedule = make_schedule(enabled=verb != "resume")
    before = ReportSchedule.objects.values().get()
    address = f"{SCHEDULES}{schedule.pk}/{verb}/"
    others = set(NEEDED.values()) - {NEEDED[verb]}
    for lacking in (staff("view_reportschedule", *others), staff(*({NEEDED[verb]} - {"change_reportschedule"}))):
        assert lacking.post(address).status_code == 403
    able = staff("view_reportschedule", NEEDED[verb])
    assert able.get(address).status_code == 405
    able.handler.enforce_csrf_checks = True
    assert able.post(address).status_code == 403
    assert ReportSchedule.objects.values().get() == before
    assert not ReportQueue.objects.exists()
    assert not LogEntry.objects.exists()
    able.handler.enforce_csrf_checks = False
    assert able.post(address)["Location"] == f"{SCHEDULES}{schedule.pk}/change/"
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("enabled", "permissions", "offered"),
    [
        (True, {"change_reportschedule", "add_reportqueue"}, ["pause", "run", "backfill"]),
        (False, {"change_reportschedule", "add_reportqueue"}, ["resume", "run", "backfill"]),
        (True, {"change_reportschedule"}, ["pause"]),
        (True, {"add_reportqueue"}, ["run", "backfill"]),
        (True, set(), []),
    ],
)
def test_the_page_offers_what_its_reader_may_do(
    make_schedule: ScheduleFactory, enabled: bool, permissions: set[str], offered: list[str]
):
    schedule = make_schedule(enabled=enabled)
    page = text_of(staff("view_reportschedule", *permissions).get(f"{SCHEDULES}{schedule.pk}/change/"))
    verbs = ("pause", "resume", "run", "backfill")
    assert [verb for verb in verbs if f'="{SCHEDULES}{schedule.pk}/{verb}/"' in page] == offered


@pytest.mark.parametrize("pk", ["999999", "9" * 30])
@pytest.mark.parametrize("verb", NEEDED)
def test_a_button_of_a_schedule_that_is_gone_says_so(operator: Client, verb: str, pk: str):
    response = operator.post(f"{SCHEDULES}{pk}/{verb}/", follow=True)
    assert response.status_code == 200
    assert any(f"There is no schedule {pk}." in said for said in messages_of(response))


def test_a_paused_list_costs_the_same_queries(operator: Client, make_schedule: ScheduleFactory):
    make_schedule()
    few = queries_of(operator, SCHEDULES)
    for _ in range(5):
        schedules.pause(make_schedule().pk, by="anna", note="until Friday")
    assert len(queries_of(operator, SCHEDULES)) == len(few)
