"""`/healthz` and `/readyz`, for load balancers, and `/status`, for monitoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.db import Error, InterfaceError, OperationalError, connection, router
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.urls import reverse

from reportqueue import database, locks, queue, triggers
from reportqueue.management.commands.enqueue_due_reports import Command
from reportqueue.models import ReportSchedule
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from tests.conftest import ClientFactory, RowFactory, minutes_ago

ScheduleFactory = Callable[..., ReportSchedule]


@pytest.fixture
def unreachable(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No connection can be made."""
    connection.close()
    with monkeypatch.context() as patched:
        patched.setitem(connection.settings_dict, "HOST", "/nowhere")
        yield
        connection.close()


def reasons(client: Client) -> list[str]:
    """Why it is not ready."""
    response = client.get("/readyz")
    assert response.status_code == 503
    document: dict[str, Any] = response.json()
    assert document["status"] == "not ready"
    found: list[str] = document["reasons"]
    return found


def test_alive_without_looking_at_the_database(client: Client):
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "live"})


def test_alive_while_the_database_is_down(unreachable: None, client: Client):
    assert client.get("/healthz").status_code == 200


def test_not_ready_while_the_database_is_down(unreachable: None, client: Client):
    assert reasons(client) == ["The database does not answer."]


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_not_ready_when_the_database_goes_away_meanwhile(
    db: None, client: Client, monkeypatch: pytest.MonkeyPatch, error: type[Error]
):
    def fail(*arguments: Any) -> None:
        raise error("server closed the connection unexpectedly")

    monkeypatch.setattr(MigrationRecorder, "applied_migrations", fail)
    assert reasons(client) == ["The database does not answer."]


def test_ready_whatever_others_have_left_undone(
    client: Client, make_schedule: ScheduleFactory, make_row: RowFactory, client_with: ClientFactory
):
    """No scheduler, no consumer, no start for an hour: the processes that could mend it stay in the load balancer."""
    schedule = make_schedule(cron="0 * * * *", next_run_at=minutes_ago(60), catch_up_window_seconds=86_400)
    make_row(status=Status.DISPATCHED, dispatched_at=minutes_ago(60))
    make_row(status=Status.RUNNING, lease_expires_at=minutes_ago(60))
    assert client.get("/status").json()["status"] == "stalled"
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ready", "paused": []})
    assert client.head("/readyz").status_code == 200

    api = client_with("consume_reportqueue")
    claimed = api.post("/api/report-queue/claim/", {"consumer": "back again"}, format="json").json()["queue"]
    assert schedule.pk in {row["schedule_id"] for row in claimed}, "the claim has queued what was overdue"


def test_the_status_tells_of_overdue_schedules(client: Client, make_schedule: ScheduleFactory, settings: Any):
    triggers.saw(Pattern.QUEUE, "sensor")
    make_schedule()
    make_schedule(next_run_at=minutes_ago(4.9))
    make_schedule(enabled=False)
    assert client.get("/status").json()["reasons"] == []
    make_schedule(next_run_at=minutes_ago(5.1))
    told = client.get("/status")
    assert (told.status_code, told.json()["status"], told.json()["overdue_schedules"]) == (200, "stalled", 1)
    (reason,) = told.json()["reasons"]
    assert reason.startswith("Schedules overdue by more than 300 s: 1. ")
    settings.REPORTQUEUE = {"OVERDUE_SECONDS": 600}
    assert client.get("/status").json()["status"] == "moving"


def test_not_ready_with_unapplied_migrations(db: None, client: Client):
    MigrationRecorder.Migration.objects.filter(app="reportqueue").delete()
    assert reasons(client) == ["Migrations of reportqueue are not applied: run manage.py migrate."]


def test_ready_whatever_the_migrations_of_other_apps(db: None, client: Client):
    MigrationRecorder.Migration.objects.filter(app="sessions").delete()
    assert client.get("/readyz").status_code == 200


@contextmanager
def without(*tables: str) -> Iterator[None]:
    """The database lacks these tables, and the migrations are recorded as applied."""
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_elsewhere")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"ALTER TABLE {table}_elsewhere RENAME TO {table}")


def tables() -> list[str]:
    """The app's tables in the queue's database."""
    models = apps.get_app_config("reportqueue").get_models(include_auto_created=True)
    return [model._meta.db_table for model in models if router.db_for_write(model) == connection.alias]


def test_not_ready_without_any_table_though_the_migrations_are_recorded(transactional_db: None, client: Client):
    with without(*tables()):
        (reason,) = reasons(client)
    assert all(table in reason for table in tables())
    assert "run manage.py migrate reportqueue zero --fake" in reason


def test_not_ready_without_one_table(transactional_db: None, client: Client):
    with without("reportqueue_webhooksource"):
        (reason,) = reasons(client)
    assert reason.startswith(
        f"The database {connection.alias!r} lacks reportqueue_webhooksource, but its migrations are "
    )
    assert "--fake" not in reason, "the other tables are there"


def test_the_status_tells_a_missing_table_from_a_database_that_does_not_answer(transactional_db: None, client: Client):
    with without("reportqueue_reportschedule"):
        answer = client.get("/status")
    assert (answer.status_code, answer.json()) == (503, {"status": "unknown", "reasons": [database.NOT_MIGRATED]})


def test_another_error_of_the_database_is_no_silence(db: None, client: Client, monkeypatch: pytest.MonkeyPatch):
    def refuse() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET ROLE pg_monitor")
            cursor.execute("SELECT 1 FROM reportqueue_reportqueue")

    monkeypatch.setattr(queue, "standstill", refuse)
    answer = client.get("/status")
    said = "The database answers with an error, InsufficientPrivilege: the log has its text."
    assert (answer.status_code, answer.json()["reasons"]) == (503, [said])


@pytest.fixture
def read_only(transactional_db: None) -> Iterator[None]:
    """The database takes no writes, as a standby."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    yield
    connection.close()


def test_not_ready_if_the_database_takes_no_writes(read_only: None, client: Client):
    (reason,) = reasons(client)
    assert reason.startswith("The database is read-only: ")


def test_the_status_tells_of_a_database_that_takes_no_writes(read_only: None, client: Client):
    answer = client.get("/status")
    assert (answer.status_code, answer.json()["status"]) == (200, "stalled")
    assert answer.json()["reasons"] == [locks.READ_ONLY]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/status"])
def test_a_probe_changes_nothing_and_needs_no_token(db: None, client: Client, path: str):
    assert client.get(path)["Content-Type"] == "application/json"
    assert client.post(path).status_code == 405


def test_the_status_counts_what_is_under_way(client: Client, make_row: RowFactory):
    for status in (Status.QUEUED, Status.DISPATCHED, Status.DISPATCHED, Status.RUNNING, Status.SUCCEEDED):
        make_row(status=status)
    make_row(available_at=minutes_ago(-5))
    assert client.get("/status").json() == {
        "status": "moving",
        "reasons": [],
        "warnings": [],
        "overdue_schedules": 0,
        "due": 1,
        "dispatched": 2,
        "running": 1,
        "past_deadline": 0,
        "counted_up_to": 1000,
    }


def test_the_status_is_unknown_while_the_database_is_down(unreachable: None, client: Client):
    response = client.get("/status")
    assert (response.status_code, response.json()["reasons"]) == (503, ["The database does not answer."])


def test_a_standstill_is_told_with_the_report_that_runs_for_longest(client: Client, make_row: RowFactory):
    make_row(status=Status.DISPATCHED, dispatched_at=minutes_ago(7))
    assert "Does Dagster start runs?" in client.get("/status").json()["reasons"][0]
    for minutes in (60, 90):
        row = make_row(status=Status.RUNNING, started_at=minutes_ago(minutes))
        row.attempts.update(started_at=minutes_ago(minutes))
    told = client.get("/status")
    assert (told.status_code, told.json()["status"]) == (200, "stalled")
    (reason,) = told.json()["reasons"]
    assert reason.startswith("No report has started for 7 minutes, since ")
    assert "while 1 wait for their launched runs" in reason
    assert f"The oldest is #{row.pk}, run {row.run_id}" in reason


@pytest.mark.parametrize(
    ("dispatched", "started"), [(4, 60), (60, 4)], ids=["nothing has waited for long", "something has just started"]
)
def test_what_moves_is_no_standstill(client: Client, make_row: RowFactory, dispatched: int, started: int):
    make_row(status=Status.RUNNING).attempts.update(started_at=minutes_ago(started))
    make_row(status=Status.DISPATCHED, dispatched_at=minutes_ago(dispatched))
    assert client.get("/status").json()["status"] == "moving"


def test_the_bound_of_a_standstill_is_a_setting(client: Client, make_row: RowFactory, settings: Any):
    make_row(status=Status.DISPATCHED, dispatched_at=minutes_ago(7))
    settings.REPORTQUEUE = {"STALLED_SECONDS": 600}
    assert client.get("/status").json()["status"] == "moving"


def test_the_scheduler_warns_of_a_standstill_once_in_a_while(make_row: RowFactory, caplog: pytest.LogCaptureFixture):
    make_row(status=Status.DISPATCHED, dispatched_at=minutes_ago(7))
    command = Command(stdout=StringIO())
    for _ in range(3):
        command._pass(quiet=True)
    assert sum("No report has started for 7 minutes" in message for message in caplog.messages) == 1


def test_the_list_of_the_queue_warns_of_a_standstill(admin_client: Client, make_row: RowFactory):
    page = reverse("admin:reportqueue_reportqueue_changelist")
    assert "No report has started" not in admin_client.get(page).content.decode()
    make_row(status=Status.DISPATCHED, dispatched_at=minutes_ago(7))
    assert "No report has started for 7 minutes" in admin_client.get(page).content.decode()
