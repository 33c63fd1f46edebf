"""`/healthz` and `/readyz`: what a load balancer hears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import Error, InterfaceError, OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from reportqueue.models import ReportSchedule
from reportqueue.models.schedule import ReportScheduleQuerySet as Schedules
from tests.conftest import minutes_ago

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

    monkeypatch.setattr(Schedules, "due", fail)
    assert reasons(client) == ["The database does not answer."]


def test_ready_when_every_schedule_is_served(client: Client, make_schedule: ScheduleFactory):
    make_schedule()
    make_schedule(next_run_at=minutes_ago(4.9))
    make_schedule(enabled=False)
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})
    assert client.head("/readyz").status_code == 200


def test_not_ready_when_schedules_are_overdue(client: Client, make_schedule: ScheduleFactory, settings: Any):
    make_schedule(next_run_at=minutes_ago(5.1))
    assert reasons(client) == ["Schedules overdue by more than 300 s: 1. Is a scheduler running?"]
    settings.REPORTQUEUE = {"READY_OVERDUE_SECONDS": 600}
    assert client.get("/readyz").status_code == 200


def test_not_ready_with_unapplied_migrations(db: None, client: Client):
    MigrationRecorder.Migration.objects.filter(app="reportqueue").delete()
    assert reasons(client) == ["Migrations of reportqueue are not applied: run manage.py migrate."]


def test_ready_whatever_the_migrations_of_other_apps(db: None, client: Client):
    MigrationRecorder.Migration.objects.filter(app="sessions").delete()
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_changes_nothing_and_needs_no_token(db: None, client: Client, path: str):
    assert client.get(path)["Content-Type"] == "application/json"
    assert client.post(path).status_code == 405
