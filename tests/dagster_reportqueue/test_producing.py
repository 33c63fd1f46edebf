"""The verbs of producers and of schedules over a real connection, and what may be repeated when an answer is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission, User

from dagster_reportqueue.client import (
    ApiRefused,
    ApiUnreachable,
    Attempt,
    Conflict,
    NewReport,
    QueueRow,
    ReportQueueClient,
    RowHistory,
    Schedule,
    parsing,
)
from project.environment import BASE_DIR
from reportqueue.models import Report, ReportQueue, ReportSchedule
from reportqueue.states import Status
from tests import openapi
from tests.conftest import build_row, build_schedule, minutes_ago
from tests.dagster_reportqueue.front import Fault, Front, Reply

DUE = datetime(2026, 11, 23, 8, tzinfo=UTC)
SCRIPT = """
import sys

for name in ("dagster", "django", "croniter"):
    sys.modules[name] = None  # an import of it fails

from dagster_reportqueue.client import ReportQueueClient

row = ReportQueueClient(sys.argv[1], sys.argv[2]).enqueue(3, 17, idempotency_key="alone")
try:
    from dagster_reportqueue import build_definitions
except ModuleNotFoundError as error:
    print(row.status, error)
"""


@pytest.fixture(autouse=True)
def _everything(token: str) -> None:
    """The token's user may do what a producer and a person may."""
    User.objects.get().user_permissions.set(Permission.objects.filter(content_type__app_label="reportqueue"))


def test_a_report_is_enqueued_with_all_that_is_given(client: ReportQueueClient):
    row = client.enqueue(
        3, 17, params={"year": 2026}, trigger_time=DUE, priority=5, max_attempts=1, route="slow", idempotency_key="a"
    )
    assert (row.report_id, row.modifier_id, row.status, row.source) == (3, 17, "queued", "api")
    assert (row.params, row.trigger_time, row.priority, row.max_attempts, row.route) == (
        {"year": 2026},
        DUE,
        5,
        1,
        "slow",
    )
    assert "2026, " not in repr(row).replace("datetime.datetime(2026, ", ""), "params may be confidential"
    assert (
        client.enqueue(
            3,
            17,
            params={"year": 2026},
            trigger_time=DUE,
            priority=5,
            max_attempts=1,
            route="slow",
            idempotency_key="a",
        )
        == row
    )
    with pytest.raises(Conflict) as reused:
        client.enqueue(3, 18, idempotency_key="a")
    assert reused.value.kind == "idempotency-key-reused"
    assert client.enqueue(3, 17, params={"year": 2026}, unique=True).queue_id == row.queue_id
    assert ReportQueue.objects.count() == 1


def test_what_is_left_out_comes_from_the_catalogue(client: ReportQueueClient):
    Report.objects.create(report_id=3, name="Sales", priority=7, route="slow", default_params={"year": 2025})
    row = client.enqueue(3, 17)
    assert (row.report_name, row.priority, row.route, row.params) == ("Sales", 7, "slow", {"year": 2025})


@pytest.mark.parametrize("fault", [Fault.LOSE, Fault.DROP, Reply(502), Reply(503)])
def test_a_report_is_enqueued_once_though_an_answer_is_lost(
    client: ReportQueueClient, front: Front, fault: Fault | Reply
):
    front.fail(fault, times=1)
    row = client.enqueue(3, 17)
    front.fail(fault, times=1)
    several = client.enqueue_many([NewReport(report_id=3, modifier_id=18), NewReport(report_id=3, modifier_id=19)])
    assert [one.modifier_id for one in (row, *several)] == [17, 18, 19]
    assert ReportQueue.objects.count() == 3
    first, again = (call.body["idempotency_key"] for call in front.calls[:2])
    assert first == again
    assert UUID(first.removeprefix("client-")).version == 4


def test_many_reports_are_enqueued_together_or_not_at_all(client: ReportQueueClient):
    new = [NewReport(report_id=3, modifier_id=number, params={"n": number}) for number in range(20)]
    assert [row.modifier_id for row in client.enqueue_many(new)] == list(range(20))
    assert client.enqueue_many([]) == []
    with pytest.raises(ApiRefused, match=r"\[1\].priority"):
        client.enqueue_many([new[0], NewReport(report_id=3, modifier_id=4, priority=101)])
    with pytest.raises(ValueError, match="At most 1,000 reports in a call; these are 1,001"):
        client.enqueue_many(new[:1] * 1001)
    assert ReportQueue.objects.count() == 20


def test_wrong_values_are_refused_by_name(client: ReportQueueClient):
    with pytest.raises(ApiRefused, match=r"answered 400: modifier_id: .* route: ") as refusal:
        client.enqueue(3, -1, route="Not a route")
    assert (refusal.value.status, refusal.value.kind) == (400, "validation")
    with pytest.raises(ValueError, match="has no time zone"):
        client.enqueue(3, 1, trigger_time=DUE.replace(tzinfo=None))


def test_rows_are_listed_by_every_filter(client: ReportQueueClient, monkeypatch: pytest.MonkeyPatch):
    Report.objects.create(report_id=3, name="Sales")
    schedule = build_schedule()
    mine = build_row(report_id=3, modifier_id=17, schedule=schedule, source="schedule", route="slow", trigger_time=DUE)
    failed = build_row(status=Status.FAILED, error="no", fingerprint="0" * 16)
    claimed = build_row(status=Status.CLAIMED, claimed_by="sensor", trigger_time=minutes_ago(0))
    chosen: list[tuple[dict[str, Any], ReportQueue]] = [
        ({"report": 3}, mine),
        ({"report": "sales"}, mine),
        ({"modifier_id": 17}, mine),
        ({"schedule": schedule.pk}, mine),
        ({"source": ["schedule"]}, mine),
        ({"route": {"slow"}}, mine),
        ({"trigger_time_after": DUE, "trigger_time_before": DUE + timedelta(seconds=1)}, mine),
        ({"status": ["failed"]}, failed),
        ({"failure": "0" * 16}, failed),
        ({"processed": True}, failed),
        ({"claimed_by": ["sensor"], "processed": False}, claimed),
    ]
    for filters, row in chosen:
        assert [one.queue_id for one in client.list_rows(**filters)] == [row.pk], filters
    monkeypatch.setattr(parsing, "PAGE", 1)
    assert sorted(one.queue_id for one in client.list_rows()) == [mine.pk, failed.pk, claimed.pk]
    with pytest.raises(ApiRefused, match=r"status: .*gone"):
        list(client.list_rows(status=["gone"]))


def test_a_row_is_shown_with_its_attempts_and_why_it_waits(client: ReportQueueClient):
    done, waits = build_row(status=Status.SUCCEEDED, result={"pages": 3}), build_row(trigger_time=DUE)
    shown = client.show(done.pk)
    assert (shown.status, shown.result, shown.waiting_reasons) == ("succeeded", {"pages": 3}, ())
    assert [(one.attempt, one.outcome, one.run_id) for one in shown.attempts] == [(1, "succeeded", done.run_id)]
    assert shown.finished_at == done.finished_at
    assert client.show(waits.pk).waiting_reasons
    with pytest.raises(ApiRefused) as refusal:
        client.show(waits.pk + 1)
    assert (refusal.value.status, refusal.value.kind) == (404, "not-found")


def test_people_cancel_and_requeue(client: ReportQueueClient):
    queued, running = build_row(), build_row(status=Status.RUNNING)
    assert client.cancel(queued.pk, reason="not wanted\x00") == "cancelled"
    assert client.cancel(running.pk) == "running"
    assert client.show(running.pk).cancel_requested
    again = client.requeue(queued.pk, reason="wanted")
    assert (again.queue_id, again.status, again.error) == (queued.pk, "queued", "wanted")
    with pytest.raises(Conflict) as conflict:
        client.requeue(running.pk)
    assert (conflict.value.kind, conflict.value.current_status) == ("invalid-state", "running")


def test_a_schedule_is_added_read_changed_and_deleted(client: ReportQueueClient):
    made = client.add_schedule(
        3, 17, cron="0 8 * * MON", timezone="Europe/Paris", params={"year": 2026}, overlap="skip"
    )
    assert (made.cron, made.interval_seconds, made.timezone, made.overlap) == (
        "0 8 * * MON",
        None,
        "Europe/Paris",
        "skip",
    )
    assert made.words
    assert made.next_run_at is not None
    assert made.next_run_at.utcoffset() is not None
    assert client.schedule(made.schedule_id) == made
    changed = client.change_schedule(
        made.schedule_id,
        {"cron": "", "interval_seconds": 3600, "end_at": DUE + timedelta(days=365)},
        version=made.version,
    )
    assert (changed.interval_seconds, changed.end_at) == (3600, DUE + timedelta(days=365))
    assert client.change_schedule(made.schedule_id, {"end_at": None}).end_at is None
    with pytest.raises(ApiRefused) as refusal:
        client.change_schedule(made.schedule_id, {"priority": 1}, version=made.version)
    assert (refusal.value.status, refusal.value.kind) == (412, "precondition-failed")
    client.delete_schedule(made.schedule_id)
    assert not ReportSchedule.objects.exists()


def test_a_schedule_is_paused_resumed_and_run(client: ReportQueueClient):
    schedule = build_schedule()
    paused = client.pause_schedule(schedule.pk, note="Stocktaking", version=schedule.version)
    assert (paused.enabled, paused.paused_by, paused.pause_note, paused.next_run_at) == (
        *(False, "dagster", "Stocktaking", None),
    )
    row = client.run_schedule(schedule.pk)
    assert (row.schedule_id, row.status) == (schedule.pk, "queued")
    assert client.resume_schedule(schedule.pk).enabled


def test_schedules_are_listed(client: ReportQueueClient, monkeypatch: pytest.MonkeyPatch):
    one, other = build_schedule(report_id=3), build_schedule(modifier_id=9, enabled=False)
    monkeypatch.setattr(parsing, "PAGE", 1)
    assert [found.schedule_id for found in client.schedules()] == [one.pk, other.pk]
    for filters, expected in (({"report": 3}, one), ({"modifier_id": 9}, other), ({"enabled": False}, other)):
        assert [found.schedule_id for found in client.schedules(**filters)] == [expected.pk]  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", [Fault.LOSE, Reply(502), Reply(503), Reply(504)])
def test_what_must_not_be_done_twice_is_sent_once(client: ReportQueueClient, front: Front, fault: Fault | Reply):
    schedule = build_schedule()
    calls: list[Any] = [
        lambda: client.run_schedule(schedule.pk),
        lambda: client.add_schedule(3, 17, cron="0 8 * * *"),
        lambda: client.pause_schedule(schedule.pk, version=schedule.version),
    ]
    for call in calls:
        front.calls.clear()
        front.fail(fault)
        with pytest.raises(ApiUnreachable):
            call()
        front.heal()
        assert len(front.calls) == 1
    assert ReportQueue.objects.count() == (1 if fault is Fault.LOSE else 0)


def test_what_may_be_done_twice_is_repeated(client: ReportQueueClient, front: Front):
    schedule = build_schedule()
    front.fail(Fault.LOSE, times=1)
    assert not client.pause_schedule(schedule.pk).enabled
    front.fail(Fault.LOSE, times=1)
    assert client.change_schedule(schedule.pk, {"priority": 5}).priority == 5


@pytest.mark.parametrize(
    ("answer", "call"),
    [
        ({"queue_id": 1}, lambda client: client.enqueue(1, 2)),
        ([], lambda client: client.enqueue_many([NewReport(report_id=1, modifier_id=2)])),
        ({"queue": [{}], "next": None}, lambda client: list(client.list_rows())),
        ({}, lambda client: client.show(1)),
        ({"schedule_id": "1"}, lambda client: client.schedule(1)),
        ([], lambda client: list(client.schedules())),
    ],
)
def test_an_answer_of_another_version_is_no_row(stranger: Front, answer: Any, call: Any):
    lost = ReportQueueClient(stranger.url, "token", retries=0)
    stranger.fail(Reply(200, json.dumps(answer)))
    with pytest.raises(ApiUnreachable, match="do the versions match"):
        call(lost)
    lost.close()


@pytest.mark.parametrize(
    ("shape", "component"),
    [(QueueRow, "Row"), (RowHistory, "RowWithAttempts"), (Attempt, "Attempt"), (Schedule, "Schedule")],
)
def test_a_result_has_the_fields_of_the_description(shape: Any, component: str):
    described = openapi.described()["components"]["schemas"][component]["properties"]
    assert {one.name for one in fields(shape)} == set(described)
    read = {one.name for one in fields(shape) if str(one.type) in parsing._READ}
    assert read == set(described) - {"attempts", "waiting_reasons"}


def test_a_new_report_and_a_schedule_have_the_fields_of_the_description(client: ReportQueueClient):
    schemas = openapi.described()["components"]["schemas"]
    assert {one.name for one in fields(NewReport)} == set(schemas["EnqueueRequest"]["properties"])
    filters = {one["name"] for one in openapi.described()["paths"]["/report-queue/"]["get"]["parameters"]}
    code = ReportQueueClient.list_rows.__code__
    given = {*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]} - {"self"}
    assert given == filters - {"limit", "cursor", "report_id"}, "`report` takes numbers, too"


def test_the_client_works_without_dagster(front: Front, token: str):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, front.url, token], cwd=BASE_DIR, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.startswith("queued dagster_reportqueue needs dagster, croniter. Install the extra `dagster`")
    assert ReportQueue.objects.get().idempotency_key == "alone"
