"""Somebody has locked a row and forgotten it: that is the failure of that row alone, and of nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest import mock
from uuid import uuid4

import psycopg
import pytest
from django.contrib.auth.models import Permission, User
from django.db import InterfaceError, OperationalError, connection
from django.test import Client

from reportqueue import database, locks, queue, schedules, tokens, triggers
from reportqueue.errors import ReportQueueError, RowBusy, RowNotFound
from reportqueue.locks import bounded
from reportqueue.models import BlackoutCalendar, ReportQueue, ReportSchedule
from reportqueue.patterns import Pattern
from reportqueue.queue import claims, transitions
from reportqueue.states import Status
from tests.concurrency import at_once
from tests.conftest import ClientFactory, build_row, build_schedule, minutes_ago
from tests.integration import webapp
from tests.integration.test_admin_permissions import SCHEDULES, act, messages_of, staff
from tests.patient_settings import LOCK_SECONDS

pytestmark = pytest.mark.django_db(transaction=True)
QUICK = {"LOCK_TIMEOUT_SECONDS": 0.2}


@contextmanager
def held(statement: str, *values: Any) -> Iterator[psycopg.Connection[Any]]:
    """A stranger's transaction that has locked something, and does not end."""
    with psycopg.connect(**connection.get_connection_params()) as stranger:
        stranger.execute(statement, values)
        yield stranger
        stranger.rollback()


def row_held(row: ReportQueue) -> Any:
    return held("SELECT 1 FROM reportqueue_reportqueue WHERE id = %s FOR UPDATE", row.pk)


def schedule_held(schedule: ReportSchedule) -> Any:
    return held("SELECT 1 FROM reportqueue_reportschedule WHERE id = %s FOR UPDATE", schedule.pk)


def running(**fields: Any) -> ReportQueue:
    return build_row(status=Status.RUNNING, **fields)


VERBS: dict[str, tuple[Status, Callable[[ReportQueue], object]]] = {
    "start": (Status.DISPATCHED, lambda row: queue.start(row.pk, generation=1, run_id="run")),
    "heartbeat": (Status.RUNNING, lambda row: queue.heartbeat(row.pk, lease_token=row.lease_token)),
    "renew_dispatch": (Status.DISPATCHED, lambda row: queue.renew_dispatch(row.pk, generation=1, run_id="run")),
    "complete": (Status.RUNNING, lambda row: queue.complete(row.pk, lease_token=row.lease_token)),
    "fail": (Status.RUNNING, lambda row: queue.fail(row.pk, lease_token=row.lease_token, error="boom")),
    "fail_launch": (Status.DISPATCHED, lambda row: queue.fail_launch(row.pk, generation=1, run_id="run", error="boom")),
    "release": (Status.RUNNING, lambda row: queue.release(row.pk, lease_token=row.lease_token)),
    "release_claimed": (Status.CLAIMED, lambda row: queue.release_claimed(row.pk, claim_id=row.claim_id)),
    "mark_processed": (Status.QUEUED, lambda row: queue.mark_processed(row.pk)),
    "cancel": (Status.QUEUED, lambda row: queue.cancel(row.pk)),
    "requeue": (Status.FAILED, lambda row: queue.requeue(row.pk)),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_does_not_wait_for_a_row_for_ever(verb: str, settings: Any):
    settings.REPORTQUEUE = QUICK
    status, do = VERBS[verb]
    row = build_row(status=status)
    with row_held(row):
        (answer,) = at_once([lambda: do(row)])
    assert isinstance(answer, RowBusy)
    assert ReportQueue.objects.get(pk=row.pk).status == status
    (answer,) = at_once([lambda: do(row)])
    assert not isinstance(answer, Exception), "and then it goes on"


def busy_schedules() -> dict[str, Callable[[ReportSchedule], object]]:
    return {
        "pause": lambda schedule: schedules.pause(schedule.pk, by="anna"),
        "run_now": lambda schedule: schedules.run_now(schedule.pk),
        "backfill": lambda schedule: schedules.backfill(schedule.pk, minutes_ago(2), minutes_ago(1)),
        "start_firing": lambda schedule: triggers.start_firing(schedule.pk, minutes_ago(1), run_id="run"),
        "save": lambda schedule: schedule.save(),
        "delete": lambda schedule: schedule.delete(),
    }


@pytest.mark.parametrize("verb", busy_schedules())
def test_what_people_do_to_a_schedule_does_not_wait_for_ever(verb: str, settings: Any):
    settings.REPORTQUEUE = QUICK
    schedule = build_schedule()
    with schedule_held(schedule):
        (answer,) = at_once([lambda: busy_schedules()[verb](schedule)])
    assert isinstance(answer, RowBusy)


def test_neither_does_a_key_a_hand_over_or_a_claim_that_another_holds(settings: Any):
    settings.REPORTQUEUE = QUICK
    with locks_of("reportqueue.handovers"), locks_of("reportqueue::sensor"):
        answers = at_once([lambda: triggers.hand_over(Pattern.POLLING), lambda: queue.claim("sensor")])
    assert [type(answer) for answer in answers] == [RowBusy, RowBusy]
    row = build_row(idempotency_key="one")
    ReportQueue.objects.all().delete()
    columns = "report_id, modifier_id, trigger_time, available_at, status, source, params, priority, max_attempts"
    with held(
        f"INSERT INTO reportqueue_reportqueue ({columns}, generation, attempt, launch_failures, claimed_by, run_id, "  # noqa: S608
        "cancel_requested, error, idempotency_key) VALUES (1, 2, now(), now(), 'queued', 'code', '{}', 0, 3, 0, 0, 0, "
        "'', '', false, '', 'one')"
    ):
        (answer,) = at_once([lambda: queue.enqueue(1, 2, idempotency_key="one")])
    assert isinstance(answer, RowBusy)
    assert row.idempotency_key == "one"


@contextmanager
def locks_of(name: str) -> Iterator[None]:
    taken = []
    with mock.patch.object(database, "connection") as pretended:
        cursor = pretended.return_value.cursor.return_value.__enter__.return_value
        cursor.execute = lambda _, values: taken.extend(values)
        locks.lock_until_commit(name)
    with held("SELECT pg_advisory_xact_lock(%s)", *taken):
        yield


def batch_verbs() -> dict[str, tuple[Status, Callable[[list[ReportQueue]], dict[int, Any]]]]:
    return {
        "start": (Status.DISPATCHED, lambda rows: queue.start_many(dict.fromkeys(pks(rows), 1), run_id="run")),
        "heartbeat": (Status.RUNNING, lambda rows: queue.heartbeat_many({row.pk: row.lease_token for row in rows})),
        "renew_dispatch": (
            Status.DISPATCHED,
            lambda rows: queue.renew_dispatch_many(dict.fromkeys(pks(rows), 1), run_id="run"),
        ),
        "complete": (
            Status.RUNNING,
            lambda rows: queue.complete_many({row.pk: row.lease_token for row in rows}, results={}),
        ),
    }


def pks(rows: list[ReportQueue]) -> list[int]:
    return [row.pk for row in rows]


@pytest.mark.parametrize("verb", batch_verbs())
def test_of_rows_in_one_call_only_the_one_that_is_held_is_busy(verb: str, settings: Any):
    settings.REPORTQUEUE = QUICK
    status, do = batch_verbs()[verb]
    rows = [build_row(status=status) for _ in range(5)]
    with (
        row_held(rows[2]),
        mock.patch.object(transitions, "_alone", side_effect=AssertionError("the others go together")),
    ):
        (answers,) = at_once([lambda: do(rows)])
    assert not isinstance(answers, Exception), answers
    refused = {pk for pk, answer in answers.items() if isinstance(answer, ReportQueueError)}
    assert (refused, type(answers[rows[2].pk])) == ({rows[2].pk}, RowBusy)


def test_a_row_that_does_not_exist_is_not_called_busy(settings: Any):
    settings.REPORTQUEUE = QUICK
    row = running()
    with row_held(row):
        (answers,) = at_once([lambda: queue.heartbeat_many({row.pk: row.lease_token, 10**9: uuid4()})])
    assert not isinstance(answers, Exception)
    assert {pk: type(answer) for pk, answer in answers.items()} == {row.pk: RowBusy, 10**9: RowNotFound}


def test_a_report_for_which_another_waits_that_is_held_does_not_keep_others_from_completing(settings: Any):
    settings.REPORTQUEUE = QUICK
    schedule = build_schedule(overlap="queue_one")
    blocked = running(schedule=schedule)
    waiting = build_row(schedule=schedule, waiting=True, trigger_time=minutes_ago(3))
    rows = [running(), blocked, running()]
    with row_held(waiting):
        (answers,) = at_once([lambda: queue.complete_many({row.pk: row.lease_token for row in rows}, results={})])
    assert not isinstance(answers, Exception), answers
    assert isinstance(answers[blocked.pk], RowBusy)
    assert [answers[row.pk].status for row in (rows[0], rows[2])] == [Status.SUCCEEDED, Status.SUCCEEDED]
    queue.complete(blocked.pk, lease_token=blocked.lease_token)
    waiting.refresh_from_db()
    assert not waiting.waiting, "its turn has come"


def test_a_claim_goes_on_while_one_of_its_rows_is_held(settings: Any):
    settings.REPORTQUEUE = QUICK
    first, second, third = build_row(priority=3), build_row(priority=2), build_row()
    one = queue.claim("sensor", limit=2)
    with row_held(second):
        (two,) = at_once([lambda: queue.claim("sensor", ack=one.claim_id)])
        assert isinstance(two, queue.Claim), two
        assert [row.pk for row in two.rows] == [third.pk]
        # Its answer is lost: the open claim comes again, although rows of the one before were not acknowledged.
        (again,) = at_once([lambda: queue.claim("sensor", ack=one.claim_id)])
        assert isinstance(again, queue.Claim)
        assert (again.claim_id, [row.pk for row in again.rows]) == (two.claim_id, [third.pk])
    late = queue.claim("sensor", ack=two.claim_id)
    assert (late.claim_id, [row.run_key for row in late.rows]) == (one.claim_id, [f"{second.pk}:1"])
    assert queue.claim("sensor", ack=late.claim_id).rows == []
    assert set(ReportQueue.objects.values_list("status", flat=True)) == {Status.DISPATCHED}
    assert {row.pk for row in ReportQueue.objects.all()} == {first.pk, second.pk, third.pk}


def test_a_row_that_is_locked_for_a_moment_is_acknowledged_all_the_same(monkeypatch: pytest.MonkeyPatch):
    """As by the claim of another consumer, which has looked at it."""
    row = build_row()
    one = queue.claim("sensor")
    lock = row_held(row)
    lock.__enter__()
    pauses: list[float] = []

    def passing(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            lock.__exit__(None, None, None)

    monkeypatch.setattr(claims.time, "sleep", passing)
    assert queue.claim("sensor", ack=one.claim_id).rows == []
    row.refresh_from_db()
    assert (row.status, len(pauses)) == (Status.DISPATCHED, 2)


def test_a_claim_whose_answer_was_lost_acknowledges_late_rows_and_comes_again(settings: Any):
    settings.REPORTQUEUE = QUICK
    first, second, third = build_row(priority=3), build_row(priority=2), build_row()
    one = queue.claim("sensor", limit=2)
    with row_held(second):
        (two,) = at_once([lambda: queue.claim("sensor", ack=one.claim_id)])
    assert isinstance(two, queue.Claim)
    build_row()
    again = queue.claim("sensor", ack=one.claim_id)
    assert (again.claim_id, [row.pk for row in again.rows]) == (two.claim_id, [third.pk])
    assert {row.status for row in ReportQueue.objects.filter(pk__in=[first.pk, second.pk])} == {Status.DISPATCHED}


def test_a_claim_does_not_wait_for_whoever_edits_the_schedule_of_an_expired_row(settings: Any):
    settings.REPORTQUEUE = QUICK
    schedule = build_schedule()
    row = build_row(status=Status.CLAIMED, claimed_by="gone", schedule=schedule, lease_expires_at=minutes_ago(1))
    with schedule_held(schedule):
        (claim,) = at_once([lambda: queue.claim("sensor")])
    assert isinstance(claim, queue.Claim), claim
    assert [found.pk for found in claim.rows] == [row.pk]


def test_a_pass_puts_off_a_schedule_whose_firing_another_transaction_is_making():
    due = minutes_ago(0).replace(microsecond=0)
    held_one, other = build_schedule(next_run_at=due), build_schedule(report_id=5, next_run_at=due)
    columns = "report_id, modifier_id, trigger_time, available_at, status, source, params, priority, max_attempts"
    with held(
        f"INSERT INTO reportqueue_reportqueue ({columns}, generation, attempt, launch_failures, claimed_by, run_id, "  # noqa: S608
        "cancel_requested, error, schedule_id) VALUES (1, 2, %s, now(), 'queued', 'code', '{}', 0, 3, 0, 0, 0, '', '', "
        "false, '', %s)",
        due,
        held_one.pk,
    ):
        (done,) = at_once([schedules.enqueue_due])
    assert done == schedules.Pass(enqueued=1, put_off=1)
    assert ReportQueue.objects.get().schedule_id == other.pk
    assert ReportSchedule.objects.get(pk=held_one.pk).enabled
    assert schedules.enqueue_due().enqueued == 1


def test_a_caller_s_own_transaction_keeps_its_own_timeout(settings: Any):
    settings.REPORTQUEUE = QUICK
    row = build_row()
    with bounded(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', '7s', true)")
        queue.cancel(row.pk)
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("7s",)
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",), "a pool's next client has its own, too"


def test_only_so_many_transactions_of_a_process_wait_for_the_whole_time(settings: Any):
    settings.REPORTQUEUE = {"LOCK_TIMEOUT_SECONDS": 3}
    row = running()
    waited: list[float] = []

    def beat() -> None:
        began = time.monotonic()
        try:
            queue.heartbeat(row.pk, lease_token=row.lease_token)
        finally:
            waited.append(time.monotonic() - began)

    with row_held(row):
        answers = at_once([beat] * (locks.PATIENT + 6))
    assert {type(answer) for answer in answers} == {RowBusy}
    assert sum(seconds > 2.5 for seconds in waited) == locks.PATIENT


# Over HTTP.


def test_a_busy_row_is_answered_with_503_and_when_to_come_again(client_with: ClientFactory, settings: Any):
    settings.REPORTQUEUE = QUICK
    api, row, other = client_with("consume_reportqueue"), running(), running()
    with row_held(row):
        (alone,) = at_once(
            [lambda: api.post(f"/api/report-queue/{row.pk}/heartbeat/", {"lease_token": row.lease_token}, "json")]
        )
        rows = [{"queue_id": one.pk, "lease_token": str(one.lease_token)} for one in (row, other)]
        (both,) = at_once([lambda: api.post("/api/report-queue/heartbeat/", {"rows": rows}, "json")])
    assert not isinstance(alone, Exception)
    assert not isinstance(both, Exception)
    assert (alone.status_code, alone["Content-Type"], alone["Retry-After"]) == (503, "application/problem+json", "1")
    assert alone.json()["type"] == "busy"
    assert [(one["queue_id"], one["code"]) for one in both.json()["rows"]] == [(row.pk, 503), (other.pk, 200)]
    assert both.json()["rows"][0]["answer"]["type"] == "busy"


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_database_that_takes_no_calls_is_answered_with_503(client_with: ClientFactory, error: type[Exception]):
    api = client_with("consume_reportqueue")
    with mock.patch.object(queue, "claim", side_effect=error("FATAL: sorry, too many clients already")):
        answer = api.post("/api/report-queue/claim/", {"consumer": "sensor"}, "json")
    assert (answer.status_code, answer.json()["type"], answer["Retry-After"]) == (503, "unavailable", "1")
    assert "clients" not in answer.json()["detail"]


def test_no_connection_is_answered_with_503_also_before_anybody_is_known(client_with: ClientFactory):
    api = client_with("consume_reportqueue")
    connection.close()
    with mock.patch.dict(connection.settings_dict, {"HOST": "/nowhere"}):
        answer = api.post("/api/report-queue/claim/", {"consumer": "sensor"}, "json")
        connection.close()
    assert (answer.status_code, answer.json()["type"]) == (503, "unavailable")


@pytest.mark.parametrize(
    ("path", "table"), [("/readyz", "django_migrations"), ("/status", "reportqueue_reportschedule")]
)
def test_a_probe_does_not_wait_for_a_table_that_is_locked(client: Client, path: str, table: str):
    with (
        mock.patch("reportqueue.health.PROBE_SECONDS", 0.2),
        held(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"),
    ):
        assert client.get("/healthz").status_code == 200
        answer = client.get(path)
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["The database does not answer."])


# In the admin.


def test_an_action_in_the_admin_says_which_row_is_held_and_does_the_others(settings: Any):
    settings.REPORTQUEUE = QUICK
    operator = staff("view_reportqueue", "cancel_reportqueue")
    row, other = build_row(), build_row()
    with row_held(row):
        response = act(operator, "cancel_selected", [row, other])
    said = messages_of(response)
    assert said[0] == "1 report cancelled."
    assert f"Another transaction holds its lock and did not release it in time: try again soon. (#{row.pk})" in said[1]


def test_pages_in_the_admin_do_not_wait_for_ever_either(settings: Any):
    settings.REPORTQUEUE = QUICK
    editor = staff("view_reportschedule", "change_reportschedule", "delete_reportschedule", "delete_blackoutcalendar")
    schedule = build_schedule()
    calendar = BlackoutCalendar.objects.create(name="closed")
    with (
        schedule_held(schedule),
        held("SELECT 1 FROM reportqueue_blackoutcalendar WHERE id = %s FOR UPDATE", calendar.pk),
    ):
        for page, data in [
            (f"{SCHEDULES}{schedule.pk}/change/", {"report_id": 1, "modifier_id": 2, "cron": "@daily"}),
            (f"{SCHEDULES}{schedule.pk}/delete/", {"post": "yes"}),
        ]:
            response = editor.post(page, data, follow=False)
            assert (response.status_code, response["Location"]) == (302, page)
    assert ReportSchedule.objects.get(pk=schedule.pk).cron == schedule.cron


# The real web server.


def test_a_forgotten_lock_leaves_the_web_app_and_the_other_rows_alone():
    user = User.objects.create_user("dagster")
    user.user_permissions.set(Permission.objects.filter(codename="consume_reportqueue"))
    token = tokens.issue(user, name="test").key
    row, other = running(), running()

    def beat(one: ReportQueue) -> int:
        body = f'{{"lease_token": "{one.lease_token}"}}'
        return webapp.status_of(f"{web.url}/api/report-queue/{one.pk}/heartbeat/", token, body)

    with webapp.running("tests.patient_settings") as web:
        with row_held(row), ThreadPoolExecutor(32) as pool:
            beats = [pool.submit(beat, row) for _ in range(32)]
            longest = 0.0
            while not all(one.done() for one in beats):
                began = time.monotonic()
                assert webapp.status_of(f"{web.url}/healthz") == 200
                assert beat(other) == 200
                longest = max(longest, time.monotonic() - began)
            assert {one.result() for one in beats} == {503}
        assert longest < LOCK_SECONDS, "others are not kept waiting for as long as a call for the row that is held"
        assert beat(row) == 200
