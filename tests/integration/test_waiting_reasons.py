"""Why a queued row waits: what is said of it on its page, in a terminal and over the API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from reportqueue import queue, triggers
from reportqueue.clock import database_now
from reportqueue.models import Report, ReportAttempt, ReportConsumer, ReportQueue, ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from reportqueue.waiting_reasons import why_waiting
from tests.conftest import ClientFactory, build_row, build_schedule, minutes_ago
from tests.integration.test_report_queue_command import run

pytestmark = pytest.mark.django_db
ScheduleFactory = Callable[..., ReportSchedule]


@pytest.fixture(autouse=True)
def _somebody_claims() -> None:
    triggers.saw(Pattern.QUEUE, "lane")


def report(**fields: Any) -> None:
    Report(report_id=1, name="Weather", **fields).save()


def reason(row: ReportQueue) -> str:
    (said,) = why_waiting(row)
    return said


def test_the_first_row_of_its_route_waits_for_the_next_claim():
    assert reason(build_row()) == "It is due, and the first of its route: the next claim for the route is given it."


def test_rows_that_come_first_are_counted():
    old = minutes_ago(5)
    for fields in ({"priority": 5}, {"available_at": old}, {"priority": -5, "available_at": old}, {"route": "other"}):
        build_row(**fields)
    build_row(priority=7, available_at=minutes_ago(-5))
    row = build_row()
    assert reason(row).startswith("It is due. Of its route, 2 due rows come first by their priority or their age;")


def test_the_count_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reportqueue.waiting_reasons.COUNTED", 2)
    for _ in range(2):
        build_row(priority=5)
        build_row(priority=6)
    assert "Of its route, 2 or more due rows" in reason(build_row())


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.QUEUED])
def test_a_row_that_is_not_queued_does_not_wait(status: Status):
    assert why_waiting(build_row(status=status)) == []


def test_each_pause_of_it_is_named_with_its_maker():
    report()
    row = build_row(route="finance")
    queue.pause(by="ana", note="month end")
    queue.pause(route="finance", by="ben")
    queue.pause(report_id=1, by="cem")
    queue.pause(report_id=2)
    queue.pause(route="other")
    said = why_waiting(row)
    assert [one.split(" since")[0] for one in said] == [
        "The queue is paused",
        "Route finance is paused",
        "Report Weather (1) is paused",
    ]
    assert said[0].endswith(" by ana: month end.")


def test_the_caps_are_given_with_what_is_under_way():
    report(max_running=2, max_running_per_modifier=1)
    row = build_row(modifier_id=7)
    assert "the first of its route" in reason(row)
    build_row(status=Status.RUNNING, modifier_id=7)
    assert reason(row) == "The limit of its modifier is reached: 1 of 1 of this report are under way."
    build_row(status=Status.CLAIMED, modifier_id=8)
    assert why_waiting(row) == [
        "The limit of its report is reached: 2 of 2 are under way.",
        "The limit of its modifier is reached: 1 of 1 of this report are under way.",
    ]
    assert reason(build_row(modifier_id=9)) == "The limit of its report is reached: 2 of 2 are under way."


def test_a_rate_says_when_the_next_start_is_free():
    report(rate_limit=2, rate_period_seconds=600)
    row = build_row()
    for minutes in (30, 8, 4, 2):
        done = build_row(status=Status.SUCCEEDED)
        ReportAttempt.objects.filter(queue=done).update(report_id=1, started_at=minutes_ago(minutes))
    said = reason(row)
    assert said.startswith("The rate of its report is used up, 2 starts in 10 min: the next start is free at ")
    assert said.endswith((" in 6 min.", " in 5 min 59 s."))
    ReportAttempt.objects.filter(started_at__lt=minutes_ago(20)).update(started_at=minutes_ago(-180))
    assert reason(row).endswith((" in 6 min.", " in 5 min 59 s.")), (
        "one of before the clock was set back does not count"
    )
    build_row(status=Status.DISPATCHED)
    assert reason(row).endswith((" in 8 min.", " in 7 min 59 s.")), "it counts as a start"
    build_row(status=Status.CLAIMED)
    assert reason(row).endswith("2 starts in 10 min: 2 are handed out and have not started.")


def test_what_is_said_of_limits_is_what_a_claim_does():
    report(rate_limit=1, rate_period_seconds=600, max_running_per_modifier=1)
    one, other = build_row(modifier_id=1), build_row(modifier_id=2)
    claimed = queue.claim(consumer="lane", limit=10)
    assert [row.pk for row in claimed.rows] == [one.pk]
    assert "have not started" in reason(other)


def test_it_waits_for_its_turn():
    schedule = build_schedule(overlap="skip")
    first = build_row(schedule=schedule, status=Status.RUNNING)
    row = build_row(schedule=schedule, waiting=True, trigger_time=minutes_ago(3))
    assert reason(row) == f"It waits for #{first.pk} to end: its schedule does not allow overlaps."


def test_what_is_not_due_says_when_it_is():
    said = reason(build_row(available_at=minutes_ago(-5)))
    assert said.startswith("It is due at ")
    assert said.endswith((" UTC, in 5 min.", " UTC, in 4 min 59 s."))
    assert reason(build_row(attempt=1, available_at=minutes_ago(-5))).startswith("Its next try is at ")


def test_an_expired_row_is_about_to_be_skipped():
    assert reason(build_row(expires_at=minutes_ago(1))).startswith("It has expired at ")


def test_a_route_for_which_nobody_asks_is_named():
    ReportConsumer.objects.update(routes=["finance", "default"])
    assert reason(build_row(route="finanec")) == (
        "No consumer asks for its route 'finanec'. Consumers have lately asked for default, finance."
    )
    assert "the first of its route" in reason(build_row(route="finance"))


def test_nobody_claims_at_all():
    ReportConsumer.objects.all().delete()
    assert reason(build_row()).startswith("Nobody claims reports. None ever has.")


def test_a_row_that_is_left_to_polling_is_not_held_by_pauses_and_limits():
    report(max_running=1)
    build_row(status=Status.RUNNING)
    queue.pause()
    TriggerPeriod.objects.create(pattern=Pattern.POLLING)
    said = why_waiting(build_row())
    assert said[0] == "It was due while the pattern polling owned the firings: a sensor that polls launches it."
    assert said[1].startswith("Nobody polls for reports.")


def test_its_queries_do_not_become_more_with_the_queue():
    report(max_running=10, rate_limit=10, rate_period_seconds=60)
    row = build_row()

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            why_waiting(row)
        return len(captured)

    few = queries()
    for number in range(30):
        build_row(modifier_id=number, trigger_time=minutes_ago(2))
    assert queries() == few < 15


def test_it_is_shown_everywhere(admin_client: Client, client_with: ClientFactory):
    queue.pause(by="ana")
    row = build_row()
    api = client_with("view_reportqueue")
    (said,) = api.get(f"/api/report-queue/{row.pk}/").json()["waiting_reasons"]
    assert said.startswith("The queue is paused since ")
    assert f"  waits: {said}\n" in run("show", row.pk)[1]
    page = admin_client.get(reverse("admin:reportqueue_reportqueue_change", args=[row.pk])).content.decode()
    assert f'<div class="rq-why">{said}</div>' in page
    ended = build_row(status=Status.SUCCEEDED)
    assert api.get(f"/api/report-queue/{ended.pk}/").json()["waiting_reasons"] == []
    assert "waiting_reasons" not in api.get("/api/report-queue/").json()["queue"][0]


def test_the_status_in_a_terminal_counts_the_due_rows_that_are_held():
    assert "held by pauses and limits" not in run("status")[1]
    build_row(report_id=2)
    build_row(report_id=2, available_at=minutes_ago(-5))
    assert "due: 1\nheld by pauses and limits: 0\n" in run("status")[1]
    report(max_running_per_modifier=1)
    for status in (Status.RUNNING, Status.QUEUED, Status.QUEUED):
        build_row(modifier_id=7, status=status)
    build_row(modifier_id=8)
    assert "held by pauses and limits: 2\n" in run("status")[1]
    build_row(route="finance")
    queue.pause(route="finance")
    assert "held by pauses and limits: 3\n" in run("status")[1]
    queue.pause(report_id=1)
    assert "held by pauses and limits: 4\n" in run("status")[1]
    queue.pause()
    assert "held by pauses and limits: 5\n" in run("status")[1]


def test_time_is_the_databases():
    row = build_row(available_at=database_now() + timedelta(minutes=1))
    assert "It is due at" in reason(row)
