"""`POST report-queue/claim/`: redelivery, leases, and waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils.dateparse import parse_datetime
from rest_framework.test import APIClient

from reportqueue import queue, schedules
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Status
from reportqueue.wakeup import claims
from tests.conftest import ClientFactory, RowFactory, build_row, minutes_ago
from tests.integration.test_api_endpoints import post

ScheduleFactory = Callable[..., ReportSchedule]


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with(*(f"{verb}_reportqueue" for verb in ("view", "add", "consume", "cancel", "requeue")))


def test_a_claim_comes_back_until_it_is_acknowledged(api: APIClient, make_row: RowFactory):
    rows = [make_row(priority=-n) for n in range(3)]
    first = post(api, "claim/", {"consumer": "sensor", "limit": 2})
    assert [item["queue_id"] for item in first["queue"]] == [row.pk for row in rows[:2]]
    assert [item["run_key"] for item in first["queue"]] == [f"{row.pk}:1" for row in rows[:2]]
    assert {item["claimed_by"] for item in first["queue"]} == {"sensor"}
    again = post(api, "claim/", {"consumer": "sensor", "limit": 1, "ack": None})
    assert (again["claim_id"], [item["run_key"] for item in again["queue"]]) == (
        first["claim_id"],
        [item["run_key"] for item in first["queue"]],
    )
    second = post(api, "claim/", {"consumer": "sensor", "ack": first["claim_id"]})
    assert [item["queue_id"] for item in second["queue"]] == [rows[2].pk]
    assert second["claim_id"] not in (None, first["claim_id"])
    rows[0].refresh_from_db()
    assert rows[0].status == Status.DISPATCHED
    full = {"consumer": "sensor", "ack": second["claim_id"], "max_in_flight": 1, "wait_seconds": 25}
    began = time.monotonic()
    nothing = post(api, "claim/", full)
    assert time.monotonic() - began < 10, "it waits for rows for which it has no room"
    assert nothing == {"claim_id": None, "queue": [], "in_flight": 3, "unstarted": 3}


def test_a_claim_takes_its_leases_and_its_cap_from_the_caller(api: APIClient, make_row: RowFactory):
    for _ in range(3):
        make_row()
    body = {"consumer": "sensor", "lease_seconds": 5000, "dispatch_lease_seconds": 50_000, "max_in_flight": 2}
    first = post(api, "claim/", body)
    assert (len(first["queue"]), first["in_flight"], first["unstarted"]) == (2, 2, 2)
    far = minutes_ago(-4900 / 60)
    assert all(parse_datetime(item["lease_expires_at"]) > far for item in first["queue"])
    assert post(api, "claim/", body | {"ack": first["claim_id"]})["queue"] == []
    row = ReportQueue.objects.filter(status=Status.DISPATCHED)[0]
    assert row.lease_expires_at > row.dispatched_at + timedelta(seconds=49_000)


def waiting_claim(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Any], *, looks: int = 1) -> Any:
    """The answer to a claim that waits, while another connection does something once it has looked so often."""
    client = APIClient()
    began = threading.Event()
    wait = claims.wait
    waits = 0

    def observed(*arguments: Any, **more: Any) -> Any:
        nonlocal waits
        waits += 1
        if waits == looks:
            began.set()
        return wait(*arguments, **more)

    def act() -> None:
        try:
            assert began.wait(30)
            meanwhile()
        finally:
            connection.close()

    until(lambda: not listening(), "the listener of an earlier claim is still there")
    monkeypatch.setattr(claims, "wait", observed)
    client.force_authenticate(User.objects.create_superuser("root"))
    thread = threading.Thread(target=act)
    thread.start()
    sent = time.monotonic()
    try:
        response = client.post("/api/report-queue/claim/", {"consumer": "sensor", "wait_seconds": 25}, format="json")
        assert time.monotonic() - sent < 20, "nobody woke it: it looked again when its time was over"
        assert began.is_set(), "the claim did not wait"
    finally:
        began.set()
        thread.join()
    assert response.status_code == 200
    return response.json()


@pytest.mark.django_db(transaction=True)
def test_a_waiting_claim_gets_what_is_enqueued_meanwhile(monkeypatch: pytest.MonkeyPatch):
    claim = waiting_claim(monkeypatch, lambda: queue.enqueue(7, 8))
    assert claim["claim_id"]
    assert [(item["report_id"], item["modifier_id"]) for item in claim["queue"]] == [(7, 8)]


@pytest.fixture
def unpolled(settings: Any) -> None:
    """A claim looks again only when it is told to."""
    settings.REPORTQUEUE = {"WAIT_POLL_SECONDS": 25}


def listening() -> list[int]:
    """The server's processes behind connections that listen for rows."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s",
            [claims.NAME],
        )
        return [pid for (pid,) in cursor.fetchall()]


def until(condition: Callable[[], Any], what: str) -> None:
    patience = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < patience, what
        time.sleep(0.02)


@pytest.mark.django_db(transaction=True)
def test_a_committed_row_wakes_a_waiting_claim(monkeypatch: pytest.MonkeyPatch, unpolled: None):
    # It looks once more when it has begun to listen: nothing but the notice is left to wake it.
    assert len(waiting_claim(monkeypatch, lambda: queue.enqueue(7, 8), looks=2)["queue"]) == 1


@pytest.mark.django_db(transaction=True)
def test_a_row_committed_before_it_listened_is_not_missed(monkeypatch: pytest.MonkeyPatch, unpolled: None):
    assert len(waiting_claim(monkeypatch, lambda: queue.enqueue(7, 8))["queue"]) == 1


@pytest.mark.django_db(transaction=True)
def test_a_lost_listener_heals_and_misses_nothing(monkeypatch: pytest.MonkeyPatch, unpolled: None):
    def cut_off_and_enqueue() -> None:
        until(listening, "nobody listens")
        (pid,) = listening()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        until(lambda: pid not in listening(), "it was not cut off")
        queue.enqueue(7, 8)

    assert len(waiting_claim(monkeypatch, cut_off_and_enqueue)["queue"]) == 1


@pytest.mark.django_db(transaction=True)
def test_a_row_that_need_not_wait_for_an_earlier_one_any_longer_wakes_a_waiting_claim(
    monkeypatch: pytest.MonkeyPatch, unpolled: None
):
    schedule = ReportSchedule(report_id=1, modifier_id=2, cron="0 0 1 1 *", overlap="queue_one")
    schedule.save()
    first = schedules.run_now(schedule.pk)
    queue.claim("another")
    second = schedules.run_now(schedule.pk)

    claim = waiting_claim(monkeypatch, lambda: queue.cancel(first.pk), looks=2)
    assert [row["queue_id"] for row in claim["queue"]] == [second.pk]


def soon(seconds: float = 1) -> datetime:
    return minutes_ago(-seconds / 60)


@pytest.mark.django_db(transaction=True)
def test_a_row_that_comes_due_wakes_a_waiting_claim(monkeypatch: pytest.MonkeyPatch, unpolled: None):
    rows = [build_row(available_at=soon(seconds), priority=-seconds) for seconds in (1, 24)]
    claim = waiting_claim(monkeypatch, lambda: None)
    assert [item["queue_id"] for item in claim["queue"]] == [rows[0].pk]


@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_committed_meanwhile_and_comes_due_earlier_wakes_a_waiting_claim(
    monkeypatch: pytest.MonkeyPatch, unpolled: None
):
    build_row(available_at=soon(24))
    # By then it knows of the one in 24 seconds.
    claim = waiting_claim(monkeypatch, lambda: queue.enqueue(7, 8, trigger_time=soon()), looks=2)
    assert [item["report_id"] for item in claim["queue"]] == [7]


@pytest.mark.django_db(transaction=True)
def test_a_schedule_that_fires_wakes_a_waiting_claim(monkeypatch: pytest.MonkeyPatch, unpolled: None):
    schedule = ReportSchedule.objects.create(report_id=7, modifier_id=8, cron="0 0 1 1 *")
    ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=soon())
    assert [item["schedule_id"] for item in waiting_claim(monkeypatch, lambda: None)["queue"]] == [schedule.pk]


@pytest.mark.django_db(transaction=True)
def test_a_schedule_that_is_changed_meanwhile_wakes_a_waiting_claim(monkeypatch: pytest.MonkeyPatch, unpolled: None):
    ReportSchedule.objects.create(report_id=7, modifier_id=8, cron="0 0 1 1 *")
    claim = waiting_claim(monkeypatch, lambda: ReportSchedule.objects.update(next_run_at=soon()), looks=2)
    assert [item["report_id"] for item in claim["queue"]] == [7]


@pytest.mark.django_db(transaction=True)
def test_without_a_listener_a_waiting_claim_polls(monkeypatch: pytest.MonkeyPatch, settings: Any):
    settings.REPORTQUEUE = {"WAIT_POLL_SECONDS": 0.1}

    def refused(*_: Any) -> None:
        raise psycopg.OperationalError("no connection is left")

    monkeypatch.setattr(claims.listener, "_listen_once", refused)
    build_row(available_at=soon())
    assert len(waiting_claim(monkeypatch, lambda: None)["queue"]) == 1


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_would_be_told_seldom_looks_for_itself(monkeypatch: pytest.MonkeyPatch, settings: Any):
    settings.REPORTQUEUE = {"WAIT_POLL_SECONDS": 0.05}
    looks = 0
    heard = claims.listener.heard

    def counted() -> int:
        nonlocal looks
        looks += 1
        return heard()

    def wait_and_enqueue() -> None:
        until(lambda: claims.listener.hears, "it does not hear its own call")
        monkeypatch.setattr(claims.listener, "heard", counted)
        time.sleep(2)
        assert looks <= 1, "it polls"
        queue.enqueue(7, 8)

    assert waiting_claim(monkeypatch, wait_and_enqueue)["queue"]


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_would_not_be_told_polls(monkeypatch: pytest.MonkeyPatch, settings: Any):
    settings.REPORTQUEUE = {"WAIT_POLL_SECONDS": 0.1}
    monkeypatch.setattr(claims, "HEARING_POLL_SECONDS", 25)
    monkeypatch.setattr(claims, "ECHO_SECONDS", 0.2)
    connect = psycopg.connect

    class Pooled(psycopg.Connection[Any]):
        """As through a pool that gives its connection to others between transactions: what it listens for is lost."""

        def execute(self, query: Any, *arguments: Any, **more: Any) -> Any:
            return super().execute("SELECT 1" if str(query).startswith("LISTEN") else query, *arguments, **more)

    def pooled(*arguments: Any, **parameters: Any) -> Any:
        listens = parameters.get("application_name") == claims.NAME
        return (Pooled.connect if listens else connect)(*arguments, **parameters)

    monkeypatch.setattr(claims.psycopg, "connect", pooled)

    def wait_and_enqueue() -> None:
        time.sleep(1)  # it has called by now
        queue.enqueue(7, 8)

    assert waiting_claim(monkeypatch, wait_and_enqueue, looks=2)["queue"]
    assert not claims.listener.hears


@pytest.mark.django_db(transaction=True)
def test_a_lease_that_ends_wakes_a_waiting_claim(monkeypatch: pytest.MonkeyPatch, unpolled: None):
    row = build_row(status=Status.CLAIMED, claimed_by="another", claim_id=uuid4(), lease_expires_at=soon())
    assert [item["queue_id"] for item in waiting_claim(monkeypatch, lambda: None)["queue"]] == [row.pk]


@pytest.mark.django_db(transaction=True)
def test_a_waiting_claim_holds_no_connection_of_its_own(monkeypatch: pytest.MonkeyPatch, unpolled: None):
    def others() -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT application_name FROM pg_stat_activity "
                "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            return [name for (name,) in cursor.fetchall()]

    def look_and_enqueue() -> None:
        until(lambda: others() == [claims.NAME], "something else is connected")
        queue.enqueue(7, 8)

    assert waiting_claim(monkeypatch, look_and_enqueue, looks=2)["queue"]


@pytest.mark.django_db(transaction=True)
def test_a_waiter_too_many_is_answered_at_once(monkeypatch: pytest.MonkeyPatch, settings: Any):
    settings.REPORTQUEUE = {"WAIT_POLL_SECONDS": 25, "MAX_WAITERS": 1}

    def ask_and_enqueue() -> None:
        client = APIClient()
        client.force_authenticate(User.objects.get())
        sent = time.monotonic()
        body = {"consumer": "another", "wait_seconds": 25}
        assert client.post("/api/report-queue/claim/", body, format="json").json() == {"claim_id": None, "queue": []}
        assert time.monotonic() - sent < 10, "it waited"
        queue.enqueue(7, 8)

    assert waiting_claim(monkeypatch, ask_and_enqueue)["queue"], "the first does not wait any more"


@pytest.mark.django_db(transaction=True)
def test_nobody_listens_when_nobody_waits(monkeypatch: pytest.MonkeyPatch):
    waiting_claim(monkeypatch, lambda: queue.enqueue(7, 8))
    until(lambda: not listening(), "it still listens")


@pytest.mark.django_db(transaction=True)
def test_a_claim_waits_outside_the_requests_transaction(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert waiting_claim(monkeypatch, lambda: queue.enqueue(7, 8))["queue"]


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_waited_in_vain_is_an_empty_claim(api: APIClient):
    assert post(api, "claim/", {"consumer": "sensor", "wait_seconds": 0.01}) == {"claim_id": None, "queue": []}


# What the schedules have due.


def test_a_claim_gets_what_the_schedules_have_due(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule(report_id=7, next_run_at=minutes_ago(0))
    (item,) = post(api, "claim/", {"consumer": "sensor"})["queue"]
    assert (item["schedule_id"], item["report_id"], item["source"]) == (schedule.pk, 7, "schedule")
    schedule.refresh_from_db()
    assert schedule.next_run_at > minutes_ago(0)


def test_a_claim_leaves_the_schedules_alone_if_told_so(api: APIClient, make_schedule: ScheduleFactory, settings: Any):
    settings.REPORTQUEUE = {"EXPAND_ON_CLAIM": False}
    schedule = make_schedule(next_run_at=minutes_ago(0))
    assert post(api, "claim/", {"consumer": "sensor"}) == {"claim_id": None, "queue": []}
    assert not ReportQueue.objects.exists()
    assert ReportSchedule.objects.get().next_run_at == schedule.next_run_at


@pytest.mark.parametrize(
    "change",
    [
        {"cron": "broken"},
        {"timezone": "Nowhere"},
        {"start_at": datetime(9950, 1, 1, tzinfo=UTC)},
        {"end_at": datetime(50, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_claim_is_not_stopped_by_a_schedule_that_was_written_around_its_checks(
    api: APIClient, make_schedule: ScheduleFactory, make_row: RowFactory, change: dict[str, Any]
):
    schedule, row = make_schedule(), make_row()
    ReportSchedule.objects.filter(pk=schedule.pk).update(**change)
    assert [item["queue_id"] for item in post(api, "claim/", {"consumer": "sensor"})["queue"]] == [row.pk]
    schedule.refresh_from_db()
    assert (schedule.plan_needed, schedule.next_run_at) == (False, None)


@pytest.mark.django_db(transaction=True)
def test_a_waiting_claim_gets_what_comes_due_meanwhile(monkeypatch: pytest.MonkeyPatch):
    schedule = ReportSchedule.objects.create(report_id=7, modifier_id=8, cron="0 0 1 1 *")

    def come_due() -> None:
        ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=minutes_ago(0))

    assert [item["report_id"] for item in waiting_claim(monkeypatch, come_due)["queue"]] == [7]
