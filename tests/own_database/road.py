"""The queue in a database of its own, with the shipped router. `tests/integration/test_second_database.py` runs it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import DatabaseError, connections, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from reportqueue import database, queue, tokens
from reportqueue.models import ApiToken, BlackoutCalendar, ReportQueue, ReportSchedule
from reportqueue.states import Status
from reportqueue.wakeup import claims
from reportqueue.wakeup.listening import Address
from tests.conftest import build_row, build_schedule
from tests.dagster_reportqueue.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
OF_THE_QUEUE = {
    "reportqueue_auditentry",
    "reportqueue_blackoutcalendar",
    "reportqueue_blackoutdays",
    "reportqueue_blackouthours",
    "reportqueue_bulkaction",
    "reportqueue_bulkactionrow",
    "reportqueue_catalogue",
    "reportqueue_depth",
    "reportqueue_measure",
    "reportqueue_mutedfailure",
    "reportqueue_pause",
    "reportqueue_reportattempt",
    "reportqueue_reportconsumer",
    "reportqueue_reportqueue",
    "reportqueue_reportschedule",
    "reportqueue_triggerperiod",
    "reportqueue_webhooksource",
}


@pytest.fixture
def admin() -> Client:
    """The browser of somebody who may do everything."""
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def tables(alias: str) -> set[str]:
    return set(connections[alias].introspection.table_names())


def test_each_database_has_its_own_tables():
    """Migrations that change rows would fail in a database without these."""
    assert tables("reports") == {*OF_THE_QUEUE, "django_migrations"}
    here = tables("default")
    assert {name for name in here if name.startswith("reportqueue_")} == {"reportqueue_apitoken"}
    assert {"auth_user", "django_content_type", "django_admin_log", "django_session"} <= here
    assert Permission.objects.filter(content_type__app_label="reportqueue", codename="requeue_reportqueue").exists()


def test_the_checks_say_what_a_database_of_its_own_means():
    found = run_checks(include_deployment_checks=False, databases=["default", "reports"])
    (said,) = [one for one in found if (one.id or "").startswith("reportqueue")]
    assert said.id == "reportqueue.W003"
    assert "'reports'" in said.msg
    assert "on_commit" in str(said.hint)


def test_a_report_belongs_to_a_transaction_of_the_queues_database():
    with database.atomic():
        queue.enqueue(1, 2)
        transaction.set_rollback(True, using="reports")
    assert not ReportQueue.objects.exists()

    def buy() -> None:
        with transaction.atomic(using="reports"), transaction.atomic():
            User.objects.create_user("buyer")
            queue.enqueue(1, 2)
            raise KeyError

    with pytest.raises(KeyError):
        buy()
    assert not ReportQueue.objects.exists()
    assert not User.objects.exists()


@pytest.mark.parametrize("many", [False, True])
def test_in_a_transaction_of_another_database_it_warns_with_the_remedies(many: bool):
    def call() -> None:
        with transaction.atomic():
            if many:
                queue.enqueue_many([queue.NewReport(report_id=1, modifier_id=2)])
            else:
                queue.enqueue(report_id=1, modifier_id=2)
            transaction.set_rollback(True)

    with pytest.warns(queue.OutsideTransaction, match="stays") as warned:
        call()
    assert ReportQueue.objects.count() == 1, "it is no part of that transaction"
    (one,) = warned
    assert one.filename == __file__, "it points at the caller"
    assert "on_commit(..., using='default')" in str(one.message)
    assert "transaction.atomic(using='reports')" in str(one.message)


def test_after_that_transactions_commit_it_does_not_warn():
    with _all_warnings_are_errors():
        with transaction.atomic():
            transaction.on_commit(lambda: queue.enqueue(1, 2))
            assert not ReportQueue.objects.exists()
        assert ReportQueue.objects.count() == 1
        queue.enqueue(1, 2)


@contextmanager
def _all_warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.django_db(transaction=False, databases="__all__")
def test_the_transaction_around_a_projects_test_does_not_count():
    """Django's `TestCase` puts each test into one: what a project does is warned of, and nothing else."""
    with _all_warnings_are_errors():
        queue.enqueue(1, 2)
    with pytest.warns(queue.OutsideTransaction), transaction.atomic():
        queue.enqueue(1, 2)
    with _all_warnings_are_errors(), transaction.atomic(), database.atomic():
        queue.enqueue(1, 2)


def test_a_wait_holds_no_connection_to_either_database():
    queue.enqueue(1, 2)
    User.objects.count()
    claims.wait(1e12, claims.listener.heard() - 1)
    assert [one.alias for one in connections.all() if one.connection is not None] == []


def test_whoever_listens_does_so_in_the_queues_database():
    name = connections["reports"].settings_dict["NAME"]
    for address in (Address.of(), Address.for_listening()):
        assert (address.alias, address.parameters["dbname"]) == ("reports", name)
    with claims.listener.waiting():
        until(lambda: claims.listener.hears, 10, what="a notice from the queue's database")


def test_the_probe_names_the_database_that_is_not_migrated():
    for alias, command in (("default", "migrate."), ("reports", "migrate --database reports.")):
        applied = MigrationRecorder(connections[alias]).migration_qs.filter(app="reportqueue")
        (last,) = applied.order_by("-name")[:1]
        applied.filter(pk=last.pk).delete()
        answer = Client().get("/readyz")
        MigrationRecorder(connections[alias]).record_applied("reportqueue", last.name)
        assert (answer.status_code, answer.json()["reasons"]) == (
            503,
            [f"Migrations of reportqueue are not applied: run manage.py {command}"],
        )
    assert Client().get("/readyz").status_code == 200


def test_a_consumers_token_is_beside_the_users_and_its_use_is_noted(capsys: pytest.CaptureFixture[str]):
    call_command("create_consumer", "dagster", "--expires", "1d")
    key = capsys.readouterr().out.strip()
    call = {"HTTP_AUTHORIZATION": f"Token {key}", "content_type": "application/json"}
    build_row(report_id=7)
    answer = Client().post("/api/report-queue/claim/", {"consumer": "sensor"}, **call)
    assert [row["report_id"] for row in answer.json()["queue"]] == [7]
    token = ApiToken.objects.get()
    assert token._state.db == "default"
    assert token.last_used_at is not None
    assert [one.pk for one in tokens.revoke([token.pk])] == [token.pk]
    User.objects.all().delete()
    assert not ApiToken.objects.exists()


def post(admin: Client, path: str, **data: Any) -> str:
    answer = admin.post(f"/admin/reportqueue/{path}", data, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_admins_pages_write_to_both_databases(admin: Client):
    post(admin, "blackoutcalendar/add/", name="closed", **_no_parts())
    calendar = BlackoutCalendar.objects.get()
    row = build_row(status=Status.FAILED, error="why")
    post(admin, f"reportqueue/{row.pk}/requeue/")
    schedule = build_schedule(calendar=calendar)
    post(admin, f"reportschedule/{schedule.pk}/pause/")
    post(admin, "apitoken/add/", user_name="root", name="host")
    token = ApiToken.objects.get()
    post(admin, f"apitoken/{token.pk}/revoke/")
    post(admin, f"reportschedule/{schedule.pk}/delete/", post="yes")
    post(admin, f"blackoutcalendar/{calendar.pk}/delete/", post="yes")
    assert not ReportSchedule.objects.exists()
    logged = LogEntry.objects.order_by("pk").values_list("content_type__model", flat=True)
    assert list(logged) == [
        "blackoutcalendar",
        "reportqueue",
        "reportschedule",
        "apitoken",
        "apitoken",
        "reportschedule",
        "blackoutcalendar",
    ]
    assert admin.get(f"/admin/reportqueue/reportqueue/{row.pk}/history/").status_code == 200


def _no_parts() -> dict[str, int]:
    return {f"{part}-{count}": 0 for part in ("days", "hours") for count in ("TOTAL_FORMS", "INITIAL_FORMS")}


@pytest.fixture
def no_atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The view's own transactions are the only ones; with `ATOMIC_REQUESTS`, Django opens them around the view."""
    for settings in connections.settings.values():
        monkeypatch.setitem(settings, "ATOMIC_REQUESTS", False)


def test_what_cannot_be_logged_is_not_done(no_atomic_requests: None, admin: Client, monkeypatch: pytest.MonkeyPatch):
    row = build_row(status=Status.FAILED, error="why")

    def refuse(*arguments: Any, **more: Any) -> None:
        raise DatabaseError("the log's database refuses")

    monkeypatch.setattr(LogEntry.objects, "log_actions", refuse)
    admin.raise_request_exception = False
    assert admin.post(f"/admin/reportqueue/reportqueue/{row.pk}/requeue/").status_code == 500
    row.refresh_from_db()
    assert row.status == Status.FAILED


def test_what_is_not_done_is_not_logged(no_atomic_requests: None, admin: Client, monkeypatch: pytest.MonkeyPatch):
    """The commit of the queue's database fails: the log's entry goes, too."""
    row = build_row(status=Status.FAILED, error="why")
    commit = type(connections["reports"])._commit

    def fail(self: Any) -> None:
        if self.alias == "reports":
            raise DatabaseError("the commit fails")
        commit(self)

    with monkeypatch.context() as patched:
        patched.setattr(type(connections["reports"]), "_commit", fail)
        admin.raise_request_exception = False
        assert admin.post(f"/admin/reportqueue/reportqueue/{row.pk}/requeue/").status_code == 500
    assert not LogEntry.objects.exists()
    row.refresh_from_db()
    assert row.status == Status.FAILED


def test_the_scheduler_and_the_other_commands_find_their_tables(capsys: pytest.CaptureFixture[str]):
    build_schedule(cron="* * * * *", next_run_at=timezone.now().replace(second=0, microsecond=0))
    for command, *options in (
        ("enqueue_due_reports",),
        ("enqueue_due_reports", "--dry-run"),
        ("prune_report_queue", "--older-than", "1d"),
        ("compare_patterns", "--hours", "1"),
        ("switch_pattern", "--to", "cron", "--dry-run"),
    ):
        call_command(command, *options)
    assert "1 enqueued" in capsys.readouterr().out
